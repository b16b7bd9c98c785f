//! Who the agent is and whom it trusts, as its files say.

use std::path::Path;
use std::sync::Arc;

use hybrid_runner_secrets::{Redactor, SecretValue, Watched};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tonic::metadata::{Ascii, MetadataValue};

use super::ConnectError;
use super::tls::HTTP2;
use crate::config::{ControlPlane, Identity, Pem};

const CA: &str = "control_plane.ca";
const CERTIFICATE: &str = "control_plane.tls.certificate";
const KEY: &str = "control_plane.tls.key";
const TOKEN: &str = "control_plane.token_file";

/// The contents of the files, of one moment.
pub(super) struct Files {
    ca: Option<Vec<u8>>,
    identity: Shown,
}

enum Shown {
    Certificate { chain: Vec<u8>, key: SecretValue },
    Token(SecretValue),
}

/// What a connection is made with.
#[derive(Debug, Clone)]
pub(super) struct Material {
    pub(super) tls: Arc<ClientConfig>,
    /// Whom `tls` trusts.
    pub(super) roots: Arc<RootCertStore>,
    /// The agent's certificate, if that is the identity.
    pub(super) certificate: Option<CertificateDer<'static>>,
    pub(super) authorization: Option<MetadataValue<Ascii>>,
    pub(super) watched: Option<Arc<Watched>>,
    /// Of the files that it is made of.
    pub(super) files: blake3::Hash,
}

impl Files {
    pub(super) async fn read(control_plane: &ControlPlane) -> Result<Self, ConnectError> {
        let ControlPlane { ca, identity, .. } = control_plane;
        Ok(Self {
            ca: match ca {
                Some(ca) => Some(read(ca, CA).await?),
                None => None,
            },
            identity: match identity {
                Identity::Certificate { certificate, key } => Shown::Certificate {
                    chain: read(certificate, CERTIFICATE).await?,
                    key: text(read(key, KEY).await?, |source| ConnectError::Pem {
                        what: KEY,
                        expected: PRIVATE,
                        source,
                    })?,
                },
                Identity::TokenFile(path) => {
                    Shown::Token(text(read_file(path, TOKEN).await?, |_| ConnectError::Token)?)
                }
                Identity::Token(token) => Shown::Token(SecretValue::new(token.expose().to_owned())),
            },
        })
    }

    pub(super) fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(blake3::hash(bytes).as_bytes());
        };
        part(self.ca.as_deref().unwrap_or_default());
        match &self.identity {
            Shown::Certificate { chain, key } => {
                part(chain);
                part(key.expose().as_bytes());
            }
            Shown::Token(token) => part(token.expose().as_bytes()),
        }
        hasher.finalize()
    }

    pub(super) async fn material(&self, redactor: &Redactor) -> Result<Material, ConnectError> {
        let roots = match &self.ca {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem, CA)? {
                    roots.add(certificate).map_err(|source| ConnectError::Ca { source })?;
                }
                roots
            }
            None => system_roots().await.ok_or(ConnectError::NoRoots)?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| ConnectError::Ca { source })?
            .with_root_certificates(Arc::clone(&roots));
        let mut certificate = None;
        let (mut tls, authorization, watched) = match &self.identity {
            Shown::Certificate { chain, key } => {
                let chain = certificates(chain, CERTIFICATE)?;
                certificate = chain.first().cloned();
                let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
                let der = der.map_err(|source| ConnectError::Pem { what: KEY, expected: PRIVATE, source })?;
                let tls = builder.with_client_auth_cert(chain, der);
                (tls.map_err(|source| ConnectError::Identity { source })?, None, redactor.watch_text(key.expose()))
            }
            Shown::Token(token) => {
                let (header, watched) = authorization(token, redactor)?;
                (builder.with_no_client_auth(), Some(header), watched)
            }
        };
        tls.alpn_protocols = vec![HTTP2.to_vec()];
        // A resumed session would keep the identity of the first one after the certificate was rotated.
        tls.resumption = Resumption::disabled();
        let (tls, watched) = (Arc::new(tls), watched.map(Arc::new));
        Ok(Material { tls, roots, certificate, authorization, watched, files: self.hash() })
    }
}

const PRIVATE: &str = "PRIVATE KEY";

fn authorization(
    token: &SecretValue,
    redactor: &Redactor,
) -> Result<(MetadataValue<Ascii>, Option<Watched>), ConnectError> {
    let token = token.expose().trim();
    let watched = redactor.watch_text(token);
    let header = MetadataValue::try_from(format!("Bearer {token}"));
    let mut header = header.ok().filter(|_| !token.is_empty()).ok_or(ConnectError::Token)?;
    header.set_sensitive(true);
    Ok((header, watched))
}

/// The certificates that the machine trusts; none: there are none.
pub(super) async fn system_roots() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    roots.add_parsable_certificates(native.map(|native| native.certs).unwrap_or_default());
    if roots.is_empty() { None } else { Some(roots) }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let refused = |source| ConnectError::Pem { what, expected: "CERTIFICATE", source };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(refused)?;
    if found.is_empty() { Err(refused(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn text(
    bytes: Vec<u8>,
    refused: impl FnOnce(rustls::pki_types::pem::Error) -> ConnectError,
) -> Result<SecretValue, ConnectError> {
    let text = String::from_utf8(bytes).map(SecretValue::new);
    text.map_err(|_bytes| refused(rustls::pki_types::pem::Error::NoItemsFound))
}

async fn read(pem: &Pem, what: &'static str) -> Result<Vec<u8>, ConnectError> {
    match pem {
        Pem::Inline(text) => Ok(text.to_vec()),
        Pem::File(path) => read_file(path, what).await,
    }
}

async fn read_file(path: &Path, what: &'static str) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(path).await.map_err(|source| ConnectError::File { what, path: path.to_owned(), source })
}
