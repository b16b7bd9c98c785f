//! The control plane's process: the library on SQLite, as the program runs it.

use std::path::Path;
use std::sync::Arc;

use control_plane::ControlPlane;
use control_plane::clock::SystemClock;
use control_plane::config::Config;
use control_plane::store::SqliteStore;
use hybrid_runner_tests::install_crypto;
use hybrid_runner_tests::world::PIPELINE;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The first argument of this process.
pub(crate) const ROLE: &str = "plane";

/// Serves in the folder of its files, with a run queued, until SIGTERM.
pub(crate) async fn run() {
    install_crypto();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let config = Config::load(Path::new("control-plane.yaml")).unwrap();
    let store = Arc::new(SqliteStore::open(&config.store).await.unwrap());
    let plane = ControlPlane::new(config, Arc::clone(&store) as _, Arc::new(SystemClock::new()));
    let bound = plane.bind().await.unwrap();
    bound.handle().trigger(PIPELINE, false).await.unwrap();
    println!("port={} probes={}", bound.local_addr().port(), bound.health_addr().unwrap().port());
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let (ended, _) = tokio::join!(bound.run(stopped), async {
        terminate.recv().await;
        stop.cancel();
    });
    ended.unwrap();
    store.close().await;
}
