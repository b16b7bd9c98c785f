//! The protocol of a session, without I/O.
//!
//! | state | input | effects | then |
//! |---|---|---|---|
//! | hello | `Hello` of a version that is spoken | welcome | open |
//! | hello | any other message, or no message in time | – | refused |
//! | open | `Hello` again | – | refused |
//! | open | definitions changed | send new and changed ones of the agent's sources, and what is gone | open |
//! | open | `DefinitionStatus` of the version sent | save it; grant if accepted | open |
//! | open, diagnostic | definitions changed | as above; the first time, say that all were sent | open |
//! | open, diagnostic | `DefinitionStatus`, `LeaseRequest`, changed runs or tests | – | open |
//! | open | `LeaseRequest` | grant | open |
//! | open | open runs changed | look into held leases that are not; grant | open |
//! | open | other runs may be granted now | grant | open |
//! | open | `Draining` | note it; nothing is granted from here on | open |
//! | open | `Heartbeat` | renew | open |
//! | open | `Release` | release | open |
//! | open | open connection tests changed | take those that nobody took, if the agent listed `test_connection`, has the source and does not leave | open |
//! | open | `TestConnectionResult` of a test that this session took | save it | open |
//! | open | any other `TestConnectionResult` | – (it is late) | open |
//! | open | `LogLines`, if the agent listed `logs` | save them | open |
//! | open | any other `LogLines` | – | refused |
//! | open | no heartbeat for three intervals | – | refused |
//! | any | more messages than [`Allowance`] lets through | – | refused |
//!
//! Grant: for each free slot one run that may be granted now and whose pipeline this agent accepted in its current version.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_proto::v1::Reason;
use tokio::time::Instant;

use super::HELLO_TIMEOUT;
use super::allowance::Allowance;
use super::incoming::{DefinitionStatus, Hello, Incoming, LOGS, LogLines, Release, Renewal, RunEvent, TestResult};
use crate::status::Problem;
use crate::store::{ConnectionTest, Definition, Run, RunId, RunState, TestId, TestStep, Token};

/// The version of the protocol that this control plane speaks.
pub(super) const PROTOCOL: u32 = 1;

/// Intervals without a heartbeat after which the session is closed.
const SILENT_INTERVALS: u32 = 3;

/// What happens to a session.
#[derive(Debug)]
pub(super) enum Input {
    /// The agent said something.
    Message(Incoming),
    /// These leases of `Hello.held` are still the agent's.
    Resumed(Vec<Token>),
    /// The definitions are these now.
    Definitions(Arc<Vec<Definition>>),
    /// The runs that are not final are these now.
    Runs(Arc<Vec<Run>>),
    /// The runs that may be granted are these now.
    Ready(Arc<BTreeSet<RunId>>),
    /// A grant was made and sent.
    Granted(Token),
    /// The connection tests that are not answered are these now.
    Tests(Arc<Vec<ConnectionTest>>),
    /// A test was taken and sent.
    Testing(TestId),
    /// [`Machine::deadline`] passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Effect {
    /// Take up the held leases and answer.
    Welcome(Hello),
    /// Offer a definition.
    SendDefinition { pipeline: String, version: u64, workflow_json: String },
    /// Take an offer back.
    SendRemoved(String),
    /// Say that every definition was sent.
    SendAllSent,
    /// Tell the operator that the agent leaves.
    NoteDraining(Duration),
    /// Keep what the agent thinks of a definition.
    SaveVerdict(DefinitionStatus),
    /// Try to grant a run.
    Grant { run_id: RunId, definition_version: u64 },
    /// Renew leases and answer.
    Renew { id: u64, renewals: Vec<Renewal> },
    /// End a lease and answer.
    Release(Release),
    /// Keep an event.
    SaveEvent(RunEvent),
    /// Keep lines of a run's log.
    SaveLog(LogLines),
    /// Try to take a connection test, and send it.
    Test(ConnectionTest),
    /// Keep the answer to a test.
    SaveAnswer { id: TestId, steps: Vec<TestStep> },
    /// A lease that this session held is not active any more.
    LookInto(Token),
}

/// A session.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    heartbeat: Duration,
    allowance: Allowance,
}

#[derive(Debug)]
enum State {
    Hello { since: Instant },
    Open(Open),
}

/// What an open session knows.
#[derive(Debug)]
struct Open {
    heard: Instant,
    sources: Vec<String>,
    offered: BTreeMap<String, Offered>,
    slots: u32,
    /// Leases that were granted or taken up in this session.
    held: BTreeMap<RunId, Token>,
    runs: Arc<Vec<Run>>,
    ready: Arc<BTreeSet<RunId>>,
    /// The agent leaves.
    is_draining: bool,
    tests_connections: bool,
    sends_logs: bool,
    /// Connection tests that were sent and are not answered.
    testing: BTreeSet<TestId>,
    /// Somebody only looks: it is granted nothing and judges nothing.
    looks: Option<Looking>,
}

/// How far a diagnostic session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looking {
    Waits,
    HasAll,
}

/// A definition that was sent.
#[derive(Debug)]
struct Offered {
    version: u64,
    accepted: bool,
}

impl Machine {
    pub(super) fn new(now: Instant, heartbeat: Duration) -> Self {
        Self { state: State::Hello { since: now }, heartbeat, allowance: Allowance::new(now) }
    }

    /// Whether `Hello` came.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// When [`Input::Tick`] is due.
    pub(super) fn deadline(&self) -> Instant {
        match &self.state {
            State::Hello { since } => *since + HELLO_TIMEOUT,
            State::Open(open) => open.heard + self.heartbeat * SILENT_INTERVALS,
        }
    }

    /// One step.
    pub(super) fn step(&mut self, now: Instant, input: Input) -> Result<Vec<Effect>, Problem> {
        let silent = now >= self.deadline();
        if let Input::Message(message) = &input {
            self.allowance.take(now, matches!(message, Incoming::DefinitionStatus(_)))?;
        }
        let effects = match &mut self.state {
            State::Hello { .. } => self.on_hello(now, input),
            State::Open(open) => open.on_open(now, silent, input),
        }?;
        let asked = effects.iter().filter(|effect| matches!(effect, Effect::SendDefinition { .. }));
        self.allowance.ask(asked.count());
        Ok(effects)
    }

    fn on_hello(&mut self, now: Instant, input: Input) -> Result<Vec<Effect>, Problem> {
        match input {
            Input::Message(Incoming::Hello(hello)) => {
                let (min, max) = hello.protocol;
                if !(min..=max).contains(&PROTOCOL) {
                    let detail = format!("the agent speaks versions {min} to {max}, this control plane {PROTOCOL}");
                    return Err(Problem::new(Reason::VersionUnsupported, detail));
                }
                self.state = State::Open(Open {
                    heard: now,
                    sources: hello.sources.clone(),
                    offered: BTreeMap::new(),
                    slots: 0,
                    held: BTreeMap::new(),
                    runs: Arc::default(),
                    ready: Arc::default(),
                    is_draining: false,
                    tests_connections: hello.tests_connections && !hello.is_diagnostic,
                    sends_logs: hello.sends_logs,
                    testing: BTreeSet::new(),
                    looks: hello.is_diagnostic.then_some(Looking::Waits),
                });
                Ok(vec![Effect::Welcome(hello)])
            }
            Input::Message(
                Incoming::DefinitionStatus(_)
                | Incoming::LeaseRequest(_)
                | Incoming::Heartbeat { .. }
                | Incoming::Release(_)
                | Incoming::Draining(_)
                | Incoming::RunEvent(_)
                | Incoming::TestResult(_)
                | Incoming::LogLines(_),
            ) => Err(Problem::violation("the first message is not Hello")),
            Input::Tick => Err(Problem::violation(format!("no Hello came within {} s", HELLO_TIMEOUT.as_secs()))),
            // None of these is asked for before `Hello`.
            Input::Resumed(_)
            | Input::Definitions(_)
            | Input::Runs(_)
            | Input::Ready(_)
            | Input::Granted(_)
            | Input::Tests(_)
            | Input::Testing(_) => Ok(Vec::new()),
        }
    }
}

impl Open {
    fn on_open(&mut self, now: Instant, silent: bool, input: Input) -> Result<Vec<Effect>, Problem> {
        match input {
            Input::Message(Incoming::Hello(_)) => Err(Problem::violation("Hello came a second time")),
            Input::Message(Incoming::DefinitionStatus(status)) => Ok(self.on_status(status)),
            Input::Message(Incoming::LeaseRequest(slots)) => {
                self.slots = slots;
                Ok(self.grants())
            }
            Input::Message(Incoming::Heartbeat { id, renewals }) => {
                self.heard = now;
                Ok(vec![Effect::Renew { id, renewals }])
            }
            Input::Message(Incoming::Release(release)) => {
                if let Some(token) = release.token.filter(|token| self.held.get(&token.run_id) == Some(token)) {
                    self.held.remove(&token.run_id);
                }
                Ok(vec![Effect::Release(release)])
            }
            Input::Message(Incoming::Draining(deadline)) => {
                self.is_draining = true;
                Ok(vec![Effect::NoteDraining(deadline)])
            }
            Input::Message(Incoming::RunEvent(event)) => Ok(event.map(Effect::SaveEvent).into_iter().collect()),
            Input::Message(Incoming::LogLines(_)) if !self.sends_logs => Err(Problem::unlisted("LogLines", LOGS)),
            Input::Message(Incoming::LogLines(lines)) => Ok(lines.map(Effect::SaveLog).into_iter().collect()),
            Input::Message(Incoming::TestResult(TestResult { id, steps })) => {
                let id = id.filter(|id| self.testing.remove(id));
                Ok(id.map(|id| Effect::SaveAnswer { id, steps }).into_iter().collect())
            }
            Input::Tests(tests) => Ok(self.on_tests(&tests)),
            Input::Testing(id) => {
                self.testing.insert(id);
                Ok(Vec::new())
            }
            Input::Resumed(tokens) => {
                self.held.extend(tokens.into_iter().map(|token| (token.run_id, token)));
                Ok(Vec::new())
            }
            Input::Definitions(definitions) => Ok(self.on_definitions(&definitions)),
            Input::Runs(runs) => {
                self.runs = runs;
                let mut effects = self.lost();
                effects.extend(self.grants());
                Ok(effects)
            }
            Input::Ready(ready) => {
                self.ready = ready;
                Ok(self.grants())
            }
            Input::Granted(token) => {
                self.slots = self.slots.saturating_sub(1);
                self.held.insert(token.run_id, token);
                Ok(Vec::new())
            }
            Input::Tick if silent => {
                Err(Problem::new(Reason::AgentLost, format!("no heartbeat came for {SILENT_INTERVALS} intervals")))
            }
            Input::Tick => Ok(Vec::new()),
        }
    }

    fn on_definitions(&mut self, definitions: &[Definition]) -> Vec<Effect> {
        let mine: BTreeMap<&str, &Definition> = definitions
            .iter()
            .filter(|definition| definition.new.enabled && self.sources.contains(&definition.new.source))
            .map(|definition| (definition.new.pipeline.as_str(), definition))
            .collect();
        let gone: Vec<String> =
            self.offered.keys().filter(|pipeline| !mine.contains_key(pipeline.as_str())).cloned().collect();
        let mut effects = Vec::new();
        for pipeline in gone {
            self.offered.remove(&pipeline);
            effects.push(Effect::SendRemoved(pipeline));
        }
        for (pipeline, definition) in mine {
            if self.offered.get(pipeline).is_none_or(|offered| offered.version != definition.version) {
                let offered = Offered { version: definition.version, accepted: false };
                self.offered.insert(pipeline.to_owned(), offered);
                effects.push(Effect::SendDefinition {
                    pipeline: pipeline.to_owned(),
                    version: definition.version,
                    workflow_json: definition.new.workflow_json.clone(),
                });
            }
        }
        if self.looks == Some(Looking::Waits) {
            self.looks = Some(Looking::HasAll);
            effects.push(Effect::SendAllSent);
        }
        effects
    }

    /// A status of another version than the last one sent is late: the one that counts is on its way.
    fn on_status(&mut self, status: DefinitionStatus) -> Vec<Effect> {
        let offered = self.offered.get_mut(&status.pipeline).filter(|offered| offered.version == status.version);
        let Some(offered) = offered.filter(|_| self.looks.is_none()) else { return Vec::new() };
        offered.accepted = status.accepted;
        let mut effects = vec![Effect::SaveVerdict(status)];
        effects.extend(self.grants());
        effects
    }

    /// Tests whose time is over are off the list: what comes of them is late.
    fn on_tests(&mut self, tests: &[ConnectionTest]) -> Vec<Effect> {
        self.testing.retain(|id| tests.iter().any(|test| test.id == *id));
        let mine = |test: &&ConnectionTest| test.agent.is_none() && self.sources.contains(&test.source);
        let takes = self.tests_connections && !self.is_draining;
        let free = tests.iter().filter(|_| takes).filter(mine);
        free.cloned().map(Effect::Test).collect()
    }

    fn grants(&self) -> Vec<Effect> {
        let busy = |pipeline: &str| self.runs.iter().any(|run| run.pipeline == pipeline && run.state.is_active());
        let mut taken: Vec<&str> = Vec::new();
        let mut effects = Vec::new();
        if self.is_draining {
            return effects;
        }
        for run in self.runs.iter().filter(|run| run.state == RunState::Queued && self.ready.contains(&run.run_id)) {
            if effects.len() >= usize::try_from(self.slots).unwrap_or(usize::MAX) {
                break;
            }
            let accepted = self.offered.get(&run.pipeline).filter(|offered| offered.accepted);
            let Some(offered) = accepted else { continue };
            if busy(&run.pipeline) || taken.contains(&run.pipeline.as_str()) {
                continue;
            }
            taken.push(&run.pipeline);
            effects.push(Effect::Grant { run_id: run.run_id, definition_version: offered.version });
        }
        effects
    }

    /// Leases that are not active any more, or not under the token that this session knows.
    fn lost(&mut self) -> Vec<Effect> {
        let runs = Arc::clone(&self.runs);
        let active = |token: &Token| runs.iter().any(|run| run.state.is_active() && run.token() == Some(*token));
        let lost: Vec<Token> = self.held.values().filter(|token| !active(token)).copied().collect();
        self.held.retain(|_, token| active(token));
        lost.into_iter().map(Effect::LookInto).collect()
    }
}

#[cfg(test)]
mod tests;
