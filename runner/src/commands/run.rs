//! `hybrid-runner run`

use std::io;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::terminal::Terminal;
use super::{CommandError, runtime, start_output};
use crate::agent::Agent;
use crate::config::{AgentConfig, Environment, Settings};

pub(super) fn run(config: &Path, environment: &Environment, terminal: &Terminal) -> Result<(), CommandError> {
    let settings = Settings::load(Some(config), environment)?;
    start_output(terminal, &settings.log, settings.secrets.redactor())?;
    let config = settings.into_agent()?;
    runtime()?.block_on(supervise(config))
}

/// The first SIGTERM or SIGINT hands the runs back and leaves; the second one leaves at once.
async fn supervise(config: AgentConfig) -> Result<(), CommandError> {
    let signals = |error: io::Error| CommandError::failed(format!("listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let peer = format!("{}:{}", config.control_plane.host, config.control_plane.port);
    info!(version = env!("CARGO_PKG_VERSION"), control_plane = %peer, slots = config.slots, "agent starting");
    let stop = CancellationToken::new();
    let mut agent = Box::pin(Agent::new(config).run(stop.clone()));
    loop {
        tokio::select! {
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
