//! The project's own describes become exactly the entities in `fixtures/golden`. Made again by
//! `UPDATE_GOLDENS=1 cargo test -p hybrid-runner-salesforce --test goldens`, and reviewed as text.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hybrid_runner_openmetadata::entity::CreateTable;
use hybrid_runner_openmetadata::rules::check_table;
use hybrid_runner_salesforce::annotations::{Annotations, FieldAnnotations, Vocabulary};
use hybrid_runner_salesforce::config::Selection;
use hybrid_runner_salesforce::describe::Describe;
use hybrid_runner_salesforce::listing::Listing;
use hybrid_runner_salesforce::map::Mapper;
use hybrid_runner_salesforce::naming::Naming;
use serde::Serialize;
use serde_json::{Value, json};

/// What is known beyond the describes; of `Bare__mdt` nothing is.
fn annotations(object: &str) -> Annotations {
    let text = |text: &str| Some(text.to_owned());
    let field = |name: &str, field: FieldAnnotations| (name.to_owned(), field);
    let fields = match object {
        "Everything__c" => BTreeMap::from([
            field("code__c", FieldAnnotations { sensitivity: text("Confidential"), ..Default::default() }),
            field(
                "card__c",
                FieldAnnotations {
                    description: text("Given to us by the *customer*."),
                    sensitivity: text("Restricted"),
                    compliance: vec!["PII".to_owned(), "GDPR".to_owned(), "House rule".to_owned()],
                    status: text("DeprecateCandidate"),
                    owner: text("Data Stewards"),
                },
            ),
        ]),
        "Invoice__c" => BTreeMap::from([field(
            "corrects__c",
            FieldAnnotations { description: text("The invoice that this one replaces. "), ..Default::default() },
        )]),
        _ => return Annotations::default(),
    };
    Annotations { description: text("What we *sell*."), records: Some(1_234_567), fields }
}

fn vocabulary() -> Vocabulary {
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    Vocabulary {
        sensitivity: list(&["Public", "Confidential", "Restricted"]),
        compliance: list(&["PII", "GDPR", "v1.2::draft"]),
        status: list(&["Active", "DeprecateCandidate", "Hidden"]),
    }
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
    Mapper::new(Naming::new("crm.eu", "default"), "acme.my.salesforce.com", &selection, true)
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
    let mapper = mapper();
    let draft = mapper.draft(&listed, &Describe::parse(&answer).unwrap()).unwrap();
    let mapped = mapper.finish(draft, &annotations(object), &vocabulary()).unwrap();
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
        .parents(&vocabulary())
        .unwrap()
        .iter()
        .map(|parent| {
            let entity: Value = serde_json::from_slice(parent.body().unwrap()).unwrap();
            json!({"kind": parent.kind, "fqn": parent.fqn, "entity": entity})
        })
        .collect();
    compare("parents.json", &parents);
}

/// What a run remembers of an object holds only as long as the mapping is the same.
#[test]
fn another_mapping_has_another_version() {
    let mut hasher = blake3::Hasher::new();
    for golden in ["Bare__mdt.json", "Everything__c.json", "Invoice__c.json", "parents.json"] {
        hasher.update(&std::fs::read(fixture("golden").join(golden)).unwrap());
    }
    let digest = hasher.finalize().to_hex();
    assert_eq!(
        (Mapper::VERSION, digest.as_str().get(..16)),
        (1, Some("e55edc657e2d71cf")),
        "the goldens differ from those of this version: raise Mapper::VERSION by one, so that what earlier runs remember \
         does not count, and put the new pair here"
    );
}
