//! A secret's value is sent to where it logs in, and is found nowhere else.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use control_plane::export::Export;
use control_plane::store::{Run, RunState};
use hybrid_runner::{AgentConfig, AgentEvent, Identity};
use hybrid_runner_secrets::{MemoryStore, SecretValue, Stores};
use hybrid_runner_tests::extraction::{Extraction, OAUTH, SOAP, soap_at_localhost};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Output, Running, command, output, program};
use hybrid_runner_tests::sweep::Planted;
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, Setup, TOKEN, World, pipeline_yaml, write};
use hybrid_runner_tests::{install_crypto, within};
use sandbox::{Credentials, FaultPlan, Kind, Org, OrgConfig, Sandbox, ServerConfig};
use tempfile::TempDir;

/// Values that each encoding writes differently.
pub(crate) const PASSWORD: &str = "pWq7Zk2Lx9Vb4<&>\"'/\\+ %=é~;#?";
const SECURITY_TOKEN: &str = "tKn3Hs8Rd5Yc1&lt;\"%41'/+=ü]]>";
const CONSUMER_SECRET: &str = "cNs6Jf0Gu7Ma2+/=%2F&<x>\"'\\ñ";

/// What stands in each session id that the sandbox grants.
const SESSION: &str = "!AQEA.";

fn credentials() -> Credentials {
    Credentials {
        password: PASSWORD.to_owned(),
        security_token: SECURITY_TOKEN.to_owned(),
        consumer_secret: CONSUMER_SECRET.to_owned(),
        ..Credentials::default()
    }
}

fn org() -> OrgConfig {
    OrgConfig { objects: 30, credentials: credentials(), ..OrgConfig::default() }
}

fn planted() -> Planted {
    Planted::new([
        ("password", PASSWORD),
        ("security token", SECURITY_TOKEN),
        ("consumer secret", CONSUMER_SECRET),
        ("session", SESSION),
        ("bearer token", TOKEN),
    ])
}

/// A leak in each form, written by other means than the sweep's where there are any.
pub(crate) fn leaks() -> Vec<(&'static str, String)> {
    let json = serde_json::json!({ "detail": PASSWORD }).to_string();
    let mut url = reqwest::Url::parse("https://localhost/").unwrap();
    url.set_query(Some(PASSWORD));
    let query = url.query().unwrap().to_owned();
    url.query_pairs_mut().clear().append_pair("q", PASSWORD);
    let form = url.query().unwrap().to_owned();
    let hex: String = PASSWORD.bytes().map(|byte| format!("{byte:02x}")).collect();
    let three = PASSWORD.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let lower = ["%3C", "%3E", "%2F", "%5C", "%2B", "%3D", "%C3", "%A9", "%3B", "%3F", "%7E"]
        .iter()
        .fold(form.clone(), |text, digits| text.replace(digits, &digits.to_lowercase()));
    vec![
        ("the value", PASSWORD.to_owned()),
        ("a piece of it", PASSWORD.get(..13).unwrap().to_owned()),
        ("hex", hex.clone()),
        ("upper-case hex", hex.to_uppercase()),
        ("base64", STANDARD.encode(PASSWORD)),
        ("base64", STANDARD.encode(format!("u:{PASSWORD}"))),
        ("base64", STANDARD.encode(format!("u:{PASSWORD}{SECURITY_TOKEN}"))),
        ("base64", STANDARD.encode(format!("us:{PASSWORD}!"))),
        ("base64 for URLs", URL_SAFE.encode(format!("user:{PASSWORD}"))),
        ("percent-encoding", form.replace('+', "%20").replace("%7E", "~")),
        ("percent-encoding of a query", query),
        ("lower-case percent-encoding", lower),
        ("form encoding", form),
        ("XML with five entities", three.replace('"', "&quot;").replace('\'', "&apos;")),
        ("XML with numbers for quotes", three.replace('"', "&#34;").replace('\'', "&#39;")),
        ("XML with three entities", three),
        ("JSON", json.clone()),
        ("JSON in ASCII", json.replace('é', "\\u00e9")),
        ("JSON with escaped slashes", json.replace('/', "\\/")),
        ("JSON in JSON", serde_json::json!({ "body": json }).to_string()),
        ("Rust's Debug", format!("{:?}", Some(PASSWORD))),
        ("Rust's Debug of bytes", format!("{:?}", PASSWORD.as_bytes())),
        ("escaped bytes", format!("{:?}", bytes::Bytes::from_static(PASSWORD.as_bytes())).replace('\'', "\\'")),
    ]
}

#[test]
fn the_sweep_finds_a_deliberate_leak_in_each_encoding() {
    let planted = Planted::new([("password", PASSWORD)]);
    let dir = TempDir::new().unwrap();
    let leaks = leaks();
    for (form, leak) in &leaks {
        let text = format!("2026-01-01 INFO something happened: {leak} (and went on)");
        let found = planted.found_in(text.as_bytes());
        assert!(found.contains(&format!("password as {form}")), "{form}: {text}: {found:?}");
        let place = write(dir.path(), "deep/down/log.txt", &text);
        let swept = std::panic::catch_unwind(|| planted.absent_below(dir.path(), &[]));
        assert!(swept.is_err(), "{form} in {}", place.display());
    }
    let shown: BTreeSet<_> = leaks.iter().map(|(form, _)| *form).collect();
    assert_eq!(shown, planted.forms(), "each form is shown to be found");
    assert_eq!(planted.found_in(b"password: secret:/salesforce/password"), BTreeSet::new());
}

/// A run of this pipeline, everything that it left behind swept.
async fn swept_run(pipeline: String, configure: impl FnOnce(&World) -> AgentConfig, logs: Logs) -> Run {
    let setup = Setup { org: Some(org()), pipeline: Some(pipeline), ..Setup::default() };
    let world = World::with(setup).await;
    let agent = RunningAgent::start(configure(&world));
    let run = world.run().await;
    agent.stop().await;
    let planted = planted();
    planted.absent_from("the run", format!("{run:?}"));
    for event in world.plane.store().events(run.run_id).await.unwrap() {
        planted.absent_from("an event", format!("{event:?}"));
    }
    let mut export = Export::new(world.plane.store().clone(), None);
    while let Some(lines) = export.next_lines().await.unwrap() {
        planted.absent_from("the export", lines);
    }
    // With the write-ahead log beside it, which a stop would fold into the file.
    assert!(world.dir.path().join("control-plane.db-wal").exists(), "the write-ahead log is swept, too");
    assert!(planted.absent_below(world.dir.path(), &[]) >= 7);
    let seen = Planted::new([("user name", "integration@example.com"), ("pipeline", PIPELINE)]);
    let database: Vec<u8> = ["control-plane.db", "control-plane.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(world.dir.path().join(name)).unwrap())
        .collect();
    assert!(!seen.found_in(&database).is_empty(), "what a definition says is found in the store's files");
    world.stop().await;
    let log = logs.text();
    planted.absent_from("the log", &log);
    assert!(log.contains(" TRACE ") && log.contains("definition accepted"), "both sides log at TRACE");
    run
}

const OAUTH_PIPELINE: &str = "source:
  type: salesforce
  serviceName: crm
  serviceConnection:
    config:
      type: Salesforce
      consumerKey: sandbox-consumer-key
      consumerSecret: secret:/salesforce/consumer-secret
      salesforceDomain: localhost
  sourceConfig: {config: {type: DatabaseMetadata}}
---
name: crm
";

#[tokio::test]
async fn a_committed_run_with_a_password_leaves_no_secret_behind() {
    let run = swept_run(pipeline_yaml(""), |world| world.agent_config("one"), Logs::capture_all()).await;
    assert_eq!(run.state, RunState::Committed, "{run:?}");
}

#[tokio::test]
async fn a_committed_run_with_client_credentials_leaves_no_secret_behind() {
    let run = swept_run(OAUTH_PIPELINE.to_owned(), |world| world.agent_config("one"), Logs::capture_all()).await;
    assert_eq!(run.state, RunState::Committed, "{run:?}");
}

#[tokio::test]
async fn a_run_of_an_agent_with_a_bearer_token_leaves_no_secret_behind() {
    let identity = || Identity::Token(Arc::new(SecretValue::new(TOKEN.to_owned())));
    let run = swept_run(pipeline_yaml(""), |world| world.agent_config_as(identity()), Logs::capture_all()).await;
    assert_eq!((run.state, run.agent.as_deref()), (RunState::Committed, Some("token-agent")), "{run:?}");
}

#[tokio::test]
async fn a_run_whose_login_is_rejected_leaves_no_secret_behind() {
    for pipeline in [pipeline_yaml(""), OAUTH_PIPELINE.to_owned()] {
        let logs = Logs::capture_all().expecting("AUTH_FAILED");
        // The planted values, each in another's place: the org rejects them.
        let swapped = |world: &World| {
            let value = |text: &str| SecretValue::new(text.to_owned());
            let store = MemoryStore::default()
                .with("/salesforce/password", value(CONSUMER_SECRET))
                .with("/salesforce/token", value(PASSWORD))
                .with("/salesforce/consumer-secret", value(SECURITY_TOKEN));
            AgentConfig { secrets: Arc::new(Stores::default().with("memory", store)), ..world.agent_config("one") }
        };
        let run = swept_run(pipeline, swapped, logs).await;
        assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("AUTH_FAILED")), "{run:?}");
    }
}

#[tokio::test]
async fn the_programs_leave_no_secret_in_their_logs_and_files_at_trace() {
    install_crypto();
    let dir = TempDir::new().unwrap();
    let mut quickstart = command(&program("quickstart"));
    quickstart.arg("--write").arg(dir.path()).args(["--objects", "1"]);
    let written = output(quickstart).await;
    assert_eq!(written.code(), 0, "{written:?}");
    // In place of the simulated org that is written: one with the planted values.
    let org = Sandbox::start(Org::new(&org()).unwrap(), ServerConfig::default()).await.unwrap();
    write(dir.path(), "secrets/salesforce/quickstart/password", PASSWORD);
    write(dir.path(), "secrets/salesforce/quickstart/security-token", SECURITY_TOKEN);
    write(dir.path(), "tls/sandbox-ca.pem", org.ca_pem());
    let config = std::fs::read_to_string(dir.path().join("hybrid-runner.yaml")).unwrap();
    let (before, after) = config.split_once("port: ").unwrap();
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    write(dir.path(), "hybrid-runner.yaml", &format!("{before}port: {}{after}", org.addr().port()));

    let start = |name: &str, arguments: [&str; 3]| {
        let mut command = command(&program(name));
        command.args(arguments).current_dir(dir.path());
        command.env("CONTROL_PLANE_LOG", "trace").env("HYBRID_RUNNER_LOG__LEVEL", "trace");
        Running::start(command, &dir.path().join(format!("{name}.log")))
    };
    let mut plane = start("control-plane", ["serve", "--config", "control-plane.yaml"]);
    plane.until("it listens", |log| log.contains("control plane listens").then_some(())).await;
    let mut agent = start("hybrid-runner", ["run", "--config", "hybrid-runner.yaml"]);
    agent.until("the commit", |log| log.contains("run committed").then_some(())).await;
    assert!(agent.terminate().await.success());
    // Killed: an orderly end would fold the write-ahead log into the file.
    plane.kill().await;

    let key = std::fs::read_to_string(dir.path().join("tls/agent.key")).unwrap();
    let keys = Planted::new([("the agent's key", key.lines().nth(1).unwrap())]);
    for log in ["control-plane.log", "hybrid-runner.log"] {
        let text = std::fs::read_to_string(dir.path().join(log)).unwrap();
        assert!(text.contains("TRACE"), "{log}");
    }
    for planted in [planted(), keys] {
        assert!(planted.absent_below(dir.path(), &["secrets", "tls"]) >= 7);
    }
    org.stop().await;
}

/// Sweeps what an extraction printed, and every file outside the secrets folder.
fn sweep(one: &Extraction, output: &Output, except: &[&str]) {
    let planted = planted();
    planted.absent_from("stdout", &output.stdout);
    planted.absent_from("stderr", &output.stderr);
    assert!(output.stderr.contains("TRACE") || output.code() == 2, "it logs at TRACE: {output:?}");
    let except: Vec<&str> = ["secrets"].into_iter().chain(except.iter().copied()).collect();
    assert!(planted.absent_below(one.dir.path(), &except) >= 2);
}

fn traced(mut command: tokio::process::Command) -> tokio::process::Command {
    command.env("HYBRID_RUNNER_LOG__LEVEL", "trace").env("RUST_BACKTRACE", "full");
    command
}

#[tokio::test]
async fn an_extraction_that_succeeds_shows_no_secret() {
    let one = Extraction::with(org(), FaultPlan::default()).await;
    for connection in [soap_at_localhost(), format!("{OAUTH}salesforceDomain: localhost\n")] {
        one.workflow(&connection, "");
        let output = output(traced(one.command())).await;
        assert_eq!(output.code(), 0, "{output:?}");
        assert!(one.export().contains("\"fqn\":\"crm.default.salesforce\""));
        sweep(&one, &output, &[]);
    }
}

#[tokio::test]
async fn an_extraction_through_a_proxy_shows_no_secret() {
    let one = Extraction::with(org(), FaultPlan::default()).await;
    one.workflow(SOAP, "");
    let mut command = traced(one.proxied());
    command.env("SSL_CERT_FILE", "ca.pem");
    let output = output(command).await;
    assert_eq!(output.code(), 0, "{output:?}");
    sweep(&one, &output, &[]);
}

#[tokio::test]
async fn secrets_from_variables_and_from_the_workflow_itself_are_not_shown() {
    let one = Extraction::with(org(), FaultPlan::default()).await;
    let user = "username: integration@example.com\nsalesforceDomain: localhost\n";
    one.workflow(&format!("{user}password: ${{SF_PASSWORD}}\nsecurityToken: ${{SF_TOKEN}}\n"), "");
    let mut variables = traced(one.command());
    variables.env("SF_PASSWORD", PASSWORD).env("SF_TOKEN", SECURITY_TOKEN);
    let shown = output(variables).await;
    assert_eq!(shown.code(), 0, "{shown:?}");
    sweep(&one, &shown, &[]);

    // A JSON text is YAML, too.
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let literal = format!("{user}password: {}\nsecurityToken: {}\n", quoted(PASSWORD), quoted(SECURITY_TOKEN));
    one.workflow(&literal, "");
    let refused = output(traced(one.command())).await;
    assert_eq!(refused.code(), 2, "{refused:?}");
    sweep(&one, &refused, &["workflow.yaml"]);
    let mut permitted = traced(one.command());
    permitted.arg("--allow-literal-secrets");
    let permitted = output(permitted).await;
    assert_eq!(permitted.code(), 0, "{permitted:?}");
    sweep(&one, &permitted, &["workflow.yaml"]);

    // Where the place of the mistake is next to the secret.
    for (broken, code) in [
        (format!("password: {}\n  securityToken: {}\n", quoted(PASSWORD), quoted(SECURITY_TOKEN)), 2),
        (format!("password: [{}]\n", quoted(PASSWORD)), 2),
        (format!("password: {{{}: 1}}\n", quoted(PASSWORD)), 2),
        (format!("passwrd: {}\n", quoted(PASSWORD)), 2),
        (format!("salesforceDomain: {}\n", quoted(PASSWORD)), 2),
        (format!("securityToken: secret:{}\n", SECURITY_TOKEN.replace(['"', '\'', '%', '&'], "x")), 2),
    ] {
        one.workflow(&broken, "");
        let refused = output(traced(one.command())).await;
        assert_eq!(refused.code(), code, "{broken}: {refused:?}");
        sweep(&one, &refused, &["workflow.yaml"]);
    }
}

#[tokio::test]
async fn an_extraction_that_fails_shows_no_secret() {
    let first = |one: &Extraction| one.org.org().objects().next().unwrap().entry.name.clone();
    let one = Extraction::with(org(), FaultPlan::default()).await;
    let html = FaultPlan { html_describes: BTreeSet::from([first(&one)]), ..FaultPlan::default() };
    let faults: [(FaultPlan, i32); 7] = [
        (html, 3),
        (FaultPlan { soap_doctype: Some(1_000), ..FaultPlan::default() }, 1),
        (FaultPlan { truncate_next: 1, ..FaultPlan::default() }, 1),
        (FaultPlan { reset_next: 1, ..FaultPlan::default() }, 1),
        (FaultPlan { limit_reached: true, ..FaultPlan::default() }, 1),
        (FaultPlan { redirect_to: Some("https://127.0.0.1:9/".to_owned()), ..FaultPlan::default() }, 1),
        (FaultPlan { server_host: Some("evil.example".to_owned()), ..FaultPlan::default() }, 1),
    ];
    for (plan, code) in faults {
        let shown = format!("{plan:?}");
        one.org.faults().change(|now| *now = plan);
        let output = output(traced(one.command())).await;
        assert_eq!(output.code(), code, "{shown}: {output:?}");
        sweep(&one, &output, &[]);
    }
    one.org.faults().clear();
    one.secret("password", SECURITY_TOKEN);
    one.secret("token", PASSWORD);
    let output = output(traced(one.command())).await;
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains("AUTH_FAILED"), "{output:?}");
    sweep(&one, &output, &[]);
}

/// A port that notes who comes.
struct Elsewhere(TcpListener);

impl Elsewhere {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Connections are kept by the operating system until they are accepted, so none is missed.
    fn nobody_came(&self) {
        let came = self.0.accept();
        assert_eq!(came.map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[test]
fn a_visit_elsewhere_is_noticed() {
    let elsewhere = Elsewhere::new();
    elsewhere.nobody_came();
    drop(std::net::TcpStream::connect(("127.0.0.1", elsewhere.port())).unwrap());
    assert!(elsewhere.0.accept().is_ok());
}

#[tokio::test]
async fn a_redirect_of_a_login_is_not_followed() {
    for connection in [soap_at_localhost(), format!("{OAUTH}salesforceDomain: localhost\n")] {
        let elsewhere = Elsewhere::new();
        let to = format!("https://127.0.0.1:{}/services/Soap/u/64.0", elsewhere.port());
        let one = Extraction::with(org(), FaultPlan { redirect_to: Some(to), ..FaultPlan::default() }).await;
        one.workflow(&connection, "");
        // Not even to a host that is permitted.
        let (here, there) = (one.org.addr().port(), elsewhere.port());
        let hosts =
            format!("{{host: localhost, port: {here}, ca: ca.pem}}, {{host: 127.0.0.1, port: {there}, ca: ca.pem}}");
        one.write("config.yaml", &format!("salesforce: {{hosts: [{hosts}]}}\n"));
        let output = output(traced(one.command())).await;
        assert_eq!(output.code(), 1, "{output:?}");
        assert!(output.stderr.contains("SOURCE_PROTOCOL: localhost:"), "{output:?}");
        assert!(output.stderr.contains("redirects are not followed"), "{output:?}");
        assert_eq!(one.org.requests().total, 1, "a login is not repeated");
        elsewhere.nobody_came();
        sweep(&one, &output, &[]);
    }
}

#[tokio::test]
async fn a_redirect_after_the_login_is_not_followed() {
    let _logs = Logs::capture().expecting("redirects are not followed");
    let elsewhere = Elsewhere::new();
    let faults = FaultPlan { latency: Duration::from_millis(20), ..FaultPlan::default() };
    let world = World::with(Setup { org: Some(org()), faults, ..Setup::default() }).await;
    let mut agent = world.start_agent();
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    agent
        .until("the login", |event| match event {
            AgentEvent::Notice { notice, .. } => (notice.code == "login_succeeded").then_some(()),
            _ => None,
        })
        .await;
    let to = format!("https://127.0.0.1:{}/", elsewhere.port());
    world.org.faults().change(|plan| plan.redirect_to = Some(to));
    let run = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("SOURCE_PROTOCOL")), "{run:?}");
    elsewhere.nobody_came();
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_session_is_not_taken_to_a_host_that_the_login_names_and_the_policy_does_not_permit() {
    let elsewhere = Elsewhere::new();
    let port = elsewhere.port();
    for connection in [soap_at_localhost(), format!("{OAUTH}salesforceDomain: localhost\n")] {
        let one = Extraction::with(org(), FaultPlan::default()).await;
        one.workflow(&connection, "");
        for host in [
            format!("127.0.0.1:{port}"),
            format!("localhost:{port}"),
            format!("user@127.0.0.1:{port}"),
            format!("localhost@127.0.0.1:{port}"),
            format!("127.1:{port}"),
            "127.0.0.1".to_owned(),
            "evil.example".to_owned(),
            "login.salesforce.com.evil.example".to_owned(),
            "salesforce.com.evil.example".to_owned(),
            "evilsalesforce.com".to_owned(),
            format!("acme.my.salesforce.com:{port}"),
            String::new(),
        ] {
            let before = one.org.requests();
            one.org.faults().change(|plan| plan.server_host = Some(host.clone()));
            let mut command = traced(one.command());
            command.env("HTTPS_PROXY", one.org.proxy_url()).env("NO_PROXY", "localhost");
            let output = output(command).await;
            assert_eq!(output.code(), 1, "{host}: {output:?}");
            assert!(output.stderr.contains("SOURCE_PROTOCOL: localhost:"), "{host}: {output:?}");
            let after = one.org.requests();
            assert_eq!(after.total - before.total, 1, "{host}: the login and nothing else");
            assert_eq!((after.tunnels, after.tunnels_refused), (0, 0), "{host}: no other host is asked for");
            elsewhere.nobody_came();
            sweep(&one, &output, &[]);
        }
    }
}

#[tokio::test]
async fn a_login_is_sent_once_to_the_login_host_and_no_path_holds_a_secret() {
    let one = Extraction::with(org(), FaultPlan::default()).await;
    one.workflow(SOAP, "");
    let mut command = one.proxied();
    command.env("SSL_CERT_FILE", "ca.pem");
    assert_eq!(output(command).await.code(), 0);
    let log = one.org.log();
    let logins: Vec<_> = log.iter().filter(|request| request.kind == Kind::SoapLogin).collect();
    assert_eq!(logins.iter().map(|login| login.host.as_str()).collect::<Vec<_>>(), ["login.salesforce.com"]);
    for request in &log {
        planted().absent_from("a path", &request.path);
    }
}
