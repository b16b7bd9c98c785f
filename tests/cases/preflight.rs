//! Whether secrets can be read, before Salesforce hears of any: `secrets check`, and the answer to a definition.

use control_plane::store::{RunState, Verdict};
use hybrid_runner_tests::extraction::Extraction;
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Output, command, output, program};
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{Setup, World, pipeline_yaml};
use serde_json::Value;

/// `hybrid-runner secrets check` in the folder of an extraction.
async fn check(one: &Extraction, arguments: &[&str]) -> Output {
    let mut command = command(&program("hybrid-runner"));
    command.current_dir(one.dir.path()).args(["secrets", "check", "-c", "workflow.yaml"]);
    command.args(["--secrets", "file:secrets", "--config", "config.yaml"]).args(arguments);
    output(command).await
}

fn row<'a>(rows: &'a Value, field: &str) -> &'a Value {
    rows.as_array().unwrap().iter().find(|row| row["field"] == field).unwrap()
}

#[tokio::test]
async fn every_secret_of_a_workflow_is_read_and_none_is_shown() {
    let one = Extraction::new().await;
    one.secret("token", "short");
    let login = one.org.credentials();
    let checked = check(&one, &["--json"]).await;
    assert_eq!(checked.code(), 0, "{checked:?}");
    let rows = checked.json();
    let password = row(&rows, "password");
    assert_eq!((&password["pipeline"], &password["ok"]), (&"workflow".into(), &true.into()));
    assert_eq!(password["reference"], "secret:/salesforce/password");
    assert_eq!(password["store"], "secrets");
    assert!(password["version"].as_str().unwrap().starts_with("modified 20"), "{rows}");
    assert_eq!(password["hosts"][1], format!("localhost:{}", one.org.addr().port()), "{rows}");
    assert_eq!(password["detail"], Value::Null);
    let token = row(&rows, "securityToken");
    assert!(token["ok"] == true && token["detail"].as_str().unwrap().contains("fewer than 8 bytes"), "{rows}");
    let table = check(&one, &[]).await;
    assert!(table.code() == 0 && table.stdout.contains("may go to *.salesforce.com:443"), "{table:?}");
    for output in [&checked, &table] {
        assert!(!format!("{output:?}").contains(&login.password), "a value is shown");
    }
    assert_eq!(one.org.requests().total, 0, "Salesforce is not asked");
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_has_its_reason_and_a_remedy_and_the_others_are_read() {
    let one = Extraction::new().await;
    std::fs::remove_file(one.dir.path().join("secrets/salesforce/token")).unwrap();
    one.secret("password", "");
    let checked = check(&one, &["--json"]).await;
    assert_eq!(checked.code(), 1, "{checked:?}");
    let rows = checked.json();
    for (field, reason, detail, remedy) in [
        ("password", "SECRET_MALFORMED", "is empty", "write a value"),
        ("securityToken", "SECRET_UNAVAILABLE", "not found in store `secrets`", "write the secret at this path"),
    ] {
        let row = row(&rows, field);
        assert_eq!((&row["ok"], &row["reason"]), (&false.into(), &reason.into()), "{rows}");
        assert!(row["detail"].as_str().unwrap().contains(detail), "{rows}");
        assert!(row["remedy"].as_str().unwrap().starts_with(remedy), "{rows}");
    }
    let table = check(&one, &[]).await;
    assert!(table.stdout.contains("→ write a value"), "{table:?}");
    // What is no input is refused before anything is read.
    let mut neither = command(&program("hybrid-runner"));
    neither.args(["secrets", "check"]);
    assert_eq!(output(neither).await.code(), 2);
    one.workflow("username: a\npassword: hunter2\n", "");
    let refused = check(&one, &[]).await;
    assert!(refused.code() == 2 && !format!("{refused:?}").contains("hunter2"), "{refused:?}");
    assert_eq!(one.org.requests().total, 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_shown_with_the_pipeline_before_its_first_run() {
    let _logs = Logs::capture()
        .expecting("a secret cannot be read")
        .expecting("the agent cannot read a secret")
        .expecting("SECRET_UNAVAILABLE");
    let pipeline = pipeline_yaml("").replace("secret:/salesforce/token", "secret:/salesforce/none");
    let world = World::with(Setup { pipeline: Some(pipeline), ..Setup::default() }).await;
    let agent = world.start_agent();
    let verdict = verdict(&world).await;
    assert!(verdict.accepted, "a rotation may be under way: the run finds out");
    let [secret] = &verdict.unreadable_secrets[..] else { panic!("{verdict:?}") };
    assert_eq!((secret.field.as_str(), secret.reason.as_str()), ("securityToken", "SECRET_UNAVAILABLE"));
    assert_eq!(secret.reference, "secret:/salesforce/none");
    assert!(secret.detail.contains("not found in store `memory`"), "{secret:?}");
    assert_eq!(world.org.requests().total, 0, "Salesforce is not asked");
    let mut shown = command(&program("control-plane"));
    shown.current_dir(world.dir.path()).args(["pipelines", "--config", "control-plane.yaml"]);
    let shown = output(shown).await;
    let line = "one: SECRET_UNAVAILABLE, securityToken: secret secret:/salesforce/none not found";
    assert!(shown.stdout.contains("one: accepted") && shown.stdout.contains(line), "{shown:?}");
    let run = world.run().await;
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("SECRET_UNAVAILABLE")));
    assert_eq!(world.org.requests().total, 0);
    agent.stop().await;
    world.stop().await;
}

/// What the agent thinks of the pipeline, as soon as it said so.
async fn verdict(world: &World) -> Verdict {
    let mut changes = world.plane.changes();
    within("the answer to the definition", async {
        loop {
            if let Some(verdict) = world.plane.store().verdicts().await.unwrap().pop() {
                return verdict;
            }
            changes.changed().await.unwrap();
        }
    })
    .await
}
