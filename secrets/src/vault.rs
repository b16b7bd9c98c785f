//! Secrets in HashiCorp Vault and OpenBao, KV 1 and 2.

mod client;
mod entry;
mod login;
mod session;
mod settings;

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use vaultrs::client::VaultClient;
use vaultrs::error::ClientError;

use crate::{Read, ReadError, Redactor, SecretPath, SecretStore};
use client::Server;
use entry::{Entry, Mount};
use session::Session;
pub use settings::{KvVersion, VaultAuth, VaultSettings, VaultSettingsError};

/// Reads `secret:/a/b#key` from the entry `a/b` of one mount; without `#key` the entry's only key, else `value`.
///
/// The token of a login is kept and used for all reads; entries are kept nowhere.
pub struct VaultStore {
    settings: VaultSettings,
    server: Server,
    session: Session,
    /// What the server said of the mount, asked once.
    version: OnceLock<KvVersion>,
}

impl VaultStore {
    /// A store at the place that the settings describe. Nothing is sent before the first read.
    #[must_use]
    pub fn new(settings: VaultSettings) -> Self {
        let (server, session) = (Server::new(settings.clone()), Session::new(settings.auth.clone()));
        Self { settings, server, session, version: OnceLock::new() }
    }

    async fn entry(&self, client: &VaultClient, path: &str) -> Result<Entry, Refusal> {
        let version = self.version(client).await?;
        let mount = self.settings.mount.as_str();
        let (read, asked) = match version {
            KvVersion::V1 => (Entry::unversioned(client, mount, path).await, format!("{mount}/{path}")),
            KvVersion::V2 => (Entry::newest(client, mount, path).await, format!("{mount}/data/{path}")),
        };
        match read {
            Ok(entry) => Ok(entry),
            Err(error) => Err(Refusal::of(client, error, || format!("read on {asked}")).await),
        }
    }

    async fn version(&self, client: &VaultClient) -> Result<KvVersion, Refusal> {
        if let Some(version) = self.settings.kv_version.or_else(|| self.version.get().copied()) {
            return Ok(version);
        }
        let mount = &self.settings.mount;
        match Mount::of(client, mount).await {
            Ok(found) => {
                let unusable = ReadError::Unusable("is in a mount that is no KV store; set the mount of one");
                let version = found.version().ok_or(Refusal::Other(unusable))?;
                Ok(*self.version.get_or_init(|| version))
            }
            Err(error) => {
                let needs = || format!("any capability below {mount}/, if that mount exists (or set kv_version)");
                Err(Refusal::of(client, error, needs).await)
            }
        }
    }
}

pub(crate) const KIND: crate::kind::Kind = crate::kind::Kind {
    name: "vault",
    form: "vault",
    open: |argument| {
        if argument.is_some() {
            return Err("takes nothing behind it; \
                        write vault, and the rest into VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_CACERT, VAULT_CLIENT_CERT and VAULT_CLIENT_KEY"
                .to_owned());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "these variables are the store's configuration, as every client's of it"
        )]
        let settings = VaultSettings::from_variables(|name| std::env::var(name).ok());
        let settings = settings.map_err(|error| format!("needs {}, which {}", error.field, error.problem))?;
        Ok(Box::new(VaultStore::new(settings)))
    },
};

#[async_trait]
impl SecretStore for VaultStore {
    fn kind(&self) -> &'static str {
        "vault"
    }

    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        let api = &*self.server.api().await?;
        let place =
            self.settings.prefix.iter().chain(path.segments()).map(String::as_str).collect::<Vec<_>>().join("/");
        let before = self.session.current();
        let token = self.session.token(api, None).await?;
        let entry = match self.entry(&api.client(&token.value), &place).await {
            // 403 is also the answer to a token that was revoked or has run out; not to one that is new.
            Err(Refusal::Denied(denied)) if before.is_some_and(|before| Arc::ptr_eq(&before, &token)) => {
                let next = self.session.token(api, Some(&token)).await?;
                if next.value == token.value {
                    return Err(denied);
                }
                self.entry(&api.client(&next.value), &place).await
            }
            other => other,
        };
        entry.map_err(Refusal::into_error)?.read(path.key())
    }

    async fn look(&self) -> Result<String, ReadError> {
        let api = &*self.server.api().await?;
        let token = self.session.token(api, None).await?;
        let client = api.client(&token.value);
        let (mount, lives) = (&self.settings.mount, session::lives(&client).await?);
        // Who may not ask about the mount sets `kv_version`, and is not asked for it here either.
        if let (Some(lives), Some(_)) = (&lives, self.settings.kv_version) {
            return Ok(format!("the token is accepted ({lives})"));
        }
        let version = match Mount::of(&client, mount).await {
            Ok(found) => {
                found.version().ok_or(ReadError::Unusable("the mount is no KV store; set the mount of one"))?
            }
            Err(error) => {
                // 403 is the answer to a token that is none, too.
                let needs = match &lives {
                    Some(_) => format!("any capability below {mount}/, if that mount exists"),
                    None => format!("a token that is accepted and has any capability below {mount}/"),
                };
                return Err(Refusal::of(&client, error, || needs).await.into_error());
            }
        };
        let lives = lives.unwrap_or_else(|| "its life is not shown to it".to_owned());
        let version = match version {
            KvVersion::V1 => 1,
            KvVersion::V2 => 2,
        };
        Ok(format!("the token is accepted ({lives}); the mount {mount} is KV {version}"))
    }

    fn watch_with(&mut self, redactor: &Redactor) {
        self.session.watch_with(redactor);
        self.server.watch_with(redactor);
    }
}

/// What is configured; the token is left out.
impl fmt::Debug for VaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultStore").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Why a request has no answer: 403 apart, after which another token may have one.
enum Refusal {
    Denied(ReadError),
    Other(ReadError),
}

impl Refusal {
    async fn of(client: &VaultClient, error: ClientError, needs: impl FnOnce() -> String) -> Self {
        match client::status(&error) {
            Some(403) => Self::Denied(ReadError::Denied(needs())),
            _ => Self::Other(client::read_error(client, error).await),
        }
    }

    fn into_error(self) -> ReadError {
        match self {
            Self::Denied(error) | Self::Other(error) => error,
        }
    }
}
