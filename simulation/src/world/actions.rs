//! What a plan does to a world. Each fault is counted when it hits something, not when it was planned.

use std::time::Duration;

use control_plane::store::Store as _;

use super::agents::Link;
use super::fixtures::{PLANE, pipeline_file};
use super::{Pipeline, World, ready};
use crate::faults::Action;
use crate::ledger::WALL_SET;

/// Variants that a definition goes through.
const VARIANTS: u32 = 4;

impl World {
    /// Does it.
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::KillAgent { agent, is_gone, down } => self.kill_agent(agent, is_gone, down),
            Action::StopAgent { agent, down } => self.stop_agent(agent, down),
            Action::StartAgent { agent } => self.start_agent(agent),
            Action::KillPlane { is_gone, down } => self.kill_plane(is_gone, down),
            Action::KillPlaneInTransaction { down } => {
                self.down_after_crash = down;
                self.disk.crash_in_next_transaction();
            }
            Action::KillPlaneAtCommit { down } => {
                self.dies_at_commit = Some((self.ledger.lock().unwrap().commits, down));
            }
            Action::StartPlane => self.start_plane(),
            Action::Backup => self.backup = Some(self.disk.backup()),
            Action::Restore { down } => self.restore(down),
            Action::Partition { agent, length } => self.cut(agent, Link::Partitioned, length),
            Action::Oneway { agent, to_plane, length } => self.cut(agent, Link::Oneway { to_plane }, length),
            Action::Hold { agent, length } => self.cut(agent, Link::Held { is_suspended: false }, length),
            Action::Suspend { agent, length } => self.cut(agent, Link::Held { is_suspended: true }, length),
            Action::Mend { agent } => self.mend(agent),
            Action::Slow { agent, latency, length } => self.slow(agent, latency, length),
            Action::Jump { agent, by } => {
                self.agents[agent].clock.jump(by);
                self.count_if_busy(agent, "an agent's clock jumped in a run");
            }
            Action::StepWall { seconds } => {
                self.plane.clock.step(seconds);
                self.count(WALL_SET);
            }
            Action::Trigger { pipeline, full } => {
                self.trigger(pipeline, full);
            }
            Action::Cancel { pipeline } => self.cancel(pipeline),
            Action::Change { pipeline } => self.change(pipeline),
            Action::Disable { pipeline, length } => {
                self.enable(pipeline, false);
                self.later(length, Action::Enable { pipeline });
            }
            Action::Enable { pipeline } => self.enable(pipeline, true),
        }
    }

    /// Ends every fault.
    pub(crate) fn heal(&mut self) {
        self.ledger.lock().unwrap().trace.write("healed", "", 0);
        self.org.heal();
        self.dies_at_commit = None;
        for agent in 0..self.agents.len() {
            self.mend(agent);
            self.slow(agent, self.latency, Duration::ZERO);
            self.start_agent(agent);
        }
        self.start_plane();
        for pipeline in 0..self.pipelines.len() {
            self.enable(pipeline, true);
        }
    }

    /// The control plane met its end between two writes of a transaction.
    pub(super) fn plane_died_in_a_transaction(&mut self) {
        self.count("the control plane died in a transaction");
        self.kill_plane(false, self.down_after_crash);
    }

    fn kill_agent(&mut self, agent: usize, is_gone: bool, down: Duration) {
        if !self.agents[agent].is_up() {
            return;
        }
        self.count_if_busy(agent, "an agent was killed in a run");
        let (name, link) = (self.agents[agent].name.clone(), self.agents[agent].link);
        self.note("kill", &name);
        self.agents[agent].set_up(false);
        if is_gone {
            // Nobody says goodbye for a machine that is gone.
            if link == Link::Well {
                self.sim.partition(name.as_str(), PLANE);
                self.sim.crash(name.as_str());
                self.sim.repair(name.as_str(), PLANE);
            } else {
                self.sim.crash(name.as_str());
            }
        } else {
            self.sim.bounce(name.as_str());
        }
        self.later(down, Action::StartAgent { agent });
    }

    fn stop_agent(&mut self, agent: usize, down: Duration) {
        if self.agents[agent].is_working() {
            self.count_if_busy(agent, "an agent was told to stop in a run");
            let now = self.sim.elapsed();
            self.agents[agent].stop(now);
            self.note("stop", &self.agents[agent].name.clone());
            self.later(down, Action::StartAgent { agent });
        }
    }

    fn start_agent(&mut self, agent: usize) {
        if !self.agents[agent].is_working() {
            self.agents[agent].set_up(true);
            let name = self.agents[agent].name.clone();
            self.note("start", &name);
            self.sim.bounce(name);
        }
    }

    pub(super) fn kill_plane(&mut self, is_gone: bool, down: Duration) {
        if !self.plane.is_up() {
            return;
        }
        let has_staged = self.ledger.lock().unwrap().has_staged();
        if has_staged {
            self.count("the control plane was killed with records staged");
        }
        self.note("kill", PLANE);
        self.plane.set_up(false);
        self.disk.crash();
        if is_gone {
            let well = self.agents.iter().filter(|agent| agent.link == Link::Well);
            let well: Vec<String> = well.map(|agent| agent.name.clone()).collect();
            for name in &well {
                self.sim.partition(name.as_str(), PLANE);
            }
            self.sim.crash(PLANE);
            for name in &well {
                self.sim.repair(name.as_str(), PLANE);
            }
        } else {
            self.sim.bounce(PLANE);
        }
        self.later(down, Action::StartPlane);
    }

    fn start_plane(&mut self) {
        if !self.plane.is_up() {
            self.note("start", PLANE);
            self.plane.set_up(true);
            self.sim.bounce(PLANE);
        }
    }

    fn restore(&mut self, down: Duration) {
        let Some(backup) = self.backup.take() else { return };
        self.kill_plane(false, down);
        self.disk.restore(backup);
    }

    fn cut(&mut self, agent: usize, link: Link, length: Duration) {
        if self.agents[agent].link != Link::Well {
            return;
        }
        let name = self.agents[agent].name.clone();
        self.note(&format!("{link:?}"), &name);
        let (host, now) = (name.as_str(), self.sim.elapsed());
        self.agents[agent].link = link;
        let what = match link {
            Link::Well => return,
            Link::Partitioned => {
                self.sim.partition(host, PLANE);
                "an agent was cut off in a run"
            }
            Link::Oneway { to_plane: true } => {
                self.sim.partition_oneway(host, PLANE);
                "an agent was not heard in a run"
            }
            Link::Oneway { to_plane: false } => {
                self.sim.partition_oneway(PLANE, host);
                "an agent heard nothing in a run"
            }
            Link::Held { is_suspended } => {
                self.sim.hold(host, PLANE);
                if is_suspended {
                    self.agents[agent].clock.freeze(now);
                }
                if is_suspended { "an agent was suspended in a run" } else { "messages were held in a run" }
            }
        };
        self.count_if_busy(agent, what);
        self.later(length, Action::Mend { agent });
    }

    fn mend(&mut self, agent: usize) {
        let name = self.agents[agent].name.clone();
        let (host, now) = (name.as_str(), self.sim.elapsed());
        match std::mem::replace(&mut self.agents[agent].link, Link::Well) {
            Link::Well => return,
            Link::Partitioned => self.sim.repair(host, PLANE),
            Link::Oneway { to_plane: true } => self.sim.repair_oneway(host, PLANE),
            Link::Oneway { to_plane: false } => self.sim.repair_oneway(PLANE, host),
            Link::Held { .. } => self.sim.release(host, PLANE),
        }
        self.agents[agent].clock.thaw(now);
        self.note("mended", &name);
    }

    fn slow(&mut self, agent: usize, latency: Duration, length: Duration) {
        let name = self.agents[agent].name.clone();
        self.sim.set_link_max_message_latency(name.as_str(), PLANE, latency);
        if !length.is_zero() {
            self.count_if_busy(agent, "a link was slow in a run");
            self.later(length, Action::Slow { agent, latency: self.latency, length: Duration::ZERO });
        }
    }

    fn cancel(&mut self, pipeline: usize) {
        let (disk, name) = (self.disk.mount(), &self.pipelines[pipeline].name);
        let Ok(runs) = ready(disk.runs(Some(name), 1)) else { return };
        let Some(run) = runs.first().filter(|run| !run.state.is_final()) else { return };
        let now = self.plane.clock.at(self.sim.elapsed());
        if run.state.is_active() && ready(disk.cancel(run.run_id, now)).is_ok() {
            self.count("an operator cancelled a run in progress");
        }
    }

    fn change(&mut self, pipeline: usize) {
        let variant = self.pipelines[pipeline].variant;
        self.pipelines[pipeline].variant = variant % VARIANTS + self.random.u32(1..=2);
        self.write(&self.pipelines[pipeline]);
        let name = self.pipelines[pipeline].name.clone();
        self.note("changed", &name);
        self.count("a definition changed");
        let is_running = self.ledger.lock().unwrap().holder(&name).is_some();
        if is_running {
            self.count("a definition changed in a run");
        }
    }

    fn enable(&mut self, pipeline: usize, is_enabled: bool) {
        if self.pipelines[pipeline].is_enabled != is_enabled {
            self.pipelines[pipeline].is_enabled = is_enabled;
            self.write(&self.pipelines[pipeline]);
            self.count(if is_enabled { "a pipeline was enabled again" } else { "a pipeline was disabled" });
        }
    }

    /// Writes a pipeline's file; the control plane reads it within a second.
    pub(super) fn write(&self, pipeline: &Pipeline) {
        let Pipeline { name, variant, is_enabled, is_scheduled } = pipeline;
        let text = pipeline_file(name, *variant, *is_enabled, *is_scheduled);
        let file = self.plane.dir.join("pipelines").join(format!("{name}.yaml"));
        std::fs::write(file, text).expect("the folder is writable");
    }

    fn later(&mut self, after: Duration, action: Action) {
        let at = self.sim.elapsed() + after;
        self.plan.add(at, action);
    }

    fn note(&self, what: &str, of: &str) {
        self.ledger.lock().unwrap().trace.write(what, of, 0);
    }

    fn count(&self, what: &'static str) {
        self.ledger.lock().unwrap().count(what);
    }

    fn count_if_busy(&self, agent: usize, what: &'static str) {
        let mut ledger = self.ledger.lock().unwrap();
        if ledger.is_busy(&self.agents[agent].name) {
            ledger.count(what);
        }
    }
}
