//! From generated types to our own, with the limits of docs/protocol.md. Nothing behind this module sees a length that
//! was not checked.

use hybrid_runner_proto::reason_name;
use hybrid_runner_proto::v1;
use hybrid_runner_proto::v1::Reason;

use crate::digest::Hash;
use crate::shared::{KindProgress, Progress};
use crate::status::Problem;
use crate::store::{LeaseId, Token};

/// A sentence for the operator, in bytes.
pub(crate) const MAX_DETAIL: usize = 4 * 1024;

/// Kinds in the progress of a run, and the name of one in bytes, as in a record.
const MAX_KINDS: usize = 16;
const MAX_KIND: usize = 64;

/// A token as sent. `None` when it cannot be one that was granted here: it names no run, or no lease.
pub(crate) fn token(token: Option<&v1::WriteToken>) -> Option<Token> {
    let token = token?;
    let lease_id = token.lease_id.as_ref().try_into().ok()?;
    Some(Token { run_id: token.run_id.parse().ok()?, fence: token.fence, lease_id: LeaseId(lease_id) })
}

/// A token to send.
pub(crate) fn token_to_wire(token: &Token) -> v1::WriteToken {
    v1::WriteToken { run_id: token.run_id.to_string(), fence: token.fence, lease_id: token.lease_id.0.to_vec().into() }
}

/// A duration to send.
pub(crate) fn duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// A duration as sent; nothing and negative ones are zero.
pub(crate) fn duration_of(sent: Option<prost_types::Duration>) -> std::time::Duration {
    sent.and_then(|sent| sent.try_into().ok()).unwrap_or_default()
}

/// 32 bytes.
pub(crate) fn hash(bytes: &[u8], what: &str) -> Result<Hash, Problem> {
    exact(bytes, what)
}

/// So many bytes.
pub(crate) fn exact<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], Problem> {
    match bytes.try_into() {
        Ok(exact) => Ok(exact),
        Err(_) => Err(Problem::violation(format!("{what} has {} bytes, not {N}", bytes.len()))),
    }
}

/// A text of at most so many bytes.
pub(crate) fn text(text: String, max: usize, what: &str) -> Result<String, Problem> {
    if text.len() > max {
        return Err(Problem::limit(format!("{what} has {} bytes; accepted: at most {max}", text.len())));
    }
    Ok(text)
}

/// The name of a reason; one that this version does not know counts as unspecified.
pub(crate) fn reason(number: i32) -> &'static str {
    reason_name(Reason::try_from(number).unwrap_or(Reason::Unspecified))
}

/// A run's progress.
pub(crate) fn progress(progress: v1::Progress) -> Result<Progress, Problem> {
    Ok(Progress {
        stage: match progress.stage() {
            v1::Stage::Unspecified => "",
            v1::Stage::Login => "login",
            v1::Stage::List => "list",
            v1::Stage::Extract => "extract",
            v1::Stage::Flush => "flush",
        },
        objects_total: progress.objects_total,
        objects_done: progress.objects_done,
        objects_failed: progress.objects_failed,
        source_requests: progress.source_requests,
        source_bytes: progress.source_bytes,
        records_acked: progress.records_acked,
        kinds: kinds(progress.kinds)?,
    })
}

fn kinds(sent: Vec<v1::KindProgress>) -> Result<Vec<KindProgress>, Problem> {
    if sent.len() > MAX_KINDS {
        let found = sent.len();
        return Err(Problem::limit(format!("Progress.kinds has {found} entries; accepted: at most {MAX_KINDS}")));
    }
    let kind = |sent: v1::KindProgress| {
        let kind = text(sent.kind, MAX_KIND, "KindProgress.kind")?;
        Ok(KindProgress { kind, acked: sent.records_acked, expected: sent.records_expected })
    };
    sent.into_iter().map(kind).collect()
}
