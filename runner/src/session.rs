//! The life of one stream to the control plane, and the next one after it.
//!
//! **Limits.** One session at a time. A message has at most 256 KiB, ids and names have their own limits, and messages come
//! at 50 a second (500 at once) beside definitions, of which 1,000 are held ([`limits`]). `Welcome` comes within 10 s of
//! `Hello`, an answer to a heartbeat within 10 s, or a third of the leases' time to live when that is less, so that there
//! is time for another session before they end. A wait that the control plane asks for is honoured up to 5 minutes.
//!
//! **Invariants.** A session never ends a lease: leases have their own clock ([`crate::clock::Moment`]), the next
//! `Hello` lists those that are held, and `Welcome` says which of them are still ours. What was said in one session is
//! not assumed in the next: definitions are sent and answered anew, slots are asked for anew, releases are sent again
//! until they are answered.
//!
//! **Recovery.** A session that ends is followed by another after a jittered wait, whose bound grows from half a second to 15,
//! and falls back after a session of a minute. The same trouble is logged once, until its cause changes. A session whose
//! connection is replaced ([`connect`]: new certificates, or no stream opens on it any more) is followed at once, on the
//! connection that stands already.
//!
//! [`machine`] is what is said when, without I/O; `logs` sends the lines of runs between; `driver` performs it on a real stream; `connect` makes the connection.
//! The generated types of the wire stop at `driver`.

mod connect;
mod diagnose;
mod driver;
mod kind;
mod limits;
mod logs;
mod machine;
mod refusal;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::{Severity, Step, StepOutcome};
use hybrid_runner_observability::TraceContext;
use hybrid_runner_secrets::Redactor;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::clock::{Clock, Moment};
use crate::event::RunProgress;
use crate::metrics::Pulse;
use crate::retry::Backoff;
use crate::telemetry::Chain;

pub(crate) use connect::{Certificate, ConnectError, Connector, Link, ProxyError, TlsError, bare};
pub(crate) use diagnose::{LastRun, Look, Looked, Welcome, definitions, look};
pub(crate) use logs::RunLogs;
pub(crate) use machine::SessionError;
pub(crate) use refusal::{Refusal, refusal_of};

/// A run's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunId(Arc<str>);

impl RunId {
    pub(crate) fn new(id: &str) -> Self {
        Self(id.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The random id of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseId(pub(crate) [u8; 16]);

/// What every write and renewal carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteToken {
    pub(crate) run_id: RunId,
    pub(crate) fence: u64,
    pub(crate) lease_id: LeaseId,
}

/// A name of the wire's catalogue, without its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason(&'static str);

impl Reason {
    pub(crate) const UNSPECIFIED: Self = Self("UNSPECIFIED");
    pub(crate) const PROTOCOL_VIOLATION: Self = Self("PROTOCOL_VIOLATION");
    pub(crate) const IDENTITY_UNKNOWN: Self = Self("IDENTITY_UNKNOWN");
    pub(crate) const IDENTITY_DENIED: Self = Self("IDENTITY_DENIED");
    pub(crate) const FENCED: Self = Self("FENCED");
    pub(crate) const LEASE_EXPIRED: Self = Self("LEASE_EXPIRED");
    pub(crate) const LEASE_REVOKED: Self = Self("LEASE_REVOKED");
    pub(crate) const CANCELLED: Self = Self("CANCELLED");
    pub(crate) const DRAINING: Self = Self("DRAINING");
    pub(crate) const RUN_DEADLINE: Self = Self("RUN_DEADLINE");
    pub(crate) const BUSY: Self = Self("BUSY");
    pub(crate) const INTERNAL: Self = Self("INTERNAL");

    pub(crate) fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<hybrid_runner_connector::Reason> for Reason {
    fn from(reason: hybrid_runner_connector::Reason) -> Self {
        Self(reason.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A pipeline, as its operator wrote it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) pipeline: String,
    pub(crate) version: u64,
    pub(crate) workflow_json: String,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("pipeline", &self.pipeline)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A timed, exclusive right to run one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) token: WriteToken,
    pub(crate) pipeline: String,
    pub(crate) definition_version: u64,
    pub(crate) attempt: u32,
    pub(crate) start_timeout: Duration,
    pub(crate) run_timeout: Duration,
    pub(crate) full: bool,
    /// The trace of the run.
    pub(crate) traceparent: Option<TraceContext>,
}

/// How often leases are renewed and how long they last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) heartbeat_interval: Duration,
    pub(crate) lease_ttl: Duration,
}

/// A lease that the agent holds, as heartbeats list it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) token: WriteToken,
    pub(crate) pipeline: String,
    pub(crate) progress: RunProgress,
}

/// A connection that the control plane wants tested.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TestRequest {
    pub(crate) request_id: String,
    pub(crate) workflow_json: String,
    /// Nobody waits longer for the answer.
    pub(crate) timeout: Duration,
}

impl fmt::Debug for TestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRequest")
            .field("request_id", &self.request_id)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// One step of a connection test, as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestStep {
    pub(crate) name: &'static str,
    pub(crate) mandatory: bool,
    pub(crate) outcome: TestOutcome,
    pub(crate) message: String,
    pub(crate) remediation: String,
}

/// How a [`TestStep`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TestOutcome {
    Passed,
    Failed(Reason),
    Skipped,
}

impl From<Step> for TestStep {
    fn from(step: Step) -> Self {
        let outcome = match step.outcome {
            StepOutcome::Passed => TestOutcome::Passed,
            StepOutcome::Failed(reason) => TestOutcome::Failed(reason.into()),
            StepOutcome::Skipped => TestOutcome::Skipped,
        };
        Self {
            name: step.name,
            mandatory: step.mandatory,
            outcome,
            message: step.message,
            remediation: step.remediation.unwrap_or_default(),
        }
    }
}

/// What the agent wants said. A command of a session that is over is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// The answer to a definition.
    Answer { pipeline: String, version: u64, verdict: Verdict },
    /// So many runs can be taken now.
    Offer { slots: u32 },
    /// The agent takes nothing new and leaves within this time.
    Drain { within: Duration },
    /// Gives a lease back.
    Release(Release),
    /// Something that a run's operator wants to see.
    Report(Report),
    /// The answer to a connection test of this session.
    Tested { request_id: String, steps: Vec<TestStep> },
    /// What there is of the runs' logs is sent and confirmed now: the agent is about to leave.
    Flush,
}

/// What the agent thinks of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It can be run. What of its references could not be read just now is no reason not to.
    Accepted { unreadable: Vec<UnreadableSecret> },
    /// It cannot, and what to change.
    Refused(Reason, String),
}

/// A reference that does not resolve now, as the control plane may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnreadableSecret {
    pub(crate) field: String,
    pub(crate) reference: String,
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

/// A lease given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) token: WriteToken,
    pub(crate) outcome: Outcome,
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

/// How the run of a [`Release`] ended for this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Failed,
    HandedBack,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) token: WriteToken,
    pub(crate) severity: Severity,
    pub(crate) code: &'static str,
    pub(crate) text: String,
}

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A session began. `lost`: the leases that `Hello` listed and `Welcome` did not.
    Welcomed {
        control_plane: String,
        terms: Terms,
        lost: Vec<RunId>,
    },
    Defined(Definition),
    Undefined {
        pipeline: String,
    },
    Granted(Grant),
    /// A heartbeat was answered: what it listed is renewed as of when it was sent, or lost.
    Renewed {
        sent_at: Moment,
        renewed: Vec<RunId>,
        lost: Vec<RunId>,
    },
    Released(RunId),
    Revoked {
        run_id: RunId,
        reason: Reason,
    },
    TestAsked(TestRequest),
    /// There is no session; another one follows.
    Ended {
        problem: String,
    },
}

/// Keeps a session with the control plane, one after the other.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connector: Arc<Connector>,
    pub(crate) instance_id: [u8; 16],
    pub(crate) sources: Vec<String>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What it knows is not said.
    pub(crate) redactor: Redactor,
    /// How it stands, for whoever asks.
    pub(crate) pulse: Pulse,
    /// The leases held now; each heartbeat lists them.
    pub(crate) held: watch::Receiver<Vec<Held>>,
    /// What the runs log; sent where the control plane takes it.
    pub(crate) logs: RunLogs,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<Event>,
    /// The connection of the session, for uploads; none while there is no session.
    pub(crate) link: watch::Sender<Option<Link>>,
}

/// A session of this length was a healthy one: what ends it is new trouble, not the old one again.
const HEALTHY: Duration = Duration::from_secs(60);
/// No wait that a control plane asks for is longer.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

impl Session {
    /// Runs until the agent is gone.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut told = None;
        let mut renewed = None;
        loop {
            let begun = self.clock.now();
            let end = self.one(renewed.take(), &mut told).await;
            self.link.send_replace(None);
            // An agent that has left is no trouble.
            if matches!(end.error, SessionError::AgentGone) {
                return;
            }
            renewed = end.renewed;
            if self.clock.now().since(begun) >= HEALTHY {
                backoff.reset();
            }
            let problem = Chain(&end.error).to_string();
            // The same trouble again and again is one line in the log, not one a minute.
            if renewed.is_some() {
                debug!("the session goes on on a new connection");
            } else if told.as_ref() == Some(&problem) {
                debug!(error = %problem, "no session with the control plane");
            } else {
                warn!(error = %problem, "no session with the control plane, trying again");
                told = Some(problem.clone());
            }
            if self.events.send(Event::Ended { problem: problem.clone() }).await.is_err() {
                return;
            }
            if renewed.is_some() {
                continue;
            }
            let wait = backoff.next_wait().max(end.pause);
            self.pulse.waits(end.error.kind(), self.redactor.replace_text(problem), wait);
            if !self.idle(wait).await {
                return;
            }
        }
    }

    /// One session, from connecting to its end; on the connection that stands already, if one does.
    async fn one(&mut self, renewed: Option<Link>, told: &mut Option<String>) -> driver::End {
        self.pulse.connecting();
        let connected = match renewed {
            Some(link) => Ok(link),
            None => self.connector.connect().await,
        };
        let link = match connected {
            Ok(link) => link,
            Err(error) => return driver::End::from(SessionError::Connect(error)),
        };
        let end = driver::drive(self, link).await;
        if end.welcomed {
            info!("session with the control plane ended");
            *told = None;
        }
        end
    }

    /// Waits between sessions; what the agent wants said meanwhile is for a session that is over. False: the agent is
    /// gone.
    async fn idle(&mut self, wait: Duration) -> bool {
        let wake = tokio::time::Instant::now() + wait;
        loop {
            let gone = tokio::select! {
                () = tokio::time::sleep_until(wake) => return true,
                command = self.commands.recv() => command.is_none(),
            };
            if gone {
                return false;
            }
        }
    }
}
