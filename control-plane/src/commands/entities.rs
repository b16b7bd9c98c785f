//! `control-plane entities`

use clap::Args;
use hybrid_runner_openmetadata::entity::Kind;
use serde_json::{Value, json};

use super::output::{self, cell};
use super::{Look, Outcome, existing_store, failed, load};
use crate::store::EntityRow;

/// Entities read at once.
const PAGE: u32 = 1_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    look: Look,
    /// Only those of this pipeline
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let config = load(&arguments.look.common)?;
    let store = existing_store(&config).await?;
    let mut rows: Vec<Value> = Vec::new();
    let mut after: Option<(String, String)> = None;
    loop {
        let from = after.as_ref().map(|(fqn, pipeline)| (fqn.as_str(), pipeline.as_str()));
        let page = store.entities(arguments.pipeline.as_deref(), from, PAGE).await.map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = Some((last.fqn.clone(), last.pipeline.clone()));
        rows.extend(page.iter().map(row));
    }
    output::rows(arguments.look.json, &["KIND", "FQN", "COLUMNS", "PIPELINE", "RUN"], &rows, |row| {
        // Nothing else has columns.
        let columns = if cell(row, "kind") == Kind::Table.as_str() { "columns" } else { "" };
        ["kind", "fqn", columns, "pipeline", "run_id"].iter().map(|field| cell(row, field)).collect()
    })
}

fn row(entity: &EntityRow) -> Value {
    json!({
        "kind": entity.kind, "fqn": entity.fqn, "columns": entity.columns, "pipeline": entity.pipeline,
        "run_id": entity.run_id,
    })
}
