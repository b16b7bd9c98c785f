//! What is said when on a session's stream: pure, no clock, no I/O.
//!
//! | state | input | says | tells the agent | next |
//! |---|---|---|---|---|
//! | (start) | | `Hello` with the leases held | | Greeting |
//! | Greeting | `Welcome` | a heartbeat | Welcomed, with the leases lost | Open |
//! | Greeting | another message, terms that cannot be kept, a lease that was not listed | | | violation |
//! | Greeting | 10 s passed | | | error |
//! | Greeting | a command | | | Greeting; it was meant for an earlier session |
//! | Open | `Definition` | | Defined | Open |
//! | Open | `DefinitionRemoved` | | Undefined | Open |
//! | Open | answer to a definition of this session | `DefinitionStatus` | | Open |
//! | Open | offer of slots | `LeaseRequest`, once no pause is in force and if it differs from what is open | | Open |
//! | Open | `Grant` of a definition that was sent | | Granted | Open |
//! | Open | `Grant` of another one, or one of five that no slot was asked for | | | violation |
//! | Open | release, report, drain | `Release`, `RunEvent`, `Draining` | | Open |
//! | Open | a heartbeat is due | `Heartbeat` with the leases held | | Open |
//! | Open | a leaving agent wants its logs confirmed | the next `Heartbeat` is due at once | | Open |
//! | Open | `HeartbeatAck` of an unanswered heartbeat | | Renewed | Open |
//! | Open | `HeartbeatAck` of another one, or of a run that the heartbeat did not list | | | violation |
//! | Open | no answer to a heartbeat for 10 s, or a third of the leases' time to live | | | error |
//! | Open | `Released`, `Revoke` | | Released, Revoked | Open |
//! | Open | `Pushback` | no `LeaseRequest` until it is over | | Open |
//! | Open | `TestConnection` | | TestAsked | Open |
//! | Open | answer to a test of this session | `TestConnectionResult` | | Open |
//! | Open | `Welcome`; a `TestConnection` like one that is not answered, or one of 65 of these | | | violation |
//! | any | more messages, definitions or bytes of them than [`super::limits`] | | | violation |
//! | any | a message of a capability that this agent did not list | | | violation, which names it |
//! | any | a message that is none, or malformed | | | violation |

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::connect::{Advice, ConnectError};
use super::limits::{Bucket, CROSSING, Definitions, TESTS, check_terms};
use super::{
    Command, Definition, Event, Grant, Held, LONGEST_PAUSE, Reason, Refusal, Release, Report, RunId, Terms,
    TestRequest, TestStep, Verdict,
};
use crate::clock::Moment;

/// `Welcome`, and each answer to a heartbeat, comes within this time (the contract's figure).
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// The only protocol version so far.
pub(super) const PROTOCOL: u32 = 1;

/// A message of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Received {
    Welcome {
        protocol: u32,
        control_plane: String,
        terms: Terms,
        resumed: Vec<RunId>,
    },
    Definition(Definition),
    DefinitionRemoved {
        pipeline: String,
    },
    Grant(Grant),
    HeartbeatAck {
        id: u64,
        renewed: Vec<RunId>,
    },
    Released(RunId),
    Revoke {
        run_id: RunId,
        reason: Reason,
    },
    Pushback(Duration),
    TestConnection(TestRequest),
    /// A message of a capability that this agent did not list.
    Unasked {
        message: &'static str,
        capability: &'static str,
    },
    Malformed(String),
}

#[derive(Debug)]
pub(super) enum Input {
    Received(Received),
    Command(Command),
    /// Time passed; the leases held now.
    Tick(Vec<Held>),
}

/// A message to the control plane.
#[derive(Debug, Clone)]
pub(super) enum Say {
    Hello { held: Vec<Held> },
    Answer { pipeline: String, version: u64, verdict: Verdict },
    LeaseRequest { slots: u32 },
    Heartbeat { id: u64, renewals: Vec<Held> },
    Release(Release),
    Report(Report),
    Tested { request_id: String, steps: Vec<TestStep> },
    Draining { within: Duration },
}

#[derive(Debug, Clone)]
pub(super) enum Effect {
    Say(Say),
    Tell(Event),
}

/// Why a session ended. There is always another one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the control plane broke the protocol: {0}")]
    Violation(String),
    #[error("the control plane does not speak protocol version 1: it chose {0}")]
    Version(u32),
    #[error("no Welcome within 10 s of Hello")]
    NoWelcome,
    #[error("no answer to a heartbeat in time")]
    Unresponsive,
    #[error("the connection does not take messages: none for 10 s")]
    Stuck,
    #[error("TLS with the control plane: {advice} ({refusal})")]
    Tls { advice: Advice, refusal: Refusal },
    #[error("{0}")]
    Refused(Refusal),
    #[error("the control plane closed the session")]
    Closed,
    #[error("the session goes on on a new connection")]
    Renewed,
    #[error("the agent is gone")]
    AgentGone,
    #[error("the control plane does not know diagnostic sessions; check single files with `-c WORKFLOW`")]
    NoDiagnostics,
    #[error("the control plane did not send all definitions within a minute")]
    NotAllSent,
}

fn violation<T>(what: impl Into<String>) -> Result<T, SessionError> {
    Err(SessionError::Violation(what.into()))
}

#[derive(Debug)]
pub(super) struct Machine {
    state: State,
}

#[derive(Debug)]
enum State {
    Greeting { since: Moment, listed: Vec<RunId> },
    Open(Open),
}

#[derive(Debug)]
struct Open {
    terms: Terms,
    messages: Bucket,
    definitions: Definitions,
    next_heartbeat: Moment,
    last_id: u64,
    unanswered: VecDeque<Beat>,
    /// Slots that the control plane may still fill.
    asked: u32,
    /// Slots that the agent has.
    offered: u32,
    /// Grants that came while no slot was asked for.
    unasked: u32,
    paused_until: Option<Moment>,
    /// Ids of the connection tests that are not answered. The agent answers each: at once those that it does not take.
    tests: BTreeSet<String>,
}

/// A heartbeat that was sent.
#[derive(Debug)]
struct Beat {
    id: u64,
    sent_at: Moment,
    listed: Vec<RunId>,
}

impl Machine {
    pub(super) fn start(now: Moment, held: Vec<Held>) -> (Self, Vec<Effect>) {
        let machine = Self { state: State::Greeting { since: now, listed: ids(&held) } };
        (machine, vec![Effect::Say(Say::Hello { held })])
    }

    /// The terms of the session once it was welcomed.
    pub(super) fn terms(&self) -> Option<Terms> {
        match &self.state {
            State::Greeting { .. } => None,
            State::Open(open) => Some(open.terms),
        }
    }

    /// How much longer the control plane wants to be left alone.
    pub(super) fn pause(&self, now: Moment) -> Duration {
        match &self.state {
            State::Greeting { .. } => Duration::ZERO,
            State::Open(open) => open.paused_until.map_or(Duration::ZERO, |until| until.since(now)),
        }
    }

    pub(super) fn step(&mut self, now: Moment, input: Input) -> Result<Vec<Effect>, SessionError> {
        match &mut self.state {
            State::Greeting { since, listed } => match on_greeting(now, *since, listed, input)? {
                None => Ok(Vec::new()),
                Some((open, effects)) => {
                    self.state = State::Open(open);
                    Ok(effects)
                }
            },
            State::Open(open) => open.on_open(now, input),
        }
    }
}

fn ids(held: &[Held]) -> Vec<RunId> {
    held.iter().map(|held| held.token.run_id.clone()).collect()
}

fn on_greeting(
    now: Moment,
    since: Moment,
    listed: &[RunId],
    input: Input,
) -> Result<Option<(Open, Vec<Effect>)>, SessionError> {
    let received = match input {
        Input::Received(received) => received,
        Input::Command(_) => return Ok(None),
        Input::Tick(_) if now.since(since) >= ANSWER => return Err(SessionError::NoWelcome),
        Input::Tick(_) => return Ok(None),
    };
    let (protocol, control_plane, terms, resumed) = match received {
        Received::Welcome { protocol, control_plane, terms, resumed } => (protocol, control_plane, terms, resumed),
        Received::Unasked { message, capability } => return unasked(message, capability),
        Received::Malformed(what) => return violation(what),
        Received::Pushback(_)
        | Received::Definition(_)
        | Received::DefinitionRemoved { .. }
        | Received::Grant(_)
        | Received::HeartbeatAck { .. }
        | Received::TestConnection(_)
        | Received::Released(_)
        | Received::Revoke { .. } => return violation("a message before Welcome"),
    };
    if protocol != PROTOCOL {
        return Err(SessionError::Version(protocol));
    }
    check_terms(terms).or_else(violation)?;
    if !resumed.iter().all(|run| listed.contains(run)) {
        return violation("Welcome.resumed_run_ids names a run that Hello did not");
    }
    let lost = listed.iter().filter(|run| !resumed.contains(run)).cloned().collect();
    let open = Open {
        terms,
        messages: Bucket::full(now),
        definitions: Definitions::default(),
        // At once: what was resumed is renewed by a heartbeat, not by `Welcome`.
        next_heartbeat: now,
        last_id: 0,
        unanswered: VecDeque::new(),
        asked: 0,
        offered: 0,
        unasked: 0,
        paused_until: None,
        tests: BTreeSet::new(),
    };
    Ok(Some((open, vec![Effect::Tell(Event::Welcomed { control_plane, terms, lost })])))
}

fn unasked<T>(message: &str, capability: &str) -> Result<T, SessionError> {
    violation(format!("{message} of capability `{capability}`, which this agent did not list"))
}

impl Open {
    fn on_open(&mut self, now: Moment, input: Input) -> Result<Vec<Effect>, SessionError> {
        match input {
            Input::Received(received) => self.on_received(now, received),
            Input::Command(command) => Ok(self.on_command(now, command)),
            Input::Tick(held) => self.on_tick(now, held),
        }
    }

    fn on_received(&mut self, now: Moment, received: Received) -> Result<Vec<Effect>, SessionError> {
        // All definitions come at once when a session begins; they have a limit of their own.
        let is_free =
            matches!(&received, Received::Definition(definition) if self.definitions.is_new(&definition.pipeline));
        if !is_free {
            self.messages.take(now).or_else(violation)?;
        }
        let event = match received {
            Received::Welcome { .. } => return violation("a second Welcome"),
            Received::Definition(definition) => {
                self.definitions.insert(&definition).or_else(violation)?;
                Event::Defined(definition)
            }
            Received::DefinitionRemoved { pipeline } => {
                self.definitions.remove(&pipeline);
                Event::Undefined { pipeline }
            }
            Received::Grant(grant) => self.on_grant(grant)?,
            Received::HeartbeatAck { id, renewed } => self.on_ack(id, &renewed)?,
            Received::Released(run_id) => Event::Released(run_id),
            Received::Revoke { run_id, reason } => Event::Revoked { run_id, reason },
            Received::TestConnection(request) => {
                if self.tests.len() == TESTS || !self.tests.insert(request.request_id.clone()) {
                    return violation(
                        "a TestConnection with the id of one that is not answered, or one of 65 of these",
                    );
                }
                Event::TestAsked(request)
            }
            Received::Pushback(pause) => {
                self.paused_until = Some(now + pause.min(LONGEST_PAUSE));
                return Ok(Vec::new());
            }
            Received::Unasked { message, capability } => return unasked(message, capability),
            Received::Malformed(what) => return violation(what),
        };
        Ok(vec![Effect::Tell(event)])
    }

    fn on_grant(&mut self, grant: Grant) -> Result<Event, SessionError> {
        // A definition that changed while the grant was under way is still to be answered, or was refused: whether the
        // agent can run the version granted is the agent's to say.
        if self.definitions.version(&grant.pipeline).is_none_or(|version| version < grant.definition_version) {
            return violation("a Grant of a definition that was not sent");
        }
        if self.asked == 0 {
            self.unasked += 1;
        }
        if self.unasked > CROSSING {
            return violation("Grants that no slot was asked for");
        }
        self.asked = self.asked.saturating_sub(1);
        self.offered = self.offered.saturating_sub(1);
        Ok(Event::Granted(grant))
    }

    fn on_ack(&mut self, id: u64, renewed: &[RunId]) -> Result<Event, SessionError> {
        let Some(at) = self.unanswered.iter().position(|beat| beat.id == id) else {
            return violation("a HeartbeatAck of a heartbeat that was answered or never sent");
        };
        // Answers come in order, so an older unanswered heartbeat got none and this one stands for it.
        let Some(beat) = self.unanswered.drain(..=at).next_back() else {
            return violation("a HeartbeatAck of no heartbeat");
        };
        if !renewed.iter().all(|run| beat.listed.contains(run)) {
            return violation("HeartbeatAck.renewed_run_ids names a run that the heartbeat did not list");
        }
        let (renewed, lost) = beat.listed.into_iter().partition(|run| renewed.contains(run));
        Ok(Event::Renewed { sent_at: beat.sent_at, renewed, lost })
    }

    fn on_command(&mut self, now: Moment, command: Command) -> Vec<Effect> {
        match command {
            Command::Answer { pipeline, version, verdict } if self.definitions.answer(&pipeline, version) => {
                vec![Effect::Say(Say::Answer { pipeline, version, verdict })]
            }
            // It is about an earlier version, or was meant for an earlier session.
            Command::Answer { .. } => Vec::new(),
            Command::Offer { slots } => {
                self.offered = slots;
                self.ask(now)
            }
            Command::Drain { within } => vec![Effect::Say(Say::Draining { within })],
            Command::Release(release) => vec![Effect::Say(Say::Release(release))],
            Command::Report(report) => vec![Effect::Say(Say::Report(report))],
            Command::Tested { request_id, steps } if self.tests.remove(&request_id) => {
                vec![Effect::Say(Say::Tested { request_id, steps })]
            }
            // It was meant for an earlier session.
            Command::Tested { .. } => Vec::new(),
            Command::Flush => {
                self.next_heartbeat = now;
                Vec::new()
            }
        }
    }

    fn on_tick(&mut self, now: Moment, held: Vec<Held>) -> Result<Vec<Effect>, SessionError> {
        let patience = ANSWER.min(self.terms.lease_ttl / 3);
        if self.unanswered.front().is_some_and(|beat| now.since(beat.sent_at) >= patience) {
            return Err(SessionError::Unresponsive);
        }
        let mut effects = self.ask(now);
        if now >= self.next_heartbeat {
            self.last_id += 1;
            self.unanswered.push_back(Beat { id: self.last_id, sent_at: now, listed: ids(&held) });
            self.next_heartbeat = now + self.terms.heartbeat_interval;
            effects.push(Effect::Say(Say::Heartbeat { id: self.last_id, renewals: held }));
        }
        Ok(effects)
    }

    fn ask(&mut self, now: Moment) -> Vec<Effect> {
        if self.paused_until.is_some_and(|until| now < until) || self.asked == self.offered {
            return Vec::new();
        }
        self.paused_until = None;
        self.asked = self.offered;
        vec![Effect::Say(Say::LeaseRequest { slots: self.offered })]
    }
}

#[cfg(test)]
mod tests;
