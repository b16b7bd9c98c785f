//! One seed, from its first fault to the fresh run at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use control_plane::store::RunId;

use crate::mutation::Mutation;
use crate::world::World;

/// Once everything is well, every open run has ended within this time (L1), and every agent has a session (L2). An agent
/// waits up to a minute before it connects again, a lease that is lost is noticed after 11 s, a hung source goes on
/// after 25 s; a pipeline may have to wait for others.
const SETTLES: Duration = Duration::from_secs(240);

/// Then a fresh run of each pipeline is committed within this time.
const FRESH: Duration = Duration::from_secs(60);

/// What became of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// What cannot be; empty when all is well.
    pub violations: Vec<String>,
    /// The hash of what happened.
    pub hash: [u8; 32],
    /// How often what took place.
    pub counts: BTreeMap<&'static str, u64>,
    /// How much simulated time it took.
    pub simulated: Duration,
    /// What happened, a line each, if that was wanted.
    pub trace: String,
}

/// Runs one seed.
#[must_use]
pub fn simulate(seed: u64, mutation: Option<Mutation>, is_loud: bool) -> Outcome {
    let mut world = World::new(seed, mutation, is_loud);
    while world.elapsed() <= world.plan.end && !world.is_broken() {
        world.step();
    }
    if !world.is_broken() {
        world.heal();
        settle(&mut world);
    }
    if !world.is_broken() {
        begin_afresh(&mut world);
    }
    let simulated = world.elapsed();
    let mut counts = std::mem::take(&mut *world.org.seen.lock().unwrap());
    let mut ledger = world.ledger.lock().unwrap();
    counts.append(&mut ledger.counts);
    Outcome {
        violations: std::mem::take(&mut ledger.violations),
        hash: ledger.trace.hash(),
        counts,
        simulated,
        trace: std::mem::take(&mut ledger.trace.text),
    }
}

/// Everything that is open ends, and every agent comes back.
fn settle(world: &mut World) {
    let deadline = world.elapsed() + SETTLES;
    let mut open = world.open_runs();
    loop {
        open.retain(|run_id| world.open_run(*run_id).is_some());
        let away = world.disconnected();
        if (open.is_empty() && away.is_empty()) || world.is_broken() {
            return;
        }
        if world.elapsed() > deadline {
            let open: Vec<String> = open.iter().filter_map(|run_id| world.open_run(*run_id)).collect();
            let wrong =
                format!("L1, L2: {SETTLES:?} after everything healed: open {open:?}, without a session {away:?}");
            return world.ledger.lock().unwrap().demand(false, || wrong);
        }
        world.step();
    }
}

/// One fresh run of each pipeline is committed and is what the source yields.
fn begin_afresh(world: &mut World) {
    // The control plane reads a definition that was just enabled or changed within a second.
    let read = world.elapsed() + Duration::from_secs(2);
    while world.elapsed() < read {
        world.step();
    }
    let mut fresh: Vec<(usize, Option<RunId>)> = (0..world.pipelines.len()).map(|pipeline| (pipeline, None)).collect();
    let deadline = world.elapsed() + FRESH;
    while !fresh.is_empty() && !world.is_broken() {
        for (pipeline, run_id) in fresh.iter_mut().filter(|(_, run_id)| run_id.is_none()) {
            // A control plane that dies in this very transaction has not heard it.
            *run_id = world.trigger(*pipeline, false);
        }
        if world.elapsed() > deadline {
            let left: Vec<String> = fresh.iter().map(|(pipeline, run_id)| world.describe(*pipeline, *run_id)).collect();
            let wrong = format!("L1: a fresh run was not committed within {FRESH:?}: {left:?}");
            return world.ledger.lock().unwrap().demand(false, || wrong);
        }
        world.step();
        fresh.retain(|(_, run_id)| !run_id.is_some_and(|run_id| world.is_committed(run_id)));
    }
    let mut ledger = world.ledger.lock().unwrap();
    for pipeline in &world.pipelines {
        let (found, wanted) = (ledger.committed(&pipeline.name), world.org.truth(&pipeline.name, pipeline.variant));
        ledger.demand(found == *wanted, || {
            format!("I1: after a fresh run {} is not what its source yields", pipeline.name)
        });
    }
}
