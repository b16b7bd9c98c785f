//! Which call is made next, and when none is.

use std::sync::Arc;

use tracing::{Instrument as _, Span, info_span};

use super::super::count;
use super::super::known::Known;
use super::Reading;
use super::jobs::{self, Batch, Done};
use crate::auth::Session;
use crate::tooling::ToolingCall;

/// The most objects between the first that is not emitted and the last that was asked for. Five queries for annotations
/// take some 300 objects of usual size, and the next five are collected while they are answered.
const WINDOW_OBJECTS: usize = 1_000;

/// So many fields in describes that are under way, in drafts that wait for their annotations, and in tables that wait for
/// their turn stop new describes: four calls for annotations, some 10 MiB.
const WINDOW_FIELDS: u64 = 40_000;

/// A call for annotations covers so many fields, a little less than its five queries of 2,000 rows.
const ROWS_AN_ANNOTATION: usize = 9_000;

/// A call for describes (25 objects of some 110 fields) brings a third of that.
const DESCRIBES_AN_ANNOTATION: usize = 3;

impl Reading {
    /// Fills the calls up. What is under way or waits to be emitted spans a bounded number of objects.
    pub(super) fn begin(&mut self, session: &Arc<Session>) {
        while self.end.is_none() && self.describes + self.annotations < self.concurrency.now() {
            if let Some(batch) = self.again.pop_front() {
                self.describe(batch, session);
            } else if let Some(call) = self.annotator.next_call(false) {
                self.annotate(call, session);
            } else if let Some(batch) = self.next_fresh() {
                self.describe(batch, session);
            } else if let Some(call) = self.rest_of_annotations() {
                self.annotate(call, session);
            } else {
                return;
            }
        }
    }

    /// The next range of objects that were never asked for; `None` at the end, and while too much waits to be emitted.
    fn next_fresh(&mut self) -> Option<Batch> {
        let end = self.shared.objects.len().min(self.fresh + self.size.now());
        if end == self.fresh
            || !self.is_affordable()
            || end > self.place.done + WINDOW_OBJECTS
            || self.parts.fields() + self.ready_columns + self.fields_under_way() >= WINDOW_FIELDS
        {
            return None;
        }
        let objects = self.fresh..end;
        self.fresh = end;
        for index in objects.clone() {
            if let Some(Some(known)) = self.known.get(index) {
                self.want_annotations(index, known.memo.fields);
            }
        }
        Some(Batch { objects, tries: 0 })
    }

    /// About how many fields the describes under way bring, by what the answered ones brought: an object that is not
    /// modified brings none.
    fn fields_under_way(&self) -> u64 {
        let objects = count(self.describes * self.size.now());
        objects.saturating_mul(self.answered_fields).checked_div(self.answered_objects).unwrap_or(0)
    }

    /// Whether a call for describes leaves enough of the quota for the annotations of everything that is described then:
    /// an attempt that ends at the quota should have emitted what it paid for.
    fn is_affordable(&self) -> bool {
        let for_describes = (self.describes + 1).div_ceil(DESCRIBES_AN_ANNOTATION);
        let for_waiting = self.annotator.waiting_rows().div_ceil(ROWS_AN_ANNOTATION);
        // Those under way may not have been counted yet.
        let needed = self.describes + self.annotations + for_describes + for_waiting;
        self.quota.permitted().is_none_or(|permitted| permitted > count(needed))
    }

    /// A call that is not full, when nothing comes that would fill it.
    fn rest_of_annotations(&mut self) -> Option<ToolingCall> {
        let is_end = self.fresh == self.shared.objects.len() || !self.is_affordable();
        let nothing_comes = self.describes == 0 && (is_end || self.annotations == 0);
        if nothing_comes { self.annotator.next_call(true) } else { None }
    }

    pub(super) fn want_annotations(&mut self, index: usize, fields: u32) {
        if let Some(wanted @ false) = self.annotated.get_mut(index) {
            *wanted = true;
            self.annotator.add(index, usize::try_from(fields).unwrap_or(usize::MAX));
        }
    }

    fn describe(&mut self, batch: Batch, session: &Arc<Session>) {
        self.describes += 1;
        let stamp = |known: &Option<Known>| known.as_ref().map(|known| known.memo.stamp.clone());
        let stamps = self.known.get(batch.objects.clone()).unwrap_or_default().iter().map(stamp).collect();
        let job = jobs::describe(Arc::clone(&self.shared), Arc::clone(session), batch, stamps);
        self.spawn(job, info_span!(target: "otel", "describe"));
    }

    fn annotate(&mut self, call: ToolingCall, session: &Arc<Session>) {
        self.annotations += 1;
        self.spawn(jobs::annotate(Arc::clone(session), call), info_span!(target: "otel", "annotate"));
    }

    /// Logs of a job are logs of the run that it is for. Its calls are in the trace of that run by a span of the job's own: the
    /// current one may be for logs only, and a trace does not see through it.
    pub(super) fn spawn(&mut self, job: impl Future<Output = Done> + Send + 'static, traced: Span) {
        self.jobs.spawn(job.in_current_span().instrument(traced));
    }
}
