//! Faults between the agent and its control plane.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hybrid_runner_proto::v1::session_response::Message;
use hybrid_runner_proto::v1::{self, SessionResponse};
use hybrid_runner_tests::certificates::{Authority, Pair};
use hybrid_runner_tests::tap::{Tamper, Tap};
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{World, write};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{BY_CERTIFICATE, Installation, row};

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A server that speaks TLS, and one protocol in it or none.
async fn tls_server(pair: &Pair, protocols: &[&[u8]]) -> (u16, JoinSet<()>) {
    let acceptor = acceptor(pair, protocols);
    let (listener, port) = listener().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Whoever does not like the certificate hangs up.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                drop(stream.read(&mut [0; 64]).await);
            }
        }
    });
    (port, tasks)
}

fn acceptor(pair: &Pair, protocols: &[&[u8]]) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A proxy that refuses every tunnel.
async fn refusing_proxy() -> (u16, JoinSet<()>) {
    let (listener, port) = listener().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // A connection that only looks whether somebody listens says nothing.
            if stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        }
    });
    (port, tasks)
}

#[tokio::test]
async fn each_fault_on_the_way_fails_one_check_and_no_other() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    let good = one.endpoint.clone();

    one.endpoint = format!("no-such-host.invalid:{}", world.port);
    one.fails_with("dns", "no-such-host.invalid is not found").await;

    let (nobody, port) = listener().await;
    drop(nobody);
    one.endpoint = format!("localhost:{port}");
    one.fails_with("tcp", "refused").await;
    one.endpoint = good.clone();

    let (port, _proxy) = refusing_proxy().await;
    one.more = format!(", proxy: {{url: 'http://localhost:{port}'}}");
    one.fails_with("proxy", "it refuses the tunnel (status 403)").await;
    one.more.clear();

    // The name that the certificate is for is another one.
    one.endpoint = format!("127.0.0.1:{}", world.port);
    one.fails_with("tls", "for another host name").await;
    one.endpoint = good.clone();

    let (port, _expired) = tls_server(&world.authority.expired_server(), &[b"h2"]).await;
    one.endpoint = format!("localhost:{port}");
    one.fails_with("tls", "expired").await;
    let (port, _no_http2) = tls_server(&world.authority.server(), &[]).await;
    one.endpoint = format!("localhost:{port}");
    one.fails_with("http2", "does not speak HTTP/2").await;
    let (port, _only_http1) = tls_server(&world.authority.server(), &[b"http/1.1"]).await;
    one.endpoint = format!("localhost:{port}");
    one.fails_with("http2", "does not speak HTTP/2").await;
    one.endpoint = good;

    one.write("ca.pem", &Authority::new().pem);
    one.fails_with("tls", "it showed a certificate of CN=control plane").await;
    one.write("ca.pem", "no PEM");
    one.fails_with("configuration", "control_plane.ca has no PEM section").await;
    world.stop().await;
}

#[tokio::test]
async fn an_identity_that_is_not_accepted_fails_that_check_and_no_other() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    one.write("agent.token", "a-token-that-nobody-has-ever-heard-of-here");
    one.fails_with("identity", "does not accept this agent's identity").await;
    std::fs::remove_file(one.dir.path().join("agent.token")).unwrap();
    one.fails_with("configuration", "control_plane.token_file").await;

    one.identity = BY_CERTIFICATE;
    let expired = world.authority.expired_agent("two");
    one.write("agent.pem", &expired.certificate);
    one.write("agent.key", &expired.key);
    one.fails_with("identity", "as expired").await;
    let of_another_authority = Authority::new().agent("two");
    one.write("agent.pem", &of_another_authority.certificate);
    one.write("agent.key", &of_another_authority.key);
    one.fails("identity").await;
    let unknown = world.authority.agent("somebody");
    one.write("agent.pem", &unknown.certificate);
    one.write("agent.key", &unknown.key);
    one.fails_with("identity", "does not accept this agent's identity").await;
    world.stop().await;
}

#[tokio::test]
async fn an_agent_that_was_removed_fails_the_check_of_its_identity_and_no_other() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    one.identity = BY_CERTIFICATE;
    assert_eq!(one.doctor(&["--only", "identity"]).await.code(), 0);
    write(world.dir.path(), "agents.yaml", "- {name: one, certificate: true}\n");
    // The control plane reads its list within a second.
    within("the list is read", async { while one.doctor(&["--only", "identity"]).await.code() == 0 {} }).await;
    one.fails_with("identity", "does not accept this agent's identity").await;
    world.stop().await;
}

/// A control plane whose messages are changed on their way.
#[derive(Debug)]
struct Odd(fn(&mut SessionResponse));

impl Tamper for Odd {
    fn heard(&self, message: &mut SessionResponse) {
        (self.0)(message);
    }
}

impl Installation {
    /// The control plane of the world, as it is when its messages are changed so.
    async fn before(&mut self, world: &World, change: fn(&mut SessionResponse)) -> Tap {
        let tap = Tap::tampering(world.port, &world.authority, Arc::new(Odd(change))).await;
        self.endpoint = format!("localhost:{}", tap.port);
        tap
    }
}

fn welcome(response: &mut SessionResponse, change: impl FnOnce(&mut v1::Welcome)) {
    if let Some(Message::Welcome(welcome)) = &mut response.message {
        change(welcome);
    }
}

fn without(response: &mut SessionResponse, capabilities: &[&str]) {
    welcome(response, |welcome| welcome.capabilities.retain(|name| !capabilities.contains(&name.as_str())));
}

#[tokio::test]
async fn each_fault_of_the_protocol_fails_that_check_and_no_other() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    let _tap = one.before(&world, |response| welcome(response, |welcome| welcome.protocol = 2)).await;
    one.fails_with("protocol", "it chose 2").await;
    let early = |response: &mut SessionResponse| response.message = Some(Message::Released(v1::Released::default()));
    let _tap = one.before(&world, early).await;
    one.fails_with("protocol", "a message before Welcome").await;
    let _tap = one.before(&world, |response| response.message = None).await;
    one.fails_with("protocol", "a message before Welcome").await;
    // What answers speaks HTTP/2, as far as TLS says, and is no control plane.
    let (port, _hangs_up) = tls_server(&world.authority.server(), &[b"h2"]).await;
    one.endpoint = format!("localhost:{port}");
    one.fails("protocol").await;
    let (port, _silent) = silent_server(&world.authority.server()).await;
    one.endpoint = format!("localhost:{port}");
    one.fails_with("protocol", "no Welcome within 10 s").await;
    world.stop().await;
}

#[tokio::test]
async fn what_an_older_control_plane_cannot_do_warns_and_its_last_runs_are_not_known() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    let _tap = one.before(&world, |response| without(response, &["zstd", "logs"])).await;
    let looked = one.doctor(&["--json"]).await;
    let report = looked.json();
    let protocol = row(&report, "protocol");
    let seen = protocol["seen"].as_str().unwrap();
    assert!(looked.code() == 0 && protocol["status"] == "warn", "{looked:?}");
    assert!(seen.contains("zstd") && seen.contains("logs") && !seen.contains("drain"), "{seen}");

    let _tap = one.before(&world, |response| without(response, &["diagnostic"])).await;
    let looked = one.doctor(&["--json"]).await;
    let report = looked.json();
    assert_eq!((looked.code(), &row(&report, "protocol")["status"]), (0, &"warn".into()), "{looked:?}");
    for check in ["definitions", "references", "salesforce"] {
        assert_eq!(row(&report, check)["status"], "skipped", "{report:#}");
    }

    let silent_about_runs = |response: &mut SessionResponse| {
        if let Some(Message::Definition(definition)) = &mut response.message {
            definition.last_run = None;
        }
    };
    let _tap = one.before(&world, silent_about_runs).await;
    let looked = one.doctor(&["--json"]).await;
    let report = looked.json();
    let salesforce = row(&report, "salesforce");
    assert!(looked.code() == 0 && salesforce["status"] == "skipped", "{looked:?}");
    assert!(salesforce["seen"].as_str().unwrap().contains("not known"), "{salesforce:#}");
    world.stop().await;
}

/// A server that agrees on HTTP/2, listens, and says nothing.
async fn silent_server(pair: &Pair) -> (u16, JoinSet<()>) {
    let acceptor = acceptor(pair, &[b"h2"]);
    let (listener, port) = listener().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            }
        }
    });
    (port, tasks)
}
