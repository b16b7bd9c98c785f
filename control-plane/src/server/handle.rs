//! What others hold of a running control plane.

use std::sync::Arc;

use tokio::sync::watch;

use crate::shared::{SessionInfo, Shared};
use crate::store::{EnqueueError, Run, RunId, Store, StoreError};

/// A cheap handle to a control plane, running or not.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
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
