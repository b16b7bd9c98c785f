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
use crate::ReadError;
use crate::remote::{self, unreachable};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take; a read with its login is bounded by [`crate::Stores::READ_TIMEOUT`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// The server, and the way to it: made at the first read, as it needs the process's crypto provider, and again when the
/// files of the client certificate have changed.
pub(super) struct Server {
    settings: VaultSettings,
    current: Mutex<Option<Arc<Api>>>,
}

impl Server {
    pub(super) fn new(settings: VaultSettings) -> Self {
        Self { settings, current: Mutex::new(None) }
    }

    pub(super) async fn api(&self) -> Result<Arc<Api>, ReadError> {
        let identity = match &self.settings.client_certificate {
            Some((certificate, key)) => Some(Identity::read(certificate, key).await?),
            None => None,
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(api) = current.as_ref().filter(|api| api.identity == identity) {
            return Ok(Arc::clone(api));
        }
        let http = http(&self.settings, identity.as_ref())?;
        Ok(Arc::clone(current.insert(Arc::new(Api { http, settings: self.settings.clone(), identity }))))
    }
}

/// A client certificate with its key, both in PEM.
#[derive(PartialEq, Eq)]
struct Identity(Zeroizing<Vec<u8>>);

impl Identity {
    async fn read(certificate: &Path, key: &Path) -> Result<Self, ReadError> {
        let mut pem = Zeroizing::new(Vec::new());
        for file in [certificate, key] {
            let part = tokio::fs::read(file).await.map(Zeroizing::new).map_err(|error| {
                ReadError::Denied(format!("a client certificate, whose file {} is not read ({error})", file.display()))
            })?;
            // One buffer of the full size: one that grows would leave its earlier copy behind.
            let mut both = Zeroizing::new(Vec::with_capacity(pem.len() + part.len() + 1));
            both.extend_from_slice(&pem);
            both.extend_from_slice(&part);
            both.push(b'\n');
            pem = both;
        }
        Ok(Self(pem))
    }

    fn usable(&self) -> Result<reqwest::Identity, ReadError> {
        reqwest::Identity::from_pem(&self.0).map_err(|_cause| {
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
