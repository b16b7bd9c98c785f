//! One connection: TLS at once, or `CONNECT` first; then HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::World;
use super::exchange;

/// A client that has not finished its handshake by then has gone away.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// The first byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The most bytes of a `CONNECT` request with its headers.
const CONNECT_BYTES: usize = 8 * 1024;

pub(super) async fn serve(stream: TcpStream, acceptor: TlsAcceptor, world: Arc<World>) {
    if let Err(error) = speak(stream, acceptor, world).await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn speak(mut stream: TcpStream, acceptor: TlsAcceptor, world: Arc<World>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if timeout(HANDSHAKE, stream.peek(&mut first)).await?? == 0 {
        return Ok(());
    }
    if first != [TLS_HANDSHAKE] && !timeout(HANDSHAKE, tunnel(&mut stream, &world)).await?? {
        return Ok(());
    }
    let reset = Arc::new(AtomicBool::new(false));
    let stream = Resettable { stream, reset: Arc::clone(&reset) };
    let tls = match timeout(HANDSHAKE, acceptor.accept(stream).into_fallible()).await? {
        Ok(tls) => tls,
        Err((error, mut stream)) => {
            // Closing with unread bytes would reset the connection, and the alert that says why would be lost.
            stream.shutdown().await?;
            timeout(HANDSHAKE, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await??;
            return Err(error);
        }
    };
    let service = service_fn(move |request| {
        let (world, reset) = (Arc::clone(&world), Arc::clone(&reset));
        async move {
            let answer = exchange::answer(&world, request).await;
            if answer.is_err() {
                reset.store(true, Ordering::Relaxed);
            }
            answer
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).serve_connection(TokioIo::new(tls), service).await.map_err(io::Error::other)
}

/// Answers `CONNECT host:port` as a proxy would; whether TLS follows.
async fn tunnel(stream: &mut TcpStream, world: &World) -> io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // A byte at a time: what follows the head belongs to TLS.
        if head.len() > CONNECT_BYTES {
            return Ok(false);
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = target.rsplit_once(':').filter(|(_, port)| *port == "443").map(|(host, _)| host);
    let given = head.lines().filter_map(|line| line.split_once(':'));
    let given =
        given.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization")).map(|(_, value)| value.trim());
    let identified =
        world.proxy_authorization.as_deref().is_none_or(|wanted| given.clone().any(|value| value == wanted));
    let answer = match (method, host) {
        ("CONNECT", _) if !identified => {
            world.log.count(|requests| requests.tunnels_refused += 1);
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"sandbox\"\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        }
        ("CONNECT", Some(host)) if host.ends_with(".salesforce.com") => {
            world.log.count(|requests| requests.tunnels += 1);
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            return Ok(true);
        }
        ("CONNECT", _) => {
            world.log.count(|requests| requests.tunnels_refused += 1);
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        }
        _ => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(false)
}

/// A TCP stream that can be closed by a reset instead of an orderly end.
struct Resettable {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Nothing to do when the peer was faster.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
