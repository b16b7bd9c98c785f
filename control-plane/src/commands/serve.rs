//! `control-plane serve`

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use super::{Common, Outcome, failed, load, refused, unopened};
use crate::ControlPlane;
use crate::clock::SystemClock;
use crate::config::log_filter;
use crate::server::StartError;
use crate::store::SqliteStore;

pub(super) async fn run(common: &Common) -> Outcome {
    let config = load(common)?;
    let filter = EnvFilter::try_new(log_filter()).context("CONTROL_PLANE_LOG").map_err(refused)?;
    // A subscriber that is set already is a test's.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    drop(log.with_ansi(std::io::stderr().is_terminal()).try_init());
    if let Some(folder) = config.store.parent() {
        tokio::fs::create_dir_all(folder).await.with_context(|| folder.display().to_string()).map_err(failed)?;
    }
    let store = SqliteStore::open(&config.store).await.map_err(|error| unopened(&config.store, error))?;
    let store = Arc::new(store);
    let plane = ControlPlane::new(config, Arc::clone(&store) as _, Arc::new(SystemClock::new()));
    let bound = plane.bind().await.map_err(|error| match error {
        StartError::Listen { .. } | StartError::Store(_) => failed(error),
        StartError::Tls(_) | StartError::Folder(_) | StartError::Agents(_) => refused(error),
    })?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut serving = Box::pin(bound.run(stop.clone()));
    let served = loop {
        let name = tokio::select! {
            served = &mut serving => break served.map_err(failed),
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if stop.is_cancelled() {
            warn!(signal = name, "a second signal: stopping at once");
            break Err(failed(anyhow::anyhow!("stopped by a second signal before streams had ended")));
        }
        info!(signal = name, "stopping");
        stop.cancel();
    };
    drop(serving);
    store.close().await;
    served
}
