//! A real OpenBao in development mode, and a stub for what a real one does not do on demand.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hybrid_runner_secrets::VaultAuth;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// A server in development mode: unsealed, in memory, with the token `root`.
pub(crate) struct Bao {
    pub(crate) address: String,
    process: Child,
    _home: TempDir,
}

/// The server that the cases of this program share, each with mounts of its own; `None`: not run.
pub(crate) async fn shared(case: &str) -> Option<&'static Bao> {
    static SHARED: OnceCell<Option<Bao>> = OnceCell::const_new();
    SHARED.get_or_init(|| start(case, &[])).await.as_ref()
}

/// A server of the case's own; `None`: not run.
pub(crate) async fn start(case: &str, options: &[&str]) -> Option<Bao> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/python/bin/bao");
    if !program.exists() {
        let absent = format!("{case}: {} is absent; run tools/peers (it needs python3)", program.display());
        assert!(std::env::var_os("CI").is_none(), "{absent}");
        eprintln!("not run: {absent}");
        return None;
    }
    provider();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let scheme = if options.contains(&"-dev-tls") { "https" } else { "http" };
    let home = TempDir::new().unwrap();
    // It goes when its standard input closes, so also when this program is killed.
    let process = Command::new("sh")
        .args(["-c", "\"$@\" >&2 & read -r line; kill $!", "sh"])
        .arg(&program)
        .args(["server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token", "-log-level=error"])
        .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
        .args(options)
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let bao = Bao { address: format!("{scheme}://127.0.0.1:{port}"), process, _home: home };
    let ready = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let health = client().get(format!("{}/v1/sys/health", bao.address)).send().await;
            if health.is_ok_and(|health| health.status() == 200) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready).await.expect("OpenBao starts");
    Some(bao)
}

/// The process's crypto provider, which the programs install.
pub(crate) fn provider() {
    // The second one is refused; it is the same.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

fn client() -> reqwest::Client {
    // Setting a server up is not what is tested.
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap()
}

impl Bao {
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call(reqwest::Method::GET, path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.call(reqwest::Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.call(reqwest::Method::DELETE, path, Value::Null).await;
    }

    /// Whether a token has not run out.
    pub(crate) async fn token_is_known(&self, token: &str) -> bool {
        let request = client().get(format!("{}/v1/auth/token/lookup-self", self.address));
        request.header("X-Vault-Token", token).send().await.unwrap().status().is_success()
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let request = client().request(method, format!("{}/v1/{path}", self.address)).header("X-Vault-Token", "root");
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub(crate) fn stop(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// A file with a token, as an editor leaves it.
pub(crate) fn token_file(token: &str) -> (TempDir, VaultAuth) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    (folder, VaultAuth::TokenFile(file))
}

/// A mount with a policy that reads it, both named `name`.
pub(crate) async fn mount(bao: &Bao, name: &str, version: &str) {
    bao.post(&format!("sys/mounts/{name}"), json!({"type": "kv", "options": {"version": version}})).await;
    let below = if version == "2" { "data/" } else { "" };
    let policy = format!("path \"{name}/{below}open/*\" {{ capabilities = [\"read\"] }}");
    bao.post(&format!("sys/policies/acl/{name}"), json!({"policy": policy})).await;
}

/// An AppRole for the policy `name`, and a file with its secret id.
pub(crate) async fn approle(bao: &Bao, name: &str, role: Value) -> (TempDir, VaultAuth) {
    bao.post(&format!("sys/auth/{name}"), json!({"type": "approle"})).await;
    bao.post(&format!("auth/{name}/role/agent"), role).await;
    let id = bao.get(&format!("auth/{name}/role/agent/role-id")).await;
    let secret = bao.post(&format!("auth/{name}/role/agent/secret-id"), json!({})).await;
    let folder = TempDir::new().unwrap();
    let secret_id_file = folder.path().join("secret-id");
    fs::write(&secret_id_file, secret["data"]["secret_id"].as_str().unwrap()).unwrap();
    let role_id = id["data"]["role_id"].as_str().unwrap().to_owned();
    (folder, VaultAuth::AppRole { role_id, secret_id_file, mount: name.to_owned() })
}

/// A server that answers all requests alike.
pub(crate) struct Stub {
    pub(crate) address: String,
    requests: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Stub {
    /// Echoes what it was sent.
    pub(crate) async fn answering(status: &str, headers: &str) -> Self {
        Self::start(status, headers, None).await
    }

    /// Takes requests and says nothing.
    pub(crate) async fn silent() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                request(&mut stream).await;
                counter.fetch_add(1, Ordering::SeqCst);
                open.push(stream);
            }
        });
        Self { address, requests, _server: server }
    }

    /// Kubernetes' TokenReview, the one request that the Kubernetes login makes: every token is the service account's.
    pub(crate) async fn reviewing(namespace: &str, account: &str, uid: &str) -> Self {
        let user = json!({"username": format!("system:serviceaccount:{namespace}:{account}"), "uid": uid});
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "status": {"authenticated": true, "user": user, "audiences": ["vault"]},
        });
        Self::start("201 Created", "Content-Type: application/json\r\n", Some(review.to_string())).await
    }

    async fn start(status: &str, headers: &str, body: Option<String>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}");
        let counter = Arc::clone(&requests);
        let mut server = JoinSet::new();
        server.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let request = request(&mut stream).await;
                let echo = || json!({"errors": [request]}).to_string();
                let body = body.clone().unwrap_or_else(echo);
                let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { address, requests, _server: server }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A whole request: an answer to half of one is lost with the connection.
async fn request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut part = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut part).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&part[..length]));
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let lower = head.to_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        });
        if whole || length == 0 {
            return text;
        }
    }
}
