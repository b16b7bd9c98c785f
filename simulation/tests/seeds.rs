//! Many seeds. `SIMULATION_SEED=n` replays one and prints what happened; `SIMULATION_SEEDS=n` sets how many,
//! `SIMULATION_FROM=n` which is the first (an even one), so that very many can be run in parts.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a person reads which seeds failed")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use simulation::mutation::Mutation;
use simulation::{Outcome, simulate};

/// Seeds of `./test`.
const SEEDS: u64 = 2_000;

/// So many more run at most, until everything that has to take place did: a commit that is asked for again comes in two of
/// a thousand seeds.
const MORE: u64 = 6_000;

/// One seed in so many runs twice.
const TWICE: u64 = 20;

/// A seed is replayed so often, or until it fails: its runs differ in what `select!` and watches draw.
const REPLAYS: usize = 20;

/// After so many seeds of each half somebody who waits is told how far it is.
const TOLD_EACH: u64 = 1_000;

/// A deliberate fault is found within so many seeds. Most are by the first ones; that a fence is ignored shows when an agent
/// comes back late with an old grant, in one of some 150.
const FOUND_WITHIN: u64 = SEEDS;

/// What has to take place in the course of all seeds: a fault that hits nothing proves nothing.
const TAKES_PLACE: [&str; 36] = [
    "a checkpoint was not usable",
    "a commit was asked for again",
    "a definition changed in a run",
    "a lease was lost",
    "a link was slow in a run",
    "a pipeline was disabled",
    "a pipeline was enabled again",
    "a pipeline was held",
    "a reading went on from a checkpoint",
    "a run began again clean",
    "a run deleted",
    "a run found something unchanged",
    "a run was committed",
    "a run was handed back by an agent that stops",
    "a run was tried again after a pause",
    "a run went on from its checkpoint",
    "a schedule fired",
    "a source failed for a while",
    "a source hung",
    "a source refused",
    "a stale write was refused",
    "an agent heard nothing in a run",
    "an agent was cut off in a run",
    "an agent was killed in a run",
    "an agent was not heard in a run",
    "an agent was suspended in a run",
    "an agent was told to stop in a run",
    "an agent's clock jumped in a run",
    "an incomplete run was committed",
    "an object could not be read",
    "an older copy of the disk was restored",
    "an operator cancelled a run in progress",
    "messages were held in a run",
    "the control plane died in a transaction",
    "the control plane was killed with records staged",
    "the control plane's wall clock was set",
];

#[test]
fn whatever_happens_what_is_committed_is_what_the_source_yields_even_seeds() {
    run_shard(0);
}

#[test]
fn whatever_happens_what_is_committed_is_what_the_source_yields_odd_seeds() {
    run_shard(1);
}

#[test]
fn each_deliberate_fault_of_the_store_is_found() {
    if variable("SIMULATION_SEED").is_some() {
        println!("not run: one seed is replayed");
        return;
    }
    for mutation in Mutation::ALL {
        let found = (0..FOUND_WITHIN).find_map(|seed| {
            let outcome = simulate(seed, Some(mutation), false);
            outcome.violations.into_iter().next().map(|violation| (seed, violation))
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutation:?} is not found in {FOUND_WITHIN} seeds"));
        println!("{mutation:?}: seed {seed}: {violation}");
    }
}

/// Runs half of the seeds.
fn run_shard(shard: u64) {
    if let Some(seed) = variable("SIMULATION_SEED") {
        match seed % 2 {
            parity if parity == shard => replay(seed),
            _ => println!("not run: seed {seed} is replayed by the other half"),
        }
        return;
    }
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut twice, mut differ, mut failed) = (0, Vec::new(), Vec::new());
    let mut simulated = std::time::Duration::ZERO;
    let (first, seeds) = (variable("SIMULATION_FROM").unwrap_or(0), variable("SIMULATION_SEEDS").unwrap_or(SEEDS));
    assert!(first.is_multiple_of(2), "SIMULATION_FROM={first} is odd; accepted: the first seed of the even half");
    let end = first + seeds;
    let absent = |counts: &BTreeMap<&'static str, u64>| -> Vec<&'static str> {
        TAKES_PLACE.iter().copied().filter(|what| seeds >= SEEDS && !counts.contains_key(what)).collect()
    };
    for seed in (first + shard..end + MORE).step_by(2) {
        // What is rare may take place only in some seeds more.
        if seed >= end && absent(&counts).is_empty() {
            break;
        }
        if (seed / 2).is_multiple_of(TOLD_EACH) {
            println!("seed {seed} of those below {end}, {} failed so far", failed.len());
        }
        let outcome = run(seed, false);
        if !outcome.violations.is_empty() {
            println!("seed {seed}: {:?}\nreplay: SIMULATION_SEED={seed} ./test simulation", outcome.violations);
            failed.push(seed);
        }
        if (seed / 2).is_multiple_of(TWICE) {
            twice += 1;
            if simulate(seed, None, false).hash != outcome.hash {
                differ.push(seed);
            }
        }
        simulated += outcome.simulated;
        for (what, times) in outcome.counts {
            *counts.entry(what).or_default() += times;
        }
    }
    println!(
        "{} hours simulated; of {twice} seeds that ran twice, {} differ: {differ:?}",
        simulated.as_secs() / 3600,
        differ.len()
    );
    println!("{counts:#?}");
    assert!(failed.is_empty(), "{} seeds failed: {failed:?}", failed.len());
    let absent = absent(&counts);
    assert!(absent.is_empty(), "this never took place: {absent:?}");
}

/// Runs one seed loudly.
fn replay(seed: u64) {
    let level = tracing::Level::INFO;
    drop(tracing_subscriber::fmt().with_max_level(level).without_time().with_test_writer().try_init());
    for _ in 0..REPLAYS {
        let outcome = run(seed, true);
        println!("{}\n{:#?}", outcome.trace, outcome.counts);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
    }
}

/// A panic is a violation: the seed has to be told.
fn run(seed: u64, is_loud: bool) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| simulate(seed, None, is_loud))).unwrap_or_else(|panic| {
        println!("seed {seed} panicked; replay: SIMULATION_SEED={seed} ./test simulation");
        std::panic::resume_unwind(panic)
    })
}

#[expect(clippy::disallowed_methods, reason = "how a person chooses seeds")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}
