//! Connections over pipes in memory: the other end is whatever a test makes of it.

mod proxies;
mod rotation;
mod servers;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hybrid_runner_secrets::{MemoryStore, Policy, Redactor, Resolver, SecretValue, Stores};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::material::Files;
use super::{Connection, Connector, ControlPlane, Dial};
use crate::config::{Identity, Pem, Proxy};
use crate::telemetry::Chain;

/// Each connection's other end goes to the test.
struct Pipes {
    opened: mpsc::UnboundedSender<DuplexStream>,
    asked: Mutex<Vec<String>>,
}

impl fmt::Debug for Pipes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipes")
    }
}

#[async_trait]
impl Dial for Pipes {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Connection>> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.asked.lock().unwrap().push(format!("{host}:{port}"));
        self.opened.send(theirs).map_err(|_over| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(Box::new(ours))
    }
}

fn pipes() -> (Arc<Pipes>, mpsc::UnboundedReceiver<DuplexStream>) {
    #[expect(clippy::disallowed_methods, reason = "a test opens a handful of connections")]
    let (opened, others) = mpsc::unbounded_channel();
    (Arc::new(Pipes { opened, asked: Mutex::default() }), others)
}

/// What signs a test's certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, PEM.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn server(&self) -> ServerConfig {
        let (certificate, key) = self.sign("localhost", |_| {});
        server_config(&certificate, &key)
    }
}

fn server_config(certificate: &str, key: &str) -> ServerConfig {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn pem(text: &str) -> Pem {
    Pem::Inline(text.as_bytes().into())
}

fn bearer() -> Identity {
    Identity::Token(Arc::new(SecretValue::new("the-bearer-token-of-it".to_owned())))
}

fn control_plane(authority: &Authority, identity: Identity, proxy: Option<Proxy>) -> ControlPlane {
    ControlPlane { host: "localhost".to_owned(), port: 7443, ca: Some(pem(&authority.0.pem())), identity, proxy }
}

fn connector(control_plane: ControlPlane, dial: Arc<Pipes>) -> Connector {
    let store = MemoryStore::default().with("/proxy/password", SecretValue::new(proxies::PASSWORD.to_owned()));
    let stores = Arc::new(Stores::default().with("memory", store));
    let policy = Policy::new(control_plane.bindings().into_iter().collect());
    let resolver = Resolver::new(stores, Arc::new(policy), None);
    Connector { limit: Duration::from_millis(1_500), ..Connector::new(control_plane, dial, resolver) }
}

/// Why there is no connection, in full.
async fn refusal(connector: &Connector) -> String {
    Chain(&connector.connect().await.unwrap_err()).to_string()
}

#[tokio::test]
async fn the_key_and_the_token_of_a_connection_are_watched() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("agent", |_| {});
    let redactor = Redactor::default();
    let identity = Identity::Certificate { certificate: pem(&certificate), key: pem(&key) };
    let files = Files::read(&control_plane(&authority, identity, None)).await.unwrap();
    let material = files.material(&redactor).await.unwrap();
    assert!(material.watched.is_some() && redactor.scan(key.lines().nth(1).unwrap().as_bytes()));
    assert!(!redactor.scan(certificate.as_bytes()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "the-bearer-token-of-it\n").unwrap();
    let control_plane = control_plane(&authority, Identity::TokenFile(file), None);
    let material = Files::read(&control_plane).await.unwrap().material(&redactor).await.unwrap();
    assert!(material.watched.is_some() && redactor.scan(b"Bearer the-bearer-token-of-it"));
}
