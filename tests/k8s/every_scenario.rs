//! Every scenario of the chart comes, changes and goes, under the restricted standard. What it names (Secrets, images, a
//! control plane) does not exist: its objects are judged, not what its pods do.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use hybrid_runner_tests::root;
use serde_json::{Value, json};

use super::Steps;
use super::cluster::{AGENTS, Cluster, PATIENCE, given};

/// The namespaces that the scenarios name: that of the release, and those of `everything` and `openshift`.
const NAMESPACES: [&str; 3] = [AGENTS, "crm", "prod"];
/// What the API server and its controllers bring by themselves, and what nobody removes.
const NOT_OURS: [&str; 2] = ["ConfigMap/kube-root-ca.crt", "ServiceAccount/default"];
/// What is said of objects stays for an hour.
const EVENTS: &str = "events";
/// What a release is known by.
const RELEASE: &str = "app.kubernetes.io/instance=crm";
/// An annotation of the pods that the upgrade brings.
const UPGRADED: &str = "podAnnotations.upgraded=yes";

#[tokio::test]
async fn every_scenario_is_admitted_and_leaves_nothing_on_a_node() {
    let case = "every_scenario::every_scenario_is_admitted_and_leaves_nothing_on_a_node";
    if given("K8S_HELMS").is_none() {
        eprintln!("not run: {case}: ./test --k8s --long asks for it");
        return;
    }
    let Some(cluster) = Cluster::find(case) else { return };
    every_scenario(&cluster).await;
}

#[tokio::test]
async fn every_scenario_is_admitted_and_leaves_nothing_on_the_oldest_api_server() {
    let case = "every_scenario::every_scenario_is_admitted_and_leaves_nothing_on_the_oldest_api_server";
    let Some(cluster) = Cluster::oldest(case) else { return };
    every_scenario(&cluster).await;
}

async fn every_scenario(cluster: &Cluster) {
    let helms = given("K8S_HELMS").expect("tools/k8s --long names the programs");
    let mut steps = Steps::begin();
    let made = prepare(cluster).await;
    let ended = AssertUnwindSafe(each(cluster, helms.split_whitespace(), &mut steps)).catch_unwind().await;
    // An API server alone does not remove what is in a namespace, and goes as a whole.
    if cluster.has_nodes {
        if ended.is_err() {
            cluster.tell(&NAMESPACES).await;
        }
        cluster.clean(&NAMESPACES).await;
        for name in made {
            cluster.output("kubectl", &["delete", &name]).await;
        }
    }
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

async fn each(cluster: &Cluster, helms: impl Iterator<Item = &str>, steps: &mut Steps) {
    let version: Value =
        serde_json::from_str(&cluster.output("kubectl", &["version", "--output=json"]).await.stdout).unwrap();
    let kubernetes = version["serverVersion"]["gitVersion"].as_str().unwrap();
    for helm in helms {
        let helm_version = cluster.output(helm, &["version", "--template={{.Version}}"]).await.stdout;
        for values in scenarios() {
            let objects = Scenario { cluster, helm, values: &values }.comes_and_goes().await;
            let name = values.file_name().unwrap().to_string_lossy();
            steps.saw(&format!("{kubernetes}, helm {helm_version}, {name}: {objects} objects came and went"));
        }
    }
}

fn scenarios() -> BTreeSet<PathBuf> {
    let files = std::fs::read_dir(root().join("charts/hybrid-runner/ci")).unwrap();
    let found: BTreeSet<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert!(found.len() >= 6, "{found:?}");
    found
}

/// Makes what the scenarios expect of a cluster, and returns what of it was not there.
async fn prepare(cluster: &Cluster) -> Vec<String> {
    cluster.make_namespaces(&NAMESPACES).await;
    let mut made = Vec::new();
    for object in expected() {
        let kind = object["kind"].as_str().unwrap().to_lowercase();
        let name = format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap());
        if cluster.kubectl(AGENTS, &["get", &name, "--ignore-not-found"]).await.is_empty() {
            cluster.apply(AGENTS, &[object]).await;
            if kind == "customresourcedefinition" {
                cluster.wait_for(AGENTS, "condition=Established", &name).await;
            }
            made.push(name);
        }
    }
    made
}

/// The classes that `everything` names, and kinds that others define: whatever stands in an object of them.
fn expected() -> Vec<Value> {
    let defined = [
        ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
        ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
        ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
        ("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
    ];
    let definition = |(group, version, kind, plural): (&str, &str, &str, &str)| {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let version = json!({"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced", "versions": [version],
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            },
        })
    };
    let class = |version: &str, kind: &str, name: &str, (field, value): (&str, Value)| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, field: value});
    let mut expected = Vec::from(defined.map(definition));
    expected.push(class("scheduling.k8s.io/v1", "PriorityClass", "agents", ("value", json!(1))));
    expected.push(class("node.k8s.io/v1", "RuntimeClass", "gvisor", ("handler", json!("runsc"))));
    expected
}

/// One file of values, by one helm.
struct Scenario<'a> {
    cluster: &'a Cluster,
    helm: &'a str,
    values: &'a Path,
}

impl Scenario<'_> {
    /// Returns how many objects the release had.
    async fn comes_and_goes(&self) -> usize {
        let chart = root().join("charts/hybrid-runner");
        let (chart, values) = (chart.to_str().unwrap(), ["--values", self.values.to_str().unwrap()]);
        let before = self.objects().await;
        // Nothing is waited for: the images and the Secrets do not exist.
        self.helm(&[&["install", "crm", chart][..], &values].concat()).await;
        let installed = self.objects().await;
        self.pods_are_admitted(None).await;
        self.helm(&[&["upgrade", "crm", chart, "--set-string", UPGRADED][..], &values].concat()).await;
        self.pods_are_admitted(Some("yes")).await;
        self.helm(&["rollback", "crm", "1"]).await;
        self.pods_are_admitted(None).await;
        self.helm(&["uninstall", "crm"]).await;
        self.is_as(&before).await;
        let brought = installed.difference(&before).count();
        assert!(brought > 3, "{installed:?}");
        brought
    }

    /// Nobody has anything to remark: neither helm nor, through it, the API server.
    async fn helm(&self, arguments: &[&str]) {
        let said = self.cluster.output(self.helm, &[arguments, &["--namespace", AGENTS]].concat()).await;
        assert_eq!(said.stderr, "", "{} {arguments:?} for {:?}", self.helm, self.values);
    }

    /// Pods of the Deployment and of `helm test`: a Deployment that may have no pods is admitted, too.
    async fn pods_are_admitted(&self, upgraded: Option<&str>) {
        let mut seen = 0;
        for namespace in NAMESPACES {
            let found = self.cluster.get(namespace, &["deployments", "--selector", RELEASE]).await;
            for deployment in found["items"].as_array().unwrap() {
                seen += 1;
                let mut pod = deployment["spec"]["template"].clone();
                assert_eq!(pod["metadata"]["annotations"]["upgraded"].as_str(), upgraded, "{:?}", self.values);
                pod["apiVersion"] = json!("v1");
                pod["kind"] = json!("Pod");
                pod["metadata"]["name"] = json!("admitted");
                pod["metadata"]["namespace"] = json!(namespace);
                self.is_admitted(&pod.to_string()).await;
                if self.cluster.has_nodes {
                    self.pods_were_made(namespace, deployment).await;
                }
            }
        }
        assert_eq!(seen, 1, "{:?} has one Deployment", self.values);
        let hooks = self.cluster.output(self.helm, &["get", "hooks", "crm", "--namespace", AGENTS]).await.stdout;
        assert!(hooks.contains("kind: Pod"), "{:?} has a helm test", self.values);
        self.is_admitted(&hooks).await;
    }

    async fn is_admitted(&self, pod: &str) {
        let file = self.cluster.file("pod.yaml");
        std::fs::write(&file, pod).unwrap();
        let said = self.cluster.output("kubectl", &["create", "--dry-run=server", "--filename", "pod.yaml"]).await;
        assert_eq!(said.stderr, "", "{:?}:\n{pod}", self.values);
    }

    /// The controllers got them past the API server as well.
    async fn pods_were_made(&self, namespace: &str, deployment: &Value) {
        let name = format!("deployment/{}", deployment["metadata"]["name"].as_str().unwrap());
        let generation = format!("jsonpath={{.status.observedGeneration}}={}", deployment["metadata"]["generation"]);
        self.cluster.wait_for(namespace, &generation, &name).await;
        // Those of the generation before stay while those of the next do not get ready: at least so many.
        self.cluster.wait_for(namespace, "jsonpath={.status.updatedReplicas}", &name).await;
        let refused = self.cluster.get(namespace, &["events", "--field-selector", "reason=FailedCreate"]).await;
        assert_eq!(refused["items"], json!([]), "{:?}", self.values);
    }

    /// Waits until all objects are those of before: what a Deployment made goes after it.
    async fn is_as(&self, before: &BTreeSet<String>) {
        let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
        let left = async {
            loop {
                ticks.tick().await;
                let now = self.objects().await;
                // Alone, the API server removes a Deployment at once, and there never was a pod.
                if now == *before || !self.cluster.has_nodes {
                    return now;
                }
            }
        };
        let left = tokio::time::timeout(PATIENCE, left).await;
        let left = match left {
            Ok(left) => left,
            // Too long: what is there now.
            Err(_) => self.objects().await,
        };
        assert_eq!(left, *before, "{:?} by {}", self.values, self.helm);
    }

    /// All that is in the namespaces, of whatever kind, and what the release has in none.
    async fn objects(&self) -> BTreeSet<String> {
        let kinds = ["api-resources", "--namespaced", "--verbs=list,get", "--output=name"];
        let kinds = self.cluster.output("kubectl", &kinds).await.stdout;
        let kinds: Vec<&str> = kinds.lines().filter(|kind| kind.split('.').next() != Some(EVENTS)).collect();
        // One request a kind, for the cluster: a namespace at a time would be three.
        let each = r#"jsonpath={range .items[*]}{.metadata.namespace} {.kind}/{.metadata.name}{"\n"}{end}"#;
        let all = self.cluster.kubectl(AGENTS, &["get", &kinds.join(","), "--all-namespaces", "--output", each]).await;
        let nowhere = "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let of_release = ["get", nowhere, "--selector", RELEASE, "--output", each];
        let of_release = self.cluster.kubectl(AGENTS, &of_release).await;
        let is_ours = |line: &&str| {
            let (namespace, name) = line.split_once(' ').unwrap();
            NAMESPACES.contains(&namespace) && !NOT_OURS.contains(&name)
        };
        let mut found: BTreeSet<String> = all.lines().filter(is_ours).map(str::to_owned).collect();
        found.extend(of_release.lines().map(str::to_owned));
        found
    }
}
