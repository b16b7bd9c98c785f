//! What the benches share: the programs in release, and what Linux counts of a process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Child;

use crate::processes::{command, signal};
use crate::{PATIENCE, root};

/// Kernel ticks a second of /proc/PID/stat, which Linux fixes for user space.
const TICKS: f64 = 100.0;

/// Builds packages in release and returns the folder of their programs, or `HYBRID_RUNNER_PROGRAMS`, a folder of another
/// build to compare with.
#[must_use]
pub fn build(packages: &[&str]) -> PathBuf {
    if let Some(folder) = std::env::var_os("HYBRID_RUNNER_PROGRAMS") {
        return PathBuf::from(folder);
    }
    let status = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked"])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .current_dir(root())
        .status()
        .unwrap();
    assert!(status.success(), "{packages:?} do not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("release")
}

/// [`build`] of the three programs, chosen as `quickstart --write` does: with another choice they have other features.
#[must_use]
pub fn build_programs() -> PathBuf {
    build(&["sandbox", "control-plane", "hybrid-runner"])
}

/// A program whose instructions are counted, where `perf` can.
#[derive(Debug)]
pub struct Counted {
    /// `perf`, or the program itself.
    child: Child,
    id: u32,
    counts: PathBuf,
}

impl Counted {
    /// Starts a program in a folder. Its output goes to a file there, and what is counted beside it.
    pub async fn start(program: &Path, arguments: &[&str], dir: &Path, log: &str) -> Self {
        let (counts, id) = (dir.join(format!("{log}.counts")), dir.join(format!("{log}.id")));
        let mut start = match counts_instructions() {
            true => {
                let mut perf = command(Path::new("perf"));
                perf.args(["stat", "-x,", "-e", "instructions:u", "-o"]).arg(&counts).arg("sh");
                perf
            }
            false => command(Path::new("sh")),
        };
        start.args(["-c", r#"echo $$ > "$0.new" && mv "$0.new" "$0" && exec "$@""#]).arg(&id).arg(program);
        let file = std::fs::File::create(dir.join(log)).unwrap();
        start.args(arguments).current_dir(dir).stdout(file.try_clone().unwrap()).stderr(file);
        let child = start.stdin(Stdio::null()).spawn().unwrap();
        let id = until("the program starts", || std::fs::read_to_string(&id).ok()).await;
        Self { child, id: id.trim().parse().unwrap(), counts }
    }

    /// The program's own process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for its end; the instructions that it executed outside of the kernel.
    pub async fn ended(mut self) -> Option<u64> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "{status}: {}", self.counts.display());
        let counts = std::fs::read_to_string(&self.counts).ok()?;
        counts.lines().find(|line| line.contains("instructions"))?.split(',').next()?.parse().ok()
    }

    /// SIGTERM, then as [`Counted::ended`].
    pub async fn terminate(self) -> Option<u64> {
        signal(self.id, "TERM");
        self.ended().await
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // `perf` would be killed, and leave the program behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.id, "KILL");
        }
    }
}

/// Whether `perf` is there and this machine counts instructions.
#[must_use]
pub fn counts_instructions() -> bool {
    let tried = std::process::Command::new("perf").args(["stat", "-x,", "-e", "instructions:u", "true"]).output();
    tried.is_ok_and(|tried| {
        let text = String::from_utf8_lossy(&tried.stderr).into_owned();
        text.split(',').next().is_some_and(|count| count.trim().parse::<u64>().is_ok())
    })
}

/// Looks again and again until there is what is wanted, for [`PATIENCE`].
pub async fn until<T>(what: &str, wanted: impl FnMut() -> Option<T>) -> T {
    until_in(what, PATIENCE, wanted).await
}

/// As [`until`], for so long.
pub async fn until_in<T>(what: &str, patience: Duration, mut wanted: impl FnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let look = async {
        loop {
            looks.tick().await;
            if let Some(found) = wanted() {
                return found;
            }
        }
    };
    tokio::time::timeout(patience, look).await.unwrap_or_else(|_| panic!("waited too long for: {what}"))
}

/// CPU time of a process so far, in seconds.
#[must_use]
pub fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name in parentheses: state is field 3, utime 14, stime 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    [11, 12].map(|at: usize| fields[at].parse::<f64>().unwrap()).iter().sum::<f64>() / TICKS
}

/// A size in /proc/PID/status, such as `VmHWM`, in MiB.
#[must_use]
pub fn mebibytes(process: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.split_whitespace().next());
    size.unwrap_or_else(|| panic!("no {key} in:\n{status}")).parse::<f64>().unwrap() / 1024.0
}

/// The middle one, and the least and the greatest, as `MIDDLE (LEAST to GREATEST)`.
#[must_use]
pub fn spread(mut samples: Vec<f64>, digits: usize) -> String {
    samples.sort_by(f64::total_cmp);
    let (least, greatest) = (samples[0], samples[samples.len() - 1]);
    format!("{:.digits$} ({least:.digits$} to {greatest:.digits$})", samples[samples.len() / 2])
}
