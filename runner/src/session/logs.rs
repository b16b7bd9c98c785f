//! The logs of this agent's runs, and which of their lines a session sends when.
//!
//! The driver takes lines where it has room for them, a few messages a second; heartbeats and releases come first. What a
//! session sent is confirmed by the answer to a heartbeat that follows, because the control plane handles the messages of
//! a session in their order. So a lost session loses no line: the next one begins after the last one that was confirmed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hybrid_runner_secrets::Redactor;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{RunId, WriteToken};
use crate::clock::Clock;
use crate::runlog::RunLog;

/// How long lines wait for others, so that a busy run is a few messages a second. A person who follows does not notice.
const PACE: Duration = Duration::from_millis(200);

/// Lines of one message, in bytes together: a heartbeat behind it waits for no more than that.
const CHUNK: usize = 64 * 1024;

/// Logs of runs that are over and wait to be confirmed. More are of runs that ended while there was no session: the
/// oldest go.
const FINISHED: usize = 4;

/// The logs of this agent's runs. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct RunLogs(Arc<Shared>);

struct Shared {
    max_bytes: usize,
    clock: Arc<dyn Clock>,
    redactor: Redactor,
    grew: Arc<Notify>,
    /// Oldest first.
    logs: Mutex<Vec<(WriteToken, RunLog)>>,
}

/// Lines of one run.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) token: WriteToken,
    pub(super) first_line: u64,
    pub(super) lines: Vec<String>,
}

impl RunLogs {
    /// None yet; each has at most so many bytes.
    pub(crate) fn new(max_bytes: usize, clock: Arc<dyn Clock>, redactor: Redactor) -> Self {
        Self(Arc::new(Shared { max_bytes, clock, redactor, grew: Arc::default(), logs: Mutex::default() }))
    }

    /// The log of a run that begins.
    pub(crate) fn begin(&self, token: WriteToken) -> RunLog {
        let Shared { max_bytes, clock, redactor, grew, .. } = &*self.0;
        let log = RunLog::new(*max_bytes, Arc::clone(clock), redactor.clone(), Arc::clone(grew));
        let mut logs = self.logs();
        let finished = logs.iter().filter(|(_, log)| log.is_finished()).count();
        let mut surplus = finished.saturating_sub(FINISHED);
        logs.retain(|(_, log)| {
            let goes = surplus > 0 && log.is_finished();
            surplus -= usize::from(goes);
            !goes
        });
        logs.push((token, log.clone()));
        log
    }

    /// Whether the control plane has all that there is to have of runs that are over.
    pub(crate) fn are_settled(&self) -> bool {
        self.logs().iter().all(|(_, log)| log.is_done() || !log.is_finished())
    }

    fn logs(&self) -> MutexGuard<'_, Vec<(WriteToken, RunLog)>> {
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RunLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLogs").field("logs", &self.logs().len()).finish_non_exhaustive()
    }
}

/// What one session sends of them.
#[derive(Debug)]
pub(super) struct Shipping {
    logs: RunLogs,
    /// Whether the control plane takes logs.
    pub(super) is_wanted: bool,
    /// The earliest time for the next lines.
    next: Instant,
}

impl Shipping {
    pub(super) fn new(logs: RunLogs) -> Self {
        logs.logs().iter().for_each(|(_, log)| log.rewind());
        Self { logs, is_wanted: false, next: Instant::now() }
    }

    /// Waits until lines may be sent.
    ///
    /// # Cancel safety
    /// Yes: what is there to send is looked at anew.
    pub(super) async fn due(&self) {
        loop {
            let (mut has_more, mut is_urgent) = (false, false);
            for (_, log) in self.logs.logs().iter().filter(|(_, log)| log.has_more()) {
                has_more = true;
                // The end of a run waits for nothing that could follow.
                is_urgent |= log.is_finished();
            }
            match (has_more, is_urgent) {
                (true, true) => return,
                (true, false) => return sleep_until(self.next).await,
                (false, _) => self.logs.0.grew.notified().await,
            }
        }
    }

    /// Whether there are lines that were not sent.
    pub(super) fn has_more(&self) -> bool {
        self.logs.logs().iter().any(|(_, log)| log.has_more())
    }

    /// What may be sent now, a message a run.
    pub(super) fn take(&mut self) -> Vec<Chunk> {
        self.next = Instant::now() + PACE;
        self.logs.logs().iter().filter_map(|(token, log)| chunk(token, log)).collect()
    }

    /// The next lines of a run whose lease is given back: under the next grant nobody takes them.
    pub(super) fn take_of(&self, run_id: &RunId) -> Option<Chunk> {
        let logs = self.logs.logs();
        let mut mine = logs.iter().filter(|(token, _)| self.is_wanted && token.run_id == *run_id);
        mine.find_map(|(token, log)| chunk(token, log))
    }

    /// A heartbeat is sent after what was taken.
    pub(super) fn beat(&self, id: u64) {
        let mut logs = self.logs.logs();
        if self.is_wanted {
            logs.iter().for_each(|(_, log)| log.mark(id));
        } else {
            logs.retain(|(_, log)| !log.is_finished());
        }
    }

    /// It was answered.
    pub(super) fn answered(&self, id: u64) {
        self.logs.logs().retain(|(_, log)| {
            log.confirm(id);
            !log.is_done()
        });
    }
}

fn chunk(token: &WriteToken, log: &RunLog) -> Option<Chunk> {
    let (first_line, lines) = log.take(CHUNK)?;
    Some(Chunk { token: token.clone(), first_line, lines })
}
