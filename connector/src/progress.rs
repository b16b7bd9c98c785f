//! Counters that a source moves and anyone may read: no lock, no queue, never behind.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

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
