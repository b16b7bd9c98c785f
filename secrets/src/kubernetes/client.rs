//! One request to the API server, with the certificates that Kubernetes writes for a pod read anew.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Client, Response};
use zeroize::Zeroizing;

use super::KubernetesSettings;
use crate::ReadError;
use crate::remote::{self, unreachable};

/// A connection is up within this. The API server is in the same network and answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One request, so that there is time for a second try within [`crate::Stores::READ_TIMEOUT`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer: 1 MiB of values, which is what a Secret holds, in base64, and its annotations and history.
const ANSWER_LIMIT: usize = 3 * 1024 * 1024;

pub(super) async fn get(settings: &KubernetesSettings, token: &str, path: &str) -> Result<Response, ReadError> {
    let bearer = Zeroizing::new(format!("Bearer {token}"));
    let mut bearer = HeaderValue::try_from(bearer.as_str()).map_err(|error| ReadError::Unreachable(error.into()))?;
    bearer.set_sensitive(true);
    let mut url = settings.address.clone();
    url.set_path(path);
    let request = client(settings).await?.get(url).header(ACCEPT, "application/json").header(AUTHORIZATION, bearer);
    request.send().await.map_err(|error| ReadError::Unreachable(error.into()))
}

/// A client for one request: which certificates vouch for the server may change while a pod runs.
async fn client(settings: &KubernetesSettings) -> Result<Client, ReadError> {
    let builder = remote::client(CONNECT_TIMEOUT, REQUEST_TIMEOUT)?;
    let trusted = match settings.address.scheme() {
        "https" => {
            let shown = settings.ca.display();
            let pem = tokio::fs::read(&settings.ca).await;
            remote::certificates(&pem.map_err(|error| unreachable(&format!("its CA file {shown}: {error}")))?)?
        }
        // In the clear, which is on this machine, nobody is vouched for.
        _ => Vec::new(),
    };
    builder.tls_certs_only(trusted).build().map_err(|error| ReadError::Unreachable(error.into()))
}

pub(super) async fn body(mut answer: Response) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Of full size at once: a buffer that grows would leave its earlier copies behind.
    let length = answer.content_length().and_then(|length| usize::try_from(length).ok());
    let mut body = Zeroizing::new(Vec::with_capacity(length.unwrap_or(ANSWER_LIMIT).min(ANSWER_LIMIT)));
    while let Some(chunk) = answer.chunk().await.map_err(|error| ReadError::Unreachable(error.into()))? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(unreachable("it answered more than a Secret can hold"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
