//! Connection tests for the control plane, beside the runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::DefinitionError;
use hybrid_runner_secrets::{Policy, Resolver, Stores};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tracing::{error, info};

use crate::plan::Connectors;
use crate::session::{Command, Reason, TestOutcome, TestRequest, TestStep};

/// Tests at once. Each logs in once and sends a handful of requests; more than two at a time is nobody at a form.
const MAX_TESTS: usize = 2;

/// No test takes longer, whatever is asked for: sources end theirs before.
const LONGEST: Duration = Duration::from_secs(3 * 60);

/// A test's task that ended.
pub(super) type TestJoined = Result<(Id, Vec<TestStep>), JoinError>;

/// The tests under way.
pub(super) struct ConnectionTests {
    connectors: Connectors,
    secrets: Arc<Stores>,
    policy: Arc<Policy>,
    pub(super) running: JoinSet<Vec<TestStep>>,
    asked: BTreeMap<Id, String>,
}

impl ConnectionTests {
    pub(super) fn new(connectors: Connectors, secrets: Arc<Stores>, policy: Arc<Policy>) -> Self {
        Self { connectors, secrets, policy, running: JoinSet::new(), asked: BTreeMap::new() }
    }

    /// Begins a test, or answers why not.
    pub(super) fn ask(&mut self, request: TestRequest, is_stopping: bool) -> Option<Command> {
        let TestRequest { request_id, workflow_json, timeout: limit } = request;
        let refusal = if is_stopping {
            Some(unable(Reason::DRAINING, "the agent is stopping", "Test again: another agent, or this one, answers."))
        } else if self.asked.len() >= MAX_TESTS {
            let remediation = "Test again in a minute.";
            Some(unable(Reason::BUSY, "the agent tests as many connections as it can at once", remediation))
        } else {
            None
        };
        if let Some(step) = refusal {
            return Some(Command::Tested { request_id, steps: vec![step] });
        }
        let plan = match self.connectors.plan_json(&workflow_json) {
            Ok(plan) => plan,
            Err(refused) => return Some(Command::Tested { request_id, steps: vec![definition(&refused)] }),
        };
        info!(request_id, "connection test begins");
        let (stores, policy) = (Arc::clone(&self.secrets), Arc::clone(&self.policy));
        let secrets = Arc::new(Resolver::new(stores, policy, plan.pipeline));
        let test = async move {
            match timeout(limit.min(LONGEST), plan.source.test_connection(secrets)).await {
                Ok(steps) => steps.into_iter().map(TestStep::from).collect(),
                Err(_elapsed) => vec![late()],
            }
        };
        let task = self.running.spawn(test).id();
        self.asked.insert(task, request_id);
        None
    }

    /// The answer of a test that ended; `None` when nobody waits for it.
    pub(super) fn ended(&mut self, joined: TestJoined) -> Option<Command> {
        let (task, steps) = match joined {
            Ok((task, steps)) => (task, steps),
            Err(failed) if failed.is_cancelled() => {
                self.asked.remove(&failed.id());
                return None;
            }
            Err(failed) => {
                error!(error = %failed, "a connection test's task failed");
                let remediation = "Report it with the agent's log.";
                (failed.id(), vec![unable(Reason::INTERNAL, "a fault of the agent ended the test", remediation)])
            }
        };
        let request_id = self.asked.remove(&task)?;
        let failed = steps.iter().filter(|step| matches!(step.outcome, TestOutcome::Failed(_))).count();
        info!(request_id, steps = steps.len(), failed, "connection test ended");
        Some(Command::Tested { request_id, steps })
    }

    /// The session that asked is over.
    pub(super) fn abandon(&mut self) {
        self.running.abort_all();
    }
}

/// The one step of a test that this agent does not take.
fn unable(reason: Reason, message: &str, remediation: &str) -> TestStep {
    TestStep {
        name: "Agent",
        mandatory: true,
        outcome: TestOutcome::Failed(reason),
        message: message.to_owned(),
        remediation: remediation.to_owned(),
    }
}

fn late() -> TestStep {
    let reason = hybrid_runner_connector::Reason::SourceUnreachable.into();
    unable(reason, "the test took longer than was asked for", "Test again with more time.")
}

/// The one step of a definition that is refused.
fn definition(refused: &DefinitionError) -> TestStep {
    TestStep {
        name: "Definition",
        mandatory: true,
        outcome: TestOutcome::Failed(refused.reason.into()),
        message: refused.to_string(),
        remediation: "Correct the field in the pipeline's definition and test again.".to_owned(),
    }
}
