//! The results of one run, on their way.
//!
//! **Limits.** At most [`WINDOW`] bytes wait for an ack, or what the control plane wants less than that; one record
//! always may. When the window is full the sink waits, and with it the source: that is the backpressure, there is no
//! other queue than the entities that the source emitted last. A batch is at most 1 MiB or one record.
//!
//! **Invariants.** A record's seq, hash and body never change. Nothing is sent once the lease is over. An ack is the
//! only credit, and the only thing that makes a record leave the window. The digest is rolled when a record is acked,
//! so that it says what the control plane has, not what was sent.
//!
//! **Recovery.** A stream that breaks is opened again within the same grant; `Opened` says where to go on. If that is
//! inside the window, the rest is sent again; if not, the run is handed back and begins anew (the agent keeps nothing on
//! disk). When the control plane needs the body of an unchanged record, everything from its batch on is sent again. If
//! the source never made that body, it reads again: what is not durable is dropped, the stream is opened anew (and with
//! it the baseline, which may have changed), and the source begins at the position of the last durable batch, without
//! these entities in its baseline. What it reads a second time and is durable already, because a batch ended inside of
//! what it emitted at once, is left out.
//!
//! [`window`] is all of that without I/O; `driver` puts it on a [`stream`]. The generated types stop here.

mod driver;
mod stream;
mod window;
mod wire;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hybrid_runner_connector::{Baseline, Checkpoint, Entity, EntitySink, Notice, Report, SinkClosed};
use tokio::sync::{mpsc, watch};

use crate::clock::Deadline;
use crate::event::RunProgress;
use crate::session::{Link, Reason, Refusal, WriteToken};

/// The most bytes of records that wait for an ack, half of what docs/protocol.md permits: the largest record always fits,
/// at a hundred milliseconds to the control plane 40 MiB/s go through, and it is a tenth of the agent's memory.
pub(crate) const WINDOW: usize = 4 * 1024 * 1024;
/// What the source emitted and the window has not taken yet: one emission, so that the source is one step ahead.
const EMISSIONS: usize = 1;
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
    /// Entities of the last emission that the window has no room for yet, and where the source is after them.
    pending: VecDeque<Entity>,
    position: Bytes,
    report: Option<Box<Report>>,
    rereads: u32,
    /// Entities that the source reads without condition, because the control plane needed their bodies.
    unconditional: BTreeSet<String>,
    /// Entities that are durable and that the source will emit a second time.
    repeated: HashSet<String>,
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
    /// The control plane needs the bodies of these entities, and the source made none.
    BodiesNeeded(Vec<String>),
}

#[derive(Debug)]
enum Emission {
    Entities(Vec<Entity>, Checkpoint),
    /// Nothing follows.
    End(Box<Report>),
}

/// What the source writes to.
#[derive(Debug)]
pub(crate) struct Sink {
    emissions: mpsc::Sender<Emission>,
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
    /// The same run can be begun anew.
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
    #[error(
        "the control plane needed bodies of unchanged records after the source had read again {rereads} times, the last \
         one of {fqn}; the run begins anew"
    )]
    Rereads { rereads: u32, fqn: String },
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
            Self::CannotGoOn(_) => Reason::OUT_OF_ORDER,
            Self::NoProgress { .. } | Self::NotCommitted { .. } | Self::Rereads { .. } => Reason::INTERNAL,
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
        Ok(Upload {
            baseline: Arc::new(baseline),
            window: window::Window::new(opened.limit),
            stream,
            target: self,
            notices: Listener(notices.into()),
            emissions,
            pending: VecDeque::new(),
            position: Bytes::new(),
            report: None,
            rereads: 0,
            unconditional: BTreeSet::new(),
            repeated: HashSet::new(),
        })
    }
}

impl Upload {
    /// The next reading of the source, from the last durable place. It takes the place of the one before.
    pub(crate) fn begin(&mut self) -> Reading {
        let (sender, emissions) = mpsc::channel(EMISSIONS);
        self.emissions = emissions;
        Reading {
            start: self.window.durable_position().map(Checkpoint),
            baseline: Arc::clone(&self.baseline),
            sink: Sink { emissions: sender, notices: self.notices.clone() },
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

    /// Goes back to what is durable, for a reading without condition for these entities.
    ///
    /// # Errors
    /// See [`UploadError`]
    pub(crate) async fn go_back(&mut self, needed: Vec<String>) -> Result<(), UploadError> {
        driver::go_back(self, needed).await
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
        self.emissions.send(Emission::Entities(entities, checkpoint)).await.map_err(|_closed| SinkClosed)
    }

    fn notice(&mut self, notice: Notice) {
        (self.notices.0)(notice);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener(..)")
    }
}
