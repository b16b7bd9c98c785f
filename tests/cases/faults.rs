//! What Salesforce's faults come to at the control plane: an incomplete run deletes nothing, a failed one shows nothing.

use std::collections::BTreeSet;

use control_plane::store::{Deletions, Run, RunState};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::world::{RunningAgent, Setup, World, pipeline_yaml};
use sandbox::{Disturbance, Kind, OrgConfig, Target, Wrong};
use serde_json::Value;

type Entities = Vec<(String, String, Value)>;

/// A world after a first, complete run, and what is visible then.
async fn after_a_first_run(setup: Setup) -> (World, RunningAgent, Entities) {
    let world = World::with(setup).await;
    let agent = world.start_agent();
    let run = world.run().await;
    assert_eq!((run.state, run.complete), (RunState::Committed, true), "{run:?}");
    let entities = world.entities().await;
    (world, agent, entities)
}

fn name(world: &World, nth: usize) -> String {
    world.org.org().objects().nth(nth).unwrap().entry.name.clone()
}

fn table(name: &str) -> String {
    format!("crm.default.salesforce.{name}")
}

fn columns<'a>(entities: &'a Entities, name: &str) -> Vec<&'a str> {
    let (_, _, entity) = entities.iter().find(|(_, fqn, _)| *fqn == table(name)).unwrap();
    entity["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect()
}

fn fqns(entities: &Entities) -> BTreeSet<&str> {
    entities.iter().map(|(_, fqn, _)| fqn.as_str()).collect()
}

fn refused(status: u16, code: &str, message: &str) -> Wrong {
    Wrong::Refused { status, code: Some(code.to_owned()), message: message.to_owned(), retry_after: None }
}

fn met(world: &World) -> u32 {
    world.org.faults().plan().disturbances.iter().map(|fault| fault.met).sum()
}

fn deletions(run: &Run) -> (RunState, bool, u64, Deletions) {
    let figures = run.figures.unwrap_or_else(|| panic!("not committed: {run:?}"));
    (run.state, run.complete, figures.deleted, figures.deletions)
}

#[tokio::test]
async fn a_describe_that_stays_unavailable_makes_the_run_incomplete_and_nothing_is_deleted_until_one_is_complete() {
    let _logs = Logs::capture();
    let (world, agent, before) = after_a_first_run(Setup::default()).await;
    let [unavailable, changed, removed] = [7, 11, 30].map(|nth| name(&world, nth));
    world.org.change_org(|org| {
        org.remove(&removed).unwrap();
        org.add_field(&unavailable, "Added__c").unwrap();
        org.add_field(&changed, "Added__c").unwrap();
    });
    let aim = Target::Part(format!("/sobjects/{unavailable}/describe"));
    let fault = Disturbance::always(aim, refused(503, "SERVER_UNAVAILABLE", "Try again later."));
    world.org.faults().change(|plan| plan.disturbances = vec![fault]);
    let run = world.run().await;
    assert!(met(&world) >= 4, "it was asked for {} times", met(&world));
    assert_eq!(deletions(&run), (RunState::Committed, false, 0, Deletions::None));
    assert_eq!(run.figures.unwrap().summary.failed, 1);
    let incomplete = world.entities().await;
    assert_eq!(fqns(&incomplete), fqns(&before), "what is gone stays, and what could not be read");
    assert!(columns(&incomplete, &changed).contains(&"Added__c"), "what could be read is as the org has it");
    assert_eq!(
        columns(&incomplete, &unavailable),
        columns(&before, &unavailable),
        "what could not be read is as it was"
    );

    world.org.faults().clear();
    assert_eq!(deletions(&world.run().await), (RunState::Committed, true, 1, Deletions::Applied));
    let after = world.entities().await;
    assert!(columns(&after, &unavailable).contains(&"Added__c"));
    let mut expected = fqns(&before);
    assert!(expected.remove(table(&removed).as_str()));
    assert_eq!(fqns(&after), expected);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_in_the_middle_fails_the_run_and_nothing_of_it_is_visible() {
    let _logs = Logs::capture().expecting("SOURCE_THROTTLED");
    let org = Some(OrgConfig { objects: 400, fields_per_object: Some(8), ..OrgConfig::default() });
    let (world, agent, before) = after_a_first_run(Setup { org, ..Setup::default() }).await;
    let [changed, removed] = [0, 390].map(|nth| name(&world, nth));
    world.org.change_org(|org| {
        org.remove(&removed).unwrap();
        org.add_field(&changed, "Added__c").unwrap();
    });
    let aim = Target::Call(Kind::Composite, "/describe".to_owned());
    let fault = Disturbance::always(aim, refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."));
    world.org.faults().change(|plan| plan.disturbances = vec![fault.after(6)]);
    let described = world.org.requests().describes;
    let run = world.run().await;
    assert!(met(&world) > 0 && world.org.requests().describes > described, "it was used up in the middle");
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("SOURCE_THROTTLED")), "{run:?}");
    assert!(run.detail.as_deref().unwrap_or_default().contains("24 hours"), "{run:?}");
    assert_eq!((run.complete, run.figures), (false, None));
    assert_eq!(world.entities().await, before);

    world.org.faults().clear();
    assert_eq!(deletions(&world.run().await), (RunState::Committed, true, 1, Deletions::Applied));
    let after = world.entities().await;
    assert!(columns(&after, &changed).contains(&"Added__c"));
    assert_eq!(fqns(&before).difference(&fqns(&after)).copied().collect::<Vec<_>>(), [table(&removed)]);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn annotations_that_stay_unreadable_fail_the_run_instead_of_taking_them_from_the_tables() {
    let _logs = Logs::capture().expecting("SOURCE_UNREACHABLE");
    let more = "      connectionOptions: {fieldOwners: 'true', recordCounts: 'true'}";
    let setup = Setup { pipeline: Some(pipeline_yaml(more)), ..Setup::default() };
    let (world, agent, before) = after_a_first_run(setup).await;
    let fault = Disturbance::always(Target::Part("FROM+User".to_owned()), refused(503, "SERVER_UNAVAILABLE", "Later."));
    world.org.faults().change(|plan| plan.disturbances = vec![fault]);
    let run = world.run().await;
    assert!(met(&world) > 1);
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("SOURCE_UNREACHABLE")), "{run:?}");
    assert_eq!(world.entities().await, before);

    world.org.faults().clear();
    assert_eq!(deletions(&world.run().await), (RunState::Committed, true, 0, Deletions::None));
    assert_eq!(world.entities().await, before);
    agent.stop().await;
    world.stop().await;
}
