//! The agent alone, measured from outside: sandbox and control plane are other processes, the org's answers are built
//! before the clock starts.
//!
//! `cargo bench -p hybrid-runner-tests --bench whole_path [-- RUNS]` prints the table of docs/performance.md. Wall is from
//! the agent's start to its run being committed; CPU and peak memory are the agent's own, as Linux counts them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench fails loudly, prints and measures time"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control_plane::store::{Run, SqliteStore, Store as _};
use hybrid_runner_tests::root;
use serde_json::Value;
use tempfile::TempDir;

const OBJECTS: &str = "1000";
/// Mean fields an object, as in the measurement of `openmetadata-ingestion` that PRODUCT.md compares with.
const FIELDS: &str = "109";
/// Kernel ticks a second of /proc/PID/stat, which Linux fixes for user space.
const TICKS: f64 = 100.0;
/// Only a run that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let runs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let quickstart = build();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{OBJECTS} objects, {FIELDS} fields an object on average, {cores} cores, median of {runs} runs\n");
    println!("| a call | a describe | run | wall s | CPU s | peak RSS MiB | requests | entities | entities/s |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for (latency, describe) in [(0, 0), (50, 0), (0, 150), (50, 150)] {
        let mut samples: Vec<[Sample; 2]> = (0..runs).map(|_| measure(&quickstart, latency, describe)).collect();
        for (index, name) in ["first", "unchanged"].iter().enumerate() {
            samples.sort_by(|a, b| a[index].wall.total_cmp(&b[index].wall));
            let middle = &samples[samples.len() / 2][index];
            println!(
                "| {latency} ms | {describe} ms | {name} | {:.2} | {:.2} | {:.0} | {} | {} | {:.0} |",
                middle.wall,
                middle.cpu,
                middle.peak,
                middle.requests,
                middle.entities,
                middle.entities as f64 / middle.wall
            );
        }
    }
}

struct Sample {
    wall: f64,
    cpu: f64,
    peak: f64,
    requests: u64,
    entities: u64,
}

/// Builds everything in release and returns the path of `quickstart`.
fn build() -> PathBuf {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--package", "quickstart"])
        .current_dir(root())
        .status()
        .unwrap();
    assert!(status.success(), "the programs do not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("release/quickstart")
}

/// One first run and one run of the unchanged org.
fn measure(quickstart: &Path, latency: u32, describe: u32) -> [Sample; 2] {
    let dir = TempDir::new().unwrap();
    let (latency, describe) = (latency.to_string(), describe.to_string());
    let written = Command::new(quickstart)
        .arg("--write")
        .arg(dir.path())
        .args(["--objects", OBJECTS, "--latency-ms", &latency, "--describe-ms", &describe])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(written.success());
    let commands: Value = serde_json::from_slice(&std::fs::read(dir.path().join("commands.json")).unwrap()).unwrap();
    let _org =
        Part::start(dir.path(), &commands[0], &["--fields-per-object", FIELDS, "--prepare", "67.0"], "listening on");
    let _plane = Part::start(dir.path(), &commands[1], &[], "control plane listens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(SqliteStore::open_existing(&dir.path().join("control-plane.db"))).unwrap();

    let begun = Instant::now();
    let agent = Part::start(dir.path(), &commands[2], &[], "");
    let first = runtime.block_on(committed(&store, 1));
    let first = sample(begun.elapsed(), 0.0, &agent, &first);

    let cpu_before = first.cpu;
    let plane: Vec<&str> = commands[1]["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let begun = Instant::now();
    let asked = Command::new(plane[0])
        .args(["run", "quickstart", "--config", "control-plane.yaml"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(asked.success());
    let second = runtime.block_on(committed(&store, 2));
    // The control plane takes a request of another process within a second: that wait is not the agent's.
    let _asked_and_waited = begun.elapsed();
    let span = second.ended_at.unwrap().duration_since(second.started_at.unwrap());
    let wall = Duration::try_from(span).unwrap();
    let second = sample(wall, cpu_before, &agent, &second);
    runtime.block_on(store.close());
    [first, second]
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
    let proc = PathBuf::from(format!("/proc/{}", agent.0.id()));
    let stat = std::fs::read_to_string(proc.join("stat")).unwrap();
    // Behind the name in parentheses: state is field 3, utime 14, stime 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = [11, 12].map(|at: usize| fields[at].parse::<f64>().unwrap()).iter().sum();
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()).unwrap();
    let figures = run.figures.unwrap();
    Sample {
        wall: wall.as_secs_f64(),
        cpu: ticks / TICKS - cpu_before,
        peak: peak.parse::<f64>().unwrap() / 1024.0,
        requests: figures.summary.source_requests,
        entities: figures.sent + figures.unchanged,
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

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
