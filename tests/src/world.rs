//! Sandbox org, control plane and agents in this process, joined by real sockets and TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use control_plane::clock::SystemClock;
use control_plane::config::Config;
use control_plane::export::Export;
use control_plane::identity::hash_token;
use control_plane::store::{Run, SqliteStore, Store};
use control_plane::{ControlPlane, Handle};
use hybrid_runner::{Agent, AgentConfig, AgentEvent, ControlPlane as Endpoint, Identity, Pem};
use hybrid_runner_observability::Roots;
use hybrid_runner_salesforce::{HostPolicy, LocalConfig, LocalHost};
use hybrid_runner_secrets::{MemoryStore, SecretValue, Stores};
use sandbox::{FaultPlan, Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::certificates::Authority;
use crate::{install_crypto, within};

/// The one pipeline of a world.
pub const PIPELINE: &str = "crm";

/// Where the password is, as a reference.
pub const PASSWORD: &str = "secret:/salesforce/password";

/// A control plane, a sandbox org, and what agents need.
#[derive(Debug)]
pub struct World {
    /// Where the control plane's files are.
    pub dir: TempDir,
    /// What signed the certificates.
    pub authority: Authority,
    /// The org.
    pub org: SandboxHandle,
    /// The control plane.
    pub plane: Handle,
    /// The control plane's port.
    pub port: u16,
    /// Where the control plane answers probes and scrapes.
    pub probes: SocketAddr,
    roots: Roots,
    store: Arc<SqliteStore>,
    stop_plane: CancellationToken,
    plane_task: JoinSet<()>,
}

/// An agent that runs.
#[derive(Debug)]
pub struct RunningAgent {
    /// What happens in it.
    pub events: broadcast::Receiver<AgentEvent>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

/// How a world differs from the usual one.
#[derive(Debug, Default)]
pub struct Setup {
    /// The org; 40 generated objects when absent.
    pub org: Option<OrgConfig>,
    /// What goes wrong at the org from the start.
    pub faults: FaultPlan,
    /// The pipeline's file; [`pipeline_yaml`] when absent.
    pub pipeline: Option<String>,
    /// Time to live and heartbeat of leases; the default ones when absent.
    pub lease: Option<(Duration, Duration)>,
    /// How old connections to the control plane grow; the default when absent.
    pub max_connection_age: Option<Duration>,
    /// Whoever makes the first spans of runs; nobody when absent.
    pub roots: Roots,
}

impl World {
    /// The usual one.
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    /// One that differs.
    pub async fn with(setup: Setup) -> Self {
        install_crypto();
        let config = setup.org.unwrap_or_else(|| OrgConfig { objects: 40, ..OrgConfig::default() });
        let faults = setup.faults;
        let org = Org::new(&config).unwrap();
        let org = Sandbox::start(org, ServerConfig { faults, ..ServerConfig::default() }).await.unwrap();
        let dir = TempDir::new().unwrap();
        let authority = Authority::new();
        write_plane_files(dir.path(), &authority, setup.lease, setup.max_connection_age);
        write(dir.path(), "pipelines/crm.yaml", &setup.pipeline.unwrap_or_else(|| pipeline_yaml("")));
        let roots = setup.roots;
        let (store, plane, (port, probes), stop_plane, plane_task) = start_plane(dir.path(), roots.clone()).await;
        Self { dir, authority, org, plane, port, probes, roots, store, stop_plane, plane_task }
    }

    /// Stops the control plane at once, as a crash would, and starts it again on the same store. It gets another port.
    pub async fn restart_plane(&mut self) {
        self.plane_task.shutdown().await;
        self.store.close().await;
        let (store, plane, (port, probes), stop, task) = start_plane(self.dir.path(), self.roots.clone()).await;
        (self.store, self.plane, self.port, self.stop_plane, self.plane_task) = (store, plane, port, stop, task);
        self.probes = probes;
    }

    /// What an agent of this name is configured with: its own certificate, the org's real credentials.
    #[must_use]
    pub fn agent_config(&self, name: &str) -> AgentConfig {
        let pair = self.authority.agent(name);
        let identity = Identity::Certificate { certificate: pem(&pair.certificate), key: pem(&pair.key) };
        self.agent_config_as(identity)
    }

    /// As [`World::agent_config`], under another identity.
    #[must_use]
    pub fn agent_config_as(&self, identity: Identity) -> AgentConfig {
        let login = self.org.credentials();
        let secrets = MemoryStore::default()
            .with("/salesforce/password", SecretValue::new(login.password))
            .with("/salesforce/token", SecretValue::new(login.security_token))
            .with("/salesforce/consumer-secret", SecretValue::new(login.consumer_secret));
        let host = LocalHost {
            host: "localhost".to_owned(),
            port: self.org.addr().port(),
            ca: Some(self.org.ca_pem().into()),
        };
        AgentConfig {
            control_plane: Endpoint {
                host: "localhost".to_owned(),
                port: self.port,
                ca: Some(pem(&self.authority.pem)),
                identity,
                proxy: None,
            },
            slots: 1,
            drain_timeout: Duration::ZERO,
            secrets: Arc::new(Stores::default().with("memory", secrets)),
            salesforce: LocalConfig {
                hosts: HostPolicy::new(vec![host]).unwrap(),
                use_system_proxy: false,
                ..LocalConfig::default()
            },
            policy: None,
            run_log_bytes: AgentConfig::RUN_LOG_BYTES,
        }
    }

    /// Starts an agent called `one`.
    #[must_use]
    pub fn start_agent(&self) -> RunningAgent {
        RunningAgent::start(self.agent_config("one"))
    }

    /// Triggers the pipeline and waits for the end of that run.
    pub async fn run(&self) -> Run {
        let run_id = self.plane.trigger(PIPELINE, false).await.unwrap();
        within("the run's end", self.plane.run_ended(run_id)).await.unwrap()
    }

    /// What is committed, as `(kind, fqn, entity)`, in FQN order.
    pub async fn entities(&self) -> Vec<(String, String, Value)> {
        let store: Arc<dyn Store> = Arc::clone(&self.store) as _;
        let mut export = Export::new(store, Some(PIPELINE.to_owned()));
        let mut text = Vec::new();
        while let Some(lines) = export.next_lines().await.unwrap() {
            text.extend(lines);
        }
        parse_export(&String::from_utf8(text).unwrap())
    }

    /// Ends everything in order.
    pub async fn stop(mut self) {
        self.stop_plane.cancel();
        while self.plane_task.join_next().await.is_some() {}
        self.org.stop().await;
        self.store.close().await;
    }
}

impl RunningAgent {
    /// Starts an agent.
    #[must_use]
    pub fn start(config: AgentConfig) -> Self {
        Self::of(Agent::new(config))
    }

    /// Starts one that was built elsewhere.
    #[must_use]
    pub fn of(agent: Agent) -> Self {
        let events = agent.events();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let stopped = stop.clone();
        task.spawn(async move { agent.run(stopped).await.unwrap() });
        Self { events, stop, task }
    }

    /// Waits for an event and returns what the look-out made of it.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(AgentEvent) -> Option<T>) -> T {
        within(what, async {
            loop {
                if let Some(found) = wanted(self.events.recv().await.expect("the agent runs")) {
                    return found;
                }
            }
        })
        .await
    }

    /// Asks it to leave.
    pub fn leave(&self) {
        self.stop.cancel();
    }

    /// Stops it in order.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }

    /// Drops it at once, as a kill would: it releases nothing.
    pub async fn kill(mut self) {
        self.task.shutdown().await;
    }
}

/// The pipeline of a world: SOAP login to the sandbox org. `more` is added to the connection, in YAML, eight blanks in.
#[must_use]
pub fn pipeline_yaml(more: &str) -> String {
    format!(
        "source:
  type: salesforce
  serviceName: crm
  serviceConnection:
    config:
      type: Salesforce
      username: integration@example.com
      password: {PASSWORD}
      securityToken: secret:/salesforce/token
      salesforceDomain: localhost
{more}
  sourceConfig:
    config:
      type: DatabaseMetadata
---
name: {PIPELINE}
"
    )
}

/// The lines of an export.
#[must_use]
pub fn parse_export(text: &str) -> Vec<(String, String, Value)> {
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let word = |key: &str| line.get(key).and_then(Value::as_str).unwrap().to_owned();
            (word("kind"), word("fqn"), line.get("entity").unwrap().clone())
        })
        .collect()
}

/// PEM in memory.
#[must_use]
pub fn pem(text: &str) -> Pem {
    Pem::Inline(Arc::from(text.as_bytes()))
}

/// The bearer token of the agent `token-agent`, which every world knows.
pub const TOKEN: &str = "a-bearer-token-of-at-least-32-characters";

/// Writes the files of a world's control plane, whose agents are `one`, `two` and `token-agent`.
pub fn write_plane_files(
    dir: &Path,
    authority: &Authority,
    lease: Option<(Duration, Duration)>,
    max_age: Option<Duration>,
) {
    let server = authority.server();
    write(dir, "tls/ca.pem", &authority.pem);
    write(dir, "tls/server.pem", &server.certificate);
    write(dir, "tls/server.key", &server.key);
    let agents = format!(
        "- {{name: one, certificate: true}}\n- {{name: two, certificate: true}}\n- {{name: token-agent, token_blake3: {}}}\n",
        hash_token(TOKEN)
    );
    write(dir, "agents.yaml", &agents);
    let (ttl, heartbeat) = lease.unwrap_or((Duration::from_secs(60), Duration::from_secs(15)));
    let config = format!(
        "listen: 127.0.0.1:0
tls: {{certificate: tls/server.pem, key: tls/server.key, client_ca: tls/ca.pem}}
store: {{sqlite: control-plane.db}}
pipelines: pipelines
agents: agents.yaml
lease: {{ttl: {}ms, heartbeat: {}ms}}
health: {{listen: '127.0.0.1:0'}}
retry: {{backoff: 3ms}}
max_connection_age: {}ms
",
        ttl.as_millis(),
        heartbeat.as_millis(),
        max_age.unwrap_or(Duration::from_secs(30 * 60)).as_millis()
    );
    write(dir, "control-plane.yaml", &config);
}

type Started = (Arc<SqliteStore>, Handle, (u16, SocketAddr), CancellationToken, JoinSet<()>);

async fn start_plane(dir: &Path, roots: Roots) -> Started {
    let config = Config::load(&dir.join("control-plane.yaml")).unwrap();
    let store = Arc::new(SqliteStore::open(&config.store).await.unwrap());
    let plane = ControlPlane::new(config, Arc::clone(&store) as _, Arc::new(SystemClock::new()));
    let bound = plane.with_roots(roots).bind().await.unwrap();
    let (handle, port) = (bound.handle(), bound.local_addr().port());
    let probes = bound.health_addr().unwrap();
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    let stopped = stop.clone();
    task.spawn(async move { bound.run(stopped).await.unwrap() });
    (store, handle, (port, probes), stop, task)
}

/// Writes a file below a folder.
pub fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}
