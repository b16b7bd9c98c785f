//! What a run brings, as a [`Store`](super::Store) takes and gives it.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::leases::Listed;
use super::types::{RunId, Summary};
use crate::digest::Hash;

/// Where a push goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The pipeline's name.
    pub pipeline: String,
    /// The first record that is not durable.
    pub next_seq: u64,
    /// The digest of those before it.
    pub digest: Hash,
    /// As in the last durable batch.
    pub source_position: Bytes,
    /// Whether the pipeline has committed entities.
    pub has_baseline: bool,
    /// What the grant's agent listed.
    pub listed: Listed,
}

/// One committed entity, for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaselineEntry {
    /// Entity type.
    pub kind: String,
    /// Fully qualified name.
    pub fqn: String,
    /// BLAKE3 of the committed body.
    pub content_hash: Hash,
    /// What the source left with it; opaque, may be empty.
    pub memo: Bytes,
}

/// One record of a batch; sizes, hash and JSON were checked before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number in the run.
    pub seq: u64,
    /// Entity type.
    pub kind: String,
    /// Fully qualified name.
    pub fqn: String,
    /// BLAKE3 of the body.
    pub content_hash: Hash,
    /// What the source wants back in the next run; opaque, may be empty.
    pub memo: Bytes,
    /// Nothing when it says that the committed entity has this hash.
    pub content: Option<Content>,
}

/// A body and what the control plane reads from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// OpenMetadata's Create request.
    pub body: Bytes,
    /// Columns of a table, else 0.
    pub columns: u64,
    /// FQNs of the tables that its foreign keys point to, one a constraint.
    pub foreign_keys: Vec<String>,
}

/// Records sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// At least one.
    pub records: Vec<Record>,
    /// Opaque.
    pub source_position: Bytes,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// All below this seq is durable.
    Durable {
        /// The first record that is not.
        next_seq: u64,
    },
    /// Nothing was applied: these records cannot be accepted as unchanged.
    BodyNeeded {
        /// Their numbers.
        seqs: Vec<u64>,
    },
}

/// The end of a run, as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eof {
    /// Records of the run.
    pub count: u64,
    /// Over all of them.
    pub digest: Hash,
    /// Whether every object in scope was read.
    pub complete: bool,
    /// What could not be read.
    pub failures: Vec<Failure>,
    /// Committed entities that are gone at the source.
    pub gone: Vec<String>,
    /// The run in figures.
    pub summary: Summary,
}

/// One object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// FQN of the missing entity.
    pub fqn: String,
    /// Name from the catalogue of reasons.
    pub reason: String,
    /// A sentence for the operator.
    pub detail: String,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it arrived.
    pub at: Timestamp,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// A stable name.
    pub code: String,
    /// A sentence.
    pub text: String,
}

/// A committed entity without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntityRow {
    /// The pipeline that it came from.
    pub pipeline: String,
    /// Entity type.
    pub kind: String,
    /// Fully qualified name.
    pub fqn: String,
    /// Columns of a table, else 0.
    pub columns: u64,
    /// The run that brought this content.
    pub run_id: RunId,
}

/// A committed entity with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityBody {
    /// What and whose it is.
    pub row: EntityRow,
    /// OpenMetadata's Create request.
    pub body: Bytes,
}

/// The deletions of a run that wait for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingDeletions {
    /// The run.
    pub run_id: RunId,
    /// Its pipeline.
    pub pipeline: String,
    /// What would be deleted, in FQN order.
    pub fqns: Vec<String>,
}
