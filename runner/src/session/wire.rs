//! Between the generated types of the wire and ours.

use std::time::Duration;

use hybrid_runner_connector::{KindProgress, Severity, Stage};
use hybrid_runner_proto::{reason_name, reason_of_name, v1};
use hybrid_runner_secrets::Redactor;
use v1::session_request::Message as Request;
use v1::session_response::Message as Response;

use super::limits;
use super::logs::Chunk;
use super::machine::{PROTOCOL, Received, Say};
use super::{
    Definition, Grant, Held, LeaseId, Outcome, Reason, Release, Report, RunId, Terms, TestOutcome, TestRequest,
    TestStep, UnreadableSecret, Verdict, WriteToken,
};
use crate::event::RunProgress;

/// What this agent can do beyond the base. Every other capability of the contract comes with its own change.
const CAPABILITIES: [&str; 8] =
    [ZSTD, MEMOS, "test_connection", SECRET_PREFLIGHT, "resume", DRAIN, LOGS, "traceparent"];
/// Push is compressed when both sides list it.
pub(super) const ZSTD: &str = "zstd";
/// Records and the baseline carry memos when both sides list it.
pub(super) const MEMOS: &str = "memos";
/// The answer to a definition says which references cannot be read, when both sides list it.
pub(super) const SECRET_PREFLIGHT: &str = "secret_preflight";
/// An agent that leaves says so when the other side lists it.
pub(super) const DRAIN: &str = "drain";
/// The lines of runs' logs are sent, when both sides list it.
pub(super) const LOGS: &str = "logs";
/// A session that only looks. The agent lists it for such a session only.
pub(super) const DIAGNOSTIC: &str = "diagnostic";

/// The contract's limit for sentences, in bytes, and for the one about a reference.
const MAX_DETAIL: usize = 4 * 1024;
const MAX_SENTENCE: usize = 1024;

/// Kinds in the progress of a run; a source of this product has six.
const MAX_KINDS: usize = 16;

/// References that cannot be read, in the answer to a definition; more are left out.
const MAX_SECRETS: usize = 64;

/// Steps of a connection test that are answered; more are left out. With two sentences each the answer stays below the
/// 256 KiB of a message.
const MAX_STEPS: usize = 24;

pub(super) fn received(response: v1::SessionResponse) -> Received {
    let unasked = |message, capability| Received::Unasked { message, capability };
    let parsed = match response.message {
        None => Err("a message with no content".to_owned()),
        Some(Response::Welcome(welcome)) => welcomed(welcome),
        Some(Response::Definition(v1::Definition { pipeline, version, workflow_json, .. })) => {
            named(pipeline, "Definition.pipeline")
                .map(|pipeline| Received::Definition(Definition { pipeline, version, workflow_json }))
        }
        Some(Response::DefinitionRemoved(removed)) => named(removed.pipeline, "DefinitionRemoved.pipeline")
            .map(|pipeline| Received::DefinitionRemoved { pipeline }),
        Some(Response::Grant(grant)) => granted(grant),
        Some(Response::HeartbeatAck(ack)) => runs(&ack.renewed_run_ids, "HeartbeatAck.renewed_run_ids")
            .map(|renewed| Received::HeartbeatAck { id: ack.id, renewed }),
        Some(Response::Released(released)) => run(&released.run_id, "Released.run_id").map(Received::Released),
        Some(Response::Revoke(revoke)) => run(&revoke.run_id, "Revoke.run_id")
            .map(|run_id| Received::Revoke { run_id, reason: reason(revoke.reason) }),
        Some(Response::Pushback(pushback)) => {
            duration(pushback.retry_after, "Pushback.retry_after").map(Received::Pushback)
        }
        Some(Response::TestConnection(test)) => test_asked(test),
        Some(Response::DefinitionsSent(_)) => Ok(unasked("DefinitionsSent", DIAGNOSTIC)),
    };
    parsed.unwrap_or_else(Received::Malformed)
}

/// Whether the control plane listed a capability in its `Welcome`.
pub(super) fn lists(response: &v1::SessionResponse, capability: &str) -> bool {
    matches!(&response.message, Some(Response::Welcome(welcome)) if welcome.capabilities.iter().any(|c| c == capability))
}

/// What an agent lists and the `Welcome` does not.
pub(super) fn not_listed(response: &v1::SessionResponse) -> Vec<&'static str> {
    CAPABILITIES.into_iter().filter(|capability| !lists(response, capability)).collect()
}

/// A foreign name as it may be kept.
pub(super) fn name(text: String) -> String {
    cut(text, limits::NAME)
}

fn welcomed(welcome: v1::Welcome) -> Result<Received, String> {
    Ok(Received::Welcome {
        protocol: welcome.protocol,
        terms: Terms {
            heartbeat_interval: duration(welcome.heartbeat_interval, "Welcome.heartbeat_interval")?,
            lease_ttl: duration(welcome.lease_ttl, "Welcome.lease_ttl")?,
        },
        resumed: runs(&welcome.resumed_run_ids, "Welcome.resumed_run_ids")?,
        control_plane: cut(welcome.control_plane_version, limits::NAME),
    })
}

fn granted(grant: v1::Grant) -> Result<Received, String> {
    let token = grant.token.ok_or("Grant.token is missing")?;
    let lease_id = token.lease_id.as_ref().try_into().map_err(|_length| "Grant.token.lease_id has not 16 bytes")?;
    let run_id = run(&token.run_id, "Grant.token.run_id")?;
    // What the run goes on from comes with `Opened`, as of then.
    Ok(Received::Grant(Grant {
        token: WriteToken { run_id, fence: token.fence, lease_id: LeaseId(lease_id) },
        pipeline: named(grant.pipeline, "Grant.pipeline")?,
        definition_version: grant.definition_version,
        attempt: grant.attempt,
        start_timeout: duration(grant.start_timeout, "Grant.start_timeout")?,
        run_timeout: duration(grant.run_timeout, "Grant.run_timeout")?,
        full: grant.full,
        // One that is none is as good as none: so the standard has it.
        traceparent: grant.traceparent.parse().ok(),
    }))
}

fn test_asked(test: v1::TestConnection) -> Result<Received, String> {
    Ok(Received::TestConnection(TestRequest {
        request_id: named(test.request_id, "TestConnection.request_id")?,
        workflow_json: test.workflow_json,
        timeout: duration(test.timeout, "TestConnection.timeout")?,
    }))
}

/// A name or id that is there and not too long.
fn named(name: String, field: &str) -> Result<String, String> {
    let bytes = name.len();
    let accepted = limits::NAME;
    if (1..=accepted).contains(&bytes) {
        Ok(name)
    } else {
        Err(format!("{field} has {bytes} bytes; accepted: 1 to {accepted}"))
    }
}

fn run(id: &str, field: &str) -> Result<RunId, String> {
    named(id.to_owned(), field).map(|id| RunId::new(&id))
}

fn runs(ids: &[String], field: &str) -> Result<Vec<RunId>, String> {
    if ids.len() > limits::LEASES {
        return Err(format!("{field} has {} runs; accepted: at most {}", ids.len(), limits::LEASES));
    }
    ids.iter().map(|id| run(id, field)).collect()
}

fn duration(duration: Option<prost_types::Duration>, field: &str) -> Result<Duration, String> {
    duration
        .ok_or_else(|| format!("{field} is missing"))
        .and_then(|duration| Duration::try_from(duration).map_err(|_negative| format!("{field} is negative")))
}

pub(super) fn reason(number: i32) -> Reason {
    // A number from a later version is treated as unspecified: the contract says so.
    Reason(reason_name(v1::Reason::try_from(number).unwrap_or_default()))
}

fn reason_number(reason: Reason) -> i32 {
    reason_of_name(reason.as_str()).unwrap_or_default().into()
}

pub(super) fn hello(instance_id: [u8; 16], sources: &[String], held: Vec<Held>) -> v1::SessionRequest {
    request(Request::Hello(v1::Hello {
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
        agent_version: concat!("hybrid-runner/", env!("CARGO_PKG_VERSION")).to_owned(),
        instance_id: instance_id.to_vec().into(),
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        sources: sources.to_vec(),
        held: held
            .into_iter()
            .map(|held| v1::HeldLease { token: Some(held.token.into()), pipeline: held.pipeline })
            .collect(),
        diagnostic: false,
    }))
}

/// The `Hello` of a session that only looks.
pub(super) fn hello_to_look(instance_id: [u8; 16], sources: &[String]) -> v1::SessionRequest {
    let mut request = hello(instance_id, sources, Vec::new());
    if let Some(Request::Hello(hello)) = &mut request.message {
        hello.diagnostic = true;
        hello.capabilities = vec![DIAGNOSTIC.to_owned()];
    }
    request
}

/// A message of an open session. Every sentence in it goes through [`sentence`]; the rest are ids that the control plane
/// gave, numbers and names of our own.
pub(super) fn said(say: Say, redactor: &Redactor) -> Option<v1::SessionRequest> {
    let message = match say {
        // Needs what only the driver has: see [`hello`].
        Say::Hello { .. } => return None,
        Say::Answer { pipeline, version, verdict } => {
            Request::DefinitionStatus(status(pipeline, version, verdict, redactor))
        }
        Say::LeaseRequest { slots } => Request::LeaseRequest(v1::LeaseRequest { slots }),
        Say::Heartbeat { id, renewals } => Request::Heartbeat(v1::Heartbeat {
            id,
            renewals: renewals
                .into_iter()
                .map(|held| v1::LeaseRenewal {
                    token: Some(held.token.into()),
                    progress: Some(progress(&held.progress)),
                })
                .collect(),
        }),
        Say::Release(Release { token, outcome, reason, detail }) => Request::Release(v1::Release {
            token: Some(token.into()),
            outcome: match outcome {
                Outcome::Failed => v1::Outcome::Failed,
                Outcome::HandedBack => v1::Outcome::HandedBack,
            }
            .into(),
            reason: reason_number(reason),
            detail: sentence(detail, redactor),
        }),
        Say::Report(Report { token, severity, code, text }) => Request::RunEvent(v1::RunEvent {
            token: Some(token.into()),
            severity: match severity {
                Severity::Info => v1::Severity::Info,
                Severity::Warning => v1::Severity::Warning,
            }
            .into(),
            code: code.to_owned(),
            text: sentence(text, redactor),
        }),
        Say::Draining { within } => Request::Draining(v1::Draining { deadline: within.try_into().ok() }),
        Say::Tested { request_id, steps } => Request::TestConnectionResult(v1::TestConnectionResult {
            request_id,
            steps: steps.into_iter().take(MAX_STEPS).map(|step| test_step(step, redactor)).collect(),
        }),
    };
    Some(request(message))
}

/// Lines of a run's log. They went through the redactor when they were made.
pub(super) fn log_lines(chunk: Chunk) -> v1::SessionRequest {
    let Chunk { token, first_line, lines } = chunk;
    request(Request::LogLines(v1::LogLines { token: Some(token.into()), first_line, lines }))
}

/// The heartbeat that this answers.
pub(super) fn answered(response: &v1::SessionResponse) -> Option<u64> {
    match &response.message {
        Some(Response::HeartbeatAck(ack)) => Some(ack.id),
        _ => None,
    }
}

fn status(pipeline: String, version: u64, verdict: Verdict, redactor: &Redactor) -> v1::DefinitionStatus {
    let status = v1::DefinitionStatus { pipeline, version, ..v1::DefinitionStatus::default() };
    match verdict {
        Verdict::Accepted { unreadable } => v1::DefinitionStatus {
            accepted: true,
            unreadable_secrets: unreadable
                .into_iter()
                .take(MAX_SECRETS)
                .map(|secret| unreadable_secret(secret, redactor))
                .collect(),
            ..status
        },
        Verdict::Refused(reason, detail) => {
            v1::DefinitionStatus { reason: reason_number(reason), detail: sentence(detail, redactor), ..status }
        }
    }
}

fn unreadable_secret(secret: UnreadableSecret, redactor: &Redactor) -> v1::UnreadableSecret {
    v1::UnreadableSecret {
        field: secret.field,
        reference: secret.reference,
        reason: reason_number(secret.reason),
        detail: cut(redactor.replace_text(secret.detail), MAX_SENTENCE),
    }
}

fn test_step(step: TestStep, redactor: &Redactor) -> v1::TestConnectionStep {
    let reason = match step.outcome {
        TestOutcome::Failed(reason) => reason_number(reason),
        TestOutcome::Passed | TestOutcome::Skipped => 0,
    };
    v1::TestConnectionStep {
        name: step.name.to_owned(),
        mandatory: step.mandatory,
        passed: step.outcome == TestOutcome::Passed,
        message: sentence(step.message, redactor),
        reason,
        remediation: sentence(step.remediation, redactor),
        skipped: step.outcome == TestOutcome::Skipped,
    }
}

fn request(message: Request) -> v1::SessionRequest {
    v1::SessionRequest { message: Some(message) }
}

fn progress(progress: &RunProgress) -> v1::Progress {
    let seen = progress.snapshot();
    v1::Progress {
        stage: match seen.source.stage {
            Stage::Waiting => v1::Stage::Unspecified,
            Stage::Login => v1::Stage::Login,
            Stage::List => v1::Stage::List,
            Stage::Extract => v1::Stage::Extract,
            Stage::Flush => v1::Stage::Flush,
        }
        .into(),
        objects_total: seen.source.objects_total,
        objects_done: seen.source.objects_done,
        objects_failed: seen.source.objects_failed,
        source_requests: seen.source.requests,
        source_bytes: seen.source.bytes_received,
        records_acked: seen.records_acked,
        kinds: progress.kinds().into_iter().take(MAX_KINDS).map(of_kind).collect(),
    }
}

fn of_kind(progress: KindProgress) -> v1::KindProgress {
    let KindProgress { kind, done, expected } = progress;
    v1::KindProgress { kind: kind.to_owned(), records_acked: done, records_expected: expected }
}

/// What a person reads, without the values of secrets. Before it is cut: a piece of a value is not recognised.
fn sentence(text: String, redactor: &Redactor) -> String {
    cut(redactor.replace_text(text), MAX_DETAIL)
}

/// The longest beginning of a sentence that the contract lets through.
fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}

impl From<WriteToken> for v1::WriteToken {
    fn from(token: WriteToken) -> Self {
        Self {
            run_id: token.run_id.as_str().to_owned(),
            fence: token.fence,
            lease_id: token.lease_id.0.to_vec().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_agent_is_in_the_catalogue() {
        for reason in [
            Reason::PROTOCOL_VIOLATION,
            Reason::IDENTITY_UNKNOWN,
            Reason::IDENTITY_DENIED,
            Reason::FENCED,
            Reason::LEASE_EXPIRED,
            Reason::LEASE_REVOKED,
            Reason::CANCELLED,
            Reason::DRAINING,
            Reason::RUN_DEADLINE,
            Reason::BUSY,
            Reason::INTERNAL,
            hybrid_runner_connector::Reason::SinkClosed.into(),
            hybrid_runner_connector::Reason::AuthFailed.into(),
        ] {
            assert_ne!(reason_number(reason), 0, "{reason}");
        }
    }

    #[test]
    fn a_message_of_an_unlisted_capability_is_named() {
        let sent = v1::SessionResponse { message: Some(Response::DefinitionsSent(v1::DefinitionsSent {})) };
        assert_eq!(received(sent), Received::Unasked { message: "DefinitionsSent", capability: "diagnostic" });
    }

    #[test]
    fn a_grant_names_the_trace_of_its_run_and_one_that_names_none_is_as_good() {
        const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (text, expected) in [(TRACE, Some(TRACE)), ("", None), ("00-1-2-00", None)] {
            let token = v1::WriteToken { run_id: "run".to_owned(), fence: 1, lease_id: vec![7; 16].into() };
            let grant = v1::Grant {
                token: Some(token),
                pipeline: "crm".to_owned(),
                start_timeout: Some(prost_types::Duration::default()),
                run_timeout: Some(prost_types::Duration::default()),
                traceparent: text.to_owned(),
                ..v1::Grant::default()
            };
            let grant = v1::SessionResponse { message: Some(Response::Grant(grant)) };
            let Received::Grant(grant) = received(grant) else { panic!("{text} is refused") };
            assert_eq!(grant.traceparent.map(|context| context.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn what_is_missing_in_a_message_is_named() {
        let welcome = v1::SessionResponse { message: Some(Response::Welcome(v1::Welcome::default())) };
        assert_eq!(received(welcome), Received::Malformed("Welcome.heartbeat_interval is missing".to_owned()));
        assert!(matches!(received(v1::SessionResponse { message: None }), Received::Malformed(_)));
    }

    #[test]
    fn no_sentence_of_a_session_holds_the_value_of_a_secret() {
        const PASSWORD: &str = "correct horse";
        let redactor = Redactor::default();
        drop(redactor.watch(hybrid_runner_secrets::SecretValue::new(PASSWORD.to_owned())));
        let text = || format!("it said {PASSWORD}; {}", "x".repeat(5000));
        let token = || WriteToken { run_id: RunId::new("run"), fence: 1, lease_id: LeaseId([7; 16]) };
        let (reason, pipeline) = (Reason::INTERNAL, "crm".to_owned());
        let step = TestStep {
            name: "Login",
            mandatory: true,
            outcome: TestOutcome::Failed(reason),
            message: text(),
            remediation: text(),
        };
        let says = [
            (1, Say::Answer { pipeline, version: 1, verdict: Verdict::Refused(reason, text()) }),
            (1, Say::Release(Release { token: token(), outcome: Outcome::Failed, reason, detail: text() })),
            (1, Say::Report(Report { token: token(), severity: Severity::Info, code: "odd", text: text() })),
            (2, Say::Tested { request_id: "1".to_owned(), steps: vec![step] }),
        ];
        for (sentences, say) in says {
            let message = format!("{:?}", said(say, &redactor).unwrap());
            assert_eq!(message.matches("it said [redacted]; ").count(), sentences, "{message}");
            assert!(!message.contains("horse"), "{message}");
        }
        // The value at the place of the cut.
        let late = format!("{}{PASSWORD}", "x".repeat(MAX_DETAIL - 6));
        assert!(!sentence(late, &redactor).contains("corr"));
    }

    #[test]
    fn a_sentence_is_cut_between_characters() {
        assert_eq!(cut("ä".repeat(3000), MAX_DETAIL).len(), MAX_DETAIL);
        assert_eq!(cut(format!("a{}", "ä".repeat(3000)), MAX_DETAIL).len(), MAX_DETAIL - 1);
    }
}
