//! The separate programs, as they are really deployed: what `quickstart --write` wrote, in another folder.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::logs::unexpected;
use crate::processes::{Output, Running, command, output, program};
use crate::world::{parse_export, write};

/// What `quickstart --write` wrote, copied to another folder; the first one is gone.
#[derive(Debug)]
pub struct Deployment {
    /// Where the copy is.
    pub dir: TempDir,
    /// The programs, with their arguments, in starting order.
    pub commands: Vec<(String, Vec<String>)>,
}

/// An org whose describes take their time, so that a run lasts for seconds and sends many batches.
pub const SLOW: [&str; 4] = ["--objects", "240", "--describe-ms", "15"];

/// Files of a deployment in which some tests change a line: the control plane's configuration, and the pipeline.
pub const PLANE: &str = "control-plane.yaml";
/// See [`PLANE`].
pub const PIPELINE: &str = "pipelines/quickstart.yaml";

impl Deployment {
    /// One for an org of this kind, on a schedule that never falls due; a run is queued already.
    pub async fn written(org: &[&str]) -> Self {
        let first = TempDir::new().unwrap();
        let mut quickstart = command(&program("quickstart"));
        quickstart.arg("--write").arg(first.path()).args(["--latency-ms", "0"]).args(org);
        let written = output(quickstart).await;
        assert_eq!(written.code(), 0, "{written:?}");
        let dir = TempDir::new().unwrap();
        copy(first.path(), dir.path());
        drop(first);
        let commands: Vec<Value> = serde_json::from_str(&read(dir.path(), "commands.json")).unwrap();
        let argv = |command: &Value| {
            let argv = command["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
            (command["name"].as_str().unwrap().to_owned(), argv.collect())
        };
        let deployment = Self { commands: commands.iter().map(argv).collect(), dir };
        // A minute may begin during any case; the run that is queued already needs no schedule.
        deployment.change(PIPELINE, "cron: '* * * * *'", "cron: '0 0 1 1 *'");
        deployment
    }

    /// Changes a line of a file.
    pub fn change(&self, file: &str, from: &str, to: &str) {
        let text = read(self.dir.path(), file);
        assert!(text.contains(from), "{file} has no {from}:\n{text}");
        write(self.dir.path(), file, &text.replace(from, to));
    }

    /// Starts one of the commands, in the copy; its output goes to a file of this name.
    #[must_use]
    pub fn start(&self, name: &str, log: &str) -> Running {
        self.start_with(name, log, &[])
    }

    /// Starts one of the commands with more in its environment.
    #[must_use]
    pub fn start_with(&self, name: &str, log: &str, variables: &[(&str, &str)]) -> Running {
        let (_, argv) = self.commands.iter().find(|(known, _)| known == name).unwrap();
        self.run_with(argv, log, variables)
    }

    /// Starts another command, as [`Deployment::start`].
    #[must_use]
    pub fn run(&self, argv: &[String], log: &str) -> Running {
        self.run_with(argv, log, &[])
    }

    fn run_with(&self, argv: &[String], log: &str, variables: &[(&str, &str)]) -> Running {
        let mut start = command(Path::new(&argv[0]));
        // Batches are at debug; nothing is waited for but what the log says.
        start.args(&argv[1..]).current_dir(self.dir.path()).env("CONTROL_PLANE_LOG", "info,control_plane=debug");
        start.envs(variables.iter().copied());
        Running::start(start, &self.dir.path().join(log))
    }

    /// The value of a key of the agent's configuration, of whatever section.
    #[must_use]
    pub fn agent_setting(&self, key: &str) -> String {
        let text = read(self.dir.path(), "hybrid-runner.yaml");
        let value = text.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{key}: ")));
        value.unwrap_or_else(|| panic!("no {key} in:\n{text}")).to_owned()
    }

    /// The org, once it listens.
    pub async fn start_org(&self) -> Running {
        let mut org = self.start("sandbox", "sandbox.log");
        org.until("the org listens", |log| log.contains("listening on").then_some(())).await;
        org
    }

    /// The control plane, once it listens.
    pub async fn start_plane(&self, log: &str) -> Running {
        let mut plane = self.start("control-plane", log);
        plane.until("the control plane listens", |log| log.contains("control plane listens").then_some(())).await;
        plane
    }

    /// The agent.
    #[must_use]
    pub fn start_agent(&self, log: &str) -> Running {
        self.start("hybrid-runner", log)
    }

    /// `control-plane …` on the copy's files.
    pub async fn control_plane(&self, arguments: &[&str]) -> Output {
        let mut look = command(&program("control-plane"));
        look.args(arguments).args(["--config", PLANE]).current_dir(self.dir.path());
        let output = output(look).await;
        assert_eq!(output.code(), 0, "{output:?}");
        output
    }

    /// What is committed.
    pub async fn export(&self) -> String {
        self.control_plane(&["export"]).await.stdout
    }

    /// The run with this id, or the only one, as `control-plane runs` shows it.
    pub async fn shown_run(&self, run_id: Option<&str>) -> Value {
        let runs = self.control_plane(&["runs", "--json"]).await.json();
        let mut runs = runs.as_array().unwrap().clone();
        runs.retain(|run| run_id.is_none_or(|id| run["run_id"] == id));
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// Every run, the newest first, as `control-plane runs` shows them.
    pub async fn shown_runs(&self) -> Vec<Value> {
        self.control_plane(&["runs", "--json"]).await.json().as_array().unwrap().clone()
    }

    /// Asks for a run, and returns its id.
    pub async fn trigger(&self, more: &[&str]) -> String {
        let queued = self.control_plane(&[&["run", "quickstart", "--json"], more].concat()).await.json();
        queued[0]["run_id"].as_str().unwrap().to_owned()
    }

    /// Asks for a run and waits until the control plane committed it.
    pub async fn run_again(&self, plane: &mut Running) -> Value {
        let run_id = self.trigger(&[]).await;
        plane.until("the commit of another run", |log| committed(log, &run_id)).await;
        self.shown_run(Some(&run_id)).await
    }

    /// Nothing unusual was logged, but for lines with one of these texts.
    pub fn assert_quiet(&self, logs: &[&str], expected: &[&str]) {
        let expected: Vec<String> = expected.iter().map(|&text| text.to_owned()).collect();
        for log in logs {
            let found = unexpected(&read(self.dir.path(), log), &expected);
            assert!(found.is_empty(), "unexpected in {log}:\n{}", found.join("\n"));
        }
    }
}

/// What a commit of this run looks like in the control plane's log; "" is any run.
#[must_use]
pub fn committed(log: &str, run_id: &str) -> Option<()> {
    log.lines().any(|line| line.contains("run committed") && line.contains(run_id)).then_some(())
}

/// The number behind `key=` in the last line that holds this text.
#[must_use]
pub fn last_number(log: &str, text: &str, key: &str) -> Option<u64> {
    let line = log.lines().rfind(|line| line.contains(text))?;
    let (_, rest) = line.split_once(&format!("{key}="))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Reads a file of a folder.
#[must_use]
pub fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The export of `quickstart --once` for an org that answers at once.
pub async fn undisturbed(objects: &str) -> String {
    let dir = TempDir::new().unwrap();
    let mut quickstart = command(&program("quickstart"));
    quickstart.args(["--once", "--json", "--latency-ms", "0", "--describe-ms", "0", "--objects", objects]);
    quickstart.arg("--data-dir").arg(dir.path());
    let output = output(quickstart).await;
    assert_eq!(output.code(), 0, "{output:?}");
    let export = PathBuf::from(output.json()["export"].as_str().unwrap());
    std::fs::read_to_string(export).unwrap()
}

/// Equal to the byte, but for the org's port in `sourceUrl` and the hash that covers it. A difference is shown by FQN, not
/// by megabyte.
pub fn assert_same_export(found: &str, wanted: &str) {
    let (found, wanted) = (without_port(found), without_port(wanted));
    for (mine, theirs) in parse_export(&found).iter().zip(&parse_export(&wanted)) {
        assert_eq!(mine, theirs);
    }
    assert_eq!(found.lines().count(), wanted.lines().count());
    assert!(found == wanted, "the same entities, but not the same bytes");
}

fn without_port(export: &str) -> String {
    let blank = |text: &str, before: &str, drop: fn(char) -> bool| {
        let mut parts = text.split(before);
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |text, part| text + before + part.trim_start_matches(drop))
    };
    let text = blank(export, "https://localhost:", |c| c.is_ascii_digit());
    blank(&text, "\"sourceHash\":\"", |c| c.is_ascii_hexdigit())
}

/// Ends programs by SIGTERM, in this order.
pub async fn assert_ends_well(programs: impl IntoIterator<Item = Running>) {
    for program in programs {
        let name = format!("{program:?}");
        assert_eq!(program.terminate().await.code(), Some(0), "{name}");
    }
}
