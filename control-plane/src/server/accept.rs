//! From a TCP connection to an authenticated one.
//!
//! The loop is our own, because tonic ignores `TCP_NODELAY` for connections that it is handed and because one slow
//! handshake must not hold up the next. Each connection is accepted with the certificates of its moment
//! (`certificates.rs`); whether its agent may enter is decided for each stream.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{info, warn};

use super::listen::{Listen, Transport};
use crate::identity::ClientCertificate;

/// A handshake takes two round trips; a slower one is ended.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once. More wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 256;

/// After `accept` failed for want of files or memory, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections and hands on those whose handshake succeeds. Ends when nobody takes them any more.
pub(super) async fn run(
    listener: Box<dyn Listen>,
    config: watch::Receiver<Arc<rustls::ServerConfig>>,
    max_age: Duration,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let mut handshakes: JoinSet<()> = JoinSet::new();
    while !accepted.is_closed() {
        if handshakes.len() >= MAX_HANDSHAKES {
            handshakes.join_next().await;
        }
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
                // At its age a connection is told to go (GOAWAY); its session is ended up to a tenth later, at random, so
                // that those of a fleet that came together do not come back together.
                let ends_at = Instant::now() + max_age.mul_f64(1.0 + fastrand::f64() / 10.0);
                handshakes.spawn(handshake(acceptor, stream, peer, ends_at, accepted.clone()));
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
    ends_at: Instant,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        // Nobody takes it when the control plane stops.
        Ok(Ok(stream)) => drop(accepted.send(Ok(Connection { stream, peer, ends_at })).await),
        Ok(Err(error)) => info!(%peer, %error, "TLS handshake failed"),
        Err(_) => info!(%peer, timeout = ?HANDSHAKE_TIMEOUT, "TLS handshake took too long"),
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TlsStream<Box<dyn Transport>>,
    peer: SocketAddr,
    ends_at: Instant,
}

/// Who is at the other end of a connection, in the extensions of its requests.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Where it comes from.
    pub(super) address: SocketAddr,
    /// Its verified certificate, if it names an agent.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// When its sessions are to go on on another connection.
    pub(super) ends_at: Instant,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let (_, tls) = self.stream.get_ref();
        let leaf = tls.peer_certificates().and_then(<[_]>::first);
        Peer {
            address: self.peer,
            certificate: leaf.and_then(|leaf| ClientCertificate::of(leaf)).map(Arc::new),
            ends_at: self.ends_at,
        }
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
