//! `hybrid-runner doctor`: what a healthy installation looks like, and that each fault fails one check and no other.

mod machine;
mod secrets;
mod way;

use std::collections::BTreeSet;
use std::sync::Arc;

use control_plane::store::RunState;
use hybrid_runner::{AgentConfig, AgentEvent, MemoryStore, SecretValue, Stores};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Output, command, output, program};
use hybrid_runner_tests::root;
use hybrid_runner_tests::sweep::Planted;
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, TOKEN, World, write};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// The agent `token-agent` of a world on disk, and what of its configuration cases change.
struct Installation {
    dir: TempDir,
    /// `host:port`
    endpoint: String,
    identity: &'static str,
    /// Further keys of `control_plane`.
    more: String,
    /// `secrets.stores`
    stores: String,
    /// Further variables and programs before it.
    prefix: Vec<String>,
    org: u16,
}

const MOUNTED: &str = "{mounted: {file: {dir: secrets}}}";
const BY_TOKEN: &str = "token_file: agent.token";
const BY_CERTIFICATE: &str = "tls: {certificate: agent.pem, key: agent.key}";

impl Installation {
    fn new(world: &World) -> Self {
        let dir = TempDir::new().unwrap();
        let (pair, login) = (world.authority.agent("two"), world.org.credentials());
        for (name, text) in [
            ("ca.pem", world.authority.pem.as_str()),
            ("org-ca.pem", world.org.ca_pem()),
            ("agent.pem", &pair.certificate),
            ("agent.key", &pair.key),
            ("agent.token", TOKEN),
            ("secrets/salesforce/password", &login.password),
            ("secrets/salesforce/token", &login.security_token),
        ] {
            write(dir.path(), name, text);
        }
        Self {
            dir,
            endpoint: format!("localhost:{}", world.port),
            identity: BY_TOKEN,
            more: String::new(),
            stores: MOUNTED.to_owned(),
            prefix: Vec::new(),
            org: world.org.addr().port(),
        }
    }

    fn write(&self, name: &str, text: &str) {
        write(self.dir.path(), name, text);
    }

    async fn doctor(&self, arguments: &[&str]) -> Output {
        let Self { endpoint, identity, more, stores, org, .. } = self;
        self.write(
            "hybrid-runner.yaml",
            &format!(
                "control_plane: {{endpoint: 'https://{endpoint}', ca: ca.pem, {identity}{more}}}
secrets: {{stores: {stores}}}
salesforce: {{use_system_proxy: false, hosts: [{{host: localhost, port: {org}, ca: org-ca.pem}}]}}
"
            ),
        );
        let program = program("hybrid-runner");
        let mut doctor = match self.prefix.split_first() {
            None => command(&program),
            Some((first, rest)) => {
                let mut before: Command = command(first.as_ref());
                before.args(rest).arg(&program);
                before
            }
        };
        doctor.current_dir(self.dir.path()).args(["doctor", "--config", "hybrid-runner.yaml"]).args(arguments);
        output(doctor).await
    }

    /// That one check fails, and no other; the row of it.
    async fn fails(&self, check: &str) -> Value {
        let output = self.doctor(&["--json"]).await;
        assert_eq!(output.code(), 1, "{check}: {output:?}");
        let report = output.json();
        assert_eq!(report["status"], "fail");
        let failed: Vec<&Value> = rows(&report).iter().filter(|row| row["status"] == "fail").collect();
        assert!(failed.len() == 1 && failed[0]["check"] == check, "{check}: {failed:#?}");
        assert!(failed[0]["advice"].as_str().is_some_and(|advice| advice.len() > 10), "{failed:#?}");
        failed[0].clone()
    }

    /// As [`Installation::fails`], with these words in what was seen.
    async fn fails_with(&self, check: &str, words: &str) {
        let row = self.fails(check).await;
        assert!(row["seen"].as_str().unwrap().contains(words), "{row:#}");
    }
}

fn rows(report: &Value) -> &Vec<Value> {
    report["checks"].as_array().unwrap()
}

fn row<'a>(report: &'a Value, check: &str) -> &'a Value {
    rows(report).iter().find(|row| row["check"] == check).unwrap_or_else(|| panic!("no {check}: {report:#}"))
}

#[tokio::test]
async fn a_healthy_agent_has_no_failed_check_and_neither_it_nor_salesforce_notices() {
    let _logs = Logs::capture();
    // Perhaps it is built first, while nothing else happens on this thread.
    drop(program("hybrid-runner"));
    let world = World::new().await;
    let mut agent = world.start_agent();
    agent.until("a session", |event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
    let before = world.plane.sessions().len();
    let mut one = Installation::new(&world);
    one.identity = BY_CERTIFICATE;
    let looked = one.doctor(&["--json"]).await;
    assert_eq!(looked.code(), 0, "{looked:?}");
    let report = looked.json();
    let of_the_way = ["configuration", "dns", "tcp", "tls", "http2", "clock", "identity", "protocol"];
    for check in of_the_way.into_iter().chain(["stores", "definitions", "references"]) {
        assert_eq!(row(&report, check)["status"], "ok", "{report:#}");
    }
    assert_eq!(
        (&row(&report, "proxy")["status"], &row(&report, "salesforce")["status"]),
        (&"skipped".into(), &"skipped".into())
    );
    assert!(row(&report, "tls")["seen"].as_str().unwrap().contains("CN=control plane for localhost"), "{report:#}");
    assert!(row(&report, "identity")["seen"].as_str().unwrap().contains("agent://two"), "{report:#}");
    assert_eq!(row(&report, "definitions")["subject"], "crm");
    assert_eq!(report["versions"]["hybrid_runner"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["configuration"]["control_plane"]["ca"], "ca.pem");

    assert_eq!(world.org.requests().total, 0, "Salesforce is not asked");
    assert_eq!(world.plane.sessions().len(), before, "whoever looks is no agent");
    while let Ok(event) = agent.events.try_recv() {
        assert!(!matches!(event, AgentEvent::Disconnected { .. }), "{event:?}");
    }
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn salesforce_is_asked_only_by_name_and_its_steps_are_told_one_by_one() {
    let world = World::new().await;
    let one = Installation::new(&world);
    let looked = one.doctor(&["--only", "salesforce", "--json"]).await;
    assert_eq!(looked.code(), 0, "{looked:?}");
    let report = looked.json();
    let steps: Vec<&str> = rows(&report).iter().map(|row| row["subject"].as_str().unwrap()).collect();
    let wanted = ["Login", "ApiVersion", "ListObjects", "DescribeObject", "ToolingAccess", "ApiLimits"];
    assert_eq!(steps, wanted.map(|step| format!("crm: {step}")), "{report:#}");
    assert!(rows(&report).iter().all(|row| row["check"] == "salesforce" && row["status"] == "ok"), "{report:#}");

    one.write("secrets/salesforce/password", "another password");
    let refused = one.doctor(&["--only", "salesforce", "--json"]).await;
    assert_eq!(refused.code(), 1, "{refused:?}");
    let failed: Vec<_> = rows(&refused.json()).iter().filter(|row| row["status"] == "fail").cloned().collect();
    assert!(failed.len() == 1 && failed[0]["subject"] == "crm: Login", "{failed:#?}");
    world.stop().await;
}

#[tokio::test]
async fn no_report_holds_a_secret_and_what_is_no_input_is_refused() {
    let world = World::new().await;
    let (one, login) = (Installation::new(&world), world.org.credentials());
    let planted = Planted::new([
        ("password", &*login.password),
        ("security token", &*login.security_token),
        ("bearer token", TOKEN),
    ]);
    for arguments in [&["--json"][..], &[], &["--only", "salesforce"]] {
        let output = one.doctor(arguments).await;
        assert_eq!(output.code(), 0, "{output:?}");
        for text in [&output.stdout, &output.stderr] {
            planted.absent_from(&format!("the output with {arguments:?}"), text);
        }
    }
    let refused = one.doctor(&["--only", "dns,weather"]).await;
    assert!(refused.code() == 2 && refused.stderr.contains("possible values"), "{refused:?}");
    one.write("hybrid-runner.yaml", "control_plane: {endpont: x}");
    let mut misspelt = command(&program("hybrid-runner"));
    misspelt.current_dir(one.dir.path()).args(["doctor", "--config", "hybrid-runner.yaml"]);
    let misspelt = output(misspelt).await;
    assert!(misspelt.code() == 2 && misspelt.stderr.contains("`endpoint`"), "{misspelt:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_is_shown_alone_with_what_fails_before_it() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    let table = one.doctor(&["--only", "dns,identity"]).await;
    let words: Vec<&str> = table.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((table.code(), words), (0, vec!["dns", "identity", "2"]), "{table:?}");
    one.endpoint = format!("no-such-host.invalid:{}", world.port);
    let failed = one.doctor(&["--only", "identity"]).await;
    assert_eq!(failed.code(), 1, "{failed:?}");
    assert!(failed.stdout.contains("→ docs/operations.md#doctor-dns"), "{failed:?}");
    assert!(failed.stdout.contains("dns failed"), "{failed:?}");
    world.stop().await;
}

#[tokio::test]
async fn each_check_is_explained_where_it_points_to() {
    let world = World::new().await;
    let report = Installation::new(&world).doctor(&["--json"]).await.json();
    let anchors: BTreeSet<&str> = rows(&report).iter().map(|row| row["docs"].as_str().unwrap()).collect();
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    // As GitHub makes anchors of headings.
    let headings = page.lines().filter_map(|line| line.strip_prefix("### doctor: "));
    let explained: BTreeSet<String> = headings.map(|name| format!("docs/operations.md#doctor-{name}")).collect();
    assert_eq!(anchors, explained.iter().map(String::as_str).collect());
    world.stop().await;
}

#[tokio::test]
async fn how_the_last_run_ended_is_shown_without_a_login_and_a_rejected_login_warns() {
    let world = World::new().await;
    let one = Installation::new(&world);
    let shown = async || {
        let before = world.org.requests().total;
        let looked = one.doctor(&["--json"]).await;
        assert_eq!(looked.code(), 0, "{looked:?}");
        assert_eq!(world.org.requests().total, before, "Salesforce is not asked");
        let report = looked.json();
        let of_salesforce: Vec<&Value> = rows(&report).iter().filter(|row| row["check"] == "salesforce").collect();
        assert!(of_salesforce.len() == 1 && of_salesforce[0]["subject"] == "crm", "{of_salesforce:#?}");
        let row = of_salesforce[0];
        (row["status"].as_str().unwrap().to_owned(), row["seen"].as_str().unwrap().to_owned(), row["advice"].clone())
    };
    let (status, seen, _) = shown().await;
    assert!(status == "skipped" && seen.contains("no run has ended yet"), "{status}: {seen}");

    let agent = world.start_agent();
    assert_eq!(world.run().await.state, RunState::Committed);
    agent.stop().await;
    let (status, seen, _) = shown().await;
    assert!(status == "ok" && seen.starts_with("the last run was committed"), "{status}: {seen}");

    let wrong = MemoryStore::default()
        .with("/salesforce/password", SecretValue::new("another password".to_owned()))
        .with("/salesforce/token", SecretValue::new(world.org.credentials().security_token));
    let secrets = Arc::new(Stores::default().with("memory", wrong));
    let agent = RunningAgent::start(AgentConfig { secrets, ..world.agent_config("one") });
    assert_eq!(world.run().await.state, RunState::Failed);
    // One that waits is no last run.
    agent.stop().await;
    world.plane.trigger(PIPELINE, false).await.unwrap();
    let (status, seen, advice) = shown().await;
    assert!(
        status == "warn" && seen.contains("the last run failed") && seen.ends_with("AUTH_FAILED"),
        "{status}: {seen}"
    );
    assert!(advice.as_str().unwrap().contains("correct the user name, password or token"), "{advice}");
    world.stop().await;
}
