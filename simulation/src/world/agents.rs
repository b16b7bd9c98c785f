//! The agents' hosts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hybrid_runner::{Agent, AgentConfig, AgentEvent, Connectors, LocalConfig, RunProgress, Stores};
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use super::fixtures;
use crate::clocks::AgentClock;
use crate::ledger::Ledger;
use crate::network::Wire;
use crate::org::Org;
use crate::source::Scripted;

/// How long a stopped agent lets its runs go on: not as long as most take.
const DRAIN: Duration = Duration::from_secs(4);

/// A stopped agent has left within this time (L5): its runs, two seconds for its farewell, and a little.
const LEAVES: Duration = Duration::from_secs(7);

/// Runs of an agent whose acks are watched.
const WATCHED: usize = 8;

/// How an agent's link to the control plane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Well,
    Partitioned,
    Oneway { to_plane: bool },
    Held { is_suspended: bool },
}

/// What outlives a process of an agent.
pub(super) struct AgentHost {
    pub(super) name: String,
    pub(super) clock: AgentClock,
    pub(super) link: Link,
    process: Arc<Process>,
    wire: Wire,
    /// Until when it has to leave.
    leaves_by: Option<Duration>,
    watched: VecDeque<(String, RunProgress, u64)>,
}

/// One process after the other.
struct Process {
    up: AtomicBool,
    /// Whether the one that runs now has ended.
    ended: AtomicBool,
    stop: Mutex<CancellationToken>,
    events: Mutex<Option<Receiver<AgentEvent>>>,
}

impl AgentHost {
    pub(super) fn add(
        sim: &mut Sim<'static>,
        number: usize,
        slots: u32,
        org: &Arc<Org>,
        ledger: &Arc<Mutex<Ledger>>,
        random: &Arc<Mutex<fastrand::Rng>>,
    ) -> Self {
        let name = format!("agent-{number}");
        let process = Arc::new(Process {
            up: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            stop: Mutex::default(),
            events: Mutex::default(),
        });
        let host = Self {
            name: name.clone(),
            clock: AgentClock::default(),
            link: Link::Well,
            process,
            wire: Wire::default(),
            leaves_by: None,
            watched: VecDeque::new(),
        };
        let (process, clock, wire) = (Arc::clone(&host.process), host.clock.clone(), host.wire.clone());
        let (org, ledger, random, agent) = (Arc::clone(org), Arc::clone(ledger), Arc::clone(random), name.clone());
        sim.host(name, move || {
            let (process, ledger) = (Arc::clone(&process), Arc::clone(&ledger));
            let (org, random, agent) = (Arc::clone(&org), Arc::clone(&random), agent.clone());
            let (told, name) = (Arc::clone(&ledger), agent.clone());
            let config = AgentConfig {
                control_plane: fixtures::control_plane(number),
                slots,
                drain_timeout: DRAIN,
                run_log_bytes: AgentConfig::RUN_LOG_BYTES,
                secrets: Arc::new(Stores::default()),
                salesforce: LocalConfig::default(),
                policy: None,
            };
            let connectors = Connectors::new(LocalConfig::default()).with("salesforce", move |workflow| {
                Ok(Arc::new(Scripted::plan(workflow, &agent, &org, &ledger, &random)?))
            });
            let agent = Agent::with_connectors(config, connectors)
                .with_clock(Arc::new(clock.clone()))
                .with_dial(Arc::new(wire.clone()));
            async move {
                if !process.up.load(Relaxed) {
                    return std::future::pending().await;
                }
                let stop = process.start(agent.events());
                let ended = agent.run(stop.clone()).await;
                process.ended.store(true, Relaxed);
                let is_asked = stop.is_cancelled() && ended.is_ok();
                told.lock().unwrap().demand(is_asked, || format!("{name} ended by itself: {ended:?}"));
                Ok(())
            }
        });
        host
    }

    pub(super) fn is_up(&self) -> bool {
        self.process.up.load(Relaxed)
    }

    /// Whether a process is there and was not told to stop.
    pub(super) fn is_working(&self) -> bool {
        self.is_up() && !self.process.stop.lock().unwrap().is_cancelled()
    }

    /// What runs after the host was started again.
    pub(super) fn set_up(&mut self, up: bool) {
        self.process.up.store(up, Relaxed);
        self.process.events.lock().unwrap().take();
        self.leaves_by = None;
        self.watched.clear();
    }

    /// Tells it to stop, unless it was started in this very moment: there is nobody to hear it yet.
    pub(super) fn stop(&mut self, now: Duration) {
        if self.process.events.lock().unwrap().is_none() {
            return;
        }
        self.process.stop.lock().unwrap().cancel();
        self.leaves_by = Some(now + LEAVES);
    }

    /// What nobody tells the ledger: attempts to connect, acks, how long it takes to leave.
    pub(super) fn look(&mut self, now: Duration, ledger: &mut Ledger) {
        let name = &self.name;
        ledger.demand(!self.wire.spins(), || format!("L4: {name} connects more than once a second"));
        let has_ended = self.process.ended.load(Relaxed);
        let is_late = self.leaves_by.is_some_and(|leaves_by| !has_ended && now > leaves_by);
        ledger.demand(!is_late, || format!("L5: {name} was told to stop and did not leave"));
        let mut events = self.process.events.lock().unwrap();
        while let Some(Ok(event)) = events.as_mut().map(Receiver::try_recv) {
            if let AgentEvent::Granted { run_id, progress, .. } = event {
                self.watched.push_back((run_id, progress, 0));
                if self.watched.len() > WATCHED {
                    self.watched.pop_front();
                }
            }
        }
        for (run_id, progress, seen) in &mut self.watched {
            let acked = progress.snapshot().records_acked;
            // A control plane that was restored names an older place, and has the run from there.
            let is_well = acked >= *seen || ledger.was_restored();
            ledger.demand(is_well, || format!("I5: {name}: acks went back from {seen} to {acked}"));
            if acked > *seen {
                let durable = ledger.most_durable(run_id);
                ledger.demand(acked <= durable, || format!("I5: {name} counts {acked} as durable, {durable} were"));
            }
            *seen = acked;
        }
    }
}

impl Process {
    fn start(&self, events: Receiver<AgentEvent>) -> CancellationToken {
        let stop = CancellationToken::new();
        *self.stop.lock().unwrap() = stop.clone();
        *self.events.lock().unwrap() = Some(events);
        self.ended.store(false, Relaxed);
        stop
    }
}
