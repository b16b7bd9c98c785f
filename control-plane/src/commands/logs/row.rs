//! What is shown, as JSON and for people.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::progress::RunProgress;
use crate::store::{Event, LogLine, Run};

/// What people are not shown of a row, or is shown at another place.
const OWN_PLACE: [&str; 8] = ["kind", "time", "level", "code", "target", "message", "grant", "number"];

/// Wide enough for a time to the millisecond.
const TIME_WIDTH: usize = 24;

pub(super) fn of_event(event: &Event) -> Value {
    let level = if event.severity == "warning" { "warn" } else { &event.severity };
    json!({
        "kind": "event", "time": event.at.to_string(), "level": level, "code": event.code, "message": event.text,
    })
}

/// A line, and when its agent wrote it, if it says so.
pub(super) fn of_line(line: &LogLine) -> (Option<Timestamp>, Value) {
    let mut row = match serde_json::from_str(&line.text) {
        Ok(Value::Object(row)) => row,
        // Another agent may write as it likes.
        _ => Map::from_iter([("message".to_owned(), json!(line.text))]),
    };
    let time = row.get("time").and_then(Value::as_str).and_then(|time| time.parse().ok());
    let level = row.get("level").and_then(Value::as_str).unwrap_or("info").to_ascii_lowercase();
    row.extend([
        ("kind".to_owned(), json!("line")),
        ("level".to_owned(), json!(level)),
        ("grant".to_owned(), json!(line.id.fence)),
        ("number".to_owned(), json!(line.id.number)),
    ]);
    (time, Value::Object(row))
}

pub(super) fn of_state(run: &Run) -> Value {
    let time = if run.state.is_final() { run.ended_at } else { None };
    let mut message = format!("the run is {}", run.state.as_str());
    if let Some(reason) = &run.reason {
        message.push_str(&format!(", {reason}"));
    }
    if let Some(detail) = &run.detail {
        message.push_str(&format!(": {detail}"));
    }
    json!({
        "kind": "state", "time": time.map(|time| time.to_string()), "level": "info", "message": message,
        "state": run.state, "attempt": run.attempt, "agent": run.agent, "reason": run.reason, "detail": run.detail,
    })
}

pub(super) fn of_progress(progress: &RunProgress) -> Value {
    json!({
        "kind": "progress", "time": progress.at.to_string(), "level": "info", "message": progress.sentence(),
        "progress": progress.json(),
    })
}

/// One line for a terminal, without what a terminal would obey.
pub(super) fn for_people(row: &Value) -> String {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let time = text("time").map_or_else(String::new, |time| match time.parse::<Timestamp>() {
        Ok(time) => format!("{time:.3}"),
        Err(_) => time.to_owned(),
    });
    let level = text("level").unwrap_or_default().to_uppercase();
    let mut line = format!("{time:<TIME_WIDTH$} {level:<5} ");
    if let Some(who) = text("code").or_else(|| text("target")) {
        line.push_str(&format!("{who}: "));
    }
    line.push_str(text("message").unwrap_or_default());
    for (key, value) in fields(row) {
        match value {
            Value::String(text) => line.push_str(&format!(" {key}={text}")),
            other => line.push_str(&format!(" {key}={other}")),
        }
    }
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What an event of the log carries, and what another agent put beside it.
fn fields(row: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let is_line = row.get("kind").and_then(Value::as_str) == Some("line");
    let beside = row.as_object().filter(|_| is_line).into_iter().flatten();
    let beside = beside.filter(|(key, _)| *key != "fields" && !OWN_PLACE.contains(&key.as_str()));
    row.get("fields").and_then(Value::as_object).into_iter().flatten().chain(beside)
}
