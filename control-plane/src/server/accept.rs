//! From a TCP connection to an authenticated one.
//!
//! The loop is our own, because tonic ignores `TCP_NODELAY` for connections that it is handed and because one slow
//! handshake must not hold up the next. A client certificate is optional here and verified if shown; whether its agent
//! may enter is decided for each stream. Session resumption is off: a resumed session would keep an old identity.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{info, warn};

use super::listen::{Listen, Transport};
use crate::config::Tls;
use crate::identity::name_in_certificate;

/// A handshake takes two round trips; a slower one is ended.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once. More wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 256;

/// After `accept` failed for want of files or memory, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or holds nothing of the kind.
    #[error("read {what} from {}", path.display())]
    Unreadable {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The parts do not fit together.
    #[error("set up TLS")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The server's side of TLS 1.3.
pub(super) fn server_config(tls: &Tls) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let chain = certificates("a certificate", &tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| TlsError::Unreadable {
        what: "a private key",
        path: tls.key.clone(),
        source: Box::new(error),
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?;
    let verified = match &tls.client_ca {
        None => versions.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("a CA certificate", path)? {
                roots.add(certificate).map_err(setup)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(setup)?;
            versions.with_client_cert_verifier(verifier)
        }
    };
    let mut config = verified.with_single_cert(chain, key).map_err(setup)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn setup<E: std::error::Error + Send + Sync + 'static>(error: E) -> TlsError {
    TlsError::Setup(Box::new(error))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { what, path: path.to_owned(), source };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| unreadable(Box::new(error)))?;
    if read.is_empty() { Err(unreadable("the file holds none".into())) } else { Ok(read) }
}

/// Accepts connections and hands on those whose handshake succeeds. Ends when nobody takes them any more.
pub(super) async fn run(
    listener: Box<dyn Listen>,
    config: Arc<rustls::ServerConfig>,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let acceptor = TlsAcceptor::from(config);
    let mut handshakes: JoinSet<()> = JoinSet::new();
    while !accepted.is_closed() {
        if handshakes.len() >= MAX_HANDSHAKES {
            handshakes.join_next().await;
        }
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                handshakes.spawn(handshake(acceptor.clone(), stream, peer, accepted.clone()));
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: Box<dyn Transport>,
    peer: SocketAddr,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        // Nobody takes it when the control plane stops.
        Ok(Ok(stream)) => drop(accepted.send(Ok(Connection { stream, peer })).await),
        Ok(Err(error)) => info!(%peer, %error, "TLS handshake failed"),
        Err(_) => info!(%peer, timeout = ?HANDSHAKE_TIMEOUT, "TLS handshake took too long"),
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TlsStream<Box<dyn Transport>>,
    peer: SocketAddr,
}

/// Who is at the other end of a connection, in the extensions of its requests.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Where it comes from.
    pub(super) address: SocketAddr,
    /// The agent that its verified certificate names.
    pub(super) certificate: Option<Arc<str>>,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let (_, tls) = self.stream.get_ref();
        let leaf = tls.peer_certificates().and_then(<[_]>::first);
        Peer { address: self.peer, certificate: leaf.and_then(|leaf| name_in_certificate(leaf)).map(Arc::from) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
