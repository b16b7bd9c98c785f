//! A server that does what an attacker wants, and keeps what it is sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use sandbox::SandboxHandle;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Who vouches for every server of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let names = ["localhost", "127.0.0.1", "::1", "login.salesforce.com", "acme.my.salesforce.com"];
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder().with_no_client_auth();
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap()))
    }
}

/// What a server answers to a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes, and the end of the connection.
    Raw(String),
    /// These bytes, and then a blank now and then, for as long as somebody listens.
    Trickle(String),
    /// What a healthy org answers.
    Relayed,
}

type Script = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// What came to a server.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    /// Decrypted where it came by TLS.
    pub(crate) bytes: Vec<u8>,
}

/// A server at `localhost`.
pub(crate) struct Evil {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Evil {
    /// One that takes everything and answers nothing.
    pub(crate) async fn silent(authority: &Authority) -> Self {
        Self::start(authority, None, Arc::new(|_: &str| Reply::Raw(String::new()))).await
    }

    /// One in front of an org; the script sees each request's first line.
    pub(crate) async fn before(
        authority: &Authority,
        org: &SandboxHandle,
        script: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let ca = reqwest::Certificate::from_pem(org.ca_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().no_gzip().tls_certs_only([ca]).build().unwrap();
        Self::start(authority, Some((client, org.addr().port())), Arc::new(script)).await
    }

    async fn start(authority: &Authority, org: Option<(reqwest::Client, u16)>, script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (addr, seen, acceptor) = (listener.local_addr().unwrap(), Arc::default(), authority.acceptor());
        let mut tasks = JoinSet::new();
        let record: Arc<Mutex<Seen>> = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                record.lock().unwrap().connections += 1;
                let (acceptor, record, org, script) =
                    (acceptor.clone(), Arc::clone(&record), org.clone(), Arc::clone(&script));
                connections.spawn(async move { serve(stream, &acceptor, &record, org.as_ref(), &script).await });
            }
        });
        Self { addr, seen, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Whether it was sent a text.
    pub(crate) fn was_sent(&self, text: &str) -> bool {
        self.seen.lock().unwrap().bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// Answers the requests of one connection, plain or by TLS.
async fn serve(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    seen: &Mutex<Seen>,
    org: Option<&(reqwest::Client, u16)>,
    script: &Script,
) {
    let mut first = [0];
    let is_tls = stream.peek(&mut first).await.is_ok() && first == [0x16];
    if !is_tls {
        let mut stream = stream;
        read_request(&mut stream, seen).await;
        return;
    }
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    while let Some((head, body)) = read_request(&mut stream, seen).await {
        let line = head.lines().next().unwrap_or_default().to_owned();
        let (answer, is_last) = match (script(&line), org) {
            (Reply::Raw(answer), _) => (answer.into_bytes(), true),
            (Reply::Trickle(begin), _) => return trickle(&mut stream, begin.as_bytes()).await,
            (Reply::Relayed, Some((client, port))) => (relay(client, *port, &head, body).await, false),
            (Reply::Relayed, None) => return,
        };
        let sent = stream.write_all(&answer).await.is_ok() && stream.flush().await.is_ok();
        if is_last || !sent {
            // Whoever is still writing or gone is not waited for.
            drop(stream.shutdown().await);
            return;
        }
    }
}

async fn trickle(stream: &mut (impl AsyncWrite + Unpin), mut next: &[u8]) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while stream.write_all(next).await.is_ok() && stream.flush().await.is_ok() {
        next = b" ";
        ticks.tick().await;
    }
}

/// Reads one request and keeps each byte of it.
async fn read_request(stream: &mut (impl AsyncRead + Unpin), seen: &Mutex<Seen>) -> Option<(String, Vec<u8>)> {
    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if buffer.len() >= end + 4 + length.unwrap_or_default() {
                return Some((head, buffer.split_off(end + 4)));
            }
        }
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        seen.lock().unwrap().bytes.extend(&chunk[..count]);
        buffer.extend(&chunk[..count]);
    }
}

/// Sends a request on to the org, which answers as if it were asked under the server's own name.
async fn relay(client: &reqwest::Client, port: u16, head: &str, body: Vec<u8>) -> Vec<u8> {
    let mut lines = head.lines();
    let mut line = lines.next().unwrap().split(' ');
    let (method, path) = (line.next().unwrap(), line.next().unwrap());
    let mut request = client.request(method.parse().unwrap(), format!("https://localhost:{port}{path}")).body(body);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if !["content-length", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
            request = request.header(name, value.trim());
        }
    }
    let answer = request.send().await.unwrap();
    let mut text = format!("HTTP/1.1 {} Relayed\r\n", answer.status().as_u16());
    for (name, value) in answer.headers() {
        if !["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
    }
    let body = answer.bytes().await.unwrap();
    text.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut bytes = text.into_bytes();
    bytes.extend(body);
    bytes
}
