//! One login a pipeline, and what it may do.

use std::sync::Arc;

use hybrid_runner_connector::{Step, StepOutcome};
use tokio::time::{Instant, timeout_at};

use super::secrets::Pipeline;
use super::{Check, Finding};

/// The sum of other steps: a fault would fail it and the step that found it.
const SUM: &str = "CheckAccess";

/// Takes the steps of a connection test, one pipeline after the other: a user may be theirs together.
pub(super) async fn log_in(pipelines: Vec<Pipeline>, ends: Instant) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Pipeline { name, source, secrets } in pipelines {
        match timeout_at(ends, source.test_connection(Arc::clone(&secrets))).await {
            Ok(steps) => findings.extend(steps.iter().filter(|step| step.name != SUM).map(|step| of_step(&name, step))),
            Err(_elapsed) => {
                let advice = "`control-plane test-connection PIPELINE` takes the time it needs";
                findings.push(Finding::warn(Check::Salesforce, "not asked: the time is over", advice).of(&name));
            }
        }
    }
    findings
}

fn of_step(pipeline: &str, step: &Step) -> Finding {
    let advice = step.remediation.as_deref().unwrap_or("see the step in docs/operations.md");
    let found = match step.outcome {
        StepOutcome::Passed => Finding::ok(Check::Salesforce, &step.message),
        StepOutcome::Skipped => Finding::skipped(Check::Salesforce, &step.message),
        StepOutcome::Failed(reason) => {
            let seen = format!("{reason}: {}", step.message);
            let finding = if step.mandatory { Finding::fail } else { Finding::warn };
            finding(Check::Salesforce, &seen, advice)
        }
    };
    found.of(&format!("{pipeline}: {}", step.name))
}
