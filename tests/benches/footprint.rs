//! What an agent costs that does nothing: how long it takes to its first connection attempt, what it holds and burns while
//! it is connected and has no work, and how large it is.
//!
//! `cargo bench -p hybrid-runner-tests --bench footprint` prints the table of docs/performance.md, in a minute and a half.
//! No tracer slows the start: the time is from before the `fork` to the connection at a port that only listens.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench fails loudly, prints and measures time"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hybrid_runner_tests::agent_files::AgentFiles;
use hybrid_runner_tests::bench::{build_programs, cpu_seconds, mebibytes, spread};
use hybrid_runner_tests::processes::Running;
use hybrid_runner_tests::world::World;

/// Starts that are measured.
const STARTS: usize = 15;
/// Agents that are idle side by side.
const AGENTS: usize = 3;
/// How long they are watched.
const IDLE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let programs = build_programs();
    let world = World::new().await;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(start(&world, &programs).await);
    }
    let files: Vec<_> = (0..AGENTS).map(|_| AgentFiles::of(&world, "one", world.port)).collect();
    let idle = join_all(files.iter().map(|files| idle(files, &programs))).await;
    let size = std::fs::metadata(programs.join("hybrid-runner")).unwrap().len();

    println!("| measure | goal | median (range) |");
    println!("|---|---|---|");
    println!("| start to first connection attempt, ms, {STARTS} starts | ≤ 50 | {} |", spread(starts, 1));
    let figure = |of: fn(&Idle) -> f64| idle.iter().map(of).collect::<Vec<_>>();
    println!("| idle, RSS, MiB, {AGENTS} agents | ≤ 20 | {} |", spread(figure(|idle| idle.rss), 1));
    println!("| of it pages of the program (`RssFile`), MiB | | {} |", spread(figure(|idle| idle.program), 1));
    println!("| peak RSS since the start, MiB | | {} |", spread(figure(|idle| idle.peak), 1));
    println!("| idle, CPU over {} s, % of a core | ≤ 0.5 | {} |", IDLE.as_secs(), spread(figure(|idle| idle.cpu), 2));
    println!("| stripped release binary, MB | ≤ 25 | {:.1} |", f64::from(u32::try_from(size).unwrap()) / 1e6);
    world.stop().await;
}

/// Milliseconds from before an agent's start to its first connection.
async fn start(world: &World, programs: &Path) -> f64 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let files = AgentFiles::of(world, "one", listener.local_addr().unwrap().port());
    let begun = Instant::now();
    let agent = files.start(programs);
    // Nothing else is to be done meanwhile, so that the thread may block.
    let _connection = listener.accept().unwrap();
    let taken = begun.elapsed();
    agent.kill().await;
    taken.as_secs_f64() * 1e3
}

struct Idle {
    rss: f64,
    program: f64,
    peak: f64,
    /// In per cent of a core.
    cpu: f64,
}

/// An agent that accepted a definition and is never granted a run.
async fn idle(files: &AgentFiles, programs: &Path) -> Idle {
    let mut agent: Running = files.start(programs);
    agent.until("the definition", |log| log.contains("definition accepted").then_some(())).await;
    let before = cpu_seconds(agent.id());
    tokio::time::sleep(IDLE).await;
    let id = agent.id();
    let cpu = (cpu_seconds(id) - before) / IDLE.as_secs_f64() * 100.0;
    let sizes = ["VmRSS", "RssFile", "VmHWM"].map(|key| mebibytes(id, key));
    let [rss, program, peak] = sizes;
    assert!(agent.terminate().await.success());
    Idle { rss, program, peak, cpu }
}
