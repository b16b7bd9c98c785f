//! Every recorded answer of a real org goes through parse and map. What is expected is counted in the recording itself,
//! by code that shares nothing with the connector's.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "says what was not run")]

#[path = "recordings/schema.rs"]
mod schema;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hybrid_runner_openmetadata::entity::{Constraint, ConstraintType, CreateTable, DataType};
use hybrid_runner_openmetadata::rules::check_table;
use hybrid_runner_salesforce::annotations::{Annotations, Vocabulary};
use hybrid_runner_salesforce::config::Selection;
use hybrid_runner_salesforce::describe::Describe;
use hybrid_runner_salesforce::listing::{ListedObject, Listing};
use hybrid_runner_salesforce::map::{MapError, Mapped, Mapper};
use hybrid_runner_salesforce::naming::Naming;
use serde_json::Value;

/// The releases of OpenMetadata whose schemas are known.
const RELEASES: [&str; 2] = ["1.13", "2.0"];

/// The table of a describe of which nothing else is known.
fn mapped(mapper: &Mapper, object: &ListedObject, describe: &Describe<'_>) -> Result<Mapped, MapError> {
    mapper.finish(mapper.draft(object, describe)?, &Annotations::default(), &Vocabulary::default())
}

/// A folder of the shared material; `None`, after saying so, where it is not there. CI has it.
fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    let hint = format!("not run: there is no ../shared/{folder} beside the repository; put the shared folder there");
    assert!(std::env::var_os("CI").is_none(), "{hint}");
    println!("{hint}");
    None
}

/// The recordings in some folders, by file name.
fn recordings(folders: &[&str]) -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let Some(folder) = shared(&format!("fixtures/salesforce/{folder}")) else { return Vec::new() };
        files.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.sort();
    assert!(!files.is_empty());
    let read = |file: PathBuf| {
        let recording: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        (file.file_name().unwrap().to_string_lossy().into_owned(), recording["response"]["body"].clone())
    };
    files.into_iter().map(read).collect()
}

/// Every recorded describe, alone or in a composite answer.
fn describes() -> Vec<(String, Value)> {
    let mut describes = recordings(&["describe", "evolution"]);
    for (file, answer) in recordings(&["composite"]) {
        for (list, body) in [("results", "result"), ("compositeResponse", "body")] {
            let parts = answer[list].as_array().into_iter().flatten();
            let bodies = parts.map(|part| part[body].clone()).filter(|body| body["fields"].is_array());
            describes.extend(bodies.map(|body| (file.clone(), body)));
        }
    }
    describes
}

/// The largest recorded list, as the scope of the foreign keys.
fn listed() -> Option<Listing> {
    let lists = recordings(&["global"]);
    let (_, largest) = lists.iter().max_by_key(|(_, list)| list["sobjects"].as_array().unwrap().len())?;
    Some(Listing::parse(largest.to_string().as_bytes()).unwrap())
}

fn map(describe: &Value, listing: &Listing) -> Mapped {
    let answer = describe.to_string();
    let parsed = Describe::parse(answer.as_bytes()).unwrap();
    let object = ListedObject { name: describe["name"].as_str().unwrap().to_owned(), ..ListedObject::default() };
    let mut in_scope = listing.objects.clone();
    in_scope.push(object.clone());
    let selection = Selection { in_scope, database: true, schema: true, ..Selection::default() };
    let mapper =
        Mapper::new(Naming::new("salesforce_prod", "default"), "example-org.my.salesforce.com", &selection, true);
    mapped(&mapper, &object, &parsed).unwrap()
}

fn table(mapped: &Mapped) -> CreateTable {
    serde_json::from_slice(mapped.entity.body().unwrap()).unwrap()
}

fn fields(describe: &Value) -> &Vec<Value> {
    describe["fields"].as_array().unwrap()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn every_recorded_field_is_a_column_of_a_known_type_in_the_same_order() {
    let Some(listing) = listed() else { return };
    for (file, describe) in describes() {
        let mapped = map(&describe, &listing);
        let table = table(&mapped);
        let expected: Vec<_> = fields(&describe).iter().map(|field| field["name"].as_str().unwrap()).collect();
        let found: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(found, expected, "{file}");
        assert_eq!((mapped.columns, mapped.skipped), (u64::try_from(expected.len()).unwrap(), 0), "{file}");
        for (index, (column, field)) in table.columns.iter().zip(fields(&describe)).enumerate() {
            let name = &column.name;
            assert_ne!(column.data_type, DataType::Unknown, "{file} {name}");
            assert_eq!(column.data_type_display.as_deref(), field["type"].as_str(), "{file} {name}");
            assert_eq!(column.display_name.as_deref(), field["label"].as_str(), "{file} {name}");
            assert_eq!(column.ordinal_position, u32::try_from(index + 1).ok(), "{file} {name}");
            let length = field["length"].as_u64().filter(|length| *length > 0);
            assert_eq!(column.data_length.map(u64::from), length, "{file} {name}");
            if field["precision"].as_u64() > Some(0) && column.data_type == DataType::Decimal {
                assert_eq!(column.precision.map(u64::from), field["precision"].as_u64(), "{file} {name}");
                assert_eq!(column.scale.map(u64::from), field["scale"].as_u64(), "{file} {name}");
            }
        }
    }
}

#[test]
fn every_recorded_key_is_found() {
    let Some(listing) = listed() else { return };
    let mut foreign_keys = 0;
    for (file, describe) in describes() {
        let mapped = map(&describe, &listing);
        let table = table(&mapped);
        let own = describe["name"].as_str().unwrap();
        let in_scope: HashSet<&str> = listing.objects.iter().map(|object| object.name.as_str()).chain([own]).collect();
        let mut expected_keys = 0;
        let mut expected_references = Vec::new();
        for (field, column) in fields(&describe).iter().zip(&table.columns) {
            let expected = match field {
                field if field["type"] == "id" && field["name"] == "Id" => Constraint::PrimaryKey,
                field if field["unique"] == true => Constraint::Unique,
                field if field["nillable"] == true => Constraint::Null,
                _ => Constraint::NotNull,
            };
            assert_eq!(column.constraint, Some(expected), "{file} {}", column.name);
            expected_keys += u64::from(matches!(expected, Constraint::PrimaryKey | Constraint::Unique));
            let targets = strings(&field["referenceTo"]);
            if field["type"] == "reference" && targets.len() <= 5 {
                for target in targets.into_iter().filter(|target| in_scope.contains(target)) {
                    let schema = "salesforce_prod.default.salesforce";
                    expected_references.push((column.name.clone(), format!("{schema}.{target}.Id")));
                }
            }
        }
        let found = table.table_constraints.iter().map(|key| {
            assert_eq!(key.constraint_type, ConstraintType::ForeignKey);
            (key.columns.join(" "), key.referred_columns.join(" "))
        });
        assert_eq!(found.collect::<Vec<_>>(), expected_references, "{file}");
        foreign_keys += expected_references.len();
        expected_keys += u64::try_from(expected_references.len()).unwrap();
        assert_eq!(mapped.keys, expected_keys, "{file}");
    }
    assert!(foreign_keys > 100, "the recordings hold {foreign_keys}");
}

#[test]
fn every_recorded_picklist_value_and_formula_is_in_a_description() {
    let Some(listing) = listed() else { return };
    for (file, describe) in describes() {
        let table = table(&map(&describe, &listing));
        for (field, column) in fields(&describe).iter().zip(&table.columns) {
            let description = column.description.as_deref().unwrap_or_default();
            let values = field["picklistValues"].as_array().into_iter().flatten();
            for value in values.filter(|value| value["active"] == true).take(100) {
                let value = value["value"].as_str().unwrap();
                assert!(description.contains(&format!("`{value}`")), "{file} {}: {value}", column.name);
            }
            for key in ["calculatedFormula", "inlineHelpText"] {
                let text = field[key].as_str().unwrap_or_default().trim();
                assert!(description.contains(text), "{file} {}: {key}", column.name);
            }
        }
    }
}

#[test]
fn every_recorded_flag_is_a_tag() {
    let Some(listing) = listed() else { return };
    let mut found = std::collections::BTreeMap::new();
    for (file, describe) in describes() {
        let table = table(&map(&describe, &listing));
        for (field, column) in fields(&describe).iter().zip(&table.columns) {
            let system = ["Id", "IsDeleted", "CreatedById", "CreatedDate", "LastModifiedById", "LastModifiedDate"];
            let is_system = [&system[..], &["SystemModstamp"]].concat().contains(&column.name.as_str());
            let expected: Vec<_> = [
                ("Custom", field["custom"] == true),
                ("System", is_system),
                ("ExternalId", field["externalId"] == true),
                ("Encrypted", field["encrypted"] == true || field["type"] == "encryptedstring"),
                ("Formula", field["calculatedFormula"].is_string()),
                ("Deprecated", field["deprecatedAndHidden"] == true),
            ]
            .into_iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(tag, _)| format!("Salesforce.{tag}"))
            .collect();
            let tags: Vec<_> = column.tags.iter().map(|label| label.tag_fqn.clone()).collect();
            assert_eq!(tags, expected, "{file} {}", column.name);
            tags.into_iter().for_each(|tag| *found.entry(tag).or_insert(0) += 1);
        }
    }
    assert!(found.len() >= 4 && found.values().sum::<i32>() > 300, "the recordings hold {found:?}");
}

/// What a release's schema has against a request.
fn problems(schema: &jsonschema::Validator, request: &Value) -> Vec<String> {
    schema.iter_errors(request).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_recorded_object_passes_openmetadatas_schemas_and_rules() {
    let (Some(listing), Some(schemas)) = (listed(), shared("schemas/openmetadata")) else { return };
    let releases = RELEASES.map(|release| (release, schema::of("table", schemas.join(release))));
    for (file, describe) in describes() {
        let mapped = map(&describe, &listing);
        assert_eq!(check_table(&table(&mapped)), Ok(()), "{file}");
        let request: Value = serde_json::from_slice(mapped.entity.body().unwrap()).unwrap();
        for (release, schema) in &releases {
            assert_eq!(problems(schema, &request), Vec::<String>::new(), "{file} against {release}");
        }
    }
}

/// The goldens have the types that no recording has.
#[test]
fn every_golden_entity_passes_openmetadatas_schemas() {
    let Some(schemas) = shared("schemas/openmetadata") else { return };
    let golden = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let mut entities: Vec<(String, Value)> = ["Everything__c.json", "Invoice__c.json", "Bare__mdt.json"]
        .map(|name| ("table".to_owned(), golden(name)))
        .into();
    for parent in golden("parents.json").as_array().unwrap() {
        entities.push((parent["kind"].as_str().unwrap().to_owned(), parent["entity"].clone()));
    }
    for release in RELEASES {
        for (kind, entity) in &entities {
            let schema = schema::of(kind, schemas.join(release));
            assert_eq!(problems(&schema, entity), Vec::<String>::new(), "{kind} {} against {release}", entity["name"]);
        }
    }
}

#[test]
fn every_recorded_list_is_read_whole_and_in_order() {
    for (file, answer) in recordings(&["global"]) {
        let listing = Listing::parse(answer.to_string().as_bytes()).unwrap();
        let entries = answer["sobjects"].as_array().unwrap();
        assert_eq!(listing.objects.len(), entries.len(), "{file}");
        for (object, entry) in listing.objects.iter().zip(entries) {
            assert_eq!(Some(object.name.as_str()), entry["name"].as_str(), "{file}");
            assert_eq!(object.label.as_deref(), entry["label"].as_str(), "{file}");
            assert_eq!(Some(object.custom), entry["custom"].as_bool(), "{file}");
            assert_eq!(Some(object.custom_setting), entry["customSetting"].as_bool(), "{file}");
            assert_eq!(object.key_prefix.as_deref(), entry["keyPrefix"].as_str(), "{file}");
            assert_eq!(object.associate_parent_entity.as_deref(), entry["associateParentEntity"].as_str(), "{file}");
        }
    }
}

#[test]
fn recorded_error_answers_are_no_describes() {
    for (file, answer) in recordings(&["composite"]) {
        for part in answer["compositeResponse"].as_array().into_iter().flatten() {
            let is_describe = part["body"]["fields"].is_array();
            let parsed = part["body"].to_string();
            assert_eq!(Describe::parse(parsed.as_bytes()).is_ok(), is_describe, "{file}");
        }
    }
}

#[test]
fn equal_bodies_of_two_days_make_the_same_entity_and_new_fields_another() {
    let Some(listing) = listed() else { return };
    let series: Vec<_> = recordings(&["evolution"]).iter().map(|(_, body)| map(body, &listing).entity).collect();
    assert_eq!(series.len(), 4);
    assert_eq!(series[1], series[2], "the same 68 fields under another stamp");
    assert_ne!(series[0].content_hash(), series[1].content_hash());
    assert_ne!(series[2].content_hash(), series[3].content_hash());
}
