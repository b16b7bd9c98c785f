//! Logging in: secrets are read here, sent to the login host, and gone when the session is there.
//!
//! A rejected login ends the run, unless the store holds other credentials by then: they were rotated between being read
//! and being used. What was rejected is never repeated: Salesforce counts it towards a lock-out. What is repeated is only
//! what was turned away before a password was looked at ([`Retry::LOGIN`]). Across runs the [`guard`] bounds it.

mod guard;
mod jwt;
mod login;
mod oauth;
#[cfg(test)]
mod recorded;
mod soap;
mod uses;

use std::sync::Arc;

use bytes::Bytes;
use hybrid_runner_connector::{Reason, SourceError};
use hybrid_runner_secrets::{BoundSecret, SecretValue};
use reqwest::header::HeaderValue;
use tracing::debug;
use zeroize::Zeroizing;

use crate::host::Host;
use crate::http::{Answer, Attempts, Call, CallError, ErrorCode, Http, Retry};

pub use guard::LoginGuard;
pub(crate) use login::Login;
pub(crate) use uses::secrets;

/// The largest answer to a login, in bytes; a real one is 2 KiB.
const MAX_ANSWER: usize = 1024 * 1024;

#[cfg(fuzzing)]
pub(crate) use self::{oauth::fuzz as fuzz_token, soap::fuzz as fuzz_soap};

/// Who may read the org: a session id or access token, for the host that the login named for it.
pub(crate) struct Session {
    http: Http,
    /// Bound as the credentials are that it was got for.
    token: BoundSecret,
    /// What Salesforce calls the org; for people.
    pub(crate) organization: Option<String>,
    /// See [`Session::identity`].
    identity: String,
}

impl Session {
    /// The host that the session is for.
    pub(crate) fn host(&self) -> &Host {
        self.http.host()
    }

    /// Who reads: ids of org and user, and the user's language, as far as the login said them. Equal texts mean the same reader; a user that is not
    /// known equals no other.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Sends a request with the session's credential. It goes to the session's host: there is no way to name another.
    pub(crate) async fn call(&self, call: Call<'_>, retry: &Retry) -> Result<Answer, CallError> {
        self.http.call(self.authorized(call)?, retry).await
    }

    /// The same, for an answer that is read piece by piece.
    pub(crate) fn attempts<'a>(&'a self, call: Call<'a>, retry: &'a Retry) -> Result<Attempts<'a>, CallError> {
        Ok(self.http.attempts(self.authorized(call)?, retry))
    }

    fn authorized<'a>(&self, call: Call<'a>) -> Result<Call<'a>, CallError> {
        let token = self.token.expose_to(self.host().name(), self.host().port())?;
        // Zeroed when the request is gone; a session id is good for hours.
        let bearer = Zeroizing::new(format!("Bearer {token}").into_bytes());
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(bearer)).map_err(|_invalid| {
            CallError::Protocol { host: self.host().clone(), problem: "holds a session id that is no header value" }
        })?;
        Ok(call.with_authorization(value))
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
        debug!(host = %session.host(), reader = session.identity(), "logged in");
        Ok(Self { login, session, logins: 1, accepted: false })
    }

    /// The session to use now.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Where the login ended, for people.
    pub(crate) fn description(&self) -> String {
        let org = self.session.organization.as_ref().map_or_else(String::new, |name| format!(" (org {name})"));
        let how = if self.login.can_repeat() { "logged in to" } else { "with the existing session of" };
        format!("{how} {}{org}", self.session.host())
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
        let detail = if !self.login.can_repeat() {
            "the session of connectionArguments.session_id is not accepted, or not any more, and an existing session cannot \
             be renewed: give a new one, or use OAuth client credentials or JWT bearer"
        } else if self.logins > 1 && !self.accepted {
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

/// What a login answered, of either kind.
struct Granted {
    address: String,
    token: SecretValue,
    organization: Option<String>,
    organization_id: Option<String>,
    user_id: Option<String>,
    language: Option<String>,
}

/// The password with the security token behind it, as Salesforce takes them.
fn with_token(password: &str, token: Option<&str>) -> Zeroizing<String> {
    let token = token.unwrap_or_default();
    let mut secret = Zeroizing::new(String::with_capacity(password.len() + token.len()));
    secret.push_str(password);
    secret.push_str(token);
    secret
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
