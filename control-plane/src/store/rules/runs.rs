//! When a run is granted, and how it goes on when a lease ends without a commit.
//!
//! | ending | reason | the run | staged |
//! |---|---|---|---|
//! | failed | one that may pass | queued, one attempt more, after a pause; failed after the third | kept; dropped |
//! | failed | one that holds its pipeline | failed; scheduled runs of the pipeline wait | dropped |
//! | failed | any other | failed | dropped |
//! | cancelled | any | cancelled | dropped |
//! | handed back | `DRAINING` | queued, at once | kept |
//! | handed back | `CHECKPOINT_UNUSABLE` | queued, at once; failed the fifth time | dropped |
//! | handed back | any other | queued, after a pause that grows | kept |
//! | lost | – | queued, at once; failed the fifth time in a row | kept |
//!
//! "In a row": without one new durable record between. A run that was begun ends before another one of its pipeline
//! begins, so that what it has staged was always staged upon what is committed now.

use hybrid_runner_proto::reason_of_name;
use hybrid_runner_proto::v1::Reason;
use jiff::Timestamp;

use crate::store::{Ending, Hold, Lease, Listed, Pace, Run, RunState, is_over};

/// Attempts of a run; with the last one a reason that may pass is final.
const MAX_ATTEMPTS: u32 = 3;

/// Pauses before the second and the third attempt, in seconds at the default pace.
const PAUSES: [u32; 2] = [30, 120];

/// The same for a source whose quota is used up: it comes back by the hour.
const THROTTLED_PAUSES: [u32; 2] = [900, 3_600];

/// How long a pipeline is held, in the same seconds: whoever mends a password or a policy need not come here, and a wrong
/// password is not tried so often that the account is locked.
const HOLD: u32 = 900;

/// Grants in a row that are lost without one new durable record before the run fails: an org that kills its reader should
/// not do so for ever.
const MAX_LOST: u32 = 5;

/// The same for hand-backs: agents that all lack something should not pass a run around for ever. An agent that is busy
/// is asked again after one second, two, three and so on: three and a half minutes in all.
const MAX_HANDED_BACK: u32 = 20;

/// Clean starts of a run because its source could not go on: each may cost the org a whole extraction.
const MAX_RESTARTS: u32 = 5;

/// What a reason says about the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    MayPass([u32; 2]),
    Holds,
    Final,
}

fn class(reason: &str) -> Class {
    match reason_of_name(reason) {
        Some(
            Reason::SourceUnreachable | Reason::SourceProtocol | Reason::SecretStoreUnreachable | Reason::Internal,
        ) => Class::MayPass(PAUSES),
        Some(Reason::SourceThrottled) => Class::MayPass(THROTTLED_PAUSES),
        Some(
            Reason::AuthFailed
            | Reason::SecretUnavailable
            | Reason::SecretMalformed
            | Reason::SecretInOutput
            | Reason::PolicyDenied
            | Reason::BadDefinition
            | Reason::LiteralSecret
            | Reason::SourceDenied,
        ) => Class::Holds,
        Some(_) | None => Class::Final,
    }
}

/// A run after its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct After {
    pub(in crate::store) run: Run,
    /// Whether what it staged stays for the next grant.
    pub(in crate::store) keeps_staged: bool,
    /// What holds its pipeline from now on, unless its definition changed since the grant.
    pub(in crate::store) hold: Option<Hold>,
}

/// Ends the lease of a run without a commit.
pub(in crate::store) fn end(run: &Run, ending: Ending, reason: &str, detail: &str, now: Timestamp) -> After {
    let mut run = run.clone();
    run.reason = Some(reason.to_owned());
    run.detail = (!detail.is_empty()).then(|| detail.to_owned());
    let mut hold = None;
    let mut keeps_staged = true;
    let again = match ending {
        Ending::Cancelled => None,
        Ending::Failed(pace) => {
            if class(reason) == Class::Holds {
                let until = pace.without_jitter().after(now, HOLD);
                let (pipeline, reason) = (run.pipeline.clone(), reason.to_owned());
                hold = Some(Hold { pipeline, reason, detail: run.detail.clone(), until });
            }
            next_attempt(&mut run, reason, pace, now)
        }
        Ending::HandedBack(_) if reason_of_name(reason) == Some(Reason::CheckpointUnusable) => {
            keeps_staged = false;
            run.restarts = run.restarts.saturating_add(1);
            (run.restarts < MAX_RESTARTS).then_some(None)
        }
        Ending::HandedBack(pace) => {
            run.lost = 0;
            run.handed_back = run.handed_back.saturating_add(1);
            let leaves = reason_of_name(reason) == Some(Reason::Draining);
            let pause = (!leaves).then(|| pace.after(now, run.handed_back));
            (run.handed_back < MAX_HANDED_BACK).then_some(pause)
        }
        Ending::Lost => {
            run.lost = run.lost.saturating_add(1);
            (run.lost < MAX_LOST).then_some(None)
        }
    };
    run.not_before = again.flatten();
    run.state = match (again, ending) {
        (Some(_), _) => RunState::Queued,
        (None, Ending::Cancelled) => RunState::Cancelled,
        (None, _) => RunState::Failed,
    };
    run.ended_at = run.state.is_final().then_some(now);
    After { keeps_staged: keeps_staged && run.state == RunState::Queued, run, hold }
}

/// When a run that failed is tried again; `None` when it is not.
fn next_attempt(run: &mut Run, reason: &str, pace: Pace, now: Timestamp) -> Option<Option<Timestamp>> {
    let Class::MayPass(pauses) = class(reason) else { return None };
    if run.attempt >= MAX_ATTEMPTS {
        return None;
    }
    let pause = usize::try_from(run.attempt.saturating_sub(1)).ok().and_then(|failed| pauses.get(failed));
    run.attempt += 1;
    // What was lost before belongs to the attempt before.
    run.lost = 0;
    run.handed_back = 0;
    Some(pause.map(|seconds| pace.after(now, *seconds)))
}

/// Whether a run may be granted now, beside the other open runs of its pipeline.
pub(in crate::store) fn may_be_granted<'a>(
    run: &Run,
    open: impl IntoIterator<Item = &'a Run>,
    hold: Option<&Hold>,
    now: Timestamp,
) -> bool {
    let begun = |other: &Run| other.attempt > 0 && !other.state.is_final() && other.run_id != run.run_id;
    run.state == RunState::Queued
        && run.not_before.is_none_or(|moment| is_over(moment, now))
        && !(run.scheduled && hold.is_some_and(|hold| hold.is_in_force(now)))
        && !open.into_iter().any(|other| other.pipeline == run.pipeline && begun(other))
}

/// A run as granted, and whether what it has staged stays.
pub(in crate::store) fn grant(
    run: &Run,
    lease: Lease,
    version: u64,
    agent: &str,
    listed: Listed,
    now: Timestamp,
) -> (Run, bool) {
    let keeps_staged = listed.resume && run.definition_version == version;
    let run = Run {
        state: RunState::Granted,
        attempt: run.attempt.max(1),
        not_before: None,
        definition_version: version,
        started_at: run.started_at.or(Some(now)),
        agent: Some(agent.to_owned()),
        reason: None,
        detail: None,
        lease: Some(lease),
        ..run.clone()
    };
    (run, keeps_staged)
}

/// A queued run that is asked for once more, and whether what it has staged stays.
pub(in crate::store) fn join(run: &Run, full: bool, scheduled: bool) -> (Run, bool) {
    let keeps_staged = run.full || !full;
    // Who asks by hand does not wait.
    let not_before = run.not_before.filter(|_| scheduled);
    let joined = Run { full: run.full || full, scheduled: run.scheduled && scheduled, not_before, ..run.clone() };
    (joined, keeps_staged)
}

/// The queued run that another request joins: the one that was begun, if any.
pub(in crate::store) fn joinable<'a>(open: impl IntoIterator<Item = &'a Run>) -> Option<&'a Run> {
    let queued = open.into_iter().filter(|run| run.state == RunState::Queued);
    queued.min_by_key(|run| (run.attempt == 0, run.run_id))
}
