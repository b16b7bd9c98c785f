//! The one connection: TLS 1.3 on TCP, HTTP/2 on that.
//!
//! The agent dials itself and hands the ready stream to tonic: a name, a network, a certificate or an identity that is
//! wrong is then an error with a sentence of its own, files are read anew for each connection (a rotated certificate
//! needs no restart), and a connection that broke is not made again behind the session's back.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hybrid_runner_secrets::{Redactor, SecretValue, Watched};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::config::{ControlPlane, Identity, Pem};
use crate::dial::{Connection, Dial};

/// Name, TCP and TLS together take at most this long; a control plane that is up answers in a fraction.
const CONNECT: Duration = Duration::from_secs(10);
/// A server that wants a client certificate tells in this time what it thinks of ours; most say it with their first
/// bytes. One that says nothing costs each connection this much.
const VERDICT: Duration = Duration::from_secs(1);
/// HTTP/2 pings find a peer that went away without a word in half a minute, also while nothing is sent.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);

/// A connection to the control plane.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    /// The token or the key that it is made with.
    _watched: Option<Arc<Watched>>,
    /// Whether both sides compress `Push`; known once the session is open.
    pub(crate) zstd: bool,
    /// Whether both sides know memos; known once the session is open.
    pub(crate) memos: bool,
}

impl Link {
    /// Adds the bearer token to the headers of a stream, if that is the identity.
    pub(crate) fn authorize(&self, metadata: &mut MetadataMap) {
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
    }
}

/// There is no connection. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("read {what} from {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what} has no PEM section that is accepted (expected: {expected})")]
    Pem { what: &'static str, expected: &'static str, source: rustls::pki_types::pem::Error },
    #[error("the bearer token is empty, or has characters that no header can hold")]
    Token,
    #[error("the system has no trusted certificates; give control_plane.ca")]
    NoRoots,
    #[error("the client certificate in control_plane.tls cannot be used: is the key its own?")]
    Identity { source: rustls::Error },
    #[error("control_plane.ca cannot be used")]
    Ca { source: rustls::Error },
    #[error("control_plane.endpoint: `{host}` is no DNS name or IP address")]
    Name { host: String },
    #[error("connect to {peer}: check control_plane.endpoint, DNS and firewalls")]
    Network { peer: String, source: io::Error },
    #[error("connect to {peer}: no answer within 10 s; check control_plane.endpoint and firewalls")]
    Timeout { peer: String },
    #[error("TLS with {peer}: {advice}")]
    Tls { peer: String, advice: &'static str, source: io::Error },
    #[error("open HTTP/2 with {peer}")]
    Http2 { peer: String, source: tonic::transport::Error },
}

/// Makes a connection.
///
/// # Cancel safety
/// Dropping the future closes what was opened.
pub(super) async fn connect(
    dial: &dyn Dial,
    control_plane: &ControlPlane,
    redactor: &Redactor,
) -> Result<Link, ConnectError> {
    let ControlPlane { host, port, ca, identity } = control_plane;
    let peer = format!("{host}:{port}");
    let (config, key) = client_config(ca.as_ref(), identity, redactor).await?;
    let (authorization, token) = authorization(identity, redactor).await?.unzip();
    let watched = key.or_else(|| token.flatten()).map(Arc::new);
    let stream = tokio::time::timeout(CONNECT, open(dial, Arc::new(config), control_plane, &peer))
        .await
        .map_err(|_elapsed| ConnectError::Timeout { peer: peer.clone() })??;
    let http2 = |source| ConnectError::Http2 { peer: peer.clone(), source };
    // tonic asks its connector once: this connection is never made again.
    let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.lock().ok().and_then(|mut stream| stream.take());
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let uri = |scheme: &str| format!("{scheme}://{peer}");
    let origin = uri("https").parse().map_err(|_invalid| ConnectError::Name { host: host.clone() })?;
    let channel = Endpoint::from_shared(uri("http"))
        .map_err(http2)?
        .origin(origin)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(http2)?;
    Ok(Link { channel, authorization, _watched: watched, zstd: false, memos: false })
}

async fn open(
    dial: &dyn Dial,
    config: Arc<ClientConfig>,
    control_plane: &ControlPlane,
    peer: &str,
) -> Result<BufReader<TlsStream<Box<dyn Connection>>>, ConnectError> {
    let ControlPlane { host, port, identity, .. } = control_plane;
    let network = |source| ConnectError::Network { peer: peer.to_owned(), source };
    let tls = |source| ConnectError::Tls { peer: peer.to_owned(), advice: advice(&source), source };
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare.clone()).map_err(|_invalid| ConnectError::Name { host: host.clone() })?;
    let tcp = dial.dial(&bare, *port).await.map_err(network)?;
    let mut stream = BufReader::new(TlsConnector::from(config).connect(name, tcp).await.map_err(tls)?);
    // With TLS 1.3 the client is done before the server has looked at its certificate: a refusal comes as an alert in
    // place of the server's first bytes, which HTTP/2 lets it send unasked.
    if matches!(identity, Identity::Certificate { .. }) {
        match tokio::time::timeout(VERDICT, stream.fill_buf()).await {
            Ok(Ok([])) => return Err(tls(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) => return Err(tls(error)),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Ok(stream)
}

/// What to do about a TLS failure that a stream met later than the handshake: a server that wants a certificate tells an
/// agent without one only then.
pub(super) fn late_advice(status: &tonic::Status) -> Option<&'static str> {
    let mut cause = status.source();
    while let Some(error) = cause {
        let found = error.downcast_ref::<io::Error>();
        if let Some(error) = found
            && tls_error(error).is_some()
        {
            return Some(advice(error));
        }
        cause = error.source();
    }
    None
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|error| error.downcast_ref())
}

/// What to do about a TLS failure.
fn advice(error: &io::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate, PeerIncompatible};
    match tls_error(error) {
        Some(InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "its certificate is not from the CA in control_plane.ca (the system's roots when absent); give the CA that \
             signed it"
        }
        Some(InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its certificate is for another host name than the one in control_plane.endpoint",
        Some(InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "its certificate has expired; renew it at the control plane"
        }
        Some(InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => {
            "its certificate is not valid yet; are both clocks right?"
        }
        Some(InvalidCertificate(_)) => "its certificate is not accepted",
        Some(AlertReceived(AlertDescription::CertificateExpired)) => {
            "it refused this agent's certificate (control_plane.tls) as expired; make a new one with `control-plane agent add`"
        }
        Some(AlertReceived(AlertDescription::UnknownCA)) => {
            "it refused this agent's certificate (control_plane.tls): it is not from a CA that the control plane trusts"
        }
        Some(AlertReceived(AlertDescription::CertificateRequired)) => {
            "it wants a client certificate; give control_plane.tls.certificate and key"
        }
        Some(AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        )) => "it refused this agent's certificate (control_plane.tls)",
        Some(PeerIncompatible(_) | AlertReceived(AlertDescription::ProtocolVersion)) => "it does not speak TLS 1.3",
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection; is it the control plane's gRPC port, and does it accept this agent's certificate?"
        }
        _ => "the handshake failed; is it the control plane's gRPC port?",
    }
}

async fn client_config(
    ca: Option<&Pem>,
    identity: &Identity,
    redactor: &Redactor,
) -> Result<(ClientConfig, Option<Watched>), ConnectError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| ConnectError::Ca { source })?
        .with_root_certificates(roots(ca).await?);
    let (mut config, watched) = match identity {
        Identity::Certificate { certificate, key } => {
            let chain = certificates(certificate, "control_plane.tls.certificate").await?;
            let what = "control_plane.tls.key";
            let text = read(key, what).await?;
            let watched = str::from_utf8(&text).ok().and_then(|text| redactor.watch_text(text));
            let key = PrivateKeyDer::from_pem_slice(&text).map_err(|source| ConnectError::Pem {
                what,
                expected: "PRIVATE KEY",
                source,
            })?;
            let config = builder.with_client_auth_cert(chain, key);
            (config.map_err(|source| ConnectError::Identity { source })?, watched)
        }
        Identity::TokenFile(_) | Identity::Token(_) => (builder.with_no_client_auth(), None),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would keep the identity of the first one after the certificate was rotated.
    config.resumption = Resumption::disabled();
    Ok((config, watched))
}

async fn roots(ca: Option<&Pem>) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in certificates(ca, "control_plane.ca").await? {
                roots.add(certificate).map_err(|source| ConnectError::Ca { source })?;
            }
        }
        None => {
            let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
            roots.add_parsable_certificates(native.map(|native| native.certs).unwrap_or_default());
            if roots.is_empty() {
                return Err(ConnectError::NoRoots);
            }
        }
    }
    Ok(roots)
}

async fn certificates(pem: &Pem, what: &'static str) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let refused = |source| ConnectError::Pem { what, expected: "CERTIFICATE", source };
    let text = read(pem, what).await?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(refused)?;
    if found.is_empty() { Err(refused(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(found) }
}

async fn read(pem: &Pem, what: &'static str) -> Result<Vec<u8>, ConnectError> {
    match pem {
        Pem::Inline(text) => Ok(text.to_vec()),
        Pem::File(path) => {
            tokio::fs::read(path).await.map_err(|source| ConnectError::File { what, path: path.clone(), source })
        }
    }
}

async fn authorization(
    identity: &Identity,
    redactor: &Redactor,
) -> Result<Option<(MetadataValue<Ascii>, Option<Watched>)>, ConnectError> {
    let token = match identity {
        Identity::Certificate { .. } => return Ok(None),
        Identity::Token(token) => SecretValue::new(token.expose().trim().to_owned()),
        Identity::TokenFile(path) => {
            let what = "control_plane.token_file";
            let read = tokio::fs::read_to_string(path).await.map(SecretValue::new);
            let read = read.map_err(|source| ConnectError::File { what, path: path.clone(), source })?;
            SecretValue::new(read.expose().trim().to_owned())
        }
    };
    let watched = redactor.watch_text(token.expose());
    let header = MetadataValue::try_from(format!("Bearer {}", token.expose()));
    let mut header = header.ok().filter(|_| !token.expose().is_empty()).ok_or(ConnectError::Token)?;
    header.set_sensitive(true);
    Ok(Some((header, watched)))
}

#[cfg(test)]
mod tests {
    use super::{Identity, Pem, Redactor, authorization, client_config};

    #[tokio::test]
    async fn the_key_and_the_token_of_a_connection_are_watched() {
        let pair = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
        let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let pem = |text: &str| Pem::Inline(text.as_bytes().into());
        let redactor = Redactor::default();
        let identity = Identity::Certificate { certificate: pem(&certificate), key: pem(&key) };
        let (_config, watched) = client_config(Some(&pem(&certificate)), &identity, &redactor).await.unwrap();
        assert!(watched.is_some() && redactor.scan(key.lines().nth(1).unwrap().as_bytes()));
        assert!(!redactor.scan(certificate.as_bytes()));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "the-bearer-token-of-it\n").unwrap();
        let (_header, watched) = authorization(&Identity::TokenFile(file), &redactor).await.unwrap().unwrap();
        assert!(watched.is_some() && redactor.scan(b"Bearer the-bearer-token-of-it"));
    }
}
