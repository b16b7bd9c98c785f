//! Deletes what runs staged and dropped, a step at a time, between what others write.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::debug;

use super::ServeError;
use crate::shared::Shared;

/// How often it looks for work. What is dropped is out of sight at once: only the disk waits for this.
const POLL: Duration = Duration::from_secs(1);

/// Runs until the control plane stops. A step that was begun is ended: it is short.
pub(super) async fn run(shared: Arc<Shared>) -> Result<&'static str, ServeError> {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.drain.cancelled() => return Ok("sweep"),
            _ = ticks.tick() => {}
        }
        while !shared.drain.is_cancelled() {
            match shared.store.sweep().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // The dispatch meets the same store twice a second, and says what is wrong with it.
                    debug!(%error, "a step of the sweep failed");
                    break;
                }
            }
        }
    }
}
