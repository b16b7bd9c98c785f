//! `control-plane test-connection`: asks the server for a test, waits for the answer and shows it.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::output::{self, cell};
use super::{Failure, Look, Outcome, existing_store, failed, load, refused};
use crate::store::{AskError, ConnectionTest, Store, TestAnswer, TestId, TestStatus, TestStep};

/// How often the store is looked at for the answer.
const POLL: Duration = Duration::from_millis(200);

/// The server acts on a request within a second; after this time nobody serves.
const UNNOTICED: Duration = Duration::from_secs(10);

/// How much longer than the test itself its answer may take to get here.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The pipeline's name
    pipeline: String,
    /// How long the agent may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=600))]
    timeout: u32,
    #[command(flatten)]
    look: Look,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let config = load(&arguments.look.common)?;
    let store = existing_store(&config).await?;
    let now = Timestamp::now();
    let limit = SignedDuration::from_secs(i64::from(arguments.timeout));
    let expires_at = now.checked_add(limit).map_err(failed)?;
    let asked = store.ask_test(&arguments.pipeline, expires_at, now).await;
    let id = asked.map_err(|error| match error {
        AskError::UnknownPipeline { .. } => refused(error),
        AskError::TooMany | AskError::Store(_) => failed(error),
    })?;
    let patience = Duration::from_secs(u64::from(arguments.timeout)) + GRACE;
    let steps = match answer(&*store, id, patience).await? {
        TestAnswer::Steps(steps) => steps,
        TestAnswer::Failed(why) => return Err(failed(anyhow!("{}: {why}", arguments.pipeline))),
    };
    show(&steps, arguments.look.json)?;
    let wrong = |step: &&TestStep| step.mandatory && step.status == TestStatus::Failed;
    let wrong: Vec<&str> = steps.iter().filter(wrong).map(|step| step.name.as_str()).collect();
    if wrong.is_empty() && !steps.is_empty() {
        return Ok(());
    }
    Err(failed(anyhow!("{}: the connection cannot be used; failed: {}", arguments.pipeline, wrong.join(", "))))
}

async fn answer(store: &dyn Store, id: TestId, patience: Duration) -> Result<TestAnswer, Failure> {
    let begun = Instant::now();
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let test = store.test(id).await.map_err(failed)?;
        let Some(ConnectionTest { answer, agent, .. }) = test else {
            return Err(failed(anyhow!("the test is gone from the store; test again")));
        };
        match answer {
            Some(answer) => return Ok(answer),
            None if begun.elapsed() >= patience || (agent.is_none() && begun.elapsed() >= UNNOTICED) => {
                return Err(failed(anyhow!(
                    "the control plane does not act on the test; is `control-plane serve` running with this configuration?"
                )));
            }
            None => {}
        }
    }
}

fn show(steps: &[TestStep], json: bool) -> Outcome {
    let rows: Vec<Value> = steps.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(failed)?;
    if json { output::line(&Value::from(rows).to_string()) } else { output::line(&table(&rows)) }
}

/// A row a step; below a failed one what to do about it. Without a frame: what was found is often longer than a
/// terminal is wide.
fn table(rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for row in rows {
        let optional = if row.get("mandatory") == Some(&Value::Bool(true)) { "" } else { "optional" };
        let mut found = match row.get("reason").and_then(Value::as_str) {
            Some(reason) => format!("{reason}: {}", cell(row, "message")),
            None => cell(row, "message"),
        };
        if let Some(remediation) = row.get("remediation").and_then(Value::as_str) {
            found.push_str(&format!("\n→ {remediation}"));
        }
        table.add_row([cell(row, "name"), cell(row, "status"), optional.to_owned(), found]);
    }
    table.trim_fmt()
}
