//! One request to the API server, with what Kubernetes writes for a pod read anew.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, Response};
use zeroize::Zeroizing;

use super::KubernetesSettings;
use crate::ReadError;

/// A connection is up within this. The API server is in the same network and answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One request, so that there is time for a second try within [`crate::Stores::READ_TIMEOUT`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer: 1 MiB of values, which is what a Secret holds, in base64, and its annotations and history.
const ANSWER_LIMIT: usize = 3 * 1024 * 1024;

pub(super) async fn get(settings: &KubernetesSettings, path: &str) -> Result<Response, ReadError> {
    let token = read_token(&settings.token_file).await?;
    let bearer = Zeroizing::new(format!("Bearer {}", *token));
    let mut bearer = HeaderValue::try_from(bearer.as_str()).map_err(|error| ReadError::Unreachable(error.into()))?;
    bearer.set_sensitive(true);
    let mut url = settings.address.clone();
    url.set_path(path);
    let request = client(settings).await?.get(url).header(ACCEPT, "application/json").header(AUTHORIZATION, bearer);
    request.send().await.map_err(|error| ReadError::Unreachable(error.into()))
}

/// Without the white space around it, as editors and `echo` leave it.
async fn read_token(file: &Path) -> Result<Zeroizing<String>, ReadError> {
    let shown = file.display();
    let bytes = tokio::fs::read(file).await.map(Zeroizing::new);
    let bytes = bytes.map_err(|error| ReadError::Denied(format!("a token in the file {shown} ({error})")))?;
    let text = str::from_utf8(&bytes).unwrap_or_default().trim();
    // What no header can hold.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ReadError::Denied(format!("a token of one line in the file {shown}")));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// A client for one request: which certificates vouch for the server may change while a pod runs.
async fn client(settings: &KubernetesSettings) -> Result<Client, ReadError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(unreachable("no rustls crypto provider is installed"));
    }
    let mut trusted = Vec::new();
    // In the clear, which is on this machine, nobody is vouched for.
    if settings.address.scheme() == "https" {
        let shown = settings.ca.display();
        let pem = tokio::fs::read(&settings.ca).await;
        let pem = pem.map_err(|error| unreachable(&format!("its CA file {shown}: {error}")))?;
        trusted = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if trusted.is_empty() {
            return Err(unreachable(&format!("its CA file {shown} holds no PEM certificate")));
        }
    }
    Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .no_gzip()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .user_agent(concat!("hybrid-runner/", env!("CARGO_PKG_VERSION")))
        .tls_certs_only(trusted)
        .build()
        .map_err(|error| ReadError::Unreachable(error.into()))
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

pub(super) fn unreachable(problem: &str) -> ReadError {
    ReadError::Unreachable(problem.into())
}
