//! Pipelines and agents, re-read from their files.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::{ServeError, StartError};
use crate::config::Config;
use crate::definitions::{self, Definitions, Files};
use crate::identity::Agents;
use crate::shared::Shared;

/// How often the files are looked at: a change is in force within about a second.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads everything once, for the start: what cannot be read is an error then.
pub(super) async fn load(config: &Config, shared: &Shared) -> Result<Folder, StartError> {
    shared.agents.send_replace(Arc::new(Agents::read(&config.agents).await?));
    let files = definitions::read_folder(&config.pipelines).await?;
    let now = shared.clock.now();
    let definitions = definitions::parse(&files, now);
    report(&definitions, &Definitions::default());
    shared.store.put_definitions(definitions.definitions.clone(), definitions.faults.clone(), now).await?;
    shared.definitions.send_replace(Arc::new(shared.store.definitions().await?));
    Ok(Folder { files, definitions, agents_error: None, folder_error: None })
}

/// Reads what changed, until the control plane stops.
pub(super) async fn run(config: Config, shared: Arc<Shared>, mut folder: Folder) -> Result<&'static str, ServeError> {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.drain.run_until_cancelled(ticks.tick()).await.is_some() {
        folder.agents(&config, &shared).await;
        folder.pipelines(&config, &shared).await;
    }
    Ok("folder")
}

/// What was read last.
#[derive(Debug)]
pub(super) struct Folder {
    files: Files,
    definitions: Definitions,
    /// Errors that were logged, so that they are logged once.
    agents_error: Option<String>,
    folder_error: Option<String>,
}

impl Folder {
    /// A list that cannot be read leaves the last good one in force.
    async fn agents(&mut self, config: &Config, shared: &Shared) {
        match Agents::read(&config.agents).await {
            Ok(agents) => {
                self.agents_error = None;
                shared.agents.send_if_modified(|known| {
                    let changed = **known != agents;
                    if changed {
                        *known = Arc::new(agents);
                    }
                    changed
                });
            }
            Err(error) => {
                let text = error.to_string();
                if self.agents_error.as_ref() != Some(&text) {
                    error!(%error, "the list of agents cannot be read, the last one stays in force");
                    self.agents_error = Some(text);
                }
            }
        }
    }

    /// A folder that cannot be read leaves the pipelines as they are.
    async fn pipelines(&mut self, config: &Config, shared: &Shared) {
        let files = match definitions::read_folder(&config.pipelines).await {
            Ok(files) => files,
            Err(error) => {
                let text = error.to_string();
                if self.folder_error.as_ref() != Some(&text) {
                    error!(%error, reason = %error.source, "the pipelines stay as they are");
                    self.folder_error = Some(text);
                }
                return;
            }
        };
        self.folder_error = None;
        if files == self.files {
            return;
        }
        let now = shared.clock.now();
        let read = definitions::parse(&files, now);
        if read == self.definitions {
            self.files = files;
            return;
        }
        let stored = shared.store.put_definitions(read.definitions.clone(), read.faults.clone(), now).await;
        let current = match stored {
            Ok(()) => shared.store.definitions().await,
            Err(error) => Err(error),
        };
        match current {
            Ok(current) => {
                report(&read, &self.definitions);
                self.files = files;
                self.definitions = read;
                shared.definitions.send_replace(Arc::new(current));
                shared.changed();
            }
            // The files still differ from what is remembered: the next tick tries again.
            Err(error) => {
                shared.failed(&error);
            }
        }
    }
}

fn report(now: &Definitions, before: &Definitions) {
    for fault in now.faults.iter().filter(|fault| !before.faults.contains(fault)) {
        warn!(file = fault.file, error = fault.error, "a pipeline file cannot be used");
    }
    info!(pipelines = now.definitions.len(), faults = now.faults.len(), "definitions read");
}
