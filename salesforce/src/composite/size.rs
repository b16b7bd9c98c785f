//! How many objects a call describes: as many as go, fewer while Salesforce is slow.

use std::time::Duration;

use super::MAX_PARTS;

/// An answer that takes longer is too slow. Salesforce counts calls of 20 s and more against a small limit, and a
/// quarter of that leaves room for one that is four times as slow as the last.
const SLOW: Duration = Duration::from_secs(5);

/// The size of the next batch. Quota comes before latency: it is the largest unless something went wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchSize(usize);

impl BatchSize {
    /// The largest.
    pub(crate) fn new() -> Self {
        Self(MAX_PARTS)
    }

    /// Objects in the next batch.
    pub(crate) fn now(self) -> usize {
        self.0
    }

    /// A batch of `size` was answered in that time. It grows by doubling, and only if twice the time is not slow.
    pub(crate) fn answered(&mut self, size: usize, took: Duration) {
        if took > SLOW {
            self.shrink(size);
        } else if size >= self.0 && took <= SLOW / 2 {
            self.0 = (self.0 * 2).min(MAX_PARTS);
        }
    }

    /// A batch of `size` got no answer in time, or too large a one. Batches in flight fail together: only the first of
    /// a size halves it.
    pub(crate) fn shrink(&mut self, size: usize) {
        self.0 = self.0.min((size / 2).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(50);

    #[test]
    fn it_is_the_largest_while_answers_are_quick() {
        let mut size = BatchSize::new();
        for _ in 0..40 {
            size.answered(size.now(), Duration::from_millis(2400));
            assert_eq!(size.now(), 25);
        }
    }

    #[test]
    fn it_halves_down_to_one_and_grows_again() {
        let mut size = BatchSize::new();
        let mut seen = Vec::new();
        for _ in 0..6 {
            size.shrink(size.now());
            seen.push(size.now());
        }
        assert_eq!(seen, [12, 6, 3, 1, 1, 1]);
        for expected in [2, 4, 8, 16, 25, 25] {
            size.answered(size.now(), FAST);
            assert_eq!(size.now(), expected);
        }
    }

    #[test]
    fn a_slow_answer_halves_it_and_a_middling_one_keeps_it() {
        let mut size = BatchSize::new();
        size.answered(25, Duration::from_millis(5001));
        assert_eq!(size.now(), 12);
        size.answered(12, Duration::from_millis(2501));
        assert_eq!(size.now(), 12);
        size.answered(12, Duration::from_millis(2500));
        assert_eq!(size.now(), 24);
    }

    #[test]
    fn batches_that_were_in_flight_together_halve_it_once() {
        let mut size = BatchSize::new();
        for _ in 0..8 {
            size.shrink(25);
        }
        assert_eq!(size.now(), 12);
    }

    #[test]
    fn a_small_batch_that_is_quick_says_nothing_about_large_ones() {
        let mut size = BatchSize::new();
        size.shrink(25);
        size.answered(1, FAST);
        assert_eq!(size.now(), 12);
    }
}
