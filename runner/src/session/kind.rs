//! What ended a session, in a word: for metrics and probes.

use super::connect::ConnectError;
use super::machine::SessionError;

impl SessionError {
    /// `configuration`, `network`, `proxy`, `tls`, `refused`, `silent`, `closed`, `renewed` or `protocol`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Violation(_) | Self::Version(_) | Self::NoDiagnostics => "protocol",
            Self::NoWelcome | Self::Unresponsive | Self::Stuck | Self::NotAllSent => "silent",
            Self::Tls { .. } => "tls",
            // A stream that the network broke has a status without a reason of the catalogue.
            Self::Refused(refusal) if refusal.reason.is_none() => "network",
            Self::Refused(_) => "refused",
            // After an agent that has left nobody is told.
            Self::Closed | Self::AgentGone => "closed",
            Self::Renewed => "renewed",
        }
    }
}

impl ConnectError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Network { .. } | Self::Timeout { .. } | Self::Http2 { .. } => "network",
            Self::Proxy { .. } => "proxy",
            Self::Tls { .. } => "tls",
            Self::File { .. }
            | Self::Pem { .. }
            | Self::Token
            | Self::NoRoots
            | Self::Identity { .. }
            | Self::Ca { .. }
            | Self::Name { .. } => "configuration",
        }
    }
}
