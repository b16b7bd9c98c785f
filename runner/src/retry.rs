//! How long to wait before trying again.

use std::time::Duration;

/// The first wait's bound.
const FIRST: Duration = Duration::from_millis(500);
/// Each wait's bound is this much more than the one before: gRPC's own factor.
const FACTOR: f64 = 1.6;
/// No wait is longer: an agent takes work again within seconds of its control plane's return.
const LONGEST: Duration = Duration::from_secs(15);

/// Full-jitter exponential back-off: each wait is drawn between nothing and a bound that grows, so that a thousand
/// agents that lost the same control plane do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self::seeded(fastrand::Rng::new())
    }

    fn seeded(random: fastrand::Rng) -> Self {
        Self { bound: FIRST, random }
    }

    /// The next wait.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = self.bound.mul_f64(self.random.f64());
        self.bound = self.bound.mul_f64(FACTOR).min(LONGEST);
        wait
    }

    /// What was tried went well: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.bound = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_bound_that_grows_to_15_seconds_and_falls_back_on_reset() {
        let mut backoff = Backoff::seeded(fastrand::Rng::with_seed(7));
        let mut bound = FIRST;
        for _ in 0..40 {
            assert!(backoff.next_wait() <= bound);
            bound = bound.mul_f64(FACTOR).min(LONGEST);
        }
        assert_eq!(backoff.bound, LONGEST);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
