//! Time that does not stop in suspend.
//!
//! `Instant` is `CLOCK_MONOTONIC` on Linux, which stands still while a laptop or a virtual machine is suspended; a lease
//! counted on it would outlive the one that the control plane counts. Leases are therefore counted in [`Moment`]s.
//! Timers are still tokio's: whoever holds a lease looks at the clock again at least once a second.

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A point of a [`Clock`], in time since some fixed beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The moment so long after the beginning.
    #[must_use]
    pub const fn after_start(since: Duration) -> Self {
        Self(since)
    }

    /// The time from `earlier` to this moment; zero when it is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// Where moments come from.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The moment now; never goes back.
    fn now(&self) -> Moment;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

/// Linux's boot clock counts suspend; Darwin's monotonic clock does so by itself.
#[cfg(target_os = "linux")]
const SOURCE: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const SOURCE: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let time = rustix::time::clock_gettime(SOURCE);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Moment(Duration::new(seconds, nanos))
    }
}

/// A deadline that its owner moves and others look at: a lease's, seen from the upload that it allows.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    clock: Arc<dyn Clock>,
    /// In milliseconds of the clock.
    at: Arc<AtomicU64>,
}

impl Deadline {
    pub(crate) fn new(clock: Arc<dyn Clock>, at: Moment) -> Self {
        let deadline = Self { clock, at: Arc::default() };
        deadline.set(at);
        deadline
    }

    pub(crate) fn set(&self, at: Moment) {
        self.at.store(u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn at(&self) -> Moment {
        Moment(Duration::from_millis(self.at.load(Relaxed)))
    }

    pub(crate) fn is_past(&self) -> bool {
        self.clock.now() >= self.at()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Mutex;

    use super::{Clock, Duration, Moment};

    /// A clock that stands until it is moved.
    #[derive(Debug)]
    pub(crate) struct HandClock(Mutex<Moment>);

    impl HandClock {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(Moment::after_start(Duration::from_secs(1000))))
        }

        pub(crate) fn advance(&self, time: Duration) -> Moment {
            let mut now = self.0.lock().unwrap();
            *now = *now + time;
            *now
        }
    }

    impl Clock for HandClock {
        fn now(&self) -> Moment {
            *self.0.lock().unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::HandClock;
    use super::*;

    #[test]
    fn the_system_clock_moves_forward() {
        let first = SystemClock.now();
        assert!(SystemClock.now() >= first);
        assert!(first > Moment::after_start(Duration::ZERO));
    }

    #[test]
    fn a_deadline_is_past_once_its_moment_came_and_not_when_it_was_moved() {
        let clock = Arc::new(HandClock::new());
        let deadline = Deadline::new(clock.clone(), clock.now() + Duration::from_secs(5));
        clock.advance(Duration::from_secs(4));
        assert!(!deadline.is_past());
        clock.advance(Duration::from_secs(1));
        assert!(deadline.is_past());
        deadline.set(clock.now() + Duration::from_secs(1));
        assert!(!deadline.is_past());
    }
}
