//! The agent's configuration: one YAML file, every scalar key also an environment variable.
//!
//! `HYBRID_RUNNER_` + the key's path in upper case, joined by `__`, overrides the file: `control_plane.tls.key` is
//! `HYBRID_RUNNER_CONTROL_PLANE__TLS__KEY`, `salesforce.hosts[0].port` is `HYBRID_RUNNER_SALESFORCE__HOSTS__0__PORT`.
//! Relative paths, from either, are relative to the file's directory. An unknown key is refused with the near one.
//!
//! ```yaml
//! control_plane:
//!   endpoint: https://control-plane.example:7443
//!   ca: ca.pem                         # the system's roots when absent
//!   tls: { certificate: agent.pem, key: agent-key.pem }   # or token_file: agent.token
//!   proxy: { url: 'http://proxy:3128', username: agent, password: 'secret:/proxy/password' }
//! slots: 4
//! drain_timeout: 20s
//! secrets:
//!   default: mounted
//!   stores:
//!     mounted: { file: { dir: /var/run/secrets/hybrid-runner } }
//!     environment: { env: { prefix: HYBRID_RUNNER_SECRET_ } }
//!     vault: { vault: { address: 'https://vault.example:8200', auth: { kubernetes: { role: hybrid-runner } } } }
//! salesforce:
//!   use_system_proxy: true
//!   proxy: { url: 'http://proxy:3128', username: agent, password: 'secret:/proxy/password' }
//!   hosts: [{ host: localhost, port: 8443, ca: sandbox-ca.pem }]
//! policy:
//!   bindings: [{ references: ['secret:/salesforce/**'], hosts: ['*.my.salesforce.com'], uses: [oauth, session] }]
//!   networks: [10.20.0.0/16]
//! log: { level: info, format: text, run_bytes: 1048576 }
//! health: { listen: '0.0.0.0:8080' }
//! ```
//!
//! A program that embeds the agent builds an [`AgentConfig`] itself.

mod environment;
mod file;
mod proxy;
mod schema;
mod shown;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_openmetadata::yaml;
use hybrid_runner_salesforce::LocalConfig;
use hybrid_runner_secrets::{Binding, Policy, SecretValue, Stores};

pub use environment::Environment;
pub use proxy::{Proxy, ProxyLogin};
use shown::Document;

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The control plane, and who this agent is there.
    pub control_plane: ControlPlane,
    /// How many runs at once, 1 to [`AgentConfig::MAX_SLOTS`].
    pub slots: u32,
    /// How long a stopping agent lets its runs go on before it hands them back, at most
    /// [`AgentConfig::MAX_DRAIN_TIMEOUT`].
    pub drain_timeout: Duration,
    /// Where credentials are read.
    pub secrets: Arc<Stores>,
    /// What is local about Salesforce.
    pub salesforce: LocalConfig,
    /// Which secret may go where; when absent, every one to Salesforce and to the proxies there are.
    pub policy: Option<Arc<Policy>>,
    /// The most bytes of a run's log that the control plane is sent; 0: none. [`AgentConfig::RUN_LOG_BYTES`] is usual.
    pub run_log_bytes: usize,
}

impl AgentConfig {
    /// The most runs at once: each may hold a window of 4 MiB and a stream of the one connection.
    pub const MAX_SLOTS: u32 = 4;

    /// The most bytes of a run's log, unless it is configured: some four thousand lines.
    pub const RUN_LOG_BYTES: usize = 1024 * 1024;

    /// The usual [`AgentConfig::drain_timeout`]: Kubernetes leaves 30 s, and two are for the farewell.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

    /// The longest one.
    pub const MAX_DRAIN_TIMEOUT: Duration = Duration::from_secs(60 * 60);

    /// Which secret may go where.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.clone().unwrap_or_else(|| {
            let bindings = self.salesforce.bindings().into_iter().chain(self.control_plane.bindings());
            Arc::new(Policy::new(bindings.collect()))
        })
    }
}

/// A control plane, and who this agent is there.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// DNS name or IP address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The certificates that vouch for the control plane; the system's roots when absent.
    pub ca: Option<Pem>,
    /// Who the agent is.
    pub identity: Identity,
    /// The proxy on the way; none when absent.
    pub proxy: Option<Proxy>,
}

impl ControlPlane {
    /// `host:port`
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What a configuration without a policy permits here: the proxy's password may go to the proxy.
    pub(crate) fn bindings(&self) -> Option<Binding> {
        self.proxy.as_ref().and_then(Proxy::binding)
    }
}

/// Who the agent is. Files are read again for each connection, so that a rotated identity needs no restart.
#[derive(Clone)]
pub enum Identity {
    /// A client certificate whose URI SAN names the agent.
    Certificate {
        /// The chain.
        certificate: Pem,
        /// Its private key.
        key: Pem,
    },
    /// A bearer token in a file; white space around it is cut.
    TokenFile(PathBuf),
    /// A bearer token.
    Token(Arc<SecretValue>),
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { certificate, .. } => {
                f.debug_struct("Certificate").field("certificate", certificate).finish_non_exhaustive()
            }
            Self::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
            Self::Token(_) => f.write_str("Token(..)"),
        }
    }
}

/// PEM, in a file or in memory.
#[derive(Clone)]
pub enum Pem {
    /// A file, read when it is needed.
    File(PathBuf),
    /// The text itself.
    Inline(Arc<[u8]>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Inline(_) => f.write_str("Inline(..)"),
        }
    }
}

/// A configuration file, parsed: what [`AgentConfig`] needs and what only a program needs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Absent in a file for one-off runs.
    pub(crate) control_plane: Option<ControlPlane>,
    pub(crate) slots: u32,
    pub(crate) drain_timeout: Duration,
    pub(crate) secrets: Stores,
    /// Whether any store is configured.
    pub(crate) has_stores: bool,
    pub(crate) salesforce: LocalConfig,
    pub(crate) policy: Policy,
    pub(crate) log: Log,
    /// Where probes and scrapes are answered; nowhere when absent.
    pub(crate) health: Option<SocketAddr>,
    /// The file and the variables, as they were written.
    document: Document,
}

/// `log`
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
    /// Of the log of a run at the control plane.
    pub(crate) run_bytes: usize,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// Reads a file, or only the environment when there is none.
    ///
    /// # Errors
    /// The first thing that is not accepted.
    pub(crate) fn load(path: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        let (document, directory) = match path {
            None => (None, PathBuf::new()),
            Some(path) => {
                let read = |source| ConfigError::Read { path: path.to_owned(), source };
                let text = std::fs::read_to_string(path).map_err(read)?;
                let syntax = |error| ConfigError::Syntax { path: path.to_owned(), error };
                let documents = yaml::documents(&text).map_err(syntax)?;
                if documents.len() > 1 {
                    return Err(ConfigError::field("the document", "is one of several; accepted: one"));
                }
                (documents.into_iter().next(), path.parent().map(Path::to_owned).unwrap_or_default())
            }
        };
        file::parse(document.unwrap_or_default(), &directory, environment)
    }

    /// What was configured, for people who help: without what could be a credential, or half of one.
    pub(crate) fn shown(&self) -> serde_json::Value {
        self.document.shown()
    }

    /// What an agent is started with.
    ///
    /// # Errors
    /// No control plane is configured.
    pub(crate) fn into_agent(self) -> Result<AgentConfig, ConfigError> {
        let missing = "is missing; accepted: https://host:port of the control plane's gRPC listener";
        Ok(AgentConfig {
            control_plane: self.control_plane.ok_or_else(|| ConfigError::field("control_plane.endpoint", missing))?,
            slots: self.slots,
            drain_timeout: self.drain_timeout,
            secrets: Arc::new(self.secrets),
            salesforce: self.salesforce,
            policy: Some(Arc::new(self.policy)),
            run_log_bytes: self.log.run_bytes,
        })
    }
}

/// The door of a fuzz target: the policy of a file that has this section and no other.
#[cfg(fuzzing)]
#[must_use]
pub fn fuzz_policy(section: &str) -> Option<Policy> {
    let section = yaml::documents(section).ok()?.into_iter().next()?;
    let document = serde_json::json!({ "policy": section });
    file::parse(document, Path::new(""), &Environment::default()).ok().map(|settings| settings.policy)
}

/// The JSON schema of the file.
pub(crate) fn json_schema() -> serde_json::Value {
    schema::of_file()
}

/// A configuration is refused. The texts never repeat a value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("{}, line {}, column {}: {}", path.display(), error.line, error.column, error.detail)]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: yaml::SyntaxError,
    },
    /// A key or value is not accepted.
    #[error("{field}: {detail}")]
    Field {
        /// Its path, such as `control_plane.endpoint`.
        field: String,
        /// The kind of value found, what is accepted, what to do.
        detail: String,
    },
}

impl ConfigError {
    pub(crate) fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Field { field: field.into(), detail: detail.into() }
    }
}

#[cfg(test)]
mod tests;
