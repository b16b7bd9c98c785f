//! How the agent reaches its control plane: the machine's TCP, or what whoever embeds the agent has instead.

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A stream of bytes to the control plane; TLS is made on it.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A way to open connections.
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync {
    /// Opens one to a DNS name or an IP address.
    ///
    /// # Errors
    /// The network's own.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Connection>>;
}

/// Bytes that may wait unsent in the kernel: 10 ms of 100 Mbit/s, more than a busy machine leaves a socket alone.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// The machine's TCP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tcp;

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Connection>> {
        let stream = TcpStream::connect((host, port)).await?;
        // Nagle's algorithm would hold back a heartbeat by 40 ms.
        stream.set_nodelay(true)?;
        // What waits unsent in the kernel would be before the next heartbeat; the rest waits in HTTP/2, which lets a
        // heartbeat pass.
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
        Ok(Box::new(stream))
    }
}
