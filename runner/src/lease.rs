//! The leases that this agent holds: pure, no clock, no I/O.
//!
//! A lease lasts `lease_ttl` from the moment the heartbeat that renewed it was *sent*: the control plane counts from
//! when it came, so this agent is always done first. The agent stops the run one heartbeat interval earlier, on a clock
//! that counts suspend, and writes nothing after. Safety never depends on these figures (the fence does); they keep two
//! agents from reading the same org at once.
//!
//! | state | what happens | next | effect |
//! |---|---|---|---|
//! | (none) | granted | Held | |
//! | Held | granted again, under a higher fence | Held | the former run stops |
//! | Held | renewed by an answered heartbeat | Held | its deadline moves |
//! | Held | a heartbeat or `Hello` listed it and the answer does not | (none) | the run stops |
//! | Held | revoked | (none) | the run stops |
//! | Held | its deadline came | (none) | the run stops |
//! | Held | committed | (none) | |
//! | Held | given back | GivenBack | the release is sent |
//! | GivenBack | a session began, or a while passed | GivenBack | the release is sent again |
//! | GivenBack | released, lost, revoked, or its deadline came | (none) | |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Deadline, Moment};
use crate::session::{Release, Terms};

pub(crate) use crate::session::{Grant, Reason, RunId};

/// Leases held, and given back without an answer, after which the agent asks for no more: the contract's limit for those
/// in a heartbeat.
const MOST: usize = 64;

/// A release without an answer is sent again after this long.
const RESEND: Duration = Duration::from_secs(5);

/// The leases of an agent.
#[derive(Debug)]
pub(crate) struct Leases {
    clock: Arc<dyn Clock>,
    /// Of the last session. Leases live on under them while there is none.
    terms: Terms,
    leases: BTreeMap<RunId, Lease>,
}

#[derive(Debug)]
struct Lease {
    deadline: Deadline,
    given_back: Option<GivenBack>,
}

#[derive(Debug)]
struct GivenBack {
    release: Release,
    sent_at: Option<Moment>,
}

/// A lease that is not this agent's any more; its run stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) run_id: RunId,
    pub(crate) reason: Reason,
}

impl Leases {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let none = Terms { heartbeat_interval: Duration::ZERO, lease_ttl: Duration::ZERO };
        Self { clock, terms: none, leases: BTreeMap::new() }
    }

    /// A session began under these terms; it lost some leases, and releases go out again.
    pub(crate) fn welcomed(&mut self, terms: Terms, lost: Vec<RunId>) -> Vec<Lost> {
        self.terms = terms;
        for given_back in self.leases.values_mut().filter_map(|lease| lease.given_back.as_mut()) {
            given_back.sent_at = None;
        }
        self.lose(lost, Reason::LEASE_EXPIRED)
    }

    /// Takes a lease up. It was granted a network's delay ago: less than the interval that every deadline leaves.
    pub(crate) fn granted(&mut self, run_id: RunId) -> Deadline {
        let deadline = Deadline::new(Arc::clone(&self.clock), self.lasts_until(self.clock.now()));
        let former = self.leases.insert(run_id, Lease { deadline: deadline.clone(), given_back: None });
        if let Some(former) = former {
            former.deadline.set(Moment::after_start(Duration::ZERO));
        }
        deadline
    }

    /// A heartbeat was answered.
    pub(crate) fn renewed(&mut self, sent_at: Moment, renewed: &[RunId], lost: Vec<RunId>) -> Vec<Lost> {
        let until = self.lasts_until(sent_at);
        for lease in renewed.iter().filter_map(|run_id| self.leases.get(run_id)) {
            lease.deadline.set(until.max(lease.deadline.at()));
        }
        self.lose(lost, Reason::LEASE_EXPIRED)
    }

    /// The control plane took a lease back.
    pub(crate) fn revoked(&mut self, run_id: RunId, reason: Reason) -> Vec<Lost> {
        self.lose(vec![run_id], reason)
    }

    /// The leases whose deadline came.
    pub(crate) fn expired(&mut self) -> Vec<Lost> {
        let past = |lease: &Lease| lease.deadline.is_past();
        let over = self.leases.iter().filter(|(_, lease)| past(lease)).map(|(run_id, _)| run_id.clone()).collect();
        self.lose(over, Reason::LEASE_EXPIRED)
    }

    /// The run's end took the lease with it: it was committed, or another writer has it. One that was given back is
    /// another one, of a later grant.
    pub(crate) fn ended(&mut self, run_id: &RunId) {
        if self.leases.get(run_id).is_some_and(|lease| lease.given_back.is_none()) {
            self.leases.remove(run_id);
        }
    }

    /// Gives a lease back, if it is still held.
    pub(crate) fn give_back(&mut self, release: Release) {
        if let Some(lease) = self.leases.get_mut(&release.token.run_id) {
            lease.given_back.get_or_insert(GivenBack { release, sent_at: None });
        }
    }

    /// The control plane took note of a release.
    pub(crate) fn released(&mut self, run_id: &RunId) {
        if self.leases.get(run_id).is_some_and(|lease| lease.given_back.is_some()) {
            self.leases.remove(run_id);
        }
    }

    /// The releases to send now.
    pub(crate) fn releases_due(&mut self) -> Vec<Release> {
        let now = self.clock.now();
        let given_back = self.leases.values_mut().filter_map(|lease| lease.given_back.as_mut());
        given_back
            .filter(|given_back| given_back.sent_at.is_none_or(|sent_at| now.since(sent_at) >= RESEND))
            .map(|given_back| {
                given_back.sent_at = Some(now);
                given_back.release.clone()
            })
            .collect()
    }

    /// Whether more may be asked for.
    pub(crate) fn has_room(&self) -> bool {
        self.leases.len() < MOST
    }

    /// Whether a lease that was given back is still unanswered.
    pub(crate) fn has_unanswered(&self) -> bool {
        self.leases.values().any(|lease| lease.given_back.is_some())
    }

    fn lasts_until(&self, from: Moment) -> Moment {
        from + self.terms.lease_ttl.saturating_sub(self.terms.heartbeat_interval)
    }

    /// Forgets leases; those of running runs are [`Lost`].
    fn lose(&mut self, lost: Vec<RunId>, reason: Reason) -> Vec<Lost> {
        lost.into_iter()
            .filter_map(|run_id| {
                let lease = self.leases.remove(&run_id)?;
                // Whoever still looks at the deadline finds it past.
                lease.deadline.set(Moment::after_start(Duration::ZERO));
                lease.given_back.is_none().then_some(Lost { run_id, reason })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::testing::HandClock;
    use crate::session::{LeaseId, Outcome, WriteToken};

    const TERMS: Terms = Terms { heartbeat_interval: Duration::from_secs(15), lease_ttl: Duration::from_secs(60) };

    fn leases() -> (Arc<HandClock>, Leases) {
        let clock = Arc::new(HandClock::new());
        let mut leases = Leases::new(clock.clone());
        assert_eq!(leases.welcomed(TERMS, Vec::new()), Vec::new());
        (clock, leases)
    }

    fn run(name: &str) -> RunId {
        RunId::new(name)
    }

    fn release(name: &str) -> Release {
        Release {
            token: WriteToken { run_id: run(name), fence: 1, lease_id: LeaseId([0; 16]) },
            outcome: Outcome::Failed,
            reason: Reason::INTERNAL,
            detail: String::new(),
        }
    }

    #[test]
    fn a_lease_that_is_not_renewed_ends_an_interval_before_its_ttl() {
        let (clock, mut leases) = leases();
        let deadline = leases.granted(run("a"));
        clock.advance(Duration::from_millis(44_999));
        assert_eq!(leases.expired(), Vec::new());
        assert!(!deadline.is_past());
        clock.advance(Duration::from_millis(1));
        assert!(deadline.is_past(), "the upload sees it before the agent has looked");
        assert_eq!(leases.expired(), vec![Lost { run_id: run("a"), reason: Reason::LEASE_EXPIRED }]);
        assert_eq!(leases.expired(), Vec::new());
    }

    #[test]
    fn a_renewal_counts_from_when_its_heartbeat_was_sent_not_from_its_answer() {
        let (clock, mut leases) = leases();
        leases.granted(run("a"));
        let sent_at = clock.advance(Duration::from_secs(10));
        clock.advance(Duration::from_secs(9));
        assert_eq!(leases.renewed(sent_at, &[run("a")], Vec::new()), Vec::new());
        clock.advance(Duration::from_millis(35_999));
        assert_eq!(leases.expired(), Vec::new());
        clock.advance(Duration::from_millis(1));
        assert_eq!(leases.expired().len(), 1);
    }

    #[test]
    fn an_old_answer_never_shortens_a_lease() {
        let (clock, mut leases) = leases();
        let old = clock.now();
        clock.advance(Duration::from_secs(5));
        let deadline = leases.granted(run("a"));
        let before = deadline.at();
        leases.renewed(old, &[run("a")], Vec::new());
        assert_eq!(deadline.at(), before);
    }

    #[test]
    fn a_lease_that_the_answer_leaves_out_is_lost_at_once() {
        let (clock, mut leases) = leases();
        let deadline = leases.granted(run("a"));
        leases.granted(run("b"));
        let lost = leases.renewed(clock.now(), &[run("b")], vec![run("a")]);
        assert_eq!(lost, vec![Lost { run_id: run("a"), reason: Reason::LEASE_EXPIRED }]);
        assert!(deadline.is_past());
        assert_eq!(leases.revoked(run("b"), Reason::LEASE_REVOKED).len(), 1);
        assert_eq!(leases.revoked(run("b"), Reason::LEASE_REVOKED), Vec::new());
    }

    #[test]
    fn a_release_is_sent_again_until_it_is_answered_and_in_every_session() {
        let (clock, mut leases) = leases();
        leases.granted(run("a"));
        leases.give_back(release("a"));
        assert_eq!(leases.releases_due(), vec![release("a")]);
        assert_eq!(leases.releases_due(), Vec::new());
        clock.advance(RESEND);
        assert_eq!(leases.releases_due(), vec![release("a")]);
        leases.welcomed(TERMS, Vec::new());
        assert_eq!(leases.releases_due(), vec![release("a")], "the next session hears it at once");
        assert!(leases.has_unanswered());
        leases.released(&run("a"));
        assert!(!leases.has_unanswered());
        clock.advance(RESEND);
        assert_eq!(leases.releases_due(), Vec::new());
    }

    #[test]
    fn a_release_ends_with_its_lease_without_stopping_a_run_twice() {
        let (clock, mut leases) = leases();
        leases.granted(run("a"));
        leases.give_back(release("a"));
        clock.advance(TERMS.lease_ttl);
        assert_eq!(leases.expired(), Vec::new());
        assert!(!leases.has_unanswered());
    }

    #[test]
    fn a_run_that_is_granted_again_ends_the_former_lease_and_outlives_the_end_of_the_former_run() {
        let (_clock, mut leases) = leases();
        let former = leases.granted(run("a"));
        let lease = leases.granted(run("a"));
        assert!(former.is_past() && !lease.is_past());
        leases.give_back(release("a"));
        leases.ended(&run("a"));
        assert_eq!(leases.releases_due(), vec![release("a")], "the former run's end does not take it");
    }

    #[test]
    fn releases_that_nobody_answers_leave_no_room_for_more_leases() {
        let (clock, mut leases) = leases();
        for n in 0..MOST {
            assert!(leases.has_room());
            leases.granted(run(&n.to_string()));
            leases.give_back(release(&n.to_string()));
        }
        assert!(!leases.has_room());
        clock.advance(TERMS.lease_ttl);
        leases.expired();
        assert!(leases.has_room());
    }

    #[derive(Debug, Clone)]
    enum Action {
        Grant(u8),
        Advance(u64),
        /// A heartbeat now, answered after so many milliseconds for these runs.
        Beat(u64, Vec<u8>),
        GiveBack(u8),
        Look,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..4_u8).prop_map(Action::Grant),
            (0..30_000_u64).prop_map(Action::Advance),
            (0..9_000_u64, proptest::collection::vec(0..4_u8, 0..4))
                .prop_map(|(delay, runs)| Action::Beat(delay, runs)),
            (0..4_u8).prop_map(Action::GiveBack),
            Just(Action::Look),
        ]
    }

    proptest! {
        /// The control plane's side as the model: it counts each lease from when it granted, or a heartbeat came, and
        /// no lease of the agent may outlive it.
        #[test]
        fn no_lease_outlives_the_control_planes_own_count(actions in proptest::collection::vec(action(), 1..80)) {
            let (clock, mut leases) = leases();
            let mut ends: BTreeMap<RunId, (Moment, Deadline)> = BTreeMap::new();
            for action in actions {
                match action {
                    Action::Grant(n) => {
                        let run_id = run(&n.to_string());
                        ends.insert(run_id.clone(), (clock.now() + TERMS.lease_ttl, leases.granted(run_id)));
                    }
                    Action::Advance(ms) => {
                        clock.advance(Duration::from_millis(ms));
                    }
                    Action::Beat(delay, runs) => {
                        let sent_at = clock.now();
                        let listed: Vec<RunId> = leases.leases.keys().cloned().collect();
                        let arrived = clock.advance(Duration::from_millis(delay));
                        let (renewed, lost): (Vec<_>, Vec<_>) = listed.into_iter().partition(|run_id| {
                            runs.iter().any(|n| run_id.as_str() == n.to_string())
                                && ends.get(run_id).is_some_and(|(end, _)| *end > arrived)
                        });
                        for run_id in &renewed {
                            if let Some((end, _)) = ends.get_mut(run_id) {
                                *end = arrived + TERMS.lease_ttl;
                            }
                        }
                        leases.renewed(sent_at, &renewed, lost);
                    }
                    Action::GiveBack(n) => leases.give_back(release(&n.to_string())),
                    Action::Look => {
                        leases.expired();
                    }
                }
                for (end, deadline) in ends.values() {
                    prop_assert!(deadline.is_past() || deadline.at() < *end);
                    prop_assert!(deadline.is_past() || clock.now() < *end);
                }
            }
        }
    }
}
