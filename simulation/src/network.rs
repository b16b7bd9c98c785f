//! The simulated network in place of the machine's.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use control_plane::server::{Listen, Transport};
use hybrid_runner::{Connection, Dial};
use turmoil::net::{TcpListener, TcpStream};

use crate::clocks::elapsed;

/// Over so long an agent's attempts are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// The most attempts to connect of one agent within [`WINDOW`]: one a second (L4). The first waits of a back-off are
/// shorter, but there are few of them.
const MAX_DIALS: usize = 60;

/// How an agent reaches the control plane. Clones share the count of attempts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire {
    dials: Arc<Mutex<VecDeque<Duration>>>,
}

impl Wire {
    /// Whether the agent tried so often that it spins.
    #[must_use]
    pub(crate) fn spins(&self) -> bool {
        self.dials.lock().unwrap().len() > MAX_DIALS
    }
}

#[async_trait]
impl Dial for Wire {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Connection>> {
        {
            let now = elapsed();
            let mut dials = self.dials.lock().unwrap();
            dials.push_back(now);
            while dials.front().is_some_and(|dial| *dial + WINDOW < now) {
                dials.pop_front();
            }
        }
        Ok(Box::new(TcpStream::connect((host, port)).await?))
    }
}

/// The control plane's port.
pub(crate) struct Port(TcpListener);

impl Port {
    /// Takes it, on every address of the host.
    ///
    /// # Errors
    /// It is taken.
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        Ok(Self(TcpListener::bind(("0.0.0.0", port)).await?))
    }
}

#[async_trait]
impl Listen for Port {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    async fn accept(&self) -> io::Result<(Box<dyn Transport>, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Box::new(stream), peer))
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Port")
    }
}
