//! Where connections come from: the machine's TCP, or what whoever embeds the control plane has instead.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tracing::info;

/// A stream of bytes from an agent; TLS is made on it.
pub trait Transport: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Transport for T {}

/// A port that is bound.
#[async_trait]
pub trait Listen: fmt::Debug + Send + Sync {
    /// Where it listens.
    ///
    /// # Errors
    /// The network's own.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// There is none now, for want of files or memory; asking again later may help.
    ///
    /// # Cancel safety
    /// Dropping the future loses no connection.
    async fn accept(&self) -> io::Result<(Box<dyn Transport>, SocketAddr)>;
}

#[async_trait]
impl Listen for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    async fn accept(&self) -> io::Result<(Box<dyn Transport>, SocketAddr)> {
        loop {
            let (stream, peer) = Self::accept(self).await?;
            // Nagle's algorithm would hold back acknowledgements by 40 ms.
            match stream.set_nodelay(true) {
                Ok(()) => return Ok((Box::new(stream), peer)),
                Err(error) => info!(%peer, %error, "connection lost before its handshake"),
            }
        }
    }
}
