use std::collections::{BTreeMap, BTreeSet};

use hybrid_runner_connector::Summary;
use hybrid_runner_secrets::{MemoryStore, SecretRef, SecretValue};

use super::*;
use crate::event::RunFigures;

const SECRET: &str = "a-secret-of-the-test";

fn granted(run_id: &str, progress: &RunProgress) -> AgentEvent {
    let (run_id, pipeline) = (run_id.to_owned(), SECRET.to_owned());
    AgentEvent::Granted { run_id, pipeline, attempt: 1, progress: progress.clone() }
}

fn ended(run_id: &str, end: RunEnd) -> AgentEvent {
    AgentEvent::RunEnded { run_id: run_id.to_owned(), pipeline: SECRET.to_owned(), end }
}

fn committed(complete: bool) -> RunEnd {
    let summary = Summary { failed: 3, ..Summary::default() };
    RunEnd::Committed(Box::new(RunFigures {
        complete,
        summary,
        sent: 10,
        entities: 50,
        columns: 0,
        unchanged: 7,
        deleted: 0,
        deletions: "none",
        dangling_foreign_keys: 0,
    }))
}

fn progress() -> RunProgress {
    let progress = RunProgress::default();
    let source = progress.source();
    source.add_request();
    source.add_request();
    source.add_bytes(100);
    source.add_repeated();
    source.add_throttled();
    source.set_requests_left(500);
    progress.set_held(64);
    progress.counts().acked(5);
    progress.counts().sent(2000);
    progress.counts().reopened();
    progress
}

/// An agent to which everything happened that has a metric, with a secret wherever a word of others stands.
async fn eventful() -> Metrics {
    let store = MemoryStore::default().with("/a", SecretValue::new(SECRET.to_owned()));
    let stores = Arc::new(Stores::default().with("memory", store));
    for reference in ["secret:/a", "secret:/b", "secret://other/c"] {
        drop(stores.read(&reference.parse::<SecretRef>().unwrap()).await);
    }
    let metrics = Metrics::new(stores);
    metrics.pulse.opened();
    metrics.pulse.waits("silent", SECRET.to_owned(), std::time::Duration::ZERO);
    metrics.pulse.waits("tls", SECRET.to_owned(), std::time::Duration::ZERO);
    for (run_id, end) in [
        ("1", committed(true)),
        ("2", committed(false)),
        ("3", RunEnd::Failed { reason: "AUTH_FAILED", detail: SECRET.to_owned() }),
        ("4", RunEnd::HandedBack { reason: "DRAINING", detail: SECRET.to_owned() }),
        ("5", RunEnd::LeaseLost { reason: "FENCED" }),
    ] {
        metrics.on_event(&granted(run_id, &progress()));
        metrics.on_event(&ended(run_id, end));
    }
    metrics.on_event(&granted("6", &progress()));
    metrics
}

/// The names of the page, each with its labels.
fn series(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = line.rsplit_once(' ').unwrap().0.split_once('{').unwrap_or((line, ""));
        let name = name.split(' ').next().unwrap();
        let parts = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        let labels = found.entry(name.to_owned()).or_default();
        labels.extend(parts.map(|(label, _)| label.to_owned()));
    }
    found
}

/// The table of the operator's manual.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let rows = std::fs::read_to_string(manual).unwrap();
    let rows = rows.lines().filter(|line| line.starts_with("| hybrid_runner_"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let (name, labels) = (cells.next().unwrap(), cells.next().unwrap());
        let labels = labels.split([',', ' ']).filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (name.to_owned(), labels)
    })
    .collect()
}

#[tokio::test]
async fn names_and_labels_are_those_of_the_manual_and_no_word_of_others_is_among_them() {
    let text = eventful().await.text();
    assert_eq!(series(&text), documented(), "\n{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn what_runs_count_is_added_up_over_those_that_are_over_and_those_under_way() {
    let text = eventful().await.text();
    for line in [
        r#"hybrid_runner_runs_total{end="committed",reason=""} 1"#,
        r#"hybrid_runner_runs_total{end="incomplete",reason=""} 1"#,
        r#"hybrid_runner_runs_total{end="failed",reason="AUTH_FAILED"} 1"#,
        r#"hybrid_runner_runs_total{end="lease_lost",reason="FENCED"} 1"#,
        "hybrid_runner_run_duration_seconds_count 5",
        "hybrid_runner_runs_active 1.0",
        r#"hybrid_runner_entities_total{outcome="sent"} 20"#,
        r#"hybrid_runner_entities_total{outcome="failed"} 6"#,
        "hybrid_runner_source_requests_total 12",
        "hybrid_runner_source_bytes_total 600",
        "hybrid_runner_source_throttled_total 6",
        "hybrid_runner_source_requests_left 500.0",
        "hybrid_runner_upload_acks_total 6",
        "hybrid_runner_upload_acked_records_total 30",
        "hybrid_runner_upload_bytes_total 12000",
        "hybrid_runner_upload_reopened_total 6",
        "hybrid_runner_upload_unacked_bytes 64.0",
        r#"hybrid_runner_secret_reads_total{store="memory",outcome="read"} 1"#,
        r#"hybrid_runner_secret_reads_total{store="memory",outcome="not_found"} 1"#,
        r#"hybrid_runner_secret_reads_total{store="none",outcome="unknown_store"} 1"#,
        r#"hybrid_runner_session_state{state="waiting"} 1.0"#,
        r#"hybrid_runner_session_state{state="open"} 0.0"#,
        r#"hybrid_runner_session_problem{reason="tls"} 1.0"#,
        r#"hybrid_runner_connects_total{outcome="opened"} 1"#,
        r#"hybrid_runner_sessions_ended_total{reason="silent"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
