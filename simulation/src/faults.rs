//! What goes wrong, and what operators do meanwhile: a plan drawn from the seed.

use std::collections::BTreeMap;
use std::time::Duration;

/// Something that happens to a [`World`](crate::world::World).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// An agent's process dies; `is_gone`: its machine with it, so that nobody answers for it.
    KillAgent { agent: usize, is_gone: bool, down: Duration },
    /// An agent is told to stop, as by SIGTERM.
    StopAgent { agent: usize, down: Duration },
    /// It is started again.
    StartAgent { agent: usize },
    /// The control plane's process dies; its disk stays.
    KillPlane { is_gone: bool, down: Duration },
    /// It dies in its next transaction, before the end of it.
    KillPlaneInTransaction { down: Duration },
    /// It dies as soon as it has committed a run, and nobody hears of the commit.
    KillPlaneAtCommit { down: Duration },
    /// It is started again.
    StartPlane,
    /// Its disk is copied.
    Backup,
    /// It dies, and goes on with the last copy.
    Restore { down: Duration },
    /// Nothing gets through between an agent and the control plane.
    Partition { agent: usize, length: Duration },
    /// Nothing gets through in one direction.
    Oneway { agent: usize, to_plane: bool, length: Duration },
    /// What is sent arrives when this is over.
    Hold { agent: usize, length: Duration },
    /// As [`Action::Hold`], and the agent's clock stands still: its machine is suspended and knows nothing of it.
    Suspend { agent: usize, length: Duration },
    /// The link is as it was.
    Mend { agent: usize },
    /// Everything takes so long.
    Slow { agent: usize, latency: Duration, length: Duration },
    /// An agent's clock jumps forward.
    Jump { agent: usize, by: Duration },
    /// The control plane's wall clock is set.
    StepWall { seconds: i64 },
    /// An operator wants a run.
    Trigger { pipeline: usize, full: bool },
    /// An operator ends the newest run.
    Cancel { pipeline: usize },
    /// A definition gets another variant.
    Change { pipeline: usize },
    /// A pipeline is disabled for so long.
    Disable { pipeline: usize, length: Duration },
    /// It is enabled again.
    Enable { pipeline: usize },
}

/// What happens when, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    actions: BTreeMap<(Duration, u32), Action>,
    made: u32,
    /// When everything heals.
    pub(crate) end: Duration,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub(crate) fn draw(random: &mut fastrand::Rng, agents: usize, pipelines: usize) -> Self {
        let mut plan = Self { end: seconds(random, 15, 60), ..Self::default() };
        for pipeline in 0..pipelines {
            plan.add(millis(random, 300, 4_000), Action::Trigger { pipeline, full: false });
        }
        for _ in 0..random.u32(1..6) {
            let at = plan.any_time(random);
            let (pipeline, full) = (random.usize(..pipelines), random.u32(..4) == 0);
            plan.add(at, Action::Trigger { pipeline, full });
        }
        for _ in 0..random.u32(1..10) {
            let at = plan.any_time(random);
            let fault = fault(random, agents);
            plan.add(at, fault);
        }
        for _ in 0..random.u32(..4) {
            let at = plan.any_time(random);
            let wish = wish(random, pipelines);
            plan.add(at, wish);
        }
        if random.u32(..4) == 0 {
            let at = plan.any_time(random);
            plan.add(at, Action::Backup);
            let later = at + seconds(random, 1, 15);
            plan.add(later.min(plan.end), Action::Restore { down: seconds(random, 0, 5) });
        }
        plan
    }

    /// Adds what follows from something.
    pub(crate) fn add(&mut self, at: Duration, action: Action) {
        self.made += 1;
        self.actions.insert((at, self.made), action);
    }

    /// What is due.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Action> {
        let first = self.actions.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }

    fn any_time(&self, random: &mut fastrand::Rng) -> Duration {
        Duration::from_millis(random.u64(500..self.end.as_millis() as u64))
    }
}

fn fault(random: &mut fastrand::Rng, agents: usize) -> Action {
    let agent = random.usize(..agents);
    let is_gone = random.bool();
    match random.u32(..20) {
        0..3 => Action::KillAgent { agent, is_gone, down: seconds(random, 0, 20) },
        3 => Action::StopAgent { agent, down: seconds(random, 3, 40) },
        4 | 5 => Action::KillPlane { is_gone, down: seconds(random, 0, 20) },
        6 => Action::KillPlaneInTransaction { down: seconds(random, 0, 10) },
        7 => Action::KillPlaneAtCommit { down: seconds(random, 0, 3) },
        8 | 9 => Action::Partition { agent, length: seconds(random, 1, 40) },
        10 => Action::Oneway { agent, to_plane: random.bool(), length: seconds(random, 1, 40) },
        11 | 12 => Action::Hold { agent, length: seconds(random, 1, 25) },
        13..17 => Action::Suspend { agent, length: seconds(random, 10, 28) },
        17 => Action::Slow { agent, latency: millis(random, 300, 3_000), length: seconds(random, 2, 20) },
        18 => Action::Jump { agent, by: seconds(random, 1, 400 * 86_400) },
        _ => {
            let far = random.i64(1..400 * 86_400);
            Action::StepWall { seconds: if random.bool() { far } else { -far } }
        }
    }
}

fn wish(random: &mut fastrand::Rng, pipelines: usize) -> Action {
    let pipeline = random.usize(..pipelines);
    match random.u32(..5) {
        0 | 1 => Action::Cancel { pipeline },
        2 | 3 => Action::Change { pipeline },
        _ => Action::Disable { pipeline, length: seconds(random, 1, 10) },
    }
}

fn seconds(random: &mut fastrand::Rng, from: u64, to: u64) -> Duration {
    millis(random, from * 1000, to * 1000)
}

fn millis(random: &mut fastrand::Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..=to))
}
