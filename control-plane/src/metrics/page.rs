//! The page of metrics.

use std::collections::BTreeMap;

use hybrid_runner_observability::Exposition;
use jiff::Timestamp;

use super::Counts;
use crate::shared::Shared;
use crate::store::RunState;

/// Stands before each name.
const PREFIX: &str = "control_plane";

/// The metrics, as OpenMetrics text.
pub(crate) fn text(shared: &Shared) -> String {
    let mut page = Exposition::new(PREFIX);
    page.info("build", "The program", vec![("version", env!("CARGO_PKG_VERSION").to_owned())]);
    now(shared, &mut page);
    shared.metrics.with(|counts| so_far(counts, shared.clock.now(), &mut page));
    page.text()
}

/// What is so now.
fn now(shared: &Shared, page: &mut Exposition) {
    let whole = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    page.gauge("sessions", "Agents that are connected", [([], whole(shared.sessions().len()))]);
    let pipelines = shared.definitions.borrow().len();
    page.gauge("pipelines", "Pipelines that are defined", [([], whole(pipelines))]);
    let mut open: BTreeMap<&str, usize> =
        [RunState::Queued, RunState::Granted, RunState::Running].map(|state| (state.as_str(), 0)).into();
    for run in shared.open_runs.borrow().iter() {
        *open.entry(run.state.as_str()).or_default() += 1;
    }
    let open = open.into_iter().map(|(state, runs)| ([("state", state.to_owned())], whole(runs)));
    page.gauge("open_runs", "Runs that have not ended, by state", open);
}

/// What happened since the process began.
fn so_far(counts: &Counts, now: Timestamp, page: &mut Exposition) {
    let ended = counts
        .runs
        .iter()
        .map(|((state, reason), runs)| ([("state", (*state).to_owned()), ("reason", reason.clone())], *runs));
    page.counter("runs", "Runs that ended, by state and reason", ended);
    let ages = counts.commits.iter().filter_map(|(pipeline, commit)| {
        let age = now.duration_since((*commit)?).as_secs_f64().max(0.0);
        Some(([("pipeline", pipeline.clone())], age))
    });
    page.gauge("pipeline_last_commit_age_seconds", "Time since a pipeline's last commit, if it ever had one", ages);
    let lost = counts.leases_lost.iter().map(|(cause, leases)| ([("cause", (*cause).to_owned())], *leases));
    page.counter("leases_lost", "Leases that the control plane ended, by cause", lost);
    let streams = counts.streams.iter().map(|((stream, reason), ended)| {
        ([("stream", (*stream).to_owned()), ("reason", (*reason).to_owned())], *ended)
    });
    page.counter("streams_failed", "Streams of agents that ended in error, by stream and reason", streams);
    let batches = counts.batches.iter().map(|(outcome, batches)| ([("outcome", (*outcome).to_owned())], *batches));
    page.counter("batches", "Batches, by what they were answered", batches);
    page.counter("records", "Records of the batches that were applied", [([], counts.records)]);
    page.counter("record_bytes", "Bytes of the bodies of these records", [([], counts.bytes)]);
    page.counter("store_errors", "How often the store failed", [([], counts.store_errors)]);
}
