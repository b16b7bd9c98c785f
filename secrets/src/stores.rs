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
    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError>;
}

/// What a [`SecretStore`] read.
pub struct Read {
    /// The value.
    pub value: SecretValue,
    /// Which version of it this is, for people, such as `version 3, created 2026-01-31T08:30:00Z`; `None`: the store
    /// knows none.
    pub version: Option<String>,
}

impl From<SecretValue> for Read {
    /// A value without a version.
    fn from(value: SecretValue) -> Self {
        Self { value, version: None }
    }
}

/// The value is left out.
impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Why a [`SecretStore`] has no value.
#[derive(Debug)]
pub enum ReadError {
    /// No such entry.
    NotFound,
    /// The entry has no such key.
    KeyMissing,
    /// The store refused; the permission that is missing, such as `read on secret/data/a/b`.
    Denied(String),
    /// The value is no text in UTF-8.
    NotText,
    /// The value has more than [`SecretValue::MAX`] bytes.
    TooLarge,
    /// The value cannot be used otherwise; what is wrong with it, such as `is not a regular file`.
    Unusable(&'static str),
    /// The store is sealed.
    Sealed,
    /// The store asks for fewer requests.
    Throttled,
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
        Ok(self.read_with_version(reference).await?.value)
    }

    /// Reads the value that a reference names, and which version of it that is.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn read_with_version(&self, reference: &SecretRef) -> Result<Read, SecretError> {
        let name = self.store_of(reference);
        let Some(store) = self.named.get(name) else {
            return Err(SecretError::UnknownStore {
                reference: reference.clone(),
                store: name.to_owned(),
                configured: self.names(),
            });
        };
        let read = tokio::time::timeout(Self::READ_TIMEOUT, store.read(reference.path())).await;
        let (reference, store) = (reference.clone(), name.to_owned());
        let error = match read {
            Ok(Ok(read)) => match read.value.expose().len() {
                0 => return Err(SecretError::Empty { reference, store }),
                1..=SecretValue::MAX => return Ok(read),
                _ => return Err(SecretError::TooLarge { reference, store }),
            },
            Ok(Err(error)) => error,
            Err(elapsed) => ReadError::Unreachable(elapsed.into()),
        };
        Err(match error {
            ReadError::NotFound => SecretError::NotFound { reference, store },
            ReadError::KeyMissing => SecretError::KeyMissing { reference, store },
            ReadError::Denied(needs) => SecretError::Denied { reference, store, needs },
            ReadError::NotText => SecretError::NotText { reference, store },
            ReadError::TooLarge => SecretError::TooLarge { reference, store },
            ReadError::Unusable(problem) => SecretError::Unusable { reference, store, problem },
            ReadError::Sealed => SecretError::Sealed { reference, store },
            ReadError::Throttled => SecretError::Throttled { reference, store },
            ReadError::Unreachable(cause) => SecretError::Unreachable { reference, store, cause },
        })
    }

    /// The name of the store that a reference is read from, configured or not.
    pub(crate) fn store_of<'a>(&'a self, reference: &'a SecretRef) -> &'a str {
        reference.store().or_else(|| self.default_store()).unwrap_or("default")
    }

    /// The name of the store of references that name none.
    pub(crate) fn default_store(&self) -> Option<&str> {
        self.default.as_deref()
    }

    fn names(&self) -> String {
        if self.named.is_empty() {
            "none".to_owned()
        } else {
            self.named.keys().cloned().collect::<Vec<_>>().join(", ")
        }
    }
}
