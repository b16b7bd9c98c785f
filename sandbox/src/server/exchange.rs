//! One HTTPS request: its fate, its answer, and how the answer travels.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use futures_util::stream;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, LOCATION, RETRY_AFTER, VARY,
};
use hyper::{Request, Response};
use tokio::time::{sleep, timeout};

use super::World;
use crate::faults::{Fate, Met, SlowBody, Wrong};
use crate::log::LoggedRequest;
use crate::rest::{self, Answer, Call};

/// The largest body that is read.
const MOST_BODY: usize = 8 * 1024 * 1024;

/// Asks for indented JSON with `1`.
const PRETTY: HeaderName = HeaderName::from_static("x-prettyprint");

/// A client that has not sent its body by then has gone away.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The connection is to be reset instead of answered.
#[derive(Debug)]
pub(super) struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset by a fault")
    }
}

impl std::error::Error for Reset {}

/// Counts the end of a request even when the client goes away in the middle.
struct UnderWay<'a>(&'a World);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.log.end();
    }
}

pub(super) async fn answer(world: &World, request: Request<Incoming>) -> Result<Response<Body>, Reset> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let host = parts.uri.host().or_else(|| parts.headers.get(HOST)?.to_str().ok()).unwrap_or("localhost").to_owned();
    let kind = rest::kind(parts.uri.path());
    let number = world.log.begin(kind);
    let _under_way = UnderWay(world);
    let mut met = world.faults.meet(number, &path);
    let logged = |status| LoggedRequest {
        call: number,
        kind,
        method: parts.method.to_string(),
        host: host.clone(),
        path: path.clone(),
        status,
    };
    let Ok(Ok(body)) = timeout(BODY_TIMEOUT, to_bytes(Body::new(body), MOST_BODY)).await else { return Err(Reset) };
    sleep(met.latency).await;
    let answer = match &met.fate {
        Fate::Reset => {
            world.log.record(logged(0), 0);
            return Err(Reset);
        }
        Fate::Unavailable { retry_after } => unavailable(*retry_after),
        Fate::Redirected { to } => {
            let to = to.clone();
            Answer { status: 302, headers: vec![(LOCATION, to)], ..Answer::default() }
        }
        Fate::Answered => {
            let call =
                Call { method: &parts.method, uri: &parts.uri, headers: &parts.headers, host: &host, body: &body };
            match rest::disturbed::meet(world, kind, &call) {
                Some(Wrong::Reset) => {
                    world.log.record(logged(0), 0);
                    return Err(Reset);
                }
                Some(wrong) => {
                    met.truncated |= wrong == Wrong::Truncated;
                    if let Wrong::Late(by) = &wrong {
                        sleep(*by).await;
                    }
                    rest::disturbed::call(world, &call, &wrong)
                }
                None => rest::answer(world, &call),
            }
        }
    };
    let answer = if parts.headers.get(PRETTY).is_some_and(|value| value == "1") { answer.indented() } else { answer };
    sleep(answer.server_time).await;
    let gzip = parts.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).is_some_and(accepts_gzip);
    let bytes = if gzip { answer.body.gzip() } else { answer.body.plain() };
    world.log.record(logged(answer.status), u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    Ok(respond(&answer, bytes, gzip, &met))
}

fn unavailable(retry_after: Option<u32>) -> Answer {
    Answer {
        headers: retry_after.map(|seconds| (RETRY_AFTER, seconds.to_string())).into_iter().collect(),
        ..rest::error(503, "SERVER_UNAVAILABLE", "The server is temporarily unavailable. Try again later.")
    }
}

fn accepts_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !quality.trim().starts_with("q=0;") && quality.trim() != "q=0"
    })
}

fn respond(answer: &Answer, bytes: Vec<u8>, gzip: bool, met: &Met) -> Response<Body> {
    let length = bytes.len();
    let mut response = Response::new(body(bytes, met));
    *response.status_mut() = hyper::StatusCode::from_u16(answer.status).unwrap_or_default();
    let headers = response.headers_mut();
    let mut set = |name, value: &str| {
        if let Ok(value) = hyper::header::HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(VARY, "Accept-Encoding");
    answer.headers.iter().for_each(|(name, value)| set(name.clone(), value));
    if answer.status != 304 {
        set(CONTENT_TYPE, answer.content_type);
        set(CONTENT_LENGTH, &length.to_string());
        if gzip {
            set(CONTENT_ENCODING, "gzip");
        }
    }
    response
}

fn body(bytes: Vec<u8>, met: &Met) -> Body {
    let bytes = Bytes::from(bytes);
    let end = if met.truncated { bytes.len() / 2 } else { bytes.len() };
    let slow = met.slow_body.unwrap_or(SlowBody { chunk: usize::MAX, pause: Duration::ZERO });
    if !met.truncated && met.slow_body.is_none() {
        return Body::from(bytes);
    }
    let cut = end < bytes.len();
    Body::from_stream(stream::unfold(Some(0), move |at| {
        let bytes = bytes.clone();
        async move {
            let at: usize = at?;
            sleep(slow.pause).await;
            let next = at.saturating_add(slow.chunk.max(1)).min(end);
            if at < end {
                return Some((Ok(bytes.slice(at..next)), Some(next)));
            }
            // The promised length is never reached: the connection ends here.
            cut.then(|| (Err(io::Error::other("cut by a fault")), None))
        }
    }))
}
