//! What commands print.

use std::io::{self, Write as _};
use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::Value;

use super::{Outcome, failed};

/// Prints bytes. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(bytes: &[u8]) -> Outcome {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Prints a line.
pub(super) fn line(text: &str) -> Outcome {
    print(format!("{text}\n").as_bytes())
}

/// Prints rows as a JSON array, or as a table.
pub(super) fn rows(json: bool, header: &[&str], rows: &[Value], cells: impl Fn(&Value) -> Vec<String>) -> Outcome {
    if json {
        return line(&Value::from(rows).to_string());
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    for row in rows {
        table.add_row(cells(row));
    }
    line(&table.to_string())
}

/// A field of a row as a cell: text as it is, nothing as `-`.
pub(super) fn cell(row: &Value, field: &str) -> String {
    match row.get(field) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Prints an error with its causes and gives the exit code.
pub(super) fn error(error: &anyhow::Error, code: u8) -> ExitCode {
    // Nobody reads it when stderr is closed; the exit code still tells.
    drop(writeln!(io::stderr(), "error: {error:#}"));
    ExitCode::from(code)
}
