//! `secrets`: the stores.

mod aws;
mod kubernetes;
mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hybrid_runner_secrets::{FileStore, Prefix, SecretRef, SecretStore, Stores, open_store};
use schemars::JsonSchema;
use serde::Deserialize;

use self::aws::AwsFile;
use self::kubernetes::KubernetesStoreFile;
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
    /// AWS Secrets Manager.
    #[schemars(with = "AwsFile")]
    aws: Option<AwsFile>,
    /// Secrets of Kubernetes, through its API server.
    #[schemars(with = "KubernetesStoreFile")]
    kubernetes: Option<KubernetesStoreFile>,
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
        let mut stores = BTreeMap::new();
        for (name, store) in self.stores {
            let path = schema::join("secrets.stores", &name);
            if RESERVED.contains(&name.as_str()) || format!("secret://{name}/x").parse::<SecretRef>().is_err() {
                let detail = "is no name that a reference can hold, or a reserved one (variables, literals)";
                return Err(ConfigError::field(path, detail));
            }
            stores.insert(name, store.parse(&path, directory)?);
        }
        let default = match self.default {
            Some(name) if stores.contains_key(&name) => Some(name),
            Some(_) => {
                let known = stores.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(ConfigError::field("secrets.default", format!("names no store; configured: {known}")));
            }
            None if stores.len() > 1 => {
                let detail = "is missing, and there are several stores; name the one that `secret:/path` means";
                return Err(ConfigError::field("secrets.default", detail));
            }
            None => stores.keys().next().cloned(),
        };
        // The first one added is the default.
        let first = default.and_then(|name| stores.remove_entry(&name));
        Ok(first.into_iter().chain(stores).fold(Stores::default(), |all, (name, store)| all.with(name, store)))
    }
}

impl StoreFile {
    fn parse(self, path: &str, directory: &Path) -> Opened {
        let Self { prefix: _, file, env, vault, aws, kubernetes } = self;
        // A new kind is a key above and a line here.
        let kinds = [
            given("file", file, FileStoreFile::open),
            given("env", env, EnvStoreFile::open),
            given("vault", vault, VaultFile::parse),
            given("aws", aws, AwsFile::open),
            given("kubernetes", kubernetes, KubernetesStoreFile::open),
        ];
        let mut kinds = kinds.into_iter().flatten();
        match (kinds.next(), kinds.next()) {
            (Some(open), None) => open(path, directory),
            _ => Err(ConfigError::field(path, "is one store; accepted: one of file, env, vault, aws and kubernetes")),
        }
    }
}

type Opened = Result<Box<dyn SecretStore>, ConfigError>;
type Open = Box<dyn FnOnce(&str, &Path) -> Opened>;

/// Opens a store of this kind, if there are settings for one.
fn given<S: 'static>(kind: &'static str, settings: Option<S>, open: fn(S, &str, &Path) -> Opened) -> Option<Open> {
    let settings = settings?;
    Some(Box::new(move |path, directory| open(settings, &schema::join(path, kind), directory)))
}

impl FileStoreFile {
    fn open(self, path: &str, directory: &Path) -> Opened {
        let dir = self.dir.ok_or_else(|| ConfigError::field(schema::join(path, "dir"), "is missing"))?;
        Ok(Box::new(FileStore::new(directory.join(dir))))
    }
}

impl EnvStoreFile {
    fn open(self, path: &str, _directory: &Path) -> Opened {
        let text = self.prefix.map_or_else(|| "env".to_owned(), |prefix| format!("env:{prefix}"));
        open_store(&text).map_err(|error| ConfigError::field(schema::join(path, "prefix"), error.to_string()))
    }
}
