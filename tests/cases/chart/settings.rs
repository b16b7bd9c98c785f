//! The values and the agent's settings are one set.

use std::collections::BTreeSet;

use hybrid_runner_tests::processes::{command, output, program};
use serde_json::Value;

use super::docs::paths_of;
use super::helm::{Helm, Scenario, of_kind, scenarios, yaml};

/// The agent's JSON schema.
async fn settings() -> Value {
    let mut schema = command(&program("hybrid-runner"));
    schema.args(["config", "schema", "--json"]);
    let printed = output(schema).await;
    assert_eq!(printed.code(), 0, "{}", printed.stderr);
    printed.json()
}

/// The scalar settings; the names of stores are `*`.
fn scalars(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if let Some(properties) = schema["properties"].as_object() {
        properties.iter().for_each(|(key, schema)| scalars(schema, &join(key), found));
    } else if schema["additionalProperties"].is_object() {
        scalars(&schema["additionalProperties"], &join("*"), found);
    } else if schema["items"].is_object() {
        scalars(&schema["items"], &format!("{path}[]"), found);
    } else {
        found.insert(path.to_owned());
    }
}

fn config(helm: &Helm, scenario: &Scenario) -> Value {
    let objects = helm.objects(scenario);
    yaml(of_kind(&objects, "ConfigMap")["data"]["hybrid-runner.yaml"].as_str().unwrap()).remove(0)
}

#[tokio::test]
async fn every_setting_of_the_agent_is_set_by_a_value_of_some_scenario() {
    let Some(helm) = Helm::find("chart settings") else { return };
    let mut known = BTreeSet::new();
    scalars(&settings().await, "", &mut known);
    assert!(known.len() > 40, "{known:?}");
    let mut set = BTreeSet::new();
    for scenario in scenarios() {
        let mut config = config(&helm, &scenario);
        let stores = config["secrets"]["stores"].take();
        paths_of(&config, "", &mut set);
        for store in stores.as_object().into_iter().flat_map(serde_json::Map::values) {
            paths_of(store, "secrets.stores.*", &mut set);
        }
    }
    let missing: Vec<&String> = known.difference(&set).collect();
    assert!(missing.is_empty(), "the chart has no value for {missing:#?}");
}

#[tokio::test]
async fn a_value_that_is_left_alone_is_the_default_of_its_setting() {
    /// Cluster logs are parsed by programs, and a kubelet probes; a terminal's logs are read, and nobody probes.
    const OTHER: [(&str, &str); 2] = [("/log/format", "json"), ("/health/listen", "0.0.0.0:8080")];
    let Some(helm) = Helm::find("chart defaults") else { return };
    let schema = settings().await;
    let minimal = scenarios().into_iter().find(|scenario| scenario.name == "minimal-token").unwrap();
    let config = config(&helm, &minimal);
    let mut compared = 0;
    let mut set = BTreeSet::new();
    paths_of(&config, "", &mut set);
    for path in set {
        let pointer = format!("/{}", path.replace('.', "/"));
        let Some(value) = config.pointer(&pointer).filter(|value| !value.is_object()) else { continue };
        // What the scenario itself sets.
        if path.starts_with("control_plane") || path.starts_with("secrets") {
            continue;
        }
        let declared = format!("{}/default", pointer.replace('/', "/properties/"));
        match OTHER.iter().find(|(other, _)| *other == pointer) {
            Some((_, ours)) => assert_eq!(value, ours, "{path}"),
            None => assert_eq!(Some(value), schema.pointer(&declared), "{path}"),
        }
        compared += 1;
    }
    assert!(compared >= 3, "{compared}");
}
