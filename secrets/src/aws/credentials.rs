//! The credentials of the chain, watched for as long as they are used.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

use crate::redact::Watched;
use crate::{Redactor, remote};

/// What the chain shows to whoever grants credentials: files with a token, and a variable with one. (EKS: IRSA and Pod
/// Identity; ECS.) A file that only a profile names is not among them.
const TOKEN_FILES: [&str; 2] = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"];
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";

/// Provides what another one does, watched until it provides the next.
pub(super) struct WatchedCredentials {
    inner: SharedCredentialsProvider,
    redactor: Redactor,
    current: Mutex<Vec<Watched>>,
}

impl WatchedCredentials {
    pub(super) fn shared(inner: SharedCredentialsProvider, redactor: &Redactor) -> SharedCredentialsProvider {
        let (redactor, current) = (redactor.clone(), Mutex::default());
        SharedCredentialsProvider::new(Self { inner, redactor, current })
    }

    fn watched(&self, credentials: Credentials) -> Credentials {
        let secrets = [Some(credentials.secret_access_key()), credentials.session_token()];
        let watched = secrets.into_iter().flatten().filter_map(|secret| self.redactor.watch_text(secret)).collect();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = watched;
        credentials
    }
}

impl ProvideCredentials for WatchedCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            #[expect(clippy::disallowed_methods, reason = "these variables are the chain's own configuration")]
            let _tokens = tokens(&self.redactor, |name| std::env::var(name).ok()).await;
            self.inner.provide_credentials().await.map(|credentials| self.watched(credentials))
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.inner.fallback_on_interrupt().map(|credentials| self.watched(credentials))
    }
}

/// Watches what the chain is about to show. What cannot be read is left to the chain, which tells why.
async fn tokens(redactor: &Redactor, variable: impl Fn(&str) -> Option<String>) -> Vec<Watched> {
    let mut watched = Vec::new();
    for file in TOKEN_FILES.into_iter().filter_map(&variable) {
        if let Ok(token) = remote::read_credential(file.as_ref()).await {
            watched.extend(redactor.watch_text(&token));
        }
    }
    let token = variable(TOKEN).and_then(|token| remote::credential(&zeroize::Zeroizing::new(token)));
    watched.extend(token.and_then(|token| redactor.watch_text(&token)));
    watched
}

impl fmt::Debug for WatchedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedCredentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::tokens;
    use crate::Redactor;

    #[tokio::test]
    async fn the_tokens_that_the_chain_shows_are_watched_and_a_file_that_is_none_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (web, pod) = (file("web", "web.identity.token\n"), file("pod", "pod-identity-token"));
        let redactor = Redactor::default();
        let watched = tokens(&redactor, |name| match name {
            "AWS_WEB_IDENTITY_TOKEN_FILE" => Some(web.clone()),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" => Some(pod.clone()),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN" => Some("ecs-variable-token".to_owned()),
            _ => None,
        });
        assert_eq!(watched.await.len(), 3);
        for token in ["web.identity.token", "pod-identity-token", "ecs-variable-token"] {
            assert!(redactor.scan(token.as_bytes()), "{token}");
        }
        let absent = folder.path().join("absent").display().to_string();
        assert!(tokens(&redactor, |name| (name != super::TOKEN).then(|| absent.clone())).await.is_empty());
    }
}
