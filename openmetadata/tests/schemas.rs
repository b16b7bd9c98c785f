//! What this crate writes is valid under OpenMetadata's schemas, and what they know this crate reads.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

/// The validator, which the package `tests` uses too.
#[path = "support/schemas.rs"]
pub mod support;

use std::path::Path;

use hybrid_runner_openmetadata::entity::{
    Column, Constraint, ConstraintType, CreateClassification, CreateDatabase, CreateDatabaseSchema,
    CreateDatabaseService, CreateTable, CreateTag, DataType, Kind, LabelState, LabelType, RelationshipType,
    TableConstraint, TableType, TagLabel, TagSource,
};
use hybrid_runner_openmetadata::rules;
use hybrid_runner_openmetadata::workflow::Workflow;
use serde_json::{Value, json};

use self::support::Schemas;

fn schemas() -> Vec<Schemas> {
    if !Schemas::are_available() {
        return Vec::new();
    }
    Schemas::VERSIONS.into_iter().map(|version| Schemas::load(version).unwrap()).collect()
}

#[track_caller]
fn valid(kind: Kind, body: &Value) {
    for schemas in schemas() {
        assert_eq!(schemas.validate(kind.as_str(), body), Ok(()), "{body}");
    }
}

fn hash() -> Option<String> {
    Some("0123456789abcdef0123456789abcdef".to_owned())
}

const DATA_TYPES: [DataType; 24] = [
    DataType::Array,
    DataType::Bigint,
    DataType::Binary,
    DataType::Blob,
    DataType::Boolean,
    DataType::Char,
    DataType::Date,
    DataType::Datetime,
    DataType::Decimal,
    DataType::Double,
    DataType::Enum,
    DataType::Int,
    DataType::Json,
    DataType::Point,
    DataType::String,
    DataType::Struct,
    DataType::Text,
    DataType::Time,
    DataType::Timestamp,
    DataType::Timestampz,
    DataType::Unknown,
    DataType::Varbinary,
    DataType::Varchar,
    DataType::Variant,
];

fn label(tag: &str) -> TagLabel {
    TagLabel {
        tag_fqn: tag.to_owned(),
        source: TagSource::Classification,
        label_type: LabelType::Automated,
        state: LabelState::Confirmed,
    }
}

/// A column with everything that it can have.
fn full_column(name: &str, data_type: DataType) -> Column {
    Column {
        name: name.to_owned(),
        display_name: Some("Label".to_owned()),
        data_type,
        array_data_type: Some(DataType::String),
        data_length: Some(18),
        precision: Some(18),
        scale: Some(2),
        data_type_display: Some("anyType".to_owned()),
        description: Some("A **column**.".to_owned()),
        tags: vec![label("Salesforce.Custom")],
        constraint: Some(Constraint::NotNull),
        ordinal_position: Some(1),
        children: Vec::new(),
    }
}

fn bare_column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        display_name: None,
        data_type: DataType::Int,
        array_data_type: None,
        data_length: None,
        precision: None,
        scale: None,
        data_type_display: None,
        description: None,
        tags: Vec::new(),
        constraint: None,
        ordinal_position: None,
        children: Vec::new(),
    }
}

fn table(columns: Vec<Column>, table_constraints: Vec<TableConstraint>) -> CreateTable {
    CreateTable {
        name: "Account".to_owned(),
        display_name: Some("Account".to_owned()),
        description: Some("Companies.".to_owned()),
        table_type: TableType::Regular,
        columns,
        table_constraints,
        tags: vec![label("Salesforce.\"with.dot\"")],
        database_schema: "sf.\"crm.eu\".salesforce".to_owned(),
        source_url: Some("https://example.my.salesforce.com/lightning/o/Account/list".to_owned()),
        source_hash: hash(),
    }
}

#[test]
fn services_databases_and_schemas_are_valid() {
    let service = CreateDatabaseService { name: "sf".to_owned(), service_type: "Salesforce".to_owned() };
    valid(Kind::DatabaseService, &json!(service));
    for source_hash in [hash(), None] {
        let database = CreateDatabase { name: "crm.eu".into(), service: "sf".into(), source_hash: source_hash.clone() };
        valid(Kind::Database, &json!(database));
        let schema = CreateDatabaseSchema { name: "salesforce".into(), database: "sf.\"crm.eu\"".into(), source_hash };
        valid(Kind::DatabaseSchema, &json!(schema));
    }
}

#[test]
fn classifications_and_tags_are_valid() {
    let classification = CreateClassification { name: "Salesforce".into(), description: "Marks.".into() };
    assert_eq!(rules::check_classification(&classification), Ok(()));
    valid(Kind::Classification, &json!(classification));
    for display_name in [Some("with::colons".to_owned()), None] {
        let tag = CreateTag {
            classification: "Salesforce".into(),
            name: "with__reserved__colon__colons".into(),
            display_name,
            description: "A value.".into(),
        };
        assert_eq!(rules::check_tag(&tag), Ok(()));
        valid(Kind::Tag, &json!(tag));
    }
}

#[test]
fn tables_with_every_type_constraint_and_field_are_valid() {
    let mut columns: Vec<Column> =
        DATA_TYPES.into_iter().enumerate().map(|(index, kind)| full_column(&format!("c{index}"), kind)).collect();
    for (index, constraint) in
        [Constraint::Null, Constraint::NotNull, Constraint::Unique, Constraint::PrimaryKey].into_iter().enumerate()
    {
        columns[index].constraint = Some(constraint);
    }
    for column in columns.iter_mut().filter(|column| column.data_type == DataType::Struct) {
        column.children = vec![full_column("inner", DataType::Text), bare_column("bare")];
    }
    let constraints = [ConstraintType::ForeignKey, ConstraintType::Unique].map(|constraint_type| TableConstraint {
        constraint_type,
        columns: vec!["c1".to_owned()],
        referred_columns: vec!["sf.\"crm.eu\".salesforce.User.Id".to_owned()],
        relationship_type: Some(RelationshipType::ManyToOne),
    });
    let table = table(columns, constraints.to_vec());
    assert_eq!(rules::check_table(&table), Ok(()));
    valid(Kind::Table, &json!(table));
}

#[test]
fn a_table_with_nothing_optional_is_valid() {
    let keys = [ConstraintType::PrimaryKey, ConstraintType::Unique].map(|constraint_type| TableConstraint {
        constraint_type,
        columns: vec!["a".to_owned()],
        referred_columns: Vec::new(),
        relationship_type: Some(RelationshipType::OneToOne),
    });
    for constraints in [Vec::new(), keys.to_vec()] {
        let bare = CreateTable {
            display_name: None,
            description: None,
            source_url: None,
            source_hash: None,
            tags: Vec::new(),
            ..table(vec![bare_column("a")], constraints)
        };
        valid(Kind::Table, &json!(bare));
    }
}

#[test]
fn requests_read_back_as_they_were_written() {
    let written = table(vec![full_column("a", DataType::Varchar), bare_column("b")], Vec::new());
    assert_eq!(serde_json::from_value::<CreateTable>(json!(written)).unwrap(), written);
}

#[test]
fn the_validator_refuses_what_the_schemas_refuse() {
    for schemas in schemas() {
        let good = json!(table(vec![bare_column("a")], Vec::new()));
        for (pointer, bad) in [
            ("/columns/0/dataType", json!("NOTHING")),
            ("/columns/0/name", json!("")),
            ("/columns/0/name", json!("a::b")),
            ("/name", json!("a".repeat(257))),
            ("/sourceHash", json!("a".repeat(33))),
            ("/columns/0", json!({"name": "a", "dataType": "INT", "owners": []})),
            ("/tags/0", json!({"tagFQN": "Salesforce.Custom", "source": "Classification"})),
            ("/tags/0/state", json!("Certain")),
        ] {
            let mut body = good.clone();
            *body.pointer_mut(pointer).unwrap() = bad;
            assert!(schemas.validate("table", &body).is_err(), "{pointer}");
        }
        assert!(schemas.validate("tables", &good).is_err());
    }
}

fn file(version: &str, path: &str) -> Value {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/schemas/openmetadata");
    serde_json::from_str(&std::fs::read_to_string(directory.join(version).join(path)).unwrap()).unwrap()
}

/// A value that a property accepts: its default, or one of its type.
fn sample(property: &Value) -> Value {
    if let Some(default) = property.get("default").filter(|default| !default.is_null()) {
        return default.clone();
    }
    match (property["type"].as_str(), property["$ref"].as_str().unwrap_or_default()) {
        (Some("string"), _) => json!("text"),
        (Some("boolean"), _) => json!(true),
        (Some("integer"), _) => json!(1),
        (_, reference) if reference.contains("supports") => json!(true),
        (_, reference) if reference.ends_with("authProvider") => json!("openmetadata"),
        (_, reference) if reference.ends_with("incremental") => json!({"enabled": false}),
        (_, reference) if reference.contains("JWTClientConfig") => json!({"jwtToken": "secret:/om"}),
        (_, reference) if ["processor", "stage", "sink", "bulkSink"].iter().any(|step| reference.ends_with(step)) => {
            json!({"type": "x", "config": {}})
        }
        (_, reference) if reference.contains("uuid") => json!("7f7d9a2c-0000-4000-8000-000000000000"),
        (Some("object"), _) if property.get("properties").is_some() => json!({"type": "x", "config": {"a": "b"}}),
        _ => json!({}),
    }
}

fn workflow_with(path: &[&str], key: &str, value: Value) -> Value {
    let mut workflow = json!({
        "source": {
            "type": "salesforce",
            "serviceName": "sf",
            "serviceConnection": {"config": {}},
            "sourceConfig": {"config": {}},
        },
        "workflowConfig": {"openMetadataServerConfig": {"hostPort": "https://om.example.com/api"}},
    });
    let mut at = &mut workflow;
    for key in path {
        at = &mut at[*key];
    }
    if at.get(key).is_none_or(|value| !value.is_object()) {
        at[key] = value;
    }
    workflow
}

#[test]
fn every_key_that_the_schemas_know_is_accepted() {
    if !Schemas::are_available() {
        return;
    }
    for version in Schemas::VERSIONS {
        let workflow = file(version, "metadataIngestion/workflow.json");
        let options = file(version, "metadataIngestion/databaseServiceMetadataPipeline.json");
        let server = file(version, "entity/services/connections/metadata/openMetadataConnection.json");
        let places: [(&Value, &[&str]); 5] = [
            (&workflow["properties"]["openMetadataWorkflowConfig"], &[]),
            (&workflow["definitions"]["source"], &["source"]),
            (&workflow["definitions"]["workflowConfig"], &["workflowConfig"]),
            (&server, &["workflowConfig", "openMetadataServerConfig"]),
            (&options, &["source", "sourceConfig", "config"]),
        ];
        for (schema, path) in places {
            for (key, property) in schema["properties"].as_object().unwrap() {
                let workflow = workflow_with(path, key, sample(property));
                assert_eq!(Workflow::from_value(workflow).err(), None, "{path:?} {key}");
            }
        }
        let owners = file(version, "type/ownerConfig.json");
        for key in owners["properties"].as_object().unwrap().keys() {
            let value = if key == "enableInheritance" { json!(true) } else { json!("team") };
            let path = ["source", "sourceConfig", "config"];
            assert_eq!(Workflow::from_value(workflow_with(&path, "ownerConfig", json!({ key: value }))).err(), None);
        }
    }
}
