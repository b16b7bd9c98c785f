//! `hybrid-runner run`

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use hybrid_runner_observability::serve;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::terminal::Terminal;
use super::{CommandError, runtime};
use crate::agent::Agent;
use crate::config::{AgentConfig, Environment, Settings};
use crate::health::AgentPages;
use crate::{otel, telemetry};

pub(super) fn run(config: &Path, environment: &Environment, terminal: &Terminal) -> Result<(), CommandError> {
    let settings = Settings::load(Some(config), environment)?;
    let redactor = settings.secrets.redactor();
    terminal.without(redactor);
    let traces = otel::start(environment, redactor)?;
    telemetry::start(&settings.log, redactor, traces.as_ref())?;
    let health = settings.health;
    let config = settings.into_agent()?;
    let ended = runtime()?.block_on(supervise(config, health));
    if let Some(traces) = traces {
        traces.shutdown();
    }
    ended
}

/// The first SIGTERM or SIGINT hands the runs back and leaves; the second one leaves at once.
async fn supervise(config: AgentConfig, health: Option<SocketAddr>) -> Result<(), CommandError> {
    let signals = |error: io::Error| CommandError::failed(format!("listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let peer = format!("{}:{}", config.control_plane.host, config.control_plane.port);
    info!(version = env!("CARGO_PKG_VERSION"), control_plane = %peer, slots = config.slots, "agent starting");
    let stop = CancellationToken::new();
    let agent = Agent::new(config);
    let mut probes = pin!(probes(health, AgentPages::new(agent.metrics(), stop.clone())));
    let mut agent = Box::pin(agent.run(stop.clone()));
    loop {
        tokio::select! {
            failed = &mut probes => return Err(failed),
            ended = &mut agent => return ended.map_err(|error| CommandError::failed_by(&error)),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if stop.is_cancelled() {
            warn!("second signal, leaving at once");
            return Ok(());
        }
        stop.cancel();
    }
}

/// Answers probes and scrapes for ever, if there is an address for it; ends when that cannot be had.
async fn probes(address: Option<SocketAddr>, pages: AgentPages) -> CommandError {
    let Some(address) = address else { return std::future::pending().await };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            info!(address = %listener.local_addr().unwrap_or(address), "probes and scrapes are answered");
            match serve(listener, Arc::new(pages)).await {}
        }
        Err(error) => CommandError::failed(format!("health.listen: listen on {address}: {error}")),
    }
}
