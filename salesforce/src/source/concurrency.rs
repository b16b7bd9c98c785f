//! How many calls at a time: one more while all goes well, half when the org asks for less.

/// Additive increase, multiplicative decrease, as TCP finds its share of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Concurrency {
    now: usize,
    most: usize,
    /// Answers in a row that ask for no change; a round of them makes room for one more call.
    good: usize,
    /// Answers to calls that were in flight when it was halved: turned away together, they halve it once.
    in_flight: usize,
    /// What was counted of the org's pressure.
    pressure: u64,
}

impl Concurrency {
    /// Begins with so many, or with the most if that is less: with 50 ms a call, 1,000 objects of usual size take five
    /// rounds.
    const FIRST: usize = 12;

    /// Never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { now: Self::FIRST.min(most), most, good: 0, in_flight: 0, pressure: 0 }
    }

    /// Calls at a time.
    pub(super) fn now(self) -> usize {
        self.now
    }

    /// A call was answered; `pressure` counts how often the org asked for less since the run began.
    pub(super) fn answered(&mut self, pressure: u64) {
        let asked_for_less = pressure > self.pressure;
        self.pressure = pressure;
        if self.in_flight > 0 {
            self.in_flight -= 1;
        } else if asked_for_less {
            self.in_flight = self.now - 1;
            self.now = (self.now / 2).max(1);
            self.good = 0;
        } else {
            self.good += 1;
            if self.good >= self.now && self.now < self.most {
                self.now += 1;
                self.good = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_one_a_round_up_to_the_most() {
        let mut concurrency = Concurrency::new(14);
        let mut seen = Vec::new();
        for _ in 0..40 {
            concurrency.answered(0);
            seen.push(concurrency.now());
        }
        assert_eq!((seen[10], seen[11], seen[24], seen[39]), (12, 13, 14, 14));
    }

    #[test]
    fn calls_that_are_turned_away_together_halve_it_once() {
        let mut concurrency = Concurrency::new(8);
        for pressure in 1..=8 {
            concurrency.answered(pressure);
        }
        assert_eq!(concurrency.now(), 4);
        concurrency.answered(9);
        assert_eq!(concurrency.now(), 2);
    }

    #[test]
    fn it_never_ends_at_nothing() {
        let mut concurrency = Concurrency::new(1);
        for pressure in 1..100 {
            concurrency.answered(pressure);
            assert_eq!(concurrency.now(), 1);
        }
        assert_eq!(Concurrency::new(0).now(), 1);
    }
}
