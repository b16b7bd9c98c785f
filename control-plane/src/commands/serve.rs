//! `control-plane serve`

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Context as _;
use hybrid_runner_observability::{Roots, SPAN_TARGET, Traces};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, registry};

use super::{Common, Outcome, failed, load, refused, unopened};
use crate::ControlPlane;
use crate::clock::SystemClock;
use crate::config::{Config, log_filter, standard_variable};
use crate::otel;
use crate::server::StartError;
use crate::store::SqliteStore;

pub(super) async fn run(common: &Common) -> Outcome {
    let config = load(common)?;
    let filter = EnvFilter::try_new(log_filter()).context("CONTROL_PLANE_LOG").map_err(refused)?;
    // A subscriber that is set already is a test's.
    let traces = otel::start(&standard_variable).map_err(refused)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    // Spans of target `otel` are for traces only.
    let lines = lines.with_filter(filter.and(filter_fn(|metadata| metadata.target() != SPAN_TARGET)));
    drop(registry().with(lines).with(traces.as_ref().map(Traces::layer)).try_init());
    let roots = traces.as_ref().map(Traces::roots).unwrap_or_default();
    let served = serve(config, roots).await;
    if let Some(traces) = traces {
        // It waits for the collector, for two seconds at most.
        drop(tokio::task::spawn_blocking(move || traces.shutdown()).await);
    }
    served
}

async fn serve(config: Config, roots: Roots) -> Outcome {
    if let Some(folder) = config.store.parent() {
        tokio::fs::create_dir_all(folder).await.with_context(|| folder.display().to_string()).map_err(failed)?;
    }
    let store = SqliteStore::open(&config.store).await.map_err(|error| unopened(&config.store, error))?;
    let store = Arc::new(store);
    let plane = ControlPlane::new(config, Arc::clone(&store) as _, Arc::new(SystemClock::new())).with_roots(roots);
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
