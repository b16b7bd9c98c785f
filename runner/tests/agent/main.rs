//! The agent against a control plane that was written from the proto alone and does what each test tells it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails"
)]

mod control_plane;
mod drain;
mod hostile;
mod logs;
mod reread;
mod resume;
mod run;
mod session;
mod source;

use std::sync::{Arc, Once};
use std::time::Duration;

use hybrid_runner::{Agent, AgentConfig, AgentError, AgentEvent, Connectors, ControlPlane, Identity, RunEnd};
use hybrid_runner_connector::Source;
use hybrid_runner_secrets::SecretValue;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::subscriber::set_global_default;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry;

use control_plane::{Server, SessionSide, within};
use source::Fake;

/// A running agent.
pub(crate) struct Running {
    pub(crate) events: broadcast::Receiver<AgentEvent>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinSet<Result<(), AgentError>>,
}

pub(crate) fn bearer(token: &str) -> Identity {
    Identity::Token(Arc::new(SecretValue::new(token.to_owned())))
}

pub(crate) fn config(control_plane: ControlPlane) -> AgentConfig {
    AgentConfig {
        control_plane,
        slots: 2,
        drain_timeout: Duration::ZERO,
        secrets: Arc::default(),
        salesforce: hybrid_runner_salesforce::LocalConfig::default(),
        policy: None,
        run_log_bytes: AgentConfig::RUN_LOG_BYTES,
    }
}

pub(crate) fn launch(agent: Agent) -> Running {
    // Once for all tests, before any of them logs: tracing remembers at each place whether somebody listens there.
    static COLLECTING: Once = Once::new();
    COLLECTING.call_once(|| {
        set_global_default(registry().with(hybrid_runner::run_log_layer())).expect("no other subscriber");
    });
    let (events, stop) = (agent.events(), CancellationToken::new());
    let mut task = JoinSet::new();
    task.spawn(agent.run(stop.clone()));
    Running { events, stop, task }
}

/// An agent whose Salesforce is the fake.
pub(crate) fn start(server: &Server, source: Fake) -> Running {
    start_with(config(server.address(bearer("a-token"))), source)
}

pub(crate) fn start_with(config: AgentConfig, source: Fake) -> Running {
    let connectors = Connectors::new(config.salesforce.clone()).with("salesforce", move |_| {
        let source: Arc<dyn Source> = Arc::new(source.clone());
        Ok(source)
    });
    launch(Agent::with_connectors(config, connectors))
}

/// An agent that has accepted pipeline `p` and asked for slots.
pub(crate) async fn ready(source: Fake) -> (Server, Running, SessionSide) {
    ready_with(source, 5_000, 60_000).await
}

pub(crate) async fn ready_with(source: Fake, interval_ms: u64, ttl_ms: u64) -> (Server, Running, SessionSide) {
    ready_at(source, &["zstd", "memos"], interval_ms, ttl_ms).await
}

/// As [`ready`], at a control plane that lists these capabilities.
pub(crate) async fn ready_at(
    source: Fake,
    listed: &[&str],
    interval_ms: u64,
    ttl_ms: u64,
) -> (Server, Running, SessionSide) {
    let mut server = Server::start().await;
    let agent = start(&server, source);
    let mut session = server.session().await;
    session.welcome_with(listed, interval_ms, ttl_ms).await;
    assert_eq!(session.slots().await, 2);
    session.define("p").await;
    (server, agent, session)
}

impl Running {
    /// The first event that the test looks for.
    pub(crate) async fn event<T>(&mut self, mut pick: impl FnMut(AgentEvent) -> Option<T>) -> T {
        loop {
            let event = within(self.events.recv()).await.expect("the agent lives");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    pub(crate) async fn run_end(&mut self) -> RunEnd {
        self.event(|event| match event {
            AgentEvent::RunEnded { end, .. } => Some(end),
            _ => None,
        })
        .await
    }

    /// Why there is no session.
    pub(crate) async fn problem(&mut self) -> String {
        self.event(|event| match event {
            AgentEvent::Disconnected { problem } => Some(problem),
            _ => None,
        })
        .await
    }
}
