//! What the parts of one control plane share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hybrid_runner_observability::Roots;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::clock::Clock;
use crate::config::{LeaseConfig, RetryConfig};
use crate::identity::Agents;
use crate::metrics::Metrics;
use crate::status::Problem;
use crate::store::{ConnectionTest, Definition, Pace, Run, RunId, Store, StoreError, TestId};

/// A failing store is logged so often.
const LOG_AGAIN: Duration = Duration::from_secs(10);

/// How far a run is, as its agent said in its last heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// `login`, `list`, `extract` or `flush`; empty when the agent did not say.
    pub stage: &'static str,
    /// Objects in scope; 0 until it is known.
    pub objects_total: u64,
    /// Objects read and mapped.
    pub objects_done: u64,
    /// Objects that could not be read.
    pub objects_failed: u64,
    /// Requests made to the source.
    pub source_requests: u64,
    /// Bytes received from the source.
    pub source_bytes: u64,
    /// Records that are durable here.
    pub records_acked: u64,
    /// The same by kind, as far as the agent knows.
    pub kinds: Vec<KindProgress>,
}

/// How far the records of one kind are, as the agent said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindProgress {
    /// As in the records.
    pub kind: String,
    /// Records that are durable here.
    pub acked: u64,
    /// How many there will be.
    pub expected: u64,
}

/// An agent that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The agent's name.
    pub agent: String,
    /// Name and version of its program.
    pub agent_version: String,
    /// Its process.
    pub instance_id: Vec<u8>,
    /// The kinds of sources that it has connectors for.
    pub sources: Vec<String>,
    /// Whether it tests connections.
    pub tests_connections: bool,
}

/// Shared state. Everything durable is in the store; the rest is what was read from it last, for whoever waits.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lease: LeaseConfig,
    retry: RetryConfig,
    pub(crate) agents: watch::Sender<Arc<Agents>>,
    pub(crate) definitions: watch::Sender<Arc<Vec<Definition>>>,
    /// Runs that are not final, oldest first.
    pub(crate) open_runs: watch::Sender<Arc<Vec<Run>>>,
    /// Those of them that may be granted now.
    pub(crate) ready_runs: watch::Sender<Arc<BTreeSet<RunId>>>,
    /// Connection tests that are not answered, oldest first.
    pub(crate) tests: watch::Sender<Arc<Vec<ConnectionTest>>>,
    /// Grows with every change that somebody may wait for.
    pub(crate) changes: watch::Sender<u64>,
    /// The control plane stops: finish the transaction at hand and end.
    pub(crate) drain: CancellationToken,
    pub(crate) metrics: Metrics,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    sessions: BTreeMap<u64, SessionInfo>,
    /// Tests that were sent, by the session that shall answer.
    tests: BTreeMap<TestId, u64>,
    next_session: u64,
    /// When a failure of the store was logged last.
    failure_logged: Option<Duration>,
}

impl Shared {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, lease: LeaseConfig, retry: RetryConfig) -> Self {
        Self {
            store,
            clock,
            lease,
            retry,
            agents: watch::Sender::default(),
            definitions: watch::Sender::default(),
            open_runs: watch::Sender::default(),
            ready_runs: watch::Sender::default(),
            tests: watch::Sender::default(),
            changes: watch::Sender::default(),
            drain: CancellationToken::new(),
            metrics: Metrics::default(),
            live: Mutex::default(),
        }
    }

    /// With whoever makes the first spans of runs, and with metrics that are shown or not.
    pub(crate) fn observed_by(self, is_shown: bool, roots: Roots) -> Self {
        Self { metrics: Metrics::new(is_shown, roots), ..self }
    }

    /// Tells everybody who waits that something changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|generation| *generation += 1);
    }

    /// The pauses of a run that ends now.
    pub(crate) fn pace(&self) -> Pace {
        Pace::random(self.retry.backoff)
    }

    /// What a peer is told whose request the store could not serve. What is wrong is logged, with the place and what to
    /// do, once in [`LOG_AGAIN`]: a full disk refuses every heartbeat.
    pub(crate) fn failed(&self, failure: &StoreError) -> Problem {
        self.metrics.store_failed();
        let now = self.clock.elapsed();
        let log = self.with_live(|live| {
            let log = live.failure_logged.is_none_or(|logged| now.saturating_sub(logged) >= LOG_AGAIN);
            if log {
                live.failure_logged = Some(now);
            }
            log
        });
        if log {
            let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
            error!(error = %failure, cause, store = self.store.place(), "the store failed: {}", failure.remedy());
        }
        failure.into()
    }

    pub(crate) fn sessions(&self) -> Vec<SessionInfo> {
        self.with_live(|live| live.sessions.values().cloned().collect())
    }

    /// Lists a session for as long as the guard lives.
    pub(crate) fn enter(self: &Arc<Self>, session: SessionInfo) -> SessionGuard {
        let number = self.with_live(|live| {
            live.next_session += 1;
            live.sessions.insert(live.next_session, session);
            live.next_session
        });
        self.changed();
        SessionGuard { shared: Arc::clone(self), number }
    }

    /// Whether a session of this process is to answer a test.
    pub(crate) fn is_testing(&self, id: TestId) -> bool {
        self.with_live(|live| live.tests.contains_key(&id))
    }

    fn with_live<T>(&self, body: impl FnOnce(&mut Live) -> T) -> T {
        body(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// See [`Shared::enter`].
#[derive(Debug)]
pub(crate) struct SessionGuard {
    shared: Arc<Shared>,
    number: u64,
}

impl SessionGuard {
    /// The session is to answer a test, until it ends.
    pub(crate) fn begin_test(&self, id: TestId) {
        self.shared.with_live(|live| live.tests.insert(id, self.number));
    }

    /// It has answered, or was not asked after all.
    pub(crate) fn end_test(&self, id: TestId) {
        self.shared.with_live(|live| live.tests.retain(|test, number| *test != id || *number != self.number));
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.shared.with_live(|live| {
            live.sessions.remove(&self.number);
            live.tests.retain(|_, number| *number != self.number);
        });
        info!("agent disconnected");
        self.shared.changed();
    }
}
