//! The conformance kit: our control plane keeps every rule, and one that breaks a rule is found out.

mod tampered;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use control_plane::Handle;
use control_plane::clock::{Clock as _, SystemClock};
use hybrid_runner_conformance::{CannotAct, Identity, Operator, Options, Outcome, Report, Target, catalogue, run};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::root;
use hybrid_runner_tests::world::{PIPELINE, Setup, TOKEN, World};

/// Short enough for the checks that wait for a lease to run out.
const LEASE: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(250));

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
    let target = Target::new(&format!("https://localhost:{port}"), Some(world.authority.pem.clone()), identity).unwrap();
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
    let logs = EXPECTED.iter().fold(Logs::capture(), |logs, text| logs.expecting(text));
    let world = world().await;
    let reports = checked(&world, world.port, certificate(&world), &[]).await;
    assert_eq!(reports.len(), catalogue().count());
    println!("{:#?}", not_ok(&reports));
    world.stop().await;
    drop(logs);
}
