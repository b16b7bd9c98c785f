//! What a connector sees of the runner, and the runner of a connector.
//!
//! A connector crate offers a [`Source`]: it is planned from a definition without any I/O, resolves its secrets, logs
//! in and reads when [`Source::extract`] is called, and hands what it found to an [`EntitySink`], parents first. The
//! sink is the connector's only way out: when it waits, extraction waits (that is the backpressure), and when it is
//! closed the source stops. Dropping the future of `extract` stops the source at once; nothing durable depends on it.
//!
//! ```text
//! definition ─▶ plan (connector crate) ─▶ Source::extract(Extraction, &mut dyn EntitySink) ─▶ Report
//!                                            │ reads secrets from Extraction::secrets
//!                                            └ emit(Vec<Entity>, Checkpoint), notice(Notice)
//! ```

mod error;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hybrid_runner_secrets::{Purpose, Resolver, SecretRef};

pub use error::{DefinitionError, Reason, SourceError};
pub use progress::{Expected, KindProgress, Progress, ProgressSnapshot, Stage};

/// One OpenMetadata Create request, ready to travel, or that it is what was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// OpenMetadata's name of the entity type: `databaseService`, `database`, `databaseSchema`, `table`,
    /// `classification` or `tag`.
    pub kind: &'static str,
    /// Fully qualified name, unique in the run.
    pub fqn: String,
    /// The request.
    pub content: Content,
    /// What the source wants back with this entity in the next run's [`Baseline`]: opaque to everyone else, at most
    /// [`Entity::MAX_MEMO`] bytes, empty for nothing.
    pub memo: Bytes,
}

/// What an [`Entity`] carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The request as JSON. At most 3 MiB: the source reports a larger one as a [`Failure`] instead.
    Body(Bytes),
    /// The source found it unchanged without making it again: it is the one in the [`Baseline`], which has this hash.
    Unchanged([u8; 32]),
}

impl Entity {
    /// The largest body that travels, in bytes. A larger entity is a [`Failure`] with [`Reason::EntityTooLarge`].
    pub const MAX_BODY: usize = 3 * 1024 * 1024;

    /// The largest memo, in bytes (docs/protocol.md).
    pub const MAX_MEMO: usize = 512;

    /// An entity with this body, as JSON, and no memo.
    #[must_use]
    pub fn new(kind: &'static str, fqn: String, body: Bytes) -> Self {
        Self { kind, fqn, content: Content::Body(body), memo: Bytes::new() }
    }

    /// The body; `None` when it is unchanged.
    #[must_use]
    pub fn body(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Body(body) => Some(body),
            Content::Unchanged(_) => None,
        }
    }

    /// BLAKE3 of the body, the content hash of the wire.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        match &self.content {
            Content::Body(body) => blake3::hash(body).into(),
            Content::Unchanged(hash) => *hash,
        }
    }
}

/// Where a source is in this run: opaque to everyone else, at most [`Checkpoint::MAX`] bytes.
///
/// Emitted with entities, it says: once these are durable, a new attempt may begin after them. An empty one says that none
/// may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint(pub Bytes);

impl Checkpoint {
    /// The largest checkpoint, in bytes: what docs/protocol.md leaves of a source position of 4 KiB, which begins with the
    /// number of the record that it holds at.
    pub const MAX: usize = 4 * 1024 - 8;
}

/// What the last committed run of this pipeline left, by FQN.
#[derive(Debug, Default)]
pub struct Baseline(pub BTreeMap<String, Committed>);

/// One entity of the [`Baseline`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// As [`Entity::kind`].
    pub kind: String,
    /// BLAKE3 of its body.
    pub content_hash: [u8; 32],
    /// As [`Entity::memo`] in the run that was committed.
    pub memo: Bytes,
}

/// What a source is given for one run.
#[derive(Debug)]
pub struct Extraction {
    /// Where credentials are read, per login, never before.
    pub secrets: Arc<Resolver>,
    /// Where an earlier attempt ended; `None` to begin at the beginning. A source that cannot continue answers
    /// [`Reason::CheckpointUnusable`] before it emits anything.
    pub start: Option<Checkpoint>,
    /// What is committed. Empty on a first run, and without a control plane.
    pub baseline: Arc<Baseline>,
    /// Whether everything is read and made again, whatever looks unchanged.
    pub full: bool,
    /// Where the source counts, for whoever watches.
    pub progress: Arc<Progress>,
}

/// Where a source puts what it found.
#[async_trait]
pub trait EntitySink: Send {
    /// Takes entities over, in order, and the checkpoint that holds once they are durable. Waits while the sink is full.
    ///
    /// What is emitted at once is at most a batch (1,000 entities and 1 MiB together) or one entity, so that it becomes
    /// durable at once. A larger emission travels in parts, and no attempt can begin between them.
    ///
    /// # Errors
    /// [`SinkClosed`] when the run is over for whoever owns the sink; the source returns
    /// [`Reason::SinkClosed`] and the owner knows why.
    async fn emit(&mut self, entities: Vec<Entity>, checkpoint: Checkpoint) -> Result<(), SinkClosed>;

    /// Tells the operator something. Never waits; may be dropped when too many come.
    fn notice(&mut self, notice: Notice);
}

/// The sink takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run was ended while entities were being written")]
pub struct SinkClosed;

/// Something that the operator of a run wants to see. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How serious.
    pub severity: Severity,
    /// A stable name in `lower_snake_case`, such as `login_succeeded`.
    pub code: &'static str,
    /// A sentence.
    pub text: String,
}

/// How serious a [`Notice`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Expected.
    Info,
    /// Unusual, and handled.
    Warning,
}

/// How a source's run ended when it did end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether every object in scope was listed and read.
    pub complete: bool,
    /// What could not be read. Never counts as absent.
    pub failures: Vec<Failure>,
    /// FQNs of the [`Baseline`] that are in scope of this definition and not in the complete listing. Empty unless
    /// `complete`.
    pub gone: Vec<String>,
    /// What the operator should change before it fails, such as a login that will be retired. A sentence each.
    pub advice: Vec<String>,
    /// The run in figures.
    pub summary: Summary,
}

/// One object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// FQN of the entity that is missing.
    pub fqn: String,
    /// Why.
    pub reason: Reason,
    /// A sentence for the operator, never a secret.
    pub detail: String,
}

/// A run in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Objects in scope of the definition.
    pub objects: u64,
    /// Objects that the filters left out.
    pub filtered: u64,
    /// Objects that could not be read.
    pub failed: u64,
    /// Columns of the tables emitted.
    pub columns: u64,
    /// Primary, foreign and unique keys found.
    pub keys: u64,
    /// Requests made to the source, logins and retries included.
    pub requests: u64,
    /// Bytes received from the source, as on the wire (compressed).
    pub bytes_received: u64,
    /// Requests that the source still permits today after this run; `None` when it did not say.
    pub requests_left: Option<u64>,
}

/// One step of a connection test, in the order they were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// OpenMetadata's name of the step where it has one, such as `CheckAccess`.
    pub name: &'static str,
    /// Whether a run cannot work without it.
    pub mandatory: bool,
    /// How it ended.
    pub outcome: StepOutcome,
    /// What was found, or why not. A sentence, never a secret.
    pub message: String,
    /// What to do about it, when there is something.
    pub remediation: Option<String>,
}

/// How a [`Step`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// As it should.
    Passed,
    /// Not.
    Failed(Reason),
    /// Not taken, because an earlier one failed.
    Skipped,
}

/// A secret that a source reads, and what for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretUse {
    /// The field that names it, as in the source's errors, such as `sslConfig.sslKey`.
    pub field: String,
    /// The secret.
    pub reference: SecretRef,
    /// What for, and the host that it is sent to.
    pub purpose: Purpose,
}

/// One way to read one kind of system. Planned from a definition, without any I/O yet.
#[async_trait]
pub trait Source: Send + Sync {
    /// Reads the source once and emits each entity, parents first, children in the listing's order.
    ///
    /// # Errors
    /// What ends the run: nothing emitted is committed then. An object that cannot be read is no error but a
    /// [`Failure`] of the [`Report`].
    ///
    /// # Cancel safety
    /// Dropping the future stops all work of the source.
    async fn extract(&self, extraction: Extraction, sink: &mut dyn EntitySink) -> Result<Report, SourceError>;

    /// Looks whether a run would work, step by step, and what is missing when not. Reads little and changes nothing.
    ///
    /// # Cancel safety
    /// Dropping the future stops all work of the source.
    async fn test_connection(&self, secrets: Arc<Resolver>) -> Vec<Step>;

    /// Every secret that a login reads, in the order of the reads; no other one is read. Asks nobody.
    fn secrets(&self) -> Vec<SecretUse>;
}
