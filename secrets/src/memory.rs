//! Secrets held by this process, for one-off runs and tests.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{Read, ReadError, Redactor, SecretPath, SecretStore, SecretValue};

/// Values in memory, by path (`/a/b` or `/a/b#key`).
#[derive(Default)]
pub struct MemoryStore {
    values: BTreeMap<String, SecretValue>,
}

impl MemoryStore {
    /// Adds a value at a path as a reference spells it, such as `/salesforce/password`.
    #[must_use]
    pub fn with(mut self, path: impl Into<String>, value: SecretValue) -> Self {
        self.values.insert(path.into(), value);
        self
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("paths", &self.values.keys()).finish()
    }
}

#[async_trait]
impl SecretStore for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        let value = self.values.get(&path.to_string()).ok_or(ReadError::NotFound)?;
        Ok(SecretValue::new(value.expose().to_owned()).into())
    }

    fn watch_with(&mut self, redactor: &Redactor) {
        let values = std::mem::take(&mut self.values);
        self.values = values.into_iter().map(|(path, value)| (path, redactor.watch(value))).collect();
    }
}
