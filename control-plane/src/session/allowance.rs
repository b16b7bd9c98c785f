//! How many messages a session takes.

use hybrid_runner_proto::v1::Reason;
use tokio::time::Instant;

use crate::status::Problem;

/// Messages that may come at once: several times what an agent with all its leases says at the start of a session.
const BURST: u32 = 500;

/// Messages a second in the long run. An agent says one a heartbeat and a few a run; its log is the most of it.
const PER_SECOND: u32 = 50;

/// A token bucket over the messages of a session. Each definition that is sent is answered by one message, which takes
/// nothing from it, however many definitions there are.
#[derive(Debug)]
pub(super) struct Allowance {
    left: f64,
    filled: Instant,
    /// Answers to definitions that are due.
    answers: usize,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: f64::from(BURST), filled: now, answers: 0 }
    }

    /// So many definitions are sent.
    pub(super) fn ask(&mut self, definitions: usize) {
        self.answers = self.answers.saturating_add(definitions);
    }

    /// A message came.
    pub(super) fn take(&mut self, now: Instant, is_answer: bool) -> Result<(), Problem> {
        if is_answer && self.answers > 0 {
            self.answers -= 1;
            return Ok(());
        }
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + passed * f64::from(PER_SECOND)).min(f64::from(BURST));
        self.filled = now;
        if self.left < 1.0 {
            let detail = format!("too many messages on the session; accepted: {PER_SECOND} a second, {BURST} at once");
            return Err(Problem::new(Reason::LimitExceeded, detail));
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_taken_and_one_message_more_is_not() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..500 {
            allowance.take(now, false).unwrap();
        }
        assert_eq!(allowance.take(now, false).unwrap_err().reason, Reason::LimitExceeded);
        allowance.take(now + Duration::from_millis(20), false).unwrap();
    }

    #[test]
    fn an_answer_is_taken_for_each_definition_and_no_more_beside_the_bucket() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        allowance.ask(2_000);
        for _ in 0..2_500 {
            allowance.take(now, true).unwrap();
        }
        assert!(allowance.take(now, true).is_err());
    }

    proptest! {
        #[test]
        fn no_span_of_time_lets_more_through_than_the_burst_and_the_rate(
            gaps in proptest::collection::vec(0_u64..40, 1..1_500),
        ) {
            let start = Instant::now();
            let (mut now, mut taken) = (start, 0_u64);
            let mut allowance = Allowance::new(start);
            for gap in gaps {
                now += Duration::from_millis(gap);
                taken += u64::from(allowance.take(now, false).is_ok());
                let passed = u64::try_from((now - start).as_millis()).unwrap();
                prop_assert!(taken <= 500 + passed * 50 / 1_000 + 1);
            }
        }
    }
}
