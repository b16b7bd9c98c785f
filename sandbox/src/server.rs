//! The listener: one port that speaks TLS, and `CONNECT` in clear as a proxy does.

mod connection;
mod exchange;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::faults::{FaultPlan, Faults};
use crate::log::{LoggedRequest, RequestLog, Requests};
use crate::login::Sessions;
use crate::org::{ApiVersion, Credentials, Org};
use crate::tls::Identity;

/// How to serve an org.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Certificate and CA; made at start when absent.
    pub identity: Option<Identity>,
    /// Authorities (PEM) of which clients have to show a certificate; without it none is asked for.
    pub client_ca: Option<String>,
    /// User name and password that `CONNECT` asks for, as `Proxy-Authorization: Basic`.
    pub proxy_credentials: Option<(String, String)>,
    /// Versions whose describes are built before the first request; those of others are built when asked for.
    pub prepare: Vec<ApiVersion>,
    /// What goes wrong from the start.
    pub faults: FaultPlan,
    /// The daily API limit that `Sforce-Limit-Info` and `/limits` state. Calls beyond it are still answered, unless
    /// [`FaultPlan::limit_reached`] says otherwise.
    pub daily_limit: u64,
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("listen", &self.listen)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            identity: None,
            client_ca: None,
            proxy_credentials: None,
            prepare: Vec::new(),
            faults: FaultPlan::default(),
            daily_limit: 100_000,
        }
    }
}

/// What all connections share.
pub(crate) struct World {
    org: RwLock<Arc<Org>>,
    pub(crate) faults: Faults,
    pub(crate) log: RequestLog,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) daily_limit: u64,
    /// What `Proxy-Authorization` has to say.
    pub(crate) proxy_authorization: Option<String>,
}

impl World {
    pub(crate) fn org(&self) -> Arc<Org> {
        Arc::clone(&self.org.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn sessions<T>(&self, with: impl FnOnce(&mut Sessions) -> T) -> T {
        with(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A bound listener that [`Sandbox::run`] serves.
pub struct Sandbox {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    world: Arc<World>,
    identity: Identity,
    addr: SocketAddr,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Builds what is to be prepared and binds the port, without serving yet.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound or the certificate does not fit its key.
    pub async fn bind(org: Org, config: ServerConfig) -> anyhow::Result<Self> {
        let identity = match config.identity {
            Some(identity) => identity,
            None => Identity::generate()?,
        };
        let acceptor = TlsAcceptor::from(identity.server_config(config.client_ca.as_deref())?);
        let prepare = config.prepare;
        let org = tokio::task::spawn_blocking(move || {
            prepare.into_iter().for_each(|version| org.prepare(version));
            org
        })
        .await
        .context("build the describes")?;
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
        let addr = listener.local_addr().context("read the bound address")?;
        let world = Arc::new(World {
            org: RwLock::new(Arc::new(org)),
            faults: Faults::new(config.faults),
            log: RequestLog::default(),
            sessions: Mutex::new(Sessions::default()),
            daily_limit: config.daily_limit,
            proxy_authorization: config
                .proxy_credentials
                .map(|(username, password)| format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))),
        });
        Ok(Self { listener, acceptor, world, identity, addr })
    }

    /// Binds and serves until the handle is stopped or dropped.
    ///
    /// # Errors
    ///
    /// As [`Sandbox::bind`].
    pub async fn start(org: Org, config: ServerConfig) -> anyhow::Result<SandboxHandle> {
        let sandbox = Self::bind(org, config).await?;
        let stop = CancellationToken::new();
        let mut handle = sandbox.handle();
        handle.stop = stop.clone();
        handle.tasks.spawn(sandbox.run(stop));
        Ok(handle)
    }

    /// A handle that looks at and steers the server, for an owner that calls [`Sandbox::run`] itself.
    #[must_use]
    pub fn handle(&self) -> SandboxHandle {
        SandboxHandle {
            addr: self.addr,
            identity: self.identity.clone(),
            world: Arc::clone(&self.world),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Serves until `stop`; connections that are open then are closed.
    pub async fn run(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                _ = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection::serve(stream, self.acceptor.clone(), Arc::clone(&self.world)));
                }
                Err(error) => tracing::debug!(%error, "accept failed"),
            }
        }
    }
}

/// A running sandbox. Dropping it stops the server at once.
pub struct SandboxHandle {
    addr: SocketAddr,
    identity: Identity,
    world: Arc<World>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for SandboxHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxHandle").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl SandboxHandle {
    /// The bound address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `https://localhost:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// The value for `HTTPS_PROXY` that makes `*.salesforce.com` this org: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The CA that clients have to trust, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.identity.ca_pem
    }

    /// Who may log in.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.world.org().credentials.clone()
    }

    /// What was asked so far.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.world.log.requests()
    }

    /// The latest requests (at most 20,000), in the order in which they were answered.
    #[must_use]
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.world.log.latest()
    }

    /// The switchboard of faults.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.world.faults.clone()
    }

    /// The org as it is served now.
    #[must_use]
    pub fn org(&self) -> Arc<Org> {
        self.world.org()
    }

    /// Changes the org under its clients; requests that are under way see it as it was.
    pub fn change_org<T>(&self, change: impl FnOnce(&mut Org) -> T) -> T {
        let mut org = self.world.org.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut org))
    }

    /// The sessions that exist, for tests that look for them elsewhere.
    #[must_use]
    pub fn sessions(&self) -> Vec<String> {
        self.world.sessions(|sessions| sessions.live())
    }

    /// Every session that exists is dead from now on.
    pub fn expire_sessions(&self) {
        self.world.sessions(Sessions::expire);
    }

    /// Stops serving and waits until it has stopped.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
