//! One agent that streams entities as fast as the control plane makes them durable.
//!
//! `cargo bench -p hybrid-runner-tests --bench push_throughput` prints the tables of docs/performance.md, in two minutes.
//! The agent is the library with a source that has every entity ready, the control plane the library on SQLite, each a
//! process of its own (this program again); between them mutual TLS, and for some rows a relay that makes each byte late.
//! What is timed is from the first entity to the acknowledgement of the last one, and to the commit.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a bench fails loudly, prints and measures time"
)]

#[path = "push_throughput/agent.rs"]
mod agent;
#[path = "push_throughput/far.rs"]
mod far;
#[path = "push_throughput/plane.rs"]
mod plane;

use std::path::Path;
use std::time::Duration;

use hybrid_runner_tests::bench::{Counted, cpu_seconds, spread, until};
use hybrid_runner_tests::certificates::Authority;
use hybrid_runner_tests::world::{pipeline_yaml, write, write_plane_files};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::far::Far;

/// Bytes of an entity, and how many: 200 MB, more than one write-ahead log.
const SHAPES: [(usize, usize); 2] = [(4 * 1024, 50_000), (20 * 1000, 10_000)];
/// Milliseconds to the control plane and back.
const ROUND_TRIPS: [u64; 2] = [0, 50];
const SAMPLES: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some(agent::ROLE) => return agent::run(&arguments[1..]).await,
        Some(plane::ROLE) => return plane::run().await,
        _ => {}
    }
    let samples = arguments.first().map_or(SAMPLES, |samples| samples.parse().unwrap());
    println!(
        "| entity | round trip | durable and acked, entities/s | MB/s | with the commit, entities/s | entities a batch | \
         window, MiB | on the wire, % | agent, k instructions an entity | control plane | agent, CPU s | control plane |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (size, count) in SHAPES {
        for round_trip in ROUND_TRIPS {
            let mut taken = Vec::new();
            for _ in 0..samples {
                taken.push(measure(size, count, Duration::from_millis(round_trip)).await);
            }
            print(size, count, round_trip, &taken);
        }
    }
}

struct Sample {
    /// Seconds until everything is acknowledged, and until it is committed.
    acked: f64,
    committed: f64,
    batches: f64,
    /// Bytes that waited for an acknowledgement, at most.
    window: f64,
    /// Bytes from the agent through the relay; none without one.
    wire: Option<f64>,
    /// Instructions of agent and control plane.
    instructions: Option<[f64; 2]>,
    /// Seconds of CPU of both.
    cpu: [f64; 2],
}

fn print(size: usize, count: usize, round_trip: u64, samples: &[Sample]) {
    let count = f64::from(u32::try_from(count).unwrap());
    let bytes = count * f64::from(u32::try_from(size).unwrap());
    let figure = |of: &dyn Fn(&Sample) -> f64, digits| spread(samples.iter().map(of).collect(), digits);
    let middle = |of: &dyn Fn(&Sample) -> Option<f64>, digits| {
        let known: Option<Vec<f64>> = samples.iter().map(of).collect();
        let spread = known.map(|known| spread(known, digits));
        spread.and_then(|text| text.split(' ').next().map(str::to_owned)).unwrap_or_else(|| "not counted".to_owned())
    };
    println!(
        "| {size} B | {round_trip} ms | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        figure(&|sample| count / sample.acked, 0),
        middle(&|sample| Some(bytes / sample.acked / 1e6), 0),
        middle(&|sample| Some(count / sample.committed), 0),
        middle(&|sample| Some(count / sample.batches), 0),
        middle(&|sample| Some(sample.window / 1024.0 / 1024.0), 1),
        middle(&|sample| sample.wire.map(|wire| wire / bytes * 100.0), 0),
        middle(&|sample| sample.instructions.map(|[agent, _]| agent / count / 1e3), 0),
        middle(&|sample| sample.instructions.map(|[_, plane]| plane / count / 1e3), 0),
        middle(&|sample| Some(sample.cpu[0]), 1),
        middle(&|sample| Some(sample.cpu[1]), 1),
    );
}

/// One run over a fresh control plane.
async fn measure(size: usize, count: usize, round_trip: Duration) -> Sample {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    write_plane_files(dir.path(), &authority, None, None);
    write(dir.path(), "pipelines/crm.yaml", &pipeline_yaml(""));
    let pair = authority.agent("one");
    write(dir.path(), "agent.pem", &pair.certificate);
    write(dir.path(), "agent.key", &pair.key);
    let me = std::env::current_exe().unwrap();
    let plane = Counted::start(&me, &[plane::ROLE], dir.path(), "plane").await;
    let port = port_in(dir.path(), "port=").await;
    let probes = port_in(dir.path(), "probes=").await;
    let far = if round_trip.is_zero() { None } else { Some(Far::before(port, round_trip / 2).await) };
    let port = far.as_ref().map_or(port, |far| far.port).to_string();

    let [size, count] = [size, count].map(|number| number.to_string());
    let agent = Counted::start(&me, &[agent::ROLE, &port, &count, &size], dir.path(), "agent").await;
    let agent = agent.ended().await;

    let figures = std::fs::read_to_string(dir.path().join("agent")).unwrap();
    let figures: Value = serde_json::from_str(figures.lines().last().unwrap()).unwrap();
    let figure = |key: &str| figures[key].as_f64().unwrap_or_else(|| panic!("no {key} in {figures}"));
    let batches = counter(probes, "batches_total{outcome=\"applied\"}").await;
    let plane_cpu = cpu_seconds(plane.id());
    let instructions = agent.zip(plane.terminate().await);
    Sample {
        acked: figure("acked"),
        committed: figure("committed"),
        batches,
        window: figure("window"),
        wire: far.map(|far| far.bytes_up()),
        #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
        instructions: instructions.map(|(agent, plane)| [agent as f64, plane as f64]),
        cpu: [figure("cpu"), plane_cpu],
    }
}

/// The number behind a text in the control plane's log.
async fn port_in(dir: &Path, text: &str) -> u16 {
    until("the control plane listens", || {
        let log = std::fs::read_to_string(dir.join("plane")).ok()?;
        let (_, rest) = log.split_once(text)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    })
    .await
}

/// A counter of the control plane's page for scrapes.
async fn counter(port: u16, name: &str) -> f64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let line = page.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in:\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
