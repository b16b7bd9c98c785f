//! Whether the session's task still moves, and how it stands with the control plane.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Without an attempt, an exchange or a wait that was announced for so long, the session's task hangs. The longest wait
/// that is announced has five minutes; each attempt and each exchange has a deadline of seconds.
pub(crate) const STUCK: Duration = Duration::from_secs(5 * 60);

/// Written by the session's task, read by probes and scrapes. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Pulse(Arc<Mutex<Beat>>);

/// How it stands.
#[derive(Debug, Clone)]
pub(crate) struct Beat {
    pub(crate) state: SessionState,
    /// Since when it is in that state. Counted on a clock that stands still in suspend: a machine that wakes up has a task
    /// that did nothing wrong.
    pub(crate) since: Instant,
    /// What ended the last session or attempt, in a word; empty while a session is open.
    pub(crate) reason: &'static str,
    /// The same in a sentence, without what is secret.
    pub(crate) problem: String,
    /// Attempts by outcome: `opened`, or what went wrong.
    pub(crate) connects: BTreeMap<&'static str, u64>,
    /// Sessions that had begun, by what ended them.
    pub(crate) ended: BTreeMap<&'static str, u64>,
    /// Since when nothing was to be expected.
    moved: Instant,
}

/// The states of the session's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionState {
    Connecting,
    Open,
    /// Before the next attempt.
    Waiting,
}

impl SessionState {
    pub(crate) const ALL: [Self; 3] = [Self::Connecting, Self::Open, Self::Waiting];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Open => "open",
            Self::Waiting => "waiting",
        }
    }
}

impl Beat {
    /// How long it is in its state.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether the task hangs.
    pub(crate) fn is_stuck(&self) -> bool {
        self.moved.elapsed() >= STUCK
    }

    fn enter(&mut self, state: SessionState) {
        let now = Instant::now();
        (self.state, self.since, self.moved) = (state, now, now);
    }
}

impl Pulse {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Beat {
            state: SessionState::Connecting,
            since: now,
            reason: "",
            problem: String::new(),
            connects: BTreeMap::new(),
            ended: BTreeMap::new(),
            moved: now,
        })))
    }

    pub(crate) fn look(&self) -> Beat {
        self.with(|beat| beat.clone())
    }

    /// An attempt begins.
    pub(crate) fn connecting(&self) {
        self.with(|beat| beat.enter(SessionState::Connecting));
    }

    /// The control plane welcomed the agent.
    pub(crate) fn opened(&self) {
        self.with(|beat| {
            beat.enter(SessionState::Open);
            (beat.reason, beat.problem) = ("", String::new());
            *beat.connects.entry("opened").or_default() += 1;
        });
    }

    /// The control plane said something.
    pub(crate) fn exchanged(&self) {
        self.with(|beat| beat.moved = Instant::now());
    }

    /// The session or attempt is over, and the next one follows after this wait.
    pub(crate) fn waits(&self, reason: &'static str, problem: String, wait: Duration) {
        self.with(|beat| {
            let counts = if beat.state == SessionState::Open { &mut beat.ended } else { &mut beat.connects };
            *counts.entry(reason).or_default() += 1;
            beat.enter(SessionState::Waiting);
            beat.moved += wait;
            (beat.reason, beat.problem) = (reason, problem);
        });
    }

    fn with<T>(&self, body: impl FnOnce(&mut Beat) -> T) -> T {
        body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pulse(..)")
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_nothing_for_five_minutes_hangs_and_one_that_is_refused_for_ever_does_not() {
        let pulse = Pulse::new();
        let almost = STUCK - Duration::from_millis(1);
        for _ in 0..100 {
            pulse.connecting();
            advance(Duration::from_secs(10)).await;
            pulse.waits("network", "no route".to_owned(), STUCK);
            // The whole wait, and then again almost as long.
            advance(STUCK + almost).await;
            assert!(!pulse.look().is_stuck());
        }
        advance(Duration::from_millis(1)).await;
        assert!(pulse.look().is_stuck());
        pulse.opened();
        for _ in 0..3 {
            advance(almost).await;
            pulse.exchanged();
        }
        assert!(!pulse.look().is_stuck());
        advance(STUCK).await;
        let beat = pulse.look();
        assert!(beat.is_stuck());
        assert_eq!((beat.state, beat.reason, beat.age() >= 3 * almost), (SessionState::Open, "", true));
        assert_eq!((beat.connects["network"], beat.connects["opened"], beat.ended.len()), (100, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_had_begun_is_counted_by_what_ended_it() {
        let pulse = Pulse::new();
        pulse.opened();
        pulse.waits("silent", "no answer".to_owned(), Duration::ZERO);
        pulse.waits("tls", "no certificate".to_owned(), Duration::ZERO);
        let beat = pulse.look();
        assert_eq!((beat.ended["silent"], beat.connects["tls"], beat.reason), (1, 1, "tls"));
        assert_eq!(beat.problem, "no certificate");
    }
}
