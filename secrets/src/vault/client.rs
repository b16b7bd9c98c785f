//! The client: ours inside vaultrs', which would follow redirects, read variables and trust what they say.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustify::clients::reqwest::Client as Transport;
use rustify::errors::ClientError as TransportError;
use vaultrs::api::EndpointMiddleware;
use vaultrs::client::{VaultClient, VaultClientSettings};
use vaultrs::error::ClientError;
use vaultrs::sys::ServerStatus;
use zeroize::Zeroizing;

use super::VaultSettings;
use crate::redact::Watched;
use crate::remote::{self, unreachable};
use crate::{ReadError, Redactor};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take; a read with its login is bounded by [`crate::Stores::READ_TIMEOUT`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// The server, and the way to it: made at the first read, as it needs the process's crypto provider, and again when the
/// files of the client certificate have changed.
pub(super) struct Server {
    settings: VaultSettings,
    redactor: Redactor,
    current: Mutex<Option<Arc<Api>>>,
}

impl Server {
    pub(super) fn new(settings: VaultSettings) -> Self {
        Self { settings, redactor: Redactor::default(), current: Mutex::new(None) }
    }

    /// The client's key is watched by this redactor from now on.
    pub(super) fn watch_with(&mut self, redactor: &Redactor) {
        self.redactor = redactor.clone();
    }

    pub(super) async fn api(&self) -> Result<Arc<Api>, ReadError> {
        let identity = match &self.settings.client_certificate {
            Some((certificate, key)) => Some(Identity::read(certificate, key, &self.redactor).await?),
            None => None,
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(api) = current
            .as_ref()
            .filter(|api| api.identity.as_ref().map(|it| &it.pem) == identity.as_ref().map(|it| &it.pem))
        {
            return Ok(Arc::clone(api));
        }
        let http = http(&self.settings, identity.as_ref())?;
        Ok(Arc::clone(current.insert(Arc::new(Api { http, settings: self.settings.clone(), identity }))))
    }
}

/// A client certificate with its key.
struct Identity {
    /// Both, in PEM.
    pem: Zeroizing<Vec<u8>>,
    /// The key.
    _watched: Option<Watched>,
}

impl Identity {
    async fn read(certificate: &Path, key: &Path, redactor: &Redactor) -> Result<Self, ReadError> {
        let (mut pem, mut watched) = (Zeroizing::new(Vec::new()), None);
        for file in [certificate, key] {
            let part = tokio::fs::read(file).await.map(Zeroizing::new).map_err(|error| {
                ReadError::Denied(format!("a client certificate, whose file {} is not read ({error})", file.display()))
            })?;
            // What counts is the key, which comes last; a certificate is no secret.
            watched = str::from_utf8(&part).ok().and_then(|part| redactor.watch_text(part));
            // One buffer of the full size: one that grows would leave its earlier copy behind.
            let mut both = Zeroizing::new(Vec::with_capacity(pem.len() + part.len() + 1));
            both.extend_from_slice(&pem);
            both.extend_from_slice(&part);
            both.push(b'\n');
            pem = both;
        }
        Ok(Self { pem, _watched: watched })
    }

    fn usable(&self) -> Result<reqwest::Identity, ReadError> {
        reqwest::Identity::from_pem(&self.pem).map_err(|_cause| {
            ReadError::Denied(
                "a client certificate and its private key in the two files for them, both in PEM".to_owned(),
            )
        })
    }
}

/// A way to the server.
pub(super) struct Api {
    http: reqwest::Client,
    settings: VaultSettings,
    identity: Option<Identity>,
}

impl Api {
    /// A client that shows a token; with an empty one it shows none.
    pub(super) fn client(&self, token: &str) -> VaultClient {
        let VaultSettings { address, namespace, .. } = &self.settings;
        VaultClient {
            http: Transport::new(address.as_str(), self.http.clone()),
            middle: EndpointMiddleware {
                token: token.to_owned(),
                version: "v1".to_owned(),
                wrap: None,
                namespace: namespace.clone(),
            },
            // Nothing of it is used but by vaultrs' own constructor; each field is given, so that no variable counts.
            settings: VaultClientSettings {
                address: address.clone(),
                ca_certs: Vec::new(),
                identity: None,
                timeout: None,
                token: String::new(),
                verify: true,
                version: 1,
                wrapping: false,
                namespace: None,
                proxy: None,
            },
        }
    }
}

fn http(settings: &VaultSettings, identity: Option<&Identity>) -> Result<reqwest::Client, ReadError> {
    let mut builder = remote::client(CONNECT_TIMEOUT, REQUEST_TIMEOUT)?;
    if let Some(pem) = &settings.ca {
        builder = builder.tls_certs_only(remote::certificates(pem)?);
    } else if settings.address.scheme() != "https" {
        // A machine without any authority's certificate can still be asked in the clear.
        builder = builder.tls_certs_only(Vec::new());
    }
    if let Some(identity) = identity {
        builder = builder.identity(identity.usable()?);
    }
    builder.build().map_err(|error| ReadError::Unreachable(error.into()))
}

/// The status that the server answered, when it refused.
pub(super) fn status(error: &ClientError) -> Option<u16> {
    match error {
        ClientError::APIError { code, .. }
        | ClientError::RestClientError { source: TransportError::ServerResponseError { code, .. } } => Some(*code),
        _ => None,
    }
}

/// What an error means other than that something is not permitted. Its text is left behind: it can hold an answer.
pub(super) async fn read_error(client: &VaultClient, error: ClientError) -> ReadError {
    match status(&error) {
        Some(404) => ReadError::NotFound,
        Some(429) => ReadError::Throttled,
        Some(503) if matches!(vaultrs::sys::status(client).await, Ok(ServerStatus::SEALED)) => ReadError::Sealed,
        Some(status @ 300..=399) => unreachable(&format!(
            "it answered {status}, a redirect, which is never followed; set the address of the active node or of a load balancer"
        )),
        Some(status) => unreachable(&format!("it answered with status {status}")),
        None => match error {
            ClientError::RestClientError {
                source: TransportError::RequestError { source, .. } | TransportError::ResponseError { source },
            } => ReadError::Unreachable(source.into()),
            _ => unreachable("it answered what Vault does not"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;
    use crate::Redactor;

    #[tokio::test]
    async fn the_key_of_the_client_is_watched_for_as_long_as_it_is_used_and_the_certificate_is_not() {
        let pair = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
        let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let folder = tempfile::tempdir().unwrap();
        let (certificate_file, key_file) = (folder.path().join("pem"), folder.path().join("key"));
        std::fs::write(&certificate_file, &certificate).unwrap();
        std::fs::write(&key_file, &key).unwrap();
        let redactor = Redactor::default();
        let identity = Identity::read(&certificate_file, &key_file, &redactor).await.unwrap();
        assert!(identity._watched.is_some() && identity.usable().is_ok());
        assert!(redactor.scan(key.lines().nth(1).unwrap().as_bytes()));
        assert!(!redactor.scan(certificate.as_bytes()));
    }
}
