//! How long a run stands still whose agent is killed, and what is read twice for it.
//!
//! `cargo bench -p hybrid-runner-tests --bench takeover` prints the table of docs/performance.md, in two minutes. Two agents
//! wait for one run; the one that got it is killed in its midst, or told to leave, and the other one goes on. Control plane
//! and org are in the bench's own process, so that it sees the moments themselves and not their logs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench fails loudly, prints and measures time"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use control_plane::store::{Run, RunId, RunState, Writer};
use futures_util::future::join_all;
use hybrid_runner_tests::agent_files::AgentFiles;
use hybrid_runner_tests::bench::{build_programs, spread, until_in};
use hybrid_runner_tests::processes::Running;
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{PIPELINE, Setup, World};
use sandbox::{FaultPlan, OrgConfig};

/// Deployments that are disturbed side by side; most of their time goes into leases that have to run out.
const SAMPLES: usize = 3;
/// Objects of an org, with the fields of a real one, and how long it works on each describe: a run of seconds.
const OBJECTS: u64 = 3_000;
const FIELDS: usize = 60;
const DESCRIBE: Duration = Duration::from_millis(15);
/// Durable records at which the agent is lost, and how often they are counted.
const IN_THE_MIDDLE: u64 = 1_000;
const LOOK: Duration = Duration::from_millis(10);
/// Time to live and heartbeat of the leases.
const DEFAULT: Terms = Terms { ttl: Duration::from_secs(60), heartbeat: Duration::from_secs(15) };
const SHORT: Terms = Terms { ttl: Duration::from_secs(10), heartbeat: Duration::from_millis(2_500) };
/// A default lease, and what a busy machine adds.
const LONG: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy)]
struct Terms {
    ttl: Duration,
    heartbeat: Duration,
}

/// What happens to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Nothing,
    Kill,
    Terminate,
}

struct Sample {
    /// Seconds from the loss until the run is granted again, until the org describes again, and until the commit.
    granted: f64,
    described: f64,
    committed: f64,
    /// Records that were durable when the agent was lost.
    durable: f64,
    /// Objects described, and requests of any kind, over both agents.
    describes: u64,
    requests: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let programs = build_programs();
    let undisturbed = measure(&programs, DEFAULT, Loss::Nothing).await;
    println!(
        "{OBJECTS} × {FIELDS}, lost when {IN_THE_MIDDLE} records are durable; {SAMPLES} samples: median (range)\n"
    );
    println!(
        "| the agent | lease, heartbeat | granted again, s | reading again, s | committed, s | records durable at the loss | \
         objects described twice | requests more |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| is left alone: {} objects, {} requests | {} | | | {:.1} | | 0 | 0 |",
        undisturbed.describes, undisturbed.requests, DEFAULT, undisturbed.committed
    );
    for (name, loss, terms) in [
        ("SIGTERM, `drain_timeout: 0s`", Loss::Terminate, DEFAULT),
        ("`kill -9`", Loss::Kill, SHORT),
        ("`kill -9`", Loss::Kill, DEFAULT),
    ] {
        let samples = join_all((0..SAMPLES).map(|_| measure(&programs, terms, loss))).await;
        let figure = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<_>>();
        let more = |of: fn(&Sample) -> u64| {
            let whole = |sample| f64::from(u32::try_from(of(sample) - of(&undisturbed)).expect("it is less"));
            spread(samples.iter().map(whole).collect(), 0)
        };
        println!(
            "| {name} | {terms} | {} | {} | {} | {} | {} | {} |",
            spread(figure(|sample| sample.granted), 2),
            spread(figure(|sample| sample.described), 2),
            spread(figure(|sample| sample.committed), 1),
            spread(figure(|sample| sample.durable), 0),
            more(|sample| sample.describes),
            more(|sample| sample.requests),
        );
    }
}

/// One run in a world of its own.
async fn measure(programs: &Path, terms: Terms, loss: Loss) -> Sample {
    let org =
        OrgConfig { objects: usize::try_from(OBJECTS).unwrap(), fields_per_object: Some(8), ..OrgConfig::default() };
    let faults = FaultPlan { describe_time: DESCRIBE, ..FaultPlan::default() };
    let lease = Some((terms.ttl, terms.heartbeat));
    let world = World::with(Setup { org: Some(org), faults, lease, ..Setup::default() }).await;
    let names = ["one", "two"];
    let files = names.map(|name| AgentFiles::of(&world, name, world.port));
    let mut agents: Vec<_> = names.into_iter().zip(files.iter().map(|files| files.start(programs))).collect();
    for (_, agent) in &mut agents {
        agent.until("the definition", |log| log.contains("definition accepted").then_some(())).await;
    }
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let first = within("the run's begin", world.plane.run_when(run_id, |run| run.state == RunState::Running)).await;
    let first = first.unwrap();
    let mut begun = Instant::now();
    let (mut granted, mut described, mut durable) = (begun, begun, 0);
    if loss != Loss::Nothing {
        durable = in_the_middle(&world, &first).await;
        begun = Instant::now();
        lose(&mut agents, &first, loss).await;
        durable = durable.max(durable_at(&world, &first).await);
        (granted, described) = goes_on(&world, run_id, &first).await;
    }
    let ended = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    let committed = begun.elapsed();
    assert_eq!((ended.state, ended.complete, ended.attempt), (RunState::Committed, true, 1), "{ended:?}");
    assert_eq!(ended.agent != first.agent, loss != Loss::Nothing, "{ended:?}");
    let sample = Sample {
        granted: (granted - begun).as_secs_f64(),
        described: (described - begun).as_secs_f64(),
        committed: committed.as_secs_f64(),
        durable: f64::from(u32::try_from(durable).unwrap()),
        describes: describes(&world),
        requests: world.org.requests().total,
    };
    for (_, agent) in agents {
        agent.kill().await;
    }
    world.stop().await;
    sample
}

fn describes(world: &World) -> u64 {
    world.org.requests().describes
}

/// Waits until enough is durable; how much.
async fn in_the_middle(world: &World, run: &Run) -> u64 {
    let mut looks = tokio::time::interval(LOOK);
    let wait = async {
        loop {
            looks.tick().await;
            let durable = durable_at(world, run).await;
            if durable >= IN_THE_MIDDLE {
                return durable;
            }
        }
    };
    within("the middle of the run", wait).await
}

/// How many records of the run are durable.
async fn durable_at(world: &World, run: &Run) -> u64 {
    let writer = Writer { agent: run.agent.clone().unwrap(), token: run.token().unwrap() };
    // Opening a push tells, and changes nothing; an agent that hands back is quicker at times.
    world.plane.store().open(&writer).await.map_or(0, |opened| opened.next_seq)
}

/// The agent that has the run is lost.
async fn lose(agents: &mut [(&str, Running)], run: &Run, loss: Loss) {
    let (_, agent) = agents.iter_mut().find(|(name, _)| run.agent.as_deref() == Some(name)).expect("a known agent");
    assert!(agent.is_alive());
    match loss {
        Loss::Nothing => {}
        Loss::Kill => agent.kill_now().await,
        Loss::Terminate => agent.signal("TERM"),
    }
}

/// When the run is granted again, and when the org describes again.
async fn goes_on(world: &World, run_id: RunId, first: &Run) -> (Instant, Instant) {
    let wanted = |run: &Run| run.agent != first.agent && run.state.is_active();
    let again = tokio::time::timeout(LONG, world.plane.run_when(run_id, wanted)).await;
    let granted = Instant::now();
    again.expect("another agent is granted the run").unwrap();
    // What the first one had asked for was answered before, but where it left a moment ago.
    let before = describes(world);
    until_in("the org to describe again", LONG, || (describes(world) > before).then_some(())).await;
    (granted, Instant::now())
}

impl std::fmt::Display for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s, {} s", self.ttl.as_secs_f64(), self.heartbeat.as_secs_f64())
    }
}
