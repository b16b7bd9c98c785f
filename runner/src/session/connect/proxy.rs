//! The tunnel through a proxy: `CONNECT`, in clear or in TLS.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hybrid_runner_secrets::{NotPermitted, Resolver, SecretError, SecretValue, Watched};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::bare;
use super::material::system_roots;
use crate::config::{Proxy, ProxyLogin};
use crate::dial::{Connection, Dial};

/// Bytes and headers of a proxy's answer; those of common ones have less than 1 KiB and 20.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;
/// What is read of it at once.
const CHUNK: usize = 1024;

/// A proxy opens no tunnel. Each sentence says what to do; the proxy's name stands before it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("its password ({setting}.password) cannot be read")]
    Password { setting: &'static str, source: SecretError },
    #[error("its password may not be sent there")]
    NotPermitted { source: NotPermitted },
    #[error("it cannot be reached; check {setting}, DNS and firewalls")]
    Network { setting: &'static str, source: io::Error },
    #[error(
        "TLS with it failed; is {setting} the address of a proxy that speaks TLS itself, and does the system trust its CA?"
    )]
    Tls { setting: &'static str, source: io::Error },
    #[error("it opened no tunnel within 10 s; look at the proxy, and whether it reaches the control plane")]
    Slow,
    #[error("it asks for a user name and a password (407); give username and password of control_plane.proxy")]
    LoginMissing,
    #[error("it rejects the user name or the password (407); check those of {setting}")]
    LoginRejected { setting: &'static str },
    #[error("it refuses the tunnel (status {status}); permit CONNECT to {peer} there, or list the host in NO_PROXY")]
    Refused { status: u16, peer: String },
    #[error("what answers there is no HTTP proxy; check {setting}")]
    NoProxy { setting: &'static str },
    #[error("its answer has more than {} KiB or {MAX_HEADERS} headers; is {setting} the address of an HTTP proxy?", MAX_HEAD / 1024)]
    TooMuch { setting: &'static str },
    #[error("it closed the connection before it answered; look at the proxy's log")]
    Closed,
}

/// Opens a tunnel to `peer`, and says what is known of the password that was sent.
///
/// # Cancel safety
/// Dropping the future closes what was opened.
pub(super) async fn tunnel(
    dial: &dyn Dial,
    proxy: &Proxy,
    peer: &str,
    secrets: &Resolver,
) -> Result<(Box<dyn Connection>, Option<Arc<Watched>>), ProxyError> {
    let setting = proxy.setting;
    let (credentials, watched) = credentials(proxy, secrets).await?.unzip();
    let host = bare(&proxy.host);
    let dialled = dial.dial(&host, proxy.port).await;
    let mut stream = dialled.map_err(|source| ProxyError::Network { setting, source })?;
    if proxy.is_tls {
        stream = within_tls(stream, host).await.map_err(|source| ProxyError::Tls { setting, source })?;
    }
    let authorization = credentials.as_ref().map(|text| format!("Proxy-Authorization: Basic {}\r\n", text.expose()));
    let request = SecretValue::new(format!(
        "CONNECT {peer} HTTP/1.1\r\nHost: {peer}\r\n{}\r\n",
        authorization.unwrap_or_default()
    ));
    let network = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ProxyError::Closed,
        _ => ProxyError::Network { setting, source },
    };
    stream.write_all(request.expose().as_bytes()).await.map_err(network)?;
    stream.flush().await.map_err(network)?;
    match answer(&mut stream, setting, network).await? {
        200..=299 => Ok((stream, watched.flatten())),
        407 if credentials.is_none() => Err(ProxyError::LoginMissing),
        407 => Err(ProxyError::LoginRejected { setting }),
        status => Err(ProxyError::Refused { status, peer: peer.to_owned() }),
    }
}

/// The status of the answer. After its head the stream is the control plane's, which does not speak first: whatever
/// more came is no tunnel's.
async fn answer(
    stream: &mut Box<dyn Connection>,
    setting: &'static str,
    network: impl Fn(io::Error) -> ProxyError,
) -> Result<u16, ProxyError> {
    let mut head = Vec::with_capacity(CHUNK);
    loop {
        if head.len() >= MAX_HEAD {
            return Err(ProxyError::TooMuch { setting });
        }
        let mut part = [0; CHUNK];
        let read = stream.read(&mut part).await.map_err(&network)?;
        if read == 0 {
            return Err(if head.is_empty() { ProxyError::Closed } else { ProxyError::NoProxy { setting } });
        }
        head.extend_from_slice(part.get(..read).unwrap_or_default());
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&head) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(length)) => {
                let status = response.code.unwrap_or_default();
                let is_tunnel = (200..300).contains(&status);
                return if is_tunnel && length < head.len() {
                    Err(ProxyError::NoProxy { setting })
                } else {
                    Ok(status)
                };
            }
            Err(httparse::Error::TooManyHeaders) => return Err(ProxyError::TooMuch { setting }),
            Err(_) => return Err(ProxyError::NoProxy { setting }),
        }
    }
}

/// `NAME:PASSWORD` in base64, and what is known of the password.
async fn credentials(
    proxy: &Proxy,
    secrets: &Resolver,
) -> Result<Option<(SecretValue, Option<Arc<Watched>>)>, ProxyError> {
    let encoded = |text: &SecretValue| SecretValue::new(STANDARD.encode(text.expose()));
    match &proxy.login {
        None => Ok(None),
        Some(ProxyLogin::Basic(text)) => {
            let password = text.expose().split_once(':').map_or("", |(_, password)| password);
            Ok(Some((encoded(text), secrets.redactor().watch_text(password).map(Arc::new))))
        }
        Some(ProxyLogin::Reference { username, password }) => {
            let read = secrets.read(password, &proxy.purpose()).await;
            let read = read.map_err(|source| ProxyError::Password { setting: proxy.setting, source })?;
            let password = read.expose_to(&proxy.host, proxy.port);
            let password = password.map_err(|source| ProxyError::NotPermitted { source })?;
            let text = SecretValue::new(format!("{username}:{password}"));
            Ok(Some((encoded(&text), secrets.redactor().watch_text(password).map(Arc::new))))
        }
    }
}

/// TLS with the proxy itself, which the system's authorities vouch for.
async fn within_tls(stream: Box<dyn Connection>, host: String) -> io::Result<Box<dyn Connection>> {
    let roots = system_roots().await.ok_or_else(|| io::Error::other("the system has no trusted certificates"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = versions.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}
