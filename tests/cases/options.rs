//! What docs/configuration.md says about the keys of a workflow is what the connector makes of them.

use std::collections::BTreeSet;
use std::fs;

use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_salesforce::config::{Config, Options};
use hybrid_runner_salesforce::host::HostPolicy;
use hybrid_runner_tests::{outside, root};
use serde_json::{Map, Value, json};

/// A row of a table: a key, its default, what it does.
struct Row {
    key: String,
    default: String,
    meaning: String,
}

impl Row {
    fn has_meaning(&self) -> bool {
        !self.meaning.starts_with("no meaning")
    }

    /// The default, where the table gives a value.
    fn default(&self) -> Option<&str> {
        self.default.strip_prefix('`')?.strip_suffix('`')
    }

    /// Some other value than the default.
    fn other(&self) -> Value {
        match (self.key.as_str(), self.default()) {
            ("incremental", _) => json!({"enabled": true}),
            ("ownerConfig", _) => json!({"default": "somebody"}),
            ("defaultFilters", _) => json!({"tableFilterPattern": {"includes": ["x"]}}),
            (_, Some("true")) => json!(false),
            (_, Some("false")) => json!(true),
            (_, Some(number)) => json!(number.parse::<u64>().unwrap() + 1),
            (_, None) => json!({"includes": ["x"]}),
        }
    }
}

/// The table below the heading that ends so.
fn table(heading: &str) -> Vec<Row> {
    let manual = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let below = manual.lines().skip_while(|line| !(line.starts_with('#') && line.ends_with(heading))).skip(1);
    let lines = below.take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [key, default, meaning] = cells[..] else { panic!("not three cells: {line}") };
        Row { key: key.trim_matches('`').to_owned(), default: default.to_owned(), meaning: meaning.to_owned() }
    });
    let rows: Vec<Row> = rows.collect();
    assert!(rows.len() > 8, "{heading}: {} rows", rows.len());
    rows
}

fn keys(rows: &[Row]) -> BTreeSet<&str> {
    let keys: BTreeSet<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys.len(), rows.len(), "a key has two rows");
    keys
}

fn parse(connection: Value, options: &Value) -> Result<Config, String> {
    let mut all = json!({
        "username": "ana@example.com", "password": "secret:/sf/password", "securityToken": "secret:/sf/token",
    });
    let (Value::Object(more), Some(connection)) = (connection, all.as_object_mut()) else { panic!("no objects") };
    for (key, value) in more {
        connection.entry(key).or_insert(value);
    }
    let source = json!({
        "type": "salesforce", "serviceName": "crm", "serviceConnection": {"config": all},
        "sourceConfig": {"config": options},
    });
    let workflow = Workflow::from_value(json!({"source": source})).map_err(|error| error.to_string())?;
    Config::parse(&workflow, &HostPolicy::default()).map_err(|error| error.to_string())
}

/// An object of one key.
fn only(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

/// The keys that a schema has in one of OpenMetadata's releases.
fn properties(schemas: &std::path::Path, schema: &str) -> BTreeSet<String> {
    let releases = ["1.13", "2.0"].map(|release| schemas.join(release).join(schema));
    let keys = releases.iter().flat_map(|file| {
        let schema: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    });
    keys.collect()
}

fn lacks_none(documented: &BTreeSet<&str>, schema: &BTreeSet<String>) {
    let missing: Vec<_> = schema.iter().filter(|key| !documented.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "docs/configuration.md has no row for {missing:?}");
}

#[test]
fn the_documented_options_of_ours_are_those_of_the_code_with_their_defaults() {
    let rows = table("`connectionOptions`");
    assert_eq!(keys(&rows), Options::keys().collect());
    let mut defaults = 0;
    for (row, default) in rows.iter().filter_map(|row| Some((row, row.default()?))) {
        let config = parse(only("connectionOptions", only(&row.key, json!(default))), &json!({})).unwrap();
        assert_eq!(config.options, Options::default(), "{}", row.key);
        defaults += 1;
    }
    assert_eq!(defaults, 6);
}

#[test]
fn each_documented_key_of_the_extraction_has_an_effect_or_is_named_as_the_manual_says() {
    let rows = table("`source.sourceConfig.config`");
    for row in rows.iter().filter(|row| row.key != "type") {
        let named = format!("source.sourceConfig.config.{}", row.key);
        let config = parse(json!({}), &only(&row.key, row.other())).unwrap();
        assert_eq!(config.without_effect.contains(&named), !row.has_meaning(), "{}", row.key);
        let Some(default) = row.default() else { continue };
        let config = parse(json!({}), &only(&row.key, serde_json::from_str(default).unwrap())).unwrap();
        assert_eq!(config.without_effect, Vec::<String>::new(), "{} by default", row.key);
    }
    assert!(parse(json!({}), &only("includeNothing", json!(true))).is_err());
    let Some(schemas) = outside::schemas("each_documented_key_of_the_extraction") else { return };
    lacks_none(&keys(&rows), &properties(&schemas, "metadataIngestion/databaseServiceMetadataPipeline.json"));
}

#[test]
fn each_documented_key_of_the_connection_is_known_and_named_where_it_has_no_meaning() {
    let rows = table("`source.serviceConnection.config`");
    for row in &rows {
        let known = parse(only(&row.key, Value::Null), &json!({}));
        assert!(known.is_ok(), "{}: {known:?}", row.key);
        if !row.has_meaning() {
            let config = parse(only(&row.key, row.other()), &json!({})).unwrap();
            assert_eq!(config.without_effect, [format!("source.serviceConnection.config.{}", row.key)]);
        }
    }
    assert!(parse(only("nothing", Value::Null), &json!({})).is_err());
    let Some(schemas) = outside::schemas("each_documented_key_of_the_connection") else { return };
    lacks_none(&keys(&rows), &properties(&schemas, "entity/services/connections/database/salesforceConnection.json"));
}
