//! Why a secret could not be read.

use crate::SecretRef;

/// Reading one secret failed. The text names the reference, which is no secret, and never a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
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
    /// There is no such secret, or no such key in it.
    #[error("secret {reference} not found in store `{store}`")]
    NotFound {
        /// What was asked for.
        reference: SecretRef,
        /// The store that was asked.
        store: String,
    },
    /// The store refused the read.
    #[error("reading secret {reference} from store `{store}` is not permitted")]
    Denied {
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
        /// What is wrong with it, such as `is empty`; never its content.
        problem: &'static str,
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
