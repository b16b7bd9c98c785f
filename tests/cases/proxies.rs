//! The agent's way to its control plane through a proxy; and `hybrid-runner extract` behind a proxy that asks for
//! credentials and inspects TLS: Salesforce's own hosts, nothing changed in the workflow but the proxy's authority where
//! the system does not know it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hybrid_runner::{AgentConfig, AgentEvent, MemoryStore, Proxy, ProxyLogin, SecretValue, Stores};
use hybrid_runner_tests::extraction::{Extraction, SOAP, soap_at_localhost};
use hybrid_runner_tests::install_crypto;
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Output, output};
use hybrid_runner_tests::world::{RunningAgent, World};
use sandbox::{Org, OrgConfig, Sandbox, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

const USER: &str = "agent";
const PASSWORD: &str = "pRx4Kq9Zt7Wm";

/// An org behind a proxy with credentials; the proxy's authority stands in the workflow.
async fn behind_a_proxy() -> Extraction {
    install_crypto();
    let org = Org::new(&OrgConfig { objects: 10, ..OrgConfig::default() }).unwrap();
    let server =
        ServerConfig { proxy_credentials: Some((USER.to_owned(), PASSWORD.to_owned())), ..ServerConfig::default() };
    let one = Extraction { dir: TempDir::new().unwrap(), org: Sandbox::start(org, server).await.unwrap() };
    let login = one.org.credentials();
    one.secret("password", &login.password);
    one.secret("token", &login.security_token);
    one.secret("proxy", PASSWORD);
    one.write("ca.pem", one.org.ca_pem());
    let indented: String = one.org.ca_pem().lines().map(|line| format!("    {line}\n")).collect();
    one.workflow(&format!("{SOAP}sslConfig:\n  caCertificate: |\n{indented}"), "");
    one
}

/// Lists the proxy in the configuration.
fn configure(one: &Extraction, username: &str) {
    let (url, port) = (one.org.proxy_url(), one.org.addr().port());
    let proxy = format!("{{url: '{url}', username: {username}, password: 'secret:/salesforce/proxy'}}");
    let hosts = format!("[{{host: localhost, port: {port}, ca: ca.pem}}]");
    one.write("config.yaml", &format!("salesforce:\n  proxy: {proxy}\n  hosts: {hosts}\n"));
}

/// Everything that a program could say.
async fn traced(mut command: Command) -> Output {
    command.env("HYBRID_RUNNER_LOG__LEVEL", "trace").env("RUST_BACKTRACE", "full");
    let output = output(command).await;
    assert!(!format!("{output:?}").contains(PASSWORD), "{output:?}");
    output
}

#[tokio::test]
async fn the_password_of_a_configured_proxy_is_a_secret() {
    let one = behind_a_proxy().await;
    configure(&one, USER);
    let output = traced(one.command()).await;
    assert_eq!(output.code(), 0, "{output:?}");
    let requests = one.org.requests();
    assert!(requests.tunnels > 0 && requests.tunnels_refused == 0, "{requests:?}");
    assert_eq!(one.org.log().first().unwrap().host, "login.salesforce.com");
}

#[tokio::test]
async fn the_credentials_in_https_proxy_are_used_and_not_shown() {
    let one = behind_a_proxy().await;
    let mut command = one.to_file();
    command.env("HTTPS_PROXY", format!("http://{USER}:{PASSWORD}@{}", one.org.addr()));
    let output = traced(command).await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(one.org.requests().tunnels > 0);
}

#[tokio::test]
async fn a_proxy_that_rejects_its_credentials_is_named_and_asked_once() {
    let one = behind_a_proxy().await;
    configure(&one, "somebody");
    let output = traced(one.command()).await;
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains("check username and password of salesforce.proxy"), "{output:?}");
    let requests = one.org.requests();
    assert_eq!((requests.total, requests.tunnels, requests.tunnels_refused), (0, 0, 1), "{output:?}");
}

#[tokio::test]
async fn hosts_of_no_proxy_are_reached_past_a_configured_proxy() {
    let one = behind_a_proxy().await;
    configure(&one, USER);
    one.workflow(&soap_at_localhost(), "");
    let mut command = one.command();
    command.env("NO_PROXY", "localhost");
    let output = traced(command).await;
    assert_eq!(output.code(), 0, "{output:?}");
    let requests = one.org.requests();
    assert_eq!((requests.tunnels, requests.tunnels_refused), (0, 0), "{requests:?}");
}

/// A proxy that opens a tunnel to any port of this machine for whoever has the password.
struct TunnelProxy {
    port: u16,
    tunnels: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl TunnelProxy {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tunnels = Arc::new(AtomicUsize::new(0));
        let (counted, mut tasks) = (Arc::clone(&tunnels), JoinSet::new());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                open.spawn(tunnel(near, Arc::clone(&counted)));
            }
        });
        Self { port, tunnels, _tasks: tasks }
    }
}

async fn tunnel(mut near: TcpStream, tunnels: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let port = head.strip_prefix("CONNECT localhost:").unwrap().split(' ').next().unwrap().parse::<u16>().unwrap();
    // base64 of USER:PASSWORD
    if !head.contains("Proxy-Authorization: Basic YWdlbnQ6cFJ4NEtxOVp0N1dt\r\n") {
        near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        return;
    }
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    tunnels.fetch_add(1, Relaxed);
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    // One side hangs up.
    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
}

/// The agent `one` behind a proxy, with what its store has as the proxy's password.
fn through(world: &World, proxy: &TunnelProxy, password: &str) -> AgentConfig {
    let mut config = world.agent_config("one");
    let login =
        ProxyLogin::Reference { username: USER.to_owned(), password: "secret:/proxy/password".parse().unwrap() };
    config.control_plane.proxy = Some(Proxy {
        is_tls: false,
        host: "localhost".to_owned(),
        port: proxy.port,
        login: Some(login),
        setting: "control_plane.proxy",
    });
    let store = MemoryStore::default().with("/proxy/password", SecretValue::new(password.to_owned()));
    config.secrets = Arc::new(Stores::default().with("memory", store));
    config
}

#[tokio::test]
async fn the_way_to_the_control_plane_may_lead_through_a_proxy_whose_password_is_shown_nowhere() {
    let logs = Logs::capture_all().expecting("no session with the control plane").expecting("a secret cannot be read");
    let (world, proxy) = (World::new().await, TunnelProxy::start().await);
    let mut refused = RunningAgent::start(through(&world, &proxy, "another-password"));
    let problem = refused.until("the proxy's refusal", |event| match event {
        AgentEvent::Disconnected { problem } => Some(problem),
        _ => None,
    });
    let problem = problem.await;
    assert!(problem.contains("check those of control_plane.proxy"), "{problem}");
    refused.kill().await;
    assert_eq!(proxy.tunnels.load(Relaxed), 0);

    let mut agent = RunningAgent::start(through(&world, &proxy, PASSWORD));
    agent.until("a session", |event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
    assert_eq!(proxy.tunnels.load(Relaxed), 1);
    agent.stop().await;
    let text = logs.text();
    for shown in [PASSWORD, "another-password", "YWdlbnQ6cFJ4NEtxOVp0N1dt"] {
        assert!(!text.contains(shown), "{shown} is in the log");
    }
    world.stop().await;
}
