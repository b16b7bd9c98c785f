//! `hybrid-runner test-connection`: whether an extraction would work, and what to change when not.

use std::process::ExitCode;

use comfy_table::Table;
use hybrid_runner_connector::{Step, StepOutcome};
use serde::Serialize;
use tracing::{Instrument as _, Span};

use super::extract::local::{Local, WorkflowArguments};
use super::terminal::Terminal;
use super::{CommandError, interruptible, runtime};
use crate::config::Environment;
use crate::telemetry;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    local: WorkflowArguments,
    /// Print the steps as one JSON array, the last line of stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<ExitCode, CommandError> {
    let settings = arguments.local.settings(environment, terminal)?;
    let local = arguments.local.load(settings, environment)?;
    if let Some(warning) = local.warning() {
        terminal.tell(&format!("warning: {warning}"));
    }
    let steps = runtime()?.block_on(test(local))?;
    terminal.tell(&table(&steps));
    if arguments.json {
        let shown: Vec<_> = steps.iter().map(Shown::from).collect();
        let line = serde_json::to_string(&shown).map_err(|error| CommandError::failed_by(&error))?;
        terminal.print(&line)?;
    }
    let failed = steps.iter().any(|step| step.mandatory && matches!(step.outcome, StepOutcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn test(local: Local) -> Result<Vec<Step>, CommandError> {
    let span = if local.plan.is_verbose { telemetry::run_span(true, "local", &local.name) } else { Span::none() };
    interruptible(async { Ok(local.plan.source.test_connection(local.secrets).instrument(span).await) }).await
}

/// A step as it is printed; `control-plane test-connection` prints the same keys.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'a str,
    mandatory: bool,
    passed: bool,
    status: &'static str,
    reason: Option<&'static str>,
    message: &'a str,
    remediation: Option<&'a str>,
}

impl<'a> From<&'a Step> for Shown<'a> {
    fn from(step: &'a Step) -> Self {
        let (status, reason) = match step.outcome {
            StepOutcome::Passed => ("Passed", None),
            StepOutcome::Failed(reason) => ("Failed", Some(reason.as_str())),
            StepOutcome::Skipped => ("Skipped", None),
        };
        Self {
            name: step.name,
            mandatory: step.mandatory,
            passed: step.outcome == StepOutcome::Passed,
            status,
            reason,
            message: &step.message,
            remediation: step.remediation.as_deref(),
        }
    }
}

/// A row a step; below a failed one what to do about it.
fn table(steps: &[Step]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    for step in steps {
        let shown = Shown::from(step);
        let mut found = match shown.reason {
            Some(reason) => format!("{reason}: {}", shown.message),
            None => shown.message.to_owned(),
        };
        if let Some(remediation) = shown.remediation {
            found.push_str(&format!("\n→ {remediation}"));
        }
        let optional = if step.mandatory { "" } else { "optional" };
        table.add_row([shown.name, shown.status, optional, &found]);
    }
    // Not padded: a long row would have every other one wrap into empty lines.
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use hybrid_runner_connector::Reason;

    use super::*;

    fn step(outcome: StepOutcome, remediation: Option<&str>) -> Step {
        let message = "m".to_owned();
        Step { name: "Login", mandatory: true, outcome, message, remediation: remediation.map(str::to_owned) }
    }

    #[test]
    fn a_step_is_printed_with_openmetadatas_status_and_its_keys_in_order() {
        let failed = step(StepOutcome::Failed(Reason::AuthFailed), Some("change it"));
        assert_eq!(
            serde_json::to_string(&Shown::from(&failed)).unwrap(),
            r#"{"name":"Login","mandatory":true,"passed":false,"status":"Failed","reason":"AUTH_FAILED","message":"m","remediation":"change it"}"#
        );
        let skipped = serde_json::to_value(Shown::from(&step(StepOutcome::Skipped, None))).unwrap();
        assert_eq!((&skipped["status"], &skipped["passed"]), (&"Skipped".into(), &false.into()));
    }

    #[test]
    fn a_failed_step_has_what_to_do_below_it() {
        let text =
            table(&[step(StepOutcome::Failed(Reason::AuthFailed), Some("change it")), step(StepOutcome::Passed, None)]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("Failed") && lines[0].contains("AUTH_FAILED: m"), "{text}");
        assert!(lines[1].contains("→ change it"), "{text}");
        assert!(lines[2].contains("Passed"), "{text}");
    }
}
