//! The stores that a process reads secrets from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{SecretError, SecretPath, SecretRef, SecretValue};

/// A place that secrets are read from. A new kind of store is one file that implements this and one line where
/// stores are configured.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync {
    /// Reads the current value at a path. Caches nothing.
    ///
    /// # Errors
    /// What went wrong, without the reference: [`Stores`] adds it.
    async fn read(&self, path: &SecretPath) -> Result<SecretValue, ReadError>;
}

/// Why a [`SecretStore`] has no value.
#[derive(Debug)]
pub enum ReadError {
    /// No such entry or key.
    NotFound,
    /// The store refused.
    Denied,
    /// The value cannot be used; what is wrong with it, such as `is empty`.
    Unusable(&'static str),
    /// No answer.
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
}

/// The configured stores by name, and the default one.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    named: BTreeMap<String, Arc<dyn SecretStore>>,
    default: Option<String>,
}

impl Stores {
    /// How long one read may take. A store that needs longer counts as unreachable.
    pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

    /// Adds a store; the first one added is the default for references without a store's name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, store: impl SecretStore + 'static) -> Self {
        let name = name.into();
        self.default.get_or_insert_with(|| name.clone());
        self.named.insert(name, Arc::new(store));
        self
    }

    /// Reads the value that a reference names.
    ///
    /// # Errors
    /// See [`SecretError`]. A reference is never used as a value.
    pub async fn read(&self, reference: &SecretRef) -> Result<SecretValue, SecretError> {
        let name = reference.store().or(self.default.as_deref()).unwrap_or("default");
        let Some(store) = self.named.get(name) else {
            return Err(SecretError::UnknownStore {
                reference: reference.clone(),
                store: name.to_owned(),
                configured: self.names(),
            });
        };
        let read = tokio::time::timeout(Self::READ_TIMEOUT, store.read(reference.path())).await;
        let (reference, store) = (reference.clone(), name.to_owned());
        let problem = match read {
            Ok(Ok(value)) => match unusable(&value) {
                None => return Ok(value),
                Some(problem) => problem,
            },
            Ok(Err(ReadError::Unusable(problem))) => problem,
            Ok(Err(ReadError::NotFound)) => return Err(SecretError::NotFound { reference, store }),
            Ok(Err(ReadError::Denied)) => return Err(SecretError::Denied { reference, store }),
            Ok(Err(ReadError::Unreachable(cause))) => {
                return Err(SecretError::Unreachable { reference, store, cause });
            }
            Err(elapsed) => return Err(SecretError::Unreachable { reference, store, cause: elapsed.into() }),
        };
        Err(SecretError::Unusable { reference, store, problem })
    }

    fn names(&self) -> String {
        if self.named.is_empty() {
            "none".to_owned()
        } else {
            self.named.keys().cloned().collect::<Vec<_>>().join(", ")
        }
    }
}

fn unusable(value: &SecretValue) -> Option<&'static str> {
    match value.expose().len() {
        0 => Some("is empty"),
        1..=SecretValue::MAX => None,
        _ => Some("is longer than 64 KiB"),
    }
}
