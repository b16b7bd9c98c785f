//! Puts the window on a stream.

use std::sync::Arc;

use bytes::Bytes;
use hybrid_runner_connector::Entity;
use hybrid_runner_proto::v1;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use v1::push_response::Message as Response;

use super::stream::{ANSWER, Answer, Attempts, Broken, MOVED, Opened, fenced_by, open, open_anew, parse, violation};
use super::window::{Batch, Record, ReopenError, Window};
use super::wire::{batch_message, eof_message};
use super::{Behind, Emission, Emitted, Progressed, REREADS, Receipt, Target, Upload, UploadError, held_bytes};

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
        if let Some(progressed) = upload.reopen(&mut attempts).await? {
            return Ok(progressed);
        }
    }
}

/// See [`Upload::go_back`].
pub(super) async fn go_back(upload: &mut Upload, behind: Behind) -> Result<(), UploadError> {
    if upload.rereads == REREADS {
        return Err(UploadError::Rereads(behind));
    }
    upload.rereads += 1;
    warn!(reason = %behind, "the source reads again from what is durable");
    if let Behind::BodiesNeeded(fqns) = behind {
        upload.unconditional.extend(fqns);
    }
    let (stream, opened, mut baseline) = open_anew(&upload.target, &mut Attempts::new()).await?;
    match upload.window.reopen(opened.next_seq, opened.digest) {
        Ok(()) | Err(ReopenError::NotHeld { .. }) => {}
        Err(error @ ReopenError::Digest { .. }) => return Err(UploadError::CannotGoOn(error.to_string())),
    }
    upload.restart(&opened)?;
    upload.stream = stream;
    upload.unconditional.iter().for_each(|fqn| drop(baseline.0.remove(fqn)));
    upload.baseline = Arc::new(baseline);
    Ok(())
}

/// What an upload waits for, next.
enum Input {
    Message(Result<Response, Broken>),
    /// There is something to send, and the network has room; false: the stream is over.
    Room(bool),
    Emission(Option<Emission>),
    /// The session that this stream's connection was made for is over, or another one began.
    Link,
    Silence,
}

impl Upload {
    /// Moves records over the current stream until it is over, one way or the other.
    async fn stream_once(&mut self) -> Result<Progressed, Broken> {
        let mut eof_sent = false;
        let mut heard = Instant::now();
        loop {
            self.admit()?;
            // Nothing more will join a batch when the source is done, or waits for room.
            let flush = self.report.is_some() || self.pending.is_some();
            let wants_to_send = self.window.has_batch(flush) || (self.is_done() && !eof_sent);
            let waits = self.window.is_waiting() || eof_sent;
            let patience = if self.stream.is_superseded { MOVED } else { ANSWER };
            // Acks first: they are what the window, and so everything else, waits for. Then what the source has ready, so
            // that it travels together; the queue is finite, so that sending comes.
            let input = tokio::select! {
                biased;
                message = self.stream.responses.message() => Input::Message(parse(message)),
                emission = self.emissions.recv(), if self.pending.is_none() && self.report.is_none() => {
                    Input::Emission(emission)
                }
                permit = self.stream.requests.reserve(), if wants_to_send => Input::Room(permit.is_ok()),
                Ok(()) = self.stream.link.changed(), if !self.stream.is_superseded => Input::Link,
                () = sleep_until(heard + patience), if waits => Input::Silence,
            };
            match input {
                Input::Message(message) => {
                    heard = Instant::now();
                    match hear(&mut self.window, &self.target, message?)? {
                        Heard::Handled => {}
                        Heard::Committed(committed) => {
                            return Ok(Progressed::Committed(self.receipt(&committed)?.into()));
                        }
                        Heard::BodiesNeeded(fqns) => return Ok(Progressed::Behind(Behind::BodiesNeeded(fqns))),
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
                        Some(batch) => self.packed(batch),
                        None => {
                            eof_sent = true;
                            eof_message(&self.target, &self.window, self.report.as_deref())
                        }
                    };
                    // Nobody else sends, so that the room is still there; a stream that ended meanwhile says so itself.
                    drop(self.stream.requests.try_send(v1::PushRequest { message: Some(message) }));
                }
                Input::Emission(Some(Emission::Entities(emitted))) => self.pending = Some(emitted),
                Input::Emission(Some(Emission::End(report))) => self.report = Some(report),
                // The source failed; whoever runs it knows why and is about to drop this.
                Input::Emission(None) => return Err(UploadError::AgentGone.into()),
                Input::Link => {
                    self.stream.is_superseded = self.stream.link.borrow_and_update().is_some();
                    heard = Instant::now();
                }
                Input::Silence => return Err(Broken::Silent),
            }
        }
    }

    fn packed(&self, batch: Batch) -> v1::push_request::Message {
        self.target.progress.counts().sent(batch.records.iter().map(Record::wire_bytes).sum());
        batch_message(&self.target, batch, self.stream.memos)
    }

    /// Everything was emitted and is durable.
    fn is_done(&self) -> bool {
        self.report.is_some() && self.pending.is_none() && self.window.is_empty()
    }

    /// Moves what the source emitted into the window, if there is room.
    fn admit(&mut self) -> Result<(), UploadError> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        if !self.window.has_room(pending.entities.iter().map(held_bytes).sum()) {
            self.pending = Some(pending);
            return Ok(());
        }
        let Emitted { entities, checkpoint, .. } = pending;
        let records = entities.into_iter().map(|entity| self.record(entity)).collect::<Result<_, _>>()?;
        self.window.push(records, &checkpoint.0);
        self.target.progress.set_held(self.window.held());
        Ok(())
    }

    fn record(&self, entity: Entity) -> Result<Record, UploadError> {
        let is_unchanged = self.is_committed(&entity);
        let body = entity.body().cloned();
        if body.is_none() && !is_unchanged {
            return Err(UploadError::NotCommitted { fqn: entity.fqn });
        }
        let (content_hash, memo) = (entity.content_hash(), memo_of(&entity));
        Ok(Record { seq: 0, kind: entity.kind, fqn: entity.fqn, content_hash, body, memo, is_unchanged })
    }

    /// Whether the baseline has the entity with this content, and may be relied upon.
    fn is_committed(&self, entity: &Entity) -> bool {
        let committed = self.baseline.0.get(&entity.fqn).filter(|_| !self.target.full);
        committed.is_some_and(|old| old.kind == entity.kind && old.content_hash == entity.content_hash())
    }

    /// Opens the next stream. How the upload got on, if it does not go on there.
    async fn reopen(&mut self, attempts: &mut Attempts) -> Result<Option<Progressed>, UploadError> {
        let (stream, answer) = open(&self.target, attempts).await?;
        let opened = match answer {
            Answer::Committed(committed) if self.is_done() => {
                return self.receipt(&committed).map(|receipt| Some(Progressed::Committed(receipt.into())));
            }
            Answer::Committed(_) => return Err(violation("Committed before Eof")),
            Answer::Opened(opened) => opened,
        };
        debug!(next_seq = opened.next_seq, "upload opened again");
        self.window.set_limit(opened.limit);
        match self.window.reopen(opened.next_seq, opened.digest) {
            Ok(()) => {}
            Err(ReopenError::NotHeld { next_seq, .. }) => {
                return Ok(Some(Progressed::Behind(Behind::Restored { next_seq })));
            }
            Err(error @ ReopenError::Digest { .. }) => return Err(UploadError::CannotGoOn(error.to_string())),
        }
        self.show();
        self.stream = stream;
        Ok(None)
    }

    /// The next reading begins where the control plane is.
    pub(super) fn restart(&mut self, opened: &Opened) -> Result<(), UploadError> {
        self.start = opened.start()?;
        self.window.set_limit(opened.limit);
        self.window.restart(opened.next_seq, opened.digest);
        self.pending = None;
        self.report = None;
        self.show();
        if opened.next_seq > 0 {
            info!(next_seq = opened.next_seq, "the run goes on from its checkpoint");
        }
        Ok(())
    }

    /// Shows whoever watches how far the upload is.
    fn show(&self) {
        self.target.progress.set_acked(self.window.base());
        self.target.progress.set_held(self.window.held());
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
            target.progress.set_held(window.held());
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
