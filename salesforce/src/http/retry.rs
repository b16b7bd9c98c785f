//! When a request is sent again: policy as data, the schedule a pure function.

use std::time::Duration;

use super::error::{CallError, Class};

/// The longest that a `Retry-After` is obeyed. A longer one counts as this: the run should end within its lease, and
/// a later run tries again anyway.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// A retry policy: exponential with full jitter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    /// Requests in all, the first included.
    pub(crate) tries: u32,
    /// The upper end of the first wait; it doubles each time.
    pub(crate) first: Duration,
    /// The upper end of any wait.
    pub(crate) longest: Duration,
    /// What is repeated.
    pub(crate) repeat: Repeat,
}

/// Which failures are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Every passing one.
    Passing,
    /// Every passing one but a time-out: a smaller request is better then.
    PassingButTimeouts,
    /// Only where the server has certainly not acted: a login that fails is counted towards a lock-out.
    NotActedUpon,
}

impl Retry {
    /// For reading: half a second to 30 s, five tries, at most 7.5 s of waiting in all.
    pub(crate) const READ: Self =
        Self { tries: 5, first: Duration::from_millis(500), longest: Duration::from_secs(30), repeat: Repeat::Passing };

    /// For reading what can be asked for in smaller pieces.
    pub(crate) const READ_SPLITTABLE: Self = Self { repeat: Repeat::PassingButTimeouts, ..Self::READ };

    /// For logins.
    pub(crate) const LOGIN: Self = Self { tries: 4, repeat: Repeat::NotActedUpon, ..Self::READ };

    /// How long to wait after that many failures, the last being `error`; `None` to give up. `random` is in 0..1.
    pub(crate) fn wait(&self, failures: u32, error: &CallError, random: f64) -> Option<Duration> {
        let asked = match error.class() {
            Class::Passing => Duration::ZERO,
            Class::PassingAfter(wait) => wait.min(LONGEST_RETRY_AFTER),
            Class::Session | Class::Final => return None,
        };
        let repeats = match self.repeat {
            Repeat::Passing => true,
            Repeat::PassingButTimeouts => !matches!(error, CallError::Timeout { .. }),
            Repeat::NotActedUpon => error.is_not_acted_upon(),
        };
        (repeats && failures < self.tries).then(|| self.backoff(failures, random).max(asked))
    }

    /// The wait after that many failures.
    pub(crate) fn backoff(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.longest).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostPolicy;

    fn status(status: u16, retry_after: Option<u64>) -> CallError {
        let host = HostPolicy::default().login_host("login").unwrap();
        CallError::Status { host, status, code: None, retry_after: retry_after.map(Duration::from_secs) }
    }

    fn timeout() -> CallError {
        CallError::Timeout { host: HostPolicy::default().login_host("login").unwrap(), after: Duration::from_secs(60) }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end_after_five_tries() {
        let longest: Vec<_> = (1..=5).map(|failures| Retry::READ.wait(failures, &status(503, None), 1.0)).collect();
        let expected = [500, 1000, 2000, 4000].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(longest[..4], expected);
        assert_eq!(longest[4], None);
        assert_eq!(Retry::READ.backoff(7, 1.0), Duration::from_secs(30));
        assert_eq!(Retry::READ.backoff(u32::MAX, 1.0), Duration::from_secs(30));
        assert_eq!(Retry::READ.backoff(3, 0.25), Duration::from_millis(500));
    }

    #[test]
    fn retry_after_is_obeyed_and_clamped() {
        let wait = |seconds| Retry::READ.wait(1, &status(429, Some(seconds)), 0.5);
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(0), Some(Duration::from_millis(250)));
        assert_eq!(wait(1_000_000_000), Some(LONGEST_RETRY_AFTER));
    }

    #[test]
    fn what_will_not_pass_is_never_repeated() {
        for final_status in [301, 400, 401, 403, 404, 409, 410, 412, 415] {
            assert_eq!(Retry::READ.wait(1, &status(final_status, Some(1)), 1.0), None, "HTTP {final_status}");
        }
        for passing in [420, 429, 500, 502, 503, 504] {
            assert!(Retry::READ.wait(1, &status(passing, None), 1.0).is_some(), "HTTP {passing}");
        }
    }

    #[test]
    fn a_login_is_repeated_only_when_nothing_was_tried_with_the_password() {
        for unacted in [420, 429, 503] {
            assert!(Retry::LOGIN.wait(1, &status(unacted, None), 1.0).is_some(), "HTTP {unacted}");
        }
        for acted in [500, 502, 504] {
            assert_eq!(Retry::LOGIN.wait(1, &status(acted, None), 1.0), None, "HTTP {acted}");
        }
        assert_eq!(Retry::LOGIN.wait(1, &timeout(), 1.0), None);
    }

    #[test]
    fn a_splittable_request_is_not_repeated_after_a_timeout() {
        assert_eq!(Retry::READ_SPLITTABLE.wait(1, &timeout(), 1.0), None);
        assert!(Retry::READ.wait(1, &timeout(), 1.0).is_some());
    }
}
