//! Each store in each situation: what comes of it, by its kind. Where a cell is empty the store cannot get there.
#![cfg(all(unix, feature = "aws", feature = "kubernetes"))]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "`./test` counts what was not run by this line")]

#[path = "kubernetes/api_server.rs"]
mod api_server;
#[path = "aws/moto.rs"]
#[expect(dead_code, reason = "more of it is used by the store's own cases")]
mod moto;
#[path = "aws/stub.rs"]
#[expect(dead_code, reason = "more of it is used by the store's own cases")]
mod stub;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};

use aws_sdk_secretsmanager::primitives::Blob;
use hybrid_runner_secrets::{
    AwsSettings, AwsStore, EnvStore, FileStore, KubernetesSettings, KubernetesStore, MemoryStore, SecretError,
    SecretRef, SecretStore, SecretValue, Stores,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use api_server::ApiServer;
use moto::{Moto, loader};
use stub::Stub;

/// The kind of what came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Value,
    NotFound,
    KeyMissing,
    Denied,
    Empty,
    TooLarge,
    NotText,
    Unusable,
    Unreachable,
}

const SITUATIONS: [(&str, [Option<Outcome>; 5]); 10] = {
    use Outcome::{Denied, Empty, KeyMissing, NotFound, NotText, TooLarge, Unreachable, Unusable, Value};
    [
        //          file               env             memory          aws                kubernetes
        ("ok", [Some(Value), Some(Value), Some(Value), Some(Value), Some(Value)]),
        ("missing", [Some(NotFound), Some(NotFound), Some(NotFound), Some(NotFound), Some(NotFound)]),
        ("denied", [Some(Denied), None, None, Some(Denied), Some(Denied)]),
        ("empty", [Some(Empty), Some(Empty), Some(Empty), Some(Empty), Some(Empty)]),
        ("wrong key", [Some(Unusable), Some(Unusable), Some(NotFound), Some(KeyMissing), Some(KeyMissing)]),
        ("binary", [Some(NotText), None, None, Some(Unusable), Some(NotText)]),
        ("1 MB", [Some(TooLarge), None, Some(TooLarge), Some(TooLarge), Some(TooLarge)]),
        ("rotated", [Some(Value), None, None, Some(Value), Some(Value)]),
        ("slow", [None, None, None, Some(Unreachable), Some(Unreachable)]),
        ("down", [Some(Unreachable), None, None, Some(Unreachable), Some(Unreachable)]),
    ]
};
const STORES: [&str; 5] = ["file", "env", "memory", "aws", "kubernetes"];

/// A store in a situation, what it is asked for there, and the value that is the right one if there is one.
type Cell = (Stores, &'static str, &'static str);
type Cells = BTreeMap<&'static str, Cell>;

const MEGABYTE: usize = 1024 * 1024;

#[tokio::test]
async fn each_store_tells_each_situation_apart() {
    let Some(moto) = Moto::start("each_store_tells_each_situation_apart") else { return };
    let (files, server) = (TempDir::new().unwrap(), ApiServer::start().await);
    // Connections are accepted by the system and nothing more.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let mut stores = [
        of_files(&files).await,
        of_variables(),
        of_memory(),
        of_aws(&moto, silent_port).await,
        of_kubernetes(&server, silent_port).await,
    ];
    let mut reads = JoinSet::new();
    for (situation, row) in SITUATIONS {
        for ((store, cells), expected) in STORES.into_iter().zip(&mut stores).zip(row) {
            match (cells.remove(situation), expected) {
                (Some(cell), Some(expected)) => {
                    reads.spawn(async move { (store, situation, expected, outcome(cell).await) });
                }
                (None, None) => {}
                // Root may read everything, and the build may run as root.
                (None, Some(Outcome::Denied)) if store == "file" => {}
                (cell, _) => panic!("{store}, {situation}: the table and the store differ: {cell:?}"),
            }
        }
    }
    for (store, situation, expected, found) in reads.join_all().await {
        assert_eq!(found, expected, "{store}, {situation}");
    }
    assert!(stores.iter().all(BTreeMap::is_empty), "situations that the table has not: {stores:?}");
}

async fn outcome((stores, reference, right): Cell) -> Outcome {
    let reference: SecretRef = reference.parse().unwrap();
    match stores.read(&reference).await {
        Ok(value) if value.expose() == right => Outcome::Value,
        Ok(_) => panic!("{reference}: another value"),
        Err(SecretError::NotFound { .. }) => Outcome::NotFound,
        Err(SecretError::KeyMissing { .. }) => Outcome::KeyMissing,
        Err(SecretError::Denied { .. }) => Outcome::Denied,
        Err(SecretError::Empty { .. }) => Outcome::Empty,
        Err(SecretError::TooLarge { .. }) => Outcome::TooLarge,
        Err(SecretError::NotText { .. }) => Outcome::NotText,
        Err(SecretError::Unusable { .. }) => Outcome::Unusable,
        Err(SecretError::Unreachable { .. }) => Outcome::Unreachable,
        Err(other) => panic!("no situation here leads to {other:?}"),
    }
}

fn of(store: impl SecretStore + 'static) -> Stores {
    Stores::default().with("store", store)
}

/// Reads what is replaced next.
async fn read_old(stores: &Stores, reference: &str) {
    assert_eq!(stores.read(&reference.parse().unwrap()).await.unwrap().expose(), "old");
}

async fn of_files(folder: &TempDir) -> Cells {
    let below = |name: &str| folder.path().join(name);
    for (name, content) in [("ok", b"good\n".as_slice()), ("empty", b"\n"), ("binary", b"\xff"), ("denied", b"x")] {
        fs::write(below(name), content).unwrap();
    }
    fs::write(below("large"), vec![b'x'; MEGABYTE]).unwrap();
    fs::set_permissions(below("denied"), fs::Permissions::from_mode(0o000)).unwrap();
    for (version, content) in [("..1", "old"), ("..2", "new")] {
        fs::create_dir(below(version)).unwrap();
        fs::write(below(version).join("rotated"), content).unwrap();
    }
    symlink("..1", below("..data")).unwrap();
    symlink("..data/rotated", below("rotated")).unwrap();
    let stores = of(FileStore::new(folder.path()));
    read_old(&stores, "secret:/rotated").await;
    symlink("..2", below("..data_tmp")).unwrap();
    fs::rename(below("..data_tmp"), below("..data")).unwrap();

    let mut cells = Cells::from([
        ("ok", (stores.clone(), "secret:/ok", "good")),
        ("missing", (stores.clone(), "secret:/none", "")),
        ("empty", (stores.clone(), "secret:/empty", "")),
        ("wrong key", (stores.clone(), "secret:/ok#key", "")),
        ("binary", (stores.clone(), "secret:/binary", "")),
        ("1 MB", (stores.clone(), "secret:/large", "")),
        ("rotated", (stores.clone(), "secret:/rotated", "new")),
        ("down", (of(FileStore::new(below("unmounted"))), "secret:/ok", "")),
    ]);
    if fs::read(below("denied")).is_err() {
        cells.insert("denied", (stores, "secret:/denied", ""));
    }
    cells
}

/// Variables that cargo sets for each test; this package has no homepage.
fn of_variables() -> Cells {
    let stores = of(EnvStore::verbatim());
    Cells::from([
        ("ok", (stores.clone(), "secret:/CARGO_PKG_NAME", "hybrid-runner-secrets")),
        ("missing", (stores.clone(), "secret:/CARGO_PKG_NONE", "")),
        ("empty", (stores.clone(), "secret:/CARGO_PKG_HOMEPAGE", "")),
        ("wrong key", (stores, "secret:/CARGO_PKG_NAME#key", "")),
    ])
}

fn of_memory() -> Cells {
    let value = |text: &str| SecretValue::new(text.to_owned());
    let large = value(&"x".repeat(MEGABYTE));
    let store = MemoryStore::default().with("/ok", value("good")).with("/empty", value("")).with("/large", large);
    let stores = of(store);
    Cells::from([
        ("ok", (stores.clone(), "secret:/ok", "good")),
        ("missing", (stores.clone(), "secret:/none", "")),
        ("empty", (stores.clone(), "secret:/empty", "")),
        ("wrong key", (stores.clone(), "secret:/ok#key", "")),
        ("1 MB", (stores, "secret:/large", "")),
    ])
}

/// A real moto but for what it does not do as AWS does: refuse in this service's form, and answer what is too large.
async fn of_aws(moto: &Moto, silent_port: u16) -> Cells {
    let stores = of(moto.store(moto.settings()));
    moto.put("/ok", r#"{"key":"good","empty":""}"#);
    moto.writer().create_secret().name("/binary").secret_binary(Blob::new([0, 255])).send().await.unwrap();
    moto.put("/rotated", "old");
    read_old(&stores, "secret:/rotated").await;
    moto.writer().put_secret_value().secret_id("/rotated").secret_string("new").send().await.unwrap();
    let denied = Stub::answering([(400, r#"{"__type":"AccessDeniedException"}"#)]);
    let large = Stub::answering([(200, &*format!(r#"{{"SecretString":"{}"}}"#, "x".repeat(MEGABYTE)))]);
    let at = |port: u16| {
        let endpoint = Some(format!("http://127.0.0.1:{port}"));
        let settings = AwsSettings { region: Some("eu-central-1".to_owned()), endpoint, ..AwsSettings::default() };
        of(AwsStore::with_loader(settings, || loader("any", "any")))
    };
    Cells::from([
        ("ok", (stores.clone(), "secret:/ok#key", "good")),
        ("missing", (stores.clone(), "secret:/none", "")),
        ("denied", (of(denied.store()), "secret:/ok", "")),
        ("empty", (stores.clone(), "secret:/ok#empty", "")),
        ("wrong key", (stores.clone(), "secret:/ok#other", "")),
        ("binary", (stores.clone(), "secret:/binary", "")),
        ("1 MB", (of(large.store()), "secret:/ok", "")),
        ("rotated", (stores, "secret:/rotated", "new")),
        ("slow", (at(silent_port), "secret:/ok", "")),
        ("down", (at(unused_port()), "secret:/ok", "")),
    ])
}

async fn of_kubernetes(server: &ApiServer, silent_port: u16) -> Cells {
    let stores = of(server.store());
    let large = vec![b'x'; MEGABYTE];
    server.put("prod/a", &[("ok", b"good"), ("empty", b"\n"), ("binary", b"\xff"), ("large", &large)]);
    server.put("prod/rotated", &[("value", b"old")]);
    read_old(&stores, "secret:/prod/rotated").await;
    server.put("prod/rotated", &[("value", b"new")]);
    server.state().permitted.insert("prod/none".to_owned());
    let at = |port: u16| {
        let settings = KubernetesSettings::new(&format!("https://127.0.0.1:{port}")).unwrap();
        of(KubernetesStore::new(settings.with_token_file(server.token_file()).with_ca(server.ca_file())))
    };
    Cells::from([
        ("ok", (stores.clone(), "secret:/prod/a#ok", "good")),
        ("missing", (stores.clone(), "secret:/prod/none#ok", "")),
        ("denied", (stores.clone(), "secret:/other/a#ok", "")),
        ("empty", (stores.clone(), "secret:/prod/a#empty", "")),
        ("wrong key", (stores.clone(), "secret:/prod/a#other", "")),
        ("binary", (stores.clone(), "secret:/prod/a#binary", "")),
        ("1 MB", (stores.clone(), "secret:/prod/a#large", "")),
        ("rotated", (stores, "secret:/prod/rotated", "new")),
        ("slow", (at(silent_port), "secret:/prod/a#ok", "")),
        ("down", (at(unused_port()), "secret:/prod/a#ok", "")),
    ])
}

/// A port that nobody listens on.
fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
