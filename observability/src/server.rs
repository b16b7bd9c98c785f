//! The HTTP server of probes and scrapes.
//!
//! **Limits.** [`CONNECTIONS`] at once, one request on each, [`DEADLINE`] for all of it, [`HEAD`] bytes of head; `GET` and
//! `HEAD` only, and no body is read. More connections wait in the kernel's queue.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::health::{Health, Pages};

/// Connections at a time: three probes and a few scrapers.
const CONNECTIONS: usize = 16;
/// A request may take so long from its connection to its answer. A page takes milliseconds; who is slower loses it.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest head of a request: a probe's has some hundred bytes.
const HEAD: usize = 16 * 1024;
/// After `accept` failed for want of files or memory, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// What Prometheus is told.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Serves `/health/startup`, `/health/live`, `/health/ready` and `/metrics`, for ever.
///
/// # Cancel safety
/// Dropping the future closes every connection.
pub async fn serve(listener: TcpListener, pages: Arc<dyn Pages>) -> Infallible {
    serve_within(DEADLINE, listener, pages).await
}

async fn serve_within(deadline: Duration, listener: TcpListener, pages: Arc<dyn Pages>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, place)) => {
                let pages = Arc::clone(&pages);
                connections.spawn(async move {
                    answer(stream, pages, deadline).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a probe's connection was not accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

type Place = Option<tokio::sync::OwnedSemaphorePermit>;

/// # Cancel safety
/// No connection is lost: the place comes first.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, Place)> {
    // It is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (stream, _peer) = listener.accept().await?;
    Ok((stream, place))
}

async fn answer(stream: TcpStream, pages: Arc<dyn Pages>, deadline: Duration) {
    let service = service_fn(move |request| {
        let answer = page(&request, &*pages);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadline)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(deadline, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a probe's connection broke"),
        Err(_elapsed) => debug!("a probe's connection was slow and is dropped"),
    }
}

fn page<B>(request: &Request<B>, pages: &dyn Pages) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "accepted: GET and HEAD\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/health/startup" => probe(&pages.startup()),
        "/health/live" => probe(&pages.live()),
        "/health/ready" => probe(&pages.ready()),
        "/metrics" => response(StatusCode::OK, OPENMETRICS, pages.metrics()),
        _ => {
            let known = "accepted: /health/startup, /health/live, /health/ready, /metrics\n";
            response(StatusCode::NOT_FOUND, PLAIN, known.to_owned())
        }
    }
}

fn probe(health: &Health) -> Response<Full<Bytes>> {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Names, numbers and sentences: nothing that JSON cannot hold.
    response(status, JSON, serde_json::to_string(health).unwrap_or_default())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
