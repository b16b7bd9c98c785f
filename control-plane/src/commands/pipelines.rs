//! `control-plane pipelines`

use jiff::Timestamp;
use serde_json::{Value, json};

use super::output::{self, cell};
use super::{Look, Outcome, existing_store, failed, load};
use crate::schedule::Schedule;
use crate::store::{Definition, Hold, Verdict};

pub(super) async fn run(look: &Look) -> Outcome {
    let config = load(&look.common)?;
    let store = existing_store(&config).await?;
    let definitions = store.definitions().await.map_err(failed)?;
    let verdicts = store.verdicts().await.map_err(failed)?;
    let faults = store.faults().await.map_err(failed)?;
    let now = Timestamp::now();
    let holds: Vec<Hold> =
        store.holds().await.map_err(failed)?.into_iter().filter(|hold| hold.is_in_force(now)).collect();
    let mut rows: Vec<Value> = definitions.iter().map(|definition| row(definition, &verdicts, &holds, now)).collect();
    for fault in faults {
        // A file that turned bad stands beside the pipeline that it still defines.
        let known = rows.iter_mut().find(|row| row.get("file").and_then(Value::as_str) == Some(&fault.file));
        match known.and_then(Value::as_object_mut) {
            Some(row) => {
                row.insert("error".to_owned(), fault.error.into());
            }
            None => rows.push(json!({"pipeline": null, "file": fault.file, "error": fault.error, "agents": []})),
        }
    }
    let header = ["PIPELINE", "FILE", "VERSION", "SOURCE", "ENABLED", "NEXT RUN", "HELD", "AGENTS", "ERROR"];
    output::rows(look.json, &header, &rows, |row| {
        let fields = ["pipeline", "file", "version", "source", "enabled", "next_run"];
        let mut cells: Vec<String> = fields.iter().map(|field| cell(row, field)).collect();
        cells.push(held(row));
        cells.push(agents(row));
        cells.push(cell(row, "error"));
        cells
    })
}

fn row(definition: &Definition, verdicts: &[Verdict], holds: &[Hold], now: Timestamp) -> Value {
    let new = &definition.new;
    let next = new
        .schedule
        .as_ref()
        .filter(|_| new.enabled)
        .and_then(|schedule| Schedule::parse(schedule, now).ok()?.next_after(now));
    let agents: Vec<Value> = verdicts
        .iter()
        .filter(|verdict| verdict.pipeline == new.pipeline && verdict.version == definition.version)
        .map(|verdict| {
            json!({
                "agent": verdict.agent, "accepted": verdict.accepted,
                "reason": verdict.reason, "detail": verdict.detail,
                "unreadable_secrets": verdict.unreadable_secrets,
            })
        })
        .collect();
    let hold = holds
        .iter()
        .find(|hold| hold.pipeline == new.pipeline)
        .map(|hold| json!({"reason": hold.reason, "detail": hold.detail, "until": hold.until.to_string()}));
    json!({
        "pipeline": new.pipeline, "file": new.file, "version": definition.version, "source": new.source,
        "enabled": new.enabled, "schedule": new.schedule, "next_run": next.map(|next| next.to_string()),
        "hold": hold, "agents": agents, "error": null,
    })
}

/// `AUTH_FAILED until TIME`, and how to end it before.
fn held(row: &Value) -> String {
    match row.get("hold") {
        None | Some(Value::Null) => "-".to_owned(),
        Some(hold) => format!(
            "{} until {}\n`control-plane run` or a changed definition ends it",
            cell(hold, "reason"),
            cell(hold, "until")
        ),
    }
}

/// `east: accepted`, `west: BAD_DEFINITION, SENTENCE` or, beside `accepted`, what of the secrets cannot be read; a line
/// each.
fn agents(row: &Value) -> String {
    let agents = row.get("agents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let line = |agent: &Value| {
        let name = cell(agent, "agent");
        if agent.get("accepted") != Some(&Value::Bool(true)) {
            return vec![format!("{name}: {}, {}", cell(agent, "reason"), cell(agent, "detail"))];
        }
        let unreadable = agent.get("unreadable_secrets").and_then(Value::as_array);
        let unreadable = unreadable.into_iter().flatten().map(|secret| {
            format!("{name}: {}, {}: {}", cell(secret, "reason"), cell(secret, "field"), cell(secret, "detail"))
        });
        std::iter::once(format!("{name}: accepted")).chain(unreadable).collect()
    };
    let lines: Vec<String> = agents.iter().flat_map(line).collect();
    if lines.is_empty() { "-".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NewDefinition;

    #[test]
    fn a_held_pipeline_says_why_until_when_and_what_ends_it() {
        let now = Timestamp::UNIX_EPOCH;
        let new = NewDefinition {
            pipeline: "crm".to_owned(),
            file: "crm.yaml".to_owned(),
            workflow_json: "{}".to_owned(),
            source: "salesforce".to_owned(),
            mark_deleted: true,
            schedule: None,
            enabled: true,
        };
        let definition = Definition { new, version: 1, scheduled_at: now };
        let hold = |pipeline: &str| Hold {
            pipeline: pipeline.to_owned(),
            reason: "AUTH_FAILED".to_owned(),
            detail: Some("wrong password".to_owned()),
            until: Timestamp::from_second(900).unwrap(),
        };
        let shown = row(&definition, &[], &[hold("other"), hold("crm")], now);
        let expected = json!({"reason": "AUTH_FAILED", "detail": "wrong password", "until": "1970-01-01T00:15:00Z"});
        assert_eq!(shown["hold"], expected);
        let cell = held(&shown);
        assert!(cell.starts_with("AUTH_FAILED until 1970-01-01T00:15:00Z"), "{cell}");
        assert!(cell.contains("control-plane run"), "{cell}");
        assert_eq!(held(&row(&definition, &[], &[hold("other")], now)), "-");
    }
}
