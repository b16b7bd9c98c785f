//! Where a store is and how its token is obtained.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use crate::SecretRef;
use crate::remote::parse_address;

/// Which Vault or OpenBao is read, and who reads.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultSettings {
    pub(super) address: Url,
    pub(super) auth: VaultAuth,
    pub(super) namespace: Option<String>,
    pub(super) mount: String,
    pub(super) prefix: Vec<String>,
    pub(super) kv_version: Option<KvVersion>,
    pub(super) ca: Option<Vec<u8>>,
    pub(super) client_certificate: Option<(PathBuf, PathBuf)>,
}

/// How the store's token is obtained. Files are read again for each login, a token's file for each read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// A token in the variable `BAO_TOKEN` or `VAULT_TOKEN`.
    TokenVariable,
    /// A token in a file, such as Vault Agent's sink.
    TokenFile(PathBuf),
    /// A role and its secret.
    AppRole {
        /// The role's id, which is no secret.
        role_id: String,
        /// The file with the secret id.
        secret_id_file: PathBuf,
        /// Where the method is mounted, [`VaultAuth::APPROLE`] unless configured.
        mount: String,
    },
    /// The service account of the pod.
    Kubernetes {
        /// The role at Vault.
        role: String,
        /// The file with the projected token.
        token_file: PathBuf,
        /// Where the method is mounted, [`VaultAuth::KUBERNETES`] unless configured.
        mount: String,
    },
    /// A token that somebody else signed and the server trusts.
    Jwt {
        /// The role at Vault.
        role: String,
        /// The file with the signed token.
        token_file: PathBuf,
        /// Where the method is mounted, [`VaultAuth::JWT`] unless configured.
        mount: String,
    },
    /// The client certificate of [`VaultSettings::with_client_certificate`].
    Certificate {
        /// The role at Vault; any that fits the certificate when absent.
        role: Option<String>,
        /// Where the method is mounted, [`VaultAuth::CERTIFICATE`] unless configured.
        mount: String,
    },
}

impl VaultAuth {
    /// Where AppRole is mounted by default.
    pub const APPROLE: &str = "approle";
    /// Where Kubernetes is mounted by default.
    pub const KUBERNETES: &str = "kubernetes";
    /// Where JWT is mounted by default.
    pub const JWT: &str = "jwt";
    /// Where TLS certificates are mounted by default.
    pub const CERTIFICATE: &str = "cert";
    /// Where a pod's token is by default.
    pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

    /// Where a method is mounted, such as `team/approle`: what the variants hold.
    ///
    /// # Errors
    /// It is no path.
    pub fn mount(mount: &str) -> Result<String, VaultSettingsError> {
        Ok(path("mount", mount)?.join("/"))
    }
}

/// The version of a KV mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvVersion {
    /// Without versions of entries.
    V1,
    /// With versions; the newest is read.
    V2,
}

/// A setting that is not accepted. The text never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct VaultSettingsError {
    /// The setting: `address`, `namespace`, `mount` or `prefix`.
    pub field: &'static str,
    /// What is wrong, and what is accepted.
    pub problem: &'static str,
}

impl VaultSettings {
    /// The mount that is read unless another one is set; the one that a development server has.
    pub const DEFAULT_MOUNT: &str = "secret";

    /// The store at an address, such as `https://vault.example:8200`.
    ///
    /// # Errors
    /// The address is none, or plain HTTP to another machine.
    pub fn new(address: &str, auth: VaultAuth) -> Result<Self, VaultSettingsError> {
        Ok(Self {
            address: parse_address(address).map_err(|problem| VaultSettingsError { field: "address", problem })?,
            auth,
            namespace: None,
            mount: Self::DEFAULT_MOUNT.to_owned(),
            prefix: Vec::new(),
            kv_version: None,
            ca: None,
            client_certificate: None,
        })
    }

    /// Reads in a namespace, such as `team-a/prod`.
    ///
    /// # Errors
    /// It is no path.
    pub fn with_namespace(self, namespace: &str) -> Result<Self, VaultSettingsError> {
        Ok(Self { namespace: Some(path("namespace", namespace)?.join("/")), ..self })
    }

    /// Reads another mount than [`VaultSettings::DEFAULT_MOUNT`], such as `team/kv`.
    ///
    /// # Errors
    /// It is no path.
    pub fn with_mount(self, mount: &str) -> Result<Self, VaultSettingsError> {
        Ok(Self { mount: path("mount", mount)?.join("/"), ..self })
    }

    /// Reads entries below a path only: `secret:/a` is the entry `prefix/a`.
    ///
    /// # Errors
    /// It is no path.
    pub fn with_prefix(self, prefix: &str) -> Result<Self, VaultSettingsError> {
        Ok(Self { prefix: path("prefix", prefix)?, ..self })
    }

    /// Does not ask the server which version the mount has.
    #[must_use]
    pub fn with_kv_version(self, version: KvVersion) -> Self {
        Self { kv_version: Some(version), ..self }
    }

    /// Trusts these certificates (PEM) and no others.
    #[must_use]
    pub fn with_ca(self, pem: Vec<u8>) -> Self {
        Self { ca: Some(pem), ..self }
    }

    /// Shows a client certificate and its key, files in PEM that are read again for each read of a secret. The server
    /// may ask for one whatever the login; [`VaultAuth::Certificate`] needs one.
    #[must_use]
    pub fn with_client_certificate(self, certificate: PathBuf, key: PathBuf) -> Self {
        Self { client_certificate: Some((certificate, key)), ..self }
    }

    /// What the variables `VAULT_ADDR`, `VAULT_NAMESPACE`, `VAULT_CACERT`, `VAULT_CLIENT_CERT` and `VAULT_CLIENT_KEY` say,
    /// with the token of `VAULT_TOKEN`. Each is also read with `BAO_` for `VAULT_`, which counts first, as in `OpenBao`.
    ///
    /// # Errors
    /// A variable that is missing or not accepted; `VAULT_SKIP_VERIFY` that asks for no verification.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, VaultSettingsError> {
        let set = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)))
        };
        let refused = |field, problem| VaultSettingsError { field, problem };
        let named = |field| move |error: VaultSettingsError| VaultSettingsError { field, ..error };
        for name in ["BAO_SKIP_VERIFY", "VAULT_SKIP_VERIFY"] {
            if set([name; 2]).is_some_and(|(_, value)| !matches!(&*value.to_lowercase(), "0" | "f" | "false")) {
                return Err(refused(
                    name,
                    "is set, and certificates are always verified; unset it and name the CA in VAULT_CACERT",
                ));
            }
        }
        let missing = refused("VAULT_ADDR", "is missing; accepted: https://host:port");
        let (field, address) = set(["BAO_ADDR", "VAULT_ADDR"]).ok_or(missing)?;
        let mut settings = Self::new(&address, VaultAuth::TokenVariable).map_err(named(field))?;
        if let Some((field, namespace)) = set(["BAO_NAMESPACE", "VAULT_NAMESPACE"]) {
            settings = settings.with_namespace(&namespace).map_err(named(field))?;
        }
        if let Some((field, ca)) = set(["BAO_CACERT", "VAULT_CACERT"]) {
            let unreadable = |_error| refused(field, "names a file that cannot be read");
            settings = settings.with_ca(std::fs::read(ca).map_err(unreadable)?);
        }
        match (set(["BAO_CLIENT_CERT", "VAULT_CLIENT_CERT"]), set(["BAO_CLIENT_KEY", "VAULT_CLIENT_KEY"])) {
            (None, None) => {}
            (Some((_, certificate)), Some((_, key))) => {
                settings = settings.with_client_certificate(certificate.into(), key.into());
            }
            (Some((field, _)), None) => {
                return Err(refused(field, "is set without VAULT_CLIENT_KEY; set both or none"));
            }
            (None, Some((field, _))) => {
                return Err(refused(field, "is set without VAULT_CLIENT_CERT; set both or none"));
            }
        }
        Ok(settings)
    }
}

impl fmt::Debug for VaultSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSettings")
            .field("address", &self.address.as_str())
            .field("auth", &self.auth)
            .field("namespace", &self.namespace)
            .field("mount", &self.mount)
            .field("prefix", &self.prefix)
            .field("kv_version", &self.kv_version)
            .field("has_ca", &self.ca.is_some())
            .field("client_certificate", &self.client_certificate)
            .finish()
    }
}

/// The segments of a path, each as a reference may hold it: nothing in them leads elsewhere.
fn path(field: &'static str, text: &str) -> Result<Vec<String>, VaultSettingsError> {
    let problem = "is not a path; accepted: segments of 1 to 128 letters, digits and _.@+=-, with / between them";
    let path = text.trim_matches('/');
    match format!("secret:/{path}").parse::<SecretRef>() {
        Ok(reference) if reference.path().key().is_none() => Ok(reference.path().segments().to_vec()),
        _ => Err(VaultSettingsError { field, problem }),
    }
}

#[cfg(test)]
mod tests {
    use super::{VaultAuth, VaultSettings};

    fn settings(address: &str) -> Result<VaultSettings, &'static str> {
        VaultSettings::new(address, VaultAuth::TokenVariable).map_err(|error| error.problem)
    }

    #[test]
    fn an_address_is_https_or_this_machine() {
        for good in
            ["https://vault:8200", "https://vault/", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"]
        {
            assert!(settings(good).is_ok(), "{good}");
        }
        for bad in ["http://vault:8200", "http://10.0.0.1", "http://localhost.evil.example", "http://[::2]:1"] {
            assert!(settings(bad).unwrap_err().starts_with("is plain HTTP"), "{bad}");
        }
        for bad in [
            "https://u:p@vault",
            "https://vault/v1",
            "https://vault?x",
            "https://vault#x",
            "vault:8200",
            "",
            "ftp://vault",
        ] {
            assert!(settings(bad).unwrap_err().ends_with("accepted: https://host:port"), "{bad}");
        }
    }

    #[test]
    fn a_mount_and_a_prefix_lead_nowhere_else() {
        let settings = settings("https://vault").unwrap();
        for bad in ["", "/", "..", "a/../b", "a//b", "a b", "a?b", "a#b", "a%2fb"] {
            assert!(settings.clone().with_mount(bad).is_err(), "{bad}");
            assert!(settings.clone().with_prefix(bad).is_err(), "{bad}");
            assert!(settings.clone().with_namespace(bad).is_err(), "{bad}");
        }
        assert_eq!(settings.with_mount("/team/kv/").unwrap().mount, "team/kv");
    }

    #[test]
    fn the_standard_variables_are_read_and_verification_cannot_be_skipped() {
        let read = |variables: &[(&str, &str)]| {
            VaultSettings::from_variables(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let address = ("VAULT_ADDR", "https://vault:8200");
        let found = read(&[address, ("VAULT_NAMESPACE", "team-a/"), ("VAULT_SKIP_VERIFY", "false")]).unwrap();
        assert_eq!((found.address.as_str(), found.namespace.as_deref()), ("https://vault:8200/", Some("team-a")));
        let found =
            read(&[address, ("BAO_ADDR", "https://bao:8200"), ("BAO_CLIENT_CERT", "c"), ("VAULT_CLIENT_KEY", "k")])
                .unwrap();
        assert_eq!(found.address.as_str(), "https://bao:8200/", "as in OpenBao");
        assert_eq!(found.client_certificate, Some(("c".into(), "k".into())));
        for (variables, field) in [
            (vec![], "VAULT_ADDR"),
            (vec![("VAULT_ADDR", "http://vault")], "VAULT_ADDR"),
            (vec![address, ("VAULT_SKIP_VERIFY", "1")], "VAULT_SKIP_VERIFY"),
            (vec![address, ("VAULT_SKIP_VERIFY", "True")], "VAULT_SKIP_VERIFY"),
            (vec![address, ("VAULT_NAMESPACE", "a b")], "VAULT_NAMESPACE"),
            (vec![address, ("VAULT_CACERT", "no/such/file")], "VAULT_CACERT"),
            (vec![address, ("VAULT_CLIENT_CERT", "cert.pem")], "VAULT_CLIENT_CERT"),
            (vec![address, ("BAO_CLIENT_KEY", "key.pem")], "BAO_CLIENT_KEY"),
            (vec![address, ("BAO_ADDR", "http://bao")], "BAO_ADDR"),
            (vec![address, ("BAO_SKIP_VERIFY", "true")], "BAO_SKIP_VERIFY"),
        ] {
            assert_eq!(read(&variables).unwrap_err().field, field);
        }
        assert!(read(&[address, ("VAULT_SKIP_VERIFY", "")]).is_ok(), "empty is unset");
    }
}
