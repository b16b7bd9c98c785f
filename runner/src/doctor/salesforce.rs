//! How the last run of each pipeline ended; when somebody says so, one login a pipeline, and what it may do.

use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::{Step, StepOutcome};
use tokio::time::{Instant, timeout_at};

use super::secrets::Pipeline;
use super::{Check, Finding};
use crate::session::{LastRun, Reason};

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

/// What the control plane says of the last run that is over; no login is spent on it.
pub(super) fn last_run(pipeline: &str, last_run: LastRun) -> Finding {
    let found = match last_run {
        LastRun::NotKnown => Finding::skipped(
            Check::Salesforce,
            &format!("how the last run ended is not known: the control plane {OLD}"),
        ),
        LastRun::None => Finding::skipped(Check::Salesforce, &format!("no run has ended yet; {LOGS_IN}")),
        LastRun::Committed(ago) => {
            Finding::ok(Check::Salesforce, &format!("the last run was committed {}", since(ago)))
        }
        LastRun::Cancelled(ago) => {
            Finding::ok(Check::Salesforce, &format!("the last run was cancelled {}", since(ago)))
        }
        LastRun::Failed(reason, ago) => {
            let seen = format!("the last run failed {}: {reason}", since(ago));
            Finding::warn(Check::Salesforce, &seen, &advice(reason))
        }
    };
    found.of(pipeline)
}

const LOGS_IN: &str = "`--only salesforce` logs in";
const OLD: &str = "does not say it; `--only salesforce` logs in";

fn advice(reason: Reason) -> String {
    let first = match reason.as_str() {
        "AUTH_FAILED" => {
            "correct the user name, password or token in the secret store, or the user in Salesforce; scheduled runs wait until then"
        }
        "SECRET_UNAVAILABLE" | "SECRET_MALFORMED" | "POLICY_DENIED" => "see `references` and `stores` above",
        "BAD_DEFINITION" | "LITERAL_SECRET" => "see `definitions` above",
        "SOURCE_DENIED" => "give the user the permission that the run's detail names",
        _ => "it may have passed; docs/operations.md explains the reason",
    };
    format!("{first}; `control-plane runs` has the detail, {LOGS_IN}")
}

/// How long ago, for people.
fn since(ago: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match ago.as_secs() {
        seconds @ 0..MINUTE => format!("{seconds} s ago"),
        seconds @ MINUTE..HOUR => format!("{} min ago", seconds / MINUTE),
        seconds @ HOUR..DAY => format!("{} h ago", seconds / HOUR),
        seconds => format!("{} days ago", seconds / DAY),
    }
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

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn how_the_last_run_ended_is_shown_and_a_failure_warns_with_what_to_do() {
        let shown = |run: LastRun| {
            let Finding { subject, status, seen, advice, .. } = last_run("crm", run);
            assert_eq!(subject.as_deref(), Some("crm"));
            (status, seen, advice)
        };
        let ago = Duration::from_secs;
        for (run, words) in [
            (LastRun::Committed(ago(59)), "the last run was committed 59 s ago"),
            (LastRun::Committed(ago(3_599)), "the last run was committed 59 min ago"),
            (LastRun::Cancelled(ago(86_399)), "the last run was cancelled 23 h ago"),
            (LastRun::Committed(ago(2 * 86_400)), "the last run was committed 2 days ago"),
        ] {
            assert_eq!(shown(run), (Status::Ok, words.to_owned(), None));
        }
        let (status, seen, advice) =
            shown(LastRun::Failed(hybrid_runner_connector::Reason::AuthFailed.into(), ago(120)));
        assert_eq!((status, seen.as_str()), (Status::Warn, "the last run failed 2 min ago: AUTH_FAILED"));
        assert!(advice.unwrap().starts_with("correct the user name, password or token in the secret store"));
        let (status, _, advice) = shown(LastRun::Failed(Reason::RUN_DEADLINE, ago(1)));
        assert!(status == Status::Warn && advice.unwrap().contains("docs/operations.md explains"));
        for (run, words) in [(LastRun::NotKnown, "not known"), (LastRun::None, "no run has ended yet")] {
            let (status, seen, _) = shown(run);
            assert!(status == Status::Skipped && seen.contains(words), "{seen}");
        }
    }
}
