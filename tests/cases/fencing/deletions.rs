//! What a run may delete: what is gone at the source, in scope of the definition, and nothing by mistake.

use std::collections::{BTreeMap, BTreeSet};

use control_plane::store::{Deletions, Run, RunState};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, Setup, World, pipeline_yaml, write};

use super::visible;

/// A world with an agent after its first, complete run, and the names of its tables.
async fn after_a_first_run(setup: Setup) -> (World, RunningAgent, BTreeMap<String, String>) {
    let world = World::with(setup).await;
    let agent = world.start_agent();
    let run = world.run().await;
    assert_eq!((run.state, run.complete), (RunState::Committed, true), "{run:?}");
    let mut tables = BTreeMap::new();
    for (kind, fqn, entity) in world.entities().await {
        if kind == "table" {
            tables.insert(entity["name"].as_str().unwrap().to_owned(), fqn);
        }
    }
    assert_eq!(tables.len(), 40);
    (world, agent, tables)
}

/// Writes the pipeline anew and waits until it is in force.
async fn change_pipeline(world: &World, text: &str) {
    let version = world.plane.store().definitions().await.unwrap()[0].version;
    let mut changes = world.plane.changes();
    write(world.dir.path(), "pipelines/crm.yaml", text);
    within("the changed definition", async {
        while world.plane.store().definitions().await.unwrap()[0].version == version {
            changes.changed().await.unwrap();
        }
    })
    .await;
}

fn deletions(run: &Run) -> (bool, u64, Deletions) {
    let figures = run.figures.unwrap_or_else(|| panic!("not committed: {run:?}"));
    (run.complete, figures.deleted, figures.deletions)
}

#[tokio::test]
async fn a_complete_run_deletes_the_object_that_is_gone_and_no_other() {
    let _logs = Logs::capture();
    let (world, agent, tables) = after_a_first_run(Setup::default()).await;
    let before = visible(&world).await;
    let (name, fqn) = tables.last_key_value().unwrap();
    world.org.change_org(|org| org.remove(name)).unwrap();
    assert_eq!(deletions(&world.run().await), (true, 1, Deletions::Applied));
    let after = visible(&world).await;
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), [fqn]);
    assert!(after.is_subset(&before));
    assert_eq!(deletions(&world.run().await), (true, 0, Deletions::None));
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_run_that_is_not_complete_deletes_nothing() {
    let _logs = Logs::capture();
    let (world, agent, tables) = after_a_first_run(Setup::default()).await;
    let before = visible(&world).await;
    let mut names = tables.keys().rev();
    let (gone, broken) = (names.next().unwrap(), names.next().unwrap());
    world.org.change_org(|org| org.remove(gone)).unwrap();
    world.org.faults().change(|plan| plan.html_describes.insert(broken.clone()));
    let run = world.run().await;
    assert_eq!(deletions(&run), (false, 0, Deletions::None));
    let failures = world.plane.store().failures(run.run_id).await.unwrap();
    assert_eq!(failures.iter().map(|failure| &failure.fqn).collect::<Vec<_>>(), [&tables[broken]]);
    assert_eq!(visible(&world).await, before, "neither what failed nor what is gone");
    // The next complete one does.
    world.org.faults().clear();
    assert_eq!(deletions(&world.run().await), (true, 1, Deletions::Applied));
    assert!(!visible(&world).await.contains(&tables[gone]));
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn an_object_that_the_filter_leaves_out_is_not_deleted_even_when_it_is_gone() {
    let _logs = Logs::capture();
    let (world, agent, tables) = after_a_first_run(Setup::default()).await;
    let before = visible(&world).await;
    let name = tables.last_key_value().unwrap().0;
    let filter = format!("type: DatabaseMetadata\n      tableFilterPattern: {{excludes: ['^{name}$']}}");
    change_pipeline(&world, &pipeline_yaml("").replace("type: DatabaseMetadata", &filter)).await;
    let run = world.run().await;
    assert_eq!(deletions(&run), (true, 0, Deletions::None));
    assert_eq!(run.figures.unwrap().summary.filtered, 1);
    assert_eq!(visible(&world).await, before);
    world.org.change_org(|org| org.remove(name)).unwrap();
    assert_eq!(deletions(&world.run().await), (true, 0, Deletions::None));
    assert_eq!(visible(&world).await, before);
    // Without the filter it is in scope again, and gone.
    change_pipeline(&world, &pipeline_yaml("")).await;
    assert_eq!(deletions(&world.run().await), (true, 1, Deletions::Applied));
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn more_deletions_than_the_guard_allows_wait_for_an_operator_and_a_newer_run_voids_them() {
    let _logs = Logs::capture();
    let (world, agent, tables) = after_a_first_run(Setup::default()).await;
    let before = visible(&world).await;
    let names: Vec<&String> = tables.keys().rev().take(12).collect();
    world.org.change_org(|org| names.iter().try_for_each(|name| org.remove(name))).unwrap();
    let gone: BTreeSet<String> = names.iter().map(|name| tables[*name].clone()).collect();
    let store = world.plane.store();

    let first = world.run().await;
    assert_eq!(deletions(&first), (true, 0, Deletions::NeedsConfirmation));
    assert_eq!(visible(&world).await, before);
    let second = world.run().await;
    assert_eq!(deletions(&second), (true, 0, Deletions::NeedsConfirmation));
    assert_eq!(store.decide_deletions(first.run_id, true).await.unwrap(), None, "void: a newer run committed");
    assert_eq!(visible(&world).await, before);

    let pending = store.pending_deletions().await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].run_id, pending[0].pipeline.as_str()), (second.run_id, PIPELINE));
    assert_eq!(pending[0].fqns.iter().cloned().collect::<BTreeSet<_>>(), gone);
    assert_eq!(store.decide_deletions(second.run_id, true).await.unwrap(), Some(12));
    assert_eq!(visible(&world).await, before.difference(&gone).cloned().collect());
    assert_eq!(store.decide_deletions(second.run_id, true).await.unwrap(), None, "decided once");
    assert_eq!(deletions(&world.run().await), (true, 0, Deletions::None));
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn deletions_that_an_operator_rejects_do_not_happen() {
    let _logs = Logs::capture();
    let (world, agent, tables) = after_a_first_run(Setup::default()).await;
    let before = visible(&world).await;
    world.org.change_org(|org| tables.keys().rev().take(12).try_for_each(|name| org.remove(name))).unwrap();
    let run = world.run().await;
    assert_eq!(deletions(&run), (true, 0, Deletions::NeedsConfirmation));
    world.plane.store().decide_deletions(run.run_id, false).await.unwrap();
    assert_eq!(visible(&world).await, before);
    assert_eq!(world.plane.store().pending_deletions().await.unwrap(), []);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_definition_that_does_not_mark_deleted_tables_deletes_nothing() {
    let _logs = Logs::capture();
    let quiet = "type: DatabaseMetadata\n      markDeletedTables: false";
    let pipeline = pipeline_yaml("").replace("type: DatabaseMetadata", quiet);
    let (world, agent, tables) = after_a_first_run(Setup { pipeline: Some(pipeline), ..Setup::default() }).await;
    let before = visible(&world).await;
    world.org.change_org(|org| org.remove(tables.last_key_value().unwrap().0)).unwrap();
    assert_eq!(deletions(&world.run().await), (true, 0, Deletions::None));
    assert_eq!(visible(&world).await, before);
    agent.stop().await;
    world.stop().await;
}
