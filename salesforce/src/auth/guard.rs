//! The bound on rejected logins: Salesforce locks a user out after a few.
//!
//! At most [`MAX_REJECTED`] logins with the same credentials are rejected within [`WINDOW`] in one process; one that
//! succeeds clears the count. A login under way counts as one that may be rejected, so that several sources with the
//! same credentials cannot exceed the bound together: the next one waits until the fate of the first is known.
//!
//! Credentials are told apart by a keyed digest of host, user and secret values. The key is random and lives in the
//! process only, so that a digest says nothing to whoever sees it; it is printed nowhere all the same.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The most rejected logins in [`WINDOW`]. Salesforce's own default is 10 in a row, an org may set 3.
const MAX_REJECTED: usize = 2;

/// How long a rejection counts. Salesforce's default lock-out lasts as long.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// The rejected logins of a process. Clones are one guard.
#[derive(Clone, Default)]
pub struct LoginGuard(Arc<Inner>);

#[derive(Default)]
struct Inner {
    key: OnceLock<[u8; blake3::KEY_LEN]>,
    versions: Mutex<HashMap<Version, Seen>>,
    ended: Notify,
}

/// One version of somebody's credentials.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Version([u8; blake3::OUT_LEN]);

#[derive(Default)]
struct Seen {
    /// When logins were rejected, oldest first.
    rejected: VecDeque<Instant>,
    under_way: usize,
}

/// A login that may be tried. Ended by dropping it, whatever became of the login.
pub(super) struct Attempt {
    guard: LoginGuard,
    version: Version,
}

/// No login is tried before that time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) wait: Duration,
}

enum Entry {
    Open(Attempt),
    Wait,
    Closed(TooMany),
}

impl fmt::Debug for LoginGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginGuard").finish_non_exhaustive()
    }
}

impl LoginGuard {
    /// The version of some credentials; `None` if the machine has no random numbers.
    pub(super) fn version<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Option<Version> {
        let key = match self.0.key.get() {
            Some(key) => key,
            None => {
                let mut random = [0; blake3::KEY_LEN];
                aws_lc_rs::rand::fill(&mut random).ok()?;
                self.0.key.get_or_init(|| random)
            }
        };
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in parts {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Some(Version(hasher.finalize().into()))
    }

    /// Waits until a login may be tried.
    pub(super) async fn enter(&self, version: Version) -> Result<Attempt, TooMany> {
        loop {
            // Before the look, so that an end between the two is not missed.
            let ended = self.0.ended.notified();
            match self.try_enter(version, Instant::now()) {
                Entry::Open(attempt) => return Ok(attempt),
                Entry::Closed(too_many) => return Err(too_many),
                // Every login has a deadline, so one under way ends.
                Entry::Wait => ended.await,
            }
        }
    }

    fn try_enter(&self, version: Version, now: Instant) -> Entry {
        self.with(|versions| {
            versions.retain(|_, seen| {
                seen.rejected.retain(|at| now.saturating_duration_since(*at) < WINDOW);
                seen.under_way > 0 || !seen.rejected.is_empty()
            });
            let seen = versions.entry(version).or_default();
            match seen.rejected.front() {
                Some(oldest) if seen.rejected.len() >= MAX_REJECTED => {
                    Entry::Closed(TooMany { wait: (*oldest + WINDOW).saturating_duration_since(now) })
                }
                _ if seen.rejected.len() + seen.under_way >= MAX_REJECTED => Entry::Wait,
                _ => {
                    seen.under_way += 1;
                    Entry::Open(Attempt { guard: self.clone(), version })
                }
            }
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Version, Seen>) -> T) -> T {
        change(&mut self.0.versions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Attempt {
    /// Salesforce rejected the login.
    pub(super) fn rejected(self) {
        self.rejected_at(Instant::now());
    }

    fn rejected_at(self, now: Instant) {
        self.guard.with(|versions| versions.entry(self.version).or_default().rejected.push_back(now));
    }

    /// Salesforce accepted the login.
    pub(super) fn accepted(self) {
        self.guard.with(|versions| versions.entry(self.version).or_default().rejected.clear());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.guard.with(|versions| {
            if let Some(seen) = versions.get_mut(&self.version) {
                seen.under_way = seen.under_way.saturating_sub(1);
            }
        });
        self.guard.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn credentials_are_told_apart_by_each_part_and_by_process() {
        let guard = LoginGuard::default();
        let version = |parts: [&str; 3]| guard.version(parts).unwrap();
        assert!(version(["host", "ana", "secret"]) == version(["host", "ana", "secret"]));
        for other in
            [["host2", "ana", "secret"], ["host", "bob", "secret"], ["host", "ana", "new"], ["hos", "tana", "secret"]]
        {
            assert!(version(["host", "ana", "secret"]) != version(other), "{other:?}");
        }
        let elsewhere = LoginGuard::default().version(["host", "ana", "secret"]).unwrap();
        assert!(version(["host", "ana", "secret"]) != elsewhere);
    }

    impl LoginGuard {
        /// The attempt that may be made then, or how long to wait instead.
        fn at(&self, version: Version, now: Instant) -> Result<Attempt, Duration> {
            match self.try_enter(version, now) {
                Entry::Open(attempt) => Ok(attempt),
                Entry::Closed(too_many) => Err(too_many.wait),
                Entry::Wait => panic!("another login is under way"),
            }
        }
    }

    #[test]
    fn the_third_rejected_login_in_a_quarter_of_an_hour_is_not_tried() {
        let (guard, start) = (LoginGuard::default(), Instant::now());
        let (old, new) = (guard.version(["old"]).unwrap(), guard.version(["new"]).unwrap());
        guard.at(old, start).ok().unwrap().rejected_at(start);
        let later = start + minutes(5);
        guard.clone().at(old, later).ok().unwrap().rejected_at(later);
        assert_eq!(guard.at(old, later).err(), Some(minutes(10)), "counted from the first rejection");
        assert!(guard.at(new, later).is_ok(), "changed credentials are tried at once");
        let passed = start + minutes(15);
        guard.at(old, passed).ok().unwrap().rejected_at(passed);
        assert_eq!(guard.at(old, passed).err(), Some(minutes(5)), "counted from the second");
    }

    #[test]
    fn a_success_clears_the_count_and_what_was_not_rejected_does_not_count() {
        let (guard, now) = (LoginGuard::default(), Instant::now());
        let version = guard.version(["x"]).unwrap();
        guard.at(version, now).ok().unwrap().rejected_at(now);
        guard.at(version, now).ok().unwrap().accepted();
        for _unreachable in 0..5 {
            drop(guard.at(version, now).ok().unwrap());
        }
        guard.at(version, now).ok().unwrap().rejected_at(now);
        guard.at(version, now).ok().unwrap().rejected_at(now);
        assert!(guard.at(version, now).is_err());
    }

    /// Whether a login that wants to begin still waits.
    async fn waits(entering: &mut (impl Future<Output = Result<Attempt, TooMany>> + Unpin)) -> bool {
        tokio::time::timeout(Duration::ZERO, entering).await.is_err()
    }

    #[tokio::test]
    async fn logins_at_the_same_time_do_not_exceed_the_bound_together() {
        let guard = LoginGuard::default();
        let version = guard.version(["x"]).unwrap();
        let (first, second) = (guard.enter(version).await.ok().unwrap(), guard.enter(version).await.ok().unwrap());
        let mut third = Box::pin(guard.enter(version));
        assert!(waits(&mut third).await, "two are under way");
        first.rejected();
        assert!(waits(&mut third).await, "one was rejected, one is under way");
        second.rejected();
        assert!(third.await.is_err());
    }

    #[tokio::test]
    async fn a_login_that_came_to_nothing_makes_room_for_one_that_waits() {
        let guard = LoginGuard::default();
        let version = guard.version(["x"]).unwrap();
        let (first, _second) = (guard.enter(version).await.ok().unwrap(), guard.enter(version).await.ok().unwrap());
        let mut third = Box::pin(guard.enter(version));
        assert!(waits(&mut third).await);
        drop(first);
        assert!(third.await.is_ok());
    }
}
