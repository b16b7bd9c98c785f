//! `control-plane run`

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Look, Outcome, existing_store, failed, load, output, refused};
use crate::store::EnqueueError;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The pipeline's name
    pipeline: String,
    /// Read everything, skip nothing because it looks unchanged
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    look: Look,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let config = load(&arguments.look.common)?;
    let store = existing_store(&config).await?;
    let queued = store.enqueue(&arguments.pipeline, arguments.full, Timestamp::now()).await;
    let run_id = queued.map_err(|error| match error {
        EnqueueError::UnknownPipeline { .. } | EnqueueError::Disabled { .. } => refused(error),
        EnqueueError::Store(error) => failed(error),
    })?;
    if arguments.look.json {
        let pipeline = &arguments.pipeline;
        return output::line(&json!([{"run_id": run_id, "pipeline": pipeline, "state": "queued"}]).to_string());
    }
    output::line(&format!("queued run {run_id}; `control-plane runs` shows it"))
}
