//! The server's certificate and the authority of its agents, re-read when their files change.
//!
//! A connection keeps the certificate that it began with; the next one is shown the new one. Files that cannot be used,
//! such as a pair that is half written, leave the last good ones in force.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use super::ServeError;
use crate::config::Tls;
use crate::shared::Shared;

/// How often the files are looked at: a change is in force within about a second.
const INTERVAL: Duration = Duration::from_secs(1);

/// A certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or holds nothing of the kind.
    #[error("read {what} from {}", path.display())]
    Unreadable {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The parts do not fit together.
    #[error("set up TLS")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The files, and what was made of them last.
#[derive(Debug)]
pub(super) struct Certificates {
    tls: Tls,
    /// Of the files that were read last, usable or not.
    seen: blake3::Hash,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads them for the start: what cannot be used is an error then.
    pub(super) async fn load(tls: Tls) -> Result<Self, TlsError> {
        let files = Files::read(&tls).await?;
        let current = files.server_config(&tls)?;
        Ok(Self { seen: files.hash(), tls, current: watch::Sender::new(current) })
    }

    /// What new connections are accepted with.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Reads what changed, until the control plane stops.
    pub(super) async fn run(mut self, shared: Arc<Shared>) -> Result<&'static str, ServeError> {
        let mut told = None;
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shared.drain.run_until_cancelled(ticks.tick()).await.is_some() {
            match self.read_again().await {
                Ok(false) => told = None,
                Ok(true) => {
                    told = None;
                    info!("certificates read again, new connections use them");
                }
                Err(problem) => {
                    let text = with_cause(&problem);
                    if told.as_ref() != Some(&text) {
                        error!(error = text, "the certificates cannot be used, the last ones stay in force");
                        told = Some(text);
                    }
                }
            }
        }
        Ok("certificates")
    }

    /// Whether there are new ones.
    async fn read_again(&mut self) -> Result<bool, TlsError> {
        let files = Files::read(&self.tls).await?;
        let hash = files.hash();
        if hash == self.seen {
            return Ok(false);
        }
        let config = files.server_config(&self.tls)?;
        self.seen = hash;
        self.current.send_replace(config);
        Ok(true)
    }
}

fn with_cause(problem: &TlsError) -> String {
    let cause = std::error::Error::source(problem).map(|cause| format!(": {cause}"));
    format!("{problem}{}", cause.unwrap_or_default())
}

/// The contents of the files, of one moment.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    async fn read(tls: &Tls) -> Result<Self, TlsError> {
        let read = async |what: &'static str, path: &PathBuf| {
            let read = tokio::fs::read(path).await;
            read.map_err(|error| TlsError::Unreadable { what, path: path.clone(), source: Box::new(error) })
        };
        Ok(Self {
            certificate: read(CERTIFICATE, &tls.certificate).await?,
            key: read(KEY, &tls.key).await?,
            client_ca: match &tls.client_ca {
                Some(path) => Some(read(CLIENT_CA, path).await?),
                None => None,
            },
        })
    }

    fn hash(&self) -> blake3::Hash {
        let parts = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let mut hasher = blake3::Hasher::new();
        for part in parts.into_iter().flatten() {
            hasher.update(blake3::hash(part).as_bytes());
        }
        hasher.finalize()
    }

    /// The server's side of TLS 1.3. A client certificate is optional here and verified if shown; session resumption is
    /// off, because a resumed session would keep an old identity.
    fn server_config(&self, tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
        let unreadable = |what, path: &PathBuf, source| TlsError::Unreadable { what, path: path.clone(), source };
        let chain =
            certificates(&self.certificate).map_err(|cause| unreadable(CERTIFICATE, &tls.certificate, cause))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|error| unreadable(KEY, &tls.key, error.into()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(setup)?;
        let verified = match (&self.client_ca, &tls.client_ca) {
            (Some(pem), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem).map_err(|cause| unreadable(CLIENT_CA, path, cause))? {
                    roots.add(certificate).map_err(setup)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(setup)?;
                versions.with_client_cert_verifier(verifier)
            }
            _ => versions.with_no_client_auth(),
        };
        let mut config = verified.with_single_cert(chain, key).map_err(setup)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

const CERTIFICATE: &str = "a certificate";
const KEY: &str = "a private key";
const CLIENT_CA: &str = "a CA certificate";

fn setup<E: std::error::Error + Send + Sync + 'static>(error: E) -> TlsError {
    TlsError::Setup(Box::new(error))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Box<dyn std::error::Error + Send + Sync>> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if read.is_empty() { Err("the file holds none".into()) } else { Ok(read) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pki::{Authority, Issued};

    fn write(folder: &Path, Issued { certificate, key }: &Issued) -> Tls {
        std::fs::write(folder.join("server.pem"), certificate).unwrap();
        std::fs::write(folder.join("server.key"), key).unwrap();
        Tls {
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
            client_ca: None,
            client_ca_key: None,
        }
    }

    #[tokio::test]
    async fn a_pair_that_is_half_written_leaves_the_last_one_in_force() {
        let (folder, now) = (tempfile::tempdir().unwrap(), jiff::Timestamp::now());
        let authority = Authority::generate("test", now).unwrap();
        let [old, new] = [(), ()].map(|()| authority.issue_server(&["localhost"], now).unwrap());
        let mut certificates = Certificates::load(write(folder.path(), &old)).await.unwrap();
        let mut current = certificates.subscribe();
        assert!(!certificates.read_again().await.unwrap(), "nothing changed");

        std::fs::write(folder.path().join("server.pem"), &new.certificate).unwrap();
        assert!(matches!(certificates.read_again().await, Err(TlsError::Setup(_))), "another's key");
        std::fs::write(folder.path().join("server.key"), "").unwrap();
        let error = certificates.read_again().await.unwrap_err();
        assert!(with_cause(&error).contains("server.key"), "{error}");
        assert!(!current.has_changed().unwrap());

        write(folder.path(), &new);
        assert!(certificates.read_again().await.unwrap());
        assert!(current.has_changed().unwrap());
        current.mark_unchanged();
        assert!(!certificates.read_again().await.unwrap(), "it is read once");
    }
}
