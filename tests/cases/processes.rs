//! The separate programs, as they are really deployed: `quickstart --write`, and what is killed and started again.

use std::path::{Path, PathBuf};

use hybrid_runner_tests::logs::unexpected;
use hybrid_runner_tests::processes::{Output, Running, command, output, program};
use hybrid_runner_tests::world::{parse_export, write};
use serde_json::Value;
use tempfile::TempDir;

/// What `quickstart --write` wrote, copied to another folder; the first one is gone.
struct Deployment {
    dir: TempDir,
    commands: Vec<(String, Vec<String>)>,
}

/// An org whose describes take their time, so that a run lasts for seconds and sends many batches.
const SLOW: [&str; 4] = ["--objects", "240", "--describe-ms", "15"];

/// Files of a deployment in which some tests change a line.
const PLANE: &str = "control-plane.yaml";
const PIPELINE: &str = "pipelines/quickstart.yaml";

impl Deployment {
    async fn written(org: &[&str]) -> Self {
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

    fn change(&self, file: &str, from: &str, to: &str) {
        let text = read(self.dir.path(), file);
        assert!(text.contains(from), "{file} has no {from}:\n{text}");
        write(self.dir.path(), file, &text.replace(from, to));
    }

    /// Starts one of the commands, in the copy; its output goes to a file of this name.
    fn start(&self, name: &str, log: &str) -> Running {
        let (_, argv) = self.commands.iter().find(|(known, _)| known == name).unwrap();
        self.run(argv, log)
    }

    fn run(&self, argv: &[String], log: &str) -> Running {
        let mut start = command(Path::new(&argv[0]));
        // Batches are at debug; nothing is waited for but what the log says.
        start.args(&argv[1..]).current_dir(self.dir.path()).env("CONTROL_PLANE_LOG", "info,control_plane=debug");
        Running::start(start, &self.dir.path().join(log))
    }

    async fn start_org(&self) -> Running {
        let mut org = self.start("sandbox", "sandbox.log");
        org.until("the org listens", |log| log.contains("listening on").then_some(())).await;
        org
    }

    async fn start_plane(&self, log: &str) -> Running {
        let mut plane = self.start("control-plane", log);
        plane.until("the control plane listens", |log| log.contains("control plane listens").then_some(())).await;
        plane
    }

    fn start_agent(&self, log: &str) -> Running {
        self.start("hybrid-runner", log)
    }

    /// `control-plane …` on the copy's files.
    async fn control_plane(&self, arguments: &[&str]) -> Output {
        let mut look = command(&program("control-plane"));
        look.args(arguments).args(["--config", PLANE]).current_dir(self.dir.path());
        let output = output(look).await;
        assert_eq!(output.code(), 0, "{output:?}");
        output
    }

    async fn export(&self) -> String {
        self.control_plane(&["export"]).await.stdout
    }

    /// The run with this id, or the only one, as `control-plane runs` shows it.
    async fn shown_run(&self, run_id: Option<&str>) -> Value {
        let runs = self.control_plane(&["runs", "--json"]).await.json();
        let mut runs = runs.as_array().unwrap().clone();
        runs.retain(|run| run_id.is_none_or(|id| run["run_id"] == id));
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// Asks for a run and waits until the control plane committed it.
    async fn run_again(&self, plane: &mut Running) -> Value {
        let queued = self.control_plane(&["run", "quickstart", "--json"]).await.json();
        let run_id = queued[0]["run_id"].as_str().unwrap().to_owned();
        plane.until("the commit of another run", |log| committed(log, &run_id)).await;
        self.shown_run(Some(&run_id)).await
    }

    fn assert_quiet(&self, logs: &[&str], expected: &[&str]) {
        let expected: Vec<String> = expected.iter().map(|&text| text.to_owned()).collect();
        for log in logs {
            let found = unexpected(&read(self.dir.path(), log), &expected);
            assert!(found.is_empty(), "unexpected in {log}:\n{}", found.join("\n"));
        }
    }
}

#[tokio::test]
async fn a_run_that_is_cancelled_from_the_command_line_stops_and_commits_nothing() {
    let deployment = Deployment::written(&SLOW).await;
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    let mut agent = deployment.start_agent("agent.log");
    let durable = |log: &str| last_number(log, "batch durable", "next_seq").filter(|next| *next > 50).map(|_| ());
    plane.until("some of the run is durable", durable).await;
    let run_id = deployment.shown_run(None).await["run_id"].as_str().unwrap().to_owned();
    let said = deployment.control_plane(&["cancel", &run_id]).await.stdout;
    assert!(said.contains("cancelled and commits nothing"), "{said}");
    agent.until("the agent knows", |log| log.contains("the run was cancelled").then_some(())).await;
    let shown = deployment.shown_run(Some(&run_id)).await;
    assert_eq!((&shown["state"], &shown["complete"]), (&"cancelled".into(), &false.into()));
    assert_eq!(deployment.export().await, "");
    // A second time there is nothing to cancel, and the next run is a run as any other.
    let mut again = command(&program("control-plane"));
    again.args(["cancel", &run_id, "--config", PLANE]).current_dir(deployment.dir.path());
    let again = output(again).await;
    assert_eq!(again.code(), 2, "{again:?}");
    assert!(again.stderr.contains("is cancelled already"), "{again:?}");
    assert_eq!(deployment.run_again(&mut plane).await["complete"], true);
    assert_same_export(&deployment.export().await, &undisturbed("240").await);
    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["sandbox.log", "plane.log", "agent.log"], &["a push ends"]);
}

#[tokio::test]
async fn without_a_workflow_the_pipelines_of_the_control_plane_are_checked_and_no_agent_is_disturbed() {
    let deployment = Deployment::written(&["--objects", "40", "--describe-ms", "0"]).await;
    // The org is not there: nothing is asked of it.
    let plane = deployment.start_plane("plane.log").await;
    let (_, argv) = deployment.commands.iter().find(|(name, _)| name == "hybrid-runner").unwrap();
    let config = argv.iter().skip_while(|word| *word != "--config").nth(1).unwrap();
    let mut check = command(Path::new(&argv[0]));
    check.args(["secrets", "check", "--json", "--config", config]).current_dir(deployment.dir.path());
    let checked = output(check).await;
    assert_eq!(checked.code(), 0, "{checked:?}");
    let rows = checked.json();
    let rows = rows.as_array().unwrap();
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row["pipeline"] == "quickstart" && row["ok"] == true),
        "{rows:?}"
    );
    let run = deployment.shown_run(None).await;
    assert_eq!((&run["state"], &run["attempt"]), (&"queued".into(), &0.into()), "it takes no run");
    let pipelines = deployment.control_plane(&["pipelines", "--json"]).await.json();
    assert_eq!(pipelines[0]["agents"], serde_json::json!([]), "it is no agent");
    assert_ends_well([plane]).await;
    deployment.assert_quiet(&["plane.log"], &[]);
}

/// What a commit of this run looks like in the control plane's log; "" is any run.
fn committed(log: &str, run_id: &str) -> Option<()> {
    log.lines().any(|line| line.contains("run committed") && line.contains(run_id)).then_some(())
}

/// The number behind `key=` in the last line that holds this text.
fn last_number(log: &str, text: &str, key: &str) -> Option<u64> {
    let line = log.lines().rfind(|line| line.contains(text))?;
    let (_, rest) = line.split_once(&format!("{key}="))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn read(dir: &Path, name: &str) -> String {
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
async fn undisturbed(objects: &str) -> String {
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
fn assert_same_export(found: &str, wanted: &str) {
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

async fn assert_ends_well(programs: impl IntoIterator<Item = Running>) {
    for program in programs {
        let name = format!("{program:?}");
        assert_eq!(program.terminate().await.code(), Some(0), "{name}");
    }
}

#[tokio::test]
async fn three_programs_started_in_order_in_a_copy_do_what_quickstart_does() {
    let deployment = Deployment::written(&["--objects", "40", "--describe-ms", "0"]).await;
    let names: Vec<&str> = deployment.commands.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["sandbox", "control-plane", "hybrid-runner"]);
    for (name, argv) in &deployment.commands {
        assert!(Path::new(&argv[0]).is_absolute() && argv[0].ends_with(name), "{argv:?}");
        assert!(argv[1..].iter().all(|word| !Path::new(word).is_absolute()), "a path that the copy has not: {argv:?}");
    }
    // Started without waiting for each other, as a supervisor of processes would.
    let org = deployment.start("sandbox", "sandbox.log");
    let mut plane = deployment.start("control-plane", "plane.log");
    plane.until("the control plane listens", |log| log.contains("control plane listens").then_some(())).await;
    let agent = deployment.start_agent("agent.log");
    plane.until("the commit", |log| committed(log, "")).await;
    let run = deployment.shown_run(None).await;
    assert_eq!(
        (&run["state"], &run["complete"], &run["attempt"]),
        (&"committed".into(), &true.into(), &1.into()),
        "{run}"
    );
    assert_same_export(&deployment.export().await, &undisturbed("40").await);

    // The next run finds everything as it was and sends nothing.
    let again = deployment.run_again(&mut plane).await;
    assert_eq!(again["state"], "committed", "{again}");
    assert_eq!((&again["sent"], &again["changed"], &again["deleted"]), (&0.into(), &0.into(), &0.into()), "{again}");
    assert_eq!(again["unchanged"], run["entities"], "{again}");
    assert_eq!(again["entities"], run["entities"], "{again}");

    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["sandbox.log", "plane.log", "agent.log"], &[]);
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_and_started_again_ends_in_the_same_entities() {
    let deployment = Deployment::written(&SLOW).await;
    deployment.change(PLANE, "agents: agents.yaml", "agents: agents.yaml\nlease: {ttl: 2s, heartbeat: 400ms}");
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    let agent = deployment.start_agent("agent-1.log");
    plane
        .until("the first batches", |log| last_number(log, "batch durable", "next_seq").filter(|&next| next > 3))
        .await;
    agent.kill().await;
    assert_eq!(committed(&plane.log(), ""), None, "it was killed in the middle");
    assert_eq!(deployment.export().await, "", "nothing of it is visible");

    let agent = deployment.start_agent("agent-2.log");
    plane.until("the commit", |log| committed(log, "")).await;
    let run = deployment.shown_run(None).await;
    assert_eq!((&run["state"], &run["complete"]), (&"committed".into(), &true.into()), "{run}");
    assert_eq!(run["attempt"], 1, "a lost agent does not count: {run}");
    assert_same_export(&deployment.export().await, &undisturbed("240").await);

    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["sandbox.log", "plane.log", "agent-2.log"], &["the lease of a run was ended"]);
}

#[tokio::test]
async fn a_control_plane_killed_in_the_middle_and_started_again_loses_nothing_it_acknowledged() {
    let deployment = Deployment::written(&SLOW).await;
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane-1.log").await;
    let agent = deployment.start_agent("agent.log");
    plane
        .until("the first batches", |log| last_number(log, "batch durable", "next_seq").filter(|&next| next > 3))
        .await;
    plane.kill().await;
    let before = read(deployment.dir.path(), "plane-1.log");
    let durable = last_number(&before, "batch durable", "next_seq").unwrap();
    assert_eq!(committed(&before, ""), None, "it was killed in the middle");

    let mut plane = deployment.start_plane("plane-2.log").await;
    plane.until("the commit", |log| committed(log, "")).await;
    let went_on = last_number(&plane.log(), "push opened", "next_seq").unwrap();
    assert!(went_on >= durable, "{durable} records were durable, and it went on at {went_on}");
    let run = deployment.shown_run(None).await;
    assert_eq!(
        (&run["state"], &run["complete"], &run["attempt"]),
        (&"committed".into(), &true.into(), &1.into()),
        "{run}"
    );
    assert_same_export(&deployment.export().await, &undisturbed("240").await);

    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["sandbox.log", "plane-1.log", "plane-2.log"], &[]);
    deployment.assert_quiet(&["agent.log"], &["no session with the control plane", "upload broke"]);
}

#[tokio::test]
async fn an_agent_added_by_certificate_or_token_is_let_in_with_the_values_that_were_printed() {
    let deployment = Deployment::written(&["--objects", "20", "--describe-ms", "0"]).await;
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    let mut run_id = deployment.shown_run(None).await["run_id"].as_str().unwrap().to_owned();
    let written = read(deployment.dir.path(), "hybrid-runner.yaml");
    let line = |key: &str| written.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
    let rest = written.split_once("\nsecrets:").unwrap().1;
    let program = program("hybrid-runner").display().to_string();
    for (name, more) in [("by-certificate", &[][..]), ("by-token", &["--token"])] {
        // The control plane runs: it notices.
        let add = [&["agent", "add", name, "--out", "identities"][..], more].concat();
        let values = deployment.control_plane(&add).await.stdout;
        let config = format!("{values}{}\n{}\nsecrets:{rest}", line("endpoint:"), line("ca:"));
        let file = format!("{name}.yaml");
        write(deployment.dir.path(), &file, &config);
        let argv = [program.as_str(), "run", "--config", &file].map(str::to_owned);
        let agent = deployment.run(&argv, &format!("{name}.log"));
        plane.until("the commit", |log| committed(log, &run_id)).await;
        let run = deployment.shown_run(Some(&run_id)).await;
        assert_eq!((&run["state"], &run["agent"]), (&"committed".into(), &name.into()), "{run}");
        assert_ends_well([agent]).await;
        if more.is_empty() {
            let queued = deployment.control_plane(&["run", "quickstart", "--json"]).await.json();
            queued[0]["run_id"].as_str().unwrap().clone_into(&mut run_id);
        }
    }
    assert_ends_well([plane, org]).await;
    // An agent that is faster than the control plane's look at the list is refused once and comes again.
    let logs = ["sandbox.log", "plane.log", "by-certificate.log", "by-token.log"];
    deployment.assert_quiet(&logs, &["no session with the control plane"]);
}
