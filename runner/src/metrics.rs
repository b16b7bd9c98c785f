//! What the agent counts, and the page of metrics that is made of it.
//!
//! Counts are kept where things happen ([`RunProgress`], [`Pulse`], the stores of secrets, and here what
//! [`AgentEvent`]s say); a page is made of them for each scrape. Labels are words of this product, so that their number is bounded:
//! no name of an object, a pipeline, a host or a reference is in a page. docs/operations.md has a row for each metric.

mod page;
mod pulse;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use hybrid_runner_observability::Histogram;
use hybrid_runner_secrets::Stores;
use tokio::time::Instant;

use crate::event::{AgentEvent, RunEnd, RunProgress, RunSnapshot};
pub(crate) use pulse::{Pulse, STUCK};

/// Upper ends of the buckets for how long runs take, in seconds: from an incremental run of a small org to a full run of
/// the largest, at its limit of four hours.
const DURATIONS: [f64; 9] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0];

/// What an agent counts. Clones count together.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) pulse: Pulse,
    stores: Arc<Stores>,
    runs: Arc<Mutex<Runs>>,
    durations: Histogram,
}

/// Runs, over and under way.
#[derive(Debug, Default)]
struct Runs {
    live: BTreeMap<String, (Instant, RunProgress)>,
    /// By end and reason.
    ended: BTreeMap<(&'static str, &'static str), u64>,
    /// Entities of committed runs, by outcome.
    entities: BTreeMap<&'static str, u64>,
    /// What the runs that are over had counted.
    past: Totals,
    /// As the source said last.
    requests_left: Option<u64>,
}

/// What runs count while they run, added up.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    requests: u64,
    bytes_received: u64,
    repeated: u64,
    throttled: u64,
    acks: u64,
    acked_records: u64,
    reopened: u64,
    bytes_sent: u64,
}

/// What an upload counts beside its progress.
#[derive(Debug, Default)]
pub(crate) struct UploadCounts {
    acks: AtomicU64,
    acked_records: AtomicU64,
    reopened: AtomicU64,
    bytes_sent: AtomicU64,
}

impl UploadCounts {
    /// The control plane acknowledged so many more records.
    pub(crate) fn acked(&self, records: u64) {
        self.acks.fetch_add(1, Relaxed);
        self.acked_records.fetch_add(records, Relaxed);
    }

    /// A batch was handed to the network.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
    }

    /// A stream broke and another one is opened.
    pub(crate) fn reopened(&self) {
        self.reopened.fetch_add(1, Relaxed);
    }
}

impl Totals {
    fn add(&mut self, progress: &RunProgress) -> RunSnapshot {
        let (seen, counts) = (progress.snapshot(), progress.counts());
        self.requests += seen.source.requests;
        self.bytes_received += seen.source.bytes_received;
        self.repeated += seen.source.repeated;
        self.throttled += seen.source.throttled;
        self.acks += counts.acks.load(Relaxed);
        self.acked_records += counts.acked_records.load(Relaxed);
        self.reopened += counts.reopened.load(Relaxed);
        self.bytes_sent += counts.bytes_sent.load(Relaxed);
        seen
    }
}

impl Metrics {
    pub(crate) fn new(stores: Arc<Stores>) -> Self {
        let (runs, durations) = (Arc::default(), Histogram::new(DURATIONS));
        Self { pulse: Pulse::new(), stores, runs, durations }
    }

    /// Counts what happened.
    pub(crate) fn on_event(&self, event: &AgentEvent) {
        match event {
            AgentEvent::Granted { run_id, progress, .. } => {
                self.with(|runs| runs.live.insert(run_id.clone(), (Instant::now(), progress.clone())));
            }
            AgentEvent::RunEnded { run_id, end, .. } => {
                let began = self.with(|runs| runs.ended(run_id, end));
                if let Some(began) = began {
                    self.durations.observe(began.elapsed().as_secs_f64());
                }
            }
            AgentEvent::Connected { .. }
            | AgentEvent::Disconnected { .. }
            | AgentEvent::DefinitionAccepted { .. }
            | AgentEvent::DefinitionRejected { .. }
            | AgentEvent::Notice { .. } => {}
        }
    }

    fn with<T>(&self, body: impl FnOnce(&mut Runs) -> T) -> T {
        body(&mut self.runs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Runs {
    /// A run is over: when it began.
    fn ended(&mut self, run_id: &str, end: &RunEnd) -> Option<Instant> {
        let (word, reason) = match end {
            RunEnd::Committed(figures) => {
                for (outcome, entities) in
                    [("sent", figures.sent), ("unchanged", figures.unchanged), ("failed", figures.summary.failed)]
                {
                    *self.entities.entry(outcome).or_default() += entities;
                }
                (if figures.complete { "committed" } else { "incomplete" }, "")
            }
            RunEnd::Failed { reason, .. } => ("failed", *reason),
            RunEnd::HandedBack { reason, .. } => ("handed_back", *reason),
            RunEnd::LeaseLost { reason } => ("lease_lost", *reason),
        };
        *self.ended.entry((word, reason)).or_default() += 1;
        let (began, progress) = self.live.remove(run_id)?;
        let seen = self.past.add(&progress);
        self.requests_left = seen.source.requests_left.or(self.requests_left);
        Some(began)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

#[cfg(test)]
mod tests;
