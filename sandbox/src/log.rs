//! What was asked, counted by kind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// The newest requests that are kept one by one; older ones are only counted.
const KEPT: usize = 20_000;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SOAP `login()`.
    SoapLogin,
    /// The OAuth token endpoint.
    Token,
    /// The list of API versions.
    Versions,
    /// The list of resources of one version.
    Resources,
    /// describeGlobal.
    Global,
    /// One describe on its own.
    Describe,
    /// `/composite`.
    Composite,
    /// `/composite/batch`.
    CompositeBatch,
    /// `/tooling/composite`.
    ToolingComposite,
    /// `/tooling/query`.
    ToolingQuery,
    /// `/query`.
    Query,
    /// `/limits`.
    Limits,
    /// `/limits/recordCount`.
    RecordCount,
    /// Anything else.
    Other,
}

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// Its number since the server started, from 1.
    pub call: u64,
    /// What it was for.
    pub kind: Kind,
    /// Its method.
    pub method: String,
    /// The host that the client asked for.
    pub host: String,
    /// Its path and query.
    pub path: String,
    /// The status it was answered with; 0 when the connection was reset under it.
    pub status: u16,
}

/// What was asked so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// HTTPS requests, logins included.
    pub total: u64,
    /// HTTPS requests by kind.
    pub by_kind: BTreeMap<Kind, u64>,
    /// What Salesforce would count against the daily limit: a composite is one, a batch one per sub-request.
    pub api_calls: u64,
    /// Describes answered with a body, in whatever request.
    pub describes: u64,
    /// Describes and listings answered 304.
    pub not_modified: u64,
    /// Bytes of all answered bodies, as sent.
    pub body_bytes: u64,
    /// The most requests that were under way at the same time.
    pub most_at_once: u64,
    /// `CONNECT` requests that were accepted.
    pub tunnels: u64,
    /// `CONNECT` requests that were refused.
    pub tunnels_refused: u64,
}

impl Requests {
    /// The number of requests of one kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.by_kind.get(&kind).copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct RequestLog(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    requests: Requests,
    at_once: u64,
    latest: VecDeque<LoggedRequest>,
}

impl RequestLog {
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request that begins and gives its number.
    pub(crate) fn begin(&self, kind: Kind) -> u64 {
        self.with(|inner| {
            inner.at_once += 1;
            let requests = &mut inner.requests;
            requests.total += 1;
            requests.most_at_once = requests.most_at_once.max(inner.at_once);
            *requests.by_kind.entry(kind).or_default() += 1;
            requests.total
        })
    }

    /// Counts the end of a request, whatever became of it.
    pub(crate) fn end(&self) {
        self.with(|inner| inner.at_once = inner.at_once.saturating_sub(1));
    }

    pub(crate) fn record(&self, request: LoggedRequest, body_bytes: u64) {
        self.with(|inner| {
            inner.requests.body_bytes += body_bytes;
            if inner.latest.len() == KEPT {
                inner.latest.pop_front();
            }
            inner.latest.push_back(request);
        });
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Requests)) {
        self.with(|inner| change(&mut inner.requests));
    }

    pub(crate) fn requests(&self) -> Requests {
        self.with(|inner| inner.requests.clone())
    }

    pub(crate) fn latest(&self) -> Vec<LoggedRequest> {
        self.with(|inner| inner.latest.iter().cloned().collect())
    }
}
