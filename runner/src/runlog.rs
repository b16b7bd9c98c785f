//! The log of a run, as its operator reads it at the control plane.
//!
//! Every event inside of a run's span becomes a line: a JSON object, without the values of secrets. The span carries the
//! run's [`RunLog`] ([`RunLog::attach`]), the [`layer()`] looks for it there; neither knows any run by itself.
//!
//! **Limits.** INFO and above, of a verbose run what this product says from DEBUG on. A hundred lines a second, after a
//! burst; the rest is counted. A line has at most 16 KiB, a log at most `log.run_bytes`: the first half leaves as it comes,
//! of what follows the last half is kept and leaves when the run is over.
//!
//! **Invariants.** Nobody who logs waits: a line is formatted and put in memory. Lines are numbered from 0 as they become
//! ready to leave, without a gap; what was left out is said by a line in its place.
//!
//! **Recovery.** A line is kept until the control plane answered a heartbeat that was sent after it. What a session that
//! ended may have lost is sent again in the next one.

mod buffer;
mod layer;
mod line;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hybrid_runner_secrets::Redactor;
use tokio::sync::Notify;
use tracing::{Event, Span};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan as _;

use crate::clock::Clock;
use buffer::Buffer;

pub use layer::layer;

/// A run's log. Clones are the same log.
#[derive(Clone)]
pub(crate) struct RunLog(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    redactor: Redactor,
    /// Told when there is something to send.
    grew: Arc<Notify>,
    buffer: Mutex<Buffer>,
}

impl RunLog {
    /// An empty log of at most so many bytes; none: nothing is kept.
    pub(crate) fn new(max_bytes: usize, clock: Arc<dyn Clock>, redactor: Redactor, grew: Arc<Notify>) -> Self {
        let buffer = Mutex::new(Buffer::new(max_bytes, clock.now(), line::left_out));
        Self(Arc::new(Shared { clock, redactor, grew, buffer }))
    }

    /// From now on what is logged inside of the span is in this log, if a subscriber has the [`layer()`].
    pub(crate) fn attach(&self, span: &Span) {
        span.with_subscriber(|(id, subscriber)| {
            if let Some(span) = subscriber.downcast_ref::<Registry>().and_then(|registry| registry.span(id)) {
                span.extensions_mut().insert(self.clone());
            }
        });
    }

    /// The run is over: what was kept of its end may leave, and nothing is added any more.
    pub(crate) fn finish(&self) {
        self.buffer().finish();
        self.0.grew.notify_one();
    }

    /// The next lines to send, of so many bytes together, and the number of the first one.
    pub(crate) fn take(&self, max_bytes: usize) -> Option<(u64, Vec<String>)> {
        self.buffer().take(max_bytes)
    }

    /// Whether [`RunLog::take`] has something.
    pub(crate) fn has_more(&self) -> bool {
        self.buffer().has_more()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.buffer().is_finished()
    }

    /// Whether everything was confirmed, and nothing can follow.
    pub(crate) fn is_done(&self) -> bool {
        self.buffer().is_done()
    }

    /// A heartbeat follows what was taken so far.
    pub(crate) fn mark(&self, heartbeat: u64) {
        self.buffer().mark(heartbeat);
    }

    /// That heartbeat, or a later one, was answered: the control plane has what was taken before it.
    pub(crate) fn confirm(&self, heartbeat: u64) {
        self.buffer().confirm(heartbeat);
    }

    /// What was not confirmed is to be sent again, in another session.
    pub(crate) fn rewind(&self) {
        self.buffer().rewind();
    }

    fn record(&self, event: &Event<'_>) {
        if !self.buffer().admit(self.0.clock.now()) {
            return;
        }
        // Not under the lock: a field may be anything that can be shown.
        let line = line::of(event, &self.0.redactor);
        self.buffer().push(line);
        self.0.grew.notify_one();
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.0.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RunLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLog").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
