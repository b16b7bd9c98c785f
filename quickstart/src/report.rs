//! A run in figures: the JSON line and the table.

use std::path::Path;
use std::process::ExitCode;

use comfy_table::{CellAlignment, Table, presets};
use control_plane::store::{Run, RunState, Store, StoreError};
use hybrid_runner::ResultLine;

/// Entities read at once.
const PAGE: u32 = 1_000;

/// Committed entities of the kinds that people ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    tables: u64,
    tags: u64,
}

impl Committed {
    /// What a pipeline has in a store.
    pub(crate) async fn of(store: &dyn Store, pipeline: &str) -> Result<Self, StoreError> {
        let mut committed = Self::default();
        let mut after: Option<(String, String)> = None;
        loop {
            let from = after.as_ref().map(|(fqn, pipeline)| (fqn.as_str(), pipeline.as_str()));
            let page = store.entities(Some(pipeline), from, PAGE).await?;
            let Some(last) = page.last() else { return Ok(committed) };
            after = Some((last.fqn.clone(), last.pipeline.clone()));
            for entity in &page {
                match entity.kind.as_str() {
                    "table" => committed.tables += 1,
                    "tag" => committed.tags += 1,
                    _ => {}
                }
            }
        }
    }
}

/// A run that ended, and where its entities were written.
pub(crate) struct Report<'a> {
    run: &'a Run,
    committed: Committed,
    export: &'a Path,
}

impl<'a> Report<'a> {
    /// A final run, what is committed then, and the file of its export.
    pub(crate) fn new(run: &'a Run, committed: Committed, export: &'a Path) -> Self {
        Self { run, committed, export }
    }

    /// 0 complete, 1 failed, 3 committed but incomplete.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match (self.run.state, self.run.complete) {
            (RunState::Committed, true) => ExitCode::SUCCESS,
            (RunState::Committed, false) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }

    /// From grant to commit, in seconds.
    pub(crate) fn wall_seconds(&self) -> f64 {
        let span = self.run.started_at.zip(self.run.ended_at).map(|(from, to)| to.duration_since(from));
        span.map_or(0.0, |span| span.as_secs_f64())
    }

    /// The one line of `--json`.
    pub(crate) fn line(&self) -> ResultLine<'a> {
        let figures = self.run.figures.unwrap_or_default();
        let summary = figures.summary;
        ResultLine {
            pipeline: &self.run.pipeline,
            run_id: self.run.run_id.to_string(),
            state: self.run.state.as_str(),
            complete: self.run.complete,
            objects: summary.objects,
            entities: figures.entities,
            columns: figures.columns,
            sent: figures.sent,
            unchanged: figures.unchanged,
            filtered: summary.filtered,
            failed: summary.failed,
            deleted: figures.deleted,
            deletions: figures.deletions.as_str(),
            salesforce_requests: summary.source_requests,
            bytes_received: summary.source_bytes,
            wall_seconds: self.wall_seconds(),
            export: Some(self.export.display().to_string()),
        }
    }

    /// The table that people read.
    pub(crate) fn table(&self) -> String {
        let figures = self.run.figures.unwrap_or_default();
        let summary = figures.summary;
        let Committed { tables, tags } = self.committed;
        let rows = [
            ("objects in scope", grouped(summary.objects)),
            ("tables committed", grouped(tables)),
            ("columns", grouped(figures.columns)),
            ("keys found", grouped(summary.keys)),
            ("tags", grouped(tags)),
            ("all entities", grouped(figures.entities)),
            ("of them unchanged", grouped(figures.unchanged)),
            ("filtered out", grouped(summary.filtered)),
            ("failed", grouped(summary.failed)),
            ("Salesforce requests", grouped(summary.source_requests)),
            ("bytes received", grouped(summary.source_bytes)),
            ("wall time", format!("{:.2} s", self.wall_seconds())),
        ];
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        for (name, value) in rows {
            table.add_row([name.to_owned(), value]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(grouped).each_ref().map(String::as_str)
        );
    }
}
