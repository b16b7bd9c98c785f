//! Whether a connection would work, looked at without running anything: from the command line, and through a control
//! plane.

use std::time::Duration;

use hybrid_runner_tests::extraction::{Extraction, soap_at_localhost};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Output, command, output, program};
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{RunningAgent, Setup, World, pipeline_yaml};
use sandbox::{FaultPlan, Kind, OrgConfig};
use serde_json::Value;
use tokio::process::Command;

const STEPS: [&str; 7] =
    ["CheckAccess", "Login", "ApiVersion", "ListObjects", "DescribeObject", "ToolingAccess", "ApiLimits"];

/// `hybrid-runner test-connection` in the folder of an extraction.
fn test_connection(one: &Extraction) -> Command {
    let mut command = command(&program("hybrid-runner"));
    command.current_dir(one.dir.path()).args(["test-connection", "-c", "workflow.yaml", "--json"]);
    command.args(["--secrets", "file:secrets", "--config", "config.yaml"]);
    command
}

/// `control-plane test-connection` on the files of a world.
async fn ask(world: &World, arguments: &[&str]) -> Output {
    let mut command = command(&program("control-plane"));
    command.current_dir(world.dir.path()).arg("test-connection").args(arguments);
    command.args(["--json", "--config", "control-plane.yaml"]);
    output(command).await
}

/// A world whose programs are built: building one holds this thread up, and with it every heartbeat.
async fn world(setup: Setup) -> World {
    assert!(program("control-plane").exists());
    World::with(setup).await
}

fn step<'a>(steps: &'a Value, name: &str) -> &'a Value {
    let mut all = steps.as_array().unwrap().iter();
    all.find(|step| step["name"] == name).unwrap_or_else(|| panic!("no {name} in {steps}"))
}

fn statuses(steps: &Value) -> Vec<(&str, &str)> {
    let all = steps.as_array().unwrap().iter();
    all.map(|step| (step["name"].as_str().unwrap(), step["status"].as_str().unwrap())).collect()
}

fn all_passed(steps: &Value) {
    assert_eq!(statuses(steps), STEPS.map(|name| (name, "Passed")), "{steps}");
}

#[tokio::test]
async fn a_good_connection_passes_each_step_with_six_requests() {
    let one = Extraction::new().await;
    let output = output(test_connection(&one)).await;
    assert_eq!(output.code(), 0, "{output:?}");
    let steps = output.json();
    all_passed(&steps);
    let message = |name: &str| step(&steps, name)["message"].as_str().unwrap().to_owned();
    assert!(message("Login").contains(" as integration@example.com") && message("Login").contains("Summer '27"));
    assert!(message("ListObjects").starts_with("30 objects listed: 30 in scope, 0 filtered"), "{steps}");
    assert!(message("ApiLimits").contains("a run needs about 5"), "{steps}");
    for name in STEPS {
        assert!(output.stderr.contains(name), "the table has each step: {output:?}");
    }
    let optional = ["ToolingAccess", "ApiLimits"].map(|name| step(&steps, name)["mandatory"] == false);
    assert_eq!(optional, [true, true]);
    assert_eq!(one.org.requests().total, 6);
}

#[tokio::test]
async fn a_wrong_password_fails_the_login_is_sent_once_and_skips_the_rest() {
    let one = Extraction::new().await;
    one.secret("password", "another-secret-word");
    let output = output(test_connection(&one)).await;
    assert_eq!(output.code(), 1, "{output:?}");
    let steps = output.json();
    let expected: Vec<_> =
        STEPS.iter().enumerate().map(|(at, name)| (*name, if at < 2 { "Failed" } else { "Skipped" })).collect();
    assert_eq!(statuses(&steps), expected, "{steps}");
    assert_eq!(step(&steps, "Login")["reason"], "AUTH_FAILED");
    for name in ["CheckAccess", "Login"] {
        assert!(step(&steps, name)["remediation"].as_str().unwrap().ends_with('.'), "{steps}");
    }
    assert_eq!(one.org.requests().total, 1);
    assert!(!format!("{output:?}").contains("another-secret-word"));
}

#[tokio::test]
async fn a_missing_secret_is_a_failed_login_and_nothing_is_sent() {
    let one = Extraction::new().await;
    std::fs::remove_file(one.dir.path().join("secrets/salesforce/token")).unwrap();
    let output = output(test_connection(&one)).await;
    assert_eq!(output.code(), 1, "{output:?}");
    assert_eq!(step(&output.json(), "Login")["reason"], "SECRET_UNAVAILABLE");
    assert_eq!(one.org.requests().total, 0);
}

#[tokio::test]
async fn a_user_without_view_setup_and_a_spent_quota_are_told_and_do_not_fail_the_test() {
    let faults = FaultPlan { no_view_setup: true, calls_used: 1_000_000_000, ..FaultPlan::default() };
    let one = Extraction::with(OrgConfig { objects: 30, ..OrgConfig::default() }, faults).await;
    let output = output(test_connection(&one)).await;
    assert_eq!(output.code(), 0, "{output:?}");
    let steps = output.json();
    let tooling = step(&steps, "ToolingAccess");
    assert_eq!((&tooling["status"], &tooling["reason"]), (&"Failed".into(), &"SOURCE_DENIED".into()));
    assert!(tooling["remediation"].as_str().unwrap().contains("View Setup and Configuration"), "{tooling}");
    let limits = step(&steps, "ApiLimits");
    assert_eq!((&limits["status"], &limits["reason"]), (&"Failed".into(), &"SOURCE_THROTTLED".into()));
    assert_eq!(step(&steps, "DescribeObject")["status"], "Passed");
}

#[tokio::test]
async fn what_the_definition_leaves_to_others_is_not_there_for_a_run() {
    let one = Extraction::new().await;
    one.workflow(&format!("{}connectionOptions: {{apiReservePercent: '100'}}\n", soap_at_localhost()), "");
    let output = output(test_connection(&one)).await;
    assert_eq!(output.code(), 0, "{output:?}");
    let steps = output.json();
    let limits = step(&steps, "ApiLimits");
    assert_eq!((&limits["status"], &limits["reason"]), (&"Failed".into(), &"SOURCE_THROTTLED".into()));
    assert!(limits["message"].as_str().unwrap().contains("apiReservePercent"), "{limits}");
}

#[tokio::test]
async fn without_tables_nothing_is_in_scope_and_the_option_is_named() {
    let one = Extraction::new().await;
    one.workflow(&soap_at_localhost(), "includeTables: false");
    let output = output(test_connection(&one)).await;
    assert_eq!(output.code(), 1, "{output:?}");
    let steps = output.json();
    assert!(step(&steps, "ListObjects")["remediation"].as_str().unwrap().contains("includeTables"), "{steps}");
}

#[tokio::test]
async fn unknown_names_are_named_and_a_scope_of_nothing_fails() {
    let one = Extraction::new().await;
    let known = one.org.org().objects().next().unwrap().entry.name.clone();
    let names = |names: &str| format!("{}sobjectNames: [{names}]\n", soap_at_localhost());
    one.workflow(&names(&format!("{}, Nowhere__c", known.to_lowercase())), "");
    let some = output(test_connection(&one)).await;
    assert_eq!(some.code(), 0, "{some:?}");
    let steps = some.json();
    let named = step(&steps, "NamedObjects");
    assert_eq!((&named["status"], &named["mandatory"]), (&"Failed".into(), &false.into()), "{steps}");
    assert!(named["message"].as_str().unwrap().contains("\"Nowhere__c\""), "{named}");
    one.workflow(&names("Nowhere__c"), "");
    let none = output(test_connection(&one)).await;
    assert_eq!(none.code(), 1, "{none:?}");
    let steps = none.json();
    let status = |name: &str| step(&steps, name)["status"].as_str().unwrap().to_owned();
    assert_eq!((status("CheckAccess"), status("ListObjects")), ("Passed".to_owned(), "Failed".to_owned()), "{steps}");
    assert_eq!((status("DescribeObject"), status("ApiLimits")), ("Skipped".to_owned(), "Passed".to_owned()));
    one.workflow(&names(&known.to_lowercase()), "");
    let spelled = output(test_connection(&one)).await.json();
    let message = step(&spelled, "NamedObjects")["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&format!("is spelled {known}")), "{spelled}");
}

#[tokio::test]
async fn a_workflow_that_is_refused_is_not_tested() {
    let one = Extraction::new().await;
    one.workflow(&format!("{}passwrd: x\n", soap_at_localhost()), "");
    let error = one.refusal_of(test_connection(&one)).await;
    assert!(error.contains("passwrd"), "{error}");
    one.workflow(&soap_at_localhost().replace("secret:/salesforce/password", "hunter2"), "");
    let error = one.refusal_of(test_connection(&one)).await;
    assert!(error.contains("--allow-literal-secrets") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn the_control_plane_has_an_agent_test_a_pipeline() {
    let _logs = Logs::capture();
    let world = world(Setup::default()).await;
    let agent = world.start_agent();
    let good = until_connected(&world, &["crm"]).await;
    assert_eq!(good.code(), 0, "{good:?}");
    all_passed(&good.json());
    assert_eq!(world.org.requests().count(Kind::Describe), 1);
    let unknown = ask(&world, &["nothing"]).await;
    assert_eq!(unknown.code(), 2, "{unknown:?}");
    assert!(unknown.stderr.contains("there is no pipeline nothing"), "{unknown:?}");
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn what_fails_at_the_agent_is_shown_at_the_control_plane() {
    let _logs = Logs::capture().expecting("a secret cannot be read").expecting("the agent cannot read a secret");
    let faults = FaultPlan { no_view_setup: true, ..FaultPlan::default() };
    let world = world(Setup { faults, ..Setup::default() }).await;
    let mut config = world.agent_config("one");
    let agent = RunningAgent::start(config.clone());
    let optional = until_connected(&world, &["crm"]).await;
    assert_eq!(optional.code(), 0, "{optional:?}");
    assert_eq!(step(&optional.json(), "ToolingAccess")["reason"], "SOURCE_DENIED");
    agent.stop().await;
    config.secrets = std::sync::Arc::default();
    let agent = RunningAgent::start(config);
    let failed = until_connected(&world, &["crm"]).await;
    assert_eq!(failed.code(), 1, "{failed:?}");
    assert_eq!(step(&failed.json(), "Login")["reason"], "SECRET_UNAVAILABLE", "{failed:?}");
    assert!(failed.stderr.contains("failed: CheckAccess, Login"), "{failed:?}");
    agent.stop().await;
    world.stop().await;
}

/// Asks again while no agent is connected yet.
async fn until_connected(world: &World, arguments: &[&str]) -> Output {
    let mut changes = world.plane.changes();
    within("the agent's session", async {
        while world.plane.sessions().is_empty() {
            changes.changed().await.unwrap();
        }
    })
    .await;
    ask(world, arguments).await
}

#[tokio::test]
async fn without_an_agent_the_test_says_so_and_fails() {
    let _logs = Logs::capture();
    let world = world(Setup::default()).await;
    let absent = ask(&world, &["crm"]).await;
    assert_eq!(absent.code(), 1, "{absent:?}");
    assert_eq!(absent.stdout, "", "{absent:?}");
    assert!(absent.stderr.contains("no agent is connected that can test a salesforce connection"), "{absent:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_test_that_takes_longer_than_asked_for_fails_in_time() {
    let _logs = Logs::capture();
    let faults = FaultPlan { latency: Duration::from_secs(30), ..FaultPlan::default() };
    let world = world(Setup { faults, ..Setup::default() }).await;
    let agent = world.start_agent();
    let late = until_connected(&world, &["crm", "--timeout", "1"]).await;
    assert_eq!(late.code(), 1, "{late:?}");
    let steps = late.json();
    assert_eq!(statuses(&steps), [("Agent", "Failed")], "{late:?}");
    assert!(steps[0]["message"].as_str().unwrap().contains("longer than was asked for"), "{late:?}");
    agent.stop().await;
    drop(world);
}

#[tokio::test]
async fn a_literal_password_in_a_definition_is_a_failed_step_without_the_password() {
    let _logs = Logs::capture().expecting("definition");
    let yaml = pipeline_yaml("").replace("secret:/salesforce/password", "hunter2");
    let world = world(Setup { pipeline: Some(yaml), ..Setup::default() }).await;
    let agent = world.start_agent();
    let refused = until_connected(&world, &["crm"]).await;
    assert_eq!(refused.code(), 1, "{refused:?}");
    let steps = refused.json();
    assert_eq!((statuses(&steps), &steps[0]["reason"]), (vec![("Definition", "Failed")], &"LITERAL_SECRET".into()));
    assert!(!format!("{refused:?}").contains("hunter2"));
    agent.stop().await;
    world.stop().await;
}
