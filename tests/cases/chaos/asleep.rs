//! An agent that is stopped (SIGSTOP) for longer than its lease, and wakes up while another one runs its pipeline.

use hybrid_runner_tests::deployment::{
    PLANE, assert_ends_well, assert_same_export, committed, last_number, read, undisturbed,
};
use hybrid_runner_tests::world::write;

use super::{LEASE, lines, short_leases, since};

/// How the other agent is named in the log.
const OTHER: &str = r#"agent="other""#;

#[tokio::test]
async fn an_agent_that_was_asleep_beyond_its_lease_writes_nothing_when_it_wakes_up() {
    let deployment = short_leases("240").await;
    // Longer than what a busy machine may keep the other agent from its heartbeats.
    deployment.change(PLANE, LEASE, "lease: {ttl: 2s, heartbeat: 400ms}");
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    // Another agent, under a name of its own.
    let add = ["agent", "add", "other", "--out", "identities"];
    deployment.control_plane(&add).await;
    let values = read(deployment.dir.path(), "identities/other.yaml");
    let text = read(deployment.dir.path(), "hybrid-runner.yaml");
    let rest = text.split_once("\nsecrets:").unwrap().1;
    let (endpoint, ca) = (deployment.agent_setting("endpoint"), deployment.agent_setting("ca"));
    let config = format!("{values}  endpoint: {endpoint}\n  ca: {ca}\n\nsecrets:{rest}");
    write(deployment.dir.path(), "other.yaml", &config);

    let mut sleeper = deployment.start_agent("sleeper.log");
    let some = |log: &str| last_number(log, "batch durable", "next_seq").filter(|&next| next > 3);
    let before = plane.until("the first batches", some).await;
    sleeper.signal("STOP");
    let asleep = plane.log().len();
    assert!(sleeper.is_alive() && committed(&plane.log(), "").is_none(), "it was stopped in the middle of a run");

    let (_, argv) = deployment.commands.iter().find(|(name, _)| name == "hybrid-runner").unwrap();
    let argv: Vec<String> = argv
        .iter()
        .map(|word| if word == "hybrid-runner.yaml" { "other.yaml".to_owned() } else { word.clone() })
        .collect();
    let other = deployment.run(&argv, "other.log");
    let goes_on = |log: &str| {
        let log = since(log, asleep);
        let opened = log.lines().find(|line| line.contains("push opened") && line.contains(OTHER))?;
        last_number(opened, "push opened", "next_seq").filter(|_| lines(log, "batch durable") > 0)
    };
    let went_on = plane.until("the other agent to run it", goes_on).await;
    assert!(went_on >= before, "{before} records were durable, and the other agent went on at {went_on}");
    assert!(committed(&plane.log(), "").is_none(), "it wakes up in the middle of the other one's run");
    sleeper.signal("CONT");
    // It finds out that the lease is not its own, and is there for the next run.
    let finds_out = |log: &str| ["lease", "fenced", "FENCED"].iter().any(|word| log.contains(word)).then_some(());
    sleeper.until("the sleeper to find out", finds_out).await;
    plane.until("the commit", |log| committed(log, "")).await;

    // What was under way when it was stopped may have come under its lease; nothing of it comes after the next grant.
    let log = plane.log();
    let granted =
        since(&log, asleep).lines().skip_while(|line| !(line.contains("push opened") && line.contains(OTHER)));
    let writes = granted.filter(|line| line.contains("batch durable") || line.contains("run committed"));
    let (by_other, stale): (Vec<&str>, Vec<&str>) = writes.partition(|line| line.contains(OTHER));
    assert_eq!(stale, Vec::<&str>::new(), "stale writes were applied");
    assert!(by_other.len() > 1, "{by_other:?}");
    let run = deployment.shown_run(None).await;
    assert_eq!(
        (&run["state"], &run["complete"], &run["agent"]),
        (&"committed".into(), &true.into(), &"other".into()),
        "{run}"
    );
    assert_same_export(&deployment.export().await, &undisturbed("240").await);
    assert_ends_well([sleeper, other, plane, org]).await;
}
