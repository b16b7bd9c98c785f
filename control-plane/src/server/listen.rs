//! Where connections come from: the machine's TCP, or what whoever embeds the control plane has instead.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tracing::info;

/// A stream of bytes from an agent; TLS is made on it.
pub trait Transport: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Transport for T {}

/// Bytes that may wait unsent in the kernel: 10 ms of 100 Mbit/s, more than a busy machine leaves a socket alone.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

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
            match set_up(&stream) {
                Ok(()) => return Ok((Box::new(stream), peer)),
                Err(error) => info!(%peer, %error, "connection lost before its handshake"),
            }
        }
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    // Nagle's algorithm would hold back acknowledgements by 40 ms.
    stream.set_nodelay(true)?;
    // What waits unsent in the kernel, such as pages of a baseline, would be before the next answer to a heartbeat.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}
