//! The one connection: TLS 1.3 on TCP, through a proxy if one is configured, HTTP/2 on that.
//!
//! The agent dials itself and hands the ready stream to tonic: a name, a network, a proxy, a certificate or an identity
//! that is wrong is then an error with a sentence of its own, and a connection that broke is not made again behind the
//! session's back.
//!
//! **Rotation.** Files are read for each connection, and looked at once a second while there is one. When they changed,
//! [`Connector::renewed`] makes a connection under the new ones and the session moves there; until that stands, the old
//! one is kept. Files that cannot be used, such as a pair that is half written, are told once and leave those in force
//! that were read last. Session resumption is off: a resumed session would keep the old identity.

mod inspect;
mod material;
mod proxy;
mod tls;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hybrid_runner_secrets::{Resolver, Watched};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tracing::{info, warn};

pub(crate) use self::inspect::Certificate;
use self::material::{Files, Material};
pub(crate) use self::proxy::ProxyError;
pub(super) use self::tls::late_advice;
pub(crate) use self::tls::{Advice, TlsError};
use crate::config::ControlPlane;
use crate::dial::{Connection, Dial};
use crate::retry::Backoff;
use crate::telemetry::Chain;

/// Name, TCP, proxy and TLS together take at most this long; a control plane that is up answers in a fraction.
const CONNECT: Duration = Duration::from_secs(10);
/// How often the files of the identity are looked at. Certificates that live a minute are renewed some twenty seconds
/// before they end.
const LOOK: Duration = Duration::from_secs(1);
/// HTTP/2 pings find a peer that went away without a word in half a minute, also while nothing is sent. The reference
/// control plane sets no least time between them; other servers should permit this one.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);
/// HTTP/2 receive window of a stream: pages of a baseline come at 40 MB/s over a link of 50 ms.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// Of the connection: the baselines of four runs leave room for the session. No more than this waits in memory for a
/// reader, whatever the control plane sends.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW + 1024 * 1024;
/// Bytes of an answer's headers, decompressed; a status of the catalogue has less than 4 KiB.
const MAX_HEADERS: u32 = 16 * 1024;
/// Streams that were reset for the peer's faults before the connection is given up.
const MAX_RESETS: usize = 20;

/// A connection to the control plane.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    /// The token or the key that it is made with, and the password of its proxy.
    _watched: Vec<Arc<Watched>>,
    /// Of the files that it is made with.
    files: blake3::Hash,
    is_suspect: CancellationToken,
    /// Whether both sides compress `Push`; known once the session is open.
    pub(crate) zstd: bool,
    /// Whether both sides know memos; known once the session is open.
    pub(crate) memos: bool,
}

impl Link {
    /// Adds the bearer token to the headers of a stream, if that is the identity.
    pub(crate) fn authorize(&self, metadata: &mut MetadataMap) {
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
    }

    /// A stream could not be opened on it, as happens when the other side, or a load balancer before it, has told the
    /// connection to go (GOAWAY): the session on it may last, but it is renewed on another one.
    pub(crate) fn suspect(&self) {
        self.is_suspect.cancel();
    }
}

/// There is no connection. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("read {what} from {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what} has no PEM section that is accepted (expected: {expected})")]
    Pem { what: &'static str, expected: &'static str, source: rustls::pki_types::pem::Error },
    #[error("the bearer token is empty, or has characters that no header can hold")]
    Token,
    #[error("the system has no trusted certificates; give control_plane.ca")]
    NoRoots,
    #[error("the client certificate in control_plane.tls cannot be used: is the key its own?")]
    Identity { source: rustls::Error },
    #[error("control_plane.ca cannot be used")]
    Ca { source: rustls::Error },
    #[error("control_plane.endpoint: `{host}` is no DNS name or IP address")]
    Name { host: String },
    #[error("connect to {peer}: check control_plane.endpoint, DNS and firewalls")]
    Network { peer: String, source: io::Error },
    #[error("connect to {peer}: no answer within 10 s; check control_plane.endpoint and firewalls")]
    Timeout { peer: String },
    #[error("connect to {peer} through the proxy {proxy}")]
    Proxy { peer: String, proxy: String, source: Box<ProxyError> },
    #[error("TLS with {peer}")]
    Tls { peer: String, source: TlsError },
    #[error("open HTTP/2 with {peer}")]
    Http2 { peer: String, source: tonic::transport::Error },
}

/// Makes connections, and knows when the next one would be another.
#[derive(Debug)]
pub(crate) struct Connector {
    control_plane: ControlPlane,
    dial: Arc<dyn Dial>,
    secrets: Resolver,
    /// How long a connection may take to be made.
    limit: Duration,
    /// What was read last and could be used.
    good: Mutex<Option<Material>>,
    /// The problem of the files that was told last, so that it is told once.
    told: Mutex<Option<String>>,
}

impl Connector {
    /// `secrets` reads the proxy's password.
    pub(crate) fn new(control_plane: ControlPlane, dial: Arc<dyn Dial>, secrets: Resolver) -> Self {
        Self { control_plane, dial, secrets, limit: CONNECT, good: Mutex::default(), told: Mutex::default() }
    }

    /// Makes a connection.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(crate) async fn connect(&self) -> Result<Link, ConnectError> {
        let material = match self.read().await {
            Ok(material) => material,
            Err(error) => {
                let good = self.good.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(good) = good else { return Err(error) };
                self.tell(&error);
                good
            }
        };
        self.connect_with(material).await
    }

    /// Waits until a connection is to take the place of `link`, and makes it: the files changed, or `link` is suspect.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(super) async fn renewed(&self, link: &Link) -> Link {
        let mut backoff = Backoff::new();
        let mut wait = LOOK;
        loop {
            tokio::select! {
                () = sleep(wait) => {}
                () = link.is_suspect.cancelled(), if wait == LOOK => {}
            }
            let files = Files::read(&self.control_plane).await;
            if !link.is_suspect.is_cancelled() && files.as_ref().is_ok_and(|files| files.hash() == link.files) {
                wait = LOOK;
                continue;
            }
            match self.connect_anew(files).await {
                Ok(link) => {
                    info!("a new connection to the control plane stands, the session moves there");
                    return link;
                }
                Err(error) => {
                    self.tell(&error);
                    wait = backoff.next_wait() + LOOK;
                }
            }
        }
    }

    async fn connect_anew(&self, files: Result<Files, ConnectError>) -> Result<Link, ConnectError> {
        let material = self.used(files?.material(self.secrets.redactor()).await?);
        self.connect_with(material).await
    }

    async fn read(&self) -> Result<Material, ConnectError> {
        let files = Files::read(&self.control_plane).await?;
        Ok(self.used(files.material(self.secrets.redactor()).await?))
    }

    fn used(&self, material: Material) -> Material {
        *self.good.lock().unwrap_or_else(PoisonError::into_inner) = Some(material.clone());
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
        material
    }

    fn tell(&self, error: &ConnectError) {
        let text = Chain(error).to_string();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&text) {
            warn!(error = text, "the identity cannot be renewed, the last one stays in use");
            *told = Some(text);
        }
    }

    async fn connect_with(&self, material: Material) -> Result<Link, ConnectError> {
        let (host, peer) = (&self.control_plane.host, self.control_plane.address());
        let deadline = Instant::now() + self.limit;
        let (stream, password) = self.open(&peer, deadline).await?;
        let Material { tls, authorization, watched, files, .. } = material;
        let bare = bare(host);
        let stream = timeout_at(deadline, tls::handshake(tls, &bare, stream, &self.control_plane.identity)).await;
        let stream = stream.unwrap_or(Err(TlsError::Stalled));
        let stream = stream.map_err(|source| ConnectError::Tls { peer: peer.clone(), source })?;
        let channel = channel(&self.control_plane, &peer, stream).await?;
        let watched = watched.into_iter().chain(password).collect();
        let is_suspect = CancellationToken::new();
        Ok(Link { channel, authorization, _watched: watched, files, is_suspect, zstd: false, memos: false })
    }

    /// A stream of bytes to the control plane, and what is known of its proxy's password.
    async fn open(
        &self,
        peer: &str,
        deadline: Instant,
    ) -> Result<(Box<dyn Connection>, Option<Arc<Watched>>), ConnectError> {
        let ControlPlane { host, port, proxy, .. } = &self.control_plane;
        let Some(proxy) = proxy else {
            let dialled = timeout_at(deadline, self.dial.dial(&bare(host), *port)).await;
            let dialled = dialled.map_err(|_elapsed| ConnectError::Timeout { peer: peer.to_owned() })?;
            let network = |source| ConnectError::Network { peer: peer.to_owned(), source };
            return Ok((dialled.map_err(network)?, None));
        };
        let tunnel = proxy::tunnel(&*self.dial, proxy, peer, &self.secrets);
        let opened = timeout_at(deadline, tunnel).await.unwrap_or(Err(ProxyError::Slow));
        opened.map_err(Box::new).map_err(|source| ConnectError::Proxy {
            peer: peer.to_owned(),
            proxy: proxy.to_string(),
            source,
        })
    }
}

/// A host as it is looked up: an IPv6 address without its brackets.
pub(crate) fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

async fn channel(
    control_plane: &ControlPlane,
    peer: &str,
    stream: impl Connection + 'static,
) -> Result<Channel, ConnectError> {
    let http2 = |source| ConnectError::Http2 { peer: peer.to_owned(), source };
    // tonic asks its connector once: this connection is never made again.
    let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.lock().ok().and_then(|mut stream| stream.take());
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let uri = |scheme: &str| format!("{scheme}://{peer}");
    let name = |_invalid| ConnectError::Name { host: control_plane.host.clone() };
    let origin = uri("https").parse().map_err(name)?;
    Endpoint::from_shared(uri("http"))
        .map_err(http2)?
        .origin(origin)
        .connect_timeout(CONNECT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_local_error_reset_streams(MAX_RESETS)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(http2)
}

#[cfg(test)]
mod tests;
