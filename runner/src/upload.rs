//! The results of one run, on their way.
//!
//! **Limits.** At most [`WINDOW`] bytes wait for an ack, or what the control plane wants less than that, and at most
//! [`QUEUE`] bytes to enter the window; one emission always may. When both are full the sink waits, and with it the source:
//! that is the backpressure. A batch is at most 1 MiB or one record.
//!
//! **Invariants.** A record's seq, hash and body never change. Nothing is sent once the lease is over. An ack is the
//! only credit, and the only thing that makes a record leave the window. The digest is rolled when a record is acked,
//! so that it says what the control plane has, not what was sent.
//!
//! **Recovery.** `Opened` says what is durable. The first one of a grant says where an earlier attempt ended: the source
//! begins at that source position. A stream that breaks is opened again within the same grant: if `Opened` names a record
//! of the window, the rest is sent again; if not (the control plane was restored from an older backup), the source reads
//! again from the position that it names. The same when the control plane needs the body of an unchanged record that the
//! source never made: it reads again from what is durable, with the baseline of the moment and without these entities in
//! it. Where nobody can begin, the run is handed back (`CHECKPOINT_UNUSABLE`), and its next grant begins anew.
//!
//! | a stream says | in the window | not in the window |
//! |---|---|---|
//! | `Opened`, first of the grant | | the source begins at its position |
//! | `Opened`, later | sent again from there | the source begins again at its position |
//! | `Opened` with another digest | handed back | handed back |
//! | `Ack` | what is below leaves | violation |
//! | `BodyNeeded` | sent again from its batch on | violation |
//! | `BodyNeeded`, no body was made | the source begins again at what is durable | violation |
//! | `Committed` after `Eof` | committed | committed |
//! | `Fenced` | the lease is lost | the lease is lost |
//!
//! [`window`] is all of that without I/O; `driver` puts it on a [`stream`]. The generated types stop here.

mod driver;
mod stream;
mod window;
mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hybrid_runner_connector::{Baseline, Checkpoint, Entity, EntitySink, Notice, Report, SinkClosed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::clock::Deadline;
use crate::event::RunProgress;
use crate::session::{Link, Reason, Refusal, WriteToken};

/// The most bytes of records that wait for an ack, half of what docs/protocol.md permits: the largest record always fits,
/// at a hundred milliseconds to the control plane 40 MiB/s go through, and it is a tenth of the agent's memory.
pub(crate) const WINDOW: usize = 4 * 1024 * 1024;
/// Bytes that the source emitted and the window has not taken yet, and how many emissions that may be: what comes of one
/// call to Salesforce (25 tables) waits here together, so that it travels together.
const QUEUE: u32 = 1024 * 1024;
const EMISSIONS: usize = 32;
/// How often the source may read again in one attempt. The baseline is read anew each time, so that a second one needs
/// another change of what is committed; a control plane that wants more does not agree with its own baseline.
const REREADS: u32 = 3;

/// What an upload is for.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) token: WriteToken,
    /// The stream must be open within this time.
    pub(crate) start_timeout: Duration,
    /// Every record travels with its body.
    pub(crate) full: bool,
    /// The lease that permits writing.
    pub(crate) lease: Deadline,
    pub(crate) progress: RunProgress,
    /// The connection, while there is a session.
    pub(crate) link: watch::Receiver<Option<Link>>,
}

/// An upload that was opened: what the source needs, and what moves it.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What the last committed run left, as the source knows it.
    baseline: Arc<Baseline>,
    target: Target,
    notices: Listener,
    stream: stream::Stream,
    window: window::Window,
    emissions: mpsc::Receiver<Emission>,
    /// The emission that the window has no room for yet.
    pending: Option<Emitted>,
    report: Option<Box<Report>>,
    /// Where the next reading begins; none: at the beginning.
    start: Option<Checkpoint>,
    rereads: u32,
    /// Entities that the source reads without condition, because the control plane needed their bodies.
    unconditional: BTreeSet<String>,
}

/// One reading of the source.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) start: Option<Checkpoint>,
    pub(crate) baseline: Arc<Baseline>,
    pub(crate) sink: Sink,
}

/// How an upload got on.
#[derive(Debug)]
pub(crate) enum Progressed {
    Committed(Box<Receipt>),
    /// The source has to read again, from what is durable.
    Behind(Behind),
}

/// Why the source has to read again.
#[derive(Debug)]
pub(crate) enum Behind {
    /// The control plane needs the bodies of these entities, and the source made none.
    BodiesNeeded(Vec<String>),
    /// The control plane has less than it had.
    Restored { next_seq: u64 },
}

#[derive(Debug)]
enum Emission {
    Entities(Emitted),
    /// Nothing follows.
    End(Box<Report>),
}

/// What the source emitted at once.
#[derive(Debug)]
struct Emitted {
    entities: Vec<Entity>,
    checkpoint: Checkpoint,
    /// Its place in the queue.
    _place: OwnedSemaphorePermit,
}

/// What the source writes to.
#[derive(Debug)]
pub(crate) struct Sink {
    emissions: mpsc::Sender<Emission>,
    /// In bytes; see [`QUEUE`].
    queue: Arc<Semaphore>,
    notices: Listener,
}

/// [`Notices`], for one sink after the other.
#[derive(Clone)]
struct Listener(Arc<dyn Fn(Notice) + Send + Sync>);

/// Where notices go. It never waits.
pub(crate) type Notices = Box<dyn Fn(Notice) + Send + Sync>;

/// A run that was committed, as the control plane says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) report: Report,
    pub(crate) sent: u64,
    pub(crate) entities: u64,
    pub(crate) columns: u64,
    pub(crate) unchanged: u64,
    pub(crate) deleted: u64,
    pub(crate) deletions: &'static str,
    pub(crate) dangling_foreign_keys: u64,
}

/// An upload ended without a commit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// Somebody else has the lease, or nobody; it is not given back.
    #[error("the control plane does not take writes under this lease: {0}")]
    Fenced(Reason),
    /// This agent's own count of the lease is over.
    #[error("the lease is over")]
    LeaseOver,
    #[error("{0}")]
    Refused(Refusal),
    #[error("the control plane broke the protocol: {0}")]
    Violation(String),
    /// The same run can be begun anew, once what is staged was dropped.
    #[error("{0}; the run begins anew")]
    CannotGoOn(String),
    #[error("the upload broke {attempts} times without getting further, the last time: {last}")]
    NoProgress { attempts: u32, last: String },
    /// A fault of the source: there is nothing to send.
    #[error(
        "the source says that {fqn} is unchanged, but the baseline it was given does not have that content or the run is \
         full; this is a fault of the connector, run it with --full"
    )]
    NotCommitted { fqn: String },
    #[error("the source had to read again more than {REREADS} times, the last time because {0}; the run begins anew")]
    Rereads(Behind),
    #[error("no stream could be opened within the {} s that the grant leaves for it", .0.as_secs())]
    StartTimeout(Duration),
    #[error("the agent stops")]
    AgentGone,
}

impl UploadError {
    /// Why, in the words of the catalogue.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Fenced(reason) => *reason,
            Self::LeaseOver => Reason::LEASE_EXPIRED,
            Self::Refused(refusal) => refusal.reason.unwrap_or(Reason::INTERNAL),
            Self::Violation(_) => Reason::PROTOCOL_VIOLATION,
            Self::CannotGoOn(_) | Self::Rereads(_) => hybrid_runner_connector::Reason::CheckpointUnusable.into(),
            Self::NoProgress { .. } | Self::NotCommitted { .. } => Reason::INTERNAL,
            Self::StartTimeout(_) => Reason::RUN_DEADLINE,
            Self::AgentGone => Reason::DRAINING,
        }
    }
}

impl Target {
    /// Opens the upload and waits for the baseline.
    ///
    /// # Errors
    /// The control plane refused, or broke the protocol.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream; nothing was written.
    pub(crate) async fn open(self, notices: Notices) -> Result<Upload, UploadError> {
        let (stream, opened, baseline) = stream::open_first(&self).await?;
        let (_nobody, emissions) = mpsc::channel(EMISSIONS);
        let mut upload = Upload {
            baseline: Arc::new(baseline),
            window: window::Window::new(opened.limit),
            stream,
            target: self,
            notices: Listener(notices.into()),
            emissions,
            pending: None,
            report: None,
            start: None,
            rereads: 0,
            unconditional: BTreeSet::new(),
        };
        upload.restart(&opened)?;
        Ok(upload)
    }
}

impl Upload {
    /// The next reading of the source, from what is durable. It takes the place of the one before.
    pub(crate) fn begin(&mut self) -> Reading {
        let (sender, emissions) = mpsc::channel(EMISSIONS);
        self.emissions = emissions;
        let queue = Arc::new(Semaphore::new(usize::try_from(QUEUE).unwrap_or(Semaphore::MAX_PERMITS)));
        Reading {
            start: self.start.clone(),
            baseline: Arc::clone(&self.baseline),
            sink: Sink { emissions: sender, queue, notices: self.notices.clone() },
        }
    }

    /// Moves records until the run is committed or refused, or the source has to read again.
    ///
    /// # Errors
    /// See [`UploadError`]; nothing of the run is visible then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the upload where it was; dropping the upload closes the stream. The control plane keeps
    /// what it acked.
    pub(crate) async fn run(&mut self) -> Result<Progressed, UploadError> {
        driver::run(self).await
    }

    /// Goes back to what is durable, for another reading.
    ///
    /// # Errors
    /// See [`UploadError`]
    pub(crate) async fn go_back(&mut self, behind: Behind) -> Result<(), UploadError> {
        driver::go_back(self, behind).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.target.progress.set_held(0);
    }
}

impl Sink {
    /// The source is done: everything that it emitted is to be committed.
    ///
    /// # Errors
    /// The upload ended already; it knows why.
    pub(crate) async fn finish(self, report: Report) -> Result<(), SinkClosed> {
        self.emissions.send(Emission::End(Box::new(report))).await.map_err(|_closed| SinkClosed)
    }
}

#[async_trait]
impl EntitySink for Sink {
    async fn emit(&mut self, entities: Vec<Entity>, checkpoint: Checkpoint) -> Result<(), SinkClosed> {
        let bytes: usize = entities.iter().map(held_bytes).sum();
        let place = u32::try_from(bytes).unwrap_or(QUEUE).min(QUEUE);
        let place = Arc::clone(&self.queue).acquire_many_owned(place).await.map_err(|_closed| SinkClosed)?;
        let emitted = Emitted { entities, checkpoint, _place: place };
        self.emissions.send(Emission::Entities(emitted)).await.map_err(|_closed| SinkClosed)
    }

    fn notice(&mut self, notice: Notice) {
        (self.notices.0)(notice);
    }
}

/// What an entity takes in queue and window.
fn held_bytes(entity: &Entity) -> usize {
    window::held_bytes(entity.kind, &entity.fqn, entity.body(), &entity.memo)
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodiesNeeded(fqns) => {
                let first = fqns.first().map(String::as_str).unwrap_or_default();
                write!(f, "the control plane needs {} bodies of unchanged records, the first of {first}", fqns.len())
            }
            Self::Restored { next_seq } => write!(f, "the control plane goes on at record {next_seq}, as before"),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener(..)")
    }
}
