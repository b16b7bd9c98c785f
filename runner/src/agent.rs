//! The agent: builds and supervises the session and the runs.
//!
//! ```text
//! Agent::run ── owns ──▶ session (one task, one session after the other)
//!             ├─ owns ──▶ runs (a task each, at most `slots`)
//!             ├─ owns ──▶ preflights of the secrets of definitions (a task each)
//!             └─ owns ──▶ connection tests (a task each, at most two)
//! ```
//!
//! Everything that happens comes to the one loop here as an input; nothing here waits but the loop. What is to be said
//! to the control plane waits in an outbox until the session takes it: session and agent can never wait for each other.

mod connection_tests;
mod outbox;
mod preflights;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::Notice;
use hybrid_runner_secrets::Resolver;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::{Clock, SystemClock};
use crate::config::AgentConfig;
use crate::dial::{Dial, Tcp};
use crate::event::AgentEvent;
use crate::metrics::Metrics;
use crate::plan::Connectors;
use crate::session::{Command, Connector, Event, RunId, RunLogs, Session};
use supervisor::Supervisor;

/// Messages between session and agent: more than the definitions of an ordinary control plane, so that a reconnect
/// does not go back and forth; a full queue only waits.
const MESSAGES: usize = 64;
/// Notices of runs that wait to be told. They are best effort: more are dropped.
const NOTICES: usize = 256;
/// Events that a slow observer may be behind; it loses older ones, the agent never waits for it.
const EVENTS: usize = 1024;
/// How often the leases are looked at. A lease that is over stops its run within this time.
const TICK: Duration = Duration::from_millis(250);

/// An agent, ready to run.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    connectors: Connectors,
    clock: Arc<dyn Clock>,
    dial: Arc<dyn Dial>,
    observers: broadcast::Sender<AgentEvent>,
    metrics: Metrics,
}

/// The agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A permanent task ended: a fault of this program.
    #[error("the session's task ended")]
    SessionTask(#[source] Option<tokio::task::JoinError>),
}

impl Agent {
    /// An agent with every connector of this product.
    #[must_use]
    pub fn new(config: AgentConfig) -> Self {
        let connectors = Connectors::new(config.salesforce.clone());
        Self::with_connectors(config, connectors)
    }

    /// An agent with these connectors.
    #[must_use]
    pub fn with_connectors(config: AgentConfig, connectors: Connectors) -> Self {
        let observers = broadcast::channel(EVENTS).0;
        let metrics = Metrics::new(Arc::clone(&config.secrets));
        Self { config, connectors, clock: Arc::new(SystemClock), dial: Arc::new(Tcp), observers, metrics }
    }

    /// The agent with another clock for its leases than the machine's.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The agent with another way to its control plane than the machine's TCP.
    #[must_use]
    pub fn with_dial(self, dial: Arc<dyn Dial>) -> Self {
        Self { dial, ..self }
    }

    /// What happens from now on. An observer that falls behind loses the oldest events.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<AgentEvent> {
        self.observers.subscribe()
    }

    /// What the agent counts, at any time.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Runs until `stop` is cancelled. Then the agent takes nothing new, tells the control plane, and lets its runs end for
    /// [`AgentConfig::drain_timeout`]; what is left is handed back, so that it goes on elsewhere from where it is, and the
    /// agent leaves as soon as the control plane took note, or after two seconds.
    ///
    /// # Errors
    /// See [`AgentError`]. Trouble with the control plane is none: the agent tries again.
    ///
    /// # Cancel safety
    /// Dropping the future stops the agent at once; its leases end by their own clock.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        let (commands, for_session) = mpsc::channel(MESSAGES);
        let (for_agent, mut events) = mpsc::channel(MESSAGES);
        let (noticed, mut notices) = mpsc::channel(NOTICES);
        let (held, held_seen) = watch::channel(Vec::new());
        let (link, link_seen) = watch::channel(None);
        // The password of a proxy on the way is of no pipeline.
        let secrets = Resolver::new(Arc::clone(&self.config.secrets), self.config.policy(), None);
        let redactor = self.config.secrets.redactor().clone();
        let logs = RunLogs::new(self.config.run_log_bytes, Arc::clone(&self.clock), redactor.clone());
        let session = Session {
            connector: Arc::new(Connector::new(self.config.control_plane.clone(), Arc::clone(&self.dial), secrets)),
            instance_id: uuid::Uuid::new_v4().into_bytes(),
            sources: self.connectors.kinds(),
            clock: Arc::clone(&self.clock),
            redactor,
            pulse: self.metrics.pulse.clone(),
            held: held_seen,
            logs: logs.clone(),
            commands: for_session,
            events: for_agent,
            link,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(session.run());
        let mut supervisor = Supervisor::new(self, held, link_seen, noticed, logs);
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !supervisor.is_done(Instant::now()) {
            let input = tokio::select! {
                () = stop.cancelled(), if !supervisor.is_leaving() => Input::Stop,
                event = events.recv() => Input::Session(event),
                Some(ended) = supervisor.runs.join_next_with_id() => Input::Ended(ended),
                Some(tested) = supervisor.tests.running.join_next_with_id() => Input::Tested(tested),
                Some(checked) = supervisor.preflights.running.join_next_with_id() => Input::Checked(checked),
                Some((run_id, notice)) = notices.recv() => Input::Noticed(run_id, notice),
                permit = commands.reserve(), if !supervisor.outbox.is_empty() => Input::Room(permit.ok()),
                ended = tasks.join_next() => Input::SessionGone(ended.and_then(Result::err)),
                _ = ticker.tick() => Input::Tick,
            };
            match input {
                Input::Stop => supervisor.drain(),
                Input::Session(Some(event)) => supervisor.on_session(event),
                Input::Session(None) => return Err(AgentError::SessionTask(None)),
                Input::SessionGone(error) => return Err(AgentError::SessionTask(error)),
                Input::Ended(ended) => supervisor.on_ended(ended),
                Input::Tested(tested) => supervisor.on_tested(tested),
                Input::Checked(checked) => supervisor.on_preflight(checked),
                Input::Noticed(run_id, notice) => supervisor.on_notice(&run_id, notice),
                Input::Room(permit) => {
                    if let (Some(permit), Some(command)) = (permit, supervisor.outbox.pop()) {
                        permit.send(command);
                    }
                }
                Input::Tick => supervisor.on_tick(),
            }
        }
        info!("agent stopped");
        Ok(())
    }
}

enum Input<'a> {
    Stop,
    Session(Option<Event>),
    SessionGone(Option<tokio::task::JoinError>),
    Ended(supervisor::RunJoined),
    Tested(connection_tests::TestJoined),
    Checked(preflights::PreflightJoined),
    Noticed(RunId, Notice),
    Room(Option<mpsc::Permit<'a, Command>>),
    Tick,
}
