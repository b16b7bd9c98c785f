//! Reading all objects in scope: many calls in flight, tables emitted in order.
//!
//! ```text
//!           ┌▶ describe, 25 a call ──▶ draft, or "not modified" ─┐
//! objects ──┤                                                    ├─▶ finish ─▶ ready ─▶ emit, in the listing's order
//!           └▶ annotations, 5 queries a call ────────────────────┘
//! ```
//!
//! Objects are numbered in the listing's order. A batch is a range of numbers; what becomes of each object waits in
//! `parts` until describe and annotations are there, and in `ready` until all before it are. A range that was too much,
//! or whose session expired, goes back to `again` (before anything new); an object that may be read later goes back
//! alone, and one that is not modified but annotated otherwise than before goes back without its condition.

mod jobs;
mod parts;
mod schedule;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use hybrid_runner_connector::{Content, Entity, EntitySink, Expected, Failure, Progress, Reason, SourceError};
use hybrid_runner_openmetadata::entity::Kind;
use tokio::task::JoinSet;
use tracing::{Span, debug};

use self::jobs::{Batch, Done};
use self::parts::{Described, Finished, Parts, Unfinished};
use super::checkpoint::Place;
use super::concurrency::Concurrency;
use super::known::Known;
use super::{closed, count};
use crate::annotations::{Annotations, Vocabulary};
use crate::auth::{Access, Session};
use crate::composite::{BatchSize, MAX_PARTS, ObjectFailure, ObjectOutcome, Outcome};
use crate::config::ApiVersion;
use crate::http::CallError;
use crate::listing::ListedObject;
use crate::map::Mapper;
use crate::quota::Quota;
use crate::tooling::{Annotator, ToolingCall, ToolingOutcome};

/// So many calls in a row without one useful answer end the run: it is not an object that is at fault then. Finding one
/// object of 25 takes five, and its neighbours answer in between.
const MAX_USELESS: u32 = 12;

/// How often an object whose call gets no useful answer is asked for alone.
const TRIES_ALONE: u32 = 2;

/// Drafts are finished of so many objects from the one that is next: enough for every core, and no more, because a table
/// is larger than its draft.
const FINISHED_AHEAD: usize = 50;

/// Drafts that are finished by one job: some milliseconds of work.
const FINISHED_TOGETHER: usize = 16;

/// What all calls of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Of describes.
    pub(super) version: ApiVersion,
    pub(super) mapper: Mapper,
    /// In scope, in the listing's order.
    pub(super) objects: Vec<ListedObject>,
    /// See [`super::known::context`].
    pub(super) context: [u8; 16],
    /// In days since 1970, by Salesforce's clock.
    pub(super) today: Option<u32>,
}

/// What annotations become.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) vocabulary: Vocabulary,
    /// See [`Mapper::digest`].
    pub(super) digest: [u8; 16],
}

/// What reading came to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) objects: u64,
    pub(super) columns: u64,
    pub(super) keys: u64,
    pub(super) failures: Vec<Failure>,
}

/// The work of a run.
pub(super) struct Reading {
    shared: Arc<Shared>,
    quota: Arc<Quota>,
    /// By number; `None` for what is to be read without condition.
    known: Vec<Option<Known>>,
    annotator: Annotator,
    /// By number: whether the annotator was told of it.
    annotated: Vec<bool>,
    /// `None` until the vocabulary is known.
    mapping: Option<Arc<Mapping>>,
    jobs: JoinSet<Done>,
    describes: usize,
    annotations: usize,
    concurrency: Concurrency,
    size: BatchSize,
    /// The first object that no batch was made for yet.
    fresh: usize,
    again: VecDeque<Batch>,
    parts: Parts,
    /// By number: what is known and not emitted.
    ready: BTreeMap<usize, Result<Finished, ObjectFailure>>,
    /// Columns in the bodies of `ready`.
    ready_columns: u64,
    /// Objects that were described or are not modified, and the fields in their drafts.
    answered_objects: u64,
    answered_fields: u64,
    useless: u32,
    /// Why no call is made any more. Those under way are waited for, because they were paid for.
    end: Option<SourceError>,
    place: Place,
    tally: Tally,
}

impl Reading {
    /// The work that is left behind a place, with at most so many calls at a time.
    pub(super) fn new(
        shared: Shared,
        known: Vec<Option<Known>>,
        annotator: Annotator,
        place: Place,
        most: usize,
        quota: Arc<Quota>,
    ) -> Self {
        let tally = Tally { objects: count(shared.objects.len()), ..Tally::default() };
        Self {
            annotated: vec![false; shared.objects.len()],
            shared: Arc::new(shared),
            quota,
            known,
            annotator,
            mapping: None,
            jobs: JoinSet::new(),
            describes: 0,
            annotations: 0,
            concurrency: Concurrency::new(most),
            size: BatchSize::new(),
            fresh: place.done,
            again: VecDeque::new(),
            parts: Parts::default(),
            ready: BTreeMap::new(),
            ready_columns: 0,
            answered_objects: 0,
            answered_fields: 0,
            useless: 0,
            end: None,
            place,
            tally,
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
    ) -> Result<Tally, SourceError> {
        self.recall(progress);
        loop {
            self.collect(progress);
            while self.emit(sink).await? {
                self.collect(progress);
            }
            self.begin(access.session());
            let Some(joined) = self.jobs.join_next().await else { break };
            let done = joined.map_err(|panicked| {
                SourceError::caused(
                    Reason::SourceProtocol,
                    "reading objects ended unexpectedly; please report it",
                    panicked,
                )
            })?;
            self.conclude(done, access, progress, sink).await?;
        }
        self.annotator.closing().into_iter().for_each(|notice| sink.notice(notice));
        match self.end {
            Some(error) => Err(error),
            None if self.is_done() => Ok(self.tally),
            None => Err(CallError::from(self.quota.bound()).into_source_error()),
        }
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

    /// Draws the conclusions from a job.
    async fn conclude(
        &mut self,
        done: Done,
        access: &mut Access<'_>,
        progress: &Progress,
        sink: &mut dyn EntitySink,
    ) -> Result<(), SourceError> {
        match done {
            Done::Described { batch, session, outcome } => {
                self.describes -= 1;
                self.concurrency.answered(self.quota.pressure());
                self.conclude_describes(batch, &session, outcome, access, progress).await
            }
            Done::Annotated { call, session, outcome } => {
                self.annotations -= 1;
                self.concurrency.answered(self.quota.pressure());
                self.conclude_annotations(call, &session, outcome, access, sink).await
            }
            Done::Finished(finished) => {
                for (index, table) in finished {
                    self.settle(index, table, progress);
                }
                Ok(())
            }
        }
    }

    async fn conclude_describes(
        &mut self,
        batch: Batch,
        session: &Arc<Session>,
        outcome: Outcome,
        access: &mut Access<'_>,
        progress: &Progress,
    ) -> Result<(), SourceError> {
        match outcome {
            Outcome::Objects { outcomes, took } => {
                access.accepted(session);
                self.size.answered(batch.objects.len(), took);
                self.useless = 0;
                for (index, outcome) in batch.objects.clone().zip(outcomes) {
                    self.described(index, outcome, batch.tries, progress);
                }
            }
            Outcome::Session(error) => {
                access.renew(session, error).await?;
                self.again.push_back(batch);
            }
            Outcome::Smaller(error) => self.split(&batch, error, progress)?,
            Outcome::Failed(error) => self.fail(error.into_source_error())?,
        }
        Ok(())
    }

    /// The run cannot go on. At a bound of the quota what was paid for is still taken.
    fn fail(&mut self, error: SourceError) -> Result<(), SourceError> {
        if error.reason != Reason::SourceThrottled {
            return Err(error);
        }
        self.end.get_or_insert(error);
        Ok(())
    }

    /// Takes the outcome of an object that was asked for `tries` times before.
    fn described(&mut self, index: usize, outcome: ObjectOutcome, tries: u32, progress: &Progress) {
        let failure = match outcome {
            // Its annotations cannot be read: the describe is of no use.
            _ if self.is_settled(index) => return,
            ObjectOutcome::Drafted { draft, stamp } => {
                self.answered_objects += 1;
                self.answered_fields += count(draft.fields());
                self.want_annotations(index, u32::try_from(draft.fields()).unwrap_or(u32::MAX));
                return self.parts.describe(index, Described::Drafted { draft, stamp });
            }
            ObjectOutcome::NotModified => {
                self.answered_objects += 1;
                return self.parts.describe(index, Described::NotModified);
            }
            ObjectOutcome::Again { failure, tries: most } if tries + 1 < most => {
                debug!(object = index, reason = %failure.reason, "asking for the object again, alone");
                self.again.push_back(Batch { objects: index..index + 1, tries: tries + 1 });
                return;
            }
            ObjectOutcome::Again { failure, .. } | ObjectOutcome::Failed(failure) => failure,
        };
        self.settle(index, Err(failure), progress);
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
            self.described(start, ObjectOutcome::Again { failure, tries: TRIES_ALONE }, batch.tries, progress);
        } else {
            let middle = start.midpoint(end);
            for objects in [start..middle, middle..end] {
                self.again.push_back(Batch { objects, tries: 0 });
            }
        }
        Ok(())
    }

    async fn conclude_annotations(
        &mut self,
        call: ToolingCall,
        session: &Arc<Session>,
        outcome: ToolingOutcome,
        access: &mut Access<'_>,
        sink: &mut dyn EntitySink,
    ) -> Result<(), SourceError> {
        match outcome {
            ToolingOutcome::Session(error) => {
                access.renew(session, error).await?;
                self.annotator.put_back(call);
            }
            outcome => {
                access.accepted(session);
                match self.annotator.settle(call, outcome) {
                    Ok(notices) => notices.into_iter().for_each(|notice| sink.notice(notice)),
                    Err(error) => self.fail(error)?,
                }
            }
        }
        Ok(())
    }

    /// Brings together what is there of each object.
    fn collect(&mut self, progress: &Progress) {
        let Some(mapping) = self.mapping.clone().or_else(|| self.mapping()) else { return };
        if self.mapping.is_none() {
            self.tell_what_is_expected(&mapping, progress);
        }
        for (index, annotations) in self.annotator.take_known() {
            match annotations {
                _ if self.is_settled(index) => {}
                Ok(annotations) => self.parts.annotate(index, annotations),
                Err(failure) => self.settle(index, Err(failure), progress),
            }
        }
        let before = self.place.done + FINISHED_AHEAD;
        let mut unfinished = Vec::new();
        while let Some((index, described, annotations)) = self.parts.take_joined(before) {
            match described {
                Described::Drafted { draft, stamp } => {
                    unfinished.push(Unfinished { index, draft, stamp, annotations });
                }
                Described::NotModified => self.keep_or_read_again(index, annotations, mapping.digest, progress),
            }
        }
        while !unfinished.is_empty() {
            let rest = unfinished.split_off(unfinished.len().min(FINISHED_TOGETHER));
            let drafts = std::mem::replace(&mut unfinished, rest);
            self.spawn(jobs::finish(Arc::clone(&self.shared), Arc::clone(&mapping), drafts), Span::none());
        }
        self.mapping = Some(mapping);
    }

    fn tell_what_is_expected(&self, mapping: &Mapping, progress: &Progress) {
        // What cannot be made is told where it is emitted.
        let Ok(parents) = self.shared.mapper.parents(&mapping.vocabulary) else { return };
        let parents = parents.iter().map(|parent| Expected { kind: parent.kind, entities: 1 });
        progress.expect(parents.collect(), Kind::Table.as_str());
    }

    fn mapping(&self) -> Option<Arc<Mapping>> {
        let vocabulary = self.annotator.vocabulary()?.clone();
        let digest = self.shared.mapper.digest(&vocabulary);
        Some(Arc::new(Mapping { vocabulary, digest }))
    }

    /// A table whose describe is what it was is what it was, if its annotations are.
    fn keep_or_read_again(&mut self, index: usize, annotations: Annotations, mapping: [u8; 16], progress: &Progress) {
        let Some((object, slot)) = self.shared.objects.get(index).zip(self.known.get_mut(index)) else { return };
        // Once: what is read without condition is never "not modified".
        let Some(known) = slot.take() else { return };
        if known.memo.annotations == parts::digest(&annotations, mapping) {
            let entity = Entity {
                kind: Kind::Table.as_str(),
                fqn: self.shared.mapper.naming().table_fqn(&object.name),
                content: Content::Unchanged(known.content_hash),
                memo: known.memo.to_bytes(),
            };
            let (columns, keys) = (known.memo.columns.into(), known.memo.keys.into());
            self.settle(index, Ok(Finished { entity, columns, keys }), progress);
        } else {
            self.parts.annotate(index, annotations);
            self.again.push_back(Batch { objects: index..index + 1, tries: 0 });
        }
    }

    /// Whether everything is emitted.
    fn is_done(&self) -> bool {
        self.place.has_begun() && self.place.done == self.shared.objects.len()
    }

    fn is_settled(&self, index: usize) -> bool {
        index < self.place.done || self.ready.contains_key(&index)
    }

    fn settle(&mut self, index: usize, table: Result<Finished, ObjectFailure>, progress: &Progress) {
        self.parts.forget(index);
        match &table {
            Ok(finished) => {
                progress.add_done(1);
                self.ready_columns += finished.held_columns();
            }
            Err(_) => progress.add_failed(1),
        }
        self.ready.insert(index, table);
    }

    /// Emits what is known of the objects that are next, at most as many as a call describes, each table with its own
    /// checkpoint: whatever part of them becomes durable, another attempt can begin behind it. Before the first of them,
    /// what tables refer to. False when there is nothing.
    async fn emit(&mut self, sink: &mut dyn EntitySink) -> Result<bool, SourceError> {
        let Some(mapping) = self.mapping.as_ref().filter(|_| !self.is_done()) else { return Ok(false) };
        if self.place.meet(mapping.digest)? {
            let parents = self.shared.mapper.parents(&mapping.vocabulary);
            let parents = parents.map_err(|error| SourceError::new(error.reason(), error.to_string()))?;
            sink.emit(parents, self.place.checkpoint()).await.map_err(closed)?;
        }
        let before = self.place.done;
        while self.place.done < before + MAX_PARTS
            && let Some(table) = self.ready.remove(&self.place.done)
        {
            let index = self.place.done;
            self.place.done += 1;
            match table {
                Ok(finished) => {
                    self.ready_columns -= finished.held_columns();
                    self.tally.columns += finished.columns;
                    self.tally.keys += finished.keys;
                    sink.emit(vec![finished.entity], self.place.checkpoint()).await.map_err(closed)?;
                }
                // It needs no checkpoint of its own: without one the object is asked for again.
                Err(failure) => {
                    self.place.failed.push((index, failure.reason));
                    self.report(index, failure);
                }
            }
        }
        Ok(self.place.done > before)
    }

    fn report(&mut self, index: usize, failure: ObjectFailure) {
        if let Some(object) = self.shared.objects.get(index) {
            let fqn = self.shared.mapper.naming().table_fqn(&object.name);
            self.tally.failures.push(Failure { fqn, reason: failure.reason, detail: failure.detail });
        }
    }
}
