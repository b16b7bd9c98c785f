//! The store's token: obtained once, renewed at two thirds of its life, replaced when it is refused.
//!
//! There is no task for it. A token that is due is renewed by the next read; one that ran out while nothing was read is
//! replaced by a new login.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use vaultrs::api::AuthInfo;
use vaultrs::auth::{approle, kubernetes};
use zeroize::Zeroizing;

use super::VaultAuth;
use super::client::{self, Api};
use crate::redact::Watched;
use crate::{ReadError, Redactor};

/// A token and how long it lives.
pub(super) struct StoreToken {
    pub(super) value: Zeroizing<String>,
    /// `None`: it does not run out, or does not say.
    lease: Option<Lease>,
    watched: Option<Watched>,
}

#[derive(Clone, Copy)]
struct Lease {
    renewable: bool,
    /// What the login granted. A renewal that grants much less is at the end of what is ever granted.
    granted: Duration,
    renew_at: Instant,
    ends_at: Instant,
}

pub(super) struct Session {
    auth: VaultAuth,
    redactor: Redactor,
    /// One login or renewal at a time; who waits takes what it brought.
    gate: Semaphore,
    current: Mutex<Option<Arc<StoreToken>>>,
}

impl Session {
    pub(super) fn new(auth: VaultAuth) -> Self {
        Self { auth, redactor: Redactor::default(), gate: Semaphore::new(1), current: Mutex::new(None) }
    }

    /// Tokens, and what they are obtained with, are watched by this redactor from now on.
    pub(super) fn watch_with(&mut self, redactor: &Redactor) {
        self.redactor = redactor.clone();
    }

    /// The token that is held, in whatever state.
    pub(super) fn current(&self) -> Option<Arc<StoreToken>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A token to read with, other than one that the server `refused`. Where tokens are given and not granted it may be
    /// the same value again.
    pub(super) async fn token(
        &self,
        api: &Api,
        refused: Option<&Arc<StoreToken>>,
    ) -> Result<Arc<StoreToken>, ReadError> {
        let given = self.given().await?;
        let usable = |token: &Arc<StoreToken>| {
            given.as_ref().is_none_or(|given| *given == token.value)
                && refused.is_none_or(|refused| !Arc::ptr_eq(refused, token))
        };
        let fresh = || self.current().filter(&usable).filter(|token| !token.is_due());
        if let Some(token) = fresh() {
            return Ok(token);
        }
        let _permit = self.gate.acquire().await.map_err(|closed| ReadError::Unreachable(closed.into()))?;
        if let Some(token) = fresh() {
            return Ok(token);
        }
        let mut token = match self.current().filter(&usable).filter(|token| !token.has_ended()) {
            Some(due) => match self.renewed(api, &due).await {
                Some(renewed) => renewed,
                None => match self.log_in(api, given).await {
                    Ok(token) => token,
                    // The old one is good for a while; the next read tries again.
                    Err(ReadError::Unreachable(_) | ReadError::Throttled) => return Ok(due),
                    Err(error) => return Err(error),
                },
            },
            None => self.log_in(api, given).await?,
        };
        token.watched = self.redactor.watch_text(&token.value);
        let token = Arc::new(token);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        Ok(token)
    }

    /// The token itself, where one is configured.
    async fn given(&self) -> Result<Option<Zeroizing<String>>, ReadError> {
        match &self.auth {
            VaultAuth::TokenVariable => {
                #[expect(clippy::disallowed_methods, reason = "the variable is the store's configuration here")]
                let token = std::env::var("VAULT_TOKEN").map(Zeroizing::new).unwrap_or_default();
                credential(&token).map(Some).ok_or_else(|| ReadError::Denied("a token in VAULT_TOKEN".to_owned()))
            }
            VaultAuth::TokenFile(file) => read_credential(file).await.map(Some),
            VaultAuth::AppRole { .. } | VaultAuth::Kubernetes { .. } => Ok(None),
        }
    }

    async fn log_in(&self, api: &Api, given: Option<Zeroizing<String>>) -> Result<StoreToken, ReadError> {
        let anonymous = api.client("");
        let (granted, mount) = match (&self.auth, given) {
            (_, Some(given)) => return Ok(looked_up(api, given).await),
            (VaultAuth::AppRole { role_id, secret_id_file, mount }, None) => {
                let secret_id = read_credential(secret_id_file).await?;
                let _watched = self.redactor.watch_text(&secret_id);
                (approle::login(&anonymous, mount, role_id, &secret_id).await, mount)
            }
            (VaultAuth::Kubernetes { role, token_file, mount }, None) => {
                let token = read_credential(token_file).await?;
                let _watched = self.redactor.watch_text(&token);
                (kubernetes::login(&anonymous, mount, role, &token).await, mount)
            }
            (VaultAuth::TokenVariable | VaultAuth::TokenFile(_), None) => {
                return Err(client::unreachable("no token is configured"));
            }
        };
        match granted {
            Ok(granted) => StoreToken::granted(granted, None),
            Err(error) => Err(match client::status(&error) {
                // Neither says what of it is wrong; the server's own log does.
                Some(400 | 401 | 403 | 404) => {
                    ReadError::Denied(format!("a login at auth/{mount}/login, which was refused"))
                }
                _ => client::read_error(&anonymous, error).await,
            }),
        }
    }

    /// `None`: it cannot be renewed, or not for long.
    async fn renewed(&self, api: &Api, due: &StoreToken) -> Option<StoreToken> {
        let lease = due.lease.filter(|lease| lease.renewable)?;
        let granted = vaultrs::token::renew_self(&api.client(&due.value), None).await.ok()?;
        let renewed = StoreToken::granted(granted, Some(lease.granted)).ok()?;
        let left = renewed.lease.map_or(Duration::MAX, |lease| lease.ends_at.duration_since(Instant::now()));
        (left >= lease.granted / 2).then_some(renewed)
    }
}

impl StoreToken {
    fn granted(granted: AuthInfo, first: Option<Duration>) -> Result<Self, ReadError> {
        let AuthInfo { client_token, lease_duration, renewable, .. } = granted;
        let client_token = Zeroizing::new(client_token);
        let value =
            credential(&client_token).ok_or_else(|| client::unreachable("it granted a login without a token"))?;
        Ok(Self { value, lease: Lease::new(Duration::from_secs(lease_duration), renewable, first), watched: None })
    }

    fn is_due(&self) -> bool {
        self.lease.is_some_and(|lease| Instant::now() >= lease.renew_at)
    }

    fn has_ended(&self) -> bool {
        self.lease.is_some_and(|lease| Instant::now() >= lease.ends_at)
    }
}

impl Lease {
    /// Due at two thirds of its life, give or take a twentieth of it, so that agents that were started together do not
    /// renew together.
    fn new(life: Duration, renewable: bool, first: Option<Duration>) -> Option<Self> {
        if life.is_zero() {
            return None;
        }
        let now = Instant::now();
        let renew_at = now + life.mul_f64(2.0 / 3.0 + (fastrand::f64() - 0.5) / 10.0);
        Some(Self { renewable, granted: first.unwrap_or(life), renew_at, ends_at: now + life })
    }
}

/// A given token, with the life that the server says it has. A token that may not ask is used as if it had no end.
async fn looked_up(api: &Api, value: Zeroizing<String>) -> StoreToken {
    let lease = match vaultrs::token::lookup_self(&api.client(&value)).await {
        Ok(found) => {
            drop(Zeroizing::new(found.id));
            // Beyond its end it is still tried: only the server knows.
            Lease::new(Duration::from_secs(found.ttl), found.renewable.unwrap_or(false), None)
        }
        Err(_) => None,
    };
    StoreToken { value, lease, watched: None }
}

async fn read_credential(file: &Path) -> Result<Zeroizing<String>, ReadError> {
    let shown = file.display();
    let bytes = tokio::fs::read(file).await.map(Zeroizing::new);
    let bytes = bytes.map_err(|error| ReadError::Denied(format!("a credential in the file {shown} ({error})")))?;
    str::from_utf8(&bytes)
        .ok()
        .and_then(credential)
        .ok_or_else(|| ReadError::Denied(format!("a credential of one line in the file {shown}")))
}

/// Without the white space around it, as editors and `echo` leave it. vaultrs panics over what no header can hold.
fn credential(text: &str) -> Option<Zeroizing<String>> {
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Zeroizing::new(text.to_owned()))
}
