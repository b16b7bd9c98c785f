//! The log of a run: on its way, in the store, and as somebody at a terminal follows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use control_plane::store::{RunId, RunState};
use hybrid_runner::{Agent, AgentConfig, AgentEvent, Connectors, SecretValue};
use hybrid_runner_connector::{EntitySink, Extraction, Report, SecretUse, Source, SourceError, Step, Summary};
use hybrid_runner_secrets::Resolver;
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Running, command, output, program};
use hybrid_runner_tests::relay::{Network, Relay};
use hybrid_runner_tests::tap::Tap;
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, World};
use hybrid_runner_tests::{PATIENCE, within};
use serde_json::Value;
use tokio::sync::Semaphore;

/// A source that finds nothing and says what it is told: for each permit the next lines.
#[derive(Clone)]
struct Talker {
    steps: Arc<Semaphore>,
    says: Arc<Vec<Vec<String>>>,
}

impl Talker {
    fn new(permits: usize, says: Vec<Vec<String>>) -> Self {
        Self { steps: Arc::new(Semaphore::new(permits)), says: Arc::new(says) }
    }

    /// An agent whose Salesforce this is.
    fn start(&self, config: AgentConfig) -> RunningAgent {
        let talker = self.clone();
        let connectors = Connectors::new(config.salesforce.clone()).with("salesforce", move |_| {
            let source: Arc<dyn Source> = Arc::new(talker.clone());
            Ok(source)
        });
        RunningAgent::of(Agent::with_connectors(config, connectors))
    }
}

#[async_trait]
impl Source for Talker {
    async fn extract(&self, _extraction: Extraction, _sink: &mut dyn EntitySink) -> Result<Report, SourceError> {
        for lines in self.says.iter() {
            self.steps.acquire().await.expect("the case holds it").forget();
            for line in lines {
                tracing::info!("{line}");
            }
        }
        Ok(Report {
            complete: true,
            gone: Vec::new(),
            failures: Vec::new(),
            advice: Vec::new(),
            summary: Summary::default(),
        })
    }

    async fn test_connection(&self, _secrets: Arc<Resolver>) -> Vec<Step> {
        Vec::new()
    }

    fn secrets(&self) -> Vec<SecretUse> {
        Vec::new()
    }
}

/// The lines of a run once one of them says this.
async fn logged(world: &World, run_id: RunId, last: &str) -> Vec<Value> {
    let mut changes = world.plane.changes();
    within(last, async {
        loop {
            let lines = world.plane.store().log(run_id, None, 10_000).await.unwrap();
            assert!((0..).zip(&lines).all(|(number, line)| line.id.number == number), "{lines:?}");
            let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(&line.text).unwrap()).collect();
            if lines.iter().any(|line| line["message"] == last) {
                return lines;
            }
            changes.changed().await.unwrap();
        }
    })
    .await
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_log_of_a_run_is_followed_from_another_process_and_ends_with_the_run() {
    let program = program("control-plane");
    let _logs = Logs::capture();
    let world = World::new().await;
    let talker = Talker::new(1, vec![vec!["one of it".to_owned()], vec!["two of it".to_owned()], Vec::new()]);
    let agent = talker.start(world.agent_config("one"));
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let logs = |arguments: &[&str]| {
        let mut logs = command(&program);
        logs.arg("logs").arg(run_id.to_string()).args(arguments).arg("--config");
        logs.arg(world.dir.path().join("control-plane.yaml"));
        logs
    };
    let mut follow = Running::start(logs(&["--follow", "--json"]), &world.dir.path().join("followed"));
    follow.until("the first line", |log| log.contains("one of it").then_some(())).await;
    let run = world.plane.store().run(run_id).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Running, "it is shown while the run goes on");
    assert!(!follow.log().contains("two of it"));
    talker.steps.add_permits(1);
    follow.until("the second line", |log| log.contains("two of it").then_some(())).await;
    talker.steps.add_permits(1);
    let (status, followed) = follow.ended().await;
    assert!(status.success(), "{followed}");
    let rows: Vec<Value> = followed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<Value> = rows.iter().filter(|row| row["kind"] == "line").cloned().collect();
    assert_eq!(messages(&lines), ["run started", "one of it", "two of it", "run committed"], "{followed}");
    let last = rows.last().unwrap();
    assert_eq!((&last["kind"], &last["state"]), (&"state".into(), &"committed".into()), "{followed}");

    // Afterwards, all at once.
    let array = output(logs(&["--json"])).await;
    let array = array.json();
    let later: Vec<Value> = array.as_array().unwrap().iter().filter(|row| row["kind"] == "line").cloned().collect();
    assert_eq!(later, lines);
    let text = output(logs(&[])).await.stdout;
    assert!(text.contains(" INFO  hybrid_runner::run: run started attempt=1"), "{text}");
    let mut nobody = command(&program);
    nobody.args(["logs", &RunId::new().to_string(), "--follow", "--config"]);
    nobody.arg(world.dir.path().join("control-plane.yaml"));
    let nobody = output(nobody).await;
    assert_eq!(nobody.code(), 2, "{nobody:?}");
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn of_a_log_that_is_too_long_the_beginning_and_the_end_are_kept_and_a_line_says_what_is_missing() {
    let _logs = Logs::capture();
    let world = World::new().await;
    let said: Vec<String> = (0..300).map(|number| format!("line {number:03} {}", "x".repeat(1_000))).collect();
    let talker = Talker::new(1, vec![said.clone()]);
    let config = AgentConfig { run_log_bytes: 64 * 1024, ..world.agent_config("one") };
    let agent = talker.start(config);
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let lines = logged(&world, run_id, "run committed").await;
    let place = lines.iter().position(|line| line["code"] == "lines_left_out").expect("a line says it");
    let shown = messages(&lines);
    let (head, tail) = (&shown[..place], &shown[place + 1..]);
    assert_eq!((head[0], head[1]), ("run started", said[0].as_str()));
    assert_eq!((tail[tail.len() - 2], tail[tail.len() - 1]), (said[299].as_str(), "run committed"));
    assert!(head[1..].iter().zip(&said).all(|(shown, said)| shown == said), "{head:?}");
    assert!(tail.iter().rev().skip(1).zip(said.iter().rev()).all(|(shown, said)| shown == said), "{tail:?}");
    assert_eq!(lines[place]["fields"]["lines"], 302 - head.len() - tail.len());
    assert!(head.len() > 20 && tail.len() > 20, "{} and {} lines", head.len(), tail.len());
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn the_last_lines_of_a_run_arrive_although_its_agent_is_told_to_leave_before_it_commits() {
    let _logs = Logs::capture();
    let world = World::new().await;
    // Too long for what leaves while it runs: the second half waits for the end of the run.
    let said: Vec<String> = (0..400).map(|number| format!("line {number:03} {}", "x".repeat(2_000))).collect();
    let talker = Talker::new(1, vec![said.clone(), vec!["the last word".to_owned()]]);
    let config = AgentConfig { drain_timeout: PATIENCE, ..world.agent_config("one") };
    let agent = talker.start(AgentConfig { run_log_bytes: 1024 * 1024, ..config });
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    logged(&world, run_id, &said[100]).await;
    agent.leave();
    talker.steps.add_permits(1);
    within("the agent's end", agent.stop()).await;
    let run = world.plane.store().run(run_id).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Committed);
    // They are there: nothing is waited for.
    let lines = world.plane.store().log(run_id, None, 10_000).await.unwrap();
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(&line.text).unwrap()).collect();
    let shown = messages(&lines);
    let all = ["run started"].into_iter().chain(said.iter().map(String::as_str));
    let all: Vec<&str> = all.chain(["the last word", "run committed"]).collect();
    assert!(shown == all, "{} of {} lines, the last: {:?}", shown.len(), all.len(), shown.last());
    world.stop().await;
}

#[tokio::test]
async fn an_agent_that_cannot_send_the_last_lines_of_its_runs_leaves_a_little_after_its_drain_timeout() {
    let _logs = Logs::capture().expecting("no session with the control plane").expecting("no connection");
    let world = World::new().await;
    let relay = Relay::before(world.port).await;
    let talker = Talker::new(1, vec![Vec::new()]);
    let mut config = AgentConfig { drain_timeout: Duration::from_millis(100), ..world.agent_config("one") };
    config.control_plane.port = relay.port;
    let mut agent = talker.start(config);
    world.plane.trigger(PIPELINE, false).await.unwrap();
    agent.until("the end of its run", |event| matches!(event, AgentEvent::RunEnded { .. }).then_some(())).await;
    relay.set(Network::Hole);
    let began = Instant::now();
    within("the agent's end", agent.stop()).await;
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(2), "it left after {waited:?}, before its time was over");
    assert!(waited < Duration::from_secs(10), "it waited for {waited:?}");
    drop(relay);
    world.stop().await;
}

#[tokio::test]
async fn a_planted_secret_in_a_line_is_replaced_on_the_wire_and_in_the_store() {
    const PLANTED: &str = "pWq7<&>\"'/\\+ %=é~;";
    let _logs = Logs::capture().expecting("values of secrets were found");
    let world = World::new().await;
    let tap = Tap::before(world.port, &world.authority).await;
    let talker = Talker::new(1, vec![vec![format!("it answered {PLANTED} and so on")]]);
    let mut config = world.agent_config("one");
    config.control_plane.port = tap.port;
    let held = config.secrets.redactor().watch(SecretValue::new(PLANTED.to_owned()));
    let agent = talker.start(config);
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let lines = logged(&world, run_id, "run committed").await;
    assert!(messages(&lines).contains(&"it answered [redacted] and so on"), "{lines:?}");
    let heard = String::from_utf8_lossy(&tap.heard()).into_owned();
    assert!(heard.contains("it answered [redacted] and so on"));
    assert!(!heard.contains("pWq7") && !format!("{lines:?}").contains("pWq7"));
    drop(held);
    agent.stop().await;
    world.stop().await;
}
