//! Secrets as environment variables.

use std::env::{self, VarError};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::kind::Kind;
use crate::{Read, ReadError, SecretPath, SecretStore, SecretValue};

/// Reads secrets from the environment of this process.
#[derive(Debug, Clone)]
pub struct EnvStore {
    naming: Naming,
}

#[derive(Debug, Clone)]
enum Naming {
    /// The prefix, then the path in upper case with `/`, `-` and `.` as `_`.
    Prefix(String),
    /// The path's one segment is the variable.
    Verbatim,
}

impl EnvStore {
    /// What the names of variables begin with unless another prefix is given.
    pub const DEFAULT_PREFIX: &str = "HYBRID_RUNNER_SECRET_";

    /// A store that reads `secret:/a/b-c` from the variable `prefix` + `A_B_C`.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { naming: Naming::Prefix(prefix.into()) }
    }

    /// A store that reads `secret:/NAME` from the variable `NAME` itself. It makes every variable of the process
    /// readable: for files of the user who runs it, where `${NAME}` stands, never for a definition from elsewhere.
    #[must_use]
    pub fn verbatim() -> Self {
        Self { naming: Naming::Verbatim }
    }

    fn variable(&self, path: &SecretPath) -> Result<String, ReadError> {
        match (&self.naming, path.segments()) {
            (Naming::Prefix(prefix), segments) => {
                Ok(prefix.clone() + &segments.join("_").to_uppercase().replace(['-', '.'], "_"))
            }
            (Naming::Verbatim, [name]) => Ok(name.clone()),
            (Naming::Verbatim, _) => Err(ReadError::Unusable("does not name one variable; write secret:/NAME")),
        }
    }
}

/// With [`EnvStore::DEFAULT_PREFIX`].
impl Default for EnvStore {
    fn default() -> Self {
        Self::new(Self::DEFAULT_PREFIX)
    }
}

pub(crate) const KIND: Kind = Kind {
    name: "env",
    form: "env[:PREFIX]",
    open: |prefix| match prefix {
        None => Ok(Box::new(EnvStore::default())),
        // An empty prefix would make every variable readable by whoever writes references.
        Some(prefix) if is_prefix(prefix) => Ok(Box::new(EnvStore::new(prefix))),
        Some(_) => Err("has a prefix that no variable begins with; \
                        write env or env:PREFIX, with letters, digits and _ in PREFIX"
            .to_owned()),
    },
};

fn is_prefix(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[async_trait]
impl SecretStore for EnvStore {
    fn kind(&self) -> &'static str {
        "env"
    }

    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        if path.key().is_some() {
            return Err(ReadError::Unusable("is a variable, which has no keys; leave `#` and what follows it out"));
        }
        let variable = self.variable(path)?;
        #[expect(clippy::disallowed_methods, reason = "the environment is the store here")]
        match env::var(variable) {
            Ok(value) => Ok(SecretValue::new(value).into()),
            Err(VarError::NotPresent) => Err(ReadError::NotFound),
            Err(VarError::NotUnicode(bytes)) => {
                drop(Zeroizing::new(bytes.into_encoded_bytes()));
                Err(ReadError::NotText)
            }
        }
    }

    async fn look(&self) -> Result<String, ReadError> {
        Ok(match &self.naming {
            Naming::Prefix(prefix) => format!("variables of this process whose names begin with {prefix}"),
            Naming::Verbatim => "variables of this process".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::EnvStore;
    use crate::{ReadError, SecretRef, SecretStore};

    fn variable(store: &EnvStore, reference: &str) -> Option<String> {
        store.variable(reference.parse::<SecretRef>().unwrap().path()).ok()
    }

    #[test]
    fn a_path_becomes_the_name_of_a_variable() {
        for (reference, name) in [
            ("secret:/salesforce", "HYBRID_RUNNER_SECRET_SALESFORCE"),
            ("secret:/salesforce/prod/password", "HYBRID_RUNNER_SECRET_SALESFORCE_PROD_PASSWORD"),
            ("secret:/my-org/a.b_c", "HYBRID_RUNNER_SECRET_MY_ORG_A_B_C"),
            ("secret:/a@b", "HYBRID_RUNNER_SECRET_A@B"),
        ] {
            assert_eq!(variable(&EnvStore::default(), reference).as_deref(), Some(name));
        }
        assert_eq!(variable(&EnvStore::new("sf_"), "secret:/a/b").as_deref(), Some("sf_A_B"));
    }

    #[test]
    fn a_verbatim_name_is_one_segment_as_it_is_written() {
        assert_eq!(variable(&EnvStore::verbatim(), "secret:/Sf-Password").as_deref(), Some("Sf-Password"));
        assert_eq!(variable(&EnvStore::verbatim(), "secret:/a/b"), None);
    }

    #[tokio::test]
    async fn an_existing_variable_is_read_and_a_missing_one_is_not_found() {
        let store = EnvStore::verbatim();
        let path: SecretRef = "secret:/CARGO_PKG_NAME".parse().unwrap();
        assert_eq!(store.read(path.path()).await.unwrap().value.expose(), "hybrid-runner-secrets");
        let missing: SecretRef = "secret:/no-such-variable".parse().unwrap();
        assert!(matches!(store.read(missing.path()).await, Err(ReadError::NotFound)));
        assert!(matches!(EnvStore::default().read(missing.path()).await, Err(ReadError::NotFound)));
    }

    #[tokio::test]
    async fn a_key_is_refused() {
        let path: SecretRef = "secret:/CARGO_PKG_NAME#x".parse().unwrap();
        assert!(matches!(EnvStore::verbatim().read(path.path()).await, Err(ReadError::Unusable(_))));
    }
}
