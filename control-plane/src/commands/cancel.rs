//! `control-plane cancel`

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Look, Outcome, existing_store, failed, load, output, refused};
use crate::store::{RunId, RunState};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The run, as `runs` shows it
    run: RunId,
    #[command(flatten)]
    look: Look,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let store = existing_store(&load(&arguments.look.common)?).await?;
    let run_id = arguments.run;
    let before = store.cancel(run_id, Timestamp::now()).await.map_err(failed)?;
    let before = before.ok_or_else(|| {
        refused(anyhow::anyhow!("there is no run {run_id}; `control-plane runs` shows those that there are"))
    })?;
    if before.is_final() {
        return Err(refused(anyhow::anyhow!("run {run_id} is {} already", before.as_str())));
    }
    if arguments.look.json {
        return output::line(&json!([{"run_id": run_id, "state": RunState::Cancelled}]).to_string());
    }
    output::line(match before {
        RunState::Queued => "the run is cancelled; no agent had it",
        _ => "the run is cancelled and commits nothing; its agent is told within a second, or when it connects again",
    })
}
