//! What the agent answers to probes.

use hybrid_runner_observability::{Health, Pages};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, STUCK};

/// The pages of an agent. Its control plane being away fails no probe: a restart would not bring it back.
#[derive(Debug)]
pub(crate) struct AgentPages {
    metrics: Metrics,
    /// The agent takes no new runs.
    drain: CancellationToken,
}

impl AgentPages {
    pub(crate) fn new(metrics: Metrics, drain: CancellationToken) -> Self {
        Self { metrics, drain }
    }

    /// With how the session stands.
    fn health(&self, reasons: Vec<String>) -> Health {
        let beat = self.metrics.pulse.look();
        let session = json!({
            "state": beat.state.as_str(),
            "age_seconds": beat.age().as_secs(),
            "reason": (!beat.reason.is_empty()).then_some(beat.reason),
            "problem": (!beat.problem.is_empty()).then_some(beat.problem),
        });
        Health::new(reasons).with("session", session)
    }
}

impl Pages for AgentPages {
    /// There is no page before the configuration was loaded.
    fn startup(&self) -> Health {
        self.health(Vec::new())
    }

    fn live(&self) -> Health {
        let stuck = self.metrics.pulse.look().is_stuck();
        let minutes = STUCK.as_secs() / 60;
        let reason = format!("the session's task has begun no attempt and heard nothing for {minutes} minutes");
        self.health(stuck.then_some(reason).into_iter().collect())
    }

    fn ready(&self) -> Health {
        let draining = self.drain.is_cancelled();
        let reason = "the agent is stopping and takes no new run".to_owned();
        self.health(draining.then_some(reason).into_iter().collect())
    }

    fn metrics(&self) -> String {
        self.metrics.text()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use hybrid_runner_secrets::Stores;

    use super::*;

    fn pages() -> AgentPages {
        AgentPages::new(Metrics::new(Arc::new(Stores::default())), CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_plane_that_is_away_fails_no_probe_and_is_named() {
        let pages = pages();
        for _ in 0..1000 {
            pages.metrics.pulse.connecting();
            pages.metrics.pulse.waits("network", "connect to cp:1".to_owned(), Duration::from_secs(15));
            tokio::time::advance(Duration::from_secs(20)).await;
            assert!(pages.live().ok && pages.ready().ok && pages.startup().ok);
        }
        let text = serde_json::to_string(&pages.ready()).unwrap();
        let session =
            r#""session":{"age_seconds":20,"problem":"connect to cp:1","reason":"network","state":"waiting"}"#;
        assert!(text.contains(session), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_is_not_live_and_an_agent_that_drains_is_not_ready() {
        let pages = pages();
        tokio::time::advance(STUCK).await;
        assert!(!pages.live().ok && pages.ready().ok);
        pages.metrics.pulse.connecting();
        pages.drain.cancel();
        let ready = pages.ready();
        assert!(pages.live().ok && !ready.ok && ready.reasons.len() == 1, "{ready:?}");
    }
}
