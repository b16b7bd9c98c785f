//! A network between an agent and its control plane that can be slow, lose everything, or break.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes that are handed on at once.
const PIECE: usize = 16 * 1024;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Hands everything on.
    Up,
    /// Hands everything on, so long after it came, a piece of 16 KiB at a time.
    Slow(Duration),
    /// Swallows everything and tells nobody. A connection that met it leads nowhere for ever.
    Hole,
    /// Resets every connection.
    Down,
}

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    /// The port that stands for the control plane's.
    pub port: u16,
    upstream: Arc<AtomicU16>,
    network: watch::Sender<Network>,
    counts: Arc<Counts>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    pieces: AtomicU64,
    disturbed: AtomicU64,
}

impl Relay {
    /// Before the control plane on this port.
    pub async fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (network, seen) = watch::channel(Network::Up);
        let (upstream, counts) = (Arc::new(AtomicU16::new(upstream)), Arc::<Counts>::default());
        let mut task = JoinSet::new();
        task.spawn(accept(listener, Arc::clone(&upstream), seen, Arc::clone(&counts)));
        Self { port, upstream, network, counts, _task: task }
    }

    /// The network is so from now on.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// The control plane is on another port from now on.
    pub fn lead_to(&self, upstream: u16) {
        self.upstream.store(upstream, Relaxed);
    }

    /// Pieces that were handed on.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        self.counts.pieces.load(Relaxed)
    }

    /// Connections that were swallowed or reset.
    #[must_use]
    pub fn disturbed(&self) -> u64 {
        self.counts.disturbed.load(Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    upstream: Arc<AtomicU16>,
    network: watch::Receiver<Network>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.spawn(relay(stream, Arc::clone(&upstream), network.clone(), Arc::clone(&counts)));
    }
}

async fn relay(
    client: TcpStream,
    upstream: Arc<AtomicU16>,
    mut network: watch::Receiver<Network>,
    counts: Arc<Counts>,
) {
    let slow = network.clone();
    // A reset, as from a router that lost its state, and no orderly end.
    client.set_zero_linger().unwrap();
    let through = async {
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream.load(Relaxed))).await else { return };
        server.set_nodelay(true).unwrap();
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            () = hand_on(from_client, to_server, slow.clone(), &counts) => {}
            () = hand_on(from_server, to_client, slow, &counts) => {}
        }
    };
    let mut through = Box::pin(through);
    let disturbed = tokio::select! {
        biased;
        disturbed = network.wait_for(|network| matches!(network, Network::Hole | Network::Down)) => disturbed.ok().map(|n| *n),
        () = &mut through => return,
    };
    counts.disturbed.fetch_add(1, Relaxed);
    if disturbed == Some(Network::Hole) {
        std::future::pending::<()>().await;
    }
}

async fn hand_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, network: watch::Receiver<Network>, counts: &Counts) {
    let mut piece = vec![0; PIECE];
    while let Ok(bytes @ 1..) = from.read(&mut piece).await {
        let pause = match *network.borrow() {
            Network::Slow(pause) => pause,
            Network::Up | Network::Hole | Network::Down => Duration::ZERO,
        };
        tokio::time::sleep(pause).await;
        if to.write_all(piece.get(..bytes).unwrap()).await.is_err() {
            return;
        }
        counts.pieces.fetch_add(1, Relaxed);
    }
}
