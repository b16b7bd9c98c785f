//! A network that makes every byte late and holds nothing up: what a long way is, and a slow machine is not.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Bytes read at once, and how many such pieces may be under way: 128 MiB, far more than any window.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 2_048;

/// A relay that listens.
#[derive(Debug)]
pub(crate) struct Far {
    /// The port that stands for the control plane's.
    pub(crate) port: u16,
    up: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Far {
    /// Before this port; one way takes so long.
    pub(crate) async fn before(upstream: u16, one_way: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let up = Arc::<AtomicU64>::default();
        let mut task = JoinSet::new();
        let counted = Arc::clone(&up);
        task.spawn(async move {
            let mut ways = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await.unwrap();
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                ways.spawn(way(from_client, to_server, one_way, Arc::clone(&counted)));
                ways.spawn(way(from_server, to_client, one_way, Arc::default()));
            }
        });
        Self { port, up, _task: task }
    }

    /// Bytes that came from agents.
    pub(crate) fn bytes_up(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
        let bytes = self.up.load(Relaxed) as f64;
        bytes
    }
}

async fn way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, one_way: Duration, counted: Arc<AtomicU64>) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(bytes @ 1..) = from.read(&mut piece).await {
            counted.fetch_add(u64::try_from(bytes).unwrap(), Relaxed);
            if sender.send((Instant::now() + one_way, piece[..bytes].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
