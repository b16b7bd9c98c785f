//! The programs themselves: built once by cargo, started, watched, killed.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{patience, root};

/// How often a program's output is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The path of one of our programs (`quickstart`, `sandbox`, `control-plane`, `hybrid-runner`), built in the profile of
/// the tests. The first call builds them, in the two steps of a user and with the very arguments of `quickstart --write`:
/// another choice of packages has other features, and cargo would take a program away and put another one in its place
/// while cases run it.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let me = std::env::current_exe().unwrap();
        // target/debug/deps/cases-HASH
        let folder = me.ancestors().nth(2).unwrap().to_owned();
        for packages in [&["quickstart"][..], &["sandbox", "control-plane", "hybrid-runner"]] {
            let status = std::process::Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--locked", "--offline", "--target-dir"])
                .arg(folder.parent().unwrap())
                .args(packages.iter().flat_map(|package| ["--package", package]))
                .current_dir(root())
                .status()
                .unwrap();
            assert!(status.success(), "{packages:?} do not build");
        }
        folder
    });
    folder.join(name)
}

/// What a program printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Its exit code.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// The last line of standard output, as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_else(|| panic!("printed nothing: {self:?}"));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{}", self.stderr))
    }
}

/// A command that inherits neither proxies nor our own settings.
#[must_use]
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let lower = name.to_ascii_lowercase();
        let ours = name.starts_with("HYBRID_RUNNER_") || name.starts_with("CONTROL_PLANE_");
        if ours || lower.ends_with("_proxy") || name.starts_with("SSL_CERT_") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn output(command: Command) -> Output {
    output_within(patience(), command).await
}

/// As [`output`], for a command that takes its time.
pub async fn output_within(patience: Duration, mut command: Command) -> Output {
    let output = tokio::time::timeout(patience, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("not done after {patience:?}: {command:?}")).unwrap();
    Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program that runs until it is stopped. Its output goes to a file.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it; output and errors go to that file.
    #[must_use]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Looks at what it printed, again and again while it runs, until the look-out finds what it wants.
    pub async fn until<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        self.until_within(patience(), what, wanted).await
    }

    /// As [`Running::until`], for what takes its time.
    pub async fn until_within<T>(&mut self, patience: Duration, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        // A file tells nobody that it grew.
        let mut ticks = tokio::time::interval(LOOK);
        let look = async {
            loop {
                ticks.tick().await;
                // Asked before the look: what it printed last is seen.
                let ended = self.child.try_wait().unwrap();
                if let Some(found) = wanted(&self.log()) {
                    return found;
                }
                assert!(ended.is_none(), "ended ({ended:?}) before: {what}\n{}", self.log());
            }
        };
        let found = tokio::time::timeout(patience, look).await.ok();
        found.unwrap_or_else(|| panic!("waited too long for: {what}\n{}", self.log()))
    }

    /// Waits for its end, and returns what it printed.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let ended = tokio::time::timeout(patience(), self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it does not end:\n{}", self.log())).unwrap();
        (status, self.log())
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal: `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(mut self) {
        self.kill_now().await;
    }

    /// As [`Running::kill`]; what it printed can still be read.
    pub async fn kill_now(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        tokio::time::timeout(patience(), self.child.wait()).await.expect("it ends on SIGTERM").unwrap()
    }
}

/// Sends a process a signal.
pub fn signal(process: u32, name: &str) {
    let arguments = [format!("-{name}"), process.to_string()];
    let status = std::process::Command::new("kill").args(&arguments).status().unwrap();
    assert!(status.success(), "kill -{name} {process}");
}
