//! Describes of all objects in scope: many calls in flight, tables emitted in order.
//!
//! Objects are numbered in the listing's order. A batch is a range of numbers; what becomes of each object waits in
//! `ready` until all before it are there. A range that was too much, or whose session expired, goes back to `again`
//! (before anything new); an object that may be read later goes back alone.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use hybrid_runner_connector::{EntitySink, Failure, Progress, Reason, SourceError};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::Instrument as _;
use tracing::debug;

use super::checkpoint::Place;
use super::{closed, count};
use crate::auth::{Access, Session};
use crate::composite::{self, BatchSize, MAX_PARTS, ObjectFailure, ObjectOutcome, Outcome};
use crate::config::ApiVersion;
use crate::http::{CallError, Retry};
use crate::listing::ListedObject;
use crate::map::{Mapped, Mapper};

/// So many calls in a row without one useful answer end the run: it is not an object that is at fault then. Finding one
/// object of 25 takes five, and its neighbours answer in between.
const MAX_USELESS: u32 = 12;

/// How often an object whose call gets no useful answer is asked for alone.
const TRIES_ALONE: u32 = 2;

/// What describing came to.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) objects: u64,
    pub(super) columns: u64,
    pub(super) keys: u64,
    pub(super) failures: Vec<Failure>,
}

/// A range of objects to ask for in one call.
#[derive(Debug, Clone)]
struct Batch {
    objects: Range<usize>,
    /// Calls that were made for it already; more than none only for an object alone.
    tries: u32,
}

/// What a task needs and what all tasks share.
struct Shared {
    version: ApiVersion,
    mapper: Mapper,
    objects: Vec<ListedObject>,
}

/// What a task gives back.
struct Done {
    batch: Batch,
    session: Arc<Session>,
    outcome: Outcome,
}

/// The work of a run.
pub(super) struct Describing {
    shared: Arc<Shared>,
    concurrency: usize,
    calls: JoinSet<Done>,
    size: BatchSize,
    /// The first object that no batch was made for yet.
    fresh: usize,
    again: VecDeque<Batch>,
    /// By number: what is known and not emitted.
    ready: BTreeMap<usize, Result<Mapped, ObjectFailure>>,
    useless: u32,
    place: Place,
    described: Described,
}

impl Describing {
    /// The work that is left behind a place.
    pub(super) fn new(
        version: ApiVersion,
        mapper: Mapper,
        objects: Vec<ListedObject>,
        place: Place,
        concurrency: usize,
    ) -> Self {
        let described = Described { objects: count(objects.len()), ..Described::default() };
        let shared = Arc::new(Shared { version, mapper, objects });
        Self {
            shared,
            concurrency,
            calls: JoinSet::new(),
            size: BatchSize::new(),
            fresh: place.done,
            again: VecDeque::new(),
            ready: BTreeMap::new(),
            useless: 0,
            place,
            described,
        }
    }

    /// Does it.
    ///
    /// # Cancel safety
    /// Dropping the future aborts all calls.
    pub(super) async fn run(
        mut self,
        access: &mut Access<'_>,
        progress: &Progress,
        sink: &mut dyn EntitySink,
    ) -> Result<Described, SourceError> {
        self.recall(progress);
        loop {
            self.begin_calls(access.session());
            let Some(joined) = self.calls.join_next().await else { break };
            let done = joined.map_err(|panicked| {
                SourceError::caused(
                    Reason::SourceProtocol,
                    "reading objects ended unexpectedly; please report it",
                    panicked,
                )
            })?;
            self.conclude(done, access, progress).await?;
            self.emit(sink).await?;
        }
        self.emit(sink).await?;
        Ok(self.described)
    }

    /// Reports what an earlier attempt of this run did.
    fn recall(&mut self, progress: &Progress) {
        progress.add_done(count(self.place.done - self.place.failed.len().min(self.place.done)));
        progress.add_failed(count(self.place.failed.len()));
        for (index, reason) in self.place.failed.clone() {
            self.report(
                index,
                ObjectFailure { reason, detail: "it failed in an earlier attempt of this run".to_owned() },
            );
        }
    }

    /// Fills the calls up. What is under way or waits to be emitted spans a bounded number of objects.
    fn begin_calls(&mut self, session: &Arc<Session>) {
        while self.calls.len() < self.concurrency {
            let Some(batch) = self.again.pop_front().or_else(|| self.next_fresh()) else { return };
            let (shared, session) = (Arc::clone(&self.shared), Arc::clone(session));
            let call = async move {
                if batch.tries > 0 {
                    sleep(Retry::READ.backoff(batch.tries, fastrand::f64())).await;
                }
                let objects = shared.objects.get(batch.objects.clone()).unwrap_or_default();
                let outcome = composite::describe(&session, shared.version, &shared.mapper, objects).await;
                Done { batch, session, outcome }
            };
            self.calls.spawn(call.in_current_span());
        }
    }

    /// The next range of objects that were never asked for; `None` at the end, and while too much waits to be emitted.
    fn next_fresh(&mut self) -> Option<Batch> {
        let end = self.shared.objects.len().min(self.fresh + self.size.now());
        let window = self.place.done + self.concurrency * MAX_PARTS;
        if end == self.fresh || end > window {
            return None;
        }
        let objects = self.fresh..end;
        self.fresh = end;
        Some(Batch { objects, tries: 0 })
    }

    /// Draws the conclusions from a call.
    async fn conclude(&mut self, done: Done, access: &mut Access<'_>, progress: &Progress) -> Result<(), SourceError> {
        let Done { batch, session, outcome } = done;
        match outcome {
            Outcome::Objects { outcomes, took } => {
                access.accepted(&session);
                self.size.answered(batch.objects.len(), took);
                self.useless = 0;
                for (index, outcome) in batch.objects.clone().zip(outcomes) {
                    self.settle(index, outcome, batch.tries, progress);
                }
            }
            Outcome::Session(error) => {
                access.renew(&session, error).await?;
                self.again.push_back(batch);
            }
            Outcome::Smaller(error) => self.split(&batch, error, progress)?,
            Outcome::Failed(error) => return Err(error.into_source_error()),
        }
        Ok(())
    }

    /// Takes the outcome of an object that was asked for `tries` times before.
    fn settle(&mut self, index: usize, outcome: ObjectOutcome, tries: u32, progress: &Progress) {
        let known = match outcome {
            ObjectOutcome::Table(mapped) => Ok(mapped),
            ObjectOutcome::Failed(failure) => Err(failure),
            ObjectOutcome::Again { failure, tries: most } if tries + 1 < most => {
                debug!(object = index, reason = %failure.reason, "asking for the object again, alone");
                self.again.push_back(Batch { objects: index..index + 1, tries: tries + 1 });
                return;
            }
            ObjectOutcome::Again { failure, .. } => Err(failure),
        };
        match &known {
            Ok(_) => progress.add_done(1),
            Err(_) => progress.add_failed(1),
        }
        self.ready.insert(index, known);
    }

    /// Halves a batch that got no useful answer, or gives its only object up.
    fn split(&mut self, batch: &Batch, error: CallError, progress: &Progress) -> Result<(), SourceError> {
        let Range { start, end } = batch.objects.clone();
        self.size.shrink(end - start);
        self.useless += 1;
        if self.useless == MAX_USELESS {
            return Err(error.into_source_error());
        }
        debug!(objects = end - start, %error, "no useful answer, asking for less");
        if end - start == 1 {
            let failure = ObjectFailure::of_call(&error);
            self.settle(start, ObjectOutcome::Again { failure, tries: TRIES_ALONE }, batch.tries, progress);
        } else {
            let middle = start.midpoint(end);
            for objects in [start..middle, middle..end] {
                self.again.push_back(Batch { objects, tries: 0 });
            }
        }
        Ok(())
    }

    /// Emits what is known of the objects that are next, a batch at a time.
    async fn emit(&mut self, sink: &mut dyn EntitySink) -> Result<(), SourceError> {
        loop {
            let mut tables = Vec::new();
            while tables.len() < MAX_PARTS
                && let Some(known) = self.ready.remove(&self.place.done)
            {
                match known {
                    Ok(mapped) => {
                        self.described.columns += mapped.columns;
                        self.described.keys += mapped.keys;
                        tables.push(mapped.entity);
                    }
                    Err(failure) => {
                        self.place.failed.push((self.place.done, failure.reason));
                        self.report(self.place.done, failure);
                    }
                }
                self.place.done += 1;
            }
            // A failure alone needs no checkpoint: without it the object is asked for again.
            if tables.is_empty() {
                return Ok(());
            }
            sink.emit(tables, self.place.checkpoint()).await.map_err(closed)?;
        }
    }

    fn report(&mut self, index: usize, failure: ObjectFailure) {
        if let Some(object) = self.shared.objects.get(index) {
            let fqn = self.shared.mapper.naming().table_fqn(&object.name);
            self.described.failures.push(Failure { fqn, reason: failure.reason, detail: failure.detail });
        }
    }
}
