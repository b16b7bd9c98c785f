//! `secrets.stores.NAME.vault`

use std::path::{Path, PathBuf};

#[cfg(feature = "vault")]
use hybrid_runner_secrets::{KvVersion, VaultAuth, VaultSettings, VaultStore};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::super::ConfigError;
#[cfg(feature = "vault")]
use super::super::super::schema;
use super::Opened;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct VaultFile {
    /// `https://host:port` of the server; `http://` only on this machine.
    address: Option<String>,
    /// The namespace, such as `team-a/prod`.
    namespace: Option<String>,
    /// The KV mount that is read; `secret` when absent.
    mount: Option<String>,
    /// What stands before each path: `secret:/a` is the entry `prefix/a`.
    prefix: Option<String>,
    /// The version of the mount; the server is asked when absent.
    #[schemars(range(min = 1, max = 2))]
    kv_version: Option<u8>,
    /// PEM file with the only certificates that vouch for the server; the system's roots when absent.
    ca: Option<PathBuf>,
    /// PEM file with a certificate that is shown to the server, read again for each secret.
    client_certificate: Option<PathBuf>,
    /// PEM file with the key of `client_certificate`.
    client_key: Option<PathBuf>,
    /// One way to log in; the token of the variable `VAULT_TOKEN` when absent.
    auth: AuthFile,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AuthFile {
    /// File with a token, read again for each secret.
    token_file: Option<PathBuf>,
    /// A role and its secret.
    #[schemars(with = "AppRoleFile")]
    approle: Option<AppRoleFile>,
    /// The service account of the pod.
    #[schemars(with = "KubernetesFile")]
    kubernetes: Option<KubernetesFile>,
    /// A token that somebody else signed.
    #[schemars(with = "JwtFile")]
    jwt: Option<JwtFile>,
    /// The certificate of `client_certificate`.
    #[schemars(with = "CertificateFile")]
    certificate: Option<CertificateFile>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "vault"), expect(dead_code, reason = "the keys are known also where they are refused"))]
struct AppRoleFile {
    /// The role's id.
    role_id: Option<String>,
    /// File with the secret id, read again for each login.
    secret_id_file: Option<PathBuf>,
    /// Where the method is mounted; `approle` when absent.
    mount: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "vault"), expect(dead_code, reason = "the keys are known also where they are refused"))]
struct KubernetesFile {
    /// The role at the server.
    role: Option<String>,
    /// File with the pod's token, read again for each login; the one that Kubernetes mounts when absent.
    token_file: Option<PathBuf>,
    /// Where the method is mounted; `kubernetes` when absent.
    mount: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "vault"), expect(dead_code, reason = "the keys are known also where they are refused"))]
struct JwtFile {
    /// The role at the server.
    role: Option<String>,
    /// File with the signed token, read again for each login.
    token_file: Option<PathBuf>,
    /// Where the method is mounted; `jwt` when absent.
    mount: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "vault"), expect(dead_code, reason = "the keys are known also where they are refused"))]
struct CertificateFile {
    /// The role at the server; any that fits the certificate when absent.
    role: Option<String>,
    /// Where the method is mounted; `cert` when absent.
    mount: Option<String>,
}

#[cfg(not(feature = "vault"))]
impl VaultFile {
    #[expect(clippy::unused_self, reason = "as where the feature is")]
    pub(super) fn parse(self, path: &str, _directory: &Path) -> Opened {
        Err(ConfigError::field(path, "was left out of this build of hybrid-runner (feature `vault`)"))
    }
}

#[cfg(feature = "vault")]
impl VaultFile {
    pub(super) fn parse(self, path: &str, directory: &Path) -> Opened {
        let refused = |error: hybrid_runner_secrets::VaultSettingsError| {
            ConfigError::field(schema::join(path, error.field), error.problem)
        };
        let auth = self.auth.parse(&schema::join(path, "auth"), directory)?;
        let needs_certificate = matches!(auth, VaultAuth::Certificate { .. });
        let address = self.address.ok_or_else(|| missing(path, "address"))?;
        let mut settings = VaultSettings::new(&address, auth).map_err(refused)?;
        if let Some(namespace) = self.namespace {
            settings = settings.with_namespace(&namespace).map_err(refused)?;
        }
        if let Some(mount) = self.mount {
            settings = settings.with_mount(&mount).map_err(refused)?;
        }
        if let Some(prefix) = self.prefix {
            settings = settings.with_prefix(&prefix).map_err(refused)?;
        }
        if let Some(version) = self.kv_version {
            settings = settings.with_kv_version(if version == 1 { KvVersion::V1 } else { KvVersion::V2 });
        }
        if let Some(ca) = self.ca {
            let ca = directory.join(ca);
            settings = settings.with_ca(std::fs::read(&ca).map_err(|source| ConfigError::Read { path: ca, source })?);
        }
        match (self.client_certificate, self.client_key) {
            (Some(certificate), Some(key)) => {
                settings = settings.with_client_certificate(directory.join(certificate), directory.join(key));
            }
            (None, None) if !needs_certificate => {}
            (None, _) => return Err(missing(path, "client_certificate")),
            (Some(_), None) => return Err(missing(path, "client_key")),
        }
        Ok(Box::new(VaultStore::new(settings)))
    }
}

#[cfg(feature = "vault")]
impl AuthFile {
    fn parse(self, path: &str, directory: &Path) -> Result<VaultAuth, ConfigError> {
        let Self { token_file, approle, kubernetes, jwt, certificate } = self;
        let token = token_file.map(|file| Ok(VaultAuth::TokenFile(directory.join(file))));
        let approle = approle.map(|approle| approle.parse(&schema::join(path, "approle"), directory));
        let kubernetes = kubernetes.map(|kubernetes| kubernetes.parse(&schema::join(path, "kubernetes"), directory));
        let jwt = jwt.map(|jwt| jwt.parse(&schema::join(path, "jwt"), directory));
        let certificate = certificate.map(|certificate| certificate.parse(&schema::join(path, "certificate")));
        let mut logins = [token, approle, kubernetes, jwt, certificate].into_iter().flatten();
        match (logins.next(), logins.next()) {
            (None, _) => Ok(VaultAuth::TokenVariable),
            (Some(login), None) => login,
            (Some(_), Some(_)) => {
                let one = "is one login; accepted: one of token_file, approle, kubernetes, jwt and certificate";
                Err(ConfigError::field(path, one))
            }
        }
    }
}

#[cfg(feature = "vault")]
impl AppRoleFile {
    fn parse(self, path: &str, directory: &Path) -> Result<VaultAuth, ConfigError> {
        Ok(VaultAuth::AppRole {
            role_id: self.role_id.ok_or_else(|| missing(path, "role_id"))?,
            secret_id_file: directory.join(self.secret_id_file.ok_or_else(|| missing(path, "secret_id_file"))?),
            mount: auth_mount(self.mount, VaultAuth::APPROLE, path)?,
        })
    }
}

#[cfg(feature = "vault")]
impl KubernetesFile {
    fn parse(self, path: &str, directory: &Path) -> Result<VaultAuth, ConfigError> {
        let token_file = self.token_file.unwrap_or_else(|| PathBuf::from(VaultAuth::SERVICE_ACCOUNT));
        Ok(VaultAuth::Kubernetes {
            role: self.role.ok_or_else(|| missing(path, "role"))?,
            token_file: directory.join(token_file),
            mount: auth_mount(self.mount, VaultAuth::KUBERNETES, path)?,
        })
    }
}

#[cfg(feature = "vault")]
impl JwtFile {
    fn parse(self, path: &str, directory: &Path) -> Result<VaultAuth, ConfigError> {
        Ok(VaultAuth::Jwt {
            role: self.role.ok_or_else(|| missing(path, "role"))?,
            token_file: directory.join(self.token_file.ok_or_else(|| missing(path, "token_file"))?),
            mount: auth_mount(self.mount, VaultAuth::JWT, path)?,
        })
    }
}

#[cfg(feature = "vault")]
impl CertificateFile {
    fn parse(self, path: &str) -> Result<VaultAuth, ConfigError> {
        Ok(VaultAuth::Certificate { role: self.role, mount: auth_mount(self.mount, VaultAuth::CERTIFICATE, path)? })
    }
}

#[cfg(feature = "vault")]
fn auth_mount(mount: Option<String>, default: &str, path: &str) -> Result<String, ConfigError> {
    let Some(mount) = mount else { return Ok(default.to_owned()) };
    VaultAuth::mount(&mount).map_err(|error| ConfigError::field(schema::join(path, error.field), error.problem))
}

#[cfg(feature = "vault")]
fn missing(path: &str, key: &str) -> ConfigError {
    ConfigError::field(schema::join(path, key), "is missing")
}
