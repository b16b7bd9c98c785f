//! Logging in: secrets are read here, sent to the login host, and gone when the session is there.
//!
//! A rejected login ends the run and is never repeated: Salesforce counts it towards a lock-out. What is repeated is
//! only what was turned away before a password was looked at ([`Retry::LOGIN`]).

mod oauth;
mod soap;

use std::sync::Arc;

use bytes::Bytes;
use hybrid_runner_connector::{Progress, Reason, SourceError};
use hybrid_runner_secrets::{SecretError, SecretRef, SecretValue, Stores};
use reqwest::header::HeaderValue;
use tracing::debug;
use zeroize::Zeroizing;

use crate::config::Auth;
use crate::host::{Host, HostPolicy};
use crate::http::{Answer, Call, CallError, ErrorCode, Http, Retry, Trust};
use crate::quota::Quota;

/// The largest answer to a login, in bytes; a real one is 2 KiB.
const MAX_ANSWER: usize = 1024 * 1024;

#[cfg(fuzzing)]
pub(crate) use self::{oauth::fuzz as fuzz_token, soap::fuzz as fuzz_soap};

/// Who may read the org: a session id or access token, bound to the host that the login named for it.
pub(crate) struct Session {
    http: Http,
    token: SecretValue,
    /// What Salesforce calls the org; for people.
    pub(crate) organization: Option<String>,
}

impl Session {
    /// Who reads, as far as the login says.
    pub(crate) fn identity(&self) -> &str {
        self.organization.as_deref().unwrap_or_default()
    }

    /// The host that the session is for.
    pub(crate) fn host(&self) -> &Host {
        self.http.host()
    }

    /// Sends a request with the session's credential. It goes to the session's host: there is no way to name another.
    pub(crate) async fn call(&self, call: Call<'_>, retry: &Retry) -> Result<Answer, CallError> {
        // Zeroed when the request is gone; a session id is good for hours.
        let bearer = Zeroizing::new(format!("Bearer {}", self.token.expose()).into_bytes());
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(bearer)).map_err(|_invalid| {
            CallError::Protocol { host: self.host().clone(), problem: "holds a session id that is no header value" }
        })?;
        self.http.call(&call.with_authorization(value), retry).await
    }
}

/// The session of a run, shared by all its calls, and its replacement when it expires.
///
/// Whoever runs the calls owns this, so there is one login at a time without a lock: a call that was rejected hands back
/// the session it used, and only the first one of a session causes a login.
pub(crate) struct Access<'a> {
    login: Login<'a>,
    session: Arc<Session>,
    logins: u32,
    /// Whether the session was accepted since it was granted.
    accepted: bool,
}

impl<'a> Access<'a> {
    /// The most logins of a run: one, and one for each time that a session expired. A session lasts two hours of
    /// idleness, so more mean that something ends them.
    const MAX_LOGINS: u32 = 5;

    /// Logs in.
    pub(crate) async fn open(login: Login<'a>) -> Result<Self, SourceError> {
        let session = Arc::new(login.log_in().await?);
        Ok(Self { login, session, logins: 1, accepted: false })
    }

    /// The session to use now.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Where the login ended, for people.
    pub(crate) fn description(&self) -> String {
        let org = self.session.organization.as_ref().map_or_else(String::new, |name| format!(" (org {name})"));
        format!("logged in to {}{org}", self.session.host())
    }

    /// A call with that session was answered.
    pub(crate) fn accepted(&mut self, session: &Arc<Session>) {
        self.accepted |= Arc::ptr_eq(&self.session, session);
    }

    /// A call with that session was rejected: replaces it, unless that was done already. A new session that is rejected
    /// before it was ever accepted ends the run.
    pub(crate) async fn renew(&mut self, session: &Arc<Session>, error: CallError) -> Result<(), SourceError> {
        if !Arc::ptr_eq(&self.session, session) {
            return Ok(());
        }
        let detail = if self.logins > 1 && !self.accepted {
            "Salesforce does not accept the session that it has just granted: check the session settings of the user's \
             profile (sessions locked to an IP address, high assurance)"
        } else if self.logins >= Self::MAX_LOGINS {
            "Salesforce ended the session five times in this run: check the user's session settings"
        } else {
            debug!(%error, "the session is not accepted any more, logging in again");
            self.session = Arc::new(self.login.log_in().await?);
            self.logins += 1;
            self.accepted = false;
            return Ok(());
        };
        Err(SourceError::caused(Reason::AuthFailed, detail, error))
    }
}

/// What a login needs beside the definition.
#[derive(Debug)]
pub(crate) struct Login<'a> {
    pub(crate) auth: &'a Auth,
    /// Certificates to trust in addition to the system's, as PEM.
    pub(crate) ca: Option<&'a SecretRef>,
    pub(crate) hosts: &'a HostPolicy,
    pub(crate) use_system_proxy: bool,
    pub(crate) secrets: &'a Stores,
    pub(crate) progress: &'a Arc<Progress>,
    pub(crate) quota: &'a Arc<Quota>,
}

/// What a login answered, of either kind.
struct Granted {
    address: String,
    token: SecretValue,
    organization: Option<String>,
}

impl Login<'_> {
    /// Reads the secrets, all of them before anything is sent, and logs in.
    pub(crate) async fn log_in(&self) -> Result<Session, SourceError> {
        let ca = match self.ca {
            Some(reference) => Some(self.read("sslConfig.caCertificate", reference).await?),
            None => None,
        };
        let ca = ca.as_ref().map(|pem| pem.expose().as_bytes());
        let (http, granted) = match self.auth {
            Auth::Soap { host, version, username, password, token } => {
                let password = self.read("password", password).await?;
                let token = match token {
                    Some(token) => Some(self.read("securityToken", token).await?),
                    None => None,
                };
                let body = soap::request(username, &password, token.as_ref())?;
                drop((password, token));
                let http = self.open(host, ca)?;
                let granted = soap::log_in(&http, *version, body).await?;
                (http, granted)
            }
            Auth::ClientCredentials { host, consumer_key, consumer_secret } => {
                let secret = self.read("consumerSecret", consumer_secret).await?;
                let body = oauth::request(consumer_key, &secret);
                drop(secret);
                let http = self.open(host, ca)?;
                let granted = oauth::log_in(&http, body).await?;
                (http, granted)
            }
        };
        self.bind(&http, ca, granted)
    }

    /// Ties a granted credential to the host that it is for, if that is a host it may go to.
    fn bind(&self, login: &Http, ca: Option<&[u8]>, granted: Granted) -> Result<Session, SourceError> {
        let host = self
            .hosts
            .session_host(&granted.address)
            .map_err(|refused| SourceError::new(Reason::SourceProtocol, format!("{}: {refused}", login.host())))?;
        let http = if login.host() == &host {
            login.clone()
        } else if !login.host().is_listed() && !host.is_listed() {
            login.at(host)
        } else {
            self.open(&host, ca)?
        };
        Ok(Session { http, token: granted.token, organization: granted.organization })
    }

    fn open(&self, host: &Host, ca: Option<&[u8]>) -> Result<Http, SourceError> {
        let trust = match self.hosts.ca(host) {
            Some(own) => Trust::Only(own),
            None => Trust::System(ca),
        };
        Http::new(host.clone(), trust, self.use_system_proxy, Arc::clone(self.progress), Arc::clone(self.quota))
            .map_err(CallError::into_source_error)
    }

    async fn read(&self, field: &str, reference: &SecretRef) -> Result<SecretValue, SourceError> {
        let value = self.secrets.read(reference).await.map_err(|error| {
            let reason = match &error {
                SecretError::UnknownStore { .. } | SecretError::NotFound { .. } | SecretError::Denied { .. } => {
                    Reason::SecretUnavailable
                }
                SecretError::Unusable { .. } => Reason::SecretMalformed,
                SecretError::Unreachable { .. } => Reason::SecretStoreUnreachable,
            };
            SourceError::caused(reason, format!("{field}: {error}"), error)
        })?;
        // XML cannot hold them, and no password of Salesforce's has one: it is a line break of whoever stored it.
        if field != "sslConfig.caCertificate" && value.expose().chars().any(char::is_control) {
            let detail = format!("{field}: secret {reference} has a line break or another control character in it");
            return Err(SourceError::new(Reason::SecretMalformed, detail));
        }
        Ok(value)
    }
}

/// The error of a login that Salesforce rejected.
fn rejected(host: &Host, code: &ErrorCode, reason: Reason, advice: &str) -> SourceError {
    SourceError::new(reason, format!("{host} rejects the login ({code}): {advice}"))
}

/// The error of an answer to a login that is none.
fn not_an_answer(host: &Host, problem: impl std::fmt::Display) -> SourceError {
    let detail = format!(
        "the answer of {host} to the login {problem}; check salesforceDomain, and that no proxy answers in Salesforce's \
         place"
    );
    SourceError::new(Reason::SourceProtocol, detail)
}
