//! Why a definition is refused, an object fails, or a run ends.

use std::fmt;

use hybrid_runner_secrets::SecretError;

/// The closed set of reasons that a source gives. Each has a namesake in `hybrid.runner.v1.Reason`, where its meaning
/// for the control plane is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The definition does not parse, or a value is not accepted.
    BadDefinition,
    /// A literal stands where a reference belongs.
    LiteralSecret,
    /// Local policy does not permit it.
    PolicyDenied,
    /// No connector for this kind of source.
    SourceUnknown,
    /// A secret does not exist or may not be read.
    SecretUnavailable,
    /// A secret store could not be reached.
    SecretStoreUnreachable,
    /// A secret's value is not usable.
    SecretMalformed,
    /// A result holds the value of a secret. Whoever runs the source finds that out, never the source.
    SecretInOutput,
    /// The source rejected the credentials. Never retried at once.
    AuthFailed,
    /// Name, network, TLS or time-out.
    SourceUnreachable,
    /// The source answered outside its contract.
    SourceProtocol,
    /// The source's quota is used up.
    SourceThrottled,
    /// The user lacks a permission without which nothing can be read.
    SourceDenied,
    /// An entity of more than [`crate::Entity::MAX_BODY`] bytes.
    EntityTooLarge,
    /// A description of one object over the source's cap.
    DescribeTooLarge,
    /// Listed, and gone or invisible when it was read.
    ObjectVanished,
    /// The source cannot go on from the given checkpoint.
    CheckpointUnusable,
    /// The sink was closed: its owner knows why.
    SinkClosed,
}

impl Reason {
    /// The name in the wire's catalogue, without its prefix: `AUTH_FAILED`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadDefinition => "BAD_DEFINITION",
            Self::LiteralSecret => "LITERAL_SECRET",
            Self::PolicyDenied => "POLICY_DENIED",
            Self::SourceUnknown => "SOURCE_UNKNOWN",
            Self::SecretUnavailable => "SECRET_UNAVAILABLE",
            Self::SecretStoreUnreachable => "SECRET_STORE_UNREACHABLE",
            Self::SecretMalformed => "SECRET_MALFORMED",
            Self::SecretInOutput => "SECRET_IN_OUTPUT",
            Self::AuthFailed => "AUTH_FAILED",
            Self::SourceUnreachable => "SOURCE_UNREACHABLE",
            Self::SourceProtocol => "SOURCE_PROTOCOL",
            Self::SourceThrottled => "SOURCE_THROTTLED",
            Self::SourceDenied => "SOURCE_DENIED",
            Self::EntityTooLarge => "ENTITY_TOO_LARGE",
            Self::DescribeTooLarge => "DESCRIBE_TOO_LARGE",
            Self::ObjectVanished => "OBJECT_VANISHED",
            Self::CheckpointUnusable => "CHECKPOINT_UNUSABLE",
            Self::SinkClosed => "CANCELLED",
        }
    }
}

impl From<&SecretError> for Reason {
    fn from(error: &SecretError) -> Self {
        match error {
            // Of one kind: who may not read a secret is not told whether there is one.
            SecretError::PolicyDenied { .. }
            | SecretError::UnknownStore { .. }
            | SecretError::NotFound { .. }
            | SecretError::KeyMissing { .. }
            | SecretError::Denied { .. } => Self::SecretUnavailable,
            SecretError::Empty { .. }
            | SecretError::TooLarge { .. }
            | SecretError::NotText { .. }
            | SecretError::Unusable { .. } => Self::SecretMalformed,
            SecretError::Sealed { .. } | SecretError::Throttled { .. } | SecretError::Unreachable { .. } => {
                Self::SecretStoreUnreachable
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A definition is refused before anything was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct DefinitionError {
    /// [`Reason::BadDefinition`], [`Reason::LiteralSecret`], [`Reason::PolicyDenied`] or [`Reason::SourceUnknown`].
    pub reason: Reason,
    /// The path of the field in the definition, such as `source.serviceConnection.config.salesforceDomain`.
    pub field: String,
    /// What is wrong with the kind of value found, what is accepted, what to do. Never the value of a secret.
    pub detail: String,
}

/// A run ended without a report.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct SourceError {
    /// The typed reason.
    pub reason: Reason,
    /// A sentence for the operator that says what to change. Never a secret, never a response body.
    pub detail: String,
    /// The cause, for the local log only.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// An error without a cause.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), cause: None }
    }

    /// An error with its cause.
    #[must_use]
    pub fn caused(
        reason: Reason,
        detail: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { reason, detail: detail.into(), cause: Some(cause.into()) }
    }
}
