//! What others hold of a running control plane.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use crate::store::{EnqueueError, Run, RunId, Store, StoreError};

/// A cheap handle to a control plane, running or not.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// How far a run is, as its agent said in its last heartbeat. Not kept.
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

/// A run cannot be triggered.
pub type TriggerError = EnqueueError;

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Queues a run of a pipeline.
    ///
    /// # Errors
    /// [`TriggerError`]
    pub async fn trigger(&self, pipeline: &str, full: bool) -> Result<RunId, TriggerError> {
        let run_id = self.shared.store.enqueue(pipeline, full, self.shared.clock.now()).await?;
        self.shared.changed();
        Ok(run_id)
    }

    /// A number that grows with every change of a run, a session or a definition. Whoever waits looks, then waits for
    /// the next change, then looks again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Waits until a run is as wanted. Give it a deadline: a run that is dropped from the store never is.
    ///
    /// # Errors
    /// [`StoreError`]
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn run_when(&self, run_id: RunId, wanted: impl Fn(&Run) -> bool + Send) -> Result<Run, StoreError> {
        let mut changes = self.changes();
        loop {
            if let Some(run) = self.shared.store.run(run_id).await?.filter(&wanted) {
                return Ok(run);
            }
            if changes.changed().await.is_err() {
                return Err(StoreError::Closed);
            }
        }
    }

    /// Waits until a run is committed, failed or cancelled.
    ///
    /// # Errors
    /// [`StoreError`]
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn run_ended(&self, run_id: RunId) -> Result<Run, StoreError> {
        self.run_when(run_id, |run| run.state.is_final()).await
    }

    /// How far a run is.
    #[must_use]
    pub fn progress(&self, run_id: RunId) -> Option<Progress> {
        self.shared.progress(run_id)
    }

    /// The agents that are connected, in the order they came.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.sessions()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }
}
