//! From a definition to a session: secrets read, one request sent, the answer bound to its host.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use hybrid_runner_connector::{Progress, Reason, SourceError};
use hybrid_runner_secrets::{
    BoundSecret, NotPermitted, Purpose, Reads, Resolver, SecretError, SecretRef, SecretValue, Use,
};
use reqwest::Certificate;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::guard::{TooMany, Version};
use super::oauth::Flow;
use super::{Granted, Session, jwt, soap, uses, with_token};
use crate::config::{ApiVersion, Auth, Ssl};
use crate::host::Host;
use crate::http::{CallError, ClientCertificate, Connection, Http, Trust, Vetting, Via};
use crate::local::LocalConfig;
use crate::quota::Quota;

/// The fields that hold PEM: they have line ends.
const PEM_FIELDS: [&str; 4] = [uses::CA, uses::CERTIFICATE, uses::KEY, uses::PRIVATE_KEY];

/// What a login needs beside the definition.
#[derive(Debug)]
pub(crate) struct Login<'a> {
    pub(crate) auth: &'a Auth,
    pub(crate) ssl: &'a Ssl,
    pub(crate) local: &'a LocalConfig,
    pub(crate) secrets: &'a Resolver,
    pub(crate) progress: &'a Arc<Progress>,
    pub(crate) quota: &'a Arc<Quota>,
}

/// A login, written.
enum Request {
    Soap { version: ApiVersion, body: Zeroizing<Vec<u8>> },
    OAuth { flow: Flow, body: Zeroizing<Vec<u8>> },
}

/// A login, ready to be sent.
struct Prepared {
    request: Request,
    /// Of the credentials, for the guard.
    version: Version,
    /// The credentials: what the login answers is bound as they are.
    secrets: Vec<BoundSecret>,
}

/// The secrets that connecting needs, before any login.
struct Link {
    ca: Option<BoundSecret>,
    identity: Option<(BoundSecret, BoundSecret)>,
    proxy_password: Option<BoundSecret>,
}

impl Login<'_> {
    /// Reads the secrets, all of them before anything is sent, and logs in.
    pub(crate) async fn log_in(&self) -> Result<Session, SourceError> {
        let mut reads = self.secrets.begin();
        let link = self.link(&mut reads).await?;
        if let Auth::Session { host, session_id } = self.auth {
            let token = self.read_credential(&mut reads, uses::SESSION_ID, session_id).await?;
            return existing(self.open(host, &link)?, token).map_err(not_permitted);
        }
        let Prepared { request, version, mut secrets } = self.request(&mut reads).await?;
        drop(reads);
        let http = self.open(self.auth.host(), &link)?;
        let mut answer = self.attempt(&http, request, version).await;
        // Perhaps they were rotated since they were read. What was rejected is not tried again.
        if answer.as_ref().is_err_and(|error| error.reason == Reason::AuthFailed)
            && let Ok(again) = self.request(&mut self.secrets.begin()).await
            && again.version != version
        {
            secrets = again.secrets;
            answer = self.attempt(&http, again.request, again.version).await;
        }
        self.bind(&http, &link, &secrets, answer?)
    }

    /// One request, if the guard lets it through.
    async fn attempt(&self, http: &Http, request: Request, credentials: Version) -> Result<Granted, SourceError> {
        let entered = self.local.logins.enter(credentials).await;
        let attempt = entered.map_err(|too_many| not_tried(http.host(), too_many))?;
        let answer = match request {
            Request::Soap { version, body } => soap::log_in(http, version, body).await,
            Request::OAuth { flow, body } => flow.log_in(http, body).await,
        };
        match &answer {
            Ok(_) => attempt.accepted(),
            Err(error) if matches!(error.reason, Reason::AuthFailed | Reason::SourceDenied) => attempt.rejected(),
            Err(_) => drop(attempt),
        }
        answer
    }

    /// Whether there is anything to log in with again.
    pub(super) fn can_repeat(&self) -> bool {
        !matches!(self.auth, Auth::Session { .. })
    }

    /// Reads the secrets of a login and writes its request, for the login's host.
    async fn request(&self, reads: &mut Reads<'_>) -> Result<Prepared, SourceError> {
        let host = self.auth.host();
        match self.auth {
            Auth::Soap { version, username, password, token, organization, .. } => {
                let secrets = self.read_password(reads, password, token.as_ref()).await?;
                let password = password_at(host, &secrets)?;
                let body = soap::request(username, &password, organization.as_deref())?;
                let credentials = self.credentials(username, &password, "")?;
                Ok(Prepared { request: Request::Soap { version: *version, body }, version: credentials, secrets })
            }
            Auth::Password { username, password, token, consumer_key, consumer_secret, .. } => {
                let mut secrets = self.read_password(reads, password, token.as_ref()).await?;
                let password = password_at(host, &secrets)?;
                let secret = self.read_credential(reads, uses::CONSUMER_SECRET, consumer_secret).await?;
                let shown = exposed(&secret, host)?;
                let parameters = [
                    ("client_id", consumer_key.as_str()),
                    ("client_secret", shown),
                    ("username", username),
                    ("password", &password),
                ];
                let body = Flow::Password.request(&parameters);
                let version = self.credentials(username, &password, shown)?;
                secrets.push(secret);
                Ok(Prepared { request: Request::OAuth { flow: Flow::Password, body }, version, secrets })
            }
            Auth::Jwt { username, consumer_key, private_key, .. } => {
                let key = self.read_credential(reads, uses::PRIVATE_KEY, private_key).await?;
                let shown = exposed(&key, host)?;
                let audience = format!("https://{host}");
                let mut assertion = jwt::assertion(shown, consumer_key, username, &audience, now())
                    .map_err(|problem| malformed(uses::PRIVATE_KEY, private_key, &problem.to_string()))?;
                let assertion = self.secrets.redactor().watch(SecretValue::new(std::mem::take(&mut assertion)));
                let body = Flow::Jwt.request(&[("assertion", assertion.expose())]);
                let version = self.credentials(username, shown, consumer_key)?;
                Ok(Prepared { request: Request::OAuth { flow: Flow::Jwt, body }, version, secrets: vec![key] })
            }
            Auth::ClientCredentials { consumer_key, consumer_secret, .. } => {
                let secret = self.read_credential(reads, uses::CONSUMER_SECRET, consumer_secret).await?;
                let shown = exposed(&secret, host)?;
                let flow = Flow::ClientCredentials;
                let body = flow.request(&[("client_id", consumer_key), ("client_secret", shown)]);
                let version = self.credentials(consumer_key, shown, "")?;
                Ok(Prepared { request: Request::OAuth { flow, body }, version, secrets: vec![secret] })
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

    /// Ties a granted credential to the host that it is for, if that is a host that it and what it was got for may go to.
    fn bind(
        &self,
        login: &Http,
        link: &Link,
        parents: &[BoundSecret],
        granted: Granted,
    ) -> Result<Session, SourceError> {
        let granted = Granted { token: self.secrets.redactor().watch(granted.token), ..granted };
        let host = self
            .local
            .hosts
            .session_host(&granted.address)
            .map_err(|refused| SourceError::new(Reason::SourceProtocol, format!("{}: {refused}", login.host())))?;
        let Granted { token, organization, organization_id, user_id, language, .. } = granted;
        let token = BoundSecret::derive(token, &parents.iter().collect::<Vec<_>>());
        exposed(&token, &host)?;
        let http = if login.host() == &host {
            login.clone()
        } else if !login.host().is_listed() && !host.is_listed() {
            login.at(host)
        } else {
            self.open(&host, link)?
        };
        let identity = identity(organization_id.as_deref(), user_id.as_deref(), language.as_deref());
        Ok(Session { http, token, organization, identity })
    }

    async fn link(&self, reads: &mut Reads<'_>) -> Result<Link, SourceError> {
        let ca = match &self.ssl.ca {
            Some(reference) => Some(self.certificates(reads, uses::CA, reference).await?),
            None => None,
        };
        let identity = match &self.ssl.identity {
            Some((certificate, key)) => Some(self.identity(reads, certificate, key).await?),
            None => None,
        };
        let proxy = self.local.proxy.as_ref().and_then(|proxy| Some((proxy, proxy.password()?)));
        let proxy_password = match proxy {
            Some((proxy, reference)) => {
                Some(self.read(reads, uses::PROXY_PASSWORD, reference, &uses::at_proxy(proxy)).await?)
            }
            None => None,
        };
        Ok(Link { ca, identity, proxy_password })
    }

    async fn identity(
        &self,
        reads: &mut Reads<'_>,
        certificate: &SecretRef,
        key: &SecretRef,
    ) -> Result<(BoundSecret, BoundSecret), SourceError> {
        let host = self.auth.host();
        let chain = self.certificates(reads, uses::CERTIFICATE, certificate).await?;
        let private = self.read(reads, uses::KEY, key, &uses::at(Use::Tls, host)).await?;
        match PrivateKeyDer::from_pem_slice(exposed(&private, host)?.as_bytes()) {
            Ok(mut der) => der.zeroize(),
            Err(_none) => return Err(malformed(uses::KEY, key, "holds no PEM private key without a passphrase")),
        }
        Ok((chain, private))
    }

    /// Certificates, at least one.
    async fn certificates(
        &self,
        reads: &mut Reads<'_>,
        field: &str,
        reference: &SecretRef,
    ) -> Result<BoundSecret, SourceError> {
        let host = self.auth.host();
        let pem = self.read(reads, field, reference, &uses::at(Use::Tls, host)).await?;
        let parsed = Certificate::from_pem_bundle(exposed(&pem, host)?.as_bytes());
        if parsed.is_ok_and(|certificates| !certificates.is_empty()) {
            Ok(pem)
        } else {
            Err(malformed(field, reference, "holds no PEM certificate"))
        }
    }

    fn open(&self, host: &Host, link: &Link) -> Result<Http, SourceError> {
        let show = |secret| exposed(secret, host);
        let trust = match self.local.hosts.ca(host) {
            Some(own) => Trust::Only(own),
            None => Trust::System(link.ca.as_ref().map(show).transpose()?.map(str::as_bytes)),
        };
        let identity = match &link.identity {
            Some((chain, key)) => Some(ClientCertificate { chain: show(chain)?, key: show(key)? }),
            None => None,
        };
        let via = match &self.local.proxy {
            Some(proxy) => Via::Proxy {
                proxy,
                password: link
                    .proxy_password
                    .as_ref()
                    .map(|password| password.expose_to(proxy.host(), proxy.port()))
                    .transpose()
                    .map_err(not_permitted)?,
                exceptions: self.local.use_system_proxy,
            },
            None if self.local.use_system_proxy => Via::System,
            None => Via::Direct,
        };
        let vetting = Vetting {
            lookup: Arc::clone(&self.local.lookup),
            hosts: self.local.hosts.clone(),
            proxy: self.local.proxy.as_ref().map(|proxy| proxy.host().to_owned()),
            policy: Arc::clone(self.secrets.policy()),
        };
        let connection = Connection { trust, identity, via, vetting: &vetting };
        let (progress, quota) = (Arc::clone(self.progress), Arc::clone(self.quota));
        Http::new(host.clone(), &connection, self.local.call_timeout, progress, quota)
            .map_err(CallError::into_source_error)
    }

    /// The password and, behind it, the security token if there is one.
    async fn read_password(
        &self,
        reads: &mut Reads<'_>,
        password: &SecretRef,
        token: Option<&SecretRef>,
    ) -> Result<Vec<BoundSecret>, SourceError> {
        let mut secrets = vec![self.read_credential(reads, uses::PASSWORD, password).await?];
        if let Some(token) = token {
            secrets.push(self.read_credential(reads, uses::SECURITY_TOKEN, token).await?);
        }
        Ok(secrets)
    }

    async fn read_credential(
        &self,
        reads: &mut Reads<'_>,
        field: &str,
        reference: &SecretRef,
    ) -> Result<BoundSecret, SourceError> {
        self.read(reads, field, reference, &uses::at(uses::usage(self.auth), self.auth.host())).await
    }

    async fn read(
        &self,
        reads: &mut Reads<'_>,
        field: &str,
        reference: &SecretRef,
        purpose: &Purpose,
    ) -> Result<BoundSecret, SourceError> {
        let value = reads.read(reference, purpose).await.map_err(|error| unreadable(field, error))?;
        let text = value.expose_to(&purpose.host, purpose.port).map_err(not_permitted)?;
        // XML cannot hold them, and no password of Salesforce's has one: it is a line break of whoever stored it.
        if !PEM_FIELDS.contains(&field) && text.chars().any(char::is_control) {
            return Err(malformed(field, reference, "has a line break or another control character in it"));
        }
        Ok(value)
    }
}

/// The value, to be written to a host.
fn exposed<'a>(secret: &'a BoundSecret, host: &Host) -> Result<&'a str, SourceError> {
    secret.expose_to(host.name(), host.port()).map_err(not_permitted)
}

/// The password with the security token behind it, to be written to a host.
fn password_at(host: &Host, secrets: &[BoundSecret]) -> Result<Zeroizing<String>, SourceError> {
    let shown = |at: usize| secrets.get(at).map(|secret| exposed(secret, host)).transpose();
    Ok(with_token(shown(0)?.unwrap_or_default(), shown(1)?))
}

fn not_permitted(refused: NotPermitted) -> SourceError {
    CallError::from(refused).into_source_error()
}

/// The error of a secret that cannot be read. Its text travels; its cause stays in the local log.
fn unreadable(field: &str, error: SecretError) -> SourceError {
    SourceError::caused((&error).into(), format!("{field}: {}", error.public_text()), error)
}

fn malformed(field: &str, reference: &SecretRef, problem: &str) -> SourceError {
    SourceError::new(Reason::SecretMalformed, format!("{field}: secret {reference} {problem}"))
}

/// A session that somebody else has opened. Before its `!` stands the org's id.
fn existing(http: Http, token: BoundSecret) -> Result<Session, NotPermitted> {
    let shown = token.expose_to(http.host().name(), http.host().port())?;
    let organization_id = shown.split_once('!').map(|(id, _)| id);
    let organization_id = organization_id.filter(|id| matches!(id.len(), 15 | 18));
    let identity = identity(organization_id, None, None);
    Ok(Session { http, token, organization: None, identity })
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
