//! One session: the life of an agent's control stream.
//!
//! The machine (`session/machine.rs`) knows the protocol and no I/O; this driver moves its inputs and effects. Limits:
//! a message of 256 KiB, 64 renewals in a heartbeat, three heartbeat intervals of silence. Invariants: nothing but
//! `Hello` comes first, nothing but `Welcome` is answered to it; a run is granted only under the definition version
//! that this agent accepted. When the session ends no lease ends with it.

mod allowance;
mod incoming;
mod machine;

use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_proto::v1::{self, Reason, SessionRequest, SessionResponse, session_response};
use hybrid_runner_proto::{reason_name, reason_of_name};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Streaming};
use tracing::{Instrument as _, Span, info, warn};

use self::incoming::{Incoming, LOGS};
use self::machine::{Effect, Input, Machine};
use crate::lease::{RUN_TIMEOUT, START_TIMEOUT};
use crate::otel;
use crate::shared::{SessionGuard, SessionInfo, Shared};
use crate::status::Problem;
use crate::store::{
    ConnectionTest, Ending, Event, Granted, Listed, Run, RunState, StoreError, TestAnswer, TestId, TestStatus,
    TestStep, Token, UnreadableSecret, Verdict, Writer,
};
use crate::stream::Responses;
use crate::wire;

/// What this control plane can do beyond the base.
const CAPABILITIES: [&str; 9] =
    ["zstd", MEMOS, RESUME, "drain", "test_connection", "secret_preflight", "diagnostic", LOGS, TRACEPARENT];

/// A grant names the trace of its run when both sides list it.
const TRACEPARENT: &str = "traceparent";

/// Records and the baseline carry memos when both sides list it.
const MEMOS: &str = "memos";

/// A grant names where the run goes on, when both sides list it.
const RESUME: &str = "resume";

/// How long the first message may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest message of a session.
const MAX_MESSAGE: usize = 256 * 1024;

/// Runs of a pipeline among which the last one that is over is: newer ones wait or are under way, and those are few.
const RECENT: u32 = 16;

/// Drives a session until the agent leaves, breaks the protocol or falls silent, or the control plane stops.
pub(crate) async fn run(
    shared: Arc<Shared>,
    agent: String,
    mut requests: Streaming<SessionRequest>,
    responses: Responses<SessionResponse>,
) -> Result<(), Problem> {
    let mut definitions = shared.definitions.subscribe();
    let mut runs = shared.open_runs.subscribe();
    let mut ready = shared.ready_runs.subscribe();
    let mut tests = shared.tests.subscribe();
    let drain = shared.drain.clone();
    let mut machine = Machine::new(Instant::now(), shared.lease.heartbeat);
    let listed = Listed::default();
    let mut driver =
        Driver { shared, agent, responses, listed, takes_traceparent: false, session: None, welcomed: false };
    loop {
        let input = tokio::select! {
            () = drain.cancelled() => {
                return Err(Problem::new(Reason::Draining, "the control plane stops; connect again"));
            }
            message = requests.message() => match received(message)? {
                Some(incoming) => Input::Message(incoming),
                None => return Ok(()),
            },
            // The senders live as long as this.
            _ = definitions.changed(), if machine.is_open() => {
                Input::Definitions(definitions.borrow_and_update().clone())
            }
            _ = runs.changed(), if machine.is_open() => Input::Runs(runs.borrow_and_update().clone()),
            _ = ready.changed(), if machine.is_open() => Input::Ready(ready.borrow_and_update().clone()),
            _ = tests.changed(), if machine.is_open() => Input::Tests(tests.borrow_and_update().clone()),
            () = tokio::time::sleep_until(machine.deadline()) => Input::Tick,
        };
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in machine.step(Instant::now(), input)? {
                inputs.extend(driver.perform(effect).await?);
            }
        }
        if std::mem::take(&mut driver.welcomed) {
            definitions.mark_changed();
            runs.mark_changed();
            ready.mark_changed();
            tests.mark_changed();
        }
    }
}

fn received(message: Result<Option<SessionRequest>, tonic::Status>) -> Result<Option<Incoming>, Problem> {
    match message {
        Ok(None) => Ok(None),
        Ok(Some(request)) => {
            let size = request.encoded_len();
            if size > MAX_MESSAGE {
                return Err(Problem::limit(format!("a message has {size} bytes; accepted: at most {MAX_MESSAGE}")));
            }
            let message = request.message.ok_or_else(|| Problem::violation("a message without content"))?;
            Incoming::try_from(message).map(Some)
        }
        // tonic says so of a message above its own limit, and drops the connection's error otherwise.
        Err(status) if status.code() == Code::OutOfRange => Err(Problem::limit(status.message())),
        Err(_) => Ok(None),
    }
}

/// Does what the machine says.
struct Driver {
    shared: Arc<Shared>,
    agent: String,
    responses: Responses<SessionResponse>,
    /// What `Hello` listed.
    listed: Listed,
    /// Whether it listed `traceparent`.
    takes_traceparent: bool,
    /// From `Welcome` on, unless somebody only looks.
    session: Option<SessionGuard>,
    /// Whether the session was opened and the loop has not noticed yet.
    welcomed: bool,
}

impl Driver {
    /// Performs one effect; what comes of it is the machine's next input.
    async fn perform(&mut self, effect: Effect) -> Result<Option<Input>, Problem> {
        let performed = match effect {
            Effect::Welcome(hello) => self.welcome(hello).await,
            Effect::SendDefinition { pipeline, version, workflow_json } => {
                self.send_definition(pipeline, version, workflow_json).await
            }
            Effect::SendRemoved(pipeline) => {
                self.send(session_response::Message::DefinitionRemoved(v1::DefinitionRemoved { pipeline })).await;
                Ok(None)
            }
            Effect::SendAllSent => {
                self.send(session_response::Message::DefinitionsSent(v1::DefinitionsSent {})).await;
                Ok(None)
            }
            Effect::NoteDraining(deadline) => {
                info!(?deadline, "the agent leaves; it is granted nothing any more");
                Ok(None)
            }
            Effect::SaveVerdict(status) => self.save_verdict(status).await,
            Effect::Grant { run_id, definition_version } => {
                let now = self.shared.clock.now();
                let span = otel::grant_span(&self.shared, run_id);
                let granted = self.shared.store.grant(run_id, definition_version, &self.agent, self.listed, now);
                match granted.instrument(span.clone()).await {
                    Ok(Some(granted)) => {
                        self.send_grant(&granted, &span).await;
                        Ok(Some(Input::Granted(granted.token)))
                    }
                    // Somebody was faster; the watch of open runs says what is left.
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Effect::Renew { id, renewals } => self.renew(id, renewals).await,
            Effect::Release(release) => self.release(release).await,
            Effect::SaveEvent(event) => self.save_event(event).await,
            Effect::SaveLog(lines) => self.save_log(lines).await,
            Effect::Test(test) => self.test(test).await,
            Effect::SaveAnswer { id, steps } => self.save_answer(id, steps).await,
            Effect::LookInto(token) => self.look_into(token).await,
        };
        performed.map_err(|error| self.shared.failed(&error))
    }

    async fn send(&self, message: session_response::Message) {
        self.responses.send(SessionResponse { message: Some(message) }).await;
    }

    async fn welcome(&mut self, hello: incoming::Hello) -> Result<Option<Input>, StoreError> {
        let resumed = self.shared.store.renew(&self.agent, &hello.held).await?;
        let lists = |capability: &str| hello.capabilities.iter().any(|listed| listed == capability);
        self.listed = Listed { memos: lists(MEMOS), resume: lists(RESUME) };
        self.takes_traceparent = lists(TRACEPARENT);
        let resumed_runs = resumed.len();
        info!(version = hello.agent_version, sources = ?hello.sources, resumed_runs, hello.is_diagnostic, "agent connected");
        self.send(session_response::Message::Welcome(v1::Welcome {
            protocol: machine::PROTOCOL,
            control_plane_version: concat!("control-plane/", env!("CARGO_PKG_VERSION")).to_owned(),
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            heartbeat_interval: Some(wire::duration(self.shared.lease.heartbeat)),
            lease_ttl: Some(wire::duration(self.shared.lease.ttl)),
            resumed_run_ids: resumed.iter().map(ToString::to_string).collect(),
        }))
        .await;
        self.welcomed = true;
        if !hello.is_diagnostic {
            self.session = Some(self.shared.enter(SessionInfo {
                agent: self.agent.clone(),
                agent_version: hello.agent_version,
                instance_id: hello.instance_id.to_vec(),
                sources: hello.sources,
                tests_connections: hello.tests_connections,
            }));
        }
        let resumed = hello.held.into_iter().filter(|token| resumed.contains(&token.run_id)).collect();
        Ok(Some(Input::Resumed(resumed)))
    }

    /// Who only looks is told how the pipeline's last run ended, too.
    async fn send_definition(
        &self,
        pipeline: String,
        version: u64,
        workflow_json: String,
    ) -> Result<Option<Input>, StoreError> {
        let last_run = match self.session {
            Some(_) => None,
            None => Some(self.last_run(&pipeline).await?),
        };
        let definition = v1::Definition { pipeline, version, workflow_json, last_run };
        self.send(session_response::Message::Definition(definition)).await;
        Ok(None)
    }

    async fn last_run(&self, pipeline: &str) -> Result<v1::LastRun, StoreError> {
        let runs = self.shared.store.runs(Some(pipeline), RECENT).await?;
        let Some(run) = runs.iter().find(|run| run.state.is_final()) else { return Ok(v1::LastRun::default()) };
        let state = match run.state {
            RunState::Committed => v1::LastRunState::Committed,
            RunState::Failed => v1::LastRunState::Failed,
            RunState::Cancelled => v1::LastRunState::Cancelled,
            RunState::Queued | RunState::Granted | RunState::Running => v1::LastRunState::Unspecified,
        };
        let reason = run.reason.as_deref().filter(|_| run.state == RunState::Failed).and_then(reason_of_name);
        let ago = run.ended_at.map(|at| self.shared.clock.now().duration_since(at));
        // A clock that was set back makes it now.
        let ended_ago = ago.map(|ago| wire::duration(Duration::try_from(ago).unwrap_or_default()));
        Ok(v1::LastRun { state: state.into(), reason: reason.unwrap_or_default().into(), ended_ago })
    }

    async fn save_verdict(&self, status: incoming::DefinitionStatus) -> Result<Option<Input>, StoreError> {
        let incoming::DefinitionStatus { pipeline, version, accepted, reason, detail, unreadable } = status;
        if !accepted {
            warn!(pipeline, version, reason, detail, "the agent rejects a definition");
        }
        for UnreadableSecret { field, reason, detail, .. } in &unreadable {
            warn!(pipeline, version, field, reason, detail, "the agent cannot read a secret");
        }
        let verdict = Verdict {
            pipeline,
            agent: self.agent.clone(),
            version,
            accepted,
            reason: (!accepted).then(|| reason.to_owned()),
            detail: (!accepted).then_some(detail),
            unreadable_secrets: unreadable,
        };
        self.shared.store.put_verdict(verdict).await?;
        self.shared.changed();
        Ok(None)
    }

    async fn send_grant(&self, granted: &Granted, span: &Span) {
        let next_seq = granted.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.next_seq);
        info!(
            pipeline = granted.pipeline, run_id = %granted.token.run_id, attempt = granted.attempt, next_seq, "run granted"
        );
        self.shared.changed();
        self.send(session_response::Message::Grant(v1::Grant {
            token: Some(wire::token_to_wire(&granted.token)),
            pipeline: granted.pipeline.clone(),
            definition_version: granted.definition_version,
            attempt: granted.attempt,
            start_timeout: Some(wire::duration(START_TIMEOUT)),
            run_timeout: Some(wire::duration(RUN_TIMEOUT)),
            full: granted.full,
            checkpoint: granted.checkpoint.as_ref().map(|checkpoint| v1::Checkpoint {
                source_position: checkpoint.source_position.clone(),
                next_seq: checkpoint.next_seq,
                digest: checkpoint.digest.to_vec().into(),
            }),
            traceparent: if self.takes_traceparent { otel::traceparent(span) } else { String::new() },
        }))
        .await;
    }

    async fn renew(&self, id: u64, renewals: Vec<incoming::Renewal>) -> Result<Option<Input>, StoreError> {
        let tokens: Vec<Token> = renewals.iter().map(|renewal| renewal.token).collect();
        let renewed =
            if tokens.is_empty() { Vec::new() } else { self.shared.store.renew(&self.agent, &tokens).await? };
        let said = |renewal: incoming::Renewal| Some((renewal.token, renewal.progress?));
        let mut moved: Vec<_> = renewals.into_iter().filter_map(said).collect();
        moved.retain(|(token, _)| renewed.contains(&token.run_id));
        if !moved.is_empty() {
            self.shared.store.put_progress(&self.agent, &moved, self.shared.clock.now()).await?;
            self.shared.changed();
        }
        let renewed_run_ids = renewed.iter().map(ToString::to_string).collect();
        self.send(session_response::Message::HeartbeatAck(v1::HeartbeatAck { id, renewed_run_ids })).await;
        Ok(None)
    }

    /// Whoever gives back what is not his any more is told that it is given back: he would ask for ever.
    async fn release(&self, release: incoming::Release) -> Result<Option<Input>, StoreError> {
        if let Some(token) = release.token {
            let writer = Writer { agent: self.agent.clone(), token };
            let ending = match release.outcome {
                v1::Outcome::Unspecified | v1::Outcome::Failed => Ending::Failed(self.shared.pace()),
                v1::Outcome::Cancelled => Ending::Cancelled,
                v1::Outcome::HandedBack => Ending::HandedBack(self.shared.pace()),
            };
            let (store, now) = (&self.shared.store, self.shared.clock.now());
            if store.release(&writer, ending, release.reason, &release.detail, now).await? {
                info!(run_id = %token.run_id, outcome = release.outcome.as_str_name(), reason = release.reason, "run released");
                self.shared.changed();
            }
        }
        self.send(session_response::Message::Released(v1::Released { run_id: release.run_id })).await;
        Ok(None)
    }

    async fn save_event(&self, event: incoming::RunEvent) -> Result<Option<Input>, StoreError> {
        let writer = Writer { agent: self.agent.clone(), token: event.token };
        let event = Event {
            at: self.shared.clock.now(),
            severity: event.severity.to_owned(),
            code: event.code,
            text: event.text,
        };
        self.shared.store.add_event(&writer, event).await?;
        self.shared.changed();
        Ok(None)
    }

    async fn save_log(&self, said: incoming::LogLines) -> Result<Option<Input>, StoreError> {
        let writer = Writer { agent: self.agent.clone(), token: said.token };
        self.shared.store.add_log(&writer, said.first, said.lines).await?;
        self.shared.changed();
        Ok(None)
    }

    /// Whoever takes a test first answers it. It is this session's before it is taken: a test that was taken by nobody
    /// who is there would be given up.
    async fn test(&self, test: ConnectionTest) -> Result<Option<Input>, StoreError> {
        let Some(session) = &self.session else { return Ok(None) };
        let ConnectionTest { id, pipeline, workflow_json, expires_at, .. } = test;
        session.begin_test(id);
        match self.shared.store.take_test(id, &self.agent).await {
            Ok(true) => {}
            other => {
                session.end_test(id);
                return other.map(|_| None);
            }
        }
        info!(pipeline, test_id = %id, "connection test sent");
        let left = expires_at.duration_since(self.shared.clock.now());
        self.send(session_response::Message::TestConnection(v1::TestConnection {
            request_id: id.to_string(),
            workflow_json,
            timeout: Some(wire::duration(Duration::try_from(left).unwrap_or_default())),
        }))
        .await;
        Ok(Some(Input::Testing(id)))
    }

    async fn save_answer(&self, id: TestId, steps: Vec<TestStep>) -> Result<Option<Input>, StoreError> {
        let failed = steps.iter().filter(|step| step.status == TestStatus::Failed).count();
        info!(test_id = %id, steps = steps.len(), failed, "connection test answered");
        self.shared.store.answer_test(id, Some(&self.agent), TestAnswer::Steps(steps)).await?;
        if let Some(session) = &self.session {
            session.end_test(id);
        }
        self.shared.changed();
        Ok(None)
    }

    /// A run that this agent held is not its any more: tells it, unless it ended the run itself.
    async fn look_into(&self, token: Token) -> Result<Option<Input>, StoreError> {
        let run = self.shared.store.run(token.run_id).await?;
        if let Some(reason) = revocation(run.as_ref(), &token) {
            info!(run_id = %token.run_id, reason = reason_name(reason), "lease revoked");
            let revoke = v1::Revoke { run_id: token.run_id.to_string(), reason: reason.into() };
            self.send(session_response::Message::Revoke(revoke)).await;
        }
        // The watch of open runs may be older than the grant: it is held after all.
        let held = run.is_some_and(|run| run.state.is_active() && run.token() == Some(token));
        Ok(held.then(|| Input::Resumed(vec![token])))
    }
}

/// Why a lease that was held is not any more; `None` when its holder knows, or when it is held after all.
fn revocation(run: Option<&Run>, token: &Token) -> Option<Reason> {
    let Some(run) = run else { return Some(Reason::LeaseRevoked) };
    if run.token() != Some(*token) {
        return Some(Reason::Fenced);
    }
    let because = |reason: Reason| run.reason.as_deref() == Some(reason_name(reason));
    match run.state {
        RunState::Cancelled if because(Reason::LeaseRevoked) => Some(Reason::LeaseRevoked),
        RunState::Cancelled if because(Reason::Cancelled) => Some(Reason::Cancelled),
        RunState::Queued | RunState::Failed if because(Reason::AgentLost) => Some(Reason::LeaseExpired),
        RunState::Failed if because(Reason::RunDeadline) => Some(Reason::RunDeadline),
        _ => None,
    }
}
