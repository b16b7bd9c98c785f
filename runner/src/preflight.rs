//! Whether the secrets of a plan can be read now, before its source hears of any.

use std::time::Duration;

use hybrid_runner_connector::{SecretUse, Source};
use hybrid_runner_secrets::{Readable, Resolver, SecretError};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A preflight takes no longer: an agent answers a definition when it is over. It is the time that a store has for one
/// read, its tries included.
pub(crate) const LIMIT: Duration = hybrid_runner_secrets::Stores::READ_TIMEOUT;

/// A secret, and whether it can be read.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) secret: SecretUse,
    pub(crate) found: Result<Readable, SecretError>,
}

/// Looks at every secret that a source reads, side by side, in their order. No value is kept.
///
/// # Cancel safety
/// Dropping the future stops the reads.
pub(crate) async fn check(source: &dyn Source, secrets: &Resolver) -> Vec<Checked> {
    check_all(source.secrets(), secrets).await
}

/// As [`check`], of these secrets.
///
/// # Cancel safety
/// Dropping the future stops the reads.
pub(crate) async fn check_all(uses: Vec<SecretUse>, secrets: &Resolver) -> Vec<Checked> {
    let mut reads = JoinSet::new();
    for (index, secret) in uses.into_iter().enumerate() {
        let secrets = secrets.clone();
        reads.spawn(async move { (index, one(secret, &secrets).await) });
    }
    let mut checked = reads.join_all().await;
    checked.sort_unstable_by_key(|(index, _)| *index);
    checked.into_iter().map(|(_, checked)| checked).collect()
}

async fn one(secret: SecretUse, secrets: &Resolver) -> Checked {
    let found = match timeout(LIMIT, secrets.check(&secret.reference, &secret.purpose)).await {
        Ok(found) => found,
        Err(elapsed) => {
            let (reference, store) = (secret.reference.clone(), secrets.store_of(&secret.reference).to_owned());
            Err(SecretError::Unreachable { reference, store, cause: elapsed.into() })
        }
    };
    Checked { secret, found }
}

/// What to do about a secret that cannot be read.
pub(crate) fn remedy(error: &SecretError) -> &'static str {
    match error {
        SecretError::PolicyDenied { .. } => {
            "if it is meant to be read, add a binding to `policy.bindings` (`hybrid-runner policy explain` says which)"
        }
        SecretError::UnknownStore { .. } => "configure that store below `secrets.stores`, or correct the reference",
        SecretError::NotFound { .. } => "write the secret at this path, or correct the reference",
        SecretError::KeyMissing { .. } => "correct what stands behind `#`, or add the key to the secret",
        SecretError::Denied { .. } => "grant the agent that permission",
        SecretError::Empty { .. } => "write a value",
        SecretError::TooLarge { .. } => "no credential is that large; look whether the reference is the right one",
        SecretError::NotText { .. } | SecretError::Unusable { .. } => "write the value as text",
        SecretError::Sealed { .. } => "unseal it; the next run tries again by itself",
        SecretError::Throttled { .. } => "try again later, or raise the store's limit",
        SecretError::Unreachable { .. } => "check its address, name resolution, certificates and network policy",
    }
}
