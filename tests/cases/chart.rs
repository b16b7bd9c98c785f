//! The Helm chart: what helm makes of it, and that values, schema, README and the agent's own settings are one.

mod agent_add;
mod docs;
mod helm;
mod image;
mod pods;
mod prometheus;
mod refusals;
mod schema;
mod settings;

use serde_json::Value;

use helm::{Helm, scenarios};

#[test]
fn every_scenario_is_without_a_remark_of_lint_and_renders_as_reviewed() {
    let Some(helm) = Helm::find("chart scenarios") else { return };
    for scenario in scenarios() {
        helm.lint(&scenario.path);
        let text = helm.template(&[&scenario.path], &[]).unwrap();
        docs::compare(&format!("tests/fixtures/chart/{}.yaml", scenario.name), &text);
    }
}

#[test]
fn no_permission_at_the_api_server_is_asked_for_unless_a_store_is_there_and_then_get_by_name() {
    let Some(helm) = Helm::find("chart permissions") else { return };
    for scenario in scenarios() {
        let values = scenario.values();
        let here = |store: &Value| store.get("kubernetes").is_some_and(|kind| kind.get("address").is_none());
        let wanted = values["secretStores"].as_array().unwrap().iter().any(here);
        let objects = helm.objects(&scenario);
        let of_rbac = |object: &&Value| object["apiVersion"].as_str().unwrap().starts_with("rbac.");
        let granted: Vec<&Value> = objects.iter().filter(of_rbac).collect();
        assert_eq!(!granted.is_empty(), wanted, "{}", scenario.name);
        for role in granted.iter().filter(|object| object["kind"] == "Role") {
            for rule in role["rules"].as_array().unwrap() {
                assert_eq!(rule["verbs"], serde_json::json!(["get"]), "{}", scenario.name);
                assert_eq!(rule["resources"], serde_json::json!(["secrets"]), "{}", scenario.name);
                assert!(!rule["resourceNames"].as_array().unwrap().is_empty(), "{}", scenario.name);
            }
        }
        assert!(granted.iter().all(|object| !object["kind"].as_str().unwrap().starts_with("Cluster")));
    }
}

#[test]
fn the_longest_release_name_still_makes_names_that_kubernetes_takes() {
    let Some(helm) = Helm::find("chart names") else { return };
    let scenario = scenarios().into_iter().find(|scenario| scenario.name == "openshift").unwrap();
    let release = "r".repeat(53);
    for object in helm.objects_of(&release, &scenario) {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!((1..=63).contains(&name.len()) && !name.ends_with('-'), "{name}");
        for (label, value) in object["metadata"]["labels"].as_object().unwrap() {
            assert!(value.as_str().unwrap().len() <= 63, "{label}: {value}");
        }
    }
}

#[test]
fn the_chart_names_the_version_of_the_program_it_installs() {
    let chart = helm::yaml(&std::fs::read_to_string(helm::chart().join("Chart.yaml")).unwrap()).remove(0);
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}
