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
use hybrid_runner_secrets::Stores;

pub use error::{DefinitionError, Reason, SourceError};
pub use progress::{Progress, ProgressSnapshot, Stage};

/// One OpenMetadata Create request, ready to travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// OpenMetadata's name of the entity type: `databaseService`, `database`, `databaseSchema`, `table`,
    /// `classification` or `tag`.
    pub kind: &'static str,
    /// Fully qualified name, unique in the run.
    pub fqn: String,
    /// The request as JSON. At most 3 MiB: the source reports a larger one as a [`Failure`] instead.
    pub body: Bytes,
}

impl Entity {
    /// The largest body that travels, in bytes. A larger entity is a [`Failure`] with [`Reason::EntityTooLarge`].
    pub const MAX_BODY: usize = 3 * 1024 * 1024;

    /// BLAKE3 of the body, the content hash of the wire.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        blake3::hash(&self.body).into()
    }
}

/// Where a source is in this run: opaque to everyone else, at most [`Checkpoint::MAX`] bytes.
///
/// Emitted with entities, it says: once these are durable, a new attempt may begin after them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint(pub Bytes);

impl Checkpoint {
    /// The largest checkpoint, in bytes (docs/protocol.md).
    pub const MAX: usize = 4 * 1024;
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
}

/// What a source is given for one run.
#[derive(Debug)]
pub struct Extraction {
    /// Where credentials are read, per login, never before.
    pub secrets: Arc<Stores>,
    /// Where an earlier attempt ended; `None` to begin at the beginning. A source that cannot continue answers
    /// [`Reason::CheckpointUnusable`] before it emits anything.
    pub start: Option<Checkpoint>,
    /// What is committed. Empty on a first run, and without a control plane.
    pub baseline: Arc<Baseline>,
    /// Where the source counts, for whoever watches.
    pub progress: Arc<Progress>,
}

/// Where a source puts what it found.
#[async_trait]
pub trait EntitySink: Send {
    /// Takes entities over, in order, and the checkpoint that holds once they are durable. Waits while the sink is full.
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
}
