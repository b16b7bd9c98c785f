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
//! | active for longer than the run timeout | [`Verdict::TooLong`] |

use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::{Lease, Run, RunId, RunState};

/// The agent stops one heartbeat before the end of its lease; this is on top of the TTL, for messages on their way. A
/// shorter TTL, as tests have, is doubled instead.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long an agent may take from the grant to its first `Open`: it resolves secrets and logs in first. Then the run
/// counts as lost.
pub const START_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a run may take; then it fails. The slowest org measured takes minutes.
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

#[derive(Debug)]
struct Seen {
    lease: Lease,
    first: Duration,
    renewed: Duration,
}

impl LeaseWatch {
    /// Watches leases of this TTL.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, seen: BTreeMap::new() }
    }

    /// Looks at the runs that are open now and says which leases are to be ended.
    pub fn observe(&mut self, now: Duration, runs: &[Run]) -> Vec<(RunId, Lease, Verdict)> {
        let active: BTreeMap<RunId, (&Run, &Lease)> = runs
            .iter()
            .filter(|run| run.state.is_active())
            .filter_map(|run| run.lease.as_ref().map(|lease| (run.run_id, (run, lease))))
            .collect();
        self.seen.retain(|run_id, _| active.contains_key(run_id));
        let mut lost = Vec::new();
        for (run_id, (run, lease)) in active {
            let new = || Seen { lease: lease.clone(), first: now, renewed: now };
            let seen = self.seen.entry(run_id).or_insert_with(new);
            if seen.lease.lease_id != lease.lease_id {
                *seen = new();
            } else if seen.lease.renewals != lease.renewals {
                seen.lease = lease.clone();
                seen.renewed = now;
            }
            if let Some(verdict) = seen.verdict(now, self.ttl, run.state) {
                lost.push((run_id, lease.clone(), verdict));
            }
        }
        lost
    }
}

impl Seen {
    fn verdict(&self, now: Duration, ttl: Duration, state: RunState) -> Option<Verdict> {
        let since = |moment: Duration| now.saturating_sub(moment);
        if since(self.renewed) > ttl + GRACE.min(ttl) {
            Some(Verdict::Expired)
        } else if state == RunState::Granted && since(self.first) > START_TIMEOUT {
            Some(Verdict::NotStarted)
        } else if since(self.first) > RUN_TIMEOUT {
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
        Run {
            run_id,
            pipeline: "p".to_owned(),
            state,
            attempt: 1,
            full: false,
            definition_version: 1,
            queued_at: jiff::Timestamp::UNIX_EPOCH,
            started_at: None,
            ended_at: None,
            agent: Some("a".to_owned()),
            reason: None,
            detail: None,
            complete: false,
            figures: None,
            lease: Some(Lease { fence: 1, lease_id: LeaseId([1; 16]), renewals }),
        }
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
}
