//! Watching leases: when does one count as lost?
//!
//! A lease is durable in the store; its time is not. Whoever watches remembers, on its own monotonic clock, when it saw
//! the lease's renewal counter change last, and calls the lease lost when it has not changed for TTL + grace. So no two
//! clocks are compared, several control planes may watch one store, a step of the wall clock ends nothing, and a
//! control plane that starts gives every lease a full TTL again. The end itself is a transaction that does nothing if
//! the lease was renewed meanwhile.
//!
//! | observed | then |
//! |---|---|
//! | a new grant, or its counter changed | its time begins again |
//! | unchanged for TTL + grace | [`Verdict::Expired`] |
//! | granted and not opened within the start timeout | [`Verdict::NotStarted`] |
//! | the attempt was active for longer than the run timeout, under all of its grants | [`Verdict::TooLong`] |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::store::{Lease, Run, RunId, RunState};

/// The agent stops one heartbeat before the end of its lease; this is on top of the TTL, for messages on their way. A
/// shorter TTL, as tests have, is doubled instead.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long an agent may take from the grant to its first `Open`: it resolves secrets and logs in first. Then the run
/// counts as lost.
pub const START_TIMEOUT: Duration = Duration::from_secs(300);

/// How long an attempt of a run may take, however many agents go on with it; then it fails. The slowest org measured takes
/// minutes.
pub const RUN_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// Why a lease is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was not renewed.
    Expired,
    /// The run was not begun.
    NotStarted,
    /// The run takes too long.
    TooLong,
}

/// What is known of the active leases.
#[derive(Debug)]
pub struct LeaseWatch {
    ttl: Duration,
    seen: BTreeMap<RunId, Seen>,
}

/// What is known of an open run.
#[derive(Debug)]
struct Seen {
    attempt: u32,
    /// Under earlier grants of the attempt.
    spent: Duration,
    grant: Option<Grant>,
}

#[derive(Debug)]
struct Grant {
    lease: Lease,
    first: Duration,
    renewed: Duration,
    last: Duration,
}

impl LeaseWatch {
    /// Watches leases of this TTL.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, seen: BTreeMap::new() }
    }

    /// Looks at the runs that are open now and says which leases are to be ended.
    pub fn observe(&mut self, now: Duration, runs: &[Run]) -> Vec<(RunId, Lease, Verdict)> {
        let open: BTreeSet<RunId> = runs.iter().map(|run| run.run_id).collect();
        self.seen.retain(|run_id, _| open.contains(run_id));
        let mut lost = Vec::new();
        for run in runs.iter().filter(|run| run.attempt > 0) {
            let new = || Seen { attempt: run.attempt, spent: Duration::ZERO, grant: None };
            let seen = self.seen.entry(run.run_id).or_insert_with(new);
            if seen.attempt != run.attempt {
                *seen = new();
            }
            let lease = run.lease.as_ref().filter(|_| run.state.is_active());
            seen.observe(now, lease);
            if let (Some(verdict), Some(lease)) = (seen.verdict(now, self.ttl, run.state), lease) {
                lost.push((run.run_id, lease.clone(), verdict));
            }
        }
        lost
    }
}

impl Seen {
    fn observe(&mut self, now: Duration, lease: Option<&Lease>) {
        let ended = self.grant.take_if(|grant| lease.is_none_or(|lease| lease.lease_id != grant.lease.lease_id));
        if let Some(ended) = ended {
            self.spent += ended.last.saturating_sub(ended.first);
        }
        let Some(lease) = lease else { return };
        let new = || Grant { lease: lease.clone(), first: now, renewed: now, last: now };
        let grant = self.grant.get_or_insert_with(new);
        grant.last = now;
        if grant.lease.renewals != lease.renewals {
            grant.lease = lease.clone();
            grant.renewed = now;
        }
    }

    fn verdict(&self, now: Duration, ttl: Duration, state: RunState) -> Option<Verdict> {
        let grant = self.grant.as_ref()?;
        let since = |moment: Duration| now.saturating_sub(moment);
        if since(grant.renewed) > ttl + GRACE.min(ttl) {
            Some(Verdict::Expired)
        } else if state == RunState::Granted && since(grant.first) > START_TIMEOUT {
            Some(Verdict::NotStarted)
        } else if self.spent + since(grant.first) > RUN_TIMEOUT {
            Some(Verdict::TooLong)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::LeaseId;

    const TTL: Duration = Duration::from_secs(60);

    fn run(run_id: RunId, renewals: u64, state: RunState) -> Run {
        let lease = Some(Lease { fence: 1, lease_id: LeaseId([1; 16]), renewals });
        Run { run_id, state, attempt: 1, lease, ..Run::queued("p", false, false, jiff::Timestamp::UNIX_EPOCH) }
    }

    proptest! {
        #[test]
        fn a_lease_is_lost_exactly_when_it_was_not_renewed_for_its_ttl_and_the_grace(
            steps in proptest::collection::vec((0_u64..40, any::<bool>()), 1..60),
        ) {
            let run_id = RunId::new();
            let mut watch = LeaseWatch::new(TTL);
            let (mut now, mut renewals) = (Duration::from_secs(1_000), 0);
            let mut renewed = now;
            watch.observe(now, &[run(run_id, renewals, RunState::Running)]);
            for (seconds, renews) in steps {
                now += Duration::from_secs(seconds);
                if renews {
                    renewals += 1;
                    renewed = now;
                }
                let lost = watch.observe(now, &[run(run_id, renewals, RunState::Running)]);
                prop_assert_eq!(!lost.is_empty(), now - renewed > TTL + GRACE);
            }
        }
    }

    #[test]
    fn a_new_watcher_gives_every_lease_its_full_time() {
        let run = run(RunId::new(), 7, RunState::Running);
        let mut watch = LeaseWatch::new(TTL);
        assert_eq!(watch.observe(Duration::from_secs(9_999), std::slice::from_ref(&run)), []);
        assert_eq!(watch.observe(Duration::from_secs(9_999 + 65), std::slice::from_ref(&run)), []);
        assert_eq!(watch.observe(Duration::from_secs(9_999 + 66), &[run]).len(), 1);
    }

    #[test]
    fn a_grant_that_is_renewed_but_not_begun_is_lost() {
        let run_id = RunId::new();
        let mut watch = LeaseWatch::new(TTL);
        for step in 0..=15_u64 {
            assert_eq!(watch.observe(Duration::from_secs(step * 20), &[run(run_id, step, RunState::Granted)]), []);
        }
        let lost = watch.observe(Duration::from_secs(301), &[run(run_id, 16, RunState::Granted)]);
        assert_eq!(lost.first().map(|(_, _, verdict)| *verdict), Some(Verdict::NotStarted));
    }

    #[test]
    fn an_attempt_ends_after_its_time_however_many_agents_went_on_with_it() {
        let (run_id, hour) = (RunId::new(), Duration::from_secs(3_600));
        let mut watch = LeaseWatch::new(hour);
        let under = |grant: u8, attempt: u32| {
            let lease = Some(Lease { fence: u64::from(grant), lease_id: LeaseId([grant; 16]), renewals: 0 });
            Run { attempt, lease, ..run(run_id, 0, RunState::Running) }
        };
        let queued = |attempt: u32| Run { state: RunState::Queued, ..under(9, attempt) };
        let mut now = Duration::ZERO;
        let mut step = |run: Run| {
            let verdict = watch.observe(now, &[run]).first().map(|(_, _, verdict)| *verdict);
            now += hour / 2;
            verdict
        };
        // Half an hour under each grant, and as long in the queue between, which does not count.
        for grant in 1..=8 {
            assert_eq!([step(under(grant, 1)), step(under(grant, 1)), step(queued(1))], [None; 3], "{grant}");
        }
        assert_eq!([step(under(9, 1)), step(under(9, 1))], [None, Some(Verdict::TooLong)]);
        // The next attempt has its time again.
        assert_eq!([step(queued(2)), step(under(10, 2)), step(under(10, 2))], [None; 3]);
    }
}
