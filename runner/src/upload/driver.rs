//! Puts the window on a stream.

use std::sync::Arc;

use bytes::Bytes;
use hybrid_runner_connector::Entity;
use hybrid_runner_proto::v1;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use v1::push_response::Message as Response;

use super::stream::{ANSWER, Answer, Attempts, Broken, Opened, fenced_by, open, open_anew, parse, violation};
use super::window::{Record, Window, held_bytes};
use super::wire::{batch_message, eof_message};
use super::{Emission, Progressed, REREADS, Receipt, Target, Upload, UploadError};

pub(super) async fn run(upload: &mut Upload) -> Result<Progressed, UploadError> {
    let mut attempts = Attempts::new();
    loop {
        let before = upload.window.base();
        let broken = match upload.stream_once().await {
            Ok(progressed) => return Ok(progressed),
            Err(Broken::Run(error)) => return Err(error),
            Err(broken) => broken,
        };
        if upload.window.base() > before {
            attempts.progressed();
        }
        attempts.failed(&broken).await?;
        upload.target.progress.counts().reopened();
        if let Some(receipt) = upload.reopen(&mut attempts).await? {
            return Ok(Progressed::Committed(Box::new(receipt)));
        }
    }
}

/// See [`Upload::go_back`].
pub(super) async fn go_back(upload: &mut Upload, needed: Vec<String>) -> Result<(), UploadError> {
    let fqn = needed.first().cloned().unwrap_or_default();
    if upload.rereads == REREADS {
        return Err(UploadError::Rereads { rereads: REREADS, fqn });
    }
    upload.rereads += 1;
    warn!(records = needed.len(), first = fqn, "what is committed has changed, the source reads again");
    upload.unconditional.extend(needed);
    let (stream, opened, mut baseline) = open_anew(&upload.target, &mut Attempts::new()).await?;
    upload.take_up(&opened)?;
    upload.stream = stream;
    upload.repeated = upload.window.go_back_to_durable();
    upload.unconditional.iter().for_each(|fqn| drop(baseline.0.remove(fqn)));
    upload.baseline = Arc::new(baseline);
    upload.pending.clear();
    upload.report = None;
    Ok(())
}

/// What an upload waits for, next.
enum Input {
    Message(Result<Response, Broken>),
    /// There is something to send, and the network has room; false: the stream is over.
    Room(bool),
    Emission(Option<Emission>),
    Silence,
}

impl Upload {
    /// Moves records over the current stream until it is over, one way or the other.
    async fn stream_once(&mut self) -> Result<Progressed, Broken> {
        let mut eof_sent = false;
        let mut heard = Instant::now();
        loop {
            self.admit()?;
            self.target.progress.set_held(self.window.held());
            // Nothing more will join a batch when the source is done, or waits for room.
            let flush = self.report.is_some() || !self.pending.is_empty();
            let wants_to_send = self.window.has_batch(flush) || (self.is_done() && !eof_sent);
            let waits = self.window.is_waiting() || eof_sent;
            // Acks first: they are what the window, and so everything else, waits for.
            let input = tokio::select! {
                biased;
                message = self.stream.responses.message() => Input::Message(parse(message)),
                permit = self.stream.requests.reserve(), if wants_to_send => Input::Room(permit.is_ok()),
                emission = self.emissions.recv(), if self.pending.is_empty() && self.report.is_none() => {
                    Input::Emission(emission)
                }
                () = sleep_until(heard + ANSWER), if waits => Input::Silence,
            };
            match input {
                Input::Message(message) => {
                    heard = Instant::now();
                    match hear(&mut self.window, &self.target, message?)? {
                        Heard::Handled => {}
                        Heard::Committed(committed) => {
                            return Ok(Progressed::Committed(self.receipt(&committed)?.into()));
                        }
                        Heard::BodiesNeeded(fqns) => return Ok(Progressed::BodiesNeeded(fqns)),
                    }
                }
                // The status that ended the stream comes with the next message.
                Input::Room(false) => return Err(self.stream.next().await.err().unwrap_or(Broken::Closed)),
                Input::Room(true) => {
                    if self.target.lease.is_past() {
                        return Err(UploadError::LeaseOver.into());
                    }
                    if !self.window.is_waiting() {
                        heard = Instant::now();
                    }
                    let message = match self.window.next_batch() {
                        Some(batch) => {
                            self.target.progress.counts().sent(batch.records.iter().map(Record::wire_bytes).sum());
                            batch_message(&self.target, batch, self.stream.memos)
                        }
                        None => {
                            eof_sent = true;
                            eof_message(&self.target, &self.window, self.report.as_deref())
                        }
                    };
                    // Nobody else sends, so that the room is still there; a stream that ended meanwhile says so itself.
                    drop(self.stream.requests.try_send(v1::PushRequest { message: Some(message) }));
                }
                Input::Emission(Some(Emission::Entities(entities, checkpoint))) => {
                    self.pending = entities.into();
                    self.pending.retain(|entity| !self.repeated.remove(&entity.fqn));
                    self.position = checkpoint.0;
                }
                Input::Emission(Some(Emission::End(report))) => self.report = Some(report),
                // The source failed; whoever runs it knows why and is about to drop this.
                Input::Emission(None) => return Err(UploadError::AgentGone.into()),
                Input::Silence => return Err(Broken::Silent),
            }
        }
    }

    /// Everything was emitted and is durable.
    fn is_done(&self) -> bool {
        self.report.is_some() && self.pending.is_empty() && self.window.is_empty()
    }

    /// Moves what the source emitted into the window, as far as there is room.
    fn admit(&mut self) -> Result<(), UploadError> {
        while let Some(entity) = self.pending.front() {
            if !self.window.has_room(held_bytes(entity.kind, &entity.fqn, entity.body(), &entity.memo)) {
                break;
            }
            let Some(entity) = self.pending.pop_front() else { break };
            let is_unchanged = self.is_committed(&entity);
            let body = entity.body().cloned();
            if body.is_none() && !is_unchanged {
                return Err(UploadError::NotCommitted { fqn: entity.fqn });
            }
            let position = self.pending.is_empty().then(|| self.position.clone());
            let content_hash = entity.content_hash();
            let memo = memo_of(&entity);
            self.window.push(
                Record { seq: 0, kind: entity.kind, fqn: entity.fqn, content_hash, body, memo, is_unchanged },
                position.filter(|position| !position.is_empty()),
            );
        }
        Ok(())
    }

    /// Whether the baseline has the entity with this content, and may be relied upon.
    fn is_committed(&self, entity: &Entity) -> bool {
        let committed = self.baseline.0.get(&entity.fqn).filter(|_| !self.target.full);
        committed.is_some_and(|old| old.kind == entity.kind && old.content_hash == entity.content_hash())
    }

    /// Opens the next stream. A receipt: the run was committed on the last one.
    async fn reopen(&mut self, attempts: &mut Attempts) -> Result<Option<Receipt>, UploadError> {
        let (stream, answer) = open(&self.target, attempts).await?;
        match answer {
            Answer::Committed(committed) if self.is_done() => return self.receipt(&committed).map(Some),
            Answer::Committed(_) => return Err(violation("Committed before Eof")),
            Answer::Opened(opened) => self.take_up(&opened)?,
        }
        self.stream = stream;
        Ok(None)
    }

    /// Goes on where a new stream says.
    fn take_up(&mut self, opened: &Opened) -> Result<(), UploadError> {
        debug!(next_seq = opened.next_seq, "upload opened again");
        self.window.set_limit(opened.limit);
        let reopened = self.window.reopen(opened.next_seq, opened.digest);
        reopened.map_err(|error| UploadError::CannotGoOn(error.to_string()))?;
        self.target.progress.set_acked(self.window.base());
        Ok(())
    }

    fn receipt(&mut self, committed: &v1::Committed) -> Result<Receipt, UploadError> {
        let Some(report) = self.report.take() else { return Err(violation("Committed before Eof")) };
        if committed.count != self.window.end() || committed.digest.as_ref() != self.window.digest().0 {
            return Err(violation("Committed has another count or digest than Eof"));
        }
        Ok(Receipt {
            report: *report,
            sent: self.window.bodies(),
            entities: committed.entities,
            columns: committed.columns,
            unchanged: committed.unchanged,
            deleted: committed.deleted,
            deletions: match committed.deletions() {
                v1::Deletions::Unspecified | v1::Deletions::None => "none",
                v1::Deletions::Applied => "applied",
                v1::Deletions::NeedsConfirmation => "needs_confirmation",
            },
            dangling_foreign_keys: committed.dangling_foreign_keys,
        })
    }
}

/// The memo that travels with an entity.
fn memo_of(entity: &Entity) -> Bytes {
    let bytes = entity.memo.len();
    if bytes > Entity::MAX_MEMO {
        warn!(fqn = entity.fqn, bytes, "a fault of the connector: its memo is above 512 bytes and is left out");
        return Bytes::new();
    }
    entity.memo.clone()
}

/// What a message of an open stream means.
enum Heard {
    Handled,
    /// Its last message.
    Committed(v1::Committed),
    /// The window does not have these bodies.
    BodiesNeeded(Vec<String>),
}

fn hear(window: &mut Window, target: &Target, message: Response) -> Result<Heard, UploadError> {
    match message {
        Response::Ack(ack) => {
            let before = window.base();
            window.ack(ack.next_seq).map_err(|error| UploadError::Violation(error.to_string()))?;
            target.progress.counts().acked(window.base() - before);
            target.progress.set_acked(window.base());
        }
        Response::BodyNeeded(needed) => {
            debug!(records = needed.seqs.len(), "bodies needed, sending again");
            let missing = window.body_needed(&needed.seqs);
            let missing = missing.map_err(|error| UploadError::Violation(error.to_string()))?;
            if !missing.is_empty() {
                return Ok(Heard::BodiesNeeded(missing));
            }
        }
        Response::Committed(committed) => return Ok(Heard::Committed(committed)),
        Response::Fenced(fenced) => return Err(fenced_by(&fenced)),
        // The pages that follow a second `Opened`: the source has the first ones.
        Response::Baseline(_) => {}
        Response::Opened(_) => return Err(violation("a second Opened")),
    }
    Ok(Heard::Handled)
}
