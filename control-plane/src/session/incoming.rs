//! What an agent may say, with its limits checked.

use std::time::Duration;

use hybrid_runner_proto::v1::{self, Outcome, session_request};

use crate::shared::Progress;
use crate::status::Problem;
use crate::store::{TestId, TestStatus, TestStep, Token, UnreadableSecret};
use crate::wire::{self, MAX_DETAIL};

/// Leases in a heartbeat or a `Hello`.
const MAX_LEASES: usize = 64;

/// Names in a list of a `Hello`. The protocol knows nine capabilities.
const MAX_NAMES: usize = 64;

/// Steps in the answer to a connection test.
const MAX_STEPS: usize = 64;

/// References of one definition that cannot be read.
const MAX_SECRETS: usize = 64;

/// A reference to a secret, in bytes, and what is said of it.
const MAX_REFERENCE: usize = 512;
const MAX_SENTENCE: usize = 1024;

/// Lines of one message, each in bytes, and the number of the first one.
const MAX_LINES: usize = 4_096;
const MAX_LINE: usize = 16 * 1024;
const MAX_FIRST_LINE: u64 = 1 << 40;

/// Lines of logs are taken from agents that list it.
pub(super) const LOGS: &str = "logs";

/// A name of a program, capability, source, pipeline or event, in bytes.
const MAX_NAME: usize = 256;

/// A message of an agent.
#[derive(Debug)]
pub(super) enum Incoming {
    Hello(Hello),
    DefinitionStatus(DefinitionStatus),
    /// Free slots.
    LeaseRequest(u32),
    Heartbeat {
        id: u64,
        renewals: Vec<Renewal>,
    },
    Release(Release),
    /// The agent leaves, within this time by its own intent.
    Draining(Duration),
    /// `None` when it came under a token that was never granted.
    RunEvent(Option<RunEvent>),
    TestResult(TestResult),
    /// `None` when they came under a token that was never granted.
    LogLines(Option<LogLines>),
}

#[derive(Debug)]
pub(super) struct Hello {
    pub(super) protocol: (u32, u32),
    pub(super) agent_version: String,
    pub(super) instance_id: [u8; 16],
    pub(super) capabilities: Vec<String>,
    pub(super) sources: Vec<String>,
    /// Whether it listed `test_connection`.
    pub(super) tests_connections: bool,
    /// Whether it listed `logs`.
    pub(super) sends_logs: bool,
    pub(super) held: Vec<Token>,
    /// Whether somebody only looks.
    pub(super) is_diagnostic: bool,
}

#[derive(Debug)]
pub(super) struct DefinitionStatus {
    pub(super) pipeline: String,
    pub(super) version: u64,
    pub(super) accepted: bool,
    pub(super) reason: &'static str,
    pub(super) detail: String,
    pub(super) unreadable: Vec<UnreadableSecret>,
}

#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) token: Token,
    pub(super) progress: Option<Progress>,
}

#[derive(Debug)]
pub(super) struct Release {
    /// As sent, for the answer.
    pub(super) run_id: String,
    pub(super) token: Option<Token>,
    pub(super) outcome: Outcome,
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// The answer to a connection test.
#[derive(Debug)]
pub(super) struct TestResult {
    /// `None`: it cannot be one that was asked for here.
    pub(super) id: Option<TestId>,
    pub(super) steps: Vec<TestStep>,
}

#[derive(Debug)]
pub(super) struct RunEvent {
    pub(super) token: Token,
    pub(super) severity: &'static str,
    pub(super) code: String,
    pub(super) text: String,
}

/// Lines of a run's log.
#[derive(Debug)]
pub(super) struct LogLines {
    pub(super) token: Token,
    /// The number of the first one in the log of this grant.
    pub(super) first: u64,
    pub(super) lines: Vec<String>,
}

impl TryFrom<session_request::Message> for Incoming {
    type Error = Problem;

    fn try_from(message: session_request::Message) -> Result<Self, Problem> {
        use session_request::Message;
        Ok(match message {
            Message::Hello(hello) => Self::Hello(hello.try_into()?),
            Message::DefinitionStatus(status) => Self::DefinitionStatus(status.try_into()?),
            Message::LeaseRequest(request) => Self::LeaseRequest(request.slots),
            Message::Heartbeat(heartbeat) => {
                at_most(heartbeat.renewals.len(), MAX_LEASES, "Heartbeat.renewals")?;
                let renewals = heartbeat.renewals.into_iter().filter_map(|sent| renewal(sent).transpose());
                Self::Heartbeat { id: heartbeat.id, renewals: renewals.collect::<Result<_, _>>()? }
            }
            Message::Release(release) => Self::Release(release.try_into()?),
            Message::RunEvent(event) => Self::RunEvent(run_event(event)?),
            // How long it means to take is for the log; its leases have their own time.
            Message::Draining(draining) => Self::Draining(wire::duration_of(draining.deadline)),
            Message::LogLines(lines) => Self::LogLines(log_lines(lines)?),
            Message::TestConnectionResult(result) => Self::TestResult(result.try_into()?),
        })
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = Problem;

    fn try_from(hello: v1::Hello) -> Result<Self, Problem> {
        let instance_id = wire::exact(&hello.instance_id, "Hello.instance_id")?;
        at_most(hello.capabilities.len(), MAX_NAMES, "Hello.capabilities")?;
        at_most(hello.sources.len(), MAX_NAMES, "Hello.sources")?;
        at_most(hello.held.len(), MAX_LEASES, "Hello.held")?;
        let name = |name: String| wire::text(name, MAX_NAME, "a name in Hello");
        Ok(Self {
            protocol: (hello.protocol_min, hello.protocol_max),
            agent_version: name(hello.agent_version)?,
            instance_id,
            tests_connections: hello.capabilities.iter().any(|name| name == "test_connection"),
            sends_logs: hello.capabilities.iter().any(|name| name == LOGS),
            capabilities: hello.capabilities.into_iter().map(name).collect::<Result<_, _>>()?,
            sources: hello.sources.into_iter().map(name).collect::<Result<_, _>>()?,
            // Who only looks holds nothing.
            held: hello
                .held
                .iter()
                .filter(|_| !hello.diagnostic)
                .filter_map(|held| wire::token(held.token.as_ref()))
                .collect(),
            is_diagnostic: hello.diagnostic,
        })
    }
}

impl TryFrom<v1::DefinitionStatus> for DefinitionStatus {
    type Error = Problem;

    fn try_from(status: v1::DefinitionStatus) -> Result<Self, Problem> {
        at_most(status.unreadable_secrets.len(), MAX_SECRETS, "DefinitionStatus.unreadable_secrets")?;
        Ok(Self {
            reason: wire::reason(status.reason),
            unreadable: status.unreadable_secrets.into_iter().map(unreadable).collect::<Result<_, _>>()?,
            pipeline: wire::text(status.pipeline, MAX_NAME, "DefinitionStatus.pipeline")?,
            version: status.version,
            accepted: status.accepted,
            detail: wire::text(status.detail, MAX_DETAIL, "DefinitionStatus.detail")?,
        })
    }
}

impl TryFrom<v1::Release> for Release {
    type Error = Problem;

    fn try_from(release: v1::Release) -> Result<Self, Problem> {
        let token = wire::token(release.token.as_ref());
        let outcome = release.outcome();
        let run_id = release.token.map(|token| token.run_id).unwrap_or_default();
        Ok(Self {
            token,
            outcome,
            reason: wire::reason(release.reason),
            run_id: wire::text(run_id, MAX_NAME, "Release.token.run_id")?,
            detail: wire::text(release.detail, MAX_DETAIL, "Release.detail")?,
        })
    }
}

impl TryFrom<v1::TestConnectionResult> for TestResult {
    type Error = Problem;

    fn try_from(result: v1::TestConnectionResult) -> Result<Self, Problem> {
        at_most(result.steps.len(), MAX_STEPS, "TestConnectionResult.steps")?;
        let request_id = wire::text(result.request_id, MAX_NAME, "TestConnectionResult.request_id")?;
        Ok(Self {
            id: request_id.parse().ok(),
            steps: result.steps.into_iter().map(test_step).collect::<Result<_, _>>()?,
        })
    }
}

fn test_step(step: v1::TestConnectionStep) -> Result<TestStep, Problem> {
    let status = match (step.passed, step.skipped) {
        (true, _) => TestStatus::Passed,
        (false, true) => TestStatus::Skipped,
        (false, false) => TestStatus::Failed,
    };
    let text = |text: String, what| wire::text(text, MAX_DETAIL, what);
    let remediation = text(step.remediation, "TestConnectionStep.remediation")?;
    Ok(TestStep {
        name: wire::text(step.name, MAX_NAME, "TestConnectionStep.name")?,
        mandatory: step.mandatory,
        passed: step.passed,
        status,
        reason: (status == TestStatus::Failed).then(|| wire::reason(step.reason).to_owned()),
        message: text(step.message, "TestConnectionStep.message")?,
        remediation: (!remediation.is_empty()).then_some(remediation),
    })
}

fn unreadable(secret: v1::UnreadableSecret) -> Result<UnreadableSecret, Problem> {
    Ok(UnreadableSecret {
        field: wire::text(secret.field, MAX_NAME, "UnreadableSecret.field")?,
        reference: wire::text(secret.reference, MAX_REFERENCE, "UnreadableSecret.reference")?,
        reason: wire::reason(secret.reason).to_owned(),
        detail: wire::text(secret.detail, MAX_SENTENCE, "UnreadableSecret.detail")?,
    })
}

/// `None` when it is of a lease that was never granted.
fn renewal(renewal: v1::LeaseRenewal) -> Result<Option<Renewal>, Problem> {
    let progress = renewal.progress.map(wire::progress).transpose()?;
    Ok(wire::token(renewal.token.as_ref()).map(|token| Renewal { token, progress }))
}

fn run_event(event: v1::RunEvent) -> Result<Option<RunEvent>, Problem> {
    let severity = match event.severity() {
        v1::Severity::Unspecified | v1::Severity::Info => "info",
        v1::Severity::Warning => "warning",
        v1::Severity::Error => "error",
    };
    let token = wire::token(event.token.as_ref());
    let code = wire::text(event.code, MAX_NAME, "RunEvent.code")?;
    let text = wire::text(event.text, MAX_DETAIL, "RunEvent.text")?;
    Ok(token.map(|token| RunEvent { token, severity, code, text }))
}

fn log_lines(said: v1::LogLines) -> Result<Option<LogLines>, Problem> {
    at_most(said.lines.len(), MAX_LINES, "LogLines.lines")?;
    let line = |line: String| wire::text(line, MAX_LINE, "a line of LogLines");
    let lines: Vec<String> = said.lines.into_iter().map(line).collect::<Result<_, _>>()?;
    // Above it, numbers could not be stored; nobody counts so far.
    if said.first_line > MAX_FIRST_LINE {
        return Err(Problem::limit(format!("LogLines.first_line is above {MAX_FIRST_LINE}")));
    }
    Ok(wire::token(said.token.as_ref()).map(|token| LogLines { token, first: said.first_line, lines }))
}

fn at_most(found: usize, max: usize, what: &str) -> Result<(), Problem> {
    if found > max {
        return Err(Problem::limit(format!("{what} has {found} entries; accepted: at most {max}")));
    }
    Ok(())
}
