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
mod failures;
mod logins;
mod tokens;

use bao::{Bao, mount, token_file};
use hybrid_runner_secrets::{KvVersion, ReadError, SecretRef, SecretStore, VaultAuth, VaultSettings, VaultStore};
use serde_json::json;

async fn read(store: &VaultStore, reference: &str) -> Result<String, ReadError> {
    let reference: SecretRef = reference.parse().unwrap();
    Ok(store.read(reference.path()).await?.value.expose().to_owned())
}

fn settings(bao: &Bao, auth: VaultAuth, mount: &str) -> VaultSettings {
    VaultSettings::new(&bao.address, auth).unwrap().with_mount(mount).unwrap()
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
async fn a_look_tells_the_tokens_life_and_the_mount_or_what_the_token_lacks() {
    let Some(bao) = bao::shared("a_look_tells").await else { return };
    mount(bao, "looked", "2").await;
    let (_folder, auth) = token_file("root");
    let store = |auth: &VaultAuth, mount: &str| VaultStore::new(settings(bao, auth.clone(), mount));
    let seen = store(&auth, "looked").look().await.unwrap();
    assert_eq!(seen, "the token is accepted (it does not expire); the mount looked is KV 2");
    let made = bao.post("auth/token/create", json!({"policies": ["looked"], "ttl": "90m"})).await;
    let (_short, auth) = token_file(made["auth"]["client_token"].as_str().unwrap());
    let seen = store(&auth, "looked").look().await.unwrap();
    assert!(seen.starts_with("the token is accepted (for ") && seen.contains(" min more)"), "{seen}");
    let Err(ReadError::Denied(needs)) = store(&auth, "secret").look().await else { panic!("it may do nothing there") };
    assert_eq!(needs, "any capability below secret/, if that mount exists");
    let (_unknown, auth) = token_file("no-such-token");
    let Err(ReadError::Denied(needs)) = store(&auth, "looked").look().await else { panic!("it is no token") };
    assert_eq!(needs, "a token that is accepted and has any capability below looked/");
}
