//! The local policy: what it denies no store is asked for, nothing is sent for, and `policy explain` explains.

use std::net::TcpListener;
use std::sync::Arc;

use control_plane::store::RunState;
use hybrid_runner::AgentConfig;
use hybrid_runner_secrets::{Binding, Policy};
use hybrid_runner_tests::extraction::{Extraction, OAUTH};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Output, command, output, program};
use hybrid_runner_tests::world::{RunningAgent, Setup, World, pipeline_yaml};
use serde_json::Value;

/// `hybrid-runner policy explain` in the folder of an extraction.
async fn explain(one: &Extraction, arguments: &[&str]) -> Output {
    let mut command = command(&program("hybrid-runner"));
    command.current_dir(one.dir.path()).args(["policy", "explain", "-c", "workflow.yaml", "--config", "config.yaml"]);
    command.args(arguments);
    output(command).await
}

/// A configuration whose one store is a server that must never be asked.
async fn with_a_server_as_store(policy: &str) -> (Extraction, TcpListener) {
    let one = Extraction::new().await;
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    store.set_nonblocking(true).unwrap();
    let (port, address) = (one.org.addr().port(), store.local_addr().unwrap());
    one.write("token", "t");
    one.write(
        "config.yaml",
        &format!(
            "salesforce:\n  hosts: [{{host: localhost, port: {port}, ca: ca.pem}}]\n\
             secrets:\n  stores:\n    vault: {{vault: {{address: 'http://{address}', auth: {{token_file: token}}}}}}\n\
             {policy}"
        ),
    );
    (one, store)
}

fn assert_untouched(one: &Extraction, store: &TcpListener) {
    let asked = store.accept().map(|_| ()).unwrap_err();
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock, "nobody asked the store");
    assert_eq!(one.org.requests().total, 0);
}

fn row<'a>(rows: &'a Value, field: &str) -> &'a Value {
    rows.as_array().unwrap().iter().find(|row| row["field"] == field).unwrap()
}

#[tokio::test]
async fn an_explanation_says_why_and_asks_neither_the_store_nor_salesforce() {
    let (one, store) = with_a_server_as_store("").await;
    let allowed = explain(&one, &["--json"]).await;
    assert_eq!(allowed.code(), 0, "{allowed:?}");
    let rows = allowed.json();
    let password = row(&rows, "password");
    assert_eq!((&password["reference"], &password["use"]), (&"secret:/salesforce/password".into(), &"soap".into()));
    assert_eq!((&password["store"], &password["host"]), (&"vault".into(), &"localhost".into()));
    assert_eq!(password["port"], one.org.addr().port());
    assert!(password["why"].as_str().unwrap().contains("the default for Salesforce"), "{rows}");
    assert_eq!(row(&rows, "securityToken")["allowed"], true);

    let bindings =
        "policy:\n  bindings:\n    - {references: ['secret:/salesforce/password'], hosts: ['*.salesforce.com']}\n";
    let (other, other_store) = with_a_server_as_store(bindings).await;
    let denied = explain(&other, &["--json"]).await;
    assert_eq!(denied.code(), 1, "{denied:?}");
    let rows = denied.json();
    assert!(row(&rows, "password")["why"].as_str().unwrap().ends_with("policy.bindings[0] does not cover the host"));
    assert!(row(&rows, "securityToken")["why"].as_str().unwrap().ends_with("the reference and host"), "{rows}");
    let table = explain(&other, &[]).await;
    assert!(table.code() == 1 && table.stdout.contains("denied") && table.stdout.contains("→ in policy.bindings[0]"));

    other.workflow("username: a\npassword: hunter2\n", "");
    let refused = explain(&other, &[]).await;
    assert!(refused.code() == 2 && !format!("{refused:?}").contains("hunter2"), "{refused:?}");
    assert_untouched(&one, &store);
    assert_untouched(&other, &other_store);
}

#[tokio::test]
async fn what_the_policy_denies_ends_an_extraction_before_store_and_salesforce_hear_of_it() {
    let cases = [
        "policy: {bindings: [{references: ['secret:/other/**'], hosts: ['*.salesforce.com', 'localhost:PORT']}]}",
        "policy: {bindings: [{references: ['**'], hosts: ['*.salesforce.com']}]}",
        "policy: {bindings: [{references: ['**'], hosts: ['localhost:PORT'], uses: [oauth]}]}",
        "policy: {bindings: [{references: ['**'], hosts: ['localhost:PORT'], pipelines: [other.*]}]}",
    ];
    for case in cases {
        let (one, store) = with_a_server_as_store("").await;
        let config = std::fs::read_to_string(one.dir.path().join("config.yaml")).unwrap();
        one.write("config.yaml", &format!("{config}{}\n", case.replace("PORT", &one.org.addr().port().to_string())));
        for program_command in ["extract", "test-connection"] {
            let mut command = command(&program("hybrid-runner"));
            command.current_dir(one.dir.path()).args([
                program_command,
                "-c",
                "workflow.yaml",
                "--config",
                "config.yaml",
            ]);
            if program_command == "extract" {
                command.args(["--out", "out.jsonl"]);
            }
            let output = output(command).await;
            let expected = if program_command == "extract" { 2 } else { 1 };
            assert_eq!(output.code(), expected, "{case} {output:?}");
            assert!(
                output.stderr.contains("SECRET_UNAVAILABLE: password: secret secret:/salesforce/password not found")
            );
            if program_command == "extract" {
                assert!(output.stderr.contains("policy.bindings[0] does not cover the "), "{output:?}");
            }
        }
        assert_untouched(&one, &store);
    }
}

#[tokio::test]
async fn a_binding_that_covers_the_login_and_the_orgs_host_is_enough_for_a_run() {
    let one = Extraction::new().await;
    let port = one.org.addr().port();
    let policy = format!(
        "policy:\n  bindings:\n    - {{references: ['secret:/salesforce/consumer-*'], hosts: ['localhost:{port}'], \
         uses: [oauth], pipelines: [workflow]}}\n"
    );
    let config = std::fs::read_to_string(one.dir.path().join("config.yaml")).unwrap();
    one.write("config.yaml", &format!("{config}{policy}"));
    one.workflow(&format!("{OAUTH}salesforceDomain: localhost\n"), "");
    let output = output(one.command()).await;
    assert_eq!(output.code(), 0, "{output:?}");
}

/// The control plane learns the same whether a secret is missing or not permitted; the agent's own log says which.
#[tokio::test]
async fn denied_and_missing_are_one_answer_to_the_control_plane() {
    let mut answers = Vec::new();
    for references in ["secret:/salesforce/password", "**"] {
        let logs = Logs::capture().expecting("SECRET_UNAVAILABLE").expecting("a secret cannot be read");
        let pipeline = pipeline_yaml("").replace("secret:/salesforce/token", "secret:/salesforce/none");
        let world = World::with(Setup { pipeline: Some(pipeline), ..Setup::default() }).await;
        let host = format!("localhost:{}", world.org.addr().port()).parse().unwrap();
        let binding = Binding::new("policy.bindings[0]", vec![references.parse().unwrap()], vec![host]);
        let policy = Some(Arc::new(Policy::new(vec![binding])));
        let agent = RunningAgent::start(AgentConfig { policy, ..world.agent_config("one") });
        let run = world.run().await;
        assert_eq!(run.state, RunState::Failed, "{run:?}");
        assert_eq!(world.org.requests().total, 0);
        agent.stop().await;
        world.stop().await;
        answers.push((run.reason, run.detail, logs.text().contains("policy.bindings[0] does not cover the reference")));
    }
    let [denied, missing] = answers.try_into().unwrap();
    assert_eq!((&denied.0, &denied.1), (&missing.0, &missing.1));
    assert!(denied.1.unwrap().contains("secret:/salesforce/none not found in store `memory`, or "));
    assert_eq!((denied.2, missing.2), (true, false), "the agent's log knows");
}
