//! The messages of an upload.

use hybrid_runner_connector::{Failure, Report};
use hybrid_runner_proto::v1;
use v1::push_request::Message as Request;

use super::Target;
use super::window::{Batch, Record, Window};

/// The contract's limit for `Eof.failures`; the summary counts all.
const MAX_FAILURES: usize = 1000;
/// The contract's limit for `Failure.detail`, in bytes.
const MAX_FAILURE_DETAIL: usize = 1024;

/// The failures that travel, each with a detail that does.
fn travelling(failures: &[Failure]) -> impl Iterator<Item = (&Failure, &str)> {
    failures.iter().take(MAX_FAILURES).map(|failure| {
        let end = failure.detail.floor_char_boundary(MAX_FAILURE_DETAIL);
        (failure, failure.detail.get(..end).unwrap_or_default())
    })
}

/// With `memos`, the control plane knows them.
pub(super) fn batch_message(target: &Target, batch: Batch, memos: bool) -> Request {
    Request::Batch(v1::Batch {
        token: Some(target.token.clone().into()),
        source_position: batch.source_position,
        records: batch.records.into_iter().map(|record| record_message(record, memos)).collect(),
    })
}

fn record_message(record: Record, memos: bool) -> v1::Record {
    let content = match record.body {
        Some(body) if !record.is_unchanged => v1::record::Content::Body(body),
        _ => v1::record::Content::Unchanged(v1::Unchanged {}),
    };
    v1::Record {
        seq: record.seq,
        kind: record.kind.to_owned(),
        fqn: record.fqn,
        content_hash: record.content_hash.to_vec().into(),
        content: Some(content),
        memo: if memos { record.memo } else { bytes::Bytes::new() },
    }
}

pub(super) fn eof_message(target: &Target, window: &Window, report: Option<&Report>) -> Request {
    let summary = report.map(|report| report.summary).unwrap_or_default();
    let is_complete = report.is_some_and(|report| report.complete);
    let failures = report.map(|report| report.failures.as_slice()).unwrap_or_default();
    Request::Eof(v1::Eof {
        token: Some(target.token.clone().into()),
        count: window.end(),
        digest: window.digest().0.to_vec().into(),
        complete: is_complete,
        failures: travelling(failures)
            .map(|(failure, detail)| v1::Failure {
                fqn: failure.fqn.clone(),
                reason: hybrid_runner_proto::reason_of_name(failure.reason.as_str()).unwrap_or_default().into(),
                detail: detail.to_owned(),
            })
            .collect(),
        // The contract: empty when the run is not complete.
        gone: report.filter(|_| is_complete).map(|report| report.gone.clone()).unwrap_or_default(),
        summary: Some(v1::RunSummary {
            objects: summary.objects,
            filtered: summary.filtered,
            failed: summary.failed,
            keys: summary.keys,
            source_requests: summary.requests,
            source_bytes: summary.bytes_received,
            source_requests_left: summary.requests_left,
        }),
    })
}
