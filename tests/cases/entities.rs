//! What leaves the agent is what OpenMetadata's server takes.

use std::collections::BTreeSet;

use hybrid_runner_openmetadata::entity::{CreateTable, DataType};
use hybrid_runner_openmetadata::rules;
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::outside;
use hybrid_runner_tests::schemas::Schemas;
use hybrid_runner_tests::world::{Setup, World};
use sandbox::OrgConfig;

/// Every entity that a world commits for an org.
async fn committed(org: OrgConfig) -> Vec<(String, String, serde_json::Value)> {
    let _logs = Logs::capture();
    let world = World::with(Setup { org: Some(org), ..Setup::default() }).await;
    let agent = world.start_agent();
    let run = world.run().await;
    assert!(run.complete, "{run:?}");
    let entities = world.entities().await;
    agent.stop().await;
    world.stop().await;
    entities
}

fn check_all(entities: &[(String, String, serde_json::Value)]) {
    for version in Schemas::VERSIONS {
        let schemas = Schemas::load(version).unwrap();
        for (kind, fqn, entity) in entities {
            schemas.validate(kind, entity).unwrap_or_else(|error| panic!("{version} {fqn}: {error}"));
        }
    }
    let mut tables = 0;
    for (kind, fqn, entity) in entities {
        let entity = entity.clone();
        let checked = match kind.as_str() {
            "table" => {
                tables += 1;
                rules::check_table(&serde_json::from_value(entity).unwrap())
            }
            "classification" => rules::check_classification(&serde_json::from_value(entity).unwrap()),
            "tag" => rules::check_tag(&serde_json::from_value(entity).unwrap()),
            _ => Ok(()),
        };
        checked.unwrap_or_else(|violation| panic!("{fqn}: {violation}"));
    }
    assert!(tables > 20, "only {tables} tables");
    check_labels(entities);
}

/// The server refuses a table with the label of a tag that it does not know.
fn check_labels(entities: &[(String, String, serde_json::Value)]) {
    let known: BTreeSet<_> = entities.iter().filter(|(kind, ..)| kind == "tag").map(|(_, fqn, _)| fqn).collect();
    for (_, fqn, entity) in entities.iter().filter(|(kind, ..)| kind == "table") {
        let table: CreateTable = serde_json::from_value(entity.clone()).unwrap();
        let labels = table.columns.iter().flat_map(|column| &column.tags).chain(&table.tags);
        let unknown: Vec<_> = labels.map(|label| &label.tag_fqn).filter(|tag| !known.contains(tag)).collect();
        assert!(unknown.is_empty(), "{fqn}: {unknown:?}");
    }
}

#[tokio::test]
async fn every_entity_of_a_generated_org_is_valid_in_1_13_and_2_0_and_by_the_servers_own_rules() {
    if outside::schemas("entities of a generated org").is_none() {
        return;
    }
    // 60 objects have every field type and every kind of object (sandbox's own tests).
    check_all(&committed(OrgConfig { objects: 60, ..OrgConfig::default() }).await);
}

#[tokio::test]
async fn every_entity_of_the_recorded_org_is_valid_in_1_13_and_2_0_and_by_the_servers_own_rules() {
    let (Some(recordings), Some(_)) =
        (outside::recordings("entities of the recorded org"), outside::schemas("entities of the recorded org"))
    else {
        return;
    };
    check_all(&committed(OrgConfig { recordings: Some(recordings), ..OrgConfig::default() }).await);
}

#[tokio::test]
async fn foreign_keys_point_only_to_columns_of_committed_tables() {
    let entities = committed(OrgConfig { objects: 60, ..OrgConfig::default() }).await;
    let mut columns = BTreeSet::new();
    let mut references = Vec::new();
    for (_, fqn, entity) in entities.iter().filter(|(kind, _, _)| kind == "table") {
        let table: CreateTable = serde_json::from_value(entity.clone()).unwrap();
        columns.extend(table.columns.iter().map(|column| format!("{fqn}.{}", column.name)));
        references.extend(table.table_constraints.into_iter().flat_map(|constraint| constraint.referred_columns));
    }
    assert!(references.len() > 50, "only {} foreign keys", references.len());
    let dangling: Vec<_> = references.iter().filter(|reference| !columns.contains(*reference)).collect();
    assert!(dangling.is_empty(), "{dangling:?}");
}

#[tokio::test]
async fn no_recorded_field_has_an_unknown_type() {
    let Some(recordings) = outside::recordings("types of recorded fields") else { return };
    for (_, fqn, entity) in committed(OrgConfig { recordings: Some(recordings), ..OrgConfig::default() }).await {
        if let Ok(table) = serde_json::from_value::<CreateTable>(entity) {
            let unknown: Vec<_> = table.columns.iter().filter(|column| column.data_type == DataType::Unknown).collect();
            assert!(unknown.is_empty(), "{fqn}: {unknown:?}");
        }
    }
}
