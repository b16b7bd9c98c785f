//! How the agent leaves; docs/protocol.md has the transitions.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::Supervisor;
use crate::run::Ended;
use crate::session::{Command, Reason};

/// How long a leaving agent waits for its releases, and the last lines of its runs, to be answered.
const FAREWELL: Duration = Duration::from_secs(2);

/// How an agent leaves: its runs may end, then they are handed back, then it goes.
pub(super) struct Leaving {
    hands_back_at: Instant,
    leaves_at: Instant,
}

impl Supervisor {
    pub(in crate::agent) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether a leaving agent has nothing left to wait for.
    pub(in crate::agent) fn is_done(&self, now: Instant) -> bool {
        let is_settled = self.running.is_empty() && !self.leases.has_unanswered() && self.logs.are_settled();
        self.leaving.as_ref().is_some_and(|leaving| is_settled || now >= leaving.leaves_at)
    }

    /// Takes nothing new; what runs may end within the drain's time and is handed back then.
    pub(in crate::agent) fn drain(&mut self) {
        let (now, timeout_s) = (Instant::now(), self.drain_timeout.as_secs());
        info!(
            runs = self.running.len(),
            timeout_s, "leaving: runs may end until the timeout, then they are handed back"
        );
        let hands_back_at = now + self.drain_timeout;
        self.leaving = Some(Leaving { hands_back_at, leaves_at: hands_back_at + FAREWELL });
        self.say_draining(now);
        self.offer();
        self.hand_back(now);
        self.flush();
    }

    /// When all runs of a leaving agent are over: has the rest of their logs confirmed, again until all of it is.
    pub(super) fn flush(&mut self) {
        if self.is_leaving() && self.running.is_empty() && !self.logs.are_settled() {
            self.outbox.push(Command::Flush);
        }
    }

    pub(super) fn say_draining(&mut self, now: Instant) {
        if let Some(leaving) = &self.leaving {
            self.outbox.push(Command::Drain { within: leaving.leaves_at.saturating_duration_since(now) });
        }
    }

    /// Stops what still runs when a leaving agent's time is over.
    pub(super) fn hand_back(&mut self, now: Instant) {
        if self.leaving.as_ref().is_none_or(|leaving| now < leaving.hands_back_at) {
            return;
        }
        for (run_id, running) in &mut self.running {
            if running.stop.is_cancelled() {
                continue;
            }
            info!(%run_id, pipeline = %running.pipeline, "handing the run back");
            let ended = || Ended::handed_back(Reason::DRAINING, "the agent is stopping");
            running.stopped.get_or_insert_with(ended);
            running.stop.cancel();
        }
    }
}
