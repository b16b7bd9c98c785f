//! `secrets`: the stores.

mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hybrid_runner_secrets::{Prefix, SecretRef, StoreSpec, Stores};
use schemars::JsonSchema;
use serde::Deserialize;

use self::vault::VaultFile;
use super::super::{ConfigError, schema};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SecretsFile {
    /// The store that `secret:/path` means. May be left out when there is one store.
    default: Option<String>,
    /// The stores by the name that `secret://name/path` uses.
    stores: BTreeMap<String, StoreFile>,
}

/// Exactly one kind of store.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StoreFile {
    /// Only references below this path are read, such as `/hybrid-runner`; all when absent.
    prefix: Option<String>,
    /// Files below a directory.
    #[schemars(with = "FileStoreFile")]
    file: Option<FileStoreFile>,
    /// Environment variables.
    #[schemars(with = "EnvStoreFile")]
    env: Option<EnvStoreFile>,
    /// HashiCorp Vault or OpenBao.
    #[schemars(with = "VaultFile")]
    vault: Option<VaultFile>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileStoreFile {
    /// The directory.
    dir: Option<PathBuf>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EnvStoreFile {
    /// What begins the variables' names; `HYBRID_RUNNER_SECRET_` when absent.
    prefix: Option<String>,
}

/// Names of the stores that one-off runs add themselves.
const RESERVED: [&str; 2] = ["variables", "literals"];

impl SecretsFile {
    pub(super) fn has_stores(&self) -> bool {
        !self.stores.is_empty()
    }

    /// The path of each store below which references are read, where one is set.
    pub(super) fn prefixes(&self) -> Result<Vec<(String, Prefix)>, ConfigError> {
        let set = self.stores.iter().filter_map(|(name, store)| Some((name, store.prefix.as_ref()?)));
        let parsed = set.map(|(name, prefix)| {
            let prefix = prefix.parse().map_err(|error: hybrid_runner_secrets::MalformedPrefix| {
                ConfigError::field(format!("secrets.stores.{name}.prefix"), error.to_string())
            })?;
            Ok((name.clone(), prefix))
        });
        parsed.collect()
    }

    pub(super) fn parse(self, directory: &Path) -> Result<Stores, ConfigError> {
        let mut specs = BTreeMap::new();
        for (name, store) in self.stores {
            let path = schema::join("secrets.stores", &name);
            if RESERVED.contains(&name.as_str()) || format!("secret://{name}/x").parse::<SecretRef>().is_err() {
                let detail = "is no name that a reference can hold, or a reserved one (variables, literals)";
                return Err(ConfigError::field(path, detail));
            }
            specs.insert(name, store.parse(&path, directory)?);
        }
        let default = match self.default {
            Some(name) if specs.contains_key(&name) => Some(name),
            Some(_) => {
                let known = specs.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(ConfigError::field("secrets.default", format!("names no store; configured: {known}")));
            }
            None if specs.len() > 1 => {
                let detail = "is missing, and there are several stores; name the one that `secret:/path` means";
                return Err(ConfigError::field("secrets.default", detail));
            }
            None => specs.keys().next().cloned(),
        };
        // The first one added is the default.
        let first = default.and_then(|name| specs.remove_entry(&name));
        Ok(first.into_iter().chain(specs).fold(Stores::default(), |stores, (name, spec)| stores.with_spec(name, spec)))
    }
}

impl StoreFile {
    fn parse(self, path: &str, directory: &Path) -> Result<StoreSpec, ConfigError> {
        match (self.file, self.env, self.vault) {
            (Some(FileStoreFile { dir: Some(dir) }), None, None) => Ok(StoreSpec::File(directory.join(dir))),
            (Some(FileStoreFile { dir: None }), None, None) => {
                Err(ConfigError::field(format!("{path}.file.dir"), "is missing"))
            }
            (None, Some(EnvStoreFile { prefix }), None) => {
                let text = prefix.map_or_else(|| "env".to_owned(), |prefix| format!("env:{prefix}"));
                text.parse::<StoreSpec>()
                    .map_err(|error| ConfigError::field(format!("{path}.env.prefix"), error.to_string()))
            }
            (None, None, Some(vault)) => vault.parse(&schema::join(path, "vault"), directory),
            _ => {
                let one = "is one store; accepted: one of `file: {dir}`, `env: {prefix}` and `vault: {address, …}`";
                Err(ConfigError::field(path, one))
            }
        }
    }
}
