//! Making a client: whom it trusts, who it is, and through which proxy it goes.

use std::sync::Arc;

use hybrid_runner_connector::Reason;
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy as Route};
use zeroize::Zeroizing;

use super::error::CallError;
use super::proxy::Proxy;
use super::resolve::Vetting;
use super::{CONNECT_TIMEOUT, IDLE_TIMEOUT};

/// How a client connects.
#[derive(Clone, Copy)]
pub(crate) struct Connection<'a> {
    pub(crate) trust: Trust<'a>,
    pub(crate) identity: Option<ClientCertificate<'a>>,
    pub(crate) via: Via<'a>,
    /// How names are looked up.
    pub(crate) vetting: &'a Vetting,
}

/// What certificates are trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// The system's (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`), and these.
    System(Option<&'a [u8]>),
    /// Only these: a host that is listed with its CA.
    Only(&'a [u8]),
}

/// What the agent shows a server that asks who it is, as PEM.
#[derive(Clone, Copy)]
pub(crate) struct ClientCertificate<'a> {
    pub(crate) chain: &'a str,
    pub(crate) key: &'a str,
}

/// Through which proxy.
#[derive(Clone, Copy)]
pub(crate) enum Via<'a> {
    /// None.
    Direct,
    /// `HTTPS_PROXY`, but for the hosts of `NO_PROXY`.
    System,
    /// One of the agent's configuration.
    Proxy {
        proxy: &'a Proxy,
        /// The password of its user.
        password: Option<&'a str>,
        /// Whether `NO_PROXY` counts.
        exceptions: bool,
    },
}

/// Builds a client.
///
/// # Errors
/// [`CallError::NoClient`]: no crypto provider, no CA certificates, or none in `trust`; certificate and key that do not
/// fit each other.
pub(super) fn build(connection: &Connection<'_>) -> Result<Client, CallError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(CallError::NoClient {
            reason: Reason::SourceUnreachable,
            problem: "no TLS client can be made: no rustls crypto provider is installed",
            source: None,
        });
    }
    let mut builder = Client::builder()
        .http1_only()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Other crates of the build may turn reqwest's own decoding on.
        .no_gzip()
        .connect_timeout(CONNECT_TIMEOUT)
        .dns_resolver(Arc::new(connection.vetting.clone()))
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(concat!("hybrid-runner/", env!("CARGO_PKG_VERSION")));
    builder = route(builder, connection.via)?;
    builder = match connection.trust {
        Trust::System(None) => builder,
        Trust::System(Some(pem)) => builder.tls_certs_merge(certificates(pem)?),
        Trust::Only(pem) => builder.tls_certs_only(certificates(pem)?),
    };
    if let Some(certificate) = connection.identity {
        builder = builder.identity(identity(certificate)?);
    }
    let (reason, problem) = match (connection.identity, connection.trust) {
        (Some(_), _) => (
            Reason::SecretMalformed,
            "no TLS client can be made with sslConfig.sslCertificate and sslConfig.sslKey; see that they belong together",
        ),
        (None, Trust::Only(_)) => {
            (Reason::SourceUnreachable, "no TLS client can be made with the certificates of salesforce.hosts (ca)")
        }
        (None, Trust::System(_)) => (
            Reason::SourceUnreachable,
            "no TLS client can be made; see that CA certificates are installed (package ca-certificates, or SSL_CERT_FILE)",
        ),
    };
    builder.build().map_err(|error| CallError::NoClient { reason, problem, source: Some(error) })
}

fn route(builder: ClientBuilder, via: Via<'_>) -> Result<ClientBuilder, CallError> {
    let Via::Proxy { proxy, password, exceptions } = via else {
        return Ok(if matches!(via, Via::Direct) { builder.no_proxy() } else { builder });
    };
    let mut route = Route::https(proxy.url().clone()).map_err(|error| CallError::NoClient {
        reason: Reason::SourceUnreachable,
        problem: "the proxy of the agent's configuration (salesforce.proxy.url) cannot be used",
        source: Some(error),
    })?;
    if let (Some(username), Some(password)) = (proxy.username(), password) {
        route = route.basic_auth(username, password);
    }
    Ok(builder.proxy(if exceptions { route.no_proxy(NoProxy::from_env()) } else { route }))
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, CallError> {
    match Certificate::from_pem_bundle(pem) {
        Ok(none) if none.is_empty() => Err(CallError::NoClient {
            reason: Reason::SourceUnreachable,
            problem: "the file of salesforce.hosts (ca) holds no PEM certificate",
            source: None,
        }),
        parsed => parsed.map_err(|error| CallError::NoClient {
            reason: Reason::SourceUnreachable,
            problem: "the file of salesforce.hosts (ca) holds what is no PEM certificate",
            source: Some(error),
        }),
    }
}

fn identity(certificate: ClientCertificate<'_>) -> Result<Identity, CallError> {
    let ClientCertificate { chain, key } = certificate;
    let mut pem = Zeroizing::new(Vec::with_capacity(chain.len() + 1 + key.len()));
    pem.extend_from_slice(chain.as_bytes());
    pem.push(b'\n');
    pem.extend_from_slice(key.as_bytes());
    Identity::from_pem(&pem).map_err(|error| CallError::NoClient {
        reason: Reason::SecretMalformed,
        problem: "sslConfig.sslCertificate and sslConfig.sslKey are no PEM certificate and private key",
        source: Some(error),
    })
}
