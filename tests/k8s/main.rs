//! The chart on a real node, by the path of docs/kubernetes.md. `./test --k8s` finds or starts the cluster.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a case fails loudly, and this one takes minutes and says how far it is"
)]

mod beside;
mod cluster;
mod every_scenario;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt as _;
use hybrid_runner_tests::deployment::committed;
use hybrid_runner_tests::logs::unexpected;
use hybrid_runner_tests::root;
use sandbox::Credentials;
use serde_json::Value;
use tokio::time::Instant;

use beside::{Beside, add_agent, openbao};
use cluster::{AGENTS, BESIDE, Cluster};

/// The records of a run that are durable before it is disturbed: some, and not nearly all of its entities.
const SOME: u64 = 60;

/// What the control plane says of an agent that was lost.
const ENDED: &str = "the lease of a run was ended";

/// Says what was seen, and when.
struct Steps {
    began: Instant,
    last: Instant,
}

impl Steps {
    fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, last: now }
    }

    fn saw(&mut self, what: &str) {
        let now = Instant::now();
        let (all, step) = ((now - self.began).as_secs_f64(), (now - self.last).as_secs_f64());
        eprintln!("k8s {all:>6.1} s (+{step:>5.1} s) {what}");
        self.last = now;
    }
}

#[tokio::test]
async fn an_agent_installed_by_helm_loses_nothing_to_a_kill_an_upgrade_and_a_rotation() {
    let Some(cluster) = Cluster::find("k8s") else { return };
    let Some(openbao) = openbao("k8s") else { return };
    let mut steps = Steps::begin();
    cluster.load("hybrid-runner", "localhost/hybrid-runner:k8s-1").await;
    cluster.load("hybrid-runner", "localhost/hybrid-runner:k8s-2").await;
    cluster.load("control-plane", "localhost/control-plane:k8s-1").await;
    cluster.load("sandbox", "localhost/sandbox:k8s-1").await;
    cluster.load(openbao.to_str().unwrap(), "localhost/openbao:k8s-1").await;
    steps.saw("the images are on the node");
    cluster.make_namespaces(&[AGENTS, BESIDE]).await;
    let ended = AssertUnwindSafe(scenario(&cluster, &mut steps)).catch_unwind().await;
    if ended.is_err() {
        cluster.tell(&[AGENTS, BESIDE]).await;
    }
    cluster.clean(&[AGENTS, BESIDE]).await;
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
    steps.saw("the namespaces are gone");
}

async fn scenario(cluster: &Cluster, steps: &mut Steps) {
    let login = Credentials::default();
    let mut beside = Beside::start(cluster, &login).await;
    steps.saw("OpenBao, the org and the control plane are ready");
    let entities = install(cluster, &mut beside, &login, steps).await;
    kill(cluster, &mut beside, steps).await;
    assert_same(&beside, "killed", &entities).await;
    upgrade(cluster, &mut beside, steps).await;
    assert_same(&beside, "upgraded", &entities).await;
    rotate(cluster, &mut beside, steps).await;
    assert_same(&beside, "rotated", &entities).await;
    look_for_trouble(cluster, &beside).await;
    uninstall(cluster, steps).await;
}

/// From the printed values to the first committed run, whose entities all others have to have.
async fn install(cluster: &Cluster, beside: &mut Beside<'_>, login: &Credentials, steps: &mut Steps) -> Vec<Value> {
    cluster.kubectl(AGENTS, &["apply", "--filename", "identities/crm.secret.yaml"]).await;
    let literal = |key: &str, value: &str| format!("--from-literal={key}={value}");
    let (password, token) = (literal("password", &login.password), literal("token", &login.security_token));
    cluster.kubectl(AGENTS, &["create", "secret", "generic", "salesforce", &password, &token]).await;
    std::fs::write(cluster.file("here.values.yaml"), beside.values().await.to_string()).unwrap();
    let chart = root().join("charts/hybrid-runner");
    let values = ["--values", "crm.values.yaml", "--values", "here.values.yaml"];
    cluster.helm(&[&["install", "crm", chart.to_str().unwrap(), "--wait"][..], &values].concat()).await;
    steps.saw("helm install: two agents are ready under the restricted standard");
    beside.until("the sessions of both", |log| (sessions(log).count() >= 2).then_some(())).await;
    let run_id = beside.trigger("undisturbed", &[]).await;
    beside.until("the first commit", |log| committed(log, &run_id)).await;
    let run = beside.assert_whole(&run_id).await;
    steps.saw(&format!("the first run is committed: {} entities in {} s", run["entities"], run["wall_seconds"]));
    let said = cluster.helm(&["test", "crm"]).await;
    assert!(said.lines().any(|line| line.starts_with("Phase:") && line.ends_with("Succeeded")), "{said}");
    steps.saw("helm test: passed");
    beside.entities("undisturbed").await
}

/// The pod that has the run is killed in the middle of it; the other one goes on.
async fn kill(cluster: &Cluster, beside: &mut Beside<'_>, steps: &mut Steps) {
    let (run_id, durable) = started(beside, "killed").await;
    let pod = pod_of(cluster, &run_id).await;
    cluster.kubectl(AGENTS, &["delete", "pod", &pod, "--grace-period=0", "--force"]).await;
    assert_eq!(committed(&beside.log.log(), &run_id), None, "it was killed in the middle");
    steps.saw(&format!("the pod that had the run was killed when {durable} records were durable"));
    let lost = |log: &str| log.lines().any(|line| line.contains(ENDED) && line.contains(&run_id)).then_some(());
    beside.until("the lease is over", lost).await;
    steps.saw("its lease is over: it handed nothing back");
    let opened = went_on(beside, &run_id, durable).await;
    steps.saw(&format!("the run is committed; another agent went on with it at record {opened}"));
    cluster.kubectl(AGENTS, &["rollout", "status", "deployment/crm-hybrid-runner"]).await;
    steps.saw("two agents are ready again");
}

/// Another image is rolled out while a run goes on.
async fn upgrade(cluster: &Cluster, beside: &mut Beside<'_>, steps: &mut Steps) {
    let (run_id, durable) = started(beside, "upgraded").await;
    let chart = root().join("charts/hybrid-runner");
    let set = ["--reuse-values", "--set", "image.tag=k8s-2"];
    cluster.helm(&[&["upgrade", "crm", chart.to_str().unwrap(), "--wait"][..], &set].concat()).await;
    steps.saw(&format!(
        "helm upgrade, begun when {durable} records were durable: two agents of the new image are ready"
    ));
    let opened = went_on(beside, &run_id, durable).await;
    let pods = agents(cluster).await;
    let stays = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let images: Vec<&Value> = stays.map(|pod| &pod["spec"]["containers"][0]["image"]).collect();
    assert_eq!(images, ["localhost/hybrid-runner:k8s-2"; 2]);
    steps.saw(&format!("the run is committed; another agent went on with it at record {opened}"));
}

/// The agents' certificate is replaced while runs go on, one after the other, until both agents have the new one.
async fn rotate(cluster: &Cluster, beside: &mut Beside<'_>, steps: &mut Steps) {
    let before: BTreeSet<String> = sessions(&beside.log.log()).map(str::to_owned).collect();
    let (first, _) = started(beside, "rotated").await;
    add_agent(cluster, "identities-2").await;
    cluster.kubectl(AGENTS, &["apply", "--filename", "identities-2/crm.secret.yaml"]).await;
    let new = |log: &str| sessions(log).filter(|serial| !before.contains(*serial)).count();
    let mut runs = vec![first];
    loop {
        let run_id = runs.last().unwrap().clone();
        // The kubelet looks at Secrets once a minute or so.
        let turn = |log: &str| (new(log) >= 2 || committed(log, &run_id).is_some()).then(|| new(log));
        if beside.until("new certificates, or a commit", turn).await >= 2 {
            break;
        }
        runs.push(beside.trigger("rotated", &["--full"]).await);
    }
    let run_id = runs.last().unwrap();
    assert_eq!(committed(&beside.log.log(), run_id), None, "a run goes on under the new certificates");
    steps.saw("both agents have sessions under the new certificate");
    beside.until("the last commit", |log| committed(log, run_id)).await;
    for run_id in &runs {
        beside.assert_whole(run_id).await;
    }
    steps.saw(&format!("{} runs went on meanwhile, all are committed", runs.len()));
}

/// Helm removes what it brought.
async fn uninstall(cluster: &Cluster, steps: &mut Steps) {
    let pods = agents(cluster).await;
    cluster.helm(&["uninstall", "crm", "--wait"]).await;
    for pod in pods {
        // They drain.
        cluster.wait_for(AGENTS, "delete", &format!("pod/{}", pod["metadata"]["name"].as_str().unwrap())).await;
    }
    let kinds = "all,configmap,secret,serviceaccount,networkpolicy,poddisruptionbudget,role,rolebinding";
    let left = cluster.get(AGENTS, &[kinds, "--selector", "app.kubernetes.io/instance=crm"]).await;
    assert_eq!(left["items"], serde_json::json!([]));
    steps.saw("helm uninstall: nothing is left over");
}

/// A run of that pipeline of which some is durable, and how many records.
async fn started(beside: &mut Beside<'_>, pipeline: &str) -> (String, u64) {
    let run_id = beside.trigger(pipeline, &[]).await;
    let some = |log: &str| durable(log, &run_id).filter(|next| *next > SOME);
    let durable = beside.until("some of the run is durable", some).await;
    (run_id, durable)
}

/// Waits for the commit of a run that was disturbed, and returns where its last agent went on: no earlier than at what
/// was durable.
async fn went_on(beside: &mut Beside<'_>, run_id: &str, durable: u64) -> u64 {
    beside.until("the commit", |log| committed(log, run_id)).await;
    beside.assert_whole(run_id).await;
    let opened = opened(&beside.log.log(), run_id).and_then(|(line, _)| next_seq(line)).expect("the run was opened");
    assert!(opened >= durable, "{durable} records were durable, and it went on at {opened}");
    opened
}

/// The last line in which that run was opened, and what was logged from there on.
fn opened<'a>(log: &'a str, run_id: &str) -> Option<(&'a str, &'a str)> {
    let line = log.lines().rfind(|line| line.contains("push opened") && line.contains(run_id))?;
    Some((line, log.split_once(line)?.1))
}

/// How many records of that run are durable. It is the only one that goes on, and the lines of batches name none.
fn durable(log: &str, run_id: &str) -> Option<u64> {
    next_seq(opened(log, run_id)?.1.lines().rfind(|line| line.contains("batch durable"))?)
}

fn next_seq(line: &str) -> Option<u64> {
    line.split_once("next_seq=")?.1.split_whitespace().next()?.parse().ok()
}

/// The agents' pods.
async fn agents(cluster: &Cluster) -> Vec<Value> {
    let pods = cluster.get(AGENTS, &["pods", "--selector", "app.kubernetes.io/component=agent"]).await;
    pods["items"].as_array().unwrap().clone()
}

/// The pod whose agent has the run.
async fn pod_of(cluster: &Cluster, run_id: &str) -> String {
    for pod in agents(cluster).await {
        let name = pod["metadata"]["name"].as_str().unwrap();
        if cluster.kubectl(AGENTS, &["logs", name]).await.contains(run_id) {
            return name.to_owned();
        }
    }
    panic!("no agent has {run_id}");
}

/// The serial numbers of the certificates under which sessions were opened, a line each.
fn sessions(log: &str) -> impl Iterator<Item = &str> {
    let opened = log.lines().filter(|line| line.contains("agent connected"));
    opened.filter_map(|line| Some(line.split_once("certificate=\"")?.1.split_once('"')?.0))
}

/// No agent that is there was restarted, and nobody logged what is not part of the scenario.
async fn look_for_trouble(cluster: &Cluster, beside: &Beside<'_>) {
    for pod in agents(cluster).await {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{}", pod["metadata"]["name"]);
    }
    let expected = [ENDED, "a push ends"].map(str::to_owned);
    let found = unexpected(&beside.log.log(), &expected);
    assert!(found.is_empty(), "unexpected in the control plane's log:\n{}", found.join("\n"));
}

async fn assert_same(beside: &Beside<'_>, pipeline: &str, entities: &[Value]) {
    let found = beside.entities(pipeline).await;
    assert_eq!(found.len(), entities.len(), "{pipeline}");
    for (found, wanted) in found.iter().zip(entities) {
        assert_eq!(found, wanted, "{pipeline}");
    }
}
