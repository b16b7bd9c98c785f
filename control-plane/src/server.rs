//! Builds and supervises a control plane: binds, serves, watches, drains.
//!
//! ```text
//! run ─┬─ accept    TLS handshakes ──▶ connections
//!      ├─ grpc      sessions and pushes, each a future of its own response stream
//!      ├─ folder    pipelines and agents, once a second
//!      ├─ certificates  the server's and the agents' authority, once a second
//!      └─ dispatch  open runs, leases, schedules, connection tests; on every change and twice a second
//! ```
//!
//! Any of them ending by itself ends the control plane. `stop` drains: no new connection, streams end between two
//! transactions, and after 10 s what is left is dropped, which loses nothing that was acknowledged.

mod accept;
mod certificates;
mod connection_tests;
mod dispatch;
mod folder;
mod handle;
mod listen;
mod service;
mod sweep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_observability::{Roots, serve};
use hybrid_runner_proto::v1::runner_service_server::RunnerServiceServer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tracing::{info, warn};

use self::certificates::Certificates;
pub use self::handle::{Handle, TriggerError};
pub use self::listen::{Listen, Transport};
use crate::clock::Clock;
use crate::config::Config;
use crate::definitions::FolderError;
use crate::health::PlanePages;
use crate::identity::AgentsError;
use crate::shared::Shared;
pub use crate::shared::{KindProgress, Progress, SessionInfo};
use crate::store::{Store, StoreError};

/// The largest message, both ways (CONTRACTS §4); a larger one ends its stream.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// HTTP/2 receive window of a stream: a window of unacknowledged batches (8 MiB) and the next message fit, so that a
/// push fills a link of 1 Gbit/s and 100 ms.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;

/// HTTP/2 receive window of a connection: two pushes at full speed leave room for the session.
const CONNECTION_WINDOW: u32 = 2 * STREAM_WINDOW + 1024 * 1024;

/// Streams of one connection: a session and a push for each of the agent's runs. More wait.
const MAX_STREAMS: u32 = 128;

/// Bytes of a request's headers, decompressed. An agent's have less than 1 KiB, its bearer token apart.
const MAX_HEADERS: u32 = 16 * 1024;

/// Streams that a peer opened and reset at once, and streams that were reset for its faults, before its connection is
/// ended: an agent has no reason for either.
const MAX_RESETS: usize = 20;

/// A quiet connection is probed this often, below the 60 s after which load balancers drop it.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// A probe that is not answered for so long ends the connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long streams may take to end when the control plane stops. A transaction takes milliseconds.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that finished their handshake and wait for the server to take them.
const ACCEPTED: usize = 64;

/// A control plane that is not bound yet.
#[derive(Debug)]
pub struct ControlPlane {
    config: Config,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    roots: Roots,
}

/// A control plane that has its port and has read its files.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    shared: Arc<Shared>,
    folder: folder::Folder,
    listener: Box<dyn Listen>,
    local_addr: SocketAddr,
    certificates: Certificates,
    health: Option<TcpListener>,
}

/// A control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be bound.
    #[error("listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The pipelines folder cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The list of agents cannot be read.
    #[error(transparent)]
    Agents(#[from] AgentsError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A control plane ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The gRPC server failed.
    #[error("serve gRPC")]
    Grpc(#[source] tonic::transport::Error),
    /// The reflection service cannot be built.
    #[error("describe the service for reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// A task panicked or ended.
    #[error("the task {task} ended by itself")]
    Ended {
        /// Which.
        task: &'static str,
    },
    /// A task panicked.
    #[error("a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

pub use self::certificates::TlsError;

impl ControlPlane {
    /// A control plane over this store.
    #[must_use]
    pub fn new(config: Config, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { config, store, clock, roots: Roots::default() }
    }

    /// The control plane with whoever makes the first spans of its runs' traces.
    #[must_use]
    pub fn with_roots(self, roots: Roots) -> Self {
        Self { roots, ..self }
    }

    /// Reads certificates, agents and pipelines and takes the port. Nothing runs yet.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn bind(self) -> Result<Bound, StartError> {
        let address = self.config.listen;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| StartError::Listen { address, source })?;
        self.bind_to(Box::new(listener)).await
    }

    /// As [`ControlPlane::bind`], with a port that was taken elsewhere.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn bind_to(self, listener: Box<dyn Listen>) -> Result<Bound, StartError> {
        let Self { config, store, clock, roots } = self;
        let listen = |source| StartError::Listen { address: config.listen, source };
        let local_addr = listener.local_addr().map_err(listen)?;
        let certificates = Certificates::load(config.tls.clone()).await?;
        let shared =
            Arc::new(Shared::new(store, clock, config.lease, config.retry).observed_by(config.health.is_some(), roots));
        let folder = folder::load(&config, &shared).await?;
        let health = match config.health {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| StartError::Listen { address, source })?)
            }
            None => None,
        };
        Ok(Bound { config, shared, folder, listener, local_addr, certificates, health })
    }
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where probes and scrapes are answered, if anywhere.
    #[must_use]
    pub fn health_addr(&self) -> Option<SocketAddr> {
        self.health.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// What others hold of it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Serves until `stop`, then drains.
    ///
    /// # Errors
    /// [`ServeError`] when it ended by itself.
    ///
    /// # Cancel safety
    /// Dropping the future ends everything at once; what was acknowledged is kept.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServeError> {
        let health_addr = self.health_addr();
        let Self { config, shared, folder, listener, local_addr, certificates, health } = self;
        // Answered to the very end: a probe that finds nobody would not know that streams are still ending.
        let mut probes = JoinSet::new();
        if let Some(listener) = health {
            probes.spawn(serve(listener, Arc::new(PlanePages::new(Arc::clone(&shared)))));
        }
        let (accepted, connections) = tokio::sync::mpsc::channel(ACCEPTED);
        let drain = shared.drain.clone();
        let max_age = config.max_connection_age;
        let router = router(&shared, max_age).await?;
        let mut tasks: JoinSet<Result<&'static str, ServeError>> = JoinSet::new();
        tasks.spawn({
            let (drain, tls) = (drain.clone(), certificates.subscribe());
            async move {
                drain.run_until_cancelled(accept::run(listener, tls, max_age, accepted)).await;
                Ok("accept")
            }
        });
        tasks.spawn({
            let drained = drain.clone().cancelled_owned();
            async move {
                let connections = ReceiverStream::new(connections);
                router.serve_with_incoming_shutdown(connections, drained).await.map_err(ServeError::Grpc)?;
                Ok("grpc")
            }
        });
        tasks.spawn(folder::run(config, Arc::clone(&shared), folder));
        tasks.spawn(certificates.run(Arc::clone(&shared)));
        tasks.spawn(dispatch::run(Arc::clone(&shared)));
        tasks.spawn(sweep::run(Arc::clone(&shared)));
        info!(%local_addr, ?health_addr, "control plane listens");

        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            Some(ended) = tasks.join_next() => Err(ended),
        };
        drain.cancel();
        let result = match ended {
            Ok(()) => Ok(()),
            Err(Ok(Ok(task))) => Err(ServeError::Ended { task }),
            Err(Ok(Err(error))) => Err(error),
            Err(Err(panicked)) => Err(ServeError::Panicked(panicked)),
        };
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            warn!(timeout = ?DRAIN_TIMEOUT, "streams did not end in time and are dropped");
        }
        info!("control plane stopped");
        result
    }
}

async fn router(shared: &Arc<Shared>, max_age: Duration) -> Result<tonic::transport::server::Router, ServeError> {
    let runner = RunnerServiceServer::new(service::Runner::new(Arc::clone(shared)))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
        // Not sent: what goes to agents is small but for the baseline, half of which is digests, and reading one compressed
        // acknowledgement takes an agent 2.5 MiB.
        .accept_compressed(CompressionEncoding::Zstd);
    // The overall service, "", is serving from the start, and so is this one: as long as the process answers at all.
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<RunnerServiceServer<service::Runner>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(hybrid_runner_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1().map_err(ServeError::Reflection)?;
    // grpcurl up to 1.8 speaks only this one.
    let v1alpha = reflection().build_v1alpha().map_err(ServeError::Reflection)?;
    let router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .max_connection_age(max_age)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(runner)
        .add_service(health)
        .add_service(v1)
        .add_service(v1alpha);
    Ok(router)
}
