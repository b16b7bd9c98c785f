//! What people watch of a run.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::MemoryStore;
use super::state::{RunRow, State, bound};
use crate::progress::RunProgress;
use crate::shared::Progress;
use crate::store::watch::{LogSize, admitted, may_write};
use crate::store::{LineId, LogLine, RunId, RunWatch, StoreError, Token, Writer};

/// Of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    log: Vec<LogLine>,
    size: LogSize,
    progress: Option<RunProgress>,
}

#[async_trait]
impl RunWatch for MemoryStore {
    async fn add_log(&self, writer: &Writer, first: u64, lines: Vec<String>) -> Result<(), StoreError> {
        self.transaction(|state| {
            let Some(row) = written(state, writer) else { return Ok(()) };
            let fence = writer.token.fence;
            let Watched { log, size, .. } = &mut row.watched;
            let last = log.iter().filter(|line| line.id.fence == fence).map(|line| line.id.number).max();
            log.extend(admitted(size, fence, last.map_or(0, |last| last + 1), first, lines));
            // Another grant's lines come after those of an earlier one.
            log.sort_by_key(|line| line.id);
            Ok(())
        })
    }

    async fn log(&self, run_id: RunId, after: Option<LineId>, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        self.read(|state| {
            let lines = state.runs.get(&run_id).into_iter().flat_map(|row| &row.watched.log);
            lines.filter(|line| after.is_none_or(|after| line.id > after)).take(bound(limit)).cloned().collect()
        })
    }

    async fn put_progress(
        &self,
        agent: &str,
        progress: &[(Token, Progress)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction(|state| {
            for (token, said) in progress {
                let writer = Writer { agent: agent.to_owned(), token: *token };
                if let Some(row) = written(state, &writer) {
                    let before = row.watched.progress.as_ref();
                    row.watched.progress = Some(RunProgress::next(before, token.fence, now, said));
                }
            }
            Ok(())
        })
    }

    async fn progress(&self, run_id: RunId) -> Result<Option<RunProgress>, StoreError> {
        self.read(|state| state.runs.get(&run_id).and_then(|row| row.watched.progress.clone()))
    }
}

fn written<'a>(state: &'a mut State, writer: &Writer) -> Option<&'a mut RunRow> {
    let row = state.runs.get_mut(&writer.token.run_id).filter(|row| may_write(&row.run, writer));
    row.map(Arc::make_mut)
}
