//! How a stream ends in error.

use std::collections::HashMap;
use std::time::Duration;

use hybrid_runner_proto::v1::Reason;
use hybrid_runner_proto::{ERROR_DOMAIN, reason_name};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::identity::IdentityError;
use crate::store::{Refusal, StoreError};

/// How long an agent waits before it comes back when the fault is ours.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The same when the store cannot be written: somebody has to make room first.
const RETRY_UNWRITABLE_AFTER: Duration = Duration::from_secs(5);

/// Why a stream ends: a reason of the catalogue and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    /// The pause that the peer is asked for, if it may come again.
    retry_after: Duration,
}

impl Problem {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: RETRY_AFTER }
    }

    pub(crate) fn violation(detail: impl Into<String>) -> Self {
        Self::new(Reason::ProtocolViolation, detail)
    }

    pub(crate) fn limit(detail: impl Into<String>) -> Self {
        Self::new(Reason::LimitExceeded, detail)
    }

    /// A message of a capability that the agent did not list.
    pub(crate) fn unlisted(message: &str, capability: &str) -> Self {
        Self::violation(format!(
            "{message} is of capability `{capability}`, which was not listed in Hello.capabilities"
        ))
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let code = match problem.reason {
            Reason::ProtocolViolation | Reason::LimitExceeded => Code::InvalidArgument,
            Reason::IdentityUnknown => Code::Unauthenticated,
            Reason::IdentityDenied => Code::PermissionDenied,
            // The control plane stops, or something broke: whoever comes again may have more luck.
            Reason::Internal | Reason::Draining | Reason::AgentLost => Code::Unavailable,
            _ => Code::FailedPrecondition,
        };
        let mut details = ErrorDetails::with_error_info(reason_name(problem.reason), ERROR_DOMAIN, HashMap::new());
        if code == Code::Unavailable {
            details.set_retry_info(Some(problem.retry_after));
        }
        Self::with_error_details(code, problem.detail, details)
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        Self::new(Reason::IdentityUnknown, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let reason = match &refusal {
            Refusal::Fenced { .. } => Reason::Fenced,
            Refusal::LeaseExpired { .. } => Reason::LeaseExpired,
            Refusal::LeaseRevoked { .. } => Reason::LeaseRevoked,
            Refusal::Cancelled { .. } => Reason::Cancelled,
            Refusal::OtherAgent => Reason::IdentityDenied,
            Refusal::NotOpen | Refusal::DuplicateName { .. } => Reason::ProtocolViolation,
            Refusal::RecordChanged { .. } => Reason::RecordChanged,
            Refusal::OutOfOrder { .. } => Reason::OutOfOrder,
            Refusal::DigestMismatch { .. } => Reason::DigestMismatch,
        };
        Self::new(reason, refusal.to_string())
    }
}

impl From<&StoreError> for Problem {
    /// The peer learns no more of the store than whether it can be written.
    fn from(failure: &StoreError) -> Self {
        let (detail, retry_after) = match failure {
            StoreError::Full { .. } => {
                ("the control plane's store is full; its log says where and what to do", RETRY_UNWRITABLE_AFTER)
            }
            StoreError::Unusable { .. } => (
                "the control plane's store cannot be read or written; its log says where and what to do",
                RETRY_UNWRITABLE_AFTER,
            ),
            StoreError::Database { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Schema { .. }
            | StoreError::Closed => ("the control plane cannot reach its store; its log says more", RETRY_AFTER),
        };
        Self { retry_after, ..Self::new(Reason::Internal, detail) }
    }
}
