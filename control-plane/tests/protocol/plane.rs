//! A control plane to talk to.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use control_plane::clock::{Clock, ManualClock};
use control_plane::config::{Config, LeaseConfig, RetryConfig, Tls};
use control_plane::identity::{Agent, Agents, hash_token};
use control_plane::pki::{Authority, Issued};
use control_plane::server::ServeError;
use control_plane::store::{RunId, SqliteStore, Store};
use control_plane::{ControlPlane, Handle};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Whatever is waited for takes milliseconds; this is for a broken test on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PIPELINE: &str = "crm";

pub(crate) const TOKEN: &str = "a-token-of-a-test";

pub(crate) const WORKFLOW: &str = r"
source:
  type: salesforce
  serviceName: crm
  serviceConnection: {config: {type: Salesforce, username: u, password: 'secret:/a'}}
  sourceConfig: {config: {type: DatabaseMetadata}}
";

/// A running control plane with one pipeline, an agent with a certificate (`east`), two with tokens (`west`, `south`).
pub(crate) struct Plane {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) clock: ManualClock,
    pub(crate) agents: Authority,
    pub(crate) server_ca: String,
    folder: tempfile::TempDir,
    lease: LeaseConfig,
    stop: CancellationToken,
    running: JoinSet<Result<(), ServeError>>,
}

/// What must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in {PATIENCE:?}"))
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::with_lease(LeaseConfig::default()).await
    }

    pub(crate) async fn with_lease(lease: LeaseConfig) -> Self {
        Self::with(lease, None).await
    }

    /// One whose store is this file.
    pub(crate) async fn with_store(store: &Path) -> Self {
        Self::with(LeaseConfig::default(), Some(store)).await
    }

    async fn with(lease: LeaseConfig, store: Option<&Path>) -> Self {
        let now = Timestamp::now();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let servers = Authority::generate("servers", now).unwrap();
        let Issued { certificate, key } = servers.issue_server(&["localhost", "127.0.0.1"], now).unwrap();
        let agents = Authority::generate("agents", now).unwrap();
        write("server.pem", &certificate);
        write("server.key", &key);
        write("agents.pem", agents.certificate());
        std::fs::create_dir(folder.path().join("pipelines")).unwrap();
        write("pipelines/crm.yaml", WORKFLOW);
        let token = |name: &str, token: &str| Agent {
            name: name.to_owned(),
            certificate: false,
            token_blake3: Some(hash_token(token)),
        };
        let path = folder.path().join("agents.yaml");
        for agent in [
            Agent { name: "east".to_owned(), certificate: true, token_blake3: None },
            token("west", TOKEN),
            token("south", "another-token"),
        ] {
            let list = Agents::read(&path).await.unwrap().with(agent).unwrap();
            std::fs::write(&path, list).unwrap();
        }
        if let Some(store) = store {
            std::os::unix::fs::symlink(store, folder.path().join("store.db")).unwrap();
        }
        let clock = ManualClock::new(now);
        let (bound, address, handle) = bind(folder.path(), lease, &clock).await;
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(bound.run(stop.clone()));
        let server_ca = servers.certificate().to_owned();
        Self { address, handle, clock, agents, server_ca, folder, lease, stop, running }
    }

    /// Ends it, which must work, and starts another one on the same files.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let (bound, address, handle) = bind(self.folder.path(), self.lease, &self.clock).await;
        self.stop = CancellationToken::new();
        self.running.spawn(bound.run(self.stop.clone()));
        self.address = address;
        self.handle = handle;
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        soon("the end of the control plane", self.running.join_next()).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn pipeline_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("pipelines").join(name)
    }

    pub(crate) async fn trigger(&self) -> RunId {
        self.handle.trigger(PIPELINE, false).await.unwrap()
    }

    /// Waits until something is as wanted, looking at every change.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, look: impl Fn() -> F) -> T {
        let mut changes = self.handle.changes();
        let wait = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        soon(what, wait).await
    }
}

async fn bind(folder: &Path, lease: LeaseConfig, clock: &ManualClock) -> (control_plane::Bound, SocketAddr, Handle) {
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: Tls {
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
            client_ca: Some(folder.join("agents.pem")),
            client_ca_key: None,
        },
        store: folder.join("store.db"),
        pipelines: folder.join("pipelines"),
        agents: folder.join("agents.yaml"),
        lease,
        health: None,
        retry: RetryConfig::default(),
        max_connection_age: Duration::from_secs(1800),
    };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config.store).await.unwrap());
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let bound = ControlPlane::new(config, store, clock).bind().await.unwrap();
    let (address, handle) = (bound.local_addr(), bound.handle());
    (bound, address, handle)
}
