//! Certificates, tokens and the files of a control plane.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use control_plane::identity::hash_token;
use hybrid_runner::{Identity, Pem, SecretValue};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use super::TTL;

/// The control plane's host.
pub(super) const PLANE: &str = "plane";

/// Its port.
pub(super) const PORT: u16 = 7443;

/// Agents that exist at most.
const AGENTS: usize = 3;

struct Files {
    ca: String,
    server: (String, String),
    agents: Vec<(String, String)>,
}

/// Made once a process: they take longer than a seed.
static FILES: OnceLock<Files> = OnceLock::new();

fn files() -> &'static Files {
    FILES.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let issue = |name: SanType, usage: ExtendedKeyUsagePurpose| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![name];
            params.extended_key_usages = vec![usage];
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let server = issue(SanType::DnsName(PLANE.try_into().unwrap()), ExtendedKeyUsagePurpose::ServerAuth);
        let uri = |number| SanType::URI(format!("agent://agent-{number}").try_into().unwrap());
        let agents = (0..AGENTS).map(|number| issue(uri(number), ExtendedKeyUsagePurpose::ClientAuth)).collect();
        Files { ca, server, agents }
    })
}

fn token(number: usize) -> String {
    format!("the-bearer-token-of-the-agent-with-number-{number}")
}

/// Writes what a control plane reads.
pub(super) fn write(dir: &Path) {
    let Files { ca, server: (certificate, key), .. } = files();
    let put = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    std::fs::create_dir(dir.join("pipelines")).unwrap();
    put("ca.pem", ca);
    put("server.pem", certificate);
    put("server.key", key);
    let agents = (0..AGENTS).map(|number| {
        let hash = hash_token(&token(number));
        format!("- {{name: agent-{number}, certificate: true, token_blake3: {hash}}}\n")
    });
    put("agents.yaml", &agents.collect::<String>());
    let (ttl, heartbeat) = (TTL.as_secs(), TTL.as_secs() / 4);
    let config = format!(
        "listen: 0.0.0.0:{PORT}
tls: {{certificate: server.pem, key: server.key, client_ca: ca.pem}}
store: {{sqlite: none}}
lease: {{ttl: {ttl}s, heartbeat: {heartbeat}s}}
retry: {{backoff: 500ms}}
"
    );
    put("control-plane.yaml", &config);
}

/// Who an agent is, and whom it trusts.
pub(super) fn control_plane(number: usize) -> hybrid_runner::ControlPlane {
    let Files { ca, agents, .. } = files();
    let pem = |text: &str| Pem::Inline(Arc::from(text.as_bytes()));
    let (certificate, key) = &agents[number];
    // One with a certificate, the others with tokens: both ways are gone through, and a handshake costs less.
    let identity = match number {
        0 => Identity::Certificate { certificate: pem(certificate), key: pem(key) },
        _ => Identity::Token(Arc::new(SecretValue::new(token(number)))),
    };
    hybrid_runner::ControlPlane { host: PLANE.to_owned(), port: PORT, ca: Some(pem(ca)), identity, proxy: None }
}

/// The file of a pipeline.
pub(super) fn pipeline_file(name: &str, variant: u32, is_enabled: bool, is_scheduled: bool) -> String {
    let schedule = if is_scheduled { "schedule: {cron: '* * * * *', timezone: UTC}\n" } else { "" };
    format!(
        "source:
  type: salesforce
  serviceName: {name}
  serviceConnection: {{config: {{type: Salesforce, username: variant-{variant}}}}}
  sourceConfig: {{config: {{type: DatabaseMetadata}}}}
---
name: {name}
enabled: {is_enabled}
{schedule}"
    )
}
