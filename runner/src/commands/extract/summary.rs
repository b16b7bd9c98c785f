//! What a person sees of an extraction (stderr), and what a program reads (the last line of stdout).

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comfy_table::Table;
use hybrid_runner_connector::{Notice, ProgressSnapshot, Report, Severity, Stage};
use indicatif::{ProgressBar, ProgressStyle};

use super::CommandError;
use super::output::Written;
use crate::commands::terminal::Terminal;
use crate::event::ResultLine;

/// Failures that are listed; the count says how many there are.
const LISTED: usize = 20;

/// A bar on a terminal, plain lines elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Display {
    terminal: Terminal,
    bar: Option<ProgressBar>,
    /// The stage that was told last.
    told: Arc<Mutex<Stage>>,
}

impl Display {
    pub(super) fn new(terminal: Terminal) -> Self {
        let style = ProgressStyle::with_template("{msg:10} [{bar:40}] {pos}/{len} objects, {elapsed}");
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length();
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        });
        Self { terminal, bar, told: Arc::default() }
    }

    /// Shows how far the run is.
    pub(super) fn show(&self, seen: ProgressSnapshot) {
        let stage = match seen.stage {
            Stage::Waiting => return,
            Stage::Login => "logging in",
            Stage::List => "listing",
            Stage::Extract => "reading",
            Stage::Flush => "writing",
        };
        if let Some(bar) = &self.bar {
            if seen.objects_total > 0 {
                bar.set_length(seen.objects_total);
            }
            bar.set_position(seen.objects_done + seen.objects_failed);
            bar.set_message(stage);
            return;
        }
        let Ok(mut told) = self.told.lock() else { return };
        if seen.stage > *told {
            *told = seen.stage;
            match seen.objects_total {
                0 => self.line(stage),
                objects => self.line(&format!("{stage} ({objects} objects)")),
            }
        }
    }

    pub(super) fn notice(&self, notice: &Notice) {
        match notice.severity {
            Severity::Info => self.line(&notice.text),
            Severity::Warning => self.warn(&notice.text),
        }
    }

    pub(super) fn warn(&self, text: &str) {
        self.line(&format!("warning: {text}"));
    }

    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The end of a run that was written.
    pub(super) fn report(&self, outcome: &Outcome, report: &Report, export: Option<&Path>) {
        for failure in report.failures.iter().take(LISTED) {
            self.warn(&format!("{} was not read: {}: {}", failure.fqn, failure.reason, failure.detail));
        }
        if report.failures.len() > LISTED {
            self.warn(&format!("{} more objects were not read", report.failures.len() - LISTED));
        }
        for advice in &report.advice {
            self.line(&format!("advice: {advice}"));
        }
        let summary = &report.summary;
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let complete = if report.complete { "complete" } else { "incomplete" };
        let left = summary.requests_left.map_or_else(|| "not known".to_owned(), |left| left.to_string());
        let rows = [
            ("pipeline", outcome.pipeline.clone()),
            ("state", format!("written, {complete}")),
            ("objects", summary.objects.to_string()),
            ("tables", outcome.written.tables.to_string()),
            ("columns", summary.columns.to_string()),
            ("keys", summary.keys.to_string()),
            ("tags", outcome.written.tags.to_string()),
            ("all entities", outcome.written.entities.to_string()),
            ("filtered", summary.filtered.to_string()),
            ("failed", summary.failed.to_string()),
            ("Salesforce requests", summary.requests.to_string()),
            ("Salesforce requests left today", left),
            ("bytes received", summary.bytes_received.to_string()),
            ("wall", format!("{:.1} s", outcome.wall.as_secs_f64())),
            ("export", export.map_or_else(|| "stdout".to_owned(), |path| path.display().to_string())),
        ];
        for (name, value) in rows {
            table.add_row([name.to_owned(), value]);
        }
        self.line(&table.trim_fmt());
    }

    /// The result, for programs.
    pub(super) fn print(&self, line: &ResultLine<'_>) -> Result<(), CommandError> {
        self.terminal.print(&serde_json::to_string(line).map_err(|error| CommandError::failed_by(&error))?)
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.terminal.tell(text)),
            None => self.terminal.tell(text),
        }
    }
}

/// An extraction that is over.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) pipeline: String,
    pub(super) written: Written,
    pub(super) wall: Duration,
    pub(super) progress: ProgressSnapshot,
}

impl Outcome {
    pub(super) fn committed<'a>(&'a self, report: &Report, export: Option<&Path>) -> ResultLine<'a> {
        let summary = &report.summary;
        ResultLine {
            state: "committed",
            complete: report.complete,
            objects: summary.objects,
            entities: self.written.entities,
            columns: summary.columns,
            sent: self.written.entities,
            filtered: summary.filtered,
            failed: summary.failed,
            salesforce_requests: summary.requests,
            bytes_received: summary.bytes_received,
            export: export.map(|path| path.display().to_string()),
            ..self.nothing()
        }
    }

    /// `failed` or `cancelled`.
    pub(super) fn unwritten(&self, state: &'static str) -> ResultLine<'_> {
        ResultLine { state, ..self.nothing() }
    }

    /// A run of which nothing was written.
    fn nothing(&self) -> ResultLine<'_> {
        ResultLine {
            pipeline: &self.pipeline,
            run_id: uuid::Uuid::now_v7().to_string(),
            state: "failed",
            complete: false,
            objects: self.progress.objects_total,
            entities: 0,
            columns: 0,
            sent: 0,
            unchanged: 0,
            filtered: 0,
            failed: self.progress.objects_failed,
            deleted: 0,
            deletions: "none",
            salesforce_requests: self.progress.requests,
            bytes_received: self.progress.bytes_received,
            wall_seconds: self.wall.as_secs_f64(),
            export: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_keys_of_the_contract_in_their_order() {
        let outcome = Outcome {
            pipeline: "p".to_owned(),
            written: Written::default(),
            wall: Duration::from_millis(1500),
            progress: ProgressSnapshot::default(),
        };
        let line = serde_json::to_string(&outcome.nothing()).unwrap();
        let keys = [
            "pipeline",
            "run_id",
            "state",
            "complete",
            "objects",
            "entities",
            "columns",
            "sent",
            "unchanged",
            "filtered",
            "failed",
            "deleted",
            "deletions",
            "salesforce_requests",
            "bytes_received",
            "wall_seconds",
            "export",
        ];
        let places: Vec<_> = keys.iter().map(|key| line.find(&format!("\"{key}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{line}");
        assert_eq!(line.matches("\":").count(), keys.len());
    }
}
