//! Requests to one host: deadlines, caps and retries.
//!
//! An [`Http`] speaks to exactly one [`Host`]: it follows no redirect (reqwest would forward headers of ours), and a
//! path that would move the host is refused when the URL is built. Bodies come compressed and are inflated here, so
//! that bytes are counted as on the wire, and both sizes are capped. At most a few inflated bodies
//! exist at a time: an [`Answer`] holds its permit, which bounds memory however many calls are in flight.

mod body;
mod client;
mod error;
mod proxy;
mod resolve;
mod retry;
mod room;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hybrid_runner_connector::Progress;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, Method, StatusCode};
use tokio::time::{Instant, sleep, timeout};
use tracing::field::Empty;
use tracing::{Instrument as _, debug, info_span};
use zeroize::Zeroizing;

use crate::host::Host;
use crate::quota::Quota;

use body::Inflating;
pub(crate) use body::MAX_ANSWER;
pub(crate) use client::{ClientCertificate, Connection, Trust, Via};
pub(crate) use error::{CallError, Class, ErrorCode, InBrackets, classify, reason_for};
pub use proxy::Proxy;
pub(crate) use resolve::Vetting;
pub use resolve::{Lookup, SystemLookup};
pub(crate) use retry::Retry;
pub(crate) use room::Body;
use room::Room;
pub(crate) use stream::Stream;

/// How long a connection may take to be made, TLS included: ten round trips of the slowest satellite link.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call may take unless it is said otherwise, from sending to the last byte. Salesforce counts requests of 20 s and more against a small
/// limit, so a healthy one ends long before.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an idle connection is kept. Load balancers in front of Salesforce close theirs after a minute or more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Inflated bodies at a time. One a core keeps every core busy; more would only cost memory (up to
/// [`MAX_ANSWER`] each).
const MAX_INFLATED: usize = 4;

/// One host's client.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    host: Host,
    progress: Arc<Progress>,
    quota: Arc<Quota>,
    room: Arc<Room>,
    timeout: Duration,
}

/// One request. Not to be printed: it may hold a credential.
pub(crate) struct Call<'a> {
    method: Method,
    path: &'a str,
    authorization: Option<HeaderValue>,
    headers: HeaderMap,
    body: Option<Bytes>,
    answers: &'static [u16],
    cap: usize,
}

/// A request on its way, and again as often as the policy says.
pub(crate) struct Attempts<'a> {
    http: &'a Http,
    call: Call<'a>,
    retry: &'a Retry,
    failures: u32,
}

/// What came back, as it came. Not to be printed: it may hold a session.
pub(crate) struct Received {
    status: u16,
    wire: Vec<u8>,
    encoding: body::Encoding,
    cap: usize,
    host: Host,
    room: Arc<Room>,
    /// From sending to the last byte.
    pub(crate) took: Duration,
    /// When it was sent, by the server's clock: the `Date` header.
    date: Option<String>,
}

/// What came back, inflated. Not to be printed: it may hold a session. Drop it before waiting for another one.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Body,
    /// When it was sent, by the server's clock: the `Date` header.
    pub(crate) date: Option<String>,
}

impl<'a> Call<'a> {
    /// A GET of a path.
    pub(crate) fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            authorization: None,
            headers: HeaderMap::new(),
            body: None,
            answers: &[200],
            cap: MAX_ANSWER,
        }
    }

    /// A POST of a body to a path.
    pub(crate) fn post(path: &'a str, content_type: &'static str, body: Bytes) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self { method: Method::POST, headers, body: Some(body), ..Self::get(path) }
    }

    /// A POST of a body that holds a secret: its memory is zeroed when it was sent for the last time.
    pub(crate) fn post_secret(path: &'a str, content_type: &'static str, body: Zeroizing<Vec<u8>>) -> Self {
        Self::post(path, content_type, Bytes::from_owner(body))
    }

    /// With a header.
    pub(crate) fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// With a credential, which is marked so that no log prints it.
    pub(crate) fn with_authorization(mut self, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.authorization = Some(value);
        self
    }

    /// These statuses are answers, not errors: their bodies are read.
    pub(crate) fn answered_by(mut self, statuses: &'static [u16]) -> Self {
        self.answers = statuses;
        self
    }

    /// Whether Salesforce counts it towards the org's daily limit: neither logins nor the list of versions do.
    fn counts(&self) -> bool {
        self.path.starts_with("/services/data/")
    }

    /// The largest body accepted, inflated.
    pub(crate) fn at_most(mut self, cap: usize) -> Self {
        self.cap = cap;
        self
    }
}

impl Http {
    /// A client for one host, whose calls may take so long.
    ///
    /// # Errors
    /// [`CallError::NoClient`]: the connection cannot be made as it is asked for.
    pub(crate) fn new(
        host: Host,
        connection: &Connection<'_>,
        timeout: Duration,
        progress: Arc<Progress>,
        quota: Arc<Quota>,
    ) -> Result<Self, CallError> {
        let client = client::build(connection)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let room = Room::new(cores.min(MAX_INFLATED));
        Ok(Self { client, host, progress, quota, room, timeout })
    }

    /// The same client for another host that the same certificates are trusted for.
    pub(crate) fn at(&self, host: Host) -> Self {
        Self { host, ..self.clone() }
    }

    /// The only host that it speaks to.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// A request that is not sent yet.
    pub(crate) fn attempts<'a>(&'a self, call: Call<'a>, retry: &'a Retry) -> Attempts<'a> {
        Attempts { http: self, call, retry, failures: 0 }
    }

    /// Sends a request, and again as often as the policy says.
    pub(crate) async fn call(&self, call: Call<'_>, retry: &Retry) -> Result<Answer, CallError> {
        let mut attempts = self.attempts(call, retry);
        loop {
            match attempts.answer().await?.whole().await {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<Received, CallError> {
        if call.counts() {
            self.quota.admit().map_err(|spent| CallError::Spent { spent })?;
        }
        // Without its path, which names objects.
        let span = info_span!(
            target: "otel", "salesforce call", otel.kind = "client", http.request.method = call.method.as_str(),
            server.address = %self.host, http.response.status_code = Empty, otel.status_code = Empty
        );
        let exchange = timeout(self.timeout, self.exchange(call)).instrument(span.clone()).await;
        let timed_out = |_elapsed| CallError::Timeout { host: self.host.clone(), after: self.timeout };
        let received = exchange.map_err(timed_out).flatten();
        match &received {
            Ok(received) => drop(span.record("http.response.status_code", received.status)),
            Err(error) => {
                if let CallError::Status { status, .. } = error {
                    span.record("http.response.status_code", status);
                }
                span.record("otel.status_code", "ERROR");
            }
        }
        received
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Received, CallError> {
        let url = self.host.url(call.path).map_err(|_refused| CallError::WrongHost)?;
        let mut request = self
            .client
            .request(call.method.clone(), url)
            .headers(call.headers.clone())
            .header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))
            .header(ACCEPT, HeaderValue::from_static("application/json, text/xml"));
        if let Some(authorization) = &call.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        self.progress.add_request();
        let sent = Instant::now();
        let mut response = request.send().await.map_err(|error| CallError::sending(&self.host, error))?;
        self.quota.observe(response.headers());
        let status = response.status();
        if call.answers.contains(&status.as_u16()) {
            let encoding = body::Encoding::of(response.headers());
            let date = response.headers().get(DATE).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let wire = body::read(&mut response, call.cap, &self.progress).await.map_err(|e| e.at(&self.host))?;
            return Ok(Received {
                status: status.as_u16(),
                wire,
                encoding,
                cap: call.cap,
                host: self.host.clone(),
                room: Arc::clone(&self.room),
                took: sent.elapsed(),
                date,
            });
        }
        Err(self.refusal(status, &mut response).await)
    }

    /// The error that an unexpected status is. Of its body only a code is kept.
    async fn refusal(&self, status: StatusCode, response: &mut reqwest::Response) -> CallError {
        // It leads nowhere else: nothing that could be followed, only an answer to what was not asked.
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            return CallError::Redirected { host: self.host.clone(), status: status.as_u16() };
        }
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(seconds);
        let code = match body::read_start(response, &self.progress).await {
            Some(start) => ErrorCode::of_body(&start),
            None => None,
        };
        CallError::Status { host: self.host.clone(), status: status.as_u16(), code, retry_after }
    }
}

impl Attempts<'_> {
    /// Sends it until there is an answer.
    pub(crate) async fn answer(&mut self) -> Result<Received, CallError> {
        loop {
            match self.http.once(&self.call).await {
                Ok(received) => return Ok(received),
                Err(error) => self.failed(error).await?,
            }
        }
    }

    /// Waits before it is sent again, or gives the error back that is the last.
    pub(crate) async fn failed(&mut self, error: CallError) -> Result<(), CallError> {
        let (host, failures) = (&self.http.host, self.failures + 1);
        self.failures = failures;
        if error.asks_for_less() {
            self.http.quota.press();
            self.http.progress.add_throttled();
        }
        let Some(wait) = self.retry.wait(failures, &error, fastrand::f64()) else { return Err(error) };
        debug!(%host, failures, wait_ms = wait.as_millis(), %error, "request failed, repeated");
        self.http.progress.add_repeated();
        sleep(wait).await;
        Ok(())
    }
}

impl Received {
    /// All of it, inflated.
    async fn whole(self) -> Result<Answer, CallError> {
        let place = self.room.enter().await.ok_or(CallError::WrongHost)?;
        let inflated = Inflating::new(self.wire, self.encoding, self.cap).and_then(Inflating::whole);
        let body = Body::new(inflated.map_err(|error| error.at(&self.host))?, place);
        Ok(Answer { status: self.status, body, date: self.date })
    }

    /// The same, inflated as it is read.
    pub(crate) async fn stream(self) -> Result<Stream, CallError> {
        let place = self.room.enter().await.ok_or(CallError::WrongHost)?;
        match Inflating::new(self.wire, self.encoding, self.cap) {
            Ok(body) => Ok(Stream::new(body, self.host, place)),
            Err(error) => Err(error.at(&self.host)),
        }
    }
}

/// The seconds of a `Retry-After`. Its other form, a date, would need a clock that agrees with theirs.
fn seconds(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}
