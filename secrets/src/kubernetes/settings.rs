//! Which API server is asked, and as whom.

use std::path::PathBuf;

use url::Url;

use crate::remote::parse_address;

/// Which API server is asked, and as whom: by default that of the pod's cluster, as the pod's service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSettings {
    pub(super) address: Url,
    pub(super) token_file: PathBuf,
    pub(super) ca: PathBuf,
}

/// A setting that is not accepted. The text never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct KubernetesSettingsError {
    /// The setting: `address`.
    pub field: &'static str,
    /// What is wrong, and what is accepted.
    pub problem: &'static str,
}

impl KubernetesSettings {
    /// Where the token of a pod's service account is.
    pub const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    /// Where the certificates are that vouch for the API server of a pod's cluster.
    pub const CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

    /// The API server of the cluster that this process is a pod of.
    ///
    /// # Errors
    /// It is no pod of one.
    pub fn of_pod() -> Result<Self, KubernetesSettingsError> {
        #[expect(clippy::disallowed_methods, reason = "these variables are how a pod learns of its API server")]
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The API server at an address, such as `https://10.96.0.1:443`.
    ///
    /// # Errors
    /// The address is none, or plain HTTP to another machine.
    pub fn new(address: &str) -> Result<Self, KubernetesSettingsError> {
        let address =
            parse_address(address).map_err(|problem| KubernetesSettingsError { field: "address", problem })?;
        Ok(Self { address, token_file: PathBuf::from(Self::TOKEN_FILE), ca: PathBuf::from(Self::CA) })
    }

    /// Shows the token in another file than [`KubernetesSettings::TOKEN_FILE`]. It is read for each secret.
    #[must_use]
    pub fn with_token_file(self, token_file: PathBuf) -> Self {
        Self { token_file, ..self }
    }

    /// Trusts the certificates (PEM) in another file than [`KubernetesSettings::CA`], and no others. It is read for
    /// each secret.
    #[must_use]
    pub fn with_ca(self, ca: PathBuf) -> Self {
        Self { ca, ..self }
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, KubernetesSettingsError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let (Some(host), Some(port)) = (set("KUBERNETES_SERVICE_HOST"), set("KUBERNETES_SERVICE_PORT")) else {
            let problem = "is missing, and this is no pod of Kubernetes; accepted: https://host:port";
            return Err(KubernetesSettingsError { field: "address", problem });
        };
        // An IPv6 address, which a URL has in brackets.
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Self::new(&format!("https://{host}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::KubernetesSettings;

    fn address(variables: &[(&str, &str)]) -> Result<String, &'static str> {
        let found = KubernetesSettings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        found.map(|settings| settings.address.to_string()).map_err(|error| error.problem)
    }

    #[test]
    fn a_pod_knows_its_api_server() {
        let (host, port) = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT");
        assert_eq!(address(&[(host, "10.96.0.1"), (port, "6443")]).as_deref(), Ok("https://10.96.0.1:6443/"));
        assert_eq!(address(&[(host, "fd00::1"), (port, "443")]).as_deref(), Ok("https://[fd00::1]/"));
        for variables in [&[][..], &[(host, "10.96.0.1")], &[(port, "443")], &[(host, ""), (port, "443")]] {
            assert!(address(variables).unwrap_err().starts_with("is missing, and this is no pod"));
        }
        assert!(address(&[(host, "10.96.0.1/x?"), (port, "443")]).unwrap_err().starts_with("has more than a host"));
    }

    #[test]
    fn an_address_is_https_or_this_machine() {
        for good in ["https://cluster:6443", "http://127.0.0.1:8001", "http://[::1]:1", "http://localhost:1"] {
            assert!(KubernetesSettings::new(good).is_ok(), "{good}");
        }
        for bad in ["http://cluster:6443", "https://u:p@cluster", "https://cluster/k8s", "cluster:6443", ""] {
            assert!(KubernetesSettings::new(bad).is_err(), "{bad}");
        }
    }
}
