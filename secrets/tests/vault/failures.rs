//! What goes wrong, and what the store makes of it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hybrid_runner_secrets::{
    ReadError, SecretError, SecretRef, SecretStore, Stores, VaultAuth, VaultSettings, VaultStore,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bao::{self, Stub, approle, mount, token_file};
use super::{read, settings};

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
async fn a_permission_that_was_taken_away_is_missed_at_the_next_read() {
    let Some(bao) = bao::shared("a_permission_that_was_taken_away").await else { return };
    mount(bao, "taken", "2").await;
    bao.post("taken/data/open/a", json!({"data": {"k": "v"}})).await;
    let (_folder, auth) = approle(bao, "taken-role", json!({"token_policies": "taken", "token_ttl": "1h"})).await;
    let store = VaultStore::new(settings(bao, auth, "taken"));
    assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
    let policy =
        |rule: &str| json!({"policy": format!("path \"taken/data/open/*\" {{ capabilities = [\"{rule}\"] }}")});
    for rule in ["list", "deny"] {
        bao.post("sys/policies/acl/taken", policy(rule)).await;
        let Err(ReadError::Denied(needs)) = read(&store, "secret:/open/a").await else { panic!("is denied") };
        assert_eq!(needs, "read on taken/data/open/a", "{rule}");
    }
    bao.post("sys/policies/acl/taken", policy("read")).await;
    assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
}

#[tokio::test]
async fn a_value_that_changes_while_it_is_read_is_the_old_one_or_the_new_one() {
    let Some(bao) = bao::shared("a_value_that_changes").await else { return };
    mount(bao, "changing", "2").await;
    bao.post("changing/data/open/a", json!({"data": {"k": "value-1"}})).await;
    let (_folder, auth) = token_file("root");
    let store = Arc::new(VaultStore::new(settings(bao, auth, "changing")));
    let ended = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let (store, ended) = (Arc::clone(&store), Arc::clone(&ended));
        readers.spawn(async move {
            let entry: SecretRef = "secret:/open/a#k".parse().unwrap();
            let mut last = 0;
            while !ended.load(Ordering::SeqCst) {
                let read = store.read(entry.path()).await.unwrap();
                let version: u32 = read.value.expose().strip_prefix("value-").unwrap().parse().unwrap();
                let shown = read.version.unwrap();
                assert!(shown.starts_with(&format!("version {version}, created ")), "{shown}");
                assert!(version >= last, "{version} after {last}");
                last = version;
            }
            last
        });
    }
    for version in 2..=30 {
        bao.post("changing/data/open/a", json!({"data": {"k": format!("value-{version}")}})).await;
        assert_eq!(read(&store, "secret:/open/a#k").await.unwrap(), format!("value-{version}"), "new at once");
    }
    ended.store(true, Ordering::SeqCst);
    assert!(readers.join_all().await.into_iter().all(|last| last > 1), "they read while it changed");
}

#[tokio::test]
async fn an_entry_that_is_deleted_or_destroyed_is_not_found() {
    let Some(bao) = bao::shared("an_entry_that_is_deleted").await else { return };
    mount(bao, "deleted", "2").await;
    let (_folder, auth) = token_file("root");
    let store = VaultStore::new(settings(bao, auth.clone(), "deleted"));
    bao.post("deleted/data/a", json!({"data": {"k": "old"}})).await;
    bao.post("deleted/data/a", json!({"data": {"k": "v"}})).await;
    assert_eq!(read(&store, "secret:/a").await.unwrap(), "v");
    bao.delete("deleted/data/a").await;
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::NotFound)), "no older version is read");
    bao.post("deleted/undelete/a", json!({"versions": [2]})).await;
    assert_eq!(read(&store, "secret:/a").await.unwrap(), "v");
    bao.post("deleted/destroy/a", json!({"versions": [2]})).await;
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::NotFound)));
    bao.post("deleted/data/a", json!({"data": {"k": "new"}})).await;
    assert_eq!(read(&store, "secret:/a").await.unwrap(), "new");
    bao.delete("deleted/metadata/a").await;
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::NotFound)));

    mount(bao, "deleted1", "1").await;
    let store = VaultStore::new(settings(bao, auth, "deleted1"));
    bao.post("deleted1/a", json!({"k": "v"})).await;
    assert_eq!(read(&store, "secret:/a").await.unwrap(), "v");
    bao.delete("deleted1/a").await;
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::NotFound)));
}

#[tokio::test]
async fn an_entry_of_a_megabyte_is_read_for_its_small_key_and_refused_for_its_large_one() {
    let Some(bao) = bao::shared("an_entry_of_a_megabyte").await else { return };
    mount(bao, "sizes", "2").await;
    let (_folder, auth) = token_file("root");
    let stores = Stores::default().with("vault", VaultStore::new(settings(bao, auth, "sizes")));
    let entry =
        json!({"large": "x".repeat(1024 * 1024 - 512), "small": "v", "empty": "", "binary": [0, 159, 146, 150]});
    bao.post("sizes/data/a", json!({"data": entry})).await;
    let read = async |key: &str| stores.read(&format!("secret:/a#{key}").parse().unwrap()).await;
    assert_eq!(read("small").await.ok().unwrap().expose(), "v");
    assert!(matches!(read("large").await, Err(SecretError::TooLarge { .. })));
    assert!(matches!(read("empty").await, Err(SecretError::Empty { .. })));
    assert!(matches!(read("binary").await, Err(SecretError::NotText { .. })));
}

#[tokio::test]
async fn a_sealed_store_and_a_stopped_one_say_so() {
    let Some(bao) = bao::start("a_sealed_store", &[]).await else { return };
    bao.post("secret/data/a", json!({"data": {"k": "v"}})).await;
    let (_folder, auth) = token_file("root");
    let store = VaultStore::new(settings(&bao, auth, "secret"));
    assert_eq!(read(&store, "secret:/a").await.unwrap(), "v");
    mount(&bao, "locked", "2").await;
    let (_secret, auth) = approle(&bao, "locked-role", json!({"token_policies": "locked"})).await;
    let not_logged_in = VaultStore::new(settings(&bao, auth, "locked"));
    bao.post("sys/seal", json!({})).await;
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::Sealed)));
    assert!(matches!(read(&not_logged_in, "secret:/open/a").await, Err(ReadError::Sealed)), "at the login");
    bao.stop();
    assert!(matches!(read(&store, "secret:/a").await, Err(ReadError::Unreachable(_))));
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

        // A login has a credential, too.
        let folder = TempDir::new().unwrap();
        let secret_id_file = folder.path().join("secret-id");
        fs::write(&secret_id_file, "hunter2-secret-id").unwrap();
        let login = VaultAuth::AppRole { role_id: "agent".to_owned(), secret_id_file, mount: "approle".to_owned() };
        let store = VaultStore::new(VaultSettings::new(&standby.address, login).unwrap());
        let Err(ReadError::Unreachable(cause)) = read(&store, "secret:/a").await else { panic!("has no answer") };
        assert!(cause.to_string().contains("a redirect, which is never followed"), "{cause}");
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_given_up_within_ten_seconds() {
    bao::provider();
    let (_folder, auth) = token_file("hunter2-token");
    let silent = Stub::silent().await;
    let stores = Stores::default().with("vault", VaultStore::new(VaultSettings::new(&silent.address, auth).unwrap()));
    let before = Instant::now();
    let error = stores.read(&"secret:/a".parse().unwrap()).await.err().unwrap();
    assert!(matches!(error, SecretError::Unreachable { .. }), "{error:?}");
    let took = before.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(11), "{took:?}");
    assert!(silent.requests() > 0);
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
