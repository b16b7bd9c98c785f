//! The cluster: kubectl, helm, and images that are brought to its nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hybrid_runner_tests::processes::{Output, Running, command, output_within, program};
use hybrid_runner_tests::root;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// How long a step may take, on a machine that does ten other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// The same for kubectl and helm, which say better what they waited for: they end first.
const TIMEOUT: &str = "--timeout=280s";

/// The namespace of the agents.
pub(crate) const AGENTS: &str = "hybrid-runner-test";
/// The namespace of what they talk to.
pub(crate) const BESIDE: &str = "hybrid-runner-test-beside";

/// A cluster.
pub(crate) struct Cluster {
    /// Files of the test.
    pub(crate) dir: TempDir,
    load: Vec<String>,
    kubeconfig: String,
    /// Whether controllers and a kubelet are behind the API server, so that pods come and go.
    pub(crate) has_nodes: bool,
}

impl Cluster {
    /// The cluster that `tools/k8s` found or started; `None`: not run.
    pub(crate) fn find(case: &str) -> Option<Self> {
        let (Some(kubeconfig), Some(load)) = (given("KUBECONFIG"), given("K8S_LOAD")) else {
            // Also where `CI` is set: a node takes longer to build than everything else.
            eprintln!("not run: {case}: it needs a cluster, and ./test --k8s finds or starts one");
            return None;
        };
        let load = load.split_whitespace().map(str::to_owned).collect();
        Some(Self { dir: TempDir::new().unwrap(), load, kubeconfig, has_nodes: true })
    }

    /// The API server alone of the oldest Kubernetes that the chart supports, which `tools/k8s --long` started; `None`: not
    /// run.
    pub(crate) fn oldest(case: &str) -> Option<Self> {
        let Some(kubeconfig) = given("K8S_OLDEST") else {
            eprintln!("not run: {case}: it needs the oldest API server, and ./test --k8s --long starts one");
            return None;
        };
        Some(Self { dir: TempDir::new().unwrap(), load: Vec::new(), kubeconfig, has_nodes: false })
    }

    /// A file of the test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `kubectl …`, in a namespace; what it printed.
    pub(crate) async fn kubectl(&self, namespace: &str, arguments: &[&str]) -> String {
        self.run("kubectl", &[&["--namespace", namespace], arguments].concat()).await
    }

    /// `helm …`, in the agents' namespace; what it printed.
    pub(crate) async fn helm(&self, arguments: &[&str]) -> String {
        self.run("helm", &[arguments, &["--namespace", AGENTS, TIMEOUT]].concat()).await
    }

    /// A program that is given this cluster; what it printed, after it has ended well.
    pub(crate) async fn output(&self, program: &str, arguments: &[&str]) -> Output {
        let output = output_within(PATIENCE, self.command(program, arguments)).await;
        assert_eq!(output.code(), 0, "{program} {arguments:?}\n{}{}", output.stdout, output.stderr);
        output
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.output(program, arguments).await.stdout
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = command(Path::new(program));
        command.args(arguments).current_dir(self.dir.path()).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// As JSON, what `kubectl get …` finds.
    pub(crate) async fn get(&self, namespace: &str, arguments: &[&str]) -> Value {
        let found = self.kubectl(namespace, &[&["get", "--output", "json"], arguments].concat()).await;
        serde_json::from_str(&found).unwrap()
    }

    /// Applies objects.
    pub(crate) async fn apply(&self, namespace: &str, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let file = self.file("apply.json");
        std::fs::write(&file, list.to_string()).unwrap();
        self.kubectl(namespace, &["apply", "--filename", file.to_str().unwrap()]).await;
    }

    /// Waits for a condition of an object, such as `condition=Ready` of `pod/x`.
    pub(crate) async fn wait_for(&self, namespace: &str, condition: &str, object: &str) {
        self.kubectl(namespace, &["wait", TIMEOUT, &format!("--for={condition}"), object]).await;
    }

    /// Follows the log of a pod from its beginning.
    pub(crate) fn follow(&self, namespace: &str, pod: &str) -> Running {
        let follow = self.command("kubectl", &["--namespace", namespace, "logs", "--follow", pod]);
        Running::start(follow, &self.file(&format!("{pod}.log")))
    }

    /// Makes an image around one of our programs, or around one that is named by its path, and brings it to the nodes.
    pub(crate) async fn load(&self, built: &str, image: &str) {
        let built = if built.contains('/') { PathBuf::from(built) } else { program(built) };
        let archive = self.file("image.tar");
        let mut make = command(&root().join("tools/image"));
        make.arg("build").arg(built).arg(image).arg(&archive);
        let made = output_within(PATIENCE, make).await;
        assert_eq!(made.code(), 0, "{made:?}");
        let (load, arguments) = self.load.split_first().expect("a command");
        let mut load = command(Path::new(load));
        load.args(arguments).arg(&archive);
        let loaded = output_within(PATIENCE, load).await;
        assert_eq!(loaded.code(), 0, "{loaded:?}");
        // The node has it; here it would lie about.
        std::fs::remove_file(archive).unwrap();
        let mut remove = command(Path::new("buildah"));
        remove.args(["--storage-driver", "vfs", "rmi", image]);
        let removed = output_within(PATIENCE, remove).await;
        assert_eq!(removed.code(), 0, "{removed:?}");
    }

    /// Makes namespaces under the restricted standard: pods that break it are refused, and who makes pods is warned.
    pub(crate) async fn make_namespaces(&self, names: &[&str]) {
        for name in names {
            let labels = json!({
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/warn": "restricted",
            });
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
            let file = self.file("namespace.json");
            std::fs::write(&file, namespace.to_string()).unwrap();
            // Not `apply`: what a run before this one left over, or what is somebody else's, is not worked on.
            self.run("kubectl", &["create", "--filename", file.to_str().unwrap()]).await;
            if self.has_nodes {
                // No pod is admitted before.
                self.wait_for(name, "create", "serviceaccount/default").await;
            }
        }
    }

    /// Removes namespaces and all that is in them.
    pub(crate) async fn clean(&self, names: &[&str]) {
        self.run("kubectl", &[&["delete", "namespace", "--ignore-not-found", TIMEOUT], names].concat()).await;
    }

    /// What happened in the namespaces, for whoever reads that the test failed.
    pub(crate) async fn tell(&self, namespaces: &[&str]) {
        for namespace in namespaces {
            for arguments in [
                &["get", "pods", "--output", "wide"][..],
                &["get", "events", "--sort-by", ".lastTimestamp"],
                &["logs", "--selector", "app.kubernetes.io/instance", "--prefix", "--tail", "40"],
            ] {
                let tell = self.command("kubectl", &[&["--namespace", namespace], arguments].concat());
                let told = output_within(PATIENCE, tell).await;
                eprintln!("kubectl {arguments:?} in {namespace}:\n{}{}", told.stdout, told.stderr);
            }
        }
    }
}

/// A variable that `tools/k8s` sets.
pub(crate) fn given(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
