//! Certificates: a small authority for agents, and for a control plane on loopback.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// How long an authority is valid, in days: ten years.
const AUTHORITY_DAYS: i32 = 3650;

/// How long a leaf is valid, in days; agents are given a new one with `agent add` before.
const LEAF_DAYS: i32 = 397;

/// Clocks that are this much behind still accept a new certificate, in days.
const BACKDATED_DAYS: i32 = 1;

/// The scheme of the URI SAN that names an agent: `agent://NAME`.
pub const AGENT_SCHEME: &str = "agent://";

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub struct PkiError {
    action: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

fn failed<E: std::error::Error + Send + Sync + 'static>(action: &'static str) -> impl FnOnce(E) -> PkiError {
    move |error| PkiError { action, source: Box::new(error) }
}

/// A certificate and its private key, as PEM. The key is not shown.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

/// What signs certificates.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// [`PkiError`]
    pub fn generate(common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let mut params = params(common_name, now, AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed("sign the authority's certificate"))?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// One from its PEM files.
    ///
    /// # Errors
    /// [`PkiError`]
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key).map_err(failed("read the authority's key"))?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(failed("read the authority's certificate"))?;
        Ok(Self { certificate: certificate.to_owned(), issuer })
    }

    /// Its certificate, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, as PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server's certificate for these DNS names and addresses.
    ///
    /// # Errors
    /// [`PkiError`]
    pub fn issue_server(&self, names: &[&str], now: Timestamp) -> Result<Issued, PkiError> {
        let mut params = params(names.first().copied().unwrap_or("control-plane"), now, LEAF_DAYS)?;
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().map_err(failed("read a DNS name"))?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// An agent's certificate.
    ///
    /// # Errors
    /// [`PkiError`]
    pub fn issue_agent(&self, name: &str, now: Timestamp) -> Result<Issued, PkiError> {
        let mut params = params(name, now, LEAF_DAYS)?;
        let uri = format!("{AGENT_SCHEME}{name}").try_into().map_err(failed("read the agent's name"))?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Issued, PkiError> {
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed("sign a certificate"))?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

fn params(common_name: &str, now: Timestamp, days: i32) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed("read a name"))?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let today = now.to_zoned(TimeZone::UTC).date();
    let day = |days: i32| {
        let date = today.checked_add(days.days()).map_err(failed("reckon a date"))?;
        let part = |part: i8| u8::try_from(part).map_err(failed("reckon a date"));
        Ok(rcgen::date_time_ymd(i32::from(date.year()), part(date.month())?, part(date.day())?))
    };
    params.not_before = day(-BACKDATED_DAYS)?;
    params.not_after = day(days)?;
    Ok(params)
}
