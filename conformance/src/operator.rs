//! Who queues and cancels runs: no part of the wire, and different at each control plane.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

/// A command that asks a control plane for something is not done in this time: it hangs.
const COMMAND: Duration = Duration::from_secs(30);

/// Nobody can do this here. The text says how to make it possible.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotAct(pub String);

/// Queues and cancels runs.
#[async_trait]
pub trait Operator: Send + Sync {
    /// Queues a run of a pipeline.
    ///
    /// # Errors
    /// [`CannotAct`]
    async fn trigger(&self, pipeline: &str) -> Result<(), CannotAct>;

    /// Cancels a run.
    ///
    /// # Errors
    /// [`CannotAct`]
    async fn cancel(&self, run_id: &str) -> Result<(), CannotAct>;
}

/// An operator who runs the shell commands that a person gave.
#[derive(Debug, Clone, Default)]
pub struct Commands {
    /// Queues a run of the pipeline `$PIPELINE`.
    pub trigger: Option<String>,
    /// Cancels the run `$RUN_ID`.
    pub cancel: Option<String>,
}

#[async_trait]
impl Operator for Commands {
    async fn trigger(&self, pipeline: &str) -> Result<(), CannotAct> {
        let absent = "no run of the pipeline is queued; queue some, or give --trigger COMMAND";
        let command = self.trigger.as_deref().ok_or_else(|| CannotAct(absent.to_owned()))?;
        perform("--trigger", command, "PIPELINE", pipeline).await
    }

    async fn cancel(&self, run_id: &str) -> Result<(), CannotAct> {
        let absent = "nobody cancels runs; give --cancel COMMAND";
        let command = self.cancel.as_deref().ok_or_else(|| CannotAct(absent.to_owned()))?;
        perform("--cancel", command, "RUN_ID", run_id).await
    }
}

async fn perform(option: &str, command: &str, variable: &str, value: &str) -> Result<(), CannotAct> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env(variable, value).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(COMMAND, shell.output()).await {
        Err(_elapsed) => return Err(CannotAct(format!("{option} takes longer than {} s", COMMAND.as_secs()))),
        Ok(Err(error)) => return Err(CannotAct(format!("{option}: {error}"))),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(CannotAct(format!("{option} ended with {}: {}", output.status, said.trim())))
}
