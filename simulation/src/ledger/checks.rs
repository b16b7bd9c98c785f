//! What a batch and a commit are compared with.

use control_plane::store::{Eof, Record};

use super::{Grant, Staged};
use crate::org::{KIND, Org, Truth};

/// Takes a batch over into what is durable, and says what of it cannot be.
pub(super) fn batch(org: &Org, grant: &Grant, staged: &mut Staged, records: &[Record]) -> Vec<String> {
    let Grant { pipeline, variant, .. } = grant;
    let (truth, entities) = (org.truth(pipeline, *variant), org.entities(pipeline, *variant));
    let mut wrong = Vec::new();
    for record in records {
        let place = record.seq as usize;
        let said = (record.fqn.clone(), record.content_hash);
        match staged.records.get(place) {
            Some(known) if *known == said => continue,
            Some((known, _)) => {
                wrong.push(format!("I7: record {place} of {pipeline} was {known} and is {}", record.fqn));
                continue;
            }
            None if place > staged.records.len() => {
                wrong.push(format!("I1: record {place} of {pipeline} was applied behind a gap"));
            }
            None => {}
        }
        if truth.get(&record.fqn) != Some(&record.content_hash) || record.kind != KIND {
            wrong.push(format!("I2: no source of {pipeline} yields this {}", record.fqn));
        }
        let body = record.content.as_ref().map(|content| &content.body);
        if body.is_some_and(|body| *blake3::hash(body).as_bytes() != record.content_hash) {
            wrong.push(format!("I2: the body of {} is another one", record.fqn));
        }
        if staged.records.iter().any(|(fqn, _)| *fqn == record.fqn) {
            wrong.push(format!("I3: {} came twice in a run", record.fqn));
        }
        let entity = entities.iter().find(|entity| entity.fqn == record.fqn);
        staged.bytes += entity.and_then(|entity| entity.body()).map_or(0, bytes::Bytes::len);
        staged.records.push(said);
    }
    wrong
}

/// Says what of a commit cannot be. `before` and `now` are the pipeline's entities; `waits`: deletions wait.
pub(super) fn commit(
    org: &Org,
    grant: &Grant,
    staged: &Staged,
    eof: &Eof,
    before: &Truth,
    now: &Truth,
    waits: bool,
) -> Vec<String> {
    let Grant { pipeline, variant, .. } = grant;
    let truth = org.truth(pipeline, *variant);
    let mut wrong = Vec::new();
    if eof.count != staged.records.len() as u64 {
        let durable = staged.records.len();
        wrong.push(format!("I1: {pipeline} was committed with {} records, {durable} are durable", eof.count));
    }
    // What was not read is told, and nothing else is left out.
    let mut read: Truth = staged.records.iter().cloned().collect();
    let unreadable = org.unreadable.lock().unwrap();
    for failure in &eof.failures {
        if !unreadable.contains(&failure.fqn) {
            wrong.push(format!("I1: {} was read and is reported as a failure", failure.fqn));
        }
        read.extend(truth.get_key_value(&failure.fqn).map(|(fqn, hash)| (fqn.clone(), *hash)));
    }
    if read != *truth {
        wrong.push(difference("I1: what was staged", pipeline, &read, &truth));
    }
    if eof.complete != eof.failures.is_empty() {
        wrong.push(format!("I8: {pipeline} is complete with {} failures", eof.failures.len()));
    }
    let mut wanted: Truth = staged.records.iter().cloned().collect();
    if !eof.complete || waits {
        let kept = before.iter().filter(|(fqn, _)| !wanted.contains_key(*fqn));
        let kept: Truth = kept.map(|(fqn, hash)| (fqn.clone(), *hash)).collect();
        wanted.extend(kept);
    }
    if *now != wanted {
        let which = if eof.complete { "I1" } else { "I8" };
        wrong.push(difference(&format!("{which}: what is committed"), pipeline, now, &wanted));
    }
    wrong
}

/// How two sets differ, in a line.
pub(super) fn difference(what: &str, pipeline: &str, found: &Truth, wanted: &Truth) -> String {
    let without = |these: &Truth, those: &Truth| -> Vec<String> {
        these.keys().filter(|fqn| !those.contains_key(*fqn)).cloned().collect()
    };
    let (missing, more) = (without(wanted, found), without(found, wanted));
    let other: Vec<_> = wanted
        .iter()
        .filter(|(fqn, hash)| found.get(*fqn).is_some_and(|found| found != *hash))
        .map(|(fqn, _)| fqn)
        .collect();
    format!(
        "{what} of {pipeline} is not what its source yields: missing {missing:?}, too much {more:?}, other {other:?}"
    )
}
