//! The stores that a process reads secrets from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Redactor, SecretError, SecretPath, SecretRef, SecretValue};

/// A place that secrets are read from. A new kind of store is one file that implements this and one line where
/// stores are configured.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync {
    /// Reads the current value at a path. Caches nothing.
    ///
    /// # Errors
    /// What went wrong, without the reference: [`Stores`] adds it.
    async fn read(&self, path: &SecretPath) -> Result<SecretValue, ReadError>;

    /// Has the values that the store itself holds watched: its own tokens, and what it was given. What it reads is watched
    /// by [`Stores`].
    fn watch_with(&mut self, _redactor: &Redactor) {}
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
    redactor: Redactor,
}

impl Stores {
    /// How long one read may take. A store that needs longer counts as unreachable.
    pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

    /// No stores yet; what they will read is watched by this redactor, and not by one of their own.
    #[must_use]
    pub fn watched_by(redactor: Redactor) -> Self {
        Self { redactor, ..Self::default() }
    }

    /// Knows every value that was read here.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Adds a store; the first one added is the default for references without a store's name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, mut store: impl SecretStore + 'static) -> Self {
        let name = name.into();
        store.watch_with(&self.redactor);
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
        let error = match read {
            Ok(Ok(value)) => match value.expose().len() {
                0 => return Err(SecretError::Empty { reference, store }),
                1..=SecretValue::MAX => return Ok(self.redactor.watch(value)),
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

    fn names(&self) -> String {
        if self.named.is_empty() {
            "none".to_owned()
        } else {
            self.named.keys().cloned().collect::<Vec<_>>().join(", ")
        }
    }
}
