//! How a stream ends in error.

use std::collections::HashMap;
use std::time::Duration;

use hybrid_runner_proto::v1::Reason;
use hybrid_runner_proto::{ERROR_DOMAIN, reason_name};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::error;

use crate::identity::IdentityError;
use crate::store::{Refusal, StoreError};

/// How long an agent waits before it comes back when the fault is ours.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a stream ends: a reason of the catalogue and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(crate) fn violation(detail: impl Into<String>) -> Self {
        Self::new(Reason::ProtocolViolation, detail)
    }

    pub(crate) fn limit(detail: impl Into<String>) -> Self {
        Self::new(Reason::LimitExceeded, detail)
    }

    /// A message of a capability that this side did not list.
    pub(crate) fn unlisted(capability: &str) -> Self {
        Self::violation(format!("capability `{capability}` was not listed in Welcome.capabilities"))
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
            details.set_retry_info(Some(RETRY_AFTER));
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

/// The store failed: it is logged here, and the peer learns no more than that.
pub(crate) fn internal(failure: &StoreError) -> Problem {
    let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
    error!(error = %failure, cause, "a request could not be served");
    Problem::new(Reason::Internal, "the control plane cannot reach its store; its log says more")
}
