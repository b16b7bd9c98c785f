//! Kinds of stores, and how a command line names a store.

#[cfg(feature = "aws")]
use crate::aws;
#[cfg(feature = "kubernetes")]
use crate::kubernetes;
#[cfg(feature = "vault")]
use crate::vault;
use crate::{SecretStore, env, file};

/// A kind of store. Its file has one, for which [`KINDS`] has a line.
pub(crate) struct Kind {
    /// What a store's text begins with.
    pub(crate) name: &'static str,
    /// What is accepted, such as `file:DIR`.
    pub(crate) form: &'static str,
    /// Makes the store that the text behind `name:` describes, or says what is wrong with it and what to do.
    pub(crate) open: fn(Option<&str>) -> Opened,
}

type Opened = Result<Box<dyn SecretStore>, String>;

/// Each kind that a command line can name; a new one is a line here.
const KINDS: &[Kind] = &[
    file::KIND,
    env::KIND,
    #[cfg(feature = "vault")]
    vault::KIND,
    #[cfg(feature = "aws")]
    aws::KIND,
    #[cfg(feature = "kubernetes")]
    kubernetes::KIND,
];

/// Kinds that a build can leave out.
const OPTIONAL: [&str; 3] = ["vault", "aws", "kubernetes"];

/// A text names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownStore {
    /// What stands behind the kind, or in the variables that it reads, is not accepted.
    #[error("`{kind}` {problem}")]
    Refused {
        /// The kind.
        kind: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The kind was left out when this program was built.
    #[error("`{0}` was left out of this build of hybrid-runner; available: {forms}", forms = forms())]
    NotBuilt(&'static str),
    /// There is no such kind.
    #[error("is not a store of secrets; available: {forms}", forms = forms())]
    UnknownKind,
}

/// The store that a text such as `file:DIR`, `env`, `env:PREFIX` or `vault` names.
///
/// # Errors
/// It names none that this build has.
pub fn open_store(text: &str) -> Result<Box<dyn SecretStore>, UnknownStore> {
    let (name, argument) = match text.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (text, None),
    };
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
        let left_out = OPTIONAL.into_iter().find(|optional| *optional == name);
        return Err(left_out.map_or(UnknownStore::UnknownKind, UnknownStore::NotBuilt));
    };
    (kind.open)(argument).map_err(|problem| UnknownStore::Refused { kind: kind.name, problem })
}

fn forms() -> String {
    KINDS.iter().map(|kind| kind.form).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{KINDS, OPTIONAL, UnknownStore, forms, open_store};

    fn opened(text: &str) -> String {
        format!("{:?}", open_store(text).unwrap())
    }

    #[test]
    fn a_text_opens_the_store_that_it_names() {
        assert_eq!(opened("file:/etc/secrets"), r#"FileStore { directory: "/etc/secrets" }"#);
        assert_eq!(opened("file:C:\\secrets"), r#"FileStore { directory: "C:\\secrets" }"#);
        assert_eq!(opened("env"), r#"EnvStore { naming: Prefix("HYBRID_RUNNER_SECRET_") }"#);
        assert_eq!(opened("env:SF_"), r#"EnvStore { naming: Prefix("SF_") }"#);
    }

    #[test]
    fn an_unknown_store_is_refused_with_what_is_available() {
        for text in ["gcp", "", "FILE:/x", "secret:/a"] {
            let error = open_store(text).unwrap_err();
            assert_eq!(error.to_string(), format!("is not a store of secrets; available: {}", forms()));
        }
        assert!(forms().starts_with("file:DIR, env[:PREFIX]"));
    }

    #[test]
    fn a_kind_that_was_left_out_says_so() {
        for name in OPTIONAL.into_iter().filter(|name| KINDS.iter().all(|kind| kind.name != *name)) {
            assert_eq!(open_store(name).unwrap_err(), UnknownStore::NotBuilt(name));
        }
    }

    #[test]
    fn what_stands_behind_a_kind_is_checked() {
        for (text, problem) in [
            ("file", "`file` names no directory; write file:DIR"),
            ("file:", "`file` names no directory; write file:DIR"),
            (
                "env:",
                "`env` has a prefix that no variable begins with; write env or env:PREFIX, with letters, digits and _ in PREFIX",
            ),
            #[cfg(feature = "aws")]
            (
                "aws:eu-west-1",
                "`aws` takes nothing behind it; write aws, and the region and the rest into AWS's own variables or profile",
            ),
            #[cfg(feature = "vault")]
            (
                "vault:kv",
                "`vault` takes nothing behind it; write vault, and the rest into VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_CACERT, VAULT_CLIENT_CERT and VAULT_CLIENT_KEY",
            ),
        ] {
            assert_eq!(open_store(text).unwrap_err().to_string(), problem);
        }
        for text in ["env:A B", "env:A=", "env:a/b"] {
            assert!(matches!(open_store(text), Err(UnknownStore::Refused { kind: "env", .. })), "{text}");
        }
    }
}
