//! How a lease begins, how it ends without a commit, and what follows from that.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::types::Token;
use crate::digest::Hash;

/// The pause that the others are multiples of: the one after the first failure that may pass.
pub const BACKOFF: Duration = Duration::from_secs(30);

/// The longest that [`BACKOFF`] may be configured to. With it the longest pause is [`LONGEST_PAUSE`].
pub const MAX_BACKOFF: Duration = Duration::from_secs(50);

/// No pause is longer: 120 × [`MAX_BACKOFF`] and its jitter. A moment further away than this was reckoned on another
/// wall clock, which has jumped back since, and is not waited for.
pub const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(2);

/// How a lease ends without a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The run failed. Its reason decides whether it is tried again, and whether its pipeline is held.
    Failed(Pace),
    /// It was cancelled.
    Cancelled,
    /// The agent gave it back for another one to go on.
    HandedBack(Pace),
    /// The agent went away.
    Lost,
}

/// How long pauses are: figures in seconds, as they are by default, scaled, with a jitter that keeps what failed together
/// from coming back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    backoff: Duration,
    percent: u32,
}

impl Pace {
    /// Pauses by this [`BACKOFF`], each a fifth longer or shorter at most.
    #[must_use]
    pub fn random(backoff: Duration) -> Self {
        let drawn = Uuid::new_v4().as_u128() % 41;
        Self { backoff, percent: 80 + u32::try_from(drawn).unwrap_or(20) }
    }

    /// Pauses by this [`BACKOFF`], exactly.
    #[must_use]
    pub const fn exact(backoff: Duration) -> Self {
        Self { backoff, percent: 100 }
    }

    /// The same without its jitter.
    #[must_use]
    pub const fn without_jitter(self) -> Self {
        Self::exact(self.backoff)
    }

    /// The moment after a pause of so many seconds, as they are by default.
    #[must_use]
    pub fn after(&self, now: Timestamp, seconds: u32) -> Timestamp {
        let pause = self.backoff.saturating_mul(seconds).saturating_mul(self.percent) / 3_000;
        let pause = SignedDuration::try_from(pause).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        now.checked_add(pause).unwrap_or(Timestamp::MAX)
    }
}

/// Whether a pause that was to end then is over.
#[must_use]
pub fn is_over(until: Timestamp, now: Timestamp) -> bool {
    let left = until.duration_since(now);
    !left.is_positive() || left > LONGEST_PAUSE
}

/// A pipeline whose scheduled runs are not granted, because the last run failed with a reason that does not pass by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its name.
    pub pipeline: String,
    /// Name from the catalogue of reasons.
    pub reason: String,
    /// A sentence for the operator.
    pub detail: Option<String>,
    /// When it ends, if neither a new version of the definition nor a run by hand ended it before.
    pub until: Timestamp,
}

impl Hold {
    /// Whether it holds still.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        !is_over(self.until, now)
    }
}

/// What earlier grants of a run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// As in the last durable batch; opaque.
    pub source_position: Bytes,
    /// The first record that is not durable.
    pub next_seq: u64,
    /// The digest of those before it.
    pub digest: Hash,
}

/// What the agent of a grant listed in its `Hello`, as far as a grant or a push depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    /// Capability `memos`.
    pub memos: bool,
    /// Capability `resume`.
    pub resume: bool,
}

/// A grant as made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// What every write carries.
    pub token: Token,
    /// The pipeline's name.
    pub pipeline: String,
    /// The version to run.
    pub definition_version: u64,
    /// From 1.
    pub attempt: u32,
    /// Whether nothing may be skipped.
    pub full: bool,
    /// Where to go on; nothing when the run starts at the beginning.
    pub checkpoint: Option<Checkpoint>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_pause_is_a_fifth_longer_or_shorter_at_most_and_scales_with_the_backoff() {
        for _ in 0..200 {
            let after = Pace::random(BACKOFF).after(at(0), 900);
            assert!((at(720)..=at(1_080)).contains(&after), "{after}");
        }
        assert_eq!(Pace::exact(BACKOFF).after(at(0), 120), at(120));
        assert_eq!(Pace::exact(Duration::from_secs(3)).after(at(0), 120), at(12));
        let longest = Pace { backoff: MAX_BACKOFF, percent: 120 }.after(at(0), 3_600);
        assert_eq!(longest.duration_since(at(0)), LONGEST_PAUSE);
    }

    #[test]
    fn a_wall_clock_that_jumped_back_makes_nobody_wait_for_longer_than_the_longest_pause() {
        assert!(!is_over(at(7_200), at(0)));
        assert!(is_over(at(7_201), at(0)), "reckoned on another clock");
        assert!(is_over(at(0), at(0)) && is_over(at(0), at(400 * 86_400)));
    }
}
