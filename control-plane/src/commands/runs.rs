//! `control-plane runs`

use clap::Args;
use serde_json::{Map, Value, json};

use super::output::{self, cell};
use super::{Look, Outcome, existing_store, failed, load};
use crate::progress::RunProgress;
use crate::store::Run;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    look: Look,
    /// Only those of this pipeline
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let config = load(&arguments.look.common)?;
    let store = existing_store(&config).await?;
    let runs = store.runs(arguments.pipeline.as_deref(), arguments.limit).await.map_err(failed)?;
    let mut rows: Vec<Value> = Vec::with_capacity(runs.len());
    for run in &runs {
        let progress = if run.state.is_active() { store.progress(run.run_id).await.map_err(failed)? } else { None };
        rows.push(row(run, progress.as_ref()));
    }
    let header = [
        "RUN",
        "PIPELINE",
        "STATE",
        "ATTEMPT",
        "NEXT ATTEMPT",
        "AGENT",
        "COMPLETE",
        "ENTITIES",
        "CHANGED",
        "DELETED",
        "QUEUED",
        "REASON",
        "DETAIL",
        "PROGRESS",
    ];
    output::rows(arguments.look.json, &header, &rows, |row| {
        let fields = [
            "run_id",
            "pipeline",
            "state",
            "attempt",
            "next_attempt_at",
            "agent",
            "complete",
            "entities",
            "changed",
            "deleted",
            "queued_at",
            "reason",
            "detail",
        ];
        let progress = row.get("progress").map_or_else(|| "-".to_owned(), |progress| cell(progress, "text"));
        fields.iter().map(|field| cell(row, field)).chain([progress]).collect()
    })
}

/// The names are those of the `--json` line of a run wherever both know the figure.
fn row(run: &Run, progress: Option<&RunProgress>) -> Value {
    let wall = run.started_at.zip(run.ended_at).map(|(from, to)| to.duration_since(from).as_secs_f64());
    let mut row = Map::from_iter([
        ("run_id".to_owned(), json!(run.run_id)),
        ("pipeline".to_owned(), json!(run.pipeline)),
        ("state".to_owned(), json!(run.state)),
        ("attempt".to_owned(), json!(run.attempt)),
        ("next_attempt_at".to_owned(), json!(run.not_before.map(|time| time.to_string()))),
        ("complete".to_owned(), json!(run.complete)),
        ("full".to_owned(), json!(run.full)),
        ("agent".to_owned(), json!(run.agent)),
        ("definition_version".to_owned(), json!(run.definition_version)),
        ("queued_at".to_owned(), json!(run.queued_at.to_string())),
        ("started_at".to_owned(), json!(run.started_at.map(|time| time.to_string()))),
        ("ended_at".to_owned(), json!(run.ended_at.map(|time| time.to_string()))),
        ("wall_seconds".to_owned(), json!(wall)),
        ("reason".to_owned(), json!(run.reason)),
        ("detail".to_owned(), json!(run.detail)),
        ("progress".to_owned(), json!(progress.map(RunProgress::json))),
    ]);
    if let Some(figures) = &run.figures {
        let summary = &figures.summary;
        row.extend([
            ("objects".to_owned(), json!(summary.objects)),
            ("entities".to_owned(), json!(figures.entities)),
            ("columns".to_owned(), json!(figures.columns)),
            ("sent".to_owned(), json!(figures.sent)),
            ("changed".to_owned(), json!(figures.changed)),
            ("unchanged".to_owned(), json!(figures.unchanged)),
            ("filtered".to_owned(), json!(summary.filtered)),
            ("failed".to_owned(), json!(summary.failed)),
            ("deleted".to_owned(), json!(figures.deleted)),
            ("deletions".to_owned(), json!(figures.deletions)),
            ("keys".to_owned(), json!(summary.keys)),
            ("dangling_foreign_keys".to_owned(), json!(figures.dangling_foreign_keys)),
            ("salesforce_requests".to_owned(), json!(summary.source_requests)),
            ("salesforce_requests_left".to_owned(), json!(summary.source_requests_left)),
            ("bytes_received".to_owned(), json!(summary.source_bytes)),
        ]);
    }
    Value::Object(row)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::{Figures, RunState};

    #[test]
    fn a_run_that_waits_says_which_attempt_comes_next_and_when_and_why() {
        let now = Timestamp::UNIX_EPOCH;
        let waits = Run {
            attempt: 2,
            not_before: Some(Timestamp::from_second(30).unwrap()),
            reason: Some("SOURCE_UNREACHABLE".to_owned()),
            detail: Some("no route".to_owned()),
            ..Run::queued("crm", false, true, now)
        };
        let shown = row(&waits, None);
        assert_eq!((&shown["state"], &shown["attempt"]), (&json!("queued"), &json!(2)));
        assert_eq!(shown["next_attempt_at"], json!("1970-01-01T00:00:30Z"));
        assert_eq!((&shown["reason"], &shown["detail"]), (&json!("SOURCE_UNREACHABLE"), &json!("no route")));
        assert_eq!(row(&Run::queued("crm", false, true, now), None)["next_attempt_at"], Value::Null);
    }

    #[test]
    fn a_run_says_what_the_source_still_permits_if_it_is_known() {
        let figures = |text: &str| serde_json::from_str::<Figures>(text).unwrap();
        let mut old = serde_json::to_value(Figures::default()).unwrap();
        old["summary"].as_object_mut().unwrap().remove("source_requests_left");
        let mut known = Figures::default();
        known.summary.source_requests_left = Some(4_711);
        for (figures, left) in [(figures(&old.to_string()), Value::Null), (known, json!(4_711))] {
            let run = Run {
                state: RunState::Committed,
                figures: Some(figures),
                ..Run::queued("crm", false, false, Timestamp::UNIX_EPOCH)
            };
            assert_eq!(row(&run, None)["salesforce_requests_left"], left);
        }
    }
}
