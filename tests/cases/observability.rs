//! What both programs show of themselves while they work: probes, metrics, traces that nobody takes.

use std::net::SocketAddr;

use hybrid_runner::AgentEvent;
use hybrid_runner_tests::processes::{Running, command, program};
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{RunningAgent, Setup, World, write};
use sandbox::OrgConfig;
use serde_json::Value;
use tokio::net::TcpListener;

/// Status and text of a page.
async fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = within(path, client.get(format!("http://{address}{path}")).send()).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The value of a series, by its beginning.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(series) && !line.starts_with('#'))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn rows(of: &str) -> Vec<String> {
    let manual = std::fs::read_to_string(hybrid_runner_tests::root().join("docs/operations.md")).unwrap();
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| ").filter(|row| row.starts_with(of)));
    rows.map(|row| row.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_control_plane_shows_its_runs_its_health_and_no_metric_that_the_manual_does_not_have() {
    let world = World::new().await;
    let agent = world.start_agent();
    let done = world.run().await;
    let cancelled = world.plane.trigger("crm", false).await.unwrap();
    within("the second run", world.plane.run_ended(cancelled)).await.unwrap();
    // The pages count what the watch of open runs has seen.
    let text = within("both runs are counted", async {
        let mut changes = world.plane.changes();
        loop {
            let (_, text) = page(world.probes, "/metrics").await;
            if value(&text, "control_plane_runs_total{state=\"committed\",reason=\"\"}") == Some(2.0) {
                return text;
            }
            drop(tokio::time::timeout(std::time::Duration::from_millis(200), changes.changed()).await);
        }
    })
    .await;
    let figures = done.figures.unwrap();
    assert!(value(&text, "control_plane_records_total").unwrap() >= f64::from(u32::try_from(figures.count).unwrap()));
    assert!(value(&text, "control_plane_batches_total{outcome=\"applied\"}").unwrap() >= 1.0);
    assert!(value(&text, "control_plane_record_bytes_total").unwrap() > 1000.0);
    assert_eq!(value(&text, "control_plane_sessions"), Some(1.0));
    assert_eq!(value(&text, "control_plane_pipelines"), Some(1.0));
    assert!(value(&text, "control_plane_pipeline_last_commit_age_seconds{pipeline=\"crm\"}").unwrap() < 60.0);
    assert_eq!(value(&text, "control_plane_open_runs{state=\"queued\"}"), Some(0.0));
    let documented = rows("control_plane_");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(documented.iter().any(|row| row == name), "{name} is not in the manual");
    }
    for path in ["/health/startup", "/health/live", "/health/ready"] {
        let (status, body) = page(world.probes, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, body.get("ok"), body.get("sessions")),
            (200, Some(&true.into()), Some(&1.into())),
            "{path}"
        );
    }
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn the_agents_metrics_say_what_a_run_did_and_name_nothing_of_it() {
    let org = OrgConfig { objects: 12, ..OrgConfig::default() };
    let world = World::with(Setup { org: Some(org), ..Setup::default() }).await;
    let agent = hybrid_runner::Agent::new(world.agent_config("one"));
    let metrics = agent.metrics();
    let mut agent = RunningAgent::of(agent);
    let done = world.run().await;
    agent.until("the run's end", |event| matches!(event, AgentEvent::RunEnded { .. }).then_some(())).await;
    let (text, figures) = (metrics.text(), done.figures.unwrap());
    let whole = |count: u64| Some(f64::from(u32::try_from(count).unwrap()));
    assert_eq!(value(&text, "hybrid_runner_runs_total{end=\"committed\",reason=\"\"}"), Some(1.0));
    assert_eq!(value(&text, "hybrid_runner_entities_total{outcome=\"sent\"}"), whole(figures.sent));
    assert_eq!(value(&text, "hybrid_runner_upload_acked_records_total"), whole(figures.count));
    assert_eq!(value(&text, "hybrid_runner_source_requests_total"), whole(figures.summary.source_requests));
    assert_eq!(value(&text, "hybrid_runner_source_bytes_total"), whole(figures.summary.source_bytes));
    assert_eq!(value(&text, "hybrid_runner_upload_unacked_bytes"), Some(0.0));
    assert_eq!(value(&text, "hybrid_runner_session_state{state=\"open\"}"), Some(1.0));
    assert_eq!(value(&text, "hybrid_runner_connects_total{outcome=\"opened\"}"), Some(1.0));
    assert!(
        value(&text, "hybrid_runner_secret_reads_total{store=\"memory\",outcome=\"read\"}").unwrap() >= 2.0,
        "{text}"
    );
    assert!(value(&text, "hybrid_runner_source_requests_left").unwrap() > 0.0);
    let login = world.org.credentials();
    let mut foreign = vec![login.password, login.security_token, "crm".to_owned(), "localhost".to_owned()];
    foreign.extend(world.entities().await.into_iter().map(|(_, fqn, _)| fqn));
    for word in
        ["salesforce/password", "integration@example.com", "secret:"].map(str::to_owned).into_iter().chain(foreign)
    {
        assert!(!text.contains(&word), "{word} is in\n{text}");
    }
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn the_program_is_live_without_its_control_plane_and_not_ready_once_it_stops() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let pair = world.authority.agent("one");
    write(dir.path(), "agent.pem", &pair.certificate);
    write(dir.path(), "agent.key", &pair.key);
    // Nobody listens there: it is bound and not accepted from.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "control_plane: {{endpoint: 'https://localhost:{}', tls: {{certificate: agent.pem, key: agent.key}}}}\n\
         secrets: {{stores: {{files: {{file: {{dir: .}}}}}}}}\nhealth: {{listen: '127.0.0.1:0'}}\n",
        nobody.local_addr().unwrap().port()
    );
    let config = write(dir.path(), "agent.yaml", &config);
    let mut agent = command(&program("hybrid-runner"));
    agent.args(["run", "--config"]).arg(&config);
    let mut agent = Running::start(agent, &dir.path().join("agent.log"));
    let address: SocketAddr = agent
        .until("the address of the probes", |log| {
            let line = log.lines().find(|line| line.contains("probes and scrapes are answered"))?;
            line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
        })
        .await;
    for path in ["/health/startup", "/health/live", "/health/ready"] {
        let (status, body) = page(address, path).await;
        assert!(status == 200 && body.contains(r#""state":"connecting""#), "{path}: {body}");
    }
    let (_, text) = page(address, "/metrics").await;
    assert_eq!(value(&text, "hybrid_runner_session_state{state=\"connecting\"}"), Some(1.0), "{text}");
    assert!(agent.terminate().await.success());
    world.stop().await;
}

#[tokio::test]
async fn a_collector_that_never_answers_fails_no_run_and_holds_none_up() {
    // It accepts, in the kernel, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let pair = world.authority.agent("one");
    let login = world.org.credentials();
    for (name, text) in [
        ("agent.pem", &pair.certificate),
        ("agent.key", &pair.key),
        ("ca.pem", &world.authority.pem),
        ("org.pem", &world.org.ca_pem().to_owned()),
        ("secrets/salesforce/password", &login.password),
        ("secrets/salesforce/token", &login.security_token),
    ] {
        write(dir.path(), name, text);
    }
    let config = format!(
        "control_plane: {{endpoint: 'https://localhost:{}', ca: ca.pem, tls: {{certificate: agent.pem, key: agent.key}}}}\n\
         secrets: {{stores: {{files: {{file: {{dir: secrets}}}}}}}}\n\
         salesforce: {{use_system_proxy: false, hosts: [{{host: localhost, port: {}, ca: org.pem}}]}}\n",
        world.port,
        world.org.addr().port()
    );
    let config = write(dir.path(), "agent.yaml", &config);
    let mut agent = command(&program("hybrid-runner"));
    agent.args(["run", "--config"]).arg(&config);
    agent.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", silent.local_addr().unwrap()));
    let agent = Running::start(agent, &dir.path().join("agent.log"));
    let began = tokio::time::Instant::now();
    assert_eq!(world.run().await.state.as_str(), "committed");
    // The time-out of one export is 10 s.
    assert!(began.elapsed() < std::time::Duration::from_secs(9), "{:?}", began.elapsed());
    let began = tokio::time::Instant::now();
    assert!(agent.terminate().await.success());
    assert!(began.elapsed() < std::time::Duration::from_secs(6), "{:?}", began.elapsed());
    // It was the collector that it waited for.
    within("the agent's connection", silent.accept()).await.unwrap();
    world.stop().await;
}
