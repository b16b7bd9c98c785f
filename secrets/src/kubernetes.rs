//! Secrets of Kubernetes, asked of its API server.
//!
//! One request of one resource: a client library would bring watches, caches and a second way to do TLS for it.

mod client;
mod settings;

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::file::without_newline;
use crate::kind::Kind;
use crate::remote::{self, pick, unreachable};
use crate::{Read, ReadError, Redactor, SecretPath, SecretStore, SecretValue};
pub use settings::{KubernetesSettings, KubernetesSettingsError};

/// Reads `secret:/namespace/name#key` from the key of the Secret `name` in `namespace`; without `#key` from its only
/// key, else `value`. One newline at the end is cut, as from the same Secret mounted as a file.
///
/// Nothing is kept between reads: the token and the CA, which Kubernetes replaces while a pod runs, are read each time.
#[derive(Debug)]
pub struct KubernetesStore {
    settings: KubernetesSettings,
    redactor: Redactor,
}

pub(crate) const KIND: Kind = Kind {
    name: "kubernetes",
    form: "kubernetes",
    open: |argument| {
        if argument.is_some() {
            return Err("takes nothing behind it; write kubernetes, in a pod".to_owned());
        }
        let settings = KubernetesSettings::of_pod().map_err(|error| format!("has no address: {}", error.problem))?;
        Ok(Box::new(KubernetesStore::new(settings)))
    },
};

impl KubernetesStore {
    /// A store at the API server that the settings describe. Nothing is sent or read before the first secret is.
    #[must_use]
    pub fn new(settings: KubernetesSettings) -> Self {
        Self { settings, redactor: Redactor::default() }
    }

    fn token_that_counts(&self) -> String {
        let file = self.settings.token_file.display();
        format!("a token that the API server accepts, which the one in the file {file} is not")
    }
}

#[async_trait]
impl SecretStore for KubernetesStore {
    fn kind(&self) -> &'static str {
        "kubernetes"
    }

    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        let [namespace, name] = path.segments() else {
            return Err(ReadError::Unusable("names no Secret of Kubernetes; write secret:/NAMESPACE/NAME#KEY"));
        };
        if !is_name(namespace) || !is_name(name) {
            let problem = "has a namespace or name that Kubernetes has not: small letters, digits, - and . in the name";
            return Err(ReadError::Unusable(problem));
        }
        let token = remote::read_credential(&self.settings.token_file).await?;
        let _watched = self.redactor.watch_text(&token);
        let secret = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let answer = client::get(&self.settings, &token, &secret).await?;
        match answer.status().as_u16() {
            200 => {}
            401 => return Err(ReadError::Denied(self.token_that_counts())),
            403 => return Err(ReadError::Denied(format!("get on secrets/{name} in namespace {namespace}"))),
            404 => return Err(ReadError::NotFound),
            429 => return Err(ReadError::Throttled),
            status @ 300..=399 => {
                return Err(unreachable(&format!("it answered {status}, a redirect, which is never followed")));
            }
            status => return Err(unreachable(&format!("it answered with status {status}"))),
        }
        value(&client::body(answer).await?, path.key())
    }

    /// Every account may list the API's versions; whom the API server does not know it answers 401.
    async fn look(&self) -> Result<String, ReadError> {
        let token = remote::read_credential(&self.settings.token_file).await?;
        let _watched = self.redactor.watch_text(&token);
        match client::get(&self.settings, &token, "/api").await?.status().as_u16() {
            200 | 403 => Ok("the API server accepts the token".to_owned()),
            401 => Err(ReadError::Denied(self.token_that_counts())),
            429 => Err(ReadError::Throttled),
            status => Err(unreachable(&format!("it answered with status {status}"))),
        }
    }

    fn watch_with(&mut self, redactor: &Redactor) {
        self.redactor = redactor.clone();
    }
}

/// Whether a segment can stand in the request's path as it is, and be a name there (RFC 1123 subdomain).
fn is_name(text: &str) -> bool {
    let is_outer = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    is_outer(bytes.first())
        && is_outer(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(byte))
}

#[derive(Deserialize)]
struct Secret<'a> {
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, borrow)]
    data: Option<BTreeMap<String, &'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    resource_version: Option<String>,
}

/// The value of a key in a Secret as the API server writes it. Only that one is copied and decoded.
fn value(answer: &[u8], key: Option<&str>) -> Result<Read, ReadError> {
    let secret = serde_json::from_slice::<Secret<'_>>(answer).ok().filter(|secret| secret.kind == "Secret");
    let Secret { metadata, data, .. } = secret.ok_or_else(|| unreachable("it answered what Kubernetes does not"))?;
    let encoded = pick(data.unwrap_or_default(), key)?;
    let undecodable = || unreachable("it answered a value that is not in base64");
    let encoded = serde_json::from_str(encoded.get()).map(Zeroizing::<String>::new).ok().ok_or_else(undecodable)?;
    let bytes = STANDARD.decode(encoded.as_bytes()).map(Zeroizing::new).ok().ok_or_else(undecodable)?;
    let text = str::from_utf8(&bytes).ok().ok_or(ReadError::NotText)?;
    let text = without_newline(text);
    if text.len() > SecretValue::MAX {
        return Err(ReadError::TooLarge);
    }
    let value = SecretValue::new(text.to_owned());
    Ok(Read { value, version: metadata.resource_version.map(|version| format!("resource version {version}")) })
}
