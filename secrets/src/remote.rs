//! What stores behind HTTP have in common: address, client, the files with their credentials, entries with keys.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder};
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::ReadError;

/// The address of a store, such as `https://host:port`; plain HTTP to this machine only.
pub(crate) fn parse_address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok().ok_or("is not an address; accepted: https://host:port")?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("has no host; accepted: https://host:port"),
    };
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    match url.scheme() {
        _ if !is_bare => Err("has more than a host and a port; accepted: https://host:port"),
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err("is plain HTTP to another machine, which would show the token; accepted: https://host:port"),
        _ => Err("does not begin with https://; accepted: https://host:port"),
    }
}

/// A client that sends a token nowhere but where it is told to: it follows no redirect and uses no proxy.
pub(crate) fn client(connect_timeout: Duration, timeout: Duration) -> Result<ClientBuilder, ReadError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(unreachable("no rustls crypto provider is installed"));
    }
    Ok(Client::builder()
        .http1_only()
        // reqwest takes a token that is in a header of the store's own along to another host.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .no_gzip()
        .connect_timeout(connect_timeout)
        .timeout(timeout)
        .user_agent(concat!("hybrid-runner/", env!("CARGO_PKG_VERSION"))))
}

/// The certificates of a CA file (PEM), at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, ReadError> {
    let certificates = Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty());
    certificates.ok_or_else(|| unreachable("its CA file holds no PEM certificate"))
}

/// The credential of one line in a file.
pub(crate) async fn read_credential(file: &Path) -> Result<Zeroizing<String>, ReadError> {
    let shown = file.display();
    let bytes = tokio::fs::read(file).await.map(Zeroizing::new);
    let bytes = bytes.map_err(|error| ReadError::Denied(format!("a credential in the file {shown} ({error})")))?;
    str::from_utf8(&bytes)
        .ok()
        .and_then(credential)
        .ok_or_else(|| ReadError::Denied(format!("a credential of one line in the file {shown}")))
}

/// Without the white space around it, as editors and `echo` leave it; `None`: no header can hold it.
pub(crate) fn credential(text: &str) -> Option<Zeroizing<String>> {
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Zeroizing::new(text.to_owned()))
}

/// What an entry has at a key; without one at its only key, else at `value`.
pub(crate) fn pick<T>(mut entry: BTreeMap<String, T>, key: Option<&str>) -> Result<T, ReadError> {
    match key {
        Some(key) => entry.remove(key).ok_or(ReadError::KeyMissing),
        None if entry.len() <= 1 => entry.pop_first().map(|(_, field)| field).ok_or(ReadError::KeyMissing),
        None => entry.remove("value").ok_or(ReadError::Unusable(
            "has several keys and none of them is `value`; name the one that is meant behind `#`",
        )),
    }
}

pub(crate) fn unreachable(problem: &str) -> ReadError {
    ReadError::Unreachable(problem.into())
}
