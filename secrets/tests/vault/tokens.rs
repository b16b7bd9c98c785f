//! The life of the store's token.

use std::fs;
use std::time::Duration;

use hybrid_runner_secrets::{ReadError, VaultStore};
use serde_json::json;
use tokio::task::JoinSet;

use super::bao::{self, approle, mount, token_file};
use super::{read, settings};

#[tokio::test]
async fn a_token_is_renewed_before_it_runs_out() {
    let Some(bao) = bao::shared("a_token_is_renewed").await else { return };
    mount(bao, "renewed", "2").await;
    bao.post("renewed/data/open/a", json!({"data": {"k": "v"}})).await;
    // A second login is impossible: the secret id is good for one.
    let role = json!({"token_policies": "renewed", "token_ttl": "5s", "token_max_ttl": "1h", "secret_id_num_uses": 1});
    let (_folder, auth) = approle(bao, "renewed-role", role).await;
    let store = VaultStore::new(settings(bao, auth, "renewed"));
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    for _ in 0..40 {
        ticks.tick().await;
        assert_eq!(read(&store, "secret:/open/a").await.unwrap(), "v");
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_is_replaced_before_it_runs_out() {
    let Some(bao) = bao::shared("a_token_that_cannot_be_renewed").await else { return };
    mount(bao, "replaced", "2").await;
    bao.post("replaced/data/open/a", json!({"data": {"k": "v"}})).await;
    // Batch tokens are not renewable; the others are at the end of what is ever granted.
    let (_folder, batch) =
        approle(bao, "replaced-batch", json!({"token_policies": "replaced", "token_type": "batch", "token_ttl": "5s"}))
            .await;
    let (_other, capped) = approle(
        bao,
        "replaced-capped",
        json!({"token_policies": "replaced", "token_ttl": "5s", "token_max_ttl": "5s"}),
    )
    .await;
    let stores = [batch, capped].map(|auth| VaultStore::new(settings(bao, auth, "replaced")));
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    for _ in 0..40 {
        ticks.tick().await;
        for store in &stores {
            assert_eq!(read(store, "secret:/open/a").await.unwrap(), "v");
        }
    }
}

#[tokio::test]
async fn a_token_that_ran_out_unread_is_replaced_and_a_given_one_is_denied() {
    let Some(bao) = bao::shared("a_token_that_ran_out").await else { return };
    mount(bao, "ran-out", "2").await;
    bao.post("ran-out/data/open/a", json!({"data": {"k": "v"}})).await;
    let (_folder, auth) = approle(bao, "ran-out-role", json!({"token_policies": "ran-out", "token_ttl": "5s"})).await;
    let granted = VaultStore::new(settings(bao, auth, "ran-out"));
    let token = bao.post("auth/token/create", json!({"policies": ["ran-out"], "ttl": "5s", "renewable": false})).await;
    let token = token["auth"]["client_token"].as_str().unwrap();
    let (_file, auth) = token_file(token);
    let given = VaultStore::new(settings(bao, auth, "ran-out"));
    for store in [&granted, &given] {
        assert_eq!(read(store, "secret:/open/a").await.unwrap(), "v");
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while bao.token_is_known(token).await {
        ticks.tick().await;
    }
    assert_eq!(read(&granted, "secret:/open/a").await.unwrap(), "v");
    let Err(ReadError::Denied(needs)) = read(&given, "secret:/open/a").await else { panic!("is denied") };
    assert_eq!(needs, "read on ran-out/data/open/a");
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
    let logins = bao.get("sys/leases/lookup/auth/revoked-role/login?list=true").await;
    assert_eq!(logins["data"]["keys"].as_array().unwrap().len(), 1, "{logins}");
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
