//! The agent's way to its control plane through a proxy; and `hybrid-runner extract` behind a proxy that asks for
//! credentials and inspects TLS: Salesforce's own hosts, nothing changed in the workflow but the proxy's authority where
//! the system does not know it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use control_plane::store::RunState;
use hybrid_runner::{AgentConfig, AgentEvent, MemoryStore, Proxy, ProxyLogin, SecretValue, Stores};
use hybrid_runner_tests::agent_files::AgentFiles;
use hybrid_runner_tests::certificates::{Authority, Pair};
use hybrid_runner_tests::extraction::{Extraction, SOAP, soap_at_localhost};
use hybrid_runner_tests::install_crypto;
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Output, output, program};
use hybrid_runner_tests::world::{RunningAgent, World, write};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sandbox::{Org, OrgConfig, Sandbox};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const USER: &str = "agent";
const PASSWORD: &str = "pRx4Kq9Zt7Wm";

/// An org behind a proxy with credentials; the proxy's authority stands in the workflow.
async fn behind_a_proxy() -> Extraction {
    install_crypto();
    let org = Org::new(&OrgConfig { objects: 10, ..OrgConfig::default() }).unwrap();
    let server = sandbox::ServerConfig {
        proxy_credentials: Some((USER.to_owned(), PASSWORD.to_owned())),
        ..sandbox::ServerConfig::default()
    };
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
    /// Where they lead.
    to: Arc<Mutex<BTreeSet<u16>>>,
    _tasks: JoinSet<()>,
}

impl TunnelProxy {
    async fn start() -> Self {
        Self::speaking(None).await
    }

    /// One that speaks TLS itself, if it is given its side of that.
    async fn speaking(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tunnels, to) = (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<BTreeSet<u16>>>::default());
        let (counted, leads, mut tasks) = (Arc::clone(&tunnels), Arc::clone(&to), JoinSet::new());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let (tls, counted, leads) = (tls.clone(), Arc::clone(&counted), Arc::clone(&leads));
                open.spawn(async move {
                    match tls {
                        None => tunnel(near, counted, leads).await,
                        // Whoever does not speak TLS, or does not trust it, gets no further.
                        Some(tls) => match tls.accept(near).await {
                            Ok(near) => tunnel(near, counted, leads).await,
                            Err(_refused) => {}
                        },
                    }
                });
            }
        });
        Self { port, tunnels, to, _tasks: tasks }
    }
}

async fn tunnel(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    tunnels: Arc<AtomicUsize>,
    to: Arc<Mutex<BTreeSet<u16>>>,
) {
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
    to.lock().unwrap().insert(port);
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

#[tokio::test]
async fn a_run_goes_through_a_proxy_that_speaks_tls_itself_and_has_a_password_to_both_ends() {
    let program = program("hybrid-runner");
    let world = World::new().await;
    // An authority of its own, which only the system knows.
    let of_the_proxy = Authority::new();
    let proxy = TunnelProxy::speaking(Some(acceptor(&of_the_proxy.server()))).await;
    let files = AgentFiles::of(&world, "one", world.port);
    let dir = files.dir.path();
    let (plane, org) = (world.port, world.org.addr().port());
    let proxy_setting =
        format!("{{url: 'https://localhost:{}', username: {USER}, password: 'secret:/proxy/password'}}", proxy.port);
    let configuration = format!(
        "control_plane:
  endpoint: https://localhost:{plane}
  ca: ca.pem
  tls: {{certificate: agent.pem, key: agent.key}}
  proxy: {proxy_setting}
drain_timeout: 0s
secrets: {{stores: {{mounted: {{file: {{dir: secrets}}}}}}}}
salesforce: {{hosts: [{{host: localhost, port: {org}}}], proxy: {proxy_setting}}}
"
    );
    write(dir, "hybrid-runner.yaml", &configuration);
    write(dir, "secrets/proxy/password", PASSWORD);
    let system = |trusted: &str| {
        write(dir, "system.pem", trusted);
        [format!("SSL_CERT_FILE={}", dir.join("system.pem").display()), program.display().to_string()]
    };
    let start = |before: &[String]| {
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        files.start_as(Path::new("env"), &before)
    };

    let mut stranger = start(&system(world.org.ca_pem()));
    let refused = |log: &str| log.contains("TLS with it failed; is control_plane.proxy the address").then_some(());
    stranger.until("the proxy's certificate to be refused", refused).await;
    stranger.kill().await;
    assert_eq!(proxy.tunnels.load(Relaxed), 0, "nobody asked it for anything");

    let mut agent = start(&system(&format!("{}{}", of_the_proxy.pem, world.org.ca_pem())));
    agent.until("the definition", |log| log.contains("definition accepted").then_some(())).await;
    let run = world.run().await;
    assert_eq!((run.state, run.complete), (RunState::Committed, true), "{run:?}\n{}", agent.log());
    assert_eq!(*proxy.to.lock().unwrap(), BTreeSet::from([plane, org]), "both ends, and nothing else");
    assert!(!agent.log().contains(PASSWORD));
    assert!(agent.terminate().await.success());
    world.stop().await;
}

fn acceptor(pair: &Pair) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}
