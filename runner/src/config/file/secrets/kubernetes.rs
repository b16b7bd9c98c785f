//! `secrets.stores.NAME.kubernetes`

use std::path::{Path, PathBuf};

#[cfg(feature = "kubernetes")]
use hybrid_runner_secrets::{KubernetesSettings, KubernetesStore};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::super::ConfigError;
#[cfg(feature = "kubernetes")]
use super::super::super::schema;
use super::Opened;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KubernetesStoreFile {
    /// `https://host:port` of the API server; that of the pod's cluster when absent.
    address: Option<String>,
    /// File with the token to show, read again for each secret; that of the pod's service account when absent.
    token_file: Option<PathBuf>,
    /// PEM file with the only certificates that vouch for the API server; those of the pod's cluster when absent.
    ca: Option<PathBuf>,
}

impl KubernetesStoreFile {
    #[cfg(feature = "kubernetes")]
    pub(super) fn open(self, path: &str, directory: &Path) -> Opened {
        let settings =
            self.address.map_or_else(KubernetesSettings::of_pod, |address| KubernetesSettings::new(&address));
        let mut settings =
            settings.map_err(|error| ConfigError::field(schema::join(path, error.field), error.problem))?;
        if let Some(file) = self.token_file {
            settings = settings.with_token_file(directory.join(file));
        }
        if let Some(ca) = self.ca {
            settings = settings.with_ca(directory.join(ca));
        }
        Ok(Box::new(KubernetesStore::new(settings)))
    }

    #[cfg(not(feature = "kubernetes"))]
    #[expect(clippy::unused_self, reason = "as where the feature is")]
    pub(super) fn open(self, path: &str, _directory: &Path) -> Opened {
        Err(ConfigError::field(path, "was left out of this build of hybrid-runner (feature `kubernetes`)"))
    }
}
