//! Stores as a command line names them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{EnvStore, FileStore, Stores};
#[cfg(feature = "vault")]
use crate::{VaultSettings, VaultSettingsError, VaultStore};

/// A store as `--secrets` names it: `file:DIR`, `env`, `env:PREFIX` or `vault`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSpec {
    /// A [`FileStore`].
    File(PathBuf),
    /// An [`EnvStore`] with a prefix.
    Env(String),
    /// A [`VaultStore`]; as a text, the one of the variables `VAULT_ADDR`, `VAULT_TOKEN`, `VAULT_NAMESPACE`,
    /// `VAULT_CACERT`.
    #[cfg(feature = "vault")]
    Vault(Box<VaultSettings>),
}

/// What the text of a [`StoreSpec`] has to be.
#[cfg(feature = "vault")]
const AVAILABLE: &str = "available now: file:DIR, env[:PREFIX], vault";
#[cfg(not(feature = "vault"))]
const AVAILABLE: &str = "available now: file:DIR, env[:PREFIX]";

/// A text names no store that this version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownStoreSpec {
    /// It will be known.
    #[error("`{0}` comes with a later version of hybrid-runner; {AVAILABLE}")]
    Later(&'static str),
    /// `file` without a directory.
    #[error("`file` names no directory; write file:DIR")]
    NoDirectory,
    /// `env:` with something that no variable's name begins with.
    #[error("the prefix of `env` is not accepted; write env or env:PREFIX, with letters, digits and _ in PREFIX")]
    BadPrefix,
    /// `vault` with something behind it.
    #[error("`vault` is set by VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE and VAULT_CACERT; write vault alone")]
    #[cfg(feature = "vault")]
    VaultArgument,
    /// A variable of Vault's is not accepted.
    #[error("{} {}", .0.field, .0.problem)]
    #[cfg(feature = "vault")]
    Vault(VaultSettingsError),
    /// It was left out when this program was built.
    #[error("`{0}` was left out of this build of hybrid-runner; {AVAILABLE}")]
    NotBuilt(&'static str),
    /// It is unknown.
    #[error("is not a store of secrets; {AVAILABLE}")]
    Unknown,
}

impl FromStr for StoreSpec {
    type Err = UnknownStoreSpec;

    fn from_str(text: &str) -> Result<Self, UnknownStoreSpec> {
        let (kind, argument) = match text.split_once(':') {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (text, None),
        };
        match (kind, argument) {
            ("file", None | Some("")) => Err(UnknownStoreSpec::NoDirectory),
            ("file", Some(directory)) => Ok(Self::File(PathBuf::from(directory))),
            ("env", None) => Ok(Self::Env(EnvStore::DEFAULT_PREFIX.to_owned())),
            // An empty prefix would make every variable readable by whoever writes references.
            ("env", Some(prefix)) if is_prefix(prefix) => Ok(Self::Env(prefix.to_owned())),
            ("env", Some(_)) => Err(UnknownStoreSpec::BadPrefix),
            #[cfg(feature = "vault")]
            ("vault", None) => vault(),
            #[cfg(feature = "vault")]
            ("vault", Some(_)) => Err(UnknownStoreSpec::VaultArgument),
            #[cfg(not(feature = "vault"))]
            ("vault", _) => Err(UnknownStoreSpec::NotBuilt("vault")),
            ("aws", _) => Err(UnknownStoreSpec::Later("aws")),
            ("kubernetes", _) => Err(UnknownStoreSpec::Later("kubernetes")),
            _ => Err(UnknownStoreSpec::Unknown),
        }
    }
}

#[cfg(feature = "vault")]
fn vault() -> Result<StoreSpec, UnknownStoreSpec> {
    #[expect(
        clippy::disallowed_methods,
        reason = "these variables are the store's configuration, as every client's of it"
    )]
    let settings = VaultSettings::from_variables(|name| std::env::var(name).ok());
    settings.map(|settings| StoreSpec::Vault(Box::new(settings))).map_err(UnknownStoreSpec::Vault)
}

fn is_prefix(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for StoreSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(directory) => write!(f, "file:{}", directory.display()),
            Self::Env(prefix) if prefix == EnvStore::DEFAULT_PREFIX => f.write_str("env"),
            Self::Env(prefix) => write!(f, "env:{prefix}"),
            #[cfg(feature = "vault")]
            Self::Vault(_) => f.write_str("vault"),
        }
    }
}

impl Stores {
    /// Adds the store that a text named; see [`Stores::with`].
    #[must_use]
    pub fn with_spec(self, name: impl Into<String>, spec: StoreSpec) -> Self {
        match spec {
            StoreSpec::File(directory) => self.with(name, FileStore::new(directory)),
            StoreSpec::Env(prefix) => self.with(name, EnvStore::new(prefix)),
            #[cfg(feature = "vault")]
            StoreSpec::Vault(settings) => self.with(name, VaultStore::new(*settings)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{AVAILABLE, StoreSpec, UnknownStoreSpec};
    use crate::EnvStore;

    #[test]
    fn known_stores_parse_and_print_back() {
        for (text, spec) in [
            ("file:/etc/secrets", StoreSpec::File(PathBuf::from("/etc/secrets"))),
            ("file:C:\\secrets", StoreSpec::File(PathBuf::from("C:\\secrets"))),
            ("file:a b", StoreSpec::File(PathBuf::from("a b"))),
            ("env", StoreSpec::Env(EnvStore::DEFAULT_PREFIX.to_owned())),
            ("env:SF_", StoreSpec::Env("SF_".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(spec.clone()));
            assert_eq!(spec.to_string(), text);
        }
    }

    #[test]
    fn later_and_unknown_stores_are_refused_with_what_is_available() {
        for text in ["aws", "kubernetes", "gcp", "", "FILE:/x", "secret:/a"] {
            let error = text.parse::<StoreSpec>().unwrap_err().to_string();
            assert!(error.ends_with(AVAILABLE), "{error}");
        }
        assert_eq!(
            "aws".parse::<StoreSpec>().unwrap_err().to_string(),
            format!("`aws` comes with a later version of hybrid-runner; {AVAILABLE}")
        );
    }

    #[test]
    fn a_store_without_its_argument_is_refused() {
        for text in ["file", "file:"] {
            assert_eq!(text.parse::<StoreSpec>(), Err(UnknownStoreSpec::NoDirectory));
        }
        for text in ["env:", "env:A B", "env:A=", "env:a/b"] {
            assert_eq!(text.parse::<StoreSpec>(), Err(UnknownStoreSpec::BadPrefix));
        }
    }
}
