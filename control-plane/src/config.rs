//! The configuration: one YAML file, every scalar key also an environment variable.
//!
//! ```yaml
//! listen: 0.0.0.0:7443           # CONTROL_PLANE_LISTEN
//! tls:
//!   certificate: tls/server.pem  # CONTROL_PLANE_TLS__CERTIFICATE; PEM, leaf first
//!   key: tls/server.key
//!   client_ca: tls/client-ca.pem # for agents with certificates; without it only bearer tokens
//!   client_ca_key: tls/client-ca.key  # only `control-plane agent add` reads it
//! store:
//!   sqlite: control-plane.db
//! pipelines: pipelines           # a folder of workflow files
//! agents: agents.yaml            # written by `control-plane agent add`
//! lease:
//!   ttl: 60s
//!   heartbeat: 15s
//! health:
//!   listen: 0.0.0.0:8081         # probes and metrics, over plain HTTP; nowhere when absent
//! retry:
//!   backoff: 30s                 # before the second attempt of a run; all other pauses scale with it
//! max_connection_age: 30m        # then a connection ends without harm to its runs
//! ```
//!
//! Relative paths are relative to the file's folder. An unknown key is refused, naming the near one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hybrid_runner_openmetadata::strict::{FieldError, Object};
use hybrid_runner_openmetadata::yaml::{self, SyntaxError};
use serde_json::{Map, Value};

use crate::store::{BACKOFF, MAX_BACKOFF};

/// The scalar keys, for the environment.
const SCALARS: [&[&str]; 13] = [
    &["listen"],
    &["tls", "certificate"],
    &["tls", "key"],
    &["tls", "client_ca"],
    &["tls", "client_ca_key"],
    &["store", "sqlite"],
    &["pipelines"],
    &["agents"],
    &["lease", "ttl"],
    &["lease", "heartbeat"],
    &["health", "listen"],
    &["retry", "backoff"],
    &["max_connection_age"],
];

/// The longest lease. Above it, a lost agent would hold its pipeline for too long to be noticed.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// The shortest time between heartbeats; only tests want one below a second.
const MIN_HEARTBEAT: Duration = Duration::from_millis(50);

/// How old a connection grows: what was trusted when it began, such as a CA since replaced, counts no longer.
const CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);

/// The shortest age; only tests want one below minutes.
const MIN_CONNECTION_AGE: Duration = Duration::from_millis(100);

/// The longest age. Above it, the setting would mean nothing.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(24 * 3600);

/// The configuration of a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where agents connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificates.
    pub tls: Tls,
    /// The SQLite file.
    pub store: PathBuf,
    /// The folder of workflow files.
    pub pipelines: PathBuf,
    /// The list of agents.
    pub agents: PathBuf,
    /// Leases.
    pub lease: LeaseConfig,
    /// Where probes and scrapes are answered; nowhere when absent.
    pub health: Option<SocketAddr>,
    /// Further attempts of runs.
    pub retry: RetryConfig,
    /// At this age a connection is told to go, and up to a tenth later its session ends. Leases are not touched.
    pub max_connection_age: Duration,
}

/// Certificates, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server's chain, leaf first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// What signed the agents' certificates.
    pub client_ca: Option<PathBuf>,
    /// Its key, read by `agent add` only.
    pub client_ca_key: Option<PathBuf>,
}

/// How long leases last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How long a lease lasts from its last renewal.
    pub ttl: Duration,
    /// How often agents send a heartbeat; at most a third of `ttl`.
    pub heartbeat: Duration,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(60), heartbeat: Duration::from_secs(15) }
    }
}

/// How long runs wait for their next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryConfig {
    /// The pause before the second attempt; the other pauses, and the time that a pipeline is held, are multiples of it.
    pub backoff: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { backoff: BACKOFF }
    }
}

/// A configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not YAML.
    #[error("{}", path.display())]
    Syntax {
        /// Its path.
        path: PathBuf,
        /// Where and why.
        source: SyntaxError,
    },
    /// A key or value is not accepted.
    #[error("{}", path.display())]
    Field {
        /// The file's path.
        path: PathBuf,
        /// Which and why.
        source: FieldError,
    },
}

impl Config {
    /// Reads the file and lays the environment over it.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Self::parse(path, &text, folder, environment)
    }

    fn parse(
        path: &Path,
        text: &str,
        folder: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax { path: path.to_owned(), source };
        let field = |source| ConfigError::Field { path: path.to_owned(), source };
        let documents = yaml::documents(text).map_err(syntax)?;
        let mut root = match <[Value; 1]>::try_from(documents) {
            Ok([Value::Object(root)]) => root,
            Ok([_]) => return Err(field(FieldError::new("document", "accepted: a mapping of keys to values"))),
            Err(none) if none.is_empty() => Map::new(),
            Err(_) => return Err(field(FieldError::new("document", "accepted: one document"))),
        };
        for key in SCALARS {
            if let Some(value) = environment(&variable(key)) {
                overlay(&mut root, key, value);
            }
        }
        Self::read(Object::new("", root), folder).map_err(field)
    }

    fn read(mut root: Object, folder: &Path) -> Result<Self, FieldError> {
        let listen = root.string("listen")?.unwrap_or_else(|| "127.0.0.1:7443".to_owned());
        let listen = address(&root, &listen)?;
        let path = |path: String| folder.join(path);
        let tls = root.object("tls")?;
        let mut tls = root.required("tls", tls)?;
        let certificate = tls.string("certificate")?;
        let key = tls.string("key")?;
        let client_ca = tls.string("client_ca")?.map(path);
        let client_ca_key = tls.string("client_ca_key")?.map(path);
        let certificate = path(tls.required("certificate", certificate)?);
        let key = path(tls.required("key", key)?);
        tls.finish()?;
        let store = match root.object("store")? {
            Some(mut store) => {
                let sqlite = store.string("sqlite")?;
                let sqlite = store.required("sqlite", sqlite)?;
                store.finish()?;
                sqlite
            }
            None => "control-plane.db".to_owned(),
        };
        let pipelines = path(root.string("pipelines")?.unwrap_or_else(|| "pipelines".to_owned()));
        let agents = path(root.string("agents")?.unwrap_or_else(|| "agents.yaml".to_owned()));
        let lease = root.object("lease")?.map(LeaseConfig::read).transpose()?.unwrap_or_default();
        let age = duration(&mut root, "max_connection_age")?.unwrap_or(CONNECTION_AGE);
        if !(MIN_CONNECTION_AGE..=MAX_CONNECTION_AGE).contains(&age) {
            return Err(root.error("max_connection_age", "is not accepted; accepted: from 100ms to 24h"));
        }
        let retry = root.object("retry")?.map(RetryConfig::read).transpose()?.unwrap_or_default();
        let health = root.object("health")?.map(health).transpose()?.flatten();
        root.finish()?;
        let tls = Tls { certificate, key, client_ca, client_ca_key };
        Ok(Self { listen, tls, store: path(store), pipelines, agents, lease, health, retry, max_connection_age: age })
    }
}

fn health(mut health: Object) -> Result<Option<SocketAddr>, FieldError> {
    let listen = health.string("listen")?;
    let listen = listen.map(|listen| address(&health, &listen)).transpose()?;
    health.finish()?;
    Ok(listen)
}

/// The address of the key `listen`.
fn address(object: &Object, listen: &str) -> Result<SocketAddr, FieldError> {
    let refused = |error| object.error("listen", format!("{error}; accepted: ADDRESS:PORT such as 0.0.0.0:7443"));
    listen.parse().map_err(refused)
}

impl LeaseConfig {
    fn read(mut lease: Object) -> Result<Self, FieldError> {
        let default = Self::default();
        let ttl = duration(&mut lease, "ttl")?.unwrap_or(default.ttl);
        let heartbeat = duration(&mut lease, "heartbeat")?.unwrap_or_else(|| default.heartbeat.min(ttl / 4));
        if ttl > MAX_TTL {
            return Err(lease.error("ttl", "is longer than an hour"));
        }
        if heartbeat < MIN_HEARTBEAT {
            return Err(lease.error("heartbeat", "is shorter than 50ms"));
        }
        // One heartbeat may be lost, and the agent stops its run one interval before the end.
        if heartbeat.saturating_mul(3) > ttl {
            return Err(lease.error("heartbeat", "is more than a third of `lease.ttl`"));
        }
        lease.finish()?;
        Ok(Self { ttl, heartbeat })
    }
}

impl RetryConfig {
    fn read(mut retry: Object) -> Result<Self, FieldError> {
        let backoff = duration(&mut retry, "backoff")?.unwrap_or(BACKOFF);
        if backoff.is_zero() || backoff > MAX_BACKOFF {
            return Err(retry.error("backoff", "is not above 0s and at most 50s"));
        }
        retry.finish()?;
        Ok(Self { backoff })
    }
}

fn duration(object: &mut Object, key: &'static str) -> Result<Option<Duration>, FieldError> {
    let Some(text) = object.string(key)? else { return Ok(None) };
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.map(Some).ok_or_else(|| object.error(key, "is not a duration; accepted: such as 60s or 1m 30s"))
}

/// `CONTROL_PLANE_` and the path in upper case, joined by `__`.
fn variable(key: &[&str]) -> String {
    format!("CONTROL_PLANE_{}", key.join("__").to_uppercase())
}

fn overlay(map: &mut Map<String, Value>, key: &[&str], value: String) {
    match key {
        [last] => {
            map.insert((*last).to_owned(), Value::String(value));
        }
        [first, rest @ ..] => {
            let inner = map.entry(*first).or_insert_with(|| Value::Object(Map::new()));
            // Something else than an object stays, for the reader to refuse.
            if let Value::Object(inner) = inner {
                overlay(inner, rest, value);
            }
        }
        [] => {}
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here and nowhere else")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable that other programs know by the same name: those of OpenTelemetry.
pub(crate) fn standard_variable(name: &str) -> Option<String> {
    environment(name)
}

/// The filter of the log: `CONTROL_PLANE_LOG`, in the syntax of tracing's directives, else `info`.
#[must_use]
pub fn log_filter() -> String {
    environment("CONTROL_PLANE_LOG").unwrap_or_else(|| "info".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "tls: {certificate: a.pem, key: /b.key}\n";

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let look_up =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::parse(Path::new("c.yaml"), text, Path::new("/etc/cp"), look_up)
    }

    fn refusal(text: &str) -> String {
        match parse(text, &[]) {
            Err(ConfigError::Field { source, .. }) => source.to_string(),
            other => panic!("expected a refused field, got {other:?}"),
        }
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let config = parse(MINIMAL, &[]).unwrap();
        assert_eq!(config.tls.certificate, Path::new("/etc/cp/a.pem"));
        assert_eq!(config.tls.key, Path::new("/b.key"));
        assert_eq!(config.store, Path::new("/etc/cp/control-plane.db"));
        assert_eq!(config.lease, LeaseConfig::default());
        assert_eq!(config.max_connection_age, CONNECTION_AGE);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let environment = [("CONTROL_PLANE_LEASE__TTL", "9s"), ("CONTROL_PLANE_STORE__SQLITE", "x.db")];
        let config = parse(&format!("{MINIMAL}store: {{sqlite: y.db}}\n"), &environment).unwrap();
        assert_eq!(config.lease.ttl, Duration::from_secs(9));
        assert_eq!(config.store, Path::new("/etc/cp/x.db"));
    }

    #[test]
    fn a_refusal_names_the_field_and_the_near_key() {
        assert!(refusal(&format!("{MINIMAL}lisen: 1.2.3.4:5\n")).contains("did you mean `listen`"));
        assert!(refusal("tls: {certificat: a, key: b}\n").contains("certificate"));
        assert!(refusal(&format!("{MINIMAL}lease: {{ttl: soon}}\n")).starts_with("lease.ttl: "));
        assert!(refusal(&format!("{MINIMAL}lease: {{ttl: 10s, heartbeat: 5s}}\n")).starts_with("lease.heartbeat: "));
        assert!(refusal(&format!("{MINIMAL}retry: {{backoff: 1m}}\n")).starts_with("retry.backoff: "));
        assert!(refusal(&format!("{MINIMAL}max_connection_age: 1ms\n")).starts_with("max_connection_age: "));
        assert!(refusal("{}").starts_with("tls: "));
        assert!(refusal(&format!("{MINIMAL}health: {{listen: 8081}}\n")).starts_with("health.listen: "));
        assert!(matches!(parse("tls: [", &[]), Err(ConfigError::Syntax { .. })));
    }

    #[test]
    fn probes_are_answered_where_it_is_said_and_nowhere_else() {
        assert_eq!(parse(MINIMAL, &[]).unwrap().health, None);
        let config = parse(MINIMAL, &[("CONTROL_PLANE_HEALTH__LISTEN", "0.0.0.0:8081")]).unwrap();
        assert_eq!(config.health.map(|address| address.to_string()).as_deref(), Some("0.0.0.0:8081"));
    }
}
