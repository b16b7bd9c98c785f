//! What people watch of a run while it goes on: the lines of its log, and how far it is.
//!
//! Both are for people and decide nothing. A line is kept once, under the number that the agent gave it, and only from
//! whoever was granted the run last: also when the run is over, because its last lines may come after its end.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Run, RunId, StoreError, Token, Writer};
use crate::progress::RunProgress;
use crate::shared::Progress;

/// Lines kept of one run, over all its grants.
pub const MAX_LOG_LINES: u64 = 50_000;

/// Their bytes together: four grants of an agent that sends as much as it does unless told otherwise.
pub const MAX_LOG_BYTES: u64 = 4 * 1024 * 1024;

/// The part of a [`Store`](super::Store) that is about watching runs.
#[async_trait]
pub trait RunWatch {
    /// Keeps lines of a run's log, the first with this number in the log of its grant. Those that are known are skipped.
    /// Nothing happens unless the token is that of the run's last grant. Beyond [`MAX_LOG_LINES`] or [`MAX_LOG_BYTES`] one
    /// line says that the rest is not kept.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn add_log(&self, writer: &Writer, first: u64, lines: Vec<String>) -> Result<(), StoreError>;

    /// Lines of a run after this one, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn log(&self, run_id: RunId, after: Option<LineId>, limit: u32) -> Result<Vec<LogLine>, StoreError>;

    /// Keeps what agents said of their runs, unless the token is not that of the run's last grant.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn put_progress(&self, agent: &str, progress: &[(Token, Progress)], now: Timestamp)
    -> Result<(), StoreError>;

    /// How far a run is, as its agent said last.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn progress(&self, run_id: RunId) -> Result<Option<RunProgress>, StoreError>;
}

/// Where a line stands in the log of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineId {
    /// Of the grant that it was written under.
    pub fence: u64,
    /// Its number there, from 0.
    pub number: u64,
}

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it stands.
    pub id: LineId,
    /// As the agent wrote it: a JSON object, of an agent of this product.
    pub text: String,
}

/// What the log of a run has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogSize {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// Whether a writer may write to the log of a run.
pub(super) fn may_write(run: &Run, writer: &Writer) -> bool {
    run.token() == Some(writer.token) && run.agent.as_deref() == Some(writer.agent.as_str())
}

/// Those of the lines that are kept: not the ones below `known`, and as many as there is room for. The size grows with
/// them.
pub(super) fn admitted(size: &mut LogSize, fence: u64, known: u64, first: u64, lines: Vec<String>) -> Vec<LogLine> {
    let mut kept = Vec::new();
    for (number, text) in (first..).zip(lines).skip_while(|(number, _)| *number < known) {
        if size.lines >= MAX_LOG_LINES {
            break;
        }
        let bytes = size.bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        let id = LineId { fence, number };
        if size.lines + 1 == MAX_LOG_LINES || bytes > MAX_LOG_BYTES {
            // Full for good.
            size.lines = MAX_LOG_LINES;
            kept.push(LogLine { id, text: FULL.to_owned() });
            break;
        }
        *size = LogSize { lines: size.lines + 1, bytes };
        kept.push(LogLine { id, text });
    }
    kept
}

const FULL: &str = r#"{"level":"WARN","target":"control_plane","code":"log_full","message":"the log of this run is longer than the control plane keeps; what follows is left out"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(kept: &[LogLine]) -> Vec<u64> {
        kept.iter().map(|line| line.id.number).collect()
    }

    #[test]
    fn what_is_known_is_skipped() {
        let mut size = LogSize::default();
        let lines = || vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(numbers(&admitted(&mut size, 1, 0, 0, lines())), [0, 1, 2]);
        assert_eq!(numbers(&admitted(&mut size, 1, 3, 0, lines())), Vec::<u64>::new());
        assert_eq!(numbers(&admitted(&mut size, 1, 3, 2, lines())), [3, 4]);
        assert_eq!(size, LogSize { lines: 5, bytes: 5 });
    }

    #[test]
    fn a_full_log_says_so_once_and_takes_no_more() {
        let mut size = LogSize { lines: 7, bytes: MAX_LOG_BYTES - 2 };
        let kept = admitted(&mut size, 1, 0, 0, vec!["ab".to_owned(), "c".to_owned(), "d".to_owned()]);
        assert_eq!(kept.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["ab", FULL]);
        assert_eq!(admitted(&mut size, 2, 0, 0, vec!["e".to_owned()]), []);
        let mut size = LogSize { lines: MAX_LOG_LINES - 2, bytes: 0 };
        let kept = admitted(&mut size, 1, 0, 0, vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        assert_eq!((kept.len(), kept[1].text.as_str()), (2, FULL));
        assert!(serde_json::from_str::<serde_json::Value>(FULL).is_ok());
    }
}
