//! The way to the control plane one step at a time, for whoever wants to see each: nothing made here is used.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::material::Material;
use super::tls::{self, TlsError};
use super::{ConnectError, Connector, bare};

/// What people want to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// DNS names, addresses and URIs that it is for.
    pub(crate) names: Vec<String>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Certificate {
    fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        let validity = certificate.validity();
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.collect(),
            not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    four.or_else(|_| sixteen()).ok()
}

impl Connector {
    /// Reads the files of the identity and of whom it trusts; the agent's own certificate, if it has one.
    pub(crate) async fn inspect_files(&self) -> Result<Option<Certificate>, ConnectError> {
        Ok(self.read().await?.certificate.as_ref().and_then(Certificate::parse))
    }

    /// Opens a stream of bytes to the control plane, through the proxy if one is configured.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(crate) async fn inspect_way(&self) -> Result<(), ConnectError> {
        let peer = self.control_plane.address();
        self.open(&peer, Instant::now() + self.limit).await.map(drop)
    }

    /// Makes TLS without a word about HTTP/2. The control plane's certificate is told also when it is not accepted.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(crate) async fn inspect_tls(&self) -> (Option<Certificate>, Result<(), ConnectError>) {
        let seen = Arc::default();
        let done = self.greet(&seen).await;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        (seen.as_ref().and_then(Certificate::parse), done)
    }

    async fn greet(&self, seen: &Arc<Mutex<Option<CertificateDer<'static>>>>) -> Result<(), ConnectError> {
        let peer = self.control_plane.address();
        let refused = |source| ConnectError::Tls { peer: peer.clone(), source };
        let deadline = Instant::now() + self.limit;
        let config = watching(&self.read().await?, Arc::clone(seen))?;
        let (stream, _password) = self.open(&peer, deadline).await?;
        let name = tls::server_name(&bare(&self.control_plane.host)).map_err(refused)?;
        let made = timeout_at(deadline, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
        match made {
            Ok(Ok(_stream)) => Ok(()),
            Ok(Err(error)) => Err(refused(tls::failed(error))),
            Err(_elapsed) => Err(refused(TlsError::Stalled)),
        }
    }
}

/// The same TLS, which offers no HTTP/2 and remembers the certificate that it was shown.
fn watching(
    material: &Material,
    seen: Arc<Mutex<Option<CertificateDer<'static>>>>,
) -> Result<ClientConfig, ConnectError> {
    let mut config = ClientConfig::clone(&material.tls);
    config.alpn_protocols.clear();
    let verifier = WitnessedVerifier::new(&material.roots, seen)?;
    // Not less strict than before: it asks the same verifier.
    config.dangerous().set_certificate_verifier(Arc::new(verifier));
    Ok(config)
}

/// The usual verifier, and what it was asked about.
#[derive(Debug)]
struct WitnessedVerifier {
    usual: Arc<WebPkiServerVerifier>,
    seen: Arc<Mutex<Option<CertificateDer<'static>>>>,
}

impl WitnessedVerifier {
    fn new(
        roots: &Arc<RootCertStore>,
        seen: Arc<Mutex<Option<CertificateDer<'static>>>>,
    ) -> Result<Self, ConnectError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider).build();
        let usual = usual.map_err(|error| ConnectError::Ca { source: rustls::Error::General(error.to_string()) })?;
        Ok(Self { usual, seen })
    }
}

impl ServerCertVerifier for WitnessedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
