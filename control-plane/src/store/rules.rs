//! The rules of the store's transactions, without I/O: every store reads, asks here, and writes what it is told.

mod runs;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hybrid_runner_openmetadata::entity::Kind;

pub(super) use self::runs::{After, end, grant, join, joinable, may_be_granted};
use super::{Deletions, Eof, Figures, Record, Refusal, Run, RunId, RunState, Writer};
use crate::digest::{self, Hash};

/// What a scope is counted in: the other kinds are what tables stand in and point to, and a run does not delete them.
const COUNTED: &str = Kind::Table.as_str();

/// Deletions of at most this many entities pass the guard whatever the scope is (CONTRACTS §5).
const DELETIONS_ALWAYS_ALLOWED: usize = 5;

/// Above [`DELETIONS_ALWAYS_ALLOWED`], at most one in so many tables of the scope is deleted without a confirmation.
const DELETIONS_ALLOWED_SHARE: usize = 5;

/// Reason of a lease that ran out: its agent went away.
pub(super) const AGENT_LOST: &str = "AGENT_LOST";

/// Reason of a lease that the control plane took back.
pub(super) const LEASE_REVOKED: &str = "LEASE_REVOKED";

/// Reason of a run that an operator ended.
pub(super) const CANCELLED: &str = "CANCELLED";

/// What an operator reads of a run that was cancelled with its pipeline.
pub(super) const REVOKED_DETAIL: &str = "the pipeline was removed or disabled";

/// How a writer stands to the run that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It holds the lease.
    Current,
    /// It held the lease until it committed with this very token.
    Committed,
}

/// Compares run, fence, lease id and agent with the current grant.
pub(super) fn standing(run: Option<&Run>, current_fence: u64, writer: &Writer) -> Result<Standing, Refusal> {
    let Some(run) = run else { return Err(Refusal::Fenced { current_fence: 0 }) };
    if run.token() != Some(writer.token) {
        return Err(Refusal::Fenced { current_fence });
    }
    if run.agent.as_deref() != Some(writer.agent.as_str()) {
        return Err(Refusal::OtherAgent);
    }
    match (run.state, run.reason.as_deref()) {
        (RunState::Granted | RunState::Running, _) => Ok(Standing::Current),
        (RunState::Committed, _) => Ok(Standing::Committed),
        (RunState::Queued | RunState::Failed, Some(AGENT_LOST)) => Err(Refusal::LeaseExpired { current_fence }),
        (RunState::Cancelled, Some(LEASE_REVOKED)) => Err(Refusal::LeaseRevoked { current_fence }),
        (RunState::Cancelled, Some(CANCELLED)) => Err(Refusal::Cancelled { current_fence }),
        (RunState::Queued | RunState::Failed | RunState::Cancelled, _) => Err(Refusal::Fenced { current_fence }),
    }
}

/// What makes a record the same record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: String,
    pub(super) fqn: String,
    pub(super) content_hash: Hash,
}

/// What a batch is compared with.
#[derive(Debug)]
pub(super) struct BatchContext {
    pub(super) next_seq: u64,
    pub(super) digest: Hash,
    /// Whether the run may not skip what looks unchanged.
    pub(super) full: bool,
    /// Staged records from the batch's first seq on.
    pub(super) staged: BTreeMap<u64, Head>,
    /// Those FQNs of the batch that the run has staged already, at any seq.
    pub(super) names: BTreeSet<String>,
    /// Committed entities of the FQNs of the batch.
    pub(super) committed: BTreeMap<String, Head>,
}

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BatchPlan {
    /// All of it is known.
    Known,
    /// Stage the records from this index on.
    Stage { from: usize, next_seq: u64, digest: Hash },
    /// Nothing; these cannot be accepted as unchanged.
    BodyNeeded(Vec<u64>),
}

/// Decides a batch.
pub(super) fn plan_batch(context: &BatchContext, records: &[Record]) -> Result<BatchPlan, Refusal> {
    let first = records.first().map_or(context.next_seq, |record| record.seq);
    if first > context.next_seq {
        return Err(Refusal::OutOfOrder { expected: context.next_seq, found: first });
    }
    let mut fresh = 0;
    let mut names = HashSet::new();
    let mut digest = context.digest;
    let mut body_needed = Vec::new();
    for (expected, record) in (first..).zip(records) {
        if record.seq != expected {
            return Err(Refusal::OutOfOrder { expected, found: record.seq });
        }
        let head = Head { kind: record.kind.clone(), fqn: record.fqn.clone(), content_hash: record.content_hash };
        if record.seq < context.next_seq {
            if context.staged.get(&record.seq) != Some(&head) {
                return Err(Refusal::RecordChanged { seq: record.seq });
            }
            continue;
        }
        if context.names.contains(&record.fqn) || !names.insert(record.fqn.as_str()) {
            return Err(Refusal::DuplicateName { seq: record.seq });
        }
        let unchanged_holds = !context.full && context.committed.get(&record.fqn) == Some(&head);
        if record.content.is_none() && !unchanged_holds {
            body_needed.push(record.seq);
        }
        digest = digest::next(&digest, record.seq, &record.kind, &record.fqn, &record.content_hash);
        fresh += 1;
    }
    if !body_needed.is_empty() {
        return Ok(BatchPlan::BodyNeeded(body_needed));
    }
    if fresh == 0 {
        return Ok(BatchPlan::Known);
    }
    let next_seq = first.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
    Ok(BatchPlan::Stage { from: records.len() - fresh, next_seq, digest })
}

/// An entity, staged or current, as far as a commit looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kind: String,
    pub(super) content_hash: Hash,
    pub(super) columns: u64,
    pub(super) foreign_keys: Vec<String>,
    /// Whether a body came with it; true for what is current.
    pub(super) has_body: bool,
}

/// What a commit is decided by.
#[derive(Debug)]
pub(super) struct CommitContext {
    pub(super) next_seq: u64,
    pub(super) digest: Hash,
    /// `markDeletedTables` of the definition.
    pub(super) mark_deleted: bool,
    pub(super) staged: BTreeMap<String, Shape>,
    pub(super) current: BTreeMap<String, Shape>,
}

/// What a commit does besides making the staged set current.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CommitPlan {
    pub(super) figures: Figures,
    /// Entities to delete.
    pub(super) delete: Vec<String>,
    /// Entities whose deletion waits for an operator.
    pub(super) pending: Vec<String>,
}

/// Decides a commit.
pub(super) fn plan_commit(context: &CommitContext, eof: &Eof) -> Result<CommitPlan, Refusal> {
    if eof.count != context.next_seq || eof.digest != context.digest {
        return Err(Refusal::DigestMismatch { said: eof.count, applied: context.next_seq });
    }
    let (deletions, gone) = deletions(context, eof);
    let (delete, pending) = match deletions {
        Deletions::None => (Vec::new(), Vec::new()),
        Deletions::Applied => (gone, Vec::new()),
        Deletions::NeedsConfirmation => (Vec::new(), gone),
    };
    let same = |fqn: &str, staged: &Shape| {
        context.current.get(fqn).is_some_and(|now| now.kind == staged.kind && now.content_hash == staged.content_hash)
    };
    let unchanged = context.staged.iter().filter(|(fqn, staged)| same(fqn, staged)).count();
    let deleted: HashSet<&str> = delete.iter().map(String::as_str).collect();
    // What will be current: the staged set over the current one. A staged record without a body says nothing of columns
    // and keys that the current one does not.
    let mut after: BTreeMap<&str, &Shape> = context
        .current
        .iter()
        .map(|(fqn, shape)| (fqn.as_str(), shape))
        .filter(|(fqn, _)| !deleted.contains(fqn))
        .collect();
    after.extend(context.staged.iter().filter(|(_, shape)| shape.has_body).map(|(fqn, shape)| (fqn.as_str(), shape)));
    let dangling = after
        .values()
        .flat_map(|shape| &shape.foreign_keys)
        .filter(|target| !after.contains_key(target.as_str()))
        .count();
    let figures = Figures {
        count: eof.count,
        entities: count(after.len()),
        columns: after.values().map(|shape| shape.columns).sum(),
        sent: count(context.staged.values().filter(|shape| shape.has_body).count()),
        changed: count(context.staged.len() - unchanged),
        unchanged: count(unchanged),
        deleted: count(delete.len()),
        deletions,
        dangling_foreign_keys: count(dangling),
        summary: eof.summary,
    };
    Ok(CommitPlan { figures, delete, pending })
}

/// The answer to an end that comes again after the commit.
pub(super) fn committed_again(
    next_seq: u64,
    digest: Hash,
    figures: Option<Figures>,
    eof: &Eof,
) -> Result<Figures, Refusal> {
    let same = eof.count == next_seq && eof.digest == digest;
    figures.filter(|_| same).ok_or(Refusal::DigestMismatch { said: eof.count, applied: next_seq })
}

/// What of `Eof.gone` may be deleted: committed, not in this run, not failed; nothing from an incomplete run.
fn deletions(context: &CommitContext, eof: &Eof) -> (Deletions, Vec<String>) {
    if !eof.complete || !context.mark_deleted {
        return (Deletions::None, Vec::new());
    }
    let failed: HashSet<&str> = eof.failures.iter().map(|failure| failure.fqn.as_str()).collect();
    let gone: BTreeSet<&String> = eof
        .gone
        .iter()
        .filter(|fqn| context.current.contains_key(*fqn))
        .filter(|fqn| !context.staged.contains_key(*fqn) && !failed.contains(fqn.as_str()))
        .collect();
    let is_counted = |fqn: &String| context.current.get(fqn).is_some_and(|shape| shape.kind == COUNTED);
    // The scope: the tables that are committed and were either seen by this run or are gone. Tables that are new in this
    // run do not raise it, nor do those that the definition leaves out now.
    let scope = context.staged.keys().chain(gone.iter().copied()).filter(|fqn| is_counted(fqn)).count();
    let allowed = DELETIONS_ALWAYS_ALLOWED.max(scope / DELETIONS_ALLOWED_SHARE);
    let deletions = match gone.len() {
        0 => Deletions::None,
        deleted if deleted <= allowed => Deletions::Applied,
        _ => Deletions::NeedsConfirmation,
    };
    (deletions, gone.into_iter().cloned().collect())
}

/// Writes an operator's decision about deletions into the figures of their run.
pub(super) fn decided(figures: &mut Figures, applied: bool, deleted: u64) {
    figures.deletions = if applied { Deletions::Applied } else { Deletions::None };
    figures.deleted += deleted;
    figures.entities = figures.entities.saturating_sub(deleted);
}

/// The runs that a store drops when another one is queued: final ones beyond [`super::MAX_FINAL_RUNS`], given newest
/// first.
pub(super) fn surplus(finals_newest_first: impl Iterator<Item = RunId>) -> Vec<RunId> {
    let kept = usize::try_from(super::MAX_FINAL_RUNS).unwrap_or(usize::MAX);
    finals_newest_first.skip(kept).collect()
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{Content, Failure};

    fn record(seq: u64, fqn: &str, body: &str) -> Record {
        Record {
            seq,
            kind: "table".to_owned(),
            fqn: fqn.to_owned(),
            content_hash: digest::of_body(body.as_bytes()),
            memo: bytes::Bytes::new(),
            content: Some(Content { body: body.to_owned().into(), columns: 1, foreign_keys: Vec::new() }),
        }
    }

    fn context() -> BatchContext {
        BatchContext {
            next_seq: 0,
            digest: digest::EMPTY,
            full: false,
            staged: BTreeMap::new(),
            names: BTreeSet::new(),
            committed: BTreeMap::new(),
        }
    }

    /// Stages what the plan says, as a store would.
    fn stage(context: &mut BatchContext, records: &[Record]) {
        if let Ok(BatchPlan::Stage { from, next_seq, digest }) = plan_batch(context, records) {
            for record in &records[from..] {
                context.staged.insert(
                    record.seq,
                    Head { kind: record.kind.clone(), fqn: record.fqn.clone(), content_hash: record.content_hash },
                );
            }
            context.next_seq = next_seq;
            context.digest = digest;
        }
    }

    proptest! {
        #[test]
        fn the_digest_does_not_depend_on_how_records_are_batched_or_resent(
            total in 1_u64..40,
            windows in proptest::collection::vec((0_u64..40, 1_u64..12), 1..40),
        ) {
            let all: Vec<Record> = (0..total).map(|seq| record(seq, &format!("s.t{seq}"), &format!("{{\"n\":{seq}}}"))).collect();
            let mut context = context();
            for (start, length) in windows {
                // Any window that was sent before or continues; others are refused and change nothing.
                let start = start.min(total - 1);
                let end = (start + length).min(total);
                let batch: Vec<Record> = all[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].to_vec();
                context.names = context.staged.values().map(|head| head.fqn.clone())
                    .filter(|fqn| batch.iter().any(|record| &record.fqn == fqn && record.seq >= context.next_seq)).collect();
                stage(&mut context, &batch);
                let expected = all.iter().take_while(|record| record.seq < context.next_seq).fold(digest::EMPTY, |digest, record| {
                    digest::next(&digest, record.seq, &record.kind, &record.fqn, &record.content_hash)
                });
                prop_assert_eq!(context.digest, expected);
                prop_assert_eq!(u64::try_from(context.staged.len()).unwrap(), context.next_seq);
            }
        }

        #[test]
        fn no_more_than_the_guard_allows_is_ever_deleted(
            current in 0_usize..200, seen in 0_usize..200, tags in 0_usize..200, failed in 0_usize..20,
            complete: bool, mark_deleted: bool,
        ) {
            let shape = |kind: &str| Shape {
                kind: kind.to_owned(), content_hash: digest::EMPTY, columns: 1, foreign_keys: Vec::new(), has_body: true,
            };
            let name = |index: usize| format!("s.t{index:03}");
            let seen = seen.min(current);
            // As many tags as there may be: they are seen, and let no table more go.
            let with_tags = |tables: usize| {
                let tables = (0..tables).map(|index| (name(index), shape("table")));
                tables.chain((0..tags).map(|index| (format!("S.t{index:03}"), shape("tag")))).collect()
            };
            let context = CommitContext {
                next_seq: 0, digest: digest::EMPTY, mark_deleted,
                staged: with_tags(seen),
                current: with_tags(current),
            };
            let eof = Eof {
                count: 0, digest: digest::EMPTY, complete,
                failures: (seen..current).take(failed).map(|index| Failure {
                    fqn: name(index), reason: "OBJECT_VANISHED".to_owned(), detail: String::new(),
                }).collect(),
                // Everything, also what the run has seen: only what is really gone may go.
                gone: (0..current + 3).map(name).collect(),
                summary: crate::store::Summary::default(),
            };
            let plan = plan_commit(&context, &eof).unwrap();
            let gone = current - seen - failed.min(current - seen);
            let allowed = 5.max((seen + gone) / 5);
            prop_assert!(plan.delete.len() <= allowed);
            if complete && mark_deleted {
                prop_assert_eq!(plan.delete.len() + plan.pending.len(), gone);
                prop_assert_eq!(plan.pending.is_empty(), gone <= allowed);
            }
            prop_assert!(plan.delete.is_empty() || (complete && mark_deleted));
            prop_assert!(plan.delete.iter().all(|fqn| !context.staged.contains_key(fqn)));
            prop_assert!(plan.delete.is_empty() || plan.delete.len() == gone);
            if plan.figures.deletions == Deletions::NeedsConfirmation {
                prop_assert_eq!(plan.pending.len(), gone);
            }
        }
    }
}
