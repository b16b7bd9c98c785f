//! Faults of stores, definitions and references.

use std::net::Ipv4Addr;

use hybrid_runner_tests::world::{Setup, World, pipeline_yaml};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Installation, rows};

/// A Vault that answers each path as it is told, and 403 otherwise.
async fn vault(answers: Vec<(&'static str, Value)>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let (mut first, mut line) = (String::new(), String::new());
            stream.read_line(&mut first).await.unwrap();
            while line.trim() != "" || line.is_empty() {
                line.clear();
                if stream.read_line(&mut line).await.unwrap() == 0 {
                    break;
                }
            }
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = answers.iter().find(|(known, _)| format!("/v1/{known}") == path);
            let (status, body) = match answer {
                Some((_, data)) => ("200 OK", enveloped(data)),
                None => ("403 Forbidden", json!({"errors": ["permission denied"]})),
            };
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    (format!("http://{address}"), tasks)
}

fn enveloped(data: &Value) -> Value {
    json!({"request_id": "r", "lease_id": "", "renewable": false, "lease_duration": 0, "data": data})
}

fn token() -> Value {
    json!({
        "accessor": "a", "creation_time": 1, "creation_ttl": 7200, "display_name": "token", "entity_id": "",
        "expire_time": null, "explicit_max_ttl": 0, "id": "t", "meta": null, "num_uses": 0, "orphan": true,
        "path": "auth/token/create", "policies": ["default"], "renewable": true, "ttl": 7200
    })
}

fn mount() -> Value {
    json!({"type": "kv", "options": {"version": "2"}})
}

fn entry(value: &str) -> Value {
    json!({"data": {"value": value}, "metadata": {"version": 1, "created_time": "2026-01-31T08:30:00Z"}})
}

fn stores(address: &str) -> String {
    format!("{{bao: {{vault: {{address: '{address}', auth: {{token_file: vault.token}}}}}}}}")
}

#[tokio::test]
async fn a_store_that_cannot_be_used_fails_that_check_and_what_it_holds_is_skipped() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    one.stores = "{mounted: {file: {dir: nowhere}}}".to_owned();
    let row = one.fails("stores").await;
    assert!(row["subject"] == "mounted" && row["seen"].as_str().unwrap().contains("directory"), "{row:#}");
    let report = one.doctor(&["--json"]).await.json();
    let references: Vec<_> = rows(&report).iter().filter(|row| row["check"] == "references").collect();
    assert!(references.len() == 2 && references.iter().all(|row| row["status"] == "skipped"), "{report:#}");

    one.write("vault.token", "t");
    let port = {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        nobody.local_addr().unwrap().port()
    };
    one.stores = stores(&format!("http://127.0.0.1:{port}"));
    one.fails_with("stores", "could not be reached").await;
    let (address, _denies) = vault(Vec::new()).await;
    one.stores = stores(&address);
    one.fails_with("stores", "it needs a token that is accepted").await;
    let (address, _no_mount) = vault(vec![("auth/token/lookup-self", token())]).await;
    one.stores = stores(&address);
    one.fails_with("stores", "it needs any capability below secret/").await;
    world.stop().await;
}

#[tokio::test]
async fn a_secret_that_the_store_denies_or_does_not_have_fails_that_reference_and_no_other() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    std::fs::remove_file(one.dir.path().join("secrets/salesforce/password")).unwrap();
    let row = one.fails("references").await;
    assert!(row["subject"] == "crm: password" && row["seen"].as_str().unwrap().contains("not found"), "{row:#}");

    one.write("vault.token", "t");
    let (address, _vault) = vault(vec![
        ("auth/token/lookup-self", token()),
        ("sys/internal/ui/mounts/secret", mount()),
        ("secret/data/salesforce/token", entry("security-token")),
    ])
    .await;
    one.stores = stores(&address);
    one.fails_with("references", "it needs read on secret/data/salesforce/password").await;
    world.stop().await;
}

#[tokio::test]
async fn a_definition_that_cannot_be_run_fails_that_check_and_no_other() {
    let pipeline = pipeline_yaml("").replace("secret:/salesforce/password", "hunter2hunter2");
    let world = World::with(Setup { pipeline: Some(pipeline), ..Setup::default() }).await;
    let row = Installation::new(&world).fails("definitions").await;
    assert_eq!(row["subject"], "crm");
    let seen = row["seen"].as_str().unwrap();
    assert!(seen.contains("LITERAL_SECRET") && !seen.contains("hunter2"), "{row:#}");
    world.stop().await;
}

#[tokio::test]
async fn the_password_of_a_proxy_in_a_store_that_failed_fails_the_store_alone() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    one.stores = "{mounted: {file: {dir: nowhere}}}".to_owned();
    // Somebody listens there.
    one.more = format!(
        ", proxy: {{url: 'http://localhost:{}', username: agent, password: 'secret:/proxy/password'}}",
        world.port
    );
    one.fails("stores").await;
    world.stop().await;
}
