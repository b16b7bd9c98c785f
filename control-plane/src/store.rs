//! What the control plane keeps, and the transactions that it keeps it by.
//!
//! Each method is one transaction: it happens as a whole or, when the process dies or the returned future is dropped, not
//! at all. What it returned as done is durable. The rules that decide a transaction are pure and shared by all stores
//! (`store/rules.rs`); a store only reads what they need and writes what they say. One contract suite
//! (`tests/store_contract.rs`) holds every store to the same behaviour.
//!
//! Invariants:
//! - At most one run of a pipeline is begun and not ended, and the fence of each of its grants is greater than that of every
//!   grant of the pipeline before.
//! - Records, source position, next seq and digest of a batch become durable together, under the current grant only.
//! - What is staged becomes current at the commit, all of it, or never. Bodies are not copied: an entity points to its
//!   record, and an unchanged entity keeps its old pointer.

mod connection_tests;
mod content;
mod leases;
mod memory;
mod rules;
mod sqlite;
mod types;
mod watch;

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

pub use connection_tests::{
    AskError, ConnectionTest, ConnectionTests, KEPT, MAX_OPEN_TESTS, TestAnswer, TestId, TestStatus, TestStep,
};
pub use content::{
    Applied, BaselineEntry, Batch, Content, EntityBody, EntityRow, Eof, Event, Failure, Opened, PendingDeletions,
    Record,
};
pub use leases::{BACKOFF, Checkpoint, Ending, Granted, Hold, LONGEST_PAUSE, Listed, MAX_BACKOFF, Pace, is_over};
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
pub use types::{
    Definition, Deletions, Fault, Figures, Lease, LeaseId, NewDefinition, Run, RunId, RunState, ScheduleText, Summary,
    Token, UnreadableSecret, Verdict, Writer,
};
pub use watch::{LineId, LogLine, MAX_LOG_BYTES, MAX_LOG_LINES, RunWatch};

/// Events kept of one run; more are dropped (they are best effort on the wire as well).
pub const MAX_EVENTS: u64 = 1_000;

/// Final runs kept of one pipeline; older ones go when a new one is queued, so that the store does not grow for ever.
pub const MAX_FINAL_RUNS: u32 = 500;

/// The durable state of a control plane.
#[async_trait]
pub trait Store: ConnectionTests + RunWatch + Send + Sync + std::fmt::Debug {
    /// Where it is, for whoever reads the log.
    fn place(&self) -> String;

    /// Makes the stored pipelines those of the folder. A pipeline whose file is among the faults stays as it was; any
    /// other that is absent is removed. A changed workflow gets the next version. Runs of what was removed or disabled
    /// are cancelled, queued ones too, and their leases end.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn put_definitions(
        &self,
        definitions: Vec<NewDefinition>,
        faults: Vec<Fault>,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// The pipelines that were not removed, by name.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn definitions(&self) -> Result<Vec<Definition>, StoreError>;

    /// Files that cannot be used, by name.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn faults(&self) -> Result<Vec<Fault>, StoreError>;

    /// Keeps what an agent thinks of a definition, in place of what it thought before.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn put_verdict(&self, verdict: Verdict) -> Result<(), StoreError>;

    /// What agents think of the pipelines, by pipeline and agent.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn verdicts(&self) -> Result<Vec<Verdict>, StoreError>;

    /// Asks for a run by hand, which ends a hold of the pipeline. While one of the pipeline is queued, that one is returned:
    /// it becomes full if this is, and does not wait any longer.
    ///
    /// # Errors
    /// [`EnqueueError`]
    async fn enqueue(&self, pipeline: &str, full: bool, now: Timestamp) -> Result<RunId, EnqueueError>;

    /// Asks for a run because the schedule says so, and remembers that it did. `None` when the pipeline is gone or
    /// disabled, or another process handled a tick since `seen`. A queued run is joined.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn enqueue_scheduled(
        &self,
        pipeline: &str,
        seen: Timestamp,
        now: Timestamp,
    ) -> Result<Option<RunId>, StoreError>;

    /// Pipelines that are held, or were, by name: [`Hold::is_in_force`].
    ///
    /// # Errors
    /// [`StoreError`]
    async fn holds(&self) -> Result<Vec<Hold>, StoreError>;

    /// The runs of a pipeline, or all, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn runs(&self, pipeline: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError>;

    /// Runs that are not final, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn open_runs(&self) -> Result<Vec<Run>, StoreError>;

    /// One run.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn run(&self, run_id: RunId) -> Result<Option<Run>, StoreError>;

    /// Grants a queued run: the pipeline's next fence, a random lease id, and where to go on if the agent can, the version
    /// is that of the grant before and the run did not become full since; else what was staged is dropped. `None` when the run is
    /// not queued any more or waits, another run of its pipeline was begun, the pipeline is held, or the definition is not
    /// this version any more or may not run. What the agent listed is kept for the pushes of this grant.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn grant(
        &self,
        run_id: RunId,
        definition_version: u64,
        agent: &str,
        listed: Listed,
        now: Timestamp,
    ) -> Result<Option<Granted>, StoreError>;

    /// Renews the leases that are this agent's and returns their runs, in the order given.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn renew(&self, agent: &str, tokens: &[Token]) -> Result<Vec<RunId>, StoreError>;

    /// Ends a lease without a commit, if the token is current; what it was renewed to does not matter. Returns whether it
    /// was. The table of `store/rules/runs.rs` says how the run goes on.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn release(
        &self,
        writer: &Writer,
        ending: Ending,
        reason: &str,
        detail: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Ends a run that is not final, because an operator wants it: nothing of it becomes current, its lease ends, what was
    /// staged is dropped. Returns the state that it was in, a final one if it had ended before; `None` when there is no
    /// such run.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn cancel(&self, run_id: RunId, now: Timestamp) -> Result<Option<RunState>, StoreError>;

    /// As [`Store::release`], by the control plane, if the lease was not renewed since `lease` was read.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn expire(
        &self,
        run_id: RunId,
        lease: &Lease,
        ending: Ending,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Begins a push, or goes on with it.
    /// After the commit it answers the same writer with the committed end.
    ///
    /// # Errors
    /// [`WriteError`]
    async fn open(&self, writer: &Writer) -> Result<Opened, WriteError>;

    /// Committed entities of a pipeline after this FQN, in FQN order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn baseline(&self, pipeline: &str, after: Option<&str>, limit: u32)
    -> Result<Vec<BaselineEntry>, StoreError>;

    /// Applies a batch: records that are known already are compared and skipped, the rest is staged.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was applied.
    async fn apply(&self, writer: &Writer, batch: &Batch) -> Result<Applied, WriteError>;

    /// Makes the staged records current and ends the lease: an entity keeps the memo of the last committed run that had a
    /// record of it, changed or not. The same writer gets the same answer again.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was committed.
    async fn commit(&self, writer: &Writer, eof: &Eof, now: Timestamp) -> Result<Figures, WriteError>;

    /// Deletes a bounded part of what runs staged and dropped, which nobody sees any more. Returns whether there is more.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sweep(&self) -> Result<bool, StoreError>;

    /// Keeps an event of a run, unless the token is not current or there are [`MAX_EVENTS`] already.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn add_event(&self, writer: &Writer, event: Event) -> Result<(), StoreError>;

    /// The events of a run, in order of arrival.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn events(&self, run_id: RunId) -> Result<Vec<Event>, StoreError>;

    /// What a committed run could not read.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn failures(&self, run_id: RunId) -> Result<Vec<Failure>, StoreError>;

    /// Committed entities of a pipeline or of all, by FQN and pipeline, after that pair, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn entities(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityRow>, StoreError>;

    /// As [`Store::entities`], with bodies.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn bodies(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityBody>, StoreError>;

    /// Deletions that wait for an operator.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn pending_deletions(&self) -> Result<Vec<PendingDeletions>, StoreError>;

    /// Applies (or drops) the deletions that wait for this run and returns how many entities it deleted; `None` when
    /// none wait, for example because a newer run committed.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn decide_deletions(&self, run_id: RunId, apply: bool) -> Result<Option<u64>, StoreError>;
}

/// The store cannot do it now.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed. Trying again may help.
    #[error("{action} in the store")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no room for it. Nothing of it was written; it can be done once there is room again.
    #[error("the store is full: {action}")]
    Full {
        /// What was tried.
        action: &'static str,
        /// What the database says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file cannot be read or written. Nothing of it was written.
    #[error("the store's file cannot be read or written: {action}")]
    Unusable {
        /// What was tried.
        action: &'static str,
        /// What the database says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored value is not one that this version writes.
    #[error("{what} in the store is not readable by this version")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
    /// The database was written by another version.
    #[error("the store has schema {found}, this version knows {known}: use the version that wrote it, or a newer one")]
    Schema {
        /// Of the database.
        found: i64,
        /// Of this version.
        known: i64,
    },
    /// The store was closed, or its process died.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What an operator does about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Full { .. } => {
                "make room on its file system or enlarge it; nothing that was acknowledged is lost, and work goes on by itself"
            }
            Self::Unusable { .. } => {
                "check its disk, its mount and the permissions of its folder; work goes on by itself once it can be written"
            }
            Self::Database { .. } => "it is tried again; if this goes on, check its disk and what else has it open",
            Self::Corrupt { .. } | Self::Schema { .. } => {
                "use the version of the control plane that wrote it, or a newer one"
            }
            Self::Closed => "the control plane stops",
        }
    }
}

/// A run cannot be queued.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// No such pipeline.
    #[error("there is no pipeline {pipeline}")]
    UnknownPipeline {
        /// The name asked for.
        pipeline: String,
    },
    /// The pipeline may not run.
    #[error("pipeline {pipeline} is disabled; set `enabled: true` in its file")]
    Disabled {
        /// Its name.
        pipeline: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A write was not applied.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The rules do not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which of the open runs may be granted now. [`Store::grant`] decides the same in its transaction.
#[must_use]
pub fn ready_runs(open: &[Run], holds: &[Hold], now: Timestamp) -> BTreeSet<RunId> {
    let hold = |run: &Run| holds.iter().find(|hold| hold.pipeline == run.pipeline);
    open.iter().filter(|run| rules::may_be_granted(run, open, hold(run), now)).map(|run| run.run_id).collect()
}

/// Why a writer does not hold this run's lease; `None` when it does, or when it held it until its commit.
pub(crate) fn refusal(run: Option<&Run>, writer: &Writer) -> Option<Refusal> {
    let fence = run.and_then(|run| run.lease.as_ref()).map_or(0, |lease| lease.fence);
    rules::standing(run, fence, writer).err()
}

/// Why a write is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Run, fence and lease id are not those of the current grant.
    #[error("the writer does not hold the lease; the pipeline's fence is {current_fence}")]
    Fenced {
        /// 0 when the run is not known.
        current_fence: u64,
    },
    /// The lease ran out.
    #[error("the lease ran out")]
    LeaseExpired {
        /// The pipeline's fence.
        current_fence: u64,
    },
    /// The control plane took the lease back.
    #[error("the lease was taken back")]
    LeaseRevoked {
        /// The pipeline's fence.
        current_fence: u64,
    },
    /// An operator ended the run.
    #[error("the run was cancelled")]
    Cancelled {
        /// The pipeline's fence.
        current_fence: u64,
    },
    /// Another agent was granted this.
    #[error("the lease was granted to another agent")]
    OtherAgent,
    /// The grant has no open push.
    #[error("the push of this grant was not opened")]
    NotOpen,
    /// A record came again with other content.
    #[error("record {seq} came before with other content")]
    RecordChanged {
        /// Its number.
        seq: u64,
    },
    /// The batch does not begin at the next seq, or has a gap.
    #[error("record {found} came where {expected} was expected")]
    OutOfOrder {
        /// What would continue.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// An FQN came twice in a run.
    #[error("record {seq} names an entity that the run has already")]
    DuplicateName {
        /// The later record.
        seq: u64,
    },
    /// Count or digest do not agree with what was applied.
    #[error("the end says {said} records, {applied} were applied, or the digests differ")]
    DigestMismatch {
        /// In the Eof.
        said: u64,
        /// In the store.
        applied: u64,
    },
}
