//! Certificates of a test's control plane and its agents.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// An authority that signs a control plane's and its agents' certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The certificate of a server called `localhost`.
    #[must_use]
    pub fn server(&self) -> Pair {
        let name = SanType::DnsName(Ia5String::try_from("localhost").unwrap());
        self.issue("control plane", name, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    /// The certificate of an agent.
    #[must_use]
    pub fn agent(&self, name: &str) -> Pair {
        self.issue(name, agent_uri(name), ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    /// The certificate of an agent that ran out in 2020.
    #[must_use]
    pub fn expired_agent(&self, name: &str) -> Pair {
        self.issue(name, agent_uri(name), ExtendedKeyUsagePurpose::ClientAuth, |params| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        })
    }

    /// The certificate of a server called `localhost`, valid so long before and after now.
    #[must_use]
    pub fn server_around_now(&self, time: Duration) -> Pair {
        let name = SanType::DnsName(Ia5String::try_from("localhost").unwrap());
        self.issue("control plane", name, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            let now = rcgen::date_time_ymd(1970, 1, 1) + since_epoch();
            (params.not_before, params.not_after) = (now - time, now + time);
        })
    }

    /// The certificate of a server called `localhost` that ran out in 2020.
    #[must_use]
    pub fn expired_server(&self) -> Pair {
        let name = SanType::DnsName(Ia5String::try_from("localhost").unwrap());
        self.issue("control plane", name, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        })
    }

    /// The certificate of an agent that runs out so long from now, to the second.
    #[must_use]
    pub fn agent_for(&self, name: &str, life: Duration) -> Pair {
        self.issue(name, agent_uri(name), ExtendedKeyUsagePurpose::ClientAuth, |params| {
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch() + life;
        })
    }

    fn issue(
        &self,
        name: &str,
        san: SanType,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![san];
        params.extended_key_usages = vec![usage];
        change(&mut params);
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are dated by the wall clock")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

fn agent_uri(name: &str) -> SanType {
    SanType::URI(Ia5String::try_from(format!("agent://{name}")).unwrap())
}
