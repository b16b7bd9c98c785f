//! The conformance kit: our control plane keeps every rule, and one that breaks a rule is found out.

mod tampered;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use control_plane::Handle;
use control_plane::clock::{Clock as _, SystemClock};
use hybrid_runner_conformance::{
    CannotAct, Commands, Identity, Operator, Options, Outcome, Report, Target, catalogue, run,
};
use hybrid_runner_tests::deployment::{Deployment, PLANE, assert_ends_well, read};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::program;
use hybrid_runner_tests::root;
use hybrid_runner_tests::world::{PIPELINE, Setup, World};

/// Short enough for the checks that wait for a lease to run out.
const LEASE: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(250));

/// Checks that are not run where a capability is not listed, or where all are.
const NOT_LISTED: [&str; 2] = ["a_resumed_run_begins_at_its_checkpoint", "an_unlisted_capability_is_named"];

/// What breaking the protocol logs.
const EXPECTED: [&str; 5] =
    ["a push ends", "the agent rejects a definition", "the lease of a run was ended", "agent left", "a session ends"];

/// Queues and cancels as `control-plane run` and `cancel` do.
struct Person(Handle);

#[async_trait]
impl Operator for Person {
    async fn trigger(&self, pipeline: &str) -> Result<(), CannotAct> {
        self.0.trigger(pipeline, false).await.map(drop).map_err(|error| CannotAct(error.to_string()))
    }

    async fn cancel(&self, run_id: &str) -> Result<(), CannotAct> {
        let cancelled = self.0.store().cancel(run_id.parse().unwrap(), SystemClock::new().now()).await;
        cancelled.map(drop).map_err(|error| CannotAct(error.to_string()))
    }
}

async fn world() -> World {
    World::with(Setup { lease: Some(LEASE), ..Setup::default() }).await
}

/// Runs the kit against whatever listens on this port in place of the world's control plane.
async fn checked(world: &World, port: u16, identity: Identity, only: &[&str]) -> Vec<Report> {
    let target =
        Target::new(&format!("https://localhost:{port}"), Some(world.authority.pem.clone()), identity).unwrap();
    let only = only.iter().map(|&name| name.to_owned()).collect();
    let options = Options { pipeline: Some(PIPELINE.to_owned()), only, ..Options::default() };
    let mut reports = Vec::new();
    run(&target, Arc::new(Person(world.plane.clone())), &options, |report| reports.push(report.clone())).await.unwrap();
    reports
}

fn certificate(world: &World) -> Identity {
    let pair = world.authority.agent("one");
    Identity::Certificate { chain: pair.certificate, key: pair.key }
}

/// The checks that did not end well, each with why.
fn not_ok(reports: &[Report]) -> Vec<(&str, &Outcome)> {
    reports.iter().filter(|report| report.outcome != Outcome::Ok).map(|report| (report.name, &report.outcome)).collect()
}

#[tokio::test]
async fn our_control_plane_keeps_every_rule_of_the_protocol() {
    let _logs = EXPECTED.iter().fold(Logs::capture(), |logs, text| logs.expecting(text));
    let world = world().await;
    let reports = checked(&world, world.port, certificate(&world), &[]).await;
    assert_eq!(reports.len(), catalogue().count());
    let not_run = not_ok(&reports).into_iter().filter(|(name, outcome)| {
        !(NOT_LISTED.contains(name) && matches!(outcome, Outcome::NotRun(why) if why.contains("capabilit")))
    });
    assert_eq!(not_run.collect::<Vec<_>>(), []);
    // It has cleaned up: nothing that it committed is left, and no run of its own.
    assert_eq!(world.entities().await, []);
    assert_eq!(world.plane.store().open_runs().await.unwrap(), []);
    world.stop().await;
}

#[test]
fn each_check_of_the_kit_is_a_rule_in_the_protocols_words() {
    let page = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let rows = page.lines().skip_while(|line| *line != "| rule | check |").skip(2);
    let rows: Vec<&str> = rows.take_while(|line| line.starts_with("| ")).collect();
    let checks: Vec<String> = catalogue().map(|(name, rule)| format!("| {rule} | `{name}` |")).collect();
    assert!(checks.len() >= 40, "{}", checks.len());
    assert_eq!(rows, checks);
}

#[tokio::test]
async fn the_built_control_plane_keeps_the_rules_with_runs_queued_and_cancelled_by_commands() {
    let deployment = Deployment::written(&["--objects", "20", "--describe-ms", "0"]).await;
    let plane = deployment.start_plane("plane.log").await;
    let file = |key: &str| read(deployment.dir.path(), &deployment.agent_setting(key));
    let identity = Identity::Certificate { chain: file("certificate"), key: file("key") };
    let target = Target::new(&deployment.agent_setting("endpoint"), Some(file("ca")), identity).unwrap();
    let asked = |verb: &str, what: &str| {
        let (program, config) = (program("control-plane"), deployment.dir.path().join(PLANE));
        Some(format!("'{}' {verb} \"${what}\" --config '{}'", program.display(), config.display()))
    };
    let person = Commands { trigger: asked("run", "PIPELINE"), cancel: asked("cancel", "RUN_ID") };
    // The TTL of a minute is not waited for.
    let patience = Duration::from_secs(5);
    let only =
        ["cancelled", "an_ack_means_durable", "is_granted_again", "gone", "compressed"].map(str::to_owned).to_vec();
    let mut reports = Vec::new();
    let options = Options { pipeline: None, only, patience };
    run(&target, Arc::new(person), &options, |report| reports.push(report.clone())).await.unwrap();
    let not_ok = not_ok(&reports);
    let [("a_lease_that_is_not_renewed_is_granted_again", Outcome::NotRun(why))] = not_ok[..] else {
        panic!("{not_ok:?}")
    };
    assert!(why.ends_with("--patience is 5 s"), "{why}");
    assert!(reports.len() >= 6, "{reports:?}");
    assert_eq!(deployment.export().await, "", "it has cleaned up");
    assert_ends_well([plane]).await;
}
