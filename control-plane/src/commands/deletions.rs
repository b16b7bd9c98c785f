//! `control-plane deletions`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{self, cell};
use super::{Common, Look, Outcome, existing_store, failed, load, refused};
use crate::store::RunId;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what waits
    List(Look),
    /// Delete what the run found gone
    Confirm(Decision),
    /// Keep it
    Reject(Decision),
}

#[derive(Debug, Args)]
pub(super) struct Decision {
    /// The run, as `deletions list` shows it
    run: RunId,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::List(look) => list(&look).await,
        Command::Confirm(decision) => decide(&decision, true).await,
        Command::Reject(decision) => decide(&decision, false).await,
    }
}

async fn list(look: &Look) -> Outcome {
    let store = existing_store(&load(&look.common)?).await?;
    let pending = store.pending_deletions().await.map_err(failed)?;
    let row = |pending: &crate::store::PendingDeletions| {
        json!({
            "run_id": pending.run_id, "pipeline": pending.pipeline, "count": pending.fqns.len(),
            "fqns": pending.fqns,
        })
    };
    let rows: Vec<Value> = pending.iter().map(row).collect();
    output::rows(look.json, &["RUN", "PIPELINE", "COUNT", "GONE"], &rows, |row| {
        let gone = row.get("fqns").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let gone: Vec<&str> = gone.iter().filter_map(Value::as_str).collect();
        vec![cell(row, "run_id"), cell(row, "pipeline"), cell(row, "count"), gone.join("\n")]
    })
}

async fn decide(decision: &Decision, apply: bool) -> Outcome {
    let store = existing_store(&load(&decision.common)?).await?;
    match store.decide_deletions(decision.run, apply).await.map_err(failed)? {
        Some(deleted) if apply => output::line(&format!("deleted {deleted} entities")),
        Some(_) => output::line("nothing was deleted"),
        None => Err(refused(anyhow::anyhow!(
            "no deletions of run {} wait: they were decided, or a newer run committed; `control-plane deletions list`",
            decision.run
        ))),
    }
}
