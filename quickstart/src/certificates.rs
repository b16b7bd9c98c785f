//! The certificates of a first look: one authority, one server, one agent. Made at start, for loopback only.

use anyhow::Context as _;
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// PEM texts of a control plane's authority, its server certificate and one agent's certificate.
pub(crate) struct Certificates {
    /// The authority's certificate: what the agent trusts, and what the control plane takes agents' certificates from.
    pub(crate) ca: String,
    /// The authority's key, for `control-plane agent add`.
    pub(crate) ca_key: String,
    /// The control plane's certificate, for `localhost`.
    pub(crate) server: String,
    /// Its key.
    pub(crate) server_key: String,
    /// The agent's certificate, with the URI SAN `agent://NAME`.
    pub(crate) agent: String,
    /// Its key.
    pub(crate) agent_key: String,
}

impl Certificates {
    /// Makes them for an agent of that name.
    pub(crate) fn make(agent: &str) -> anyhow::Result<Self> {
        let ca_key = KeyPair::generate().context("make the authority's key")?;
        let mut params = named("Hybrid Runner quickstart authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).context("sign the authority's certificate")?;
        let issuer = Issuer::new(params, &ca_key);

        let localhost = SanType::DnsName(Ia5String::try_from("localhost").context("localhost is a name")?);
        let (server, server_key) =
            issue(&issuer, "Hybrid Runner quickstart control plane", localhost, ExtendedKeyUsagePurpose::ServerAuth)?;
        let uri = SanType::URI(Ia5String::try_from(format!("agent://{agent}")).context("the agent's name is ASCII")?);
        let (agent, agent_key) = issue(&issuer, agent, uri, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self { ca: ca.pem(), ca_key: ca_key.serialize_pem(), server, server_key, agent, agent_key })
    }
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn issue(
    issuer: &Issuer<'_, &KeyPair>,
    name: &str,
    san: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate().with_context(|| format!("make the key of {name}"))?;
    let mut params = named(name);
    params.subject_alt_names = vec![san];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).with_context(|| format!("sign the certificate of {name}"))?;
    Ok((certificate.pem(), key.serialize_pem()))
}
