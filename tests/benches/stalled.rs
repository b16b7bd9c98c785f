//! What an agent holds while its control plane takes everything and acknowledges nothing.
//!
//! `cargo bench -p hybrid-runner-tests --bench stalled` prints the table of docs/performance.md, in two minutes. A tap on the
//! wire holds every acknowledgement back for a minute; heartbeats are answered meanwhile. The agents run under a limit of
//! their memory where this user may make control groups, and the runs are committed in the end.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a bench fails loudly and prints"
)]

#[path = "stalled/control_group.rs"]
mod control_group;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use control_plane::store::RunState;
use futures_util::future::{join, join_all};
use hybrid_runner_proto::v1::{PushResponse, push_response};
use hybrid_runner_tests::agent_files::AgentFiles;
use hybrid_runner_tests::bench::{build_programs, mebibytes, spread, until};
use hybrid_runner_tests::entities_with;
use hybrid_runner_tests::tap::{Tamper, Tap};
use hybrid_runner_tests::world::{PIPELINE, Setup, World};
use sandbox::OrgConfig;
use tokio::time::{Instant, sleep_until, timeout};

use self::control_group::ControlGroup;

/// The org of the goal.
const OBJECTS: usize = 10_000;
const FIELDS: usize = 30;
/// For how long nothing is acknowledged.
const STALL: Duration = Duration::from_secs(60);
/// Agents that are stalled side by side.
const SAMPLES: usize = 3;
/// What an agent may have, in bytes: the goal.
const LIMIT: u64 = 64 * 1024 * 1024;
/// In this time, reading has come to a halt.
const HALTED: Duration = Duration::from_secs(20);
/// What a run of this size takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

#[derive(Debug)]
struct Sample {
    /// MiB, at the end of the stall: the most so far, and of that what is not pages of files.
    peak: f64,
    anonymous: f64,
    /// MiB, at the end of the run.
    peak_of_run: f64,
    /// The most that was charged to the control group, in MiB, and how often its limit was met.
    charged: Option<(f64, u64)>,
    /// Objects described in the stall's last part, and in all.
    while_halted: u64,
    describes: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let programs = build_programs();
    let undisturbed = measure(&programs, Duration::ZERO);
    let stalled = join_all((0..SAMPLES).map(|_| measure(&programs, STALL)));
    let (undisturbed, stalled) = join(undisturbed, stalled).await;
    let limited = stalled.iter().all(|sample| sample.charged.is_some());
    println!("{OBJECTS} × {FIELDS}; {SAMPLES} stalled agents: median (range), MiB");
    println!(
        "{}\n",
        if limited { "each under a limit of 64 MiB" } else { "no limit: control groups cannot be made here" }
    );
    println!(
        "| the control plane | peak RSS in the stall | anonymous then | peak RSS of the run | charged to the group | limit \
         met | objects described in the stall after {} s | in all |",
        HALTED.as_secs()
    );
    println!("|---|---|---|---|---|---|---|---|");
    print("acknowledges at once, no limit", &[undisturbed]);
    print(&format!("acknowledges nothing for {} s", STALL.as_secs()), &stalled);
}

fn print(name: &str, samples: &[Sample]) {
    let figure = |of: fn(&Sample) -> f64| spread(samples.iter().map(of).collect(), 1);
    let charged: Option<Vec<_>> = samples.iter().map(|sample| sample.charged).collect();
    let (charged, met) = match charged {
        Some(charged) => {
            let most = charged.iter().map(|(most, _)| *most).collect();
            (spread(most, 1), charged.iter().map(|(_, met)| met.to_string()).collect::<Vec<_>>().join(", "))
        }
        None => ("".to_owned(), "".to_owned()),
    };
    let each =
        |of: fn(&Sample) -> u64| samples.iter().map(|sample| of(sample).to_string()).collect::<Vec<_>>().join(", ");
    println!(
        "| {name} | {} | {} | {} | {charged} | {met} | {} | {} |",
        figure(|sample| sample.peak),
        figure(|sample| sample.anonymous),
        figure(|sample| sample.peak_of_run),
        each(|sample| sample.while_halted),
        each(|sample| sample.describes),
    );
}

/// One run in a world of its own.
async fn measure(programs: &Path, stall: Duration) -> Sample {
    let org = OrgConfig { objects: OBJECTS, fields_per_object: Some(FIELDS), ..OrgConfig::default() };
    let world = World::with(Setup { org: Some(org), ..Setup::default() }).await;
    let staller = Arc::new(Staller { stall, since: OnceLock::new() });
    let tap = Tap::tampering(world.port, &world.authority, Arc::clone(&staller) as _).await;
    let files = AgentFiles::of(&world, "one", tap.port);
    let group = if stall.is_zero() { None } else { ControlGroup::with_limit(LIMIT) };
    let mut agent = match &group {
        Some(group) => group.start(&files, &programs.join("hybrid-runner")),
        None => files.start(programs),
    };
    agent.until("the definition", |log| log.contains("definition accepted").then_some(())).await;
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let since = until("the first acknowledgement", || staller.since.get().copied()).await;
    sleep_until(since + stall.min(HALTED)).await;
    let halted = world.org.requests().describes;
    sleep_until(since + stall.saturating_sub(Duration::from_millis(500))).await;
    let id = agent.id();
    assert!(agent.is_alive(), "it ended under the stall:\n{}", agent.log());
    let (peak, anonymous) = (mebibytes(id, "VmHWM"), mebibytes(id, "RssAnon"));
    let while_halted = world.org.requests().describes - halted;
    let ended = timeout(PATIENCE, world.plane.run_ended(run_id)).await.expect("the run ends").unwrap();
    // One grant: the lease was kept all the time.
    assert_eq!(
        (ended.state, ended.complete, ended.token().unwrap().fence),
        (RunState::Committed, true, 1),
        "{ended:?}"
    );
    let entities = u64::try_from(entities_with(OBJECTS)).unwrap();
    assert_eq!(ended.figures.expect("it is committed").entities, entities);
    let peak_of_run = mebibytes(id, "VmHWM");
    let charged = group.as_ref().map(|group| (group.most(), group.met()));
    assert!(agent.terminate().await.success());
    let describes = world.org.requests().describes;
    world.stop().await;
    Sample { peak, anonymous, peak_of_run, charged, while_halted, describes }
}

/// Holds back every acknowledgement until so long after the first one.
#[derive(Debug)]
struct Staller {
    stall: Duration,
    since: OnceLock<Instant>,
}

impl Tamper for Staller {
    fn held_until(&self, _stream: u64, message: &PushResponse) -> Option<Instant> {
        match message.message {
            Some(push_response::Message::Ack(_)) => Some(*self.since.get_or_init(Instant::now) + self.stall),
            _ => None,
        }
    }
}
