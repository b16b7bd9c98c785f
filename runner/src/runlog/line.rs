//! An event as a line.

use std::fmt;

use hybrid_runner_secrets::Redactor;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Event;
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::buffer::LeftOut;

/// The contract's limit for a line, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// The longest text of a line, in bytes; a line that is too long all the same is tried again with the next one. JSON
/// makes six bytes of some characters, and an event has up to 32 fields.
const MAX_TEXTS: [usize; 3] = [8 * 1024, 2 * 1024, 512];

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Value>,
    message: Value,
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
}

/// What an event says, without the values of secrets.
pub(super) fn of(event: &Event<'_>, redactor: &Redactor) -> String {
    let mut fields = Fields { values: Map::new(), redactor };
    event.record(&mut fields);
    let mut fields = fields.values;
    let message = fields.remove("message").unwrap_or_else(|| Value::String(String::new()));
    let metadata = event.metadata();
    let line = Line {
        time: now(),
        level: metadata.level().as_str(),
        target: metadata.target(),
        code: fields.remove("code"),
        message,
        fields,
    };
    // A value may show only when its pieces stand in one line.
    redactor.replace_text(line.text())
}

/// Says how many lines are not there.
pub(super) fn left_out(why: LeftOut, lines: u64) -> String {
    let message = match why {
        LeftOut::TooMany => format!("{lines} lines were left out: the run said too much at once"),
        LeftOut::TooLong => format!("{lines} lines were left out: the log is longer than log.run_bytes"),
    };
    let line = Line {
        time: now(),
        level: "WARN",
        target: module_path!(),
        code: Some(Value::String("lines_left_out".to_owned())),
        message: Value::String(message),
        fields: Map::from_iter([("lines".to_owned(), lines.into())]),
    };
    line.text()
}

fn now() -> String {
    let mut time = String::new();
    // Writing to a string does not fail; a line without its time is still one.
    match SystemTime.format_time(&mut Writer::new(&mut time)) {
        Ok(()) => time,
        Err(fmt::Error) => String::new(),
    }
}

impl Line<'_> {
    fn text(mut self) -> String {
        for max in MAX_TEXTS {
            let texts = self.fields.values_mut().chain([&mut self.message]).chain(&mut self.code);
            texts.for_each(|text| cut(text, max));
            let text = self.json();
            if text.len() <= MAX_LINE {
                return text;
            }
        }
        self.fields.clear();
        self.json()
    }

    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn cut(value: &mut Value, max: usize) {
    if let Value::String(text) = value
        && text.len() > max
    {
        text.truncate(text.floor_char_boundary(max.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
}

/// Collects the fields of an event. A text is searched before it is cut: a piece of a value is not recognised.
struct Fields<'a> {
    values: Map<String, Value>,
    redactor: &'a Redactor,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.values.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, self.redactor.replace_text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, self.redactor.replace_text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
