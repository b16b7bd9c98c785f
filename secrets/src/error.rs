//! Why a secret could not be read.

use crate::SecretRef;

/// Reading one secret failed. The text names the reference, which is no secret, and never a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The local policy does not permit it; no store was asked.
    #[error("secret {reference} is not read from store `{store}`: {why}")]
    PolicyDenied {
        /// What was asked for.
        reference: SecretRef,
        /// The store that would have been asked.
        store: String,
        /// What the policy lacks, for the machine's own operator.
        why: String,
    },
    /// The reference names a store that is not configured.
    #[error("secret {reference}: no store named `{store}` is configured; configured: {configured}")]
    UnknownStore {
        /// What was asked for.
        reference: SecretRef,
        /// The store that it names.
        store: String,
        /// The names that are configured, comma separated.
        configured: String,
    },
    /// There is no such secret.
    #[error("secret {reference} not found in store `{store}`")]
    NotFound {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
    },
    /// The secret is there, and the key behind `#` is not in it.
    #[error("secret {reference} in store `{store}` has no such key")]
    KeyMissing {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
    },
    /// The store refused the read.
    #[error("reading secret {reference} from store `{store}` is not permitted; it needs {needs}")]
    Denied {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
        /// The permission that is missing, such as `read on secret/data/a/b`.
        needs: String,
    },
    /// The value has no bytes.
    #[error("secret {reference} in store `{store}` is empty")]
    Empty {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
    },
    /// The value has more than [`crate::SecretValue::MAX`] bytes.
    #[error("secret {reference} in store `{store}` is longer than 64 KiB")]
    TooLarge {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
    },
    /// The value is no text in UTF-8.
    #[error("secret {reference} in store `{store}` is not text in UTF-8")]
    NotText {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
    },
    /// The value is not usable as a credential.
    #[error("secret {reference} in store `{store}` {problem}")]
    Unusable {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
        /// What is wrong with it, such as `is not a regular file`; never its content.
        problem: &'static str,
    },
    /// The store is sealed: it needs its keys before it reads anything. May succeed later.
    #[error("store `{store}` is sealed; unseal it to read secret {reference}")]
    Sealed {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
    },
    /// The store asks for fewer requests. May succeed later.
    #[error("store `{store}` answers fewer requests than are sent (throttled), among them secret {reference}")]
    Throttled {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
    },
    /// The store could not be reached or did not answer in time. May succeed later.
    #[error("store `{store}` could not be reached for secret {reference}")]
    Unreachable {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
        /// The cause, for the local log.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SecretError {
    /// The text for whoever sent the reference. What the policy denies and what is not there are one text, so that nobody
    /// learns by asking what there is; which of them it was, the error's own text says, in the agent's log.
    #[must_use]
    pub fn public_text(&self) -> String {
        match self {
            Self::PolicyDenied { reference, store, .. } | Self::NotFound { reference, store } => format!(
                "secret {reference} not found in store `{store}`, or the agent's policy does not permit it here (the \
                 agent's log and `hybrid-runner policy explain` say which)"
            ),
            other => other.to_string(),
        }
    }
}
