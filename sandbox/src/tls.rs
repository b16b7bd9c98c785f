//! The server's identity: its own CA, and a certificate for the hosts of Salesforce and of this machine.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

/// The names in the certificate. A wildcard stands for exactly one label, hence one line for each depth.
const NAMES: &[&str] = &[
    "localhost",
    "127.0.0.1",
    "::1",
    "*.salesforce.com",
    "*.my.salesforce.com",
    "*.sandbox.my.salesforce.com",
    "*.develop.my.salesforce.com",
    "*.scratch.my.salesforce.com",
];

/// A certificate with its key, and the CA that a client has to trust.
#[derive(Clone)]
pub struct Identity {
    /// The CA's certificate, PEM.
    pub ca_pem: String,
    /// The server's certificate (and chain, if any), PEM.
    pub certificate_pem: String,
    /// The server's private key, PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes a CA and a certificate under it; the CA's key is thrown away.
    ///
    /// # Errors
    ///
    /// When the crypto library cannot make a key.
    pub fn generate() -> anyhow::Result<Self> {
        let ca_key = KeyPair::generate().context("make the sandbox CA's key")?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name = named("Sandbox org CA");
        let ca_pem = ca.self_signed(&ca_key).context("sign the sandbox CA")?.pem();

        let key = KeyPair::generate().context("make the sandbox's key")?;
        let mut leaf = CertificateParams::new(NAMES.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        leaf.distinguished_name = named("Sandbox org");
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).context("sign the certificate")?;
        Ok(Self { ca_pem, certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// With `client_ca` (PEM), clients have to show a certificate of one of its authorities.
    pub(crate) fn server_config(&self, client_ca: Option<&str>) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let chain = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .context("read the certificate")?;
        ensure!(!chain.is_empty(), "the certificate file holds no PEM certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).context("read the private key")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = match client_ca {
            Some(pem) => client_verifier(pem, &provider)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .context("certificate and key do not fit together")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn client_verifier(pem: &str, provider: &Arc<CryptoProvider>) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.context("read the clients' CA")?).context("use the clients' CA")?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .context("check clients with their CA")
}

fn named(name: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::CommonName, name);
    dn
}
