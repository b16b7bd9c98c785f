//! The statuses that end a stream, in the words of the catalogue.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use hybrid_runner_proto::{ERROR_DOMAIN, reason_name, reason_of_name};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{LONGEST_PAUSE, Reason};
use crate::telemetry::Chain;

/// A stream was ended by the control plane or by the network.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The control plane's reason; none when it gave none, or when the network ended the stream.
    pub(crate) reason: Option<Reason>,
    /// Whether the same may succeed on a new stream.
    pub(crate) is_retryable: bool,
    /// What the other side said.
    message: String,
    /// How long the control plane wants to be left alone.
    pub(crate) pause: Option<Duration>,
}

/// The longest part of a foreign text that is shown.
const SHOWN: usize = 1024;

pub(crate) fn refusal_of(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let named = details
        .error_info()
        .filter(|info| info.domain == ERROR_DOMAIN)
        .map(|info| reason_of_name(&info.reason).map_or(Reason::UNSPECIFIED, |reason| Reason(reason_name(reason))));
    let reason = named.or_else(|| match status.code() {
        Code::Unauthenticated => Some(Reason::IDENTITY_UNKNOWN),
        Code::PermissionDenied => Some(Reason::IDENTITY_DENIED),
        _ => None,
    });
    // `Internal` and `Unknown` are what a broken connection looks like from here.
    let transient = matches!(
        status.code(),
        Code::Unavailable
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unknown
            | Code::Aborted
            | Code::ResourceExhausted
    );
    let mut message = format!("{:?}", status.code());
    if !status.message().is_empty() {
        message = format!("{message}: {}", status.message());
    }
    if let Some(cause) = status.source() {
        message = format!("{message}: {}", Chain(cause));
    }
    Refusal {
        is_retryable: transient && named.is_none_or(|reason| reason == Reason::INTERNAL),
        reason,
        message: shown(&message),
        pause: details.retry_info().and_then(|retry| retry.retry_delay).map(|pause| pause.min(LONGEST_PAUSE)),
    }
}

/// A foreign text on one line, cut.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Some(Reason::IDENTITY_UNKNOWN) => write!(
                f,
                "the control plane does not accept this agent's identity ({}): its certificate or bearer token is unknown, \
                 expired or missing there; make one with `control-plane agent add` and configure it under control_plane",
                self.message
            ),
            Some(Reason::IDENTITY_DENIED) => {
                write!(f, "the control plane knows this agent and does not permit this ({})", self.message)
            }
            Some(reason) => write!(f, "the control plane refused: {reason} ({})", self.message),
            None => write!(f, "the stream to the control plane broke ({})", self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_reason_of_the_catalogue_is_read_from_error_info_and_is_final() {
        let details = ErrorDetails::with_error_info("FENCED", ERROR_DOMAIN, HashMap::new());
        let refusal = refusal_of(&Status::with_error_details(Code::FailedPrecondition, "another\nagent", details));
        assert_eq!(refusal.reason, Some(Reason::FENCED));
        assert!(!refusal.is_retryable);
        assert!(refusal.to_string().contains("another agent"));
    }

    #[test]
    fn a_foreign_domain_an_unknown_reason_and_a_broken_stream_are_told_apart() {
        let foreign = ErrorDetails::with_error_info("FENCED", "example.org", HashMap::new());
        let refusal = refusal_of(&Status::with_error_details(Code::Unavailable, "", foreign));
        assert_eq!((refusal.reason, refusal.is_retryable), (None, true));
        let new = ErrorDetails::with_error_info("FROM_THE_FUTURE", ERROR_DOMAIN, HashMap::new());
        let refusal = refusal_of(&Status::with_error_details(Code::Unavailable, "", new));
        assert_eq!((refusal.reason, refusal.is_retryable), (Some(Reason::UNSPECIFIED), false));
    }

    #[test]
    fn the_pause_that_is_asked_for_is_clamped() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3600)));
        let refusal = refusal_of(&Status::with_error_details(Code::Unavailable, "", details));
        assert_eq!(refusal.pause, Some(LONGEST_PAUSE));
    }
}
