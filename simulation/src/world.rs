//! The hosts of one seed, and what can be done to them.

mod actions;
mod agents;
mod fixtures;
mod plane;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use control_plane::store::{RunId, Store as _};
use tempfile::TempDir;
use turmoil::{Builder, Sim};

use crate::clocks::PlaneClock;
use crate::faults::Plan;
use crate::ledger::Ledger;
use crate::mutation::Mutation;
use crate::org::Org;
use crate::store::{Backup, Disk};
use agents::AgentHost;
use plane::Plane;

/// Leases of the simulation: short, so that a minute of faults outlasts many.
pub(crate) const TTL: Duration = Duration::from_secs(6);

/// Simulated time between two looks at everything: within it a host's own timers are exact, messages wait for the end.
const TICKS: [u64; 3] = [25, 50, 100];

/// See the module.
pub(crate) struct World {
    sim: Sim<'static>,
    /// What was drawn from the seed.
    pub(crate) plan: Plan,
    pub(crate) org: Arc<Org>,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    disk: Disk,
    plane: Arc<Plane>,
    agents: Vec<AgentHost>,
    pub(crate) pipelines: Vec<Pipeline>,
    backup: Option<Backup>,
    /// How long the control plane is down when it died in a transaction.
    down_after_crash: Duration,
    /// How many runs were committed when it was decided that it dies at the next one, and how long it is down then.
    dies_at_commit: Option<(u64, Duration)>,
    /// The latency of a link that is well, at most.
    latency: Duration,
    random: fastrand::Rng,
    /// The folder of the control plane's files.
    _dir: TempDir,
}

/// A pipeline as its operator wants it.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) name: String,
    pub(crate) variant: u32,
    is_enabled: bool,
    is_scheduled: bool,
}

impl World {
    /// The world of a seed.
    #[must_use]
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>, is_loud: bool) -> Self {
        // Back-offs draw from the thread's generator.
        fastrand::seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let org = Org::new(seed, &mut random);
        let ledger = Arc::new(Mutex::new(Ledger::new(Arc::clone(&org), is_loud)));
        let disk = Disk::new(Arc::clone(&ledger), mutation);
        let latency = Duration::from_millis(random.u64(5..150));
        let mut sim = Builder::new()
            .rng_seed(seed)
            .enable_random_order()
            .tick_duration(Duration::from_millis(TICKS[random.usize(..TICKS.len())]))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(latency)
            .tcp_capacity(256)
            .build();
        let dir = TempDir::new().expect("a folder for temporary files");
        let many = random.usize(1..=3);
        let pipelines: Vec<Pipeline> = (0..many)
            .map(|number| Pipeline {
                name: format!("pipeline-{number}"),
                variant: 1,
                is_enabled: true,
                is_scheduled: random.u32(..4) == 0,
            })
            .collect();
        fixtures::write(dir.path());
        let plane = Arc::new(Plane::new(dir.path(), disk.clone(), PlaneClock::default()));
        plane::add(&mut sim, &plane);
        let sources = Arc::new(Mutex::new(random.fork()));
        let agents: Vec<AgentHost> = (0..random.usize(2..=3))
            .map(|number| {
                let slots = random.u32(1..=3);
                AgentHost::add(&mut sim, number, slots, &org, &ledger, &sources)
            })
            .collect();
        let plan = Plan::draw(&mut random, agents.len(), pipelines.len());
        let world = Self {
            sim,
            plan,
            org,
            ledger,
            disk,
            plane,
            agents,
            pipelines,
            backup: None,
            down_after_crash: Duration::ZERO,
            dies_at_commit: None,
            latency,
            random,
            _dir: dir,
        };
        for pipeline in &world.pipelines {
            world.write(pipeline);
        }
        world
    }

    /// Simulated time.
    #[must_use]
    pub(crate) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets a tick of time pass, and what is due happen.
    pub(crate) fn step(&mut self) {
        let now = self.sim.elapsed();
        self.ledger.lock().unwrap().trace.now = now;
        while let Some(action) = self.plan.next(now) {
            self.act(action);
        }
        self.sim.step().expect("no host fails");
        self.look();
    }

    /// What nobody tells the ledger.
    fn look(&mut self) {
        if self.disk.has_crashed() && self.plane.is_up() {
            self.plane_died_in_a_transaction();
        }
        let commits = self.ledger.lock().unwrap().commits;
        if let Some((_, down)) = self.dies_at_commit.take_if(|(before, _)| commits > *before) {
            self.kill_plane(true, down);
        }
        if let Some(error) = self.plane.take_error() {
            self.ledger.lock().unwrap().demand(false, || format!("the control plane ended: {error}"));
        }
        let mut ledger = self.ledger.lock().unwrap();
        for agent in &mut self.agents {
            agent.look(self.sim.elapsed(), &mut ledger);
        }
    }

    /// Whether something is wrong already.
    #[must_use]
    pub(crate) fn is_broken(&self) -> bool {
        !self.ledger.lock().unwrap().violations.is_empty()
    }

    /// The runs that are not final.
    #[must_use]
    pub(crate) fn open_runs(&self) -> Vec<RunId> {
        let runs = ready(self.disk.mount().open_runs()).unwrap_or_default();
        runs.into_iter().map(|run| run.run_id).collect()
    }

    /// A run, in a few words; `None` once it is final.
    #[must_use]
    pub(crate) fn open_run(&self, run_id: RunId) -> Option<String> {
        let run = ready(self.disk.mount().run(run_id)).ok()??;
        let reason = run.reason.unwrap_or_default();
        (!run.state.is_final())
            .then(|| format!("{} is {:?} {reason}, attempt {}", run.pipeline, run.state, run.attempt))
    }

    /// What became of a run that was asked for, in a few words.
    #[must_use]
    pub(crate) fn describe(&self, pipeline: usize, run_id: Option<RunId>) -> String {
        let ended = || format!("{} has ended otherwise", self.pipelines[pipeline].name);
        run_id.map_or_else(|| "not asked for".to_owned(), |run_id| self.open_run(run_id).unwrap_or_else(ended))
    }

    /// Asks for a run of a pipeline, as an operator does on the command line.
    pub(crate) fn trigger(&mut self, pipeline: usize, full: bool) -> Option<RunId> {
        let now = self.plane.clock.at(self.sim.elapsed());
        let name = &self.pipelines[pipeline].name;
        let queued = ready(self.disk.mount().enqueue(name, full, now)).ok();
        if queued.is_some() {
            self.ledger.lock().unwrap().trace.write("triggered", name, u64::from(full));
        }
        queued
    }

    /// Whether a run was committed.
    #[must_use]
    pub(crate) fn is_committed(&self, run_id: RunId) -> bool {
        let run = ready(self.disk.mount().run(run_id)).ok().flatten();
        run.is_some_and(|run| run.state == control_plane::store::RunState::Committed && run.complete)
    }

    /// The agents that have no session with the control plane.
    #[must_use]
    pub(crate) fn disconnected(&self) -> Vec<String> {
        let known: Vec<String> = self.plane.sessions();
        let names = self.agents.iter().map(|agent| agent.name.clone());
        names.filter(|name| !known.contains(name)).collect()
    }
}

/// What a store in memory answers: it never waits.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a store in memory does not wait"),
    }
}
