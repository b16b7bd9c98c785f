//! What the pods may do, and what they find in their files.

use std::collections::BTreeSet;
use std::path::Path;

use hybrid_runner_tests::certificates::Authority;
use hybrid_runner_tests::processes::{command, output, program};
use serde_json::Value;
use tempfile::TempDir;

use super::helm::{Helm, Scenario, of_kind, scenarios};

/// Where the configuration is mounted.
const FOLDER: &str = "/etc/hybrid-runner";

/// Volumes of the restricted Pod Security Standard.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

/// The pods of a scenario: those of the Deployment and of `helm test`.
fn pods(objects: &[Value]) -> Vec<&Value> {
    vec![&of_kind(objects, "Deployment")["spec"]["template"]["spec"], &of_kind(objects, "Pod")["spec"]]
}

fn list<'a>(object: &'a Value, key: &str) -> Vec<&'a Value> {
    object[key].as_array().into_iter().flatten().collect()
}

/// What the restricted standard, and our own rules beyond it, have against a pod.
fn objections(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut object = |wrong: bool, what: &str| {
        if wrong {
            found.push(what.to_owned());
        }
    };
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        object(pod[key] == true, key);
    }
    object(pod["automountServiceAccountToken"] != false, "automountServiceAccountToken");
    object(pod["enableServiceLinks"] != false, "enableServiceLinks");
    object(pod["securityContext"]["runAsNonRoot"] != true, "runAsNonRoot");
    object(pod["securityContext"]["runAsUser"] == 0, "runAsUser");
    object(pod["securityContext"]["seccompProfile"]["type"] != "RuntimeDefault", "seccompProfile");
    for volume in list(pod, "volumes") {
        let permitted = |kind: &String| kind == "name" || VOLUMES.contains(&kind.as_str());
        object(!volume.as_object().unwrap().keys().all(permitted), "volumes");
        for source in list(&volume["projected"], "sources") {
            let lives = source["serviceAccountToken"]["expirationSeconds"].as_u64();
            object(source.get("serviceAccountToken").is_some() && lives != Some(600), "expirationSeconds");
        }
    }
    for container in list(pod, "containers").into_iter().chain(list(pod, "initContainers")) {
        let context = &container["securityContext"];
        object(context["allowPrivilegeEscalation"] != false, "allowPrivilegeEscalation");
        object(context["readOnlyRootFilesystem"] != true, "readOnlyRootFilesystem");
        object(context["capabilities"]["drop"] != serde_json::json!(["ALL"]), "capabilities.drop");
        object(context["capabilities"].get("add").is_some(), "capabilities.add");
        object(context["privileged"] == true, "privileged");
        object(context["runAsUser"] == 0 || context["runAsNonRoot"] == false, "root");
        object(list(container, "ports").iter().any(|port| port.get("hostPort").is_some()), "hostPort");
    }
    found
}

#[test]
fn every_pod_satisfies_the_restricted_standard_with_no_override_and_has_no_token() {
    let Some(helm) = Helm::find("chart pod security") else { return };
    for scenario in scenarios() {
        for pod in pods(&helm.objects(&scenario)) {
            assert_eq!(objections(pod), Vec::<String>::new(), "{}", scenario.name);
        }
    }
}

#[test]
fn an_override_that_breaks_the_standard_is_seen_by_these_rules() {
    let Some(helm) = Helm::find("chart pod security overridden") else { return };
    let [first, ..] = &scenarios()[..] else { unreachable!() };
    for (set, what) in [
        ("podSecurityContext.runAsUser=0", "runAsUser"),
        ("podSecurityContext.seccompProfile=null", "seccompProfile"),
        ("securityContext.readOnlyRootFilesystem=false", "readOnlyRootFilesystem"),
        ("securityContext.capabilities.add={NET_RAW}", "capabilities.add"),
        ("extraVolumes[0].hostPath.path=/,extraVolumes[0].name=host", "volumes"),
    ] {
        let text = helm.template(&[&first.path], &["--set", set]).unwrap();
        for pod in pods(&super::helm::yaml(&text)) {
            assert_eq!(objections(pod), [what], "{set}");
        }
    }
}

/// The files that the kubelet would lay into the folder of the configuration.
fn lay_out(objects: &[Value], scenario: &Scenario) -> TempDir {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let pair = authority.agent("an-agent");
    let config = &of_kind(objects, "ConfigMap")["data"]["hybrid-runner.yaml"];
    let mut paths = BTreeSet::new();
    let mut lay = |path: &str, content: &str| {
        assert!(paths.insert(path.to_owned()), "{}: two sources have the path {path}", scenario.name);
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let pod = &of_kind(objects, "Deployment")["spec"]["template"]["spec"];
    let volumes = list(pod, "volumes");
    let files = volumes.iter().find(|volume| volume["name"] == "files").unwrap();
    for source in list(&files["projected"], "sources") {
        if let Some(path) = source["serviceAccountToken"]["path"].as_str() {
            lay(path, "a.signed.token");
        }
        for item in ["configMap", "secret"].iter().flat_map(|kind| list(&source[*kind], "items")) {
            let path = item["path"].as_str().unwrap();
            let content = match path.rsplit_once('.') {
                Some((_, "yaml")) => config.as_str().unwrap(),
                Some((_, "key")) => &pair.key,
                Some((_, "crt")) => &pair.certificate,
                _ => "a-credential",
            };
            lay(path, content);
        }
    }
    folder
}

#[tokio::test]
async fn the_agent_takes_the_configuration_of_every_scenario_and_each_file_in_it_is_mounted() {
    let Some(helm) = Helm::find("chart configurations") else { return };
    for scenario in scenarios() {
        let objects = helm.objects(&scenario);
        let folder = lay_out(&objects, &scenario);
        let mut check = command(&program("hybrid-runner"));
        // As in every pod.
        check.env("KUBERNETES_SERVICE_HOST", "10.96.0.1").env("KUBERNETES_SERVICE_PORT", "443");
        check.current_dir("/").args(["config", "schema", "--json", "--config"]);
        check.arg(folder.path().join("hybrid-runner.yaml"));
        let checked = output(check).await;
        assert_eq!(checked.code(), 0, "{}: {}", scenario.name, checked.stderr);

        let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let mounted: Vec<&str> =
            list(container, "volumeMounts").iter().map(|mount| mount["mountPath"].as_str().unwrap()).collect();
        assert!(mounted.contains(&FOLDER));
        assert_eq!(container["args"], serde_json::json!(["run", "--config", format!("{FOLDER}/hybrid-runner.yaml")]));
        let config = super::helm::yaml(&std::fs::read_to_string(folder.path().join("hybrid-runner.yaml")).unwrap());
        let mut files = Vec::new();
        files_in(&config[0], &mut files);
        for variable in list(container, "env").iter().filter(|variable| variable["name"] == "SSL_CERT_FILE") {
            files.push(variable["value"].as_str().unwrap().strip_prefix(FOLDER).unwrap().trim_start_matches('/'));
        }
        assert!(!files.is_empty(), "{}", scenario.name);
        for file in files {
            let there = match file.strip_prefix('/') {
                Some(_) => mounted.iter().any(|mount| Path::new(file).starts_with(mount)),
                None => folder.path().join(file).is_file(),
            };
            // What Vault Agent injects is mounted by its own webhook.
            assert!(there || file.starts_with("/vault/"), "{}: {file} is not mounted", scenario.name);
        }
    }
}

/// The files and folders that a configuration names.
fn files_in<'a>(config: &'a Value, files: &mut Vec<&'a str>) {
    const KEYS: [&str; 8] =
        ["ca", "certificate", "key", "token_file", "secret_id_file", "client_certificate", "client_key", "dir"];
    match config {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(path) if KEYS.contains(&key.as_str()) => files.push(path),
                    _ => files_in(value, files),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| files_in(item, files)),
        _ => {}
    }
}
