//! A stand-in for an API server: TLS, bearer tokens, the permission `get` on named Secrets, and the answers that a real one
//! gives for a Secret, in their form.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hybrid_runner_secrets::{KubernetesSettings, KubernetesStore};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(crate) struct ApiServer {
    pub(crate) address: String,
    home: TempDir,
    state: Arc<Mutex<State>>,
    _server: JoinSet<()>,
}

/// What the server knows, by `namespace/name`.
pub(crate) struct State {
    /// The token that it accepts.
    pub(crate) token: String,
    /// Secrets that the token may get.
    pub(crate) permitted: BTreeSet<String>,
    pub(crate) secrets: BTreeMap<String, Value>,
    /// Statuses, headers and bodies that come first, one a request.
    pub(crate) instead: Vec<(u16, String, String)>,
    /// Whether requests are read and left without an answer.
    pub(crate) hangs: bool,
    /// Request lines and authorizations.
    pub(crate) requests: Vec<String>,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        // The second one is refused; it is the same.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let home = TempDir::new().unwrap();
        let acceptor = certified(&home);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let state = Arc::new(Mutex::new(State {
            token: String::new(),
            permitted: BTreeSet::new(),
            secrets: BTreeMap::new(),
            instead: Vec::new(),
            hangs: false,
            requests: Vec::new(),
        }));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, acceptor, Arc::clone(&state)));
        let server = Self { address, home, state, _server: server };
        server.replace_token("first-token");
        server
    }

    pub(crate) fn settings(&self) -> KubernetesSettings {
        KubernetesSettings::new(&self.address).unwrap().with_token_file(self.token_file()).with_ca(self.ca_file())
    }

    pub(crate) fn store(&self) -> KubernetesStore {
        KubernetesStore::new(self.settings())
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.home.path().join("token")
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.home.path().join("ca.crt")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on only this token counts, and the kubelet has written it.
    pub(crate) fn replace_token(&self, token: &str) {
        fs::write(self.token_file(), format!("{token}\n")).unwrap();
        self.state().token = token.to_owned();
    }

    /// Creates or replaces a Secret that may be read.
    pub(crate) fn put(&self, place: &str, data: &[(&str, &[u8])]) {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), Value::from(STANDARD.encode(value)))).collect();
        let mut state = self.state();
        state.permitted.insert(place.to_owned());
        state.secrets.insert(place.to_owned(), Value::Object(data));
    }
}

/// A server that presents a certificate of a CA whose own is in `ca.crt`.
fn certified(home: &TempDir) -> TlsAcceptor {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(home.path().join("ca.crt"), cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move { connection(stream, &acceptor, &state).await });
    }
}

async fn connection(stream: TcpStream, acceptor: &TlsAcceptor, state: &Mutex<State>) {
    // A client that does not trust the certificate leaves here.
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let Some(head) = head(&mut stream).await else { return };
    if state.lock().unwrap().hangs {
        return std::future::pending().await;
    }
    let (status, headers, body) = answer(&head, &mut state.lock().unwrap());
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Stub\r\ncontent-type: application/json\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    // Whoever has read enough may be gone.
    drop(stream.write_all(text.as_bytes()).await);
    drop(stream.shutdown().await);
}

async fn head(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn answer(head: &str, state: &mut State) -> (u16, String, String) {
    let line = head.lines().next().unwrap();
    let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or_default();
    state.requests.push(format!("{line} {token}"));
    if !state.instead.is_empty() {
        return state.instead.remove(0);
    }
    let path = line.split(' ').nth(1).unwrap();
    if path == "/api" {
        let known = json!({"kind": "APIVersions", "versions": ["v1"]});
        let unknown = || status(401, "Unauthorized", "Unauthorized");
        let (code, body) = if token == state.token { (200, known) } else { (401, unknown()) };
        return (code, String::new(), body.to_string());
    }
    let place = path.strip_prefix("/api/v1/namespaces/").map(|place| place.replacen("/secrets/", "/", 1)).unwrap();
    let name = place.split('/').next_back().unwrap();
    let (code, body) = if token != state.token {
        (401, status(401, "Unauthorized", "Unauthorized"))
    } else if !state.permitted.contains(&place) {
        (403, status(403, "Forbidden", &format!("secrets \"{name}\" is forbidden: cannot get resource \"secrets\"")))
    } else if let Some(data) = state.secrets.get(&place) {
        let metadata = json!({"name": name, "uid": "5b6f", "resourceVersion": "4711"});
        // Without values there is no `data`.
        let data = data.as_object().filter(|data| !data.is_empty());
        let head = json!({"kind": "Secret", "apiVersion": "v1", "metadata": metadata, "type": "Opaque"});
        let data = data.map(|data| ("data".to_owned(), Value::Object(data.clone())));
        (200, head.as_object().unwrap().clone().into_iter().chain(data).collect())
    } else {
        (404, status(404, "NotFound", &format!("secrets \"{name}\" not found")))
    };
    (code, String::new(), body.to_string())
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
           "reason": reason, "code": code})
}
