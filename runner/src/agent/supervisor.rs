//! What the agent does about each thing that happens: no I/O, no waiting.

mod leaving;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::{Notice, Severity};
use hybrid_runner_secrets::{Policy, Resolver, Stores};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, warn};

use self::leaving::Leaving;
use super::Agent;
use super::connection_tests::{ConnectionTests, TestJoined};
use super::outbox::Outbox;
use super::preflights::{PreflightJoined, Preflights};
use crate::event::{AgentEvent, RunProgress};
use crate::lease::{Leases, Lost};
use crate::metrics::Metrics;
use crate::otel;
use crate::plan::{Connectors, Plan};
use crate::run::{Ended, Run};
use crate::runlog::RunLog;
use crate::session::{Command, Definition, Event, Grant, Held, Link, Reason, RunId, RunLogs, Verdict, WriteToken};
use crate::status;
use crate::telemetry;
use crate::upload::Target;

/// After a grant that could not be taken up the slot is offered again after this long: two sides that do not agree about
/// what can be run do not busy each other.
const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// A run's task that ended; none: it was stopped.
pub(super) type RunJoined = Result<(Id, Option<Ended>), JoinError>;

pub(super) struct Supervisor {
    connectors: Connectors,
    secrets: Arc<Stores>,
    policy: Arc<Policy>,
    slots: usize,
    leases: Leases,
    /// Of this session, by pipeline.
    definitions: BTreeMap<String, Planned>,
    running: BTreeMap<RunId, Running>,
    pub(super) runs: JoinSet<Option<Ended>>,
    pub(super) tests: ConnectionTests,
    pub(super) preflights: Preflights,
    /// What is to be said to the control plane.
    pub(super) outbox: Outbox,
    held: watch::Sender<Vec<Held>>,
    link: watch::Receiver<Option<Link>>,
    noticed: mpsc::Sender<(RunId, Notice)>,
    logs: RunLogs,
    observers: broadcast::Sender<AgentEvent>,
    metrics: Metrics,
    /// Of the redactor, as far as the log has them.
    hits: u64,
    drain_timeout: Duration,
    leaving: Option<Leaving>,
    offers_again_at: Option<Instant>,
}

struct Planned {
    version: u64,
    /// None: it was rejected.
    plan: Option<Arc<Plan>>,
}

struct Running {
    token: WriteToken,
    pipeline: String,
    progress: RunProgress,
    log: RunLog,
    task: Id,
    stop: CancellationToken,
    /// How the run ends when it is stopped.
    stopped: Option<Ended>,
}

impl Supervisor {
    pub(super) fn new(
        agent: Agent,
        held: watch::Sender<Vec<Held>>,
        link: watch::Receiver<Option<Link>>,
        noticed: mpsc::Sender<(RunId, Notice)>,
        logs: RunLogs,
    ) -> Self {
        let policy = agent.config.policy();
        Self {
            tests: ConnectionTests::new(
                agent.connectors.clone(),
                Arc::clone(&agent.config.secrets),
                Arc::clone(&policy),
            ),
            connectors: agent.connectors,
            policy,
            secrets: agent.config.secrets,
            slots: usize::try_from(agent.config.slots.clamp(1, crate::config::AgentConfig::MAX_SLOTS)).unwrap_or(1),
            leases: Leases::new(agent.clock),
            definitions: BTreeMap::new(),
            running: BTreeMap::new(),
            runs: JoinSet::new(),
            preflights: Preflights::default(),
            outbox: Outbox::default(),
            held,
            link,
            noticed,
            logs,
            observers: agent.observers,
            metrics: agent.metrics,
            hits: 0,
            drain_timeout: agent.config.drain_timeout.min(crate::config::AgentConfig::MAX_DRAIN_TIMEOUT),
            leaving: None,
            offers_again_at: None,
        }
    }

    pub(super) fn on_session(&mut self, event: Event) {
        match event {
            Event::Welcomed { control_plane, terms, lost } => {
                info!(%control_plane, "session with the control plane began");
                // Every session sends the definitions anew, and answers are for one session.
                self.definitions.clear();
                self.outbox.keep_reports();
                let lost = self.leases.welcomed(terms, lost);
                self.lose(lost);
                self.say_draining(Instant::now());
                self.offer();
                self.flush();
                self.tell(AgentEvent::Connected { control_plane });
            }
            Event::Defined(definition) => self.on_definition(definition),
            Event::Undefined { pipeline } => {
                info!(%pipeline, "definition removed");
                self.definitions.remove(&pipeline);
                self.preflights.forget(&pipeline);
            }
            Event::Granted(grant) => self.on_grant(grant),
            Event::Renewed { sent_at, renewed, lost } => {
                let lost = self.leases.renewed(sent_at, &renewed, lost);
                self.lose(lost);
                self.flush();
            }
            Event::Released(run_id) => self.leases.released(&run_id),
            Event::Revoked { run_id, reason } => {
                let lost = self.leases.revoked(run_id, reason);
                self.lose(lost);
            }
            Event::TestAsked(request) => {
                let answer = self.tests.ask(request, self.is_leaving());
                self.say(answer);
            }
            Event::Ended { problem } => {
                self.tests.abandon();
                self.preflights.abandon();
                self.tell(AgentEvent::Disconnected { problem });
            }
        }
        self.send_releases();
    }

    pub(super) fn on_tick(&mut self) {
        let lost = self.leases.expired();
        self.lose(lost);
        self.send_releases();
        let now = Instant::now();
        self.hand_back(now);
        if self.offers_again_at.is_some_and(|at| now >= at) {
            self.offer();
        }
    }

    pub(super) fn on_tested(&mut self, joined: TestJoined) {
        let answer = self.tests.ended(joined);
        self.say(answer);
    }

    pub(super) fn on_preflight(&mut self, joined: PreflightJoined) {
        let answer = self.preflights.ended(joined);
        self.say(answer);
    }

    fn say(&mut self, command: Option<Command>) {
        if let Some(command) = command {
            self.outbox.push(command);
        }
    }

    pub(super) fn on_notice(&mut self, run_id: &RunId, notice: Notice) {
        let Some(running) = self.running.get(run_id) else { return };
        let (pipeline, code, text) = (&running.pipeline, notice.code, &notice.text);
        match notice.severity {
            Severity::Info => info!(%run_id, %pipeline, code, "{text}"),
            Severity::Warning => warn!(%run_id, %pipeline, code, "{text}"),
        }
        let report = status::report(running.token.clone(), notice.clone());
        self.outbox.push(Command::Report(report));
        self.tell(AgentEvent::Notice { run_id: run_id.to_string(), pipeline: pipeline.clone(), notice });
    }

    pub(super) fn on_ended(&mut self, joined: RunJoined) {
        let (task, ended) = match joined {
            Ok((task, ended)) => (task, ended),
            Err(error) => {
                error!(error = %error, "a run's task failed");
                (
                    error.id(),
                    Some(Ended::failed(Reason::INTERNAL, "a fault of the agent ended the run; its log says more")),
                )
            }
        };
        let Some(run_id) = self.running.iter().find(|(_, run)| run.task == task).map(|(run_id, _)| run_id.clone())
        else {
            return;
        };
        let Some(Running { token, pipeline, log, stopped, .. }) = self.running.remove(&run_id) else { return };
        // Before the release, which its last lines precede.
        log.finish();
        // A run that was done before it noticed the stop is done.
        let ended = ended.or(stopped).unwrap_or_else(|| Ended::failed(Reason::INTERNAL, "the run was stopped"));
        match status::release(token, ended.reason, &ended.end) {
            Some(release) => self.leases.give_back(release),
            None => self.leases.ended(&run_id),
        }
        self.tell(AgentEvent::RunEnded { run_id: run_id.to_string(), pipeline, end: ended.end });
        self.warn_of_hits();
        self.publish();
        self.send_releases();
        self.offer();
        self.flush();
    }

    /// What is replaced was about to leave: somebody echoes secrets.
    fn warn_of_hits(&mut self) {
        let hits = self.secrets.redactor().hits();
        if hits > self.hits {
            let values = hits - self.hits;
            warn!(values, "values of secrets were found in what was about to leave, and taken out");
            self.hits = hits;
        }
    }

    fn on_definition(&mut self, definition: Definition) {
        let Definition { pipeline, version, workflow_json } = definition;
        let plan = match self.connectors.plan_json(&workflow_json) {
            Ok(plan) => {
                info!(%pipeline, version, "definition accepted");
                self.tell(AgentEvent::DefinitionAccepted { pipeline: pipeline.clone(), version });
                let plan = Arc::new(plan);
                self.preflights.begin(pipeline.clone(), version, Arc::clone(&plan), self.resolver(&pipeline));
                Some(plan)
            }
            Err(error) => {
                warn!(%pipeline, version, reason = %error.reason, %error, "definition rejected");
                let (reason, detail) = (Reason::from(error.reason), error.to_string());
                let rejected = AgentEvent::DefinitionRejected {
                    pipeline: pipeline.clone(),
                    version,
                    reason: reason.as_str(),
                    detail: detail.clone(),
                };
                self.tell(rejected);
                let verdict = Verdict::Refused(reason, detail);
                self.outbox.push(Command::Answer { pipeline: pipeline.clone(), version, verdict });
                None
            }
        };
        self.definitions.insert(pipeline, Planned { version, plan });
    }

    /// What may be read for a pipeline.
    fn resolver(&self, pipeline: &str) -> Resolver {
        Resolver::new(Arc::clone(&self.secrets), Arc::clone(&self.policy), Some(pipeline.to_owned()))
    }

    fn on_grant(&mut self, grant: Grant) {
        let run_id = grant.token.run_id.clone();
        if let Some(running) = self.running.get(&run_id) {
            let (held, granted) = (running.token.fence, grant.token.fence);
            warn!(%run_id, held, granted, "granted a run that is running");
            if granted <= held {
                return;
            }
            // The lease was lost before this agent noticed. The new one is declined while the old run still stops.
            let lost = self.leases.revoked(run_id.clone(), Reason::FENCED);
            self.lose(lost);
        }
        let lease = self.leases.granted(run_id.clone());
        let plan = match self.startable(&grant) {
            Ok(plan) => plan,
            Err((reason, detail)) => return self.decline(grant, reason, detail),
        };
        let (progress, stop) = (RunProgress::default(), CancellationToken::new());
        let (noticed, notice_of) = (self.noticed.clone(), run_id.clone());
        let run = Run {
            source: Arc::clone(&plan.source),
            secrets: Arc::new(self.resolver(&grant.pipeline)),
            target: Target {
                token: grant.token.clone(),
                start_timeout: grant.start_timeout,
                full: grant.full,
                lease,
                progress: progress.clone(),
                link: self.link.clone(),
            },
            // Best effort: a source must never wait for whoever listens.
            notices: Box::new(move |notice| drop(noticed.try_send((notice_of.clone(), notice)))),
            grant: grant.clone(),
        };
        let (pipeline, stopped) = (grant.pipeline, stop.clone());
        let traced = otel::run_span(run_id.as_str(), &pipeline, grant.attempt, grant.traceparent);
        let span = traced.in_scope(|| telemetry::run_span(plan.is_verbose, run_id.as_str(), &pipeline));
        let log = self.logs.begin(grant.token.clone());
        log.attach(&span);
        let task = async move { stopped.run_until_cancelled(run.execute()).await };
        let of_trace = traced.clone();
        let task = async move {
            let ended = task.instrument(span).await;
            otel::run_ended(&of_trace, ended.as_ref().map(|ended| &ended.end));
            ended
        };
        let task = self.runs.spawn(task.instrument(traced)).id();
        self.tell(AgentEvent::Granted {
            run_id: run_id.to_string(),
            pipeline: pipeline.clone(),
            attempt: grant.attempt,
            progress: progress.clone(),
        });
        self.running.insert(run_id, Running { token: grant.token, pipeline, progress, log, task, stop, stopped: None });
        self.publish();
    }

    fn decline(&mut self, Grant { token, pipeline, .. }: Grant, reason: Reason, detail: &str) {
        let run_id = &token.run_id;
        if reason == Reason::DRAINING {
            // It and the word that this agent leaves passed each other on the way.
            info!(%run_id, %pipeline, detail, "grant declined");
        } else {
            warn!(%run_id, %pipeline, %reason, detail, "grant declined");
        }
        self.leases.give_back(status::decline(token, reason, detail.to_owned()));
        self.offers_again_at = Some(Instant::now() + OFFER_AGAIN);
    }

    /// The plan to run, or why this agent does not.
    fn startable(&self, grant: &Grant) -> Result<Arc<Plan>, (Reason, &'static str)> {
        if self.is_leaving() {
            return Err((Reason::DRAINING, "the agent is stopping"));
        }
        if self.running.len() >= self.slots {
            return Err((Reason::BUSY, "the agent has no free slot"));
        }
        if self.running.values().any(|running| running.pipeline == grant.pipeline) {
            return Err((Reason::BUSY, "the agent runs this pipeline already"));
        }
        match self.definitions.get(&grant.pipeline) {
            Some(Planned { version, plan }) if *version == grant.definition_version => plan.clone().ok_or_else(|| {
                (hybrid_runner_connector::Reason::BadDefinition.into(), "the agent rejected this definition")
            }),
            _ => Err((Reason::BUSY, "the agent has another version of this definition")),
        }
    }

    /// Stops the runs of leases that are not this agent's any more.
    fn lose(&mut self, lost: Vec<Lost>) {
        for Lost { run_id, reason } in lost {
            let Some(running) = self.running.get_mut(&run_id) else { continue };
            let pipeline = &running.pipeline;
            if reason == Reason::CANCELLED {
                info!(%run_id, %pipeline, "the run was cancelled, stopping it");
            } else {
                warn!(%run_id, %pipeline, %reason, "lease lost, stopping the run");
            }
            running.stopped.get_or_insert_with(|| Ended::lease_lost(reason));
            running.stop.cancel();
        }
    }

    fn send_releases(&mut self) {
        self.leases.releases_due().into_iter().for_each(|release| self.outbox.push(Command::Release(release)));
    }

    /// Says how many runs can be taken now.
    fn offer(&mut self) {
        let has_room = self.leases.has_room();
        self.offers_again_at = (!has_room).then(|| Instant::now() + OFFER_AGAIN);
        let free = if self.is_leaving() || !has_room { 0 } else { self.slots.saturating_sub(self.running.len()) };
        let slots = u32::try_from(free).unwrap_or_default();
        self.outbox.push(Command::Offer { slots });
    }

    /// Shows heartbeats the leases to renew.
    fn publish(&self) {
        self.held.send_replace(
            self.running
                .values()
                .map(|running| Held {
                    token: running.token.clone(),
                    pipeline: running.pipeline.clone(),
                    progress: running.progress.clone(),
                })
                .collect(),
        );
    }

    fn tell(&self, event: AgentEvent) {
        let event = event.with_sentences(|text| self.secrets.redactor().replace_text(text));
        self.metrics.on_event(&event);
        // Without an observer there is nobody to tell.
        drop(self.observers.send(event));
    }
}
