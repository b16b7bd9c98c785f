//! What the control plane counts, and the page of metrics that is made of it.
//!
//! Runs are counted when they leave the open ones, whoever ended them: an agent, a watch, a person in another process.
//! Counts begin with the process; what the store knows (open runs, the age of the last commit) does not.

mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use hybrid_runner_observability::Roots;
use hybrid_runner_proto::reason_name;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::info;

use crate::lease::Verdict;
use crate::shared::Shared;
use crate::status::Problem;
use crate::store::{Batch, Figures, Run, RunId, RunState, StoreError};
pub(crate) use page::text;

/// Final runs of a pipeline that are looked through for its last commit, newest first: all that are kept.
const LOOKED_THROUGH: u32 = crate::store::MAX_FINAL_RUNS;

/// What a control plane counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
    /// Whether anybody can ask for them.
    is_shown: bool,
    /// Whoever makes the first spans of runs.
    pub(crate) roots: Roots,
}

#[derive(Debug, Default)]
struct Counts {
    /// Runs that ended, by state and reason.
    runs: BTreeMap<(&'static str, String), u64>,
    /// Runs that were open at the last look.
    open: BTreeSet<RunId>,
    /// Runs whose commit began and was not told of.
    committing: BTreeSet<RunId>,
    /// When each pipeline that may run committed last.
    commits: BTreeMap<String, Option<Timestamp>>,
    leases_lost: BTreeMap<&'static str, u64>,
    /// Streams that ended in error, by stream and reason.
    streams: BTreeMap<(&'static str, &'static str), u64>,
    batches: BTreeMap<&'static str, u64>,
    records: u64,
    bytes: u64,
    looks: Looks,
    store_errors: u64,
}

/// How the store was found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Looks {
    /// When it was looked at last, whatever came of it.
    pub(crate) tried: Option<Instant>,
    /// When it could be read last.
    pub(crate) read: Option<Instant>,
}

impl Metrics {
    pub(crate) fn new(is_shown: bool, roots: Roots) -> Self {
        Self { counts: Mutex::default(), is_shown, roots }
    }

    /// A batch was answered: whether it was applied.
    pub(crate) fn batch(&self, batch: &Batch, applied: bool) {
        let bytes: usize =
            batch.records.iter().filter_map(|record| record.content.as_ref()).map(|c| c.body.len()).sum();
        self.with(|counts| {
            *counts.batches.entry(if applied { "applied" } else { "body_needed" }).or_default() += 1;
            if applied {
                counts.records += u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
                counts.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            }
        });
    }

    /// The commit of a run begins. Whoever waits for it may be dropped in it, as its agent hangs up, and the run be
    /// committed nevertheless: then the look at the open runs tells of it.
    pub(crate) fn commit_begins(&self, run_id: RunId) {
        self.with(|counts| counts.committing.insert(run_id));
    }

    /// The commit of a run ended: logs it, unless that was done already.
    pub(crate) fn commit_ended(&self, run_id: RunId, committed: Option<(bool, &Figures)>) {
        let untold = self.with(|counts| counts.committing.remove(&run_id));
        if let Some((complete, figures)) = committed.filter(|_| untold) {
            info!(
                %run_id, complete, entities = figures.entities, changed = figures.changed,
                unchanged = figures.unchanged, deleted = figures.deleted, "run committed"
            );
        }
    }

    /// The lease of a run was ended.
    pub(crate) fn lease_lost(&self, verdict: Verdict) {
        let cause = match verdict {
            Verdict::Expired => "expired",
            Verdict::NotStarted => "not_started",
            Verdict::TooLong => "too_long",
        };
        self.with(|counts| *counts.leases_lost.entry(cause).or_default() += 1);
    }

    /// A stream is over.
    pub(crate) fn stream_ended(&self, stream: &'static str, ended: &Result<(), Problem>) {
        if let Err(problem) = ended {
            let reason = reason_name(problem.reason);
            self.with(|counts| *counts.streams.entry((stream, reason)).or_default() += 1);
        }
    }

    /// The store was looked at.
    pub(crate) fn looked(&self, looked: &Result<(), StoreError>) {
        let now = Instant::now();
        self.with(|counts| {
            counts.looks.tried = Some(now);
            if looked.is_ok() {
                counts.looks.read = Some(now);
            }
        });
    }

    /// The store could not do what it was asked for.
    pub(crate) fn store_failed(&self) {
        self.with(|counts| counts.store_errors += 1);
    }

    /// How the store was found.
    pub(crate) fn looks(&self) -> Looks {
        self.with(|counts| counts.looks)
    }

    /// Counts a run that is over, and ends its trace.
    fn ended(&self, run: &Run) {
        let reason = run.reason.clone().filter(|_| run.state != RunState::Committed).unwrap_or_default();
        self.with(|counts| {
            *counts.runs.entry((run.state.as_str(), reason.clone())).or_default() += 1;
            if run.state == RunState::Committed {
                let commit = counts.commits.entry(run.pipeline.clone()).or_default();
                *commit = (*commit).max(run.ended_at);
            }
        });
        let ended_at = run.ended_at.unwrap_or(run.queued_at);
        let attributes = vec![
            ("run_id", run.run_id.to_string()),
            ("pipeline", run.pipeline.clone()),
            ("state", run.state.as_str().to_owned()),
            ("attempt", run.attempt.to_string()),
            ("reason", reason.clone()),
        ];
        let times = (SystemTime::from(run.queued_at), SystemTime::from(ended_at));
        let problem = (run.state != RunState::Committed).then_some(reason);
        self.roots.ended(run.run_id.to_bytes(), crate::otel::RUN, times, attributes, problem);
    }

    fn with<T>(&self, body: impl FnOnce(&mut Counts) -> T) -> T {
        body(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Looks at the open runs: what was open and is not any more has ended.
pub(crate) async fn look(shared: &Shared, open: &[Run]) -> Result<(), StoreError> {
    let metrics = &shared.metrics;
    let now: BTreeSet<RunId> = open.iter().map(|run| run.run_id).collect();
    let gone: Vec<RunId> = metrics.with(|counts| counts.open.difference(&now).copied().collect());
    for run_id in gone {
        // One that was dropped from the store meanwhile ended long ago.
        if let Some(run) = shared.store.run(run_id).await? {
            metrics.ended(&run);
            let figures = run.figures.as_ref().filter(|_| run.state == RunState::Committed);
            metrics.commit_ended(run_id, figures.map(|figures| (run.complete, figures)));
        }
        metrics.with(|counts| counts.open.remove(&run_id));
    }
    metrics.with(|counts| counts.open.extend(now));
    // For each pipeline that reads its runs once: not for nobody.
    if metrics.is_shown { look_at_commits(shared).await } else { Ok(()) }
}

/// Learns of each new pipeline when it committed last, and forgets those that are gone.
async fn look_at_commits(shared: &Shared) -> Result<(), StoreError> {
    let definitions = shared.definitions.borrow().clone();
    let names = || definitions.iter().map(|definition| &definition.new.pipeline);
    let new: Vec<String> = shared.metrics.with(|counts| {
        counts.commits.retain(|pipeline, _| names().any(|name| name == pipeline));
        names().filter(|name| !counts.commits.contains_key(*name)).cloned().collect()
    });
    for pipeline in new {
        let runs = shared.store.runs(Some(&pipeline), LOOKED_THROUGH).await?;
        let last = runs.iter().filter(|run| run.state == RunState::Committed).filter_map(|run| run.ended_at).max();
        shared.metrics.with(|counts| {
            let commit = counts.commits.entry(pipeline).or_default();
            *commit = (*commit).max(last);
        });
    }
    Ok(())
}
