//! Counters that a source moves and anyone may read: no queue, never behind, and no lock but around what is said once.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far a run is. Shared between the source, which counts, and whoever reports.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    objects_total: AtomicU64,
    objects_done: AtomicU64,
    objects_failed: AtomicU64,
    requests: AtomicU64,
    bytes_received: AtomicU64,
    repeated: AtomicU64,
    throttled: AtomicU64,
    /// One more than there are; 0 while it is not known.
    requests_left: AtomicU64,
    /// Empty while it is not known.
    expected: Mutex<Vec<Expected>>,
}

/// So many entities of a kind, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// As in [`crate::Entity::kind`].
    pub kind: &'static str,
    /// How many.
    pub entities: u64,
}

/// How far the entities of one kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindProgress {
    /// As in [`crate::Entity::kind`].
    pub kind: &'static str,
    /// Of this run, so far.
    pub done: u64,
    /// There will be so many.
    pub expected: u64,
}

/// The stages of a run, in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not begun.
    #[default]
    Waiting,
    /// Resolving secrets and logging in.
    Login,
    /// Reading what there is.
    List,
    /// Reading and mapping objects.
    Extract,
    /// All is read; waiting for the sink.
    Flush,
}

/// One look at a [`Progress`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// What the source is doing.
    pub stage: Stage,
    /// Objects in scope; 0 until the listing is known.
    pub objects_total: u64,
    /// Objects read and mapped.
    pub objects_done: u64,
    /// Objects that could not be read.
    pub objects_failed: u64,
    /// Requests made to the source.
    pub requests: u64,
    /// Bytes received from it, as on the wire.
    pub bytes_received: u64,
    /// Requests that were repeated after a failure.
    pub repeated: u64,
    /// Answers that asked for fewer requests.
    pub throttled: u64,
    /// Requests that the source still permits today; `None` while it has not said.
    pub requests_left: Option<u64>,
}

impl Progress {
    /// The source begins a stage.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    /// The listing is known.
    pub fn set_total(&self, objects: u64) {
        self.objects_total.store(objects, Relaxed);
    }

    /// Objects were read and mapped.
    pub fn add_done(&self, objects: u64) {
        self.objects_done.fetch_add(objects, Relaxed);
    }

    /// Objects could not be read.
    pub fn add_failed(&self, objects: u64) {
        self.objects_failed.fetch_add(objects, Relaxed);
    }

    /// A request was sent.
    pub fn add_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Bytes came, as on the wire.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes_received.fetch_add(bytes, Relaxed);
    }

    /// A request is repeated after a failure.
    pub fn add_repeated(&self) {
        self.repeated.fetch_add(1, Relaxed);
    }

    /// The source asked for fewer requests.
    pub fn add_throttled(&self) {
        self.throttled.fetch_add(1, Relaxed);
    }

    /// The source begins again in the same run: it counts its objects anew; what it cost so far stays.
    pub fn begin_again(&self) {
        self.objects_done.store(0, Relaxed);
        self.objects_failed.store(0, Relaxed);
    }

    /// The source says how many requests it still permits today.
    pub fn set_requests_left(&self, requests: u64) {
        self.requests_left.store(requests.saturating_add(1), Relaxed);
    }

    /// What a whole run emits, in this order: first these, which all others refer to, then of each object that can be read
    /// one of this kind.
    pub fn expect(&self, mut parents: Vec<Expected>, kind_of_objects: &'static str) {
        parents.push(Expected { kind: kind_of_objects, entities: self.objects_total.load(Relaxed) });
        *self.expected() = parents;
    }

    /// How far each kind is when the first so many entities of the run have arrived; empty while the source has not said
    /// what it emits.
    #[must_use]
    pub fn kinds(&self, arrived: u64) -> Vec<KindProgress> {
        let expected = self.expected();
        let mut left = arrived;
        let mut kinds: Vec<KindProgress> = Vec::new();
        for (index, Expected { kind, entities }) in expected.iter().enumerate() {
            let is_of_objects = index + 1 == expected.len();
            let failed = if is_of_objects { self.objects_failed.load(Relaxed) } else { 0 };
            let entities = entities.saturating_sub(failed);
            let done = left.min(entities);
            left -= done;
            match kinds.iter_mut().find(|progress| progress.kind == *kind) {
                Some(progress) => {
                    progress.done += done;
                    progress.expected += entities;
                }
                None => kinds.push(KindProgress { kind, done, expected: entities }),
            }
        }
        kinds
    }

    fn expected(&self) -> MutexGuard<'_, Vec<Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot {
            stage: match self.stage.load(Relaxed) {
                1 => Stage::Login,
                2 => Stage::List,
                3 => Stage::Extract,
                4 => Stage::Flush,
                _ => Stage::Waiting,
            },
            objects_total: self.objects_total.load(Relaxed),
            objects_done: self.objects_done.load(Relaxed),
            objects_failed: self.objects_failed.load(Relaxed),
            requests: self.requests.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            repeated: self.repeated.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
            requests_left: self.requests_left.load(Relaxed).checked_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(progress: &Progress, arrived: u64) -> Vec<(&'static str, u64, u64)> {
        progress.kinds(arrived).into_iter().map(|kind| (kind.kind, kind.done, kind.expected)).collect()
    }

    #[test]
    fn what_arrived_is_told_by_kind_in_the_order_in_which_it_is_emitted() {
        let progress = Progress::default();
        assert_eq!(shown(&progress, 5), [], "the source has not said what it emits");
        progress.set_total(10);
        let parents = [("service", 1), ("tag", 2), ("class", 1), ("tag", 1)];
        progress.expect(parents.map(|(kind, entities)| Expected { kind, entities }).to_vec(), "table");
        let all = |service, tag, class, table| {
            vec![("service", service, 1), ("tag", tag, 3), ("class", class, 1), ("table", table, 10)]
        };
        assert_eq!(shown(&progress, 0), all(0, 0, 0, 0));
        assert_eq!(shown(&progress, 2), all(1, 1, 0, 0));
        assert_eq!(shown(&progress, 4), all(1, 2, 1, 0));
        assert_eq!(shown(&progress, 15), all(1, 3, 1, 10));
        assert_eq!(shown(&progress, 99), all(1, 3, 1, 10), "there are never more than there will be");
    }

    #[test]
    fn an_object_that_cannot_be_read_is_not_expected_any_more() {
        let progress = Progress::default();
        progress.set_total(10);
        progress.expect(vec![Expected { kind: "service", entities: 1 }], "table");
        progress.add_failed(4);
        assert_eq!(shown(&progress, 7), [("service", 1, 1), ("table", 6, 6)]);
        progress.begin_again();
        assert_eq!(shown(&progress, 7), [("service", 1, 1), ("table", 6, 10)]);
    }
}
