//! The store in memory, for tests and for the contract suite: it keeps what was committed, and a crash loses the rest.
//!
//! A transaction works on a copy of the state (cheap: all that is large is shared) and replaces the state when it ends
//! well.

mod connection_tests;
mod state;
mod watch;
mod write;

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use self::state::State;
use super::{
    Applied, BaselineEntry, Batch, Definition, Ending, EnqueueError, EntityBody, EntityRow, Eof, Event, Failure, Fault,
    Figures, Granted, Hold, Lease, Listed, NewDefinition, Opened, PendingDeletions, Run, RunId, RunState, Store,
    StoreError, Token, Verdict, WriteError, Writer,
};

/// A [`Store`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    committed: State,
    crashed: bool,
    crash_in_next: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The process dies: this store fails from now on, and a new one has what was committed.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.crashed = true;
        let committed = inner.committed.clone();
        Self { inner: Mutex::new(Inner { committed, ..Inner::default() }) }
    }

    /// A copy of what is committed, as a backup has it.
    #[must_use]
    pub fn backup(&self) -> Self {
        let committed = self.inner.lock().unwrap_or_else(PoisonError::into_inner).committed.clone();
        Self { inner: Mutex::new(Inner { committed, ..Inner::default() }) }
    }

    /// The process will die in the next transaction, after its last write and before its commit.
    pub fn crash_in_next_transaction(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).crash_in_next = true;
    }

    fn transaction<T, E: From<StoreError>>(&self, body: impl FnOnce(&mut State) -> Result<T, E>) -> Result<T, E> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.crashed {
            return Err(StoreError::Closed.into());
        }
        let mut state = inner.committed.clone();
        let done = body(&mut state)?;
        if inner.crash_in_next {
            inner.crashed = true;
            return Err(StoreError::Closed.into());
        }
        inner.committed = state;
        Ok(done)
    }

    fn read<T>(&self, body: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.crashed { Err(StoreError::Closed) } else { Ok(body(&inner.committed)) }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn place(&self) -> String {
        "in memory".to_owned()
    }

    async fn put_definitions(
        &self,
        definitions: Vec<NewDefinition>,
        faults: Vec<Fault>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction(|state| {
            state.put_definitions(definitions, faults, now);
            Ok(())
        })
    }

    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        self.read(State::definitions)
    }

    async fn faults(&self) -> Result<Vec<Fault>, StoreError> {
        self.read(|state| state.faults.clone())
    }

    async fn put_verdict(&self, verdict: Verdict) -> Result<(), StoreError> {
        self.transaction(|state| {
            state.verdicts.insert((verdict.pipeline.clone(), verdict.agent.clone()), verdict);
            Ok(())
        })
    }

    async fn verdicts(&self) -> Result<Vec<Verdict>, StoreError> {
        self.read(|state| state.verdicts.values().cloned().collect())
    }

    async fn enqueue(&self, pipeline: &str, full: bool, now: Timestamp) -> Result<RunId, EnqueueError> {
        self.transaction(|state| state.enqueue(pipeline, full, now))
    }

    async fn enqueue_scheduled(
        &self,
        pipeline: &str,
        seen: Timestamp,
        now: Timestamp,
    ) -> Result<Option<RunId>, StoreError> {
        self.transaction(|state| Ok(state.enqueue_scheduled(pipeline, seen, now)))
    }

    async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.read(State::holds)
    }

    async fn runs(&self, pipeline: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError> {
        self.read(|state| state.runs_newest_first(pipeline).take(state::bound(limit)).cloned().collect())
    }

    async fn open_runs(&self) -> Result<Vec<Run>, StoreError> {
        self.read(|state| {
            state.runs.values().map(|row| &row.run).filter(|run| !run.state.is_final()).cloned().collect()
        })
    }

    async fn run(&self, run_id: RunId) -> Result<Option<Run>, StoreError> {
        self.read(|state| state.runs.get(&run_id).map(|row| row.run.clone()))
    }

    async fn grant(
        &self,
        run_id: RunId,
        definition_version: u64,
        agent: &str,
        listed: Listed,
        now: Timestamp,
    ) -> Result<Option<Granted>, StoreError> {
        self.transaction(|state| Ok(state.grant(run_id, definition_version, agent, listed, now)))
    }

    async fn renew(&self, agent: &str, tokens: &[Token]) -> Result<Vec<RunId>, StoreError> {
        self.transaction(|state| Ok(state.renew(agent, tokens)))
    }

    async fn release(
        &self,
        writer: &Writer,
        ending: Ending,
        reason: &str,
        detail: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.transaction(|state| Ok(state.release(writer, ending, reason, detail, now)))
    }

    async fn cancel(&self, run_id: RunId, now: Timestamp) -> Result<Option<RunState>, StoreError> {
        self.transaction(|state| Ok(state.cancel(run_id, now)))
    }

    async fn expire(
        &self,
        run_id: RunId,
        lease: &Lease,
        ending: Ending,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.transaction(|state| Ok(state.expire(run_id, lease, ending, reason, now)))
    }

    async fn open(&self, writer: &Writer) -> Result<Opened, WriteError> {
        self.transaction(|state| Ok(state.open(writer)?))
    }

    async fn baseline(
        &self,
        pipeline: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<BaselineEntry>, StoreError> {
        self.read(|state| state.baseline(pipeline, after, limit))
    }

    async fn apply(&self, writer: &Writer, batch: &Batch) -> Result<Applied, WriteError> {
        self.transaction(|state| Ok(state.apply(writer, batch)?))
    }

    async fn commit(&self, writer: &Writer, eof: &Eof, now: Timestamp) -> Result<Figures, WriteError> {
        self.transaction(|state| Ok(state.commit(writer, eof, now)?))
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        // What is dropped is gone at once here.
        self.read(|_| false)
    }

    async fn add_event(&self, writer: &Writer, event: Event) -> Result<(), StoreError> {
        self.transaction(|state| {
            state.add_event(writer, event);
            Ok(())
        })
    }

    async fn events(&self, run_id: RunId) -> Result<Vec<Event>, StoreError> {
        self.read(|state| state.runs.get(&run_id).map(|row| row.events.clone()).unwrap_or_default())
    }

    async fn failures(&self, run_id: RunId) -> Result<Vec<Failure>, StoreError> {
        self.read(|state| state.runs.get(&run_id).map(|row| row.failures.clone()).unwrap_or_default())
    }

    async fn entities(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityRow>, StoreError> {
        Ok(self.bodies(pipeline, after, limit).await?.into_iter().map(|entity| entity.row).collect())
    }

    async fn bodies(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityBody>, StoreError> {
        self.read(|state| state.bodies(pipeline, after, limit))
    }

    async fn pending_deletions(&self) -> Result<Vec<PendingDeletions>, StoreError> {
        self.read(|state| state.pending.values().cloned().collect())
    }

    async fn decide_deletions(&self, run_id: RunId, apply: bool) -> Result<Option<u64>, StoreError> {
        self.transaction(|state| Ok(state.decide_deletions(run_id, apply)))
    }
}
