//! What `control-plane agent add` prints and writes installs the chart as it is.

use std::path::Path;

use hybrid_runner_tests::processes::{Output, command, output, program};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use super::helm::{Helm, of_kind, yaml};

/// A folder with the configuration of a control plane that can sign agents' certificates.
fn control_plane() -> TempDir {
    let folder = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", &authority);
    write("ca.key", &key.serialize_pem());
    write(
        "control-plane.yaml",
        "listen: 127.0.0.1:0\ntls: {certificate: server.pem, key: server.key, client_ca: ca.pem, client_ca_key: ca.key}\n\
         store: {sqlite: control-plane.db}\npipelines: pipelines\nagents: agents.yaml\n",
    );
    folder
}

async fn add(folder: &Path, arguments: &[&str]) -> Output {
    let mut add = command(&program("control-plane"));
    add.current_dir(folder).args(["agent", "add"]).args(arguments);
    add.args(["--out", "identities", "--config", "control-plane.yaml"]);
    output(add).await
}

#[tokio::test]
async fn the_values_that_are_printed_install_as_they_are_with_the_secret_that_was_written() {
    let Some(helm) = Helm::find("chart of agent add") else { return };
    let folder = control_plane();
    for (name, more) in [("CRM_prod", &[][..]), ("by-token", &["--token"])] {
        let arguments =
            [&[name, "--endpoint", "https://control-plane.example:7443", "--ca", "ca.pem"][..], more].concat();
        let added = add(folder.path(), &arguments).await;
        assert_eq!(added.code(), 0, "{added:?}");
        let values = folder.path().join("values.yaml");
        std::fs::write(&values, &added.stdout).unwrap();
        let objects = yaml(&helm.template(&[&values], &[]).unwrap());

        let secret =
            yaml(&std::fs::read_to_string(folder.path().join(format!("identities/{name}.secret.yaml"))).unwrap());
        let mounted = keys_of(&objects, secret[0]["metadata"]["name"].as_str().unwrap());
        let written: Vec<&str> = secret[0]["stringData"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(mounted, written, "each key of the Secret is mounted, and no other");
        assert_eq!(secret[0]["stringData"]["ca.crt"], std::fs::read_to_string(folder.path().join("ca.pem")).unwrap());

        let file = format!("identities/{name}.yaml");
        let mut check = command(&program("hybrid-runner"));
        check.current_dir(folder.path()).args(["config", "schema", "--json", "--config", &file]);
        let checked = output(check).await;
        assert_eq!(checked.code(), 0, "{}", checked.stderr);
    }
}

/// The keys of a Secret that the agent's pod mounts.
fn keys_of(objects: &[Value], secret: &str) -> Vec<String> {
    let pod = &of_kind(objects, "Deployment")["spec"]["template"]["spec"];
    let files = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "files").unwrap();
    let sources = files["projected"]["sources"].as_array().unwrap().iter();
    let items = sources.filter(|source| source["secret"]["name"] == secret);
    let items = items.flat_map(|source| source["secret"]["items"].as_array().unwrap());
    let mut keys: Vec<String> = items.map(|item| item["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn without_an_endpoint_the_values_say_what_is_missing() {
    let Some(helm) = Helm::find("chart of agent add without endpoint") else { return };
    let folder = control_plane();
    let added = add(folder.path(), &["crm"]).await;
    assert_eq!(added.code(), 0, "{added:?}");
    let values = folder.path().join("values.yaml");
    std::fs::write(&values, &added.stdout).unwrap();
    let said = helm.template(&[&values], &[]).unwrap_err();
    assert!(said.contains("/controlPlane/endpoint"), "{said}");
    assert!(added.stdout.contains("--set controlPlane.endpoint=https://host:port"), "{}", added.stdout);
    helm.template(&[&values], &["--set", "controlPlane.endpoint=https://a:7443"]).unwrap();
}

#[tokio::test]
async fn an_endpoint_without_tls_is_refused_before_an_identity_is_made() {
    let folder = control_plane();
    let refused = add(folder.path(), &["crm", "--endpoint", "http://plain:7443"]).await;
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.stderr.contains("accepted: https://host:port"), "{}", refused.stderr);
    assert!(!folder.path().join("identities").exists());
}
