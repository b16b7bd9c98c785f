//! The agent alone, measured from outside: sandbox and control plane are other processes, the org's answers are built
//! before the clock starts.
//!
//! `cargo bench -p hybrid-runner-tests --bench whole_path [-- RUNS [ORGS]]` prints the table of docs/performance.md. Wall is from
//! the agent's start to its run being committed; CPU and peak memory are the agent's own, as Linux counts them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench fails loudly, prints and measures time"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control_plane::store::{Run, SqliteStore, Store as _};
use hybrid_runner_tests::bench::{build, cpu_seconds, mebibytes};
use serde_json::Value;
use tempfile::TempDir;

/// Objects, and mean fields an object: the org in which `openmetadata-ingestion` was measured (PRODUCT.md), and a huge one
/// of objects as they are in a bare org.
const ORGS: [(u32, u32); 2] = [(1_000, 109), (10_000, 30)];
/// Milliseconds a call takes, and a describe within it.
const LATENCIES: [(u32, u32); 4] = [(0, 0), (50, 0), (150, 0), (50, 150)];
/// Only a run that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let runs = numbers.first().copied().unwrap_or(5);
    let orgs = numbers.get(1).map_or(ORGS.len(), |orgs| *orgs);
    let quickstart = build(&["quickstart"]).join("quickstart");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, median of {runs} runs\n");
    println!("| objects × fields | a call | a describe | run | wall s | CPU s | peak RSS MiB | requests | sent |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for (objects, fields) in ORGS.into_iter().take(orgs) {
        for (latency, describe) in LATENCIES {
            // Ten thousand describes of 150 ms say nothing that a thousand do not.
            if describe > 0 && objects > 1_000 {
                continue;
            }
            let mut samples: Vec<[Sample; 3]> =
                (0..runs).map(|_| measure(&quickstart, objects, fields, latency, describe)).collect();
            for (index, name) in ["first", "unchanged", "1 % changed"].iter().enumerate() {
                samples.sort_by(|a, b| a[index].wall.total_cmp(&b[index].wall));
                let Sample { wall, cpu, peak, requests, sent } = &samples[samples.len() / 2][index];
                println!(
                    "| {objects} × {fields} | {latency} ms | {describe} ms | {name} | {wall:.2} | {cpu:.2} | {peak:.0} | \
                     {requests} | {sent} |",
                );
            }
        }
    }
}

struct Sample {
    wall: f64,
    cpu: f64,
    peak: f64,
    requests: u64,
    sent: u64,
}

/// A first run, one of the unchanged org, and one after each hundredth object has a new field.
fn measure(quickstart: &Path, objects: u32, fields: u32, latency: u32, describe: u32) -> [Sample; 3] {
    let dir = TempDir::new().unwrap();
    let [objects, fields, latency, describe] = [objects, fields, latency, describe].map(|number| number.to_string());
    let written = Command::new(quickstart)
        .arg("--write")
        .arg(dir.path())
        .args(["--objects", &objects, "--latency-ms", &latency, "--describe-ms", &describe])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(written.success());
    let commands: Value = serde_json::from_slice(&std::fs::read(dir.path().join("commands.json")).unwrap()).unwrap();
    let org =
        Part::start(dir.path(), &commands[0], &["--fields-per-object", &fields, "--prepare", "67.0"], "listening on");
    let _plane = Part::start(dir.path(), &commands[1], &[], "control plane listens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(SqliteStore::open_existing(&dir.path().join("control-plane.db"))).unwrap();

    let begun = Instant::now();
    let agent = Part::start(dir.path(), &commands[2], &[], "");
    let run = runtime.block_on(committed(&store, 1));
    let first = sample(begun.elapsed(), 0.0, &agent, &run);
    let again = |count, cpu_before| {
        let plane: Vec<&str> = commands[1]["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let asked = Command::new(plane[0])
            .args(["run", "quickstart", "--config", "control-plane.yaml"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(asked.success());
        let run = runtime.block_on(committed(&store, count));
        // The control plane takes a request of another process within a second: that wait is not the agent's.
        let span = run.ended_at.unwrap().duration_since(run.started_at.unwrap());
        sample(Duration::try_from(span).unwrap(), cpu_before, &agent, &run)
    };
    let unchanged = again(2, first.cpu);
    assert_eq!(unchanged.sent, 0);
    org.change();
    let changed = again(3, first.cpu + unchanged.cpu);
    runtime.block_on(store.close());
    [first, unchanged, changed]
}

/// Waits until so many runs are committed, and returns the last.
async fn committed(store: &SqliteStore, count: usize) -> Run {
    let begun = Instant::now();
    loop {
        let runs = store.runs(Some("quickstart"), 10).await.unwrap();
        let done: Vec<_> = runs.into_iter().filter(|run| run.state.is_final()).collect();
        if done.len() >= count {
            let run = done.into_iter().next().unwrap();
            assert!(run.complete, "{run:?}");
            return run;
        }
        assert!(begun.elapsed() < PATIENCE, "the run does not end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn sample(wall: Duration, cpu_before: f64, agent: &Part, run: &Run) -> Sample {
    let figures = run.figures.unwrap();
    Sample {
        wall: wall.as_secs_f64(),
        cpu: cpu_seconds(agent.0.id()) - cpu_before,
        peak: mebibytes(agent.0.id(), "VmHWM"),
        requests: figures.summary.source_requests,
        sent: figures.sent,
    }
}

/// A process that ends with its owner.
struct Part(Child);

impl Part {
    /// Starts a command of commands.json and waits until its log holds a text.
    fn start(dir: &Path, command: &Value, more: &[&str], ready: &str) -> Self {
        let argv: Vec<&str> = command["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let log = dir.join(format!("{}.log", command["name"].as_str().unwrap()));
        let file = std::fs::File::create(&log).unwrap();
        let child = Command::new(argv[0])
            .args(&argv[1..])
            .args(more)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let part = Self(child);
        let begun = Instant::now();
        while !std::fs::read_to_string(&log).unwrap().contains(ready) {
            assert!(begun.elapsed() < PATIENCE, "{} does not start", argv[0]);
            std::thread::sleep(Duration::from_millis(10));
        }
        part
    }
}

impl Part {
    /// Has the org change each hundredth object.
    fn change(&self) {
        let sent = Command::new("kill").args(["-HUP", &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
