//! The project's own describes become exactly the entities in `fixtures/golden`. Made again by
//! `UPDATE_GOLDENS=1 cargo test -p hybrid-runner-salesforce --test goldens`, and reviewed as text.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use hybrid_runner_openmetadata::entity::CreateTable;
use hybrid_runner_openmetadata::rules::check_table;
use hybrid_runner_salesforce::annotations::{Annotations, Vocabulary};
use hybrid_runner_salesforce::config::Selection;
use hybrid_runner_salesforce::describe::Describe;
use hybrid_runner_salesforce::listing::{ListedObject, Listing};
use hybrid_runner_salesforce::map::{MapError, Mapped, Mapper};
use hybrid_runner_salesforce::naming::Naming;
use serde::Serialize;
use serde_json::{Value, json};

/// The table of a describe of which nothing else is known.
fn table(mapper: &Mapper, object: &ListedObject, describe: &Describe<'_>) -> Result<Mapped, MapError> {
    mapper.finish(mapper.draft(object, describe)?, &Annotations::default(), &Vocabulary::default())
}

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

fn listing() -> Listing {
    Listing::parse(&std::fs::read(fixture("global.json")).unwrap()).unwrap()
}

fn mapper() -> Mapper {
    let in_scope = listing().objects;
    let selection = Selection { in_scope, database: true, schema: true, ..Selection::default() };
    Mapper::new(Naming::new("crm.eu", "default"), "acme.my.salesforce.com", &selection, false)
}

fn compare(golden: &str, made: &impl Serialize) {
    let path = fixture("golden").join(golden);
    let mut made = serde_json::to_string_pretty(made).unwrap();
    made.push('\n');
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(made, expected, "{golden}: if the change is wanted, make the goldens again (see fixtures/README.md)");
}

fn table_is_golden(object: &str) {
    let answer = std::fs::read(fixture("describe").join(format!("{object}.json"))).unwrap();
    let listed = listing().objects.into_iter().find(|listed| listed.name == object).unwrap();
    let mapped = table(&mapper(), &listed, &Describe::parse(&answer).unwrap()).unwrap();
    let table: CreateTable = serde_json::from_slice(mapped.entity.body().unwrap()).unwrap();
    assert_eq!(check_table(&table), Ok(()));
    assert_eq!(mapped.skipped, 0);
    // The type has every member of the body in the body's order.
    assert_eq!(serde_json::to_vec(&table).unwrap(), mapped.entity.body().unwrap().as_ref());
    compare(&format!("{object}.json"), &table);
}

#[test]
fn one_field_of_every_type_and_flag_maps_as_reviewed() {
    table_is_golden("Everything__c");
}

#[test]
fn every_kind_of_reference_maps_as_reviewed() {
    table_is_golden("Invoice__c");
}

#[test]
fn absent_members_map_as_reviewed() {
    table_is_golden("Bare__mdt");
}

#[test]
fn the_parents_are_as_reviewed() {
    let parents: Vec<Value> = mapper()
        .parents(&Vocabulary::default())
        .unwrap()
        .iter()
        .map(|parent| {
            let entity: Value = serde_json::from_slice(parent.body().unwrap()).unwrap();
            json!({"kind": parent.kind, "fqn": parent.fqn, "entity": entity})
        })
        .collect();
    compare("parents.json", &parents);
}
