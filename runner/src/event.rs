//! What an agent tells whoever embeds it: events, and counters to look at in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hybrid_runner_connector::{KindProgress, Notice, Progress, ProgressSnapshot, Summary};

use crate::metrics::UploadCounts;

/// Something that happened in an agent.
#[derive(Debug, Clone)]
pub enum AgentEvent {
    /// A session with the control plane began.
    Connected {
        /// Name and version of the control plane.
        control_plane: String,
    },
    /// There is no session; the agent tries again.
    Disconnected {
        /// Why, and what to do about it.
        problem: String,
    },
    /// A definition arrived and can be run.
    DefinitionAccepted {
        /// The pipeline's name.
        pipeline: String,
        /// The definition's version.
        version: u64,
    },
    /// A definition arrived and cannot be run.
    DefinitionRejected {
        /// The pipeline's name.
        pipeline: String,
        /// The definition's version.
        version: u64,
        /// The name in the wire's catalogue, such as `LITERAL_SECRET`.
        reason: &'static str,
        /// The field, what is accepted, what to do.
        detail: String,
    },
    /// A run began.
    Granted {
        /// The run.
        run_id: String,
        /// The pipeline's name.
        pipeline: String,
        /// 1 for the first attempt of this run.
        attempt: u32,
        /// How far it is, at any time.
        progress: RunProgress,
    },
    /// The source has something to say.
    Notice {
        /// The run.
        run_id: String,
        /// The pipeline's name.
        pipeline: String,
        /// What.
        notice: Notice,
    },
    /// A run ended for this agent.
    RunEnded {
        /// The run.
        run_id: String,
        /// The pipeline's name.
        pipeline: String,
        /// How.
        end: RunEnd,
    },
}

impl AgentEvent {
    /// With each sentence replaced by what is made of it.
    pub(crate) fn with_sentences(mut self, mut replaced: impl FnMut(String) -> String) -> Self {
        let sentence = match &mut self {
            Self::Disconnected { problem } => problem,
            Self::DefinitionRejected { detail, .. } => detail,
            Self::Notice { notice, .. } => &mut notice.text,
            Self::RunEnded { end: RunEnd::Failed { detail, .. } | RunEnd::HandedBack { detail, .. }, .. } => detail,
            Self::Connected { .. }
            | Self::DefinitionAccepted { .. }
            | Self::Granted { .. }
            | Self::RunEnded { end: RunEnd::Committed(_) | RunEnd::LeaseLost { .. }, .. } => return self,
        };
        *sentence = replaced(std::mem::take(sentence));
        self
    }
}

/// How a run ended for this agent.
#[derive(Debug, Clone)]
pub enum RunEnd {
    /// Its entities are current at the control plane.
    Committed(Box<RunFigures>),
    /// It failed; nothing of it is visible.
    Failed {
        /// The name in the wire's catalogue, such as `AUTH_FAILED`.
        reason: &'static str,
        /// A sentence for the operator.
        detail: String,
    },
    /// Another agent may go on with it.
    HandedBack {
        /// The name in the wire's catalogue, such as `DRAINING`.
        reason: &'static str,
        /// A sentence for the operator.
        detail: String,
    },
    /// The lease ran out or was taken back; nothing more was written.
    LeaseLost {
        /// The name in the wire's catalogue: `FENCED`, `LEASE_EXPIRED`, `LEASE_REVOKED` or `CANCELLED`.
        reason: &'static str,
    },
}

/// A committed run in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFigures {
    /// Whether every object in scope was read.
    pub complete: bool,
    /// As the source counted.
    pub summary: Summary,
    /// Records sent with their bodies.
    pub sent: u64,
    /// Entities that are current for the pipeline now.
    pub entities: u64,
    /// Columns of its tables.
    pub columns: u64,
    /// Records equal to what was committed before.
    pub unchanged: u64,
    /// Entities deleted.
    pub deleted: u64,
    /// What became of the deletions: `none`, `applied` or `needs_confirmation`.
    pub deletions: &'static str,
    /// Foreign keys whose target is not among the current entities.
    pub dangling_foreign_keys: u64,
}

/// The one line that a program prints of a run when asked for JSON, its keys in this order.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ResultLine<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The run's id.
    pub run_id: String,
    /// `committed`, `failed` or `cancelled`; without a control plane `committed` means written.
    pub state: &'static str,
    /// Whether every object in scope was read.
    pub complete: bool,
    /// Objects in scope.
    pub objects: u64,
    /// Entities in the committed set.
    pub entities: u64,
    /// Columns in the committed set.
    pub columns: u64,
    /// Entities sent by this run.
    pub sent: u64,
    /// Entities of this run equal to what was committed before.
    pub unchanged: u64,
    /// Objects that the filters left out.
    pub filtered: u64,
    /// Objects that could not be read.
    pub failed: u64,
    /// Entities deleted by this run.
    pub deleted: u64,
    /// `none`, `applied` or `needs_confirmation`.
    pub deletions: &'static str,
    /// Requests made to Salesforce, logins and retries included.
    pub salesforce_requests: u64,
    /// Bytes received from Salesforce, as on the wire.
    pub bytes_received: u64,
    /// How long it took, in seconds.
    pub wall_seconds: f64,
    /// Absolute path of the file with the entities; none for stdout.
    pub export: Option<String>,
}

/// How far a run is: a cheap handle on counters that the run moves.
#[derive(Debug, Clone, Default)]
pub struct RunProgress {
    source: Arc<Progress>,
    acked: Arc<AtomicU64>,
    held: Arc<AtomicU64>,
    counts: Arc<UploadCounts>,
}

/// One look at a [`RunProgress`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunSnapshot {
    /// As the source counts.
    pub source: ProgressSnapshot,
    /// Records durably at the control plane.
    pub records_acked: u64,
    /// Bytes of records that wait to be durable there. While this is at its bound, reading waits.
    pub window_bytes: u64,
}

impl RunProgress {
    /// Where the source counts.
    pub(crate) fn source(&self) -> Arc<Progress> {
        Arc::clone(&self.source)
    }

    pub(crate) fn set_acked(&self, records: u64) {
        self.acked.store(records, Relaxed);
    }

    pub(crate) fn set_held(&self, bytes: usize) {
        self.held.store(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
    }

    /// What the upload counts for metrics.
    pub(crate) fn counts(&self) -> &UploadCounts {
        &self.counts
    }

    /// How many records of each kind are durable of how many, once the source knows.
    #[must_use]
    pub fn kinds(&self) -> Vec<KindProgress> {
        self.source.kinds(self.acked.load(Relaxed))
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> RunSnapshot {
        RunSnapshot {
            source: self.source.snapshot(),
            records_acked: self.acked.load(Relaxed),
            window_bytes: self.held.load(Relaxed),
        }
    }
}
