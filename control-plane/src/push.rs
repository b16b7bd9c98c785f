//! One push: a run's records on their way into the store.
//!
//! `Open` → `Opened` (and pages of `Baseline`) → batches, each answered by `Ack` or `BodyNeeded` → `Eof` → `Committed`.
//! Limits: `push/incoming.rs`. Invariants: an `Ack` is sent after its transaction was durable, never before; after
//! `BodyNeeded` what is beyond the refused batch is dropped until the agent sends from there again. Recovery: the agent
//! opens another stream and is told where to go on; nothing is remembered here.
//!
//! A writer that lost its lease is told `Fenced`, at its next message or when the lease ends, whatever comes first.

mod body;
mod incoming;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_proto::reason_name;
use hybrid_runner_proto::v1::{self, PushRequest, PushResponse, Reason, push_response};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Streaming};
use tracing::{Instrument as _, debug, info, info_span, warn};

use self::incoming::Incoming;
use crate::shared::Shared;
use crate::status::Problem;
use crate::store::{Applied, Batch, Deletions, Eof, Figures, Listed, Refusal, Run, Token, WriteError, Writer, refusal};
use crate::stream::Responses;

/// How long the first message may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages that were read and checked and wait for the store: the next one is ready when the store is, and what waits is
/// bounded by what an agent may have sent.
const AHEAD: usize = 2;

/// What an agent may have sent and not seen acknowledged.
const MAX_UNACKED: u32 = 8 * 1024 * 1024;

/// Entries of a page of the baseline.
const PAGE_ENTRIES: u32 = 1_000;

/// Encoded bytes of a page of the baseline; below the 1 MiB that is promised by more than the largest entry.
const PAGE_BYTES: usize = 1024 * 1024 - 8 * 1024;

/// How a push ends, if not well.
enum End {
    /// With a status.
    Problem(Problem),
    /// With `Fenced`.
    Fenced(v1::Fenced),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        let (reason, current_fence) = match refusal {
            Refusal::Fenced { current_fence } => (Reason::Fenced, current_fence),
            Refusal::LeaseExpired { current_fence } => (Reason::LeaseExpired, current_fence),
            Refusal::LeaseRevoked { current_fence } => (Reason::LeaseRevoked, current_fence),
            Refusal::Cancelled { current_fence } => (Reason::Cancelled, current_fence),
            other => return Self::Problem(other.into()),
        };
        Self::Fenced(v1::Fenced { reason: reason.into(), current_fence })
    }
}

/// Serves a push to its end.
pub(crate) async fn run(
    shared: Arc<Shared>,
    agent: String,
    mut requests: Streaming<PushRequest>,
    responses: Responses<PushResponse>,
) -> Result<(), Problem> {
    let push = Push { shared, agent, responses };
    match push.serve(&mut requests).await {
        Ok(()) => Ok(()),
        Err(End::Fenced(fenced)) => {
            info!(reason = reason_name(fenced.reason()), fence = fenced.current_fence, "a writer is fenced");
            push.send(push_response::Message::Fenced(fenced)).await;
            Ok(())
        }
        Err(End::Problem(problem)) if problem.reason == Reason::Draining => Err(problem),
        Err(End::Problem(problem)) => {
            warn!(reason = reason_name(problem.reason), detail = problem.detail, "a push ends");
            Err(problem)
        }
    }
}

struct Push {
    shared: Arc<Shared>,
    agent: String,
    responses: Responses<PushResponse>,
}

impl Push {
    async fn send(&self, message: push_response::Message) {
        self.responses.send(PushResponse { message: Some(message) }).await;
    }

    /// What a write that was not applied makes of the push.
    fn end(&self, error: WriteError) -> End {
        match error {
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::Store(error) => End::Problem(self.shared.failed(&error)),
        }
    }

    async fn serve(&self, requests: &mut Streaming<PushRequest>) -> Result<(), End> {
        let first = tokio::time::timeout(OPEN_TIMEOUT, requests.message()).await;
        let first = first.map_err(|elapsed| Problem::violation(format!("no Open came in time ({elapsed})")))?;
        let token = match received(first)? {
            None => return Ok(()),
            Some(Incoming::Open(token)) => token,
            Some(Incoming::Batch { .. } | Incoming::Eof { .. }) => {
                return Err(Problem::violation("the first message is not Open").into());
            }
        };
        // A token that cannot be one of ours belongs to no run.
        let token = token.ok_or(Refusal::Fenced { current_fence: 0 })?;
        let (next_seq, listed) = self.open(&Writer { agent: self.agent.clone(), token }).await?;
        let (ahead, arrived) = mpsc::channel(AHEAD);
        let read = async {
            self.read(requests, token, ahead).await;
            // What was read is still to be written.
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            done = self.write(arrived, token, next_seq, listed) => done,
            never = read => match never {},
        }
    }

    /// Reads and checks what the agent sends while the store writes what came before: they are two threads' work.
    async fn read(
        &self,
        requests: &mut Streaming<PushRequest>,
        token: Token,
        ahead: mpsc::Sender<Result<Incoming, End>>,
    ) {
        let mut runs = self.shared.open_runs.subscribe();
        while let Some(message) = self.next(requests, &mut runs, token).await.transpose() {
            let is_last = message.is_err();
            if ahead.send(message).await.is_err() || is_last {
                return;
            }
        }
    }

    /// Writes what was read, in its order.
    async fn write(
        &self,
        mut arrived: mpsc::Receiver<Result<Incoming, End>>,
        token: Token,
        mut next_seq: u64,
        listed: Listed,
    ) -> Result<(), End> {
        // After `BodyNeeded`: what comes is beyond the refused batch, until it comes again.
        let mut dropping = false;
        while let Some(message) = arrived.recv().await {
            match message? {
                Incoming::Open(_) => return Err(Problem::violation("Open came a second time").into()),
                Incoming::Batch { token: under, batch } => {
                    refuse_unlisted(&batch, listed)?;
                    let writer = self.writer(token, under).await?;
                    let beyond = batch.records.first().is_some_and(|record| record.seq > next_seq);
                    if dropping && beyond {
                        continue;
                    }
                    dropping = !self.apply(&writer, &batch, &mut next_seq).await?;
                }
                Incoming::Eof { token: under, eof } => {
                    let writer = self.writer(token, under).await?;
                    return self.commit(&writer, &eof).await;
                }
            }
        }
        Ok(())
    }

    /// Who writes a message. Under the stream's run, whether the token holds is for the store to say, in the transaction
    /// that writes; under another run nothing is written, whether that lease holds or not.
    async fn writer(&self, stream: Token, message: Option<Token>) -> Result<Writer, End> {
        let token = message.ok_or(Refusal::Fenced { current_fence: 0 })?;
        let writer = Writer { agent: self.agent.clone(), token };
        if token.run_id == stream.run_id {
            return Ok(writer);
        }
        let run = self.shared.store.run(token.run_id).await.map_err(|error| self.shared.failed(&error))?;
        Err(match refusal(run.as_ref(), &writer) {
            Some(refusal) => refusal.into(),
            None => Problem::violation("the message is of another run than the stream's Open").into(),
        })
    }

    /// The agent's next message; `None` when it is done.
    async fn next(
        &self,
        requests: &mut Streaming<PushRequest>,
        runs: &mut watch::Receiver<Arc<Vec<Run>>>,
        token: Token,
    ) -> Result<Option<Incoming>, End> {
        loop {
            tokio::select! {
                biased;
                () = self.shared.drain.cancelled() => {
                    return Err(Problem::new(Reason::Draining, "the control plane stops; connect again").into());
                }
                message = requests.message() => return Ok(received(message)?),
                // The sender lives as long as this.
                _ = runs.changed() => {}
            }
            let held = runs.borrow_and_update().iter().any(|run| run.token() == Some(token) && run.state.is_active());
            if !held {
                let run = self.shared.store.run(token.run_id).await.map_err(|error| self.shared.failed(&error))?;
                let writer = Writer { agent: self.agent.clone(), token };
                if let Some(refusal) = refusal(run.as_ref(), &writer) {
                    return Err(refusal.into());
                }
            }
        }
    }

    async fn open(&self, writer: &Writer) -> Result<(u64, Listed), End> {
        let opened = self.shared.store.open(writer).await.map_err(|error| self.end(error))?;
        self.shared.changed();
        info!(pipeline = opened.pipeline, run_id = %writer.token.run_id, next_seq = opened.next_seq, "push opened");
        self.send(push_response::Message::Opened(v1::Opened {
            next_seq: opened.next_seq,
            digest: opened.digest.to_vec().into(),
            source_position: opened.source_position,
            max_unacked_bytes: MAX_UNACKED,
            baseline_follows: opened.has_baseline,
        }))
        .await;
        if opened.has_baseline {
            self.send_baseline(&opened.pipeline, opened.listed).await?;
        }
        Ok((opened.next_seq, opened.listed))
    }

    /// The pages come from as many reads; nothing changes what is committed while this run holds its lease, but a
    /// confirmed deletion, and an entity that is gone from a later page is read again like any that never was there.
    async fn send_baseline(&self, pipeline: &str, listed: Listed) -> Result<(), End> {
        let mut after: Option<String> = None;
        loop {
            let page = self.shared.store.baseline(pipeline, after.as_deref(), PAGE_ENTRIES).await;
            let page = page.map_err(|error| self.shared.failed(&error))?;
            let last = page.len() < usize::try_from(PAGE_ENTRIES).unwrap_or(usize::MAX);
            after = page.last().map(|entry| entry.fqn.clone());
            let mut entries: Vec<v1::BaselineEntry> = Vec::new();
            let mut bytes = 0;
            for entry in page {
                let entry = v1::BaselineEntry {
                    kind: entry.kind,
                    fqn: entry.fqn,
                    content_hash: entry.content_hash.to_vec().into(),
                    memo: if listed.memos { entry.memo } else { bytes::Bytes::new() },
                };
                bytes += entry.encoded_len() + prost::length_delimiter_len(entry.encoded_len()) + 1;
                if bytes > PAGE_BYTES {
                    let entries = std::mem::take(&mut entries);
                    self.send(push_response::Message::Baseline(v1::Baseline { entries, last: false })).await;
                    bytes = entry.encoded_len();
                }
                entries.push(entry);
            }
            self.send(push_response::Message::Baseline(v1::Baseline { entries, last })).await;
            if last {
                return Ok(());
            }
        }
    }

    /// Applies a batch and answers. Returns whether it was applied.
    async fn apply(&self, writer: &Writer, batch: &Batch, next_seq: &mut u64) -> Result<bool, End> {
        let span = info_span!(target: "otel", "batch", records = batch.records.len());
        let applied = self.shared.store.apply(writer, batch).instrument(span).await;
        let message = match applied.map_err(|error| self.end(error))? {
            Applied::Durable { next_seq: durable } => {
                debug!(records = batch.records.len(), next_seq = durable, "batch durable");
                *next_seq = durable;
                push_response::Message::Ack(v1::Ack { next_seq: durable })
            }
            Applied::BodyNeeded { seqs } => push_response::Message::BodyNeeded(v1::BodyNeeded { seqs }),
        };
        let applied = matches!(message, push_response::Message::Ack(_));
        self.shared.metrics.batch(batch, applied);
        self.send(message).await;
        Ok(applied)
    }

    async fn commit(&self, writer: &Writer, eof: &Eof) -> Result<(), End> {
        let span = info_span!(target: "otel", "commit", count = eof.count);
        let (metrics, run_id) = (&self.shared.metrics, writer.token.run_id);
        metrics.commit_begins(run_id);
        let figures = self.shared.store.commit(writer, eof, self.shared.clock.now()).instrument(span).await;
        metrics.commit_ended(run_id, figures.as_ref().ok().map(|figures| (eof.complete, figures)));
        let figures = figures.map_err(|error| self.end(error))?;
        self.shared.changed();
        self.send(push_response::Message::Committed(committed(&figures, eof))).await;
        Ok(())
    }
}

fn received(message: Result<Option<PushRequest>, tonic::Status>) -> Result<Option<Incoming>, Problem> {
    match message {
        Ok(None) => Ok(None),
        Ok(Some(request)) => {
            let message = request.message.ok_or_else(|| Problem::violation("a message without content"))?;
            Incoming::try_from(message).map(Some)
        }
        // tonic says so of a message above its own limit.
        Err(status) if status.code() == Code::OutOfRange => Err(Problem::limit(status.message())),
        // The connection is gone; the agent opens another stream.
        Err(_) => Ok(None),
    }
}

/// A record that uses what its agent did not list.
fn refuse_unlisted(batch: &Batch, listed: Listed) -> Result<(), Problem> {
    match batch.records.iter().find(|record| !listed.memos && !record.memo.is_empty()) {
        None => Ok(()),
        Some(record) => Err(Problem::violation(format!(
            "record {}: memo is of capability `memos`, which the agent did not list in Hello.capabilities",
            record.seq
        ))),
    }
}

fn committed(figures: &Figures, eof: &Eof) -> v1::Committed {
    let deletions = match figures.deletions {
        Deletions::None => v1::Deletions::None,
        Deletions::Applied => v1::Deletions::Applied,
        Deletions::NeedsConfirmation => v1::Deletions::NeedsConfirmation,
    };
    v1::Committed {
        count: figures.count,
        digest: eof.digest.to_vec().into(),
        entities: figures.entities,
        columns: figures.columns,
        changed: figures.changed,
        unchanged: figures.unchanged,
        deleted: figures.deleted,
        deletions: deletions.into(),
        dangling_foreign_keys: figures.dangling_foreign_keys,
    }
}

#[cfg(test)]
mod tests;
