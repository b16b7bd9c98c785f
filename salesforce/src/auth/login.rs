//! From a definition to a session: secrets read, one request sent, the answer bound to its host.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use hybrid_runner_connector::{Progress, Reason, SourceError};
use hybrid_runner_secrets::{SecretError, SecretRef, SecretValue, Stores};
use reqwest::Certificate;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::guard::{TooMany, Version};
use super::oauth::Flow;
use super::{Granted, Session, jwt, soap, with_token};
use crate::config::{ApiVersion, Auth, Ssl};
use crate::host::Host;
use crate::http::{CallError, ClientCertificate, Connection, Http, Trust, Via};
use crate::local::LocalConfig;
use crate::quota::Quota;

/// The fields that hold PEM: they have line ends.
const PEM_FIELDS: [&str; 4] =
    ["sslConfig.caCertificate", "sslConfig.sslCertificate", "sslConfig.sslKey", "connectionArguments.privatekey"];

/// What a login needs beside the definition.
#[derive(Debug)]
pub(crate) struct Login<'a> {
    pub(crate) auth: &'a Auth,
    pub(crate) ssl: &'a Ssl,
    pub(crate) local: &'a LocalConfig,
    pub(crate) secrets: &'a Stores,
    pub(crate) progress: &'a Arc<Progress>,
    pub(crate) quota: &'a Arc<Quota>,
}

/// A login, written.
enum Request {
    Soap { version: ApiVersion, body: Zeroizing<Vec<u8>> },
    OAuth { flow: Flow, body: Zeroizing<Vec<u8>> },
}

/// The secrets that connecting needs, before any login.
struct Link {
    ca: Option<SecretValue>,
    identity: Option<(SecretValue, SecretValue)>,
    proxy_password: Option<SecretValue>,
}

impl Login<'_> {
    /// Reads the secrets, all of them before anything is sent, and logs in.
    pub(crate) async fn log_in(&self) -> Result<Session, SourceError> {
        let link = self.link().await?;
        if let Auth::Session { host, session_id } = self.auth {
            let token = self.read("connectionArguments.session_id", session_id).await?;
            return Ok(existing(self.open(host, &link)?, token));
        }
        let (request, credentials) = self.request().await?;
        let host = self.auth.host();
        let http = self.open(host, &link)?;
        let attempt = self.local.logins.enter(credentials).await.map_err(|too_many| not_tried(host, too_many))?;
        let answer = match request {
            Request::Soap { version, body } => soap::log_in(&http, version, body).await,
            Request::OAuth { flow, body } => flow.log_in(&http, body).await,
        };
        match &answer {
            Ok(_) => attempt.accepted(),
            Err(error) if matches!(error.reason, Reason::AuthFailed | Reason::SourceDenied) => attempt.rejected(),
            Err(_) => drop(attempt),
        }
        self.bind(&http, &link, answer?)
    }

    /// Whether there is anything to log in with again.
    pub(super) fn can_repeat(&self) -> bool {
        !matches!(self.auth, Auth::Session { .. })
    }

    /// Reads the secrets of a login and writes its request.
    async fn request(&self) -> Result<(Request, Version), SourceError> {
        match self.auth {
            Auth::Soap { version, username, password, token, organization, .. } => {
                let (password, token) =
                    (self.read("password", password).await?, self.read_token(token.as_ref()).await?);
                let body = soap::request(username, &password, token.as_ref(), organization.as_deref())?;
                let credentials = self.credentials(username, &with_token(&password, token.as_ref()), "")?;
                Ok((Request::Soap { version: *version, body }, credentials))
            }
            Auth::Password { username, password, token, consumer_key, consumer_secret, .. } => {
                let (password, token) =
                    (self.read("password", password).await?, self.read_token(token.as_ref()).await?);
                let secret = self.read("consumerSecret", consumer_secret).await?;
                let password = with_token(&password, token.as_ref());
                let body = Flow::Password.request(&[
                    ("client_id", consumer_key),
                    ("client_secret", secret.expose()),
                    ("username", username),
                    ("password", &password),
                ]);
                let credentials = self.credentials(username, &password, secret.expose())?;
                Ok((Request::OAuth { flow: Flow::Password, body }, credentials))
            }
            Auth::Jwt { host, username, consumer_key, private_key } => {
                const FIELD: &str = "connectionArguments.privatekey";
                let key = self.read(FIELD, private_key).await?;
                let audience = format!("https://{host}");
                let assertion = jwt::assertion(key.expose(), consumer_key, username, &audience, now())
                    .map_err(|problem| malformed(FIELD, private_key, &problem.to_string()))?;
                let body = Flow::Jwt.request(&[("assertion", &assertion)]);
                Ok((Request::OAuth { flow: Flow::Jwt, body }, self.credentials(username, key.expose(), consumer_key)?))
            }
            Auth::ClientCredentials { consumer_key, consumer_secret, .. } => {
                let secret = self.read("consumerSecret", consumer_secret).await?;
                let body =
                    Flow::ClientCredentials.request(&[("client_id", consumer_key), ("client_secret", secret.expose())]);
                let credentials = self.credentials(consumer_key, secret.expose(), "")?;
                Ok((Request::OAuth { flow: Flow::ClientCredentials, body }, credentials))
            }
            Auth::Session { host, .. } => {
                Err(SourceError::new(Reason::AuthFailed, format!("a session for {host} needs no login")))
            }
        }
    }

    /// The version of the credentials, for the guard.
    fn credentials(&self, user: &str, secret: &str, second: &str) -> Result<Version, SourceError> {
        let host = self.auth.host().to_string();
        self.local.logins.version([host.as_str(), user, secret, second]).ok_or_else(|| {
            SourceError::new(Reason::SourceProtocol, "the machine gives no random numbers: no login is possible")
        })
    }

    /// Ties a granted credential to the host that it is for, if that is a host it may go to.
    fn bind(&self, login: &Http, link: &Link, granted: Granted) -> Result<Session, SourceError> {
        let host = self
            .local
            .hosts
            .session_host(&granted.address)
            .map_err(|refused| SourceError::new(Reason::SourceProtocol, format!("{}: {refused}", login.host())))?;
        let http = if login.host() == &host {
            login.clone()
        } else if !login.host().is_listed() && !host.is_listed() {
            login.at(host)
        } else {
            self.open(&host, link)?
        };
        let Granted { token, organization, organization_id, user_id, language, .. } = granted;
        let identity = identity(organization_id.as_deref(), user_id.as_deref(), language.as_deref());
        Ok(Session { http, token, organization, identity })
    }

    async fn link(&self) -> Result<Link, SourceError> {
        let ca = match &self.ssl.ca {
            Some(reference) => Some(self.certificates("sslConfig.caCertificate", reference).await?),
            None => None,
        };
        let identity = match &self.ssl.identity {
            Some((certificate, key)) => Some(self.identity(certificate, key).await?),
            None => None,
        };
        let proxy_password = match self.local.proxy.as_ref().and_then(crate::http::Proxy::password) {
            Some(reference) => Some(self.read("salesforce.proxy.password", reference).await?),
            None => None,
        };
        Ok(Link { ca, identity, proxy_password })
    }

    async fn identity(
        &self,
        certificate: &SecretRef,
        key: &SecretRef,
    ) -> Result<(SecretValue, SecretValue), SourceError> {
        const KEY: &str = "sslConfig.sslKey";
        let chain = self.certificates("sslConfig.sslCertificate", certificate).await?;
        let private = self.read(KEY, key).await?;
        match PrivateKeyDer::from_pem_slice(private.expose().as_bytes()) {
            Ok(mut der) => der.zeroize(),
            Err(_none) => return Err(malformed(KEY, key, "holds no PEM private key without a passphrase")),
        }
        Ok((chain, private))
    }

    /// Certificates, at least one.
    async fn certificates(&self, field: &str, reference: &SecretRef) -> Result<SecretValue, SourceError> {
        let pem = self.read(field, reference).await?;
        if Certificate::from_pem_bundle(pem.expose().as_bytes()).is_ok_and(|certificates| !certificates.is_empty()) {
            Ok(pem)
        } else {
            Err(malformed(field, reference, "holds no PEM certificate"))
        }
    }

    fn open(&self, host: &Host, link: &Link) -> Result<Http, SourceError> {
        let trust = match self.local.hosts.ca(host) {
            Some(own) => Trust::Only(own),
            None => Trust::System(link.ca.as_ref().map(|pem| pem.expose().as_bytes())),
        };
        let identity =
            link.identity.as_ref().map(|(chain, key)| ClientCertificate { chain: chain.expose(), key: key.expose() });
        let via = match &self.local.proxy {
            Some(proxy) => Via::Proxy {
                proxy,
                password: link.proxy_password.as_ref().map(SecretValue::expose),
                exceptions: self.local.use_system_proxy,
            },
            None if self.local.use_system_proxy => Via::System,
            None => Via::Direct,
        };
        let connection = Connection { trust, identity, via };
        let (progress, quota) = (Arc::clone(self.progress), Arc::clone(self.quota));
        Http::new(host.clone(), &connection, self.local.call_timeout, progress, quota)
            .map_err(CallError::into_source_error)
    }

    async fn read_token(&self, token: Option<&SecretRef>) -> Result<Option<SecretValue>, SourceError> {
        match token {
            Some(token) => self.read("securityToken", token).await.map(Some),
            None => Ok(None),
        }
    }

    async fn read(&self, field: &str, reference: &SecretRef) -> Result<SecretValue, SourceError> {
        let value = self.secrets.read(reference).await.map_err(|error| {
            let reason = match &error {
                SecretError::UnknownStore { .. }
                | SecretError::NotFound { .. }
                | SecretError::KeyMissing { .. }
                | SecretError::Denied { .. } => Reason::SecretUnavailable,
                SecretError::Empty { .. }
                | SecretError::TooLarge { .. }
                | SecretError::NotText { .. }
                | SecretError::Unusable { .. } => Reason::SecretMalformed,
                SecretError::Sealed { .. } | SecretError::Throttled { .. } | SecretError::Unreachable { .. } => {
                    Reason::SecretStoreUnreachable
                }
            };
            SourceError::caused(reason, format!("{field}: {error}"), error)
        })?;
        // XML cannot hold them, and no password of Salesforce's has one: it is a line break of whoever stored it.
        if !PEM_FIELDS.contains(&field) && value.expose().chars().any(char::is_control) {
            return Err(malformed(field, reference, "has a line break or another control character in it"));
        }
        Ok(value)
    }
}

fn malformed(field: &str, reference: &SecretRef, problem: &str) -> SourceError {
    SourceError::new(Reason::SecretMalformed, format!("{field}: secret {reference} {problem}"))
}

/// A session that somebody else has opened. Before its `!` stands the org's id.
fn existing(http: Http, token: SecretValue) -> Session {
    let organization_id = token.expose().split_once('!').map(|(id, _)| id);
    let organization_id = organization_id.filter(|id| matches!(id.len(), 15 | 18));
    let identity = identity(organization_id, None, None);
    Session { http, token, organization: None, identity }
}

fn identity(organization: Option<&str>, user: Option<&str>, language: Option<&str>) -> String {
    let user = user.map_or_else(|| format!("unknown-{:032x}", fastrand::u128(..)), str::to_owned);
    format!("{}/{user}/{}", organization.unwrap_or("unknown"), language.unwrap_or("unknown"))
}

/// The error of a login that the guard holds back.
fn not_tried(host: &Host, too_many: TooMany) -> SourceError {
    let minutes = too_many.wait.as_secs().div_ceil(60).max(1);
    let detail = format!(
        "{host} rejected the last two logins with these credentials, so that no other one is tried for {minutes} min: more \
         could lock the user out; correct the credentials (changed ones are tried at once)"
    );
    SourceError::new(Reason::AuthFailed, detail)
}

/// The time since 1970, which an assertion has to name: the one place where a date counts.
#[expect(clippy::disallowed_methods, reason = "Salesforce compares an assertion's end with the date")]
fn now() -> Duration {
    // A clock before 1970 is refused by Salesforce as any other wrong one.
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
