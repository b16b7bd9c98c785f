//! The file as it is written.

mod policy;
mod proxy;
mod secrets;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hybrid_runner_salesforce::{HostPolicy, LocalConfig, LocalHost};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::policy::PolicyFile;
use self::proxy::ProxyFile;
use self::secrets::SecretsFile;
use super::{
    AgentConfig, ConfigError, ControlPlane, Document, Environment, Identity, Log, LogFormat, Pem, Settings, schema,
};

/// Configuration of hybrid-runner.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigFile {
    /// The control plane, and who this agent is there.
    control_plane: ControlPlaneFile,
    /// How many runs at once.
    #[schemars(range(min = 1, max = 4))]
    slots: u32,
    /// How long a stopping agent lets its runs go on before it hands them back, such as 20s or 1m; at most an hour.
    drain_timeout: String,
    /// Where credentials are read.
    secrets: SecretsFile,
    /// What is local about Salesforce.
    salesforce: SalesforceFile,
    /// Which secret may go where.
    policy: PolicyFile,
    /// What is logged to stderr.
    log: LogFile,
    /// Where probes and scrapes are answered.
    health: HealthFile,
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            control_plane: ControlPlaneFile::default(),
            slots: AgentConfig::MAX_SLOTS,
            drain_timeout: format!("{}s", AgentConfig::DRAIN_TIMEOUT.as_secs()),
            secrets: SecretsFile::default(),
            salesforce: SalesforceFile::default(),
            policy: PolicyFile::default(),
            log: LogFile::default(),
            health: HealthFile::default(),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ControlPlaneFile {
    /// `https://host:port` of the control plane's gRPC listener.
    endpoint: Option<String>,
    /// PEM file with the certificates that vouch for the control plane; the system's roots when absent.
    ca: Option<PathBuf>,
    /// The agent's client certificate; or else `token_file`.
    tls: TlsFile,
    /// File with the agent's bearer token; or else `tls`.
    token_file: Option<PathBuf>,
    /// Whether `HTTPS_PROXY` and `NO_PROXY` count.
    use_system_proxy: bool,
    /// The proxy to use in place of `HTTPS_PROXY`; `NO_PROXY` counts as before.
    proxy: ProxyFile,
}

impl Default for ControlPlaneFile {
    fn default() -> Self {
        Self {
            endpoint: None,
            ca: None,
            tls: TlsFile::default(),
            token_file: None,
            use_system_proxy: true,
            proxy: ProxyFile::default(),
        }
    }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TlsFile {
    /// PEM file with the certificate chain. Read again for each connection.
    certificate: Option<PathBuf>,
    /// PEM file with its private key.
    key: Option<PathBuf>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct SalesforceFile {
    /// Hosts other than `*.salesforce.com`, for sandboxes and tests.
    hosts: Vec<HostFile>,
    /// Whether `HTTPS_PROXY` and `NO_PROXY` count.
    use_system_proxy: bool,
    /// The proxy to use in place of `HTTPS_PROXY`; `NO_PROXY` counts as before.
    proxy: ProxyFile,
}

impl Default for SalesforceFile {
    fn default() -> Self {
        Self { hosts: Vec::new(), use_system_proxy: true, proxy: ProxyFile::default() }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HostFile {
    /// DNS name or IP address.
    host: Option<String>,
    /// The port; 443 when absent.
    #[schemars(range(min = 1, max = 65535))]
    port: Option<u16>,
    /// PEM file with certificates that are trusted for this host in addition to the system's.
    ca: Option<PathBuf>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LogFile {
    /// error, warn, info, debug, trace, or a filter such as `info,hybrid_runner=debug`.
    level: String,
    /// text or json.
    format: LogFormat,
    /// The most bytes of a run's log that the control plane is sent: the first half as it comes, the last half at the
    /// end. 0: none.
    #[schemars(range(max = 4194304))]
    run_bytes: usize,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct HealthFile {
    /// `address:port` of an HTTP server with `/health/startup`, `/health/live`, `/health/ready` and `/metrics`; none when
    /// absent.
    listen: Option<String>,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text, run_bytes: AgentConfig::RUN_LOG_BYTES }
    }
}

pub(super) fn parse(mut document: Value, directory: &Path, environment: &Environment) -> Result<Settings, ConfigError> {
    let schema = schema::of_file();
    if document.is_null() {
        document = Value::Object(Map::new());
    }
    // The file first, so that an error in it is not reported as one of a variable.
    schema::check(&schema, &mut document, "")?;
    for (variable, path, text) in environment.overrides() {
        schema::set(&schema, &mut document, variable, &path, text)?;
    }
    schema::check(&schema, &mut document, "")?;
    let written = Document::new(document.clone());
    let file: ConfigFile =
        serde_json::from_value(document).map_err(|error| ConfigError::field("the document", error.to_string()))?;
    file.settings(directory, environment, written)
}

impl ConfigFile {
    fn settings(
        self,
        directory: &Path,
        environment: &Environment,
        document: Document,
    ) -> Result<Settings, ConfigError> {
        let salesforce = self.salesforce.parse(directory)?;
        let control_plane = self.control_plane.parse(directory, environment)?;
        let prefixes = self.secrets.prefixes()?;
        let bindings = salesforce.bindings().into_iter().chain(control_plane.iter().flat_map(ControlPlane::bindings));
        Ok(Settings {
            slots: self.slots,
            drain_timeout: drain_timeout(&self.drain_timeout)?,
            has_stores: self.secrets.has_stores(),
            secrets: self.secrets.parse(directory)?,
            policy: self.policy.parse(bindings.collect(), prefixes)?,
            control_plane,
            salesforce,
            log: Log { level: self.log.level, format: self.log.format, run_bytes: self.log.run_bytes },
            health: self.health.parse()?,
            document,
        })
    }
}

impl HealthFile {
    fn parse(self) -> Result<Option<SocketAddr>, ConfigError> {
        let parsed = self.listen.map(|listen| listen.parse());
        parsed.transpose().map_err(|_not_an_address| {
            ConfigError::field("health.listen", "is not an address; accepted: ADDRESS:PORT, such as 0.0.0.0:8080")
        })
    }
}

fn drain_timeout(text: &str) -> Result<Duration, ConfigError> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.filter(|timeout| *timeout <= AgentConfig::MAX_DRAIN_TIMEOUT).ok_or_else(|| {
        ConfigError::field(
            "drain_timeout",
            "is a string that is no duration up to an hour; accepted: such as 20s, 1m 30s, or 0s",
        )
    })
}

impl ControlPlaneFile {
    fn parse(self, directory: &Path, environment: &Environment) -> Result<Option<ControlPlane>, ConfigError> {
        let identity = match (self.tls.certificate, self.tls.key, self.token_file) {
            (Some(certificate), Some(key), None) => Some(Identity::Certificate {
                certificate: Pem::File(directory.join(certificate)),
                key: Pem::File(directory.join(key)),
            }),
            (None, None, Some(token)) => Some(Identity::TokenFile(directory.join(token))),
            (None, None, None) => None,
            (Some(_), None, None) => return Err(ConfigError::field("control_plane.tls.key", "is missing")),
            (None, Some(_), None) => return Err(ConfigError::field("control_plane.tls.certificate", "is missing")),
            (_, _, Some(_)) => {
                let both = "stands beside control_plane.tls; an agent has one identity: give one of them";
                return Err(ConfigError::field("control_plane.token_file", both));
            }
        };
        let proxy = self.proxy.parse("control_plane.proxy")?;
        let Some(endpoint) = self.endpoint else { return Ok(None) };
        let (host, port) = host_and_port(&endpoint)?;
        let identity = identity.ok_or_else(|| {
            let missing = "has no identity; give tls.certificate and tls.key, or token_file (`control-plane agent add` makes either)";
            ConfigError::field("control_plane", missing)
        })?;
        let ca = self.ca.map(|ca| Pem::File(directory.join(ca)));
        let proxy = proxy::on_the_way_to(&host, port, proxy, self.use_system_proxy.then_some(environment))?;
        Ok(Some(ControlPlane { host, port, ca, identity, proxy }))
    }
}

fn host_and_port(endpoint: &str) -> Result<(String, u16), ConfigError> {
    let refused =
        |detail| ConfigError::field("control_plane.endpoint", format!("{detail}; accepted: https://host:port"));
    let uri: tonic::transport::Uri =
        endpoint.parse().map_err(|error| refused(format!("is not an address ({error})")))?;
    if uri.scheme_str() != Some("https") {
        return Err(refused("does not begin with https:// (there is no connection without TLS)".to_owned()));
    }
    let authority = uri.authority().ok_or_else(|| refused("has no host".to_owned()))?;
    let plain = !authority.as_str().contains('@') && matches!(uri.path(), "" | "/") && uri.query().is_none();
    if !plain || authority.host().is_empty() {
        return Err(refused("has more than a host and a port".to_owned()));
    }
    Ok((authority.host().to_owned(), authority.port_u16().unwrap_or(443)))
}

impl SalesforceFile {
    fn parse(self, directory: &Path) -> Result<LocalConfig, ConfigError> {
        let hosts = self.hosts.into_iter().enumerate().map(|(index, host)| {
            let path = format!("salesforce.hosts[{index}]");
            let ca = host.ca.map(|ca| {
                let ca = directory.join(ca);
                std::fs::read(&ca).map_err(|source| ConfigError::Read { path: ca, source })
            });
            Ok(LocalHost {
                host: host.host.ok_or_else(|| ConfigError::field(format!("{path}.host"), "is missing"))?,
                port: host.port.unwrap_or(443),
                ca: ca.transpose()?,
            })
        });
        let hosts = HostPolicy::new(hosts.collect::<Result<_, ConfigError>>()?)
            .map_err(|error| ConfigError::field("salesforce.hosts", error.to_string()))?;
        let proxy = self.proxy.parse("salesforce.proxy")?;
        Ok(LocalConfig { hosts, use_system_proxy: self.use_system_proxy, proxy, ..LocalConfig::default() })
    }
}
