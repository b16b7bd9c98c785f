//! Clocks that the simulation moves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hybrid_runner::Moment;
use jiff::{SignedDuration, Timestamp};

/// Simulated time since the beginning; zero outside of the simulation.
#[must_use]
pub(crate) fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// The boot clock of an agent's machine. It may jump forward (suspend) and stand still (a virtual machine that is
/// copied); it never goes back.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentClock(Arc<Mutex<AgentTime>>);

#[derive(Debug, Default)]
struct AgentTime {
    ahead: Duration,
    behind: Duration,
    /// Since when it stands still, in simulated time.
    frozen_at: Option<Duration>,
    seen: Duration,
}

impl AgentClock {
    /// Jumps forward.
    pub(crate) fn jump(&self, by: Duration) {
        self.0.lock().unwrap().ahead += by;
    }

    /// Stands still from now on.
    pub(crate) fn freeze(&self, now: Duration) {
        self.0.lock().unwrap().frozen_at.get_or_insert(now);
    }

    /// Goes on from where it stood.
    pub(crate) fn thaw(&self, now: Duration) {
        let mut time = self.0.lock().unwrap();
        if let Some(since) = time.frozen_at.take() {
            time.behind += now.saturating_sub(since);
        }
    }
}

impl hybrid_runner::Clock for AgentClock {
    fn now(&self) -> Moment {
        let mut time = self.0.lock().unwrap();
        let counted = time.frozen_at.unwrap_or_else(elapsed) + time.ahead;
        time.seen = time.seen.max(counted.saturating_sub(time.behind));
        // A machine was up before its agent was started.
        Moment::after_start(Duration::from_secs(1000) + time.seen)
    }
}

/// The clocks of the control plane's machine. Its wall clock may be set.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlaneClock(Arc<Mutex<SignedDuration>>);

/// Where the wall clock begins: 2026-01-01, far from a change of anybody's offset.
const BEGINNING: i64 = 1_767_225_600;

impl PlaneClock {
    /// Sets the wall clock by so many seconds, forward or back.
    pub(crate) fn step(&self, seconds: i64) {
        let mut off = self.0.lock().unwrap();
        *off = off.saturating_add(SignedDuration::from_secs(seconds));
    }

    /// The wall clock at this simulated time.
    #[must_use]
    pub(crate) fn at(&self, elapsed: Duration) -> Timestamp {
        let passed = SignedDuration::try_from(elapsed).unwrap() + *self.0.lock().unwrap();
        Timestamp::from_second(BEGINNING).unwrap() + passed
    }
}

impl control_plane::clock::Clock for PlaneClock {
    fn now(&self) -> Timestamp {
        self.at(elapsed())
    }

    fn elapsed(&self) -> Duration {
        elapsed()
    }
}
