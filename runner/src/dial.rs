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

/// The machine's TCP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tcp;

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Connection>> {
        let stream = TcpStream::connect((host, port)).await?;
        // Nagle's algorithm would hold back a heartbeat by 40 ms.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
