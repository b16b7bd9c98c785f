//! The store's token: obtained once, renewed at two thirds of its life, replaced when it is refused.
//!
//! There is no task for it. A token that is due is renewed by the next read; one that ran out while nothing was read is
//! replaced by a new login.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use vaultrs::api::AuthInfo;
use vaultrs::client::VaultClient;
use vaultrs::error::ClientError;
use zeroize::Zeroizing;

use super::client::{self, Api};
use super::{VaultAuth, login};
use crate::redact::Watched;
use crate::{ReadError, Redactor, remote};

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
                let token = token_of(|name| std::env::var(name).ok());
                token.map(Some).ok_or_else(|| ReadError::Denied("a token in VAULT_TOKEN".to_owned()))
            }
            VaultAuth::TokenFile(file) => remote::read_credential(file).await.map(Some),
            VaultAuth::AppRole { .. }
            | VaultAuth::Kubernetes { .. }
            | VaultAuth::Jwt { .. }
            | VaultAuth::Certificate { .. } => Ok(None),
        }
    }

    async fn log_in(&self, api: &Api, given: Option<Zeroizing<String>>) -> Result<StoreToken, ReadError> {
        match given {
            Some(given) => Ok(looked_up(api, given).await),
            None => StoreToken::granted(login::log_in(&self.auth, api, &self.redactor).await?, None),
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
        let value = remote::credential(&client_token)
            .ok_or_else(|| remote::unreachable("it granted a login without a token"))?;
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

/// What the server says of the token of a client: seconds that it lives on, 0 for one without an end, and whether it can
/// be renewed.
async fn look_up(client: &VaultClient) -> Result<(u64, bool), ClientError> {
    let found = vaultrs::token::lookup_self(client).await?;
    // It is the token.
    drop(Zeroizing::new(found.id));
    Ok((found.ttl, found.renewable.unwrap_or(false)))
}

/// How long the token of a client lives, for people; `None`: it may not ask, or is no token.
pub(super) async fn lives(client: &VaultClient) -> Result<Option<String>, ReadError> {
    match look_up(client).await {
        Ok((0, _)) => Ok(Some("it does not expire".to_owned())),
        Ok((seconds @ ..7_200, _)) => Ok(Some(format!("for {} min more", seconds / 60))),
        Ok((seconds, _)) => Ok(Some(format!("for {} h more", seconds / 3_600))),
        Err(error) if client::status(&error) == Some(403) => Ok(None),
        Err(error) => Err(client::read_error(client, error).await),
    }
}

/// A given token, with the life that the server says it has. A token that may not ask is used as if it had no end.
async fn looked_up(api: &Api, value: Zeroizing<String>) -> StoreToken {
    let lease = match look_up(&api.client(&value)).await {
        // Beyond its end it is still tried: only the server knows.
        Ok((seconds, renewable)) => Lease::new(Duration::from_secs(seconds), renewable, None),
        Err(_) => None,
    };
    StoreToken { value, lease, watched: None }
}

/// The token of `BAO_TOKEN`, which is `OpenBao`'s name for it and counts there before Vault's, or of `VAULT_TOKEN`.
fn token_of(variable: impl Fn(&str) -> Option<String>) -> Option<Zeroizing<String>> {
    ["BAO_TOKEN", "VAULT_TOKEN"]
        .into_iter()
        .filter_map(variable)
        .map(Zeroizing::new)
        .find_map(|it| remote::credential(&it))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Lease, token_of};

    #[test]
    fn a_token_is_due_at_two_thirds_of_its_life_but_not_all_tokens_at_once() {
        let life = Duration::from_secs(6000);
        let due: Vec<_> = (0..100)
            .map(|_| Lease::new(life, true, None).unwrap().renew_at.duration_since(Instant::now()).as_secs())
            .collect();
        assert!(due.iter().all(|due| (3700..=4300).contains(due)), "{due:?}");
        assert!(due.iter().max().unwrap() - due.iter().min().unwrap() > 300, "{due:?}");
        assert!(Lease::new(Duration::ZERO, true, None).is_none(), "it does not run out");
    }

    #[test]
    fn the_variable_of_openbao_counts_before_that_of_vault() {
        let token = |variables: &[(&str, &str)]| {
            let value =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            token_of(value).map(|token| token.to_string())
        };
        assert_eq!(token(&[]), None);
        assert_eq!(token(&[("VAULT_TOKEN", "v")]).as_deref(), Some("v"));
        assert_eq!(token(&[("VAULT_TOKEN", "v"), ("BAO_TOKEN", "b")]).as_deref(), Some("b"));
        assert_eq!(token(&[("VAULT_TOKEN", "v"), ("BAO_TOKEN", " ")]).as_deref(), Some("v"), "empty is unset");
    }
}
