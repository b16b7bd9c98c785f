//! One stream of an upload: opened, read, and opened again when it breaks.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use hybrid_runner_connector::{Baseline, Checkpoint, Committed, Entity};
use hybrid_runner_proto::v1;
use hybrid_runner_proto::v1::runner_service_client::RunnerServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::codec::CompressionEncoding;
use tracing::{Instrument as _, warn};
use v1::push_request::Message as Request;
use v1::push_response::Message as Response;

use super::window::{Digest, checkpoint_at};
use super::{Target, UploadError, WINDOW};
use crate::otel;
use crate::retry::Backoff;
use crate::session::{Link, Reason, Refusal, refusal_of};

/// How long a control plane may take for the answer to `Open`, and for each message that an upload waits for. Slow
/// disks and slow networks stay far below; a peer that hangs does not hold a run up until its own deadline.
pub(super) const ANSWER: Duration = Duration::from_secs(120);
/// The same, for a stream on a connection whose session is over while another one lives: it may be a connection that leads
/// nowhere any more. If it was only slow, what is not acknowledged is sent again and nothing is lost.
pub(super) const MOVED: Duration = Duration::from_secs(2);
/// Streams in a row that broke before a record more was durable, after which the run is given back.
const ATTEMPTS: u32 = 8;

/// The most bytes of a baseline: 100,000 entities of usual size, and what an agent can bear.
const BASELINE: usize = 32 * 1024 * 1024;
/// What an entry takes beside its texts.
const ENTRY: usize = 128;
/// The contract's limits for names.
const MAX_KIND: usize = 64;
const MAX_FQN: usize = 3072;

/// The contract's limit for a message of this stream.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Batches that wait for the network: it is never idle, and what waits is bounded by the window anyway.
const OUTGOING: usize = 4;

/// One stream of an upload.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) requests: mpsc::Sender<v1::PushRequest>,
    pub(super) responses: Streaming<v1::PushResponse>,
    /// Whether both sides of its connection know memos.
    pub(super) memos: bool,
    /// The connection of the session; it was this stream's when that was opened.
    pub(super) link: watch::Receiver<Option<Link>>,
    /// Another session lives than the one that this stream's connection was made for.
    pub(super) is_superseded: bool,
}

/// Where a stream goes on.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) next_seq: u64,
    pub(super) digest: Digest,
    /// Of the last durable batch.
    position: Bytes,
    pub(super) limit: usize,
    baseline_follows: bool,
}

impl Opened {
    /// Where the source begins to go on here; none: at the beginning.
    pub(super) fn start(&self) -> Result<Option<Checkpoint>, UploadError> {
        let next_seq = self.next_seq;
        if next_seq == 0 {
            return Ok(None);
        }
        let checkpoint = checkpoint_at(next_seq, &self.position);
        let checkpoint = checkpoint.filter(|checkpoint| checkpoint.len() <= Checkpoint::MAX);
        checkpoint.map(|checkpoint| Some(Checkpoint(checkpoint))).ok_or_else(|| {
            UploadError::CannotGoOn(format!(
                "the control plane goes on at record {next_seq}, and its source position holds at another one"
            ))
        })
    }
}

/// Why a stream is over.
pub(super) enum Broken {
    /// A new stream may go on.
    Stream(Refusal),
    Silent,
    /// The session whose connection it was to be opened on is over.
    Unlinked,
    Closed,
    Run(UploadError),
}

impl From<UploadError> for Broken {
    fn from(error: UploadError) -> Self {
        Self::Run(error)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(refusal) => write!(f, "{refusal}"),
            Self::Silent => f.write_str("no answer in time"),
            Self::Unlinked => f.write_str("the session ended"),
            Self::Closed => f.write_str("the control plane closed the stream"),
            Self::Run(error) => write!(f, "{error}"),
        }
    }
}

/// An answer to `Open`.
pub(super) enum Answer {
    Opened(Opened),
    /// The run was committed on an earlier stream.
    Committed(v1::Committed),
}

pub(super) fn violation<E: From<UploadError>>(what: impl Into<String>) -> E {
    UploadError::Violation(what.into()).into()
}

/// A status, as this agent goes on from it.
fn broken(status: &tonic::Status) -> Broken {
    if status.code() == tonic::Code::OutOfRange {
        return violation("a message of more than 4 MiB");
    }
    let refusal = refusal_of(status);
    match refusal.reason {
        _ if refusal.is_retryable => Broken::Stream(refusal),
        // The control plane stops, or what this connection was made with does not count any more: the session's next
        // connection may be better, and if there is none the lease ends.
        Some(Reason::DRAINING | Reason::IDENTITY_UNKNOWN) => Broken::Stream(refusal),
        Some(reason @ (Reason::FENCED | Reason::LEASE_EXPIRED | Reason::LEASE_REVOKED | Reason::CANCELLED)) => {
            Broken::Run(UploadError::Fenced(reason))
        }
        _ => Broken::Run(UploadError::Refused(refusal)),
    }
}

/// Waits for a session and opens a stream on its connection; again, until it is opened.
pub(super) async fn open(target: &Target, attempts: &mut Attempts) -> Result<(Stream, Answer), UploadError> {
    let mut link = target.link.clone();
    loop {
        let connection = link.wait_for(Option::is_some).await.map_err(|_gone| UploadError::AgentGone)?.clone();
        let Some(connection) = connection else { continue };
        let link_of = link.clone();
        let opened = tokio::select! {
            opened = timeout(ANSWER, open_on(target, &connection, link_of)) => opened.unwrap_or(Err(Broken::Silent)),
            Ok(()) = link.changed() => Err(Broken::Unlinked),
        };
        match opened {
            Ok(opened) => return Ok(opened),
            Err(Broken::Run(error)) => return Err(error),
            // The next session is waited for; that is pause enough.
            Err(Broken::Unlinked) => {}
            Err(broken) => {
                if matches!(&broken, Broken::Stream(Refusal { reason: None, .. })) {
                    connection.suspect();
                }
                attempts.failed(&broken).await?;
            }
        }
    }
}

async fn open_on(
    target: &Target,
    link: &Link,
    session: watch::Receiver<Option<Link>>,
) -> Result<(Stream, Answer), Broken> {
    if target.lease.is_past() {
        return Err(UploadError::LeaseOver.into());
    }
    let (requests, messages) = mpsc::channel(OUTGOING);
    let open = v1::Open { token: Some(target.token.clone().into()) };
    if requests.send(v1::PushRequest { message: Some(Request::Open(open)) }).await.is_err() {
        return Err(Broken::Closed);
    }
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    link.authorize(request.metadata_mut());
    let mut client = RunnerServiceClient::new(link.channel.clone())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    if link.zstd {
        client = client.send_compressed(CompressionEncoding::Zstd).accept_compressed(CompressionEncoding::Zstd);
    }
    let span = otel::push_span(request.metadata_mut());
    let responses = client.push(request).instrument(span).await.map_err(|status| broken(&status))?.into_inner();
    let mut stream = Stream { requests, responses, memos: link.memos, link: session, is_superseded: false };
    let answer = match stream.next().await? {
        Response::Opened(opened) => Answer::Opened(parse_opened(opened)?),
        Response::Committed(committed) => Answer::Committed(committed),
        Response::Fenced(fenced) => return Err(fenced_by(&fenced).into()),
        Response::Baseline(_) | Response::Ack(_) | Response::BodyNeeded(_) => {
            return Err(violation("a message before Opened"));
        }
    };
    Ok((stream, answer))
}

fn parse_opened(opened: v1::Opened) -> Result<Opened, UploadError> {
    let digest = opened.digest.as_ref().try_into().map(Digest).ok();
    Ok(Opened {
        next_seq: opened.next_seq,
        digest: digest.ok_or_else(|| violation::<UploadError>("Opened.digest has not 32 bytes"))?,
        position: opened.source_position,
        limit: usize::try_from(opened.max_unacked_bytes).unwrap_or(WINDOW).min(WINDOW),
        baseline_follows: opened.baseline_follows,
    })
}

pub(super) fn fenced_by(fenced: &v1::Fenced) -> UploadError {
    UploadError::Fenced(match fenced.reason() {
        v1::Reason::LeaseExpired => Reason::LEASE_EXPIRED,
        v1::Reason::LeaseRevoked => Reason::LEASE_REVOKED,
        v1::Reason::Cancelled => Reason::CANCELLED,
        _ => Reason::FENCED,
    })
}

/// Opens the first stream of a run and reads the baseline to its end.
pub(super) async fn open_first(target: &Target) -> Result<(Stream, Opened, Baseline), UploadError> {
    let mut attempts = Attempts::new();
    loop {
        let opening = timeout(target.start_timeout, open(target, &mut attempts)).await;
        let (stream, answer) = opening.map_err(|_elapsed| UploadError::StartTimeout(target.start_timeout))??;
        let Answer::Opened(opened) = answer else {
            return Err(violation("Committed before anything was sent"));
        };
        // Before the baseline, which may be long.
        opened.start()?;
        if let Some(opened) = with_baseline(stream, opened, &mut attempts).await? {
            return Ok(opened);
        }
    }
}

/// Opens a later stream of a run and reads the baseline again, as it is now.
pub(super) async fn open_anew(
    target: &Target,
    attempts: &mut Attempts,
) -> Result<(Stream, Opened, Baseline), UploadError> {
    loop {
        let (stream, answer) = open(target, attempts).await?;
        let Answer::Opened(opened) = answer else {
            return Err(violation("Committed before Eof"));
        };
        if let Some(opened) = with_baseline(stream, opened, attempts).await? {
            return Ok(opened);
        }
    }
}

/// Reads the baseline to its end; none: the stream broke on the way, and another one may be opened.
async fn with_baseline(
    mut stream: Stream,
    opened: Opened,
    attempts: &mut Attempts,
) -> Result<Option<(Stream, Opened, Baseline)>, UploadError> {
    match read_baseline(&mut stream, opened.baseline_follows).await {
        Ok(baseline) => Ok(Some((stream, opened, baseline))),
        Err(Broken::Run(error)) => Err(error),
        Err(broken) => attempts.failed(&broken).await.map(|()| None),
    }
}

async fn read_baseline(stream: &mut Stream, follows: bool) -> Result<Baseline, Broken> {
    let mut baseline = Baseline::default();
    let mut is_last = !follows;
    let mut bytes = 0;
    while !is_last {
        let page = match timeout(ANSWER, stream.next()).await.unwrap_or(Err(Broken::Silent))? {
            Response::Baseline(page) => page,
            Response::Fenced(fenced) => return Err(fenced_by(&fenced).into()),
            Response::Opened(_) | Response::Ack(_) | Response::BodyNeeded(_) | Response::Committed(_) => {
                return Err(violation("another message inside of the baseline"));
            }
        };
        is_last = page.last;
        if page.entries.is_empty() && !is_last {
            return Err(violation("a page of the baseline that is empty and not the last"));
        }
        for entry in page.entries {
            bytes += ENTRY + entry.kind.len() + entry.fqn.len() + entry.memo.len();
            if bytes > BASELINE {
                return Err(violation("a baseline of more than 32 MiB"));
            }
            let (fqn, committed) = committed(entry, stream.memos)?;
            baseline.0.insert(fqn, committed);
        }
    }
    Ok(baseline)
}

fn committed(entry: v1::BaselineEntry, memos: bool) -> Result<(String, Committed), UploadError> {
    let v1::BaselineEntry { kind, fqn, content_hash, memo } = entry;
    if !memos && !memo.is_empty() {
        return Err(violation("BaselineEntry.memo of capability `memos`, which one of both sides did not list"));
    }
    if memo.len() > Entity::MAX_MEMO {
        return Err(violation(format!(
            "BaselineEntry.memo has {} bytes; accepted: at most {}",
            memo.len(),
            Entity::MAX_MEMO
        )));
    }
    if kind.len() > MAX_KIND || fqn.len() > MAX_FQN {
        return Err(violation("BaselineEntry.kind or fqn is longer than 64 or 3,072 bytes"));
    }
    let content_hash = content_hash.as_ref().try_into();
    let content_hash =
        content_hash.map_err(|_length| violation::<UploadError>("BaselineEntry.content_hash has not 32 bytes"))?;
    // Each memo is a view into its page's message; a copy of its own lets the page go.
    Ok((fqn, Committed { kind, content_hash, memo: Bytes::copy_from_slice(&memo) }))
}

impl Stream {
    /// # Cancel safety
    /// No message is lost.
    pub(super) async fn next(&mut self) -> Result<Response, Broken> {
        parse(self.responses.message().await)
    }
}

/// What a stream said, or why it is over.
pub(super) fn parse(message: Result<Option<v1::PushResponse>, tonic::Status>) -> Result<Response, Broken> {
    match message {
        Ok(Some(v1::PushResponse { message: Some(message) })) => Ok(message),
        Ok(Some(v1::PushResponse { message: None })) => Err(violation("a message with no content")),
        Ok(None) => Err(Broken::Closed),
        Err(status) => Err(broken(&status)),
    }
}

/// Streams in a row that broke without getting the run further.
pub(super) struct Attempts {
    count: u32,
    backoff: Backoff,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self { count: 0, backoff: Backoff::new() }
    }

    pub(super) fn progressed(&mut self) {
        self.count = 0;
        self.backoff.reset();
    }

    /// Waits before the next one, or gives up.
    pub(super) async fn failed(&mut self, broken: &Broken) -> Result<(), UploadError> {
        self.count += 1;
        if self.count >= ATTEMPTS {
            return Err(UploadError::NoProgress { attempts: self.count, last: broken.to_string() });
        }
        let asked = match broken {
            Broken::Stream(refusal) => refusal.pause.unwrap_or_default(),
            Broken::Silent | Broken::Unlinked | Broken::Closed | Broken::Run(_) => Duration::ZERO,
        };
        let wait = self.backoff.next_wait().max(asked);
        warn!(problem = %broken, wait_ms = wait.as_millis(), "upload broke, opening it again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
