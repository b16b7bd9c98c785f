//! The Kubernetes store against a stand-in for an API server.
#![cfg(feature = "kubernetes")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod api_server;

use std::fs;
use std::net::TcpListener;

use hybrid_runner_secrets::{
    KubernetesSettings, KubernetesStore, ReadError, SecretRef, SecretStore, SecretValue, Stores,
};

use api_server::ApiServer;

async fn read(store: &KubernetesStore, reference: &str) -> Result<String, ReadError> {
    let reference: SecretRef = reference.parse().unwrap();
    store.read(reference.path()).await.map(|read| read.value.expose().to_owned())
}

fn needs(result: Result<String, ReadError>) -> String {
    match result {
        Err(ReadError::Denied(needs)) => needs,
        other => panic!("expected Denied, found {other:?}"),
    }
}

/// The texts of the whole chain.
fn cause(result: Result<String, ReadError>) -> String {
    match result {
        Err(ReadError::Unreachable(cause)) => {
            let chain = std::iter::successors(Some(cause.as_ref() as &dyn std::error::Error), |error| error.source());
            chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        }
        other => panic!("expected Unreachable, found {other:?}"),
    }
}

#[tokio::test]
async fn a_secret_is_got_by_namespace_name_and_key_and_by_nothing_else() {
    let server = ApiServer::start().await;
    server.put("prod/salesforce", &[("user", b"agent"), ("password", b"p\"w\n")]);
    let store = server.store();
    assert_eq!(read(&store, "secret:/prod/salesforce#password").await.unwrap(), "p\"w");
    assert_eq!(read(&store, "secret:/prod/salesforce#user").await.unwrap(), "agent");
    assert_eq!(
        server.state().requests,
        ["GET /api/v1/namespaces/prod/secrets/salesforce HTTP/1.1 first-token"; 2],
        "no list, no watch, no discovery"
    );
}

#[tokio::test]
async fn the_token_that_is_shown_is_watched() {
    let server = ApiServer::start().await;
    server.put("prod/salesforce", &[("a", b"1")]);
    let stores = Stores::default().with("kubernetes", server.store());
    assert!(!stores.redactor().scan(b"Bearer first-token"));
    stores.read(&"secret:/prod/salesforce".parse().unwrap()).await.unwrap();
    assert!(stores.redactor().scan(b"Bearer first-token"));
}

#[tokio::test]
async fn without_a_key_it_is_the_only_key_or_value() {
    let server = ApiServer::start().await;
    server.put("prod/one", &[("anything", b"1")]);
    server.put("prod/several", &[("a", b"1"), ("value", b"2")]);
    server.put("prod/unclear", &[("a", b"1"), ("b", b"2")]);
    server.put("prod/none", &[]);
    let store = server.store();
    assert_eq!(read(&store, "secret:/prod/one").await.unwrap(), "1");
    assert_eq!(read(&store, "secret:/prod/several").await.unwrap(), "2");
    assert!(matches!(read(&store, "secret:/prod/unclear").await, Err(ReadError::Unusable(_))));
    assert!(matches!(read(&store, "secret:/prod/none").await, Err(ReadError::KeyMissing)));
    assert!(matches!(read(&store, "secret:/prod/one#other").await, Err(ReadError::KeyMissing)));
    assert!(matches!(read(&store, "secret:/prod/none#other").await, Err(ReadError::KeyMissing)));
}

#[tokio::test]
async fn a_value_that_is_no_credential_is_refused() {
    let server = ApiServer::start().await;
    let full = "x".repeat(SecretValue::MAX);
    server.put("prod/binary", &[("a", &[0xff, 0xfe])]);
    server.put("prod/full", &[("a", full.as_bytes())]);
    server.put("prod/large", &[("a", &[b'x'; 1024 * 1024])]);
    let store = server.store();
    assert!(matches!(read(&store, "secret:/prod/binary").await, Err(ReadError::NotText)));
    assert_eq!(read(&store, "secret:/prod/full").await.unwrap(), full);
    assert!(matches!(read(&store, "secret:/prod/large").await, Err(ReadError::TooLarge)));
}

#[tokio::test]
async fn a_refusal_names_the_permission_and_nothing_of_the_answer() {
    let server = ApiServer::start().await;
    server.put("prod/salesforce", &[("a", b"1")]);
    let store = server.store();
    assert_eq!(needs(read(&store, "secret:/other/salesforce").await), "get on secrets/salesforce in namespace other");
    server.state().permitted.insert("prod/gone".to_owned());
    assert!(matches!(read(&store, "secret:/prod/gone").await, Err(ReadError::NotFound)));
    server.state().permitted.clear();
    assert_eq!(needs(read(&store, "secret:/prod/salesforce").await), "get on secrets/salesforce in namespace prod");
}

#[tokio::test]
async fn a_look_tells_whether_the_token_is_accepted_and_reads_no_secret() {
    let server = ApiServer::start().await;
    let store = server.store();
    assert_eq!(store.look().await.unwrap(), "the API server accepts the token");
    server.state().token = "another".to_owned();
    assert!(needs(store.look().await).starts_with("a token that the API server accepts"));
    server.state().instead.push((503, String::new(), String::new()));
    assert!(cause(store.look().await).contains("status 503"));
    let asked = server.state().requests.clone();
    assert!(asked.len() == 3 && asked.iter().all(|request| request.starts_with("GET /api HTTP/1.1 ")), "{asked:?}");
}

#[tokio::test]
async fn the_token_is_read_again_for_each_secret() {
    let server = ApiServer::start().await;
    server.put("prod/salesforce", &[("a", b"1")]);
    let store = server.store();
    assert!(read(&store, "secret:/prod/salesforce").await.is_ok());
    server.replace_token("second-token");
    assert!(read(&store, "secret:/prod/salesforce").await.is_ok());
    fs::write(server.token_file(), "expired-token").unwrap();
    let needs_token = needs(read(&store, "secret:/prod/salesforce").await);
    assert!(needs_token.starts_with("a token that the API server accepts"), "{needs_token}");
    for broken in ["", "two\nlines", "\n"] {
        fs::write(server.token_file(), broken).unwrap();
        let text = needs(read(&store, "secret:/prod/salesforce").await);
        assert!(text.starts_with("a credential of one line in the file ") && !text.contains("two"), "{text}");
    }
    fs::remove_file(server.token_file()).unwrap();
    assert!(needs(read(&store, "secret:/prod/salesforce").await).starts_with("a credential in the file "));
}

#[tokio::test]
async fn a_rotated_value_is_read_at_once() {
    let server = ApiServer::start().await;
    let store = server.store();
    for value in ["old", "new"] {
        server.put("prod/salesforce", &[("a", value.as_bytes())]);
        assert_eq!(read(&store, "secret:/prod/salesforce").await.unwrap(), value);
    }
}

#[tokio::test]
async fn a_name_that_could_lead_elsewhere_is_not_asked_for() {
    let server = ApiServer::start().await;
    let store = server.store();
    for reference in [
        "secret:/salesforce",
        "secret:/prod/salesforce/password",
        "secret:/Prod/salesforce",
        "secret:/prod/sales_force",
        "secret:/-prod/salesforce",
        "secret:/prod/..data",
        "secret:/prod/a@b",
        "secret:/prod/a=b",
    ] {
        assert!(matches!(read(&store, reference).await, Err(ReadError::Unusable(_))), "{reference}");
    }
    assert!(server.state().requests.is_empty());
}

#[tokio::test]
async fn answers_that_are_no_secret_are_told_apart() {
    let server = ApiServer::start().await;
    let store = server.store();
    for (status, body, expected) in [
        (500, "CANARY", "it answered with status 500"),
        (503, "CANARY", "it answered with status 503"),
        (200, "CANARY", "it answered what Kubernetes does not"),
        (200, r#"{"kind":"SecretList","items":["CANARY"]}"#, "it answered what Kubernetes does not"),
        (200, r#"{"kind":"Secret","data":{"a":"CANARY!"}}"#, "it answered a value that is not in base64"),
        (200, r#"{"kind":"Secret","data":{"a":1}}"#, "it answered a value that is not in base64"),
    ] {
        server.state().instead.push((status, String::new(), body.to_owned()));
        assert_eq!(cause(read(&store, "secret:/prod/a").await), expected);
    }
    let endless = (200, String::new(), "x".repeat(4 * 1024 * 1024));
    server.state().instead.push(endless);
    assert_eq!(cause(read(&store, "secret:/prod/a").await), "it answered more than a Secret can hold");
    server.state().instead.push((429, "retry-after: 1\r\n".to_owned(), String::new()));
    assert!(matches!(read(&store, "secret:/prod/a").await, Err(ReadError::Throttled)));
}

#[tokio::test]
async fn the_token_follows_no_redirect() {
    let server = ApiServer::start().await;
    let foreign = ApiServer::start().await;
    let store = server.store();
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}/api/v1/namespaces/prod/secrets/a\r\n", foreign.address);
        server.state().instead.push((status, location, String::new()));
        let cause = cause(read(&store, "secret:/prod/a").await);
        assert_eq!(cause, format!("it answered {status}, a redirect, which is never followed"));
    }
    assert!(foreign.state().requests.is_empty());
}

#[tokio::test]
async fn a_server_that_the_ca_does_not_vouch_for_sees_no_token() {
    let server = ApiServer::start().await;
    let other = ApiServer::start().await;
    let stranger = KubernetesStore::new(server.settings().with_ca(other.ca_file()));
    let text = cause(read(&stranger, "secret:/prod/a").await);
    assert!(text.contains("certificate"), "{text}");
    assert!(server.state().requests.is_empty());
    for content in ["", "no certificate"] {
        fs::write(server.ca_file(), content).unwrap();
        assert_eq!(cause(read(&server.store(), "secret:/prod/a").await), "its CA file holds no PEM certificate");
    }
    fs::remove_file(server.ca_file()).unwrap();
    assert!(cause(read(&server.store(), "secret:/prod/a").await).starts_with("its CA file "));
}

#[tokio::test]
async fn a_server_that_is_down_or_silent_is_unreachable() {
    let server = ApiServer::start().await;
    server.state().hangs = true;
    assert!(cause(read(&server.store(), "secret:/prod/a").await).contains("timed out"));

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = KubernetesSettings::new(&format!("https://127.0.0.1:{port}")).unwrap();
    let nobody = nobody.with_token_file(server.token_file()).with_ca(server.ca_file());
    let text = cause(read(&KubernetesStore::new(nobody), "secret:/prod/a").await);
    assert!(text.to_lowercase().contains("connection refused"), "{text}");
    assert!(!text.contains("first-token"), "{text}");
}
