//! The connection: TLS on TCP, HTTP/2 on that, and who the agent is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};

/// Name, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the control plane is, and who the kit is there.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// PEM of what signed its certificate; the system's trust when absent.
    pub ca: Option<String>,
    /// The agent.
    pub identity: Identity,
}

/// Who the kit is.
#[derive(Clone)]
pub enum Identity {
    /// A client certificate and its key, PEM.
    Certificate {
        /// Leaf first.
        chain: String,
        /// The leaf's key.
        key: String,
    },
    /// A bearer token.
    Token(String),
    /// Nobody.
    None,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "Certificate",
            Self::Token(_) => "Token",
            Self::None => "None",
        })
    }
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What was given as PEM is none.
    #[error("{what} is not PEM of the kind that is needed")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificates cannot be used.
    #[error("{what} cannot be used")]
    Certificate {
        /// Which.
        what: &'static str,
        /// Why not.
        source: rustls::Error,
    },
    /// The token is no header.
    #[error("the token is empty, or has characters that no header can hold")]
    Token,
    /// The endpoint is none.
    #[error("the endpoint is not accepted; accepted: https://HOST:PORT")]
    Endpoint,
    /// Nothing answers.
    #[error("connect to {peer}")]
    Network {
        /// Where.
        peer: String,
        /// Why not.
        source: tonic::transport::Error,
    },
}

/// A connection that is made, and made again when it broke.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    pub(crate) authorization: Option<MetadataValue<Ascii>>,
}

impl Target {
    /// The target of an URL `https://HOST[:PORT]`.
    ///
    /// # Errors
    /// [`ConnectError::Endpoint`]
    pub fn new(endpoint: &str, ca: Option<String>, identity: Identity) -> Result<Self, ConnectError> {
        let uri: Uri = endpoint.parse().map_err(|_invalid| ConnectError::Endpoint)?;
        let host = uri.host().ok_or(ConnectError::Endpoint)?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
            return Err(ConnectError::Endpoint);
        }
        Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(443), ca, identity })
    }
}

/// Connects, with TLS and HTTP/2 agreed on.
pub(crate) async fn connect(target: &Target) -> Result<Link, ConnectError> {
    let Target { host, port, identity, .. } = target;
    let connector = TlsConnector::from(Arc::new(tls(target)?));
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare.clone()).map_err(|_invalid| ConnectError::Endpoint)?;
    let port = *port;
    let dial = tower::service_fn(move |_: Uri| {
        let (connector, name, host) = (connector.clone(), name.clone(), bare.clone());
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    let authorization = match identity {
        Identity::Token(token) if token.is_empty() => return Err(ConnectError::Token),
        Identity::Token(token) => {
            let value = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
            let mut value = value.map_err(|_invalid| ConnectError::Token)?;
            value.set_sensitive(true);
            Some(value)
        }
        Identity::Certificate { .. } | Identity::None => None,
    };
    let peer = format!("{host}:{port}");
    // The connector makes TLS; tonic would refuse to be given `https` without its own.
    let origin = format!("https://{peer}").parse().map_err(|_invalid| ConnectError::Endpoint)?;
    let endpoint = Endpoint::from_shared(format!("http://{peer}")).map_err(|_invalid| ConnectError::Endpoint)?;
    let channel = endpoint.origin(origin).connect_timeout(CONNECT).connect_with_connector(dial).await;
    Ok(Link { channel: channel.map_err(|source| ConnectError::Network { peer, source })?, authorization })
}

fn tls(target: &Target) -> Result<ClientConfig, ConnectError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|source| ConnectError::Certificate { what: "TLS", source })?;
    let builder = versions.with_root_certificates(roots(target.ca.as_deref())?);
    let mut config = match &target.identity {
        Identity::Token(_) | Identity::None => builder.with_no_client_auth(),
        Identity::Certificate { chain, key } => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|source| ConnectError::Pem { what: "the key", source })?;
            let builder = builder.with_client_auth_cert(certificates("the certificate", chain)?, key);
            builder.map_err(|source| ConnectError::Certificate { what: "the certificate with its key", source })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(ca: Option<&str>) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    match ca {
        // What of the system's trust cannot be read is not trusted.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        Some(pem) => {
            for certificate in certificates("the CA", pem)? {
                roots.add(certificate).map_err(|source| ConnectError::Certificate { what: "the CA", source })?;
            }
        }
    }
    Ok(roots)
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|source| ConnectError::Pem { what, source })?;
    if read.is_empty() {
        return Err(ConnectError::Pem { what, source: rustls::pki_types::pem::Error::NoItemsFound });
    }
    Ok(read)
}
