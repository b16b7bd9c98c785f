//! What an agent may push, with its limits checked and its hashes recomputed.

use hybrid_runner_proto::v1::{self, push_request, record};
use prost::Message as _;

use super::body;
use crate::digest;
use crate::status::Problem;
use crate::store::{Batch, Content, Eof, Failure, Record, Summary, Token};
use crate::wire;

/// Records of a batch.
const MAX_RECORDS: usize = 1_000;

/// Encoded bytes of a batch of more than one record.
const MAX_BATCH: usize = 1024 * 1024;

/// Bytes of a kind, an FQN, a memo, a body, a source position.
const MAX_KIND: usize = 64;
const MAX_FQN: usize = 3_072;
const MAX_MEMO: usize = 512;
const MAX_BODY: usize = 3 * 1024 * 1024;
const MAX_POSITION: usize = 4 * 1024;

/// Failures listed at the end of a run, and the bytes of the sentence of each.
const MAX_FAILURES: usize = 1_000;
const MAX_FAILURE_DETAIL: usize = 1024;

/// A message of an agent. A token is `None` when it cannot be one that was granted here.
#[derive(Debug)]
pub(super) enum Incoming {
    Open(Option<Token>),
    Batch { token: Option<Token>, batch: Batch },
    Eof { token: Option<Token>, eof: Eof },
}

impl TryFrom<push_request::Message> for Incoming {
    type Error = Problem;

    fn try_from(message: push_request::Message) -> Result<Self, Problem> {
        Ok(match message {
            push_request::Message::Open(open) => Self::Open(wire::token(open.token.as_ref())),
            push_request::Message::Batch(batch) => {
                Self::Batch { token: wire::token(batch.token.as_ref()), batch: read_batch(batch)? }
            }
            push_request::Message::Eof(eof) => {
                Self::Eof { token: wire::token(eof.token.as_ref()), eof: read_eof(eof)? }
            }
        })
    }
}

fn read_batch(batch: v1::Batch) -> Result<Batch, Problem> {
    let (records, size) = (batch.records.len(), batch.encoded_len());
    if records == 0 {
        return Err(Problem::violation("a batch without records"));
    }
    if records > MAX_RECORDS {
        return Err(Problem::limit(format!("a batch has {records} records; accepted: at most {MAX_RECORDS}")));
    }
    if records > 1 && size > MAX_BATCH {
        return Err(Problem::limit(format!(
            "a batch of {records} records has {size} bytes; accepted: at most {MAX_BATCH}, or one record"
        )));
    }
    at_most(batch.source_position.len(), MAX_POSITION, "Batch.source_position")?;
    Ok(Batch {
        records: batch.records.into_iter().map(read_record).collect::<Result<_, _>>()?,
        source_position: batch.source_position,
    })
}

fn read_record(record: v1::Record) -> Result<Record, Problem> {
    let at = |problem: Problem| Problem::new(problem.reason, format!("record {}: {}", record.seq, problem.detail));
    let content_hash = wire::hash(&record.content_hash, "content_hash").map_err(at)?;
    name(&record.kind, MAX_KIND, "kind").map_err(at)?;
    name(&record.fqn, MAX_FQN, "fqn").map_err(at)?;
    at_most(record.memo.len(), MAX_MEMO, "memo").map_err(at)?;
    let content = match record.content {
        None => return Err(at(Problem::violation("has neither a body nor `unchanged`"))),
        Some(record::Content::Unchanged(_)) => None,
        Some(record::Content::Body(body)) => {
            at_most(body.len(), MAX_BODY, "body").map_err(at)?;
            if digest::of_body(&body) != content_hash {
                return Err(at(Problem::violation("content_hash is not the BLAKE3 of the body")));
            }
            let shape = body::read(&record.kind, &body).map_err(|problem| at(Problem::violation(problem)))?;
            Some(Content { columns: shape.columns, foreign_keys: shape.foreign_keys, body })
        }
    };
    Ok(Record { seq: record.seq, kind: record.kind, fqn: record.fqn, content_hash, memo: record.memo, content })
}

fn read_eof(eof: v1::Eof) -> Result<Eof, Problem> {
    let failures = eof.failures.len();
    if failures > MAX_FAILURES {
        return Err(Problem::limit(format!("Eof.failures has {failures} entries; accepted: at most {MAX_FAILURES}")));
    }
    let failure = |failure: v1::Failure| {
        Ok(Failure {
            reason: wire::reason(failure.reason).to_owned(),
            fqn: wire::text(failure.fqn, MAX_FQN, "Failure.fqn")?,
            detail: wire::text(failure.detail, MAX_FAILURE_DETAIL, "Failure.detail")?,
        })
    };
    let summary = eof.summary.unwrap_or_default();
    Ok(Eof {
        count: eof.count,
        digest: wire::hash(&eof.digest, "Eof.digest")?,
        complete: eof.complete,
        failures: eof.failures.into_iter().map(failure).collect::<Result<_, Problem>>()?,
        gone: eof.gone,
        summary: Summary {
            objects: summary.objects,
            filtered: summary.filtered,
            failed: summary.failed,
            keys: summary.keys,
            source_requests: summary.source_requests,
            source_bytes: summary.source_bytes,
            source_requests_left: summary.source_requests_left,
        },
    })
}

fn name(name: &str, max: usize, what: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(Problem::violation(format!("{what} is empty")));
    }
    at_most(name.len(), max, what)
}

fn at_most(found: usize, max: usize, what: &str) -> Result<(), Problem> {
    if found > max {
        return Err(Problem::limit(format!("{what} has {found} bytes; accepted: at most {max}")));
    }
    Ok(())
}
