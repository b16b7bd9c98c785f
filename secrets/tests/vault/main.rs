//! The vault store against a real OpenBao, which `tools/peers` installs.
#![cfg(feature = "vault")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic, and says when it is not run"
)]

mod bao;

use std::fs;
use std::time::Duration;

use bao::{Bao, Stub};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hybrid_runner_secrets::{
    KvVersion, ReadError, SecretError, SecretRef, SecretStore, Stores, VaultAuth, VaultSettings, VaultStore,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

async fn read(store: &VaultStore, reference: &str) -> Result<String, ReadError> {
    let reference: SecretRef = reference.parse().unwrap();
    Ok(store.read(reference.path()).await?.value.expose().to_owned())
}

/// A file with a token, as an editor leaves it.
fn token_file(token: &str) -> (TempDir, VaultAuth) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    (folder, VaultAuth::TokenFile(file))
}

fn settings(bao: &Bao, auth: VaultAuth, mount: &str) -> VaultSettings {
    VaultSettings::new(&bao.address, auth).unwrap().with_mount(mount).unwrap()
}

/// A mount with a policy that reads it, both named `name`.
async fn mount(bao: &Bao, name: &str, version: &str) {
    bao.post(&format!("sys/mounts/{name}"), json!({"type": "kv", "options": {"version": version}})).await;
    let below = if version == "2" { "data/" } else { "" };
    let policy = format!("path \"{name}/{below}open/*\" {{ capabilities = [\"read\"] }}");
    bao.post(&format!("sys/policies/acl/{name}"), json!({"policy": policy})).await;
}

/// An AppRole for the policy `name`, and a file with its secret id.
async fn approle(bao: &Bao, name: &str, role: serde_json::Value) -> (TempDir, VaultAuth) {
    bao.post(&format!("sys/auth/{name}"), json!({"type": "approle"})).await;
    bao.post(&format!("auth/{name}/role/agent"), role).await;
    let id = bao.get(&format!("auth/{name}/role/agent/role-id")).await;
    let secret = bao.post(&format!("auth/{name}/role/agent/secret-id"), json!({})).await;
    let folder = TempDir::new().unwrap();
    let secret_id_file = folder.path().join("secret-id");
    fs::write(&secret_id_file, secret["data"]["secret_id"].as_str().unwrap()).unwrap();
    let role_id = id["data"]["role_id"].as_str().unwrap().to_owned();
    (folder, VaultAuth::AppRole { role_id, secret_id_file, mount: name.to_owned() })
}

#[tokio::test]
async fn both_versions_of_kv_are_detected_and_a_new_value_is_read_at_once() {
    let Some(bao) = bao::shared("both_versions_of_kv").await else { return };
    let (_folder, auth) = token_file("root");
    for (name, version, below) in [("both1", "1", ""), ("team/both2", "2", "data/")] {
        mount(bao, name, version).await;
        let store = VaultStore::new(settings(bao, auth.clone(), name));
        for password in ["hunter2", "hunter3"] {
            let entry = json!({"password": password, "user": "ada"});
            let entry = if version == "2" { json!({"data": entry}) } else { entry };
            bao.post(&format!("{name}/{below}open/sf@prod"), entry).await;
            assert_eq!(read(&store, "secret:/open/sf@prod#password").await.unwrap(), password);
            assert_eq!(read(&store, "secret:/open/sf@prod#user").await.unwrap(), "ada");
        }
        let entry: SecretRef = "secret:/open/sf@prod#user".parse().unwrap();
        let shown = store.read(entry.path()).await.unwrap().version;
        let created = match version {
            "2" => bao.get(&format!("{name}/data/open/sf@prod")).await["data"]["metadata"]["created_time"].to_string(),
            _ => String::new(),
        };
        // To the second, without quotes.
        let created = created.get(1..20).map(|seconds| format!("version 2, created {seconds}Z"));
        assert_eq!(shown, created, "KV 1 has no versions");
        assert!(matches!(read(&store, "secret:/open/none").await, Err(ReadError::NotFound)));
        let prefixed = VaultStore::new(settings(bao, auth.clone(), name).with_prefix("open").unwrap());
        assert_eq!(read(&prefixed, "secret:/sf@prod#user").await.unwrap(), "ada");
    }
    let set = VaultStore::new(settings(bao, auth, "both1").with_kv_version(KvVersion::V2));
    assert!(matches!(read(&set, "secret:/open/sf@prod#user").await, Err(ReadError::NotFound)), "a set version counts");
}

#[tokio::test]
async fn a_key_is_the_one_named_the_only_one_or_value() {
    let Some(bao) = bao::shared("a_key_is_the_one_named").await else { return };
    mount(bao, "keys", "2").await;
    let (_folder, auth) = token_file("root");
    let store = VaultStore::new(settings(bao, auth, "keys"));
    for (path, entry) in [
        ("one", json!({"password": "hunter2"})),
        ("several", json!({"value": "hunter3", "other": "x"})),
        ("unclear", json!({"a": "x", "b": "y"})),
        ("number", json!({"pin": 1234, "list": ["x"], "map": {"a": "b"}, "nothing": null})),
        ("large", json!({"at": "x".repeat(64 * 1024), "over": "x".repeat(64 * 1024 + 1)})),
        ("none", json!({})),
        ("gone", json!({"password": "hunter2"})),
    ] {
        bao.post(&format!("keys/data/{path}"), json!({"data": entry})).await;
    }
    bao.delete("keys/data/gone").await;
    assert_eq!(read(&store, "secret:/one").await.unwrap(), "hunter2");
    assert_eq!(read(&store, "secret:/several").await.unwrap(), "hunter3");
    assert_eq!(read(&store, "secret:/large#at").await.unwrap().len(), 64 * 1024);
    assert!(matches!(read(&store, "secret:/large#over").await, Err(ReadError::TooLarge)));
    assert!(matches!(read(&store, "secret:/unclear").await, Err(ReadError::Unusable(_))));
    assert!(matches!(read(&store, "secret:/one#user").await, Err(ReadError::KeyMissing)));
    assert!(matches!(read(&store, "secret:/none").await, Err(ReadError::KeyMissing)));
    assert!(matches!(read(&store, "secret:/gone").await, Err(ReadError::NotFound)));
    for key in ["pin", "list", "map", "nothing"] {
        assert!(matches!(read(&store, &format!("secret:/number#{key}")).await, Err(ReadError::NotText)), "{key}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_capability_and_the_path_and_shows_no_token() {
    let Some(bao) = bao::shared("a_refusal_names_the_capability").await else { return };
    for (name, version, asked) in [("denied1", "1", "denied1/closed/a"), ("denied2", "2", "denied2/data/closed/a")] {
        mount(bao, name, version).await;
        let granted = bao.post("auth/token/create", json!({"policies": [name]})).await;
        let token = granted["auth"]["client_token"].as_str().unwrap();
        let (_folder, auth) = token_file(token);
        let store = VaultStore::new(settings(bao, auth.clone(), name));
        let shown = format!("{store:?}");
        let stores = Stores::default().with("vault", store);
        let error = stores.read(&"secret:/closed/a#k".parse().unwrap()).await.err().unwrap();
        let text = "reading secret secret:/closed/a#k from store `vault` is not permitted; it needs read on ";
        assert_eq!(error.to_string(), format!("{text}{asked}"));
        assert!(!format!("{error:?} {shown}").contains(token), "{error:?} {shown}");

        let foreign = VaultStore::new(settings(bao, auth, "no-such-mount"));
        let Err(ReadError::Denied(needs)) = read(&foreign, "secret:/a").await else { panic!("is denied") };
        assert!(needs.contains("no-such-mount"), "{needs}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_it_runs_out() {
    let Some(bao) = bao::shared("a_token_is_renewed").await else { return };
    mount(bao, "renewed", "2").await;
    bao.post("renewed/data/open/a", json!({"data": {"k": "v"}})).await;
    // A second login is impossible: the secret id is good for one.
    let role = json!({"token_policies": "renewed", "token_ttl": "2s", "token_max_ttl": "1h", "secret_id_num_uses": 1});
    let (_folder, auth) = approle(bao, "renewed-role", role).await;
    let store = VaultStore::new(settings(bao, auth, "renewed"));
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    for _ in 0..25 {
        ticks.tick().await;
        assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
    }
}

#[tokio::test]
async fn a_revoked_token_is_replaced_by_one_login_for_all_who_read() {
    let Some(bao) = bao::shared("a_revoked_token_is_replaced").await else { return };
    mount(bao, "revoked", "2").await;
    bao.post("revoked/data/open/a", json!({"data": {"k": "v"}})).await;
    let role = json!({"token_policies": "revoked", "token_ttl": "1h", "secret_id_num_uses": 2});
    let (_folder, auth) = approle(bao, "revoked-role", role).await;
    let store = std::sync::Arc::new(VaultStore::new(settings(bao, auth, "revoked")));
    assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
    bao.post("sys/leases/revoke-prefix/auth/revoked-role/login", json!({})).await;
    let mut readers = JoinSet::new();
    for _ in 0..8 {
        let store = std::sync::Arc::clone(&store);
        readers.spawn(async move { read(&store, "secret:/open/a").await.unwrap() });
    }
    assert_eq!(readers.join_all().await, vec!["v"; 8], "a third login would have been refused");
    // What is denied is denied, not a reason to log in without end.
    bao.post("sys/leases/revoke-prefix/auth/revoked-role/login", json!({})).await;
    let Err(ReadError::Denied(needs)) = read(&store, "secret:/open/a").await else { panic!("is denied") };
    assert_eq!(needs, "a login at auth/revoked-role/login, which was refused");
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again() {
    let Some(bao) = bao::shared("a_token_in_a_file").await else { return };
    mount(bao, "file", "2").await;
    bao.post("file/data/open/a", json!({"data": {"k": "v"}})).await;
    let (folder, auth) = token_file("never-granted");
    let store = VaultStore::new(settings(bao, auth, "file"));
    assert!(matches!(read(&store, "secret:/open/a").await, Err(ReadError::Denied(_))));
    let granted = bao.post("auth/token/create", json!({"policies": ["file"]})).await;
    let token = granted["auth"]["client_token"].as_str().unwrap();
    fs::write(folder.path().join("token"), token).unwrap();
    assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
    bao.post("auth/token/revoke", json!({"token": token})).await;
    assert!(matches!(read(&store, "secret:/open/a").await, Err(ReadError::Denied(_))));
    for nothing in ["", "\n", "two words", "two\nlines"] {
        fs::write(folder.path().join("token"), nothing).unwrap();
        let Err(ReadError::Denied(needs)) = read(&store, "secret:/open/a").await else { panic!("is denied") };
        assert!(needs.starts_with("a credential of one line in the file "), "{needs}");
    }
    fs::remove_file(folder.path().join("token")).unwrap();
    assert!(matches!(read(&store, "secret:/open/a").await, Err(ReadError::Denied(_))));
}

#[tokio::test]
async fn a_pod_logs_in_with_its_service_account() {
    let Some(bao) = bao::shared("a_pod_logs_in").await else { return };
    mount(bao, "pod", "2").await;
    bao.post("pod/data/open/a", json!({"data": {"k": "v"}})).await;
    let kubernetes = Stub::reviewing("crm", "agent", "7").await;
    bao.post("sys/auth/pod-login", json!({"type": "kubernetes"})).await;
    // It wants a certificate, also for a cluster that is asked in the clear.
    let ca = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap().cert.pem();
    let cluster =
        json!({"kubernetes_host": kubernetes.address, "disable_local_ca_jwt": true, "kubernetes_ca_cert": ca});
    bao.post("auth/pod-login/config", cluster).await;
    let role = json!({
        "audience": "vault",
        "bound_service_account_names": "agent",
        "bound_service_account_namespaces": "crm",
        "token_policies": "pod",
    });
    bao.post("auth/pod-login/role/agent", role).await;
    let account = json!({"namespace": "crm", "serviceaccount": {"name": "agent", "uid": "7"}});
    let claims = json!({"iss": "kubernetes/serviceaccount", "aud": ["vault"], "nbf": 1, "iat": 1, "exp": 4_000_000_000_u64, "kubernetes.io": account});
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.{}", part(&json!({"alg": "RS256"})), part(&claims), URL_SAFE_NO_PAD.encode("signature"));
    let folder = TempDir::new().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, token).unwrap();
    let login = |role: &str| {
        let (role, mount) = (role.to_owned(), "pod-login".to_owned());
        VaultStore::new(settings(bao, VaultAuth::Kubernetes { role, token_file: token_file.clone(), mount }, "pod"))
    };
    assert_eq!(read(&login("agent"), "secret:/open/a").await.unwrap(), "v");
    assert_eq!(kubernetes.requests(), 1);
    let Err(ReadError::Denied(needs)) = read(&login("other"), "secret:/open/a").await else { panic!("is denied") };
    assert_eq!(needs, "a login at auth/pod-login/login, which was refused");
}

#[tokio::test]
async fn a_namespace_is_read_where_it_is_set() {
    let Some(bao) = bao::shared("a_namespace").await else { return };
    bao.post("sys/namespaces/team-a", json!({})).await;
    bao.post("team-a/sys/mounts/kv", json!({"type": "kv", "options": {"version": "2"}})).await;
    bao.post("team-a/kv/data/a", json!({"data": {"k": "v"}})).await;
    let (_folder, auth) = token_file("root");
    let settings = settings(bao, auth, "kv");
    assert!(read(&VaultStore::new(settings.clone()), "secret:/a").await.is_err(), "there is none outside");
    let store = VaultStore::new(settings.with_namespace("team-a").unwrap());
    assert_eq!(read(&store, "secret:/a").await.unwrap(), "v");
}

#[tokio::test]
async fn a_sealed_store_and_a_stopped_one_say_so() {
    let Some(bao) = bao::start("a_sealed_store", &[]).await else { return };
    bao.post("secret/data/a", json!({"data": {"k": "v"}})).await;
    let (_folder, auth) = token_file("root");
    let store = VaultStore::new(settings(&bao, auth, "secret"));
    assert_eq!(read(&store, "secret:/a").await.unwrap(), "v");
    bao.post("sys/seal", json!({})).await;
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::Sealed)));
    bao.stop();
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::Unreachable(_))));
}

#[tokio::test]
async fn a_server_is_trusted_by_its_ca_only() {
    let folder = TempDir::new().unwrap();
    let option = format!("-dev-tls-cert-dir={}", folder.path().display());
    let Some(bao) = bao::start("a_server_is_trusted", &["-dev-tls", &option]).await else { return };
    bao.post("secret/data/a", json!({"data": {"k": "v"}})).await;
    let (_folder, auth) = token_file("root");
    let settings = settings(&bao, auth, "secret");
    let trusted = settings.clone().with_ca(fs::read(folder.path().join("vault-ca.pem")).unwrap());
    assert_eq!(read(&VaultStore::new(trusted), "secret:/a").await.unwrap(), "v");
    assert!(matches!(read(&VaultStore::new(settings.clone()), "secret:/a").await, Err(ReadError::Unreachable(_))));
    let store = Stores::default().with("vault", VaultStore::new(settings.with_ca(b"none".to_vec())));
    let error = store.read(&"secret:/a".parse().unwrap()).await.err().unwrap();
    assert!(matches!(error, SecretError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    bao::provider();
    let elsewhere = Stub::answering("200 OK", "").await;
    let (_folder, auth) = token_file("hunter2-token");
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let standby = Stub::answering(status, &format!("Location: {}/v1/x\r\n", elsewhere.address)).await;
        let store = VaultStore::new(VaultSettings::new(&standby.address, auth.clone()).unwrap());
        let Err(ReadError::Unreachable(cause)) = read(&store, "secret:/a").await else { panic!("has no answer") };
        assert!(cause.to_string().contains("a redirect, which is never followed"), "{cause}");
        assert!(standby.requests() > 0);
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_throttled_and_a_failing_store_are_told_apart_and_echo_nothing() {
    bao::provider();
    let (_folder, auth) = token_file("hunter2-token");
    let throttled = Stub::answering("429 Too Many Requests", "").await;
    let store = VaultStore::new(VaultSettings::new(&throttled.address, auth.clone()).unwrap());
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::Throttled)));
    for status in ["500 Oops", "200 OK"] {
        let failing = Stub::answering(status, "").await;
        let store = VaultStore::new(VaultSettings::new(&failing.address, auth.clone()).unwrap());
        let error = read(&store, "secret:/a").await.err().unwrap();
        assert!(matches!(error, ReadError::Unreachable(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
