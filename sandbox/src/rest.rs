//! What the org answers, by path.

mod composite;
pub(crate) mod disturbed;
mod limits;
mod soql;
mod tooling;

pub(crate) use tooling::{RowCache, prepare};

use std::time::Duration;

use axum::body::Bytes;
use hyper::header::{AUTHORIZATION, ETAG, HeaderName, IF_MODIFIED_SINCE, LAST_MODIFIED};
use hyper::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use serde_json::json;

use crate::faults::FaultPlan;
use crate::log::Kind;
use crate::org::{ApiVersion, Org};
use crate::payload::{Fragment, Payload};
use crate::server::World;
use crate::{describe, login, pretty, stamp};

const JSON: &str = "application/json;charset=UTF-8";
pub(crate) const XML: &str = "text/xml; charset=utf-8";
const HTML: &str = "text/html; charset=UTF-8";
const LIMIT_INFO: HeaderName = HeaderName::from_static("sforce-limit-info");

/// A page as a proxy or a maintenance window shows it.
const PAGE: &str =
    "<!DOCTYPE html><html><head><title>Down for maintenance</title></head><body><h1>Be right back</h1></body></html>";

/// A request as it came in.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    /// Host and port that the client asked for.
    pub(crate) host: &'a str,
    pub(crate) body: &'a Bytes,
}

/// What it is answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Payload,
    /// What the server works on it, beyond the call's latency.
    pub(crate) server_time: Duration,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 200,
            content_type: JSON,
            headers: Vec::new(),
            body: Payload::default(),
            server_time: Duration::ZERO,
        }
    }
}

impl Answer {
    pub(crate) fn json(body: &serde_json::Value) -> Self {
        Self { body: Payload::text(body.to_string()), ..Self::default() }
    }

    pub(crate) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// JSON with line ends and spaces; other content as it is.
    pub(crate) fn indented(self) -> Self {
        if self.content_type != JSON {
            return self;
        }
        let body = Payload::text(pretty::indent(&String::from_utf8_lossy(&self.body.plain())));
        Self { body, ..self }
    }
}

/// An error as REST gives it: an array of one.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::json(&json!([{ "message": message, "errorCode": code }])).status(status)
}

pub(crate) fn not_found() -> Answer {
    error(404, "NOT_FOUND", "The requested resource does not exist")
}

/// What a path is for.
pub(crate) fn kind(path: &str) -> Kind {
    let segments = segments(path);
    match segments.as_slice() {
        ["services", "Soap", "u", ..] => Kind::SoapLogin,
        ["services", "oauth2", "token"] => Kind::Token,
        ["services", "data"] => Kind::Versions,
        ["services", "data", _, resource @ ..] => match resource {
            [] => Kind::Resources,
            ["sobjects"] => Kind::Global,
            ["sobjects", _, "describe"] => Kind::Describe,
            ["composite"] => Kind::Composite,
            ["composite", "batch"] => Kind::CompositeBatch,
            ["tooling", "composite"] => Kind::ToolingComposite,
            ["tooling", "query"] => Kind::ToolingQuery,
            ["query"] => Kind::Query,
            ["limits"] => Kind::Limits,
            ["limits", "recordCount"] => Kind::RecordCount,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

/// Answers one call.
pub(crate) fn answer(world: &World, call: &Call<'_>) -> Answer {
    let path = call.uri.path().to_owned();
    let segments = segments(&path);
    match segments.as_slice() {
        ["services", "Soap", "u", version, ..] => login::soap(world, call, version),
        ["services", "oauth2", "token"] => login::token(world, call),
        ["services", "data"] => versions(&world.org()),
        ["services", "data", version, resource @ ..] => authorised(world, call, version, resource),
        _ => not_found(),
    }
}

/// A resource of one API version, for a call with a live session.
fn authorised(world: &World, call: &Call<'_>, version: &str, resource: &[&str]) -> Answer {
    let org = world.org();
    let version = match offered(&org, version) {
        Ok(version) => version,
        Err(answer) => return answer,
    };
    if world.faults.sessions_expire() {
        world.sessions(login::Sessions::expire);
    }
    if !has_session(world, call) {
        return error(401, "INVALID_SESSION_ID", "Session expired or invalid");
    }
    let plan = world.faults.plan();
    let server = Server { world, org: &org, plan: &plan, version };
    let answer = if plan.limit_reached {
        error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
    } else {
        match (call.method, resource) {
            (&Method::POST, ["composite"]) => composite::composite(&server, call.body, composite::Api::Data),
            (&Method::POST, ["tooling", "composite"]) => {
                composite::composite(&server, call.body, composite::Api::Tooling)
            }
            (&Method::POST, ["composite", "batch"]) => composite::batch(&server, call.body),
            (&Method::GET, _) => {
                let since = call.headers.get(IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
                world.log.count(|requests| requests.api_calls += 1);
                server.get(resource, call.uri.query().unwrap_or_default(), since)
            }
            _ => error(405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed. Allowed are GET"),
        }
    };
    with_limit(world, &plan, answer)
}

fn has_session(world: &World, call: &Call<'_>) -> bool {
    let token = call.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    token.is_some_and(|token| world.sessions(|sessions| sessions.contains(token)))
}

/// The usage moves with every call, also with those that fail.
fn with_limit(world: &World, plan: &FaultPlan, mut answer: Answer) -> Answer {
    let used = if plan.limit_reached { world.daily_limit } else { world.log.requests().api_calls + plan.calls_used };
    answer.headers.push((LIMIT_INFO, format!("api-usage={used}/{}", world.daily_limit)));
    answer
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("oauth")).then_some(token.trim())
}

/// Path segments without empty ones: Salesforce does not mind a slash at the end.
pub(crate) fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

fn offered(org: &Org, segment: &str) -> Result<ApiVersion, Answer> {
    let version =
        segment.strip_prefix('v').and_then(|version| version.parse::<ApiVersion>().ok()).ok_or_else(not_found)?;
    if version < org.oldest_version() {
        return Err(error(410, "GONE", "The requested API version has been retired."));
    }
    if version > org.newest_version() {
        return Err(not_found());
    }
    Ok(version)
}

fn versions(org: &Org) -> Answer {
    let all: Vec<_> = org
        .api_versions
        .clone()
        .map(|v| {
            // Three releases a year; 33.0 was Spring '15, and a Winter release carries the next year's number.
            let season = ["Spring", "Summer", "Winter"].get(usize::from(v % 3)).copied().unwrap_or_default();
            let year = (v + 12) / 3 + u16::from(v % 3 == 2);
            json!({ "label": format!("{season} '{year}"), "url": format!("/services/data/v{v}.0"), "version": format!("{v}.0") })
        })
        .collect();
    Answer::json(&json!(all))
}

/// The org as one call with a session sees it.
pub(crate) struct Server<'a> {
    pub(crate) world: &'a World,
    pub(crate) org: &'a Org,
    pub(crate) plan: &'a FaultPlan,
    pub(crate) version: ApiVersion,
}

impl Server<'_> {
    /// What a GET answers, on its own or within a composite.
    pub(crate) fn get(&self, resource: &[&str], query: &str, since: Option<&str>) -> Answer {
        let since = since.and_then(stamp::parse);
        match resource {
            [] => self.resources(),
            ["sobjects"] => self.global(since),
            ["sobjects", name, "describe"] => self.describe(&decode(name), since),
            ["tooling", "sobjects", name, "describe"] => tooling::describe(self, &decode(name)),
            ["tooling", "query"] => tooling::query(self, &parameter(query, "q").unwrap_or_default()),
            ["query"] => limits::query(self, &parameter(query, "q").unwrap_or_default()),
            ["limits"] => limits::limits(self),
            ["limits", "recordCount"] => limits::record_count(self, parameter(query, "sObjects").as_deref()),
            _ => not_found(),
        }
    }

    fn resources(&self) -> Answer {
        let base = format!("/services/data/v{}", self.version);
        let names = ["composite", "limits", "query", "sobjects", "tooling"];
        let all: serde_json::Map<_, _> =
            names.iter().map(|name| ((*name).into(), json!(format!("{base}/{name}")))).collect();
        Answer::json(&all.into())
    }

    fn global(&self, since: Option<Timestamp>) -> Answer {
        if let Some(unchanged) = self.unchanged(self.org.modified, since) {
            return unchanged;
        }
        let entries: Vec<_> =
            self.org.objects().map(|object| describe::list_entry(&object.entry, self.version)).collect();
        let body = format!("{{\"encoding\":\"UTF-8\",\"maxBatchSize\":200,\"sobjects\":[{}]}}", entries.join(","));
        Answer { headers: stamped(self.org.modified), body: Payload::text(body), ..Answer::default() }
    }

    fn describe(&self, name: &str, since: Option<Timestamp>) -> Answer {
        let Some(object) = self.org.object(name) else { return not_found() };
        if let Some(unchanged) = self.unchanged(object.modified, since) {
            return unchanged;
        }
        self.world.log.count(|requests| requests.describes += 1);
        let answer =
            Answer { headers: stamped(object.modified), server_time: self.plan.describe_time, ..Answer::default() };
        if self.plan.html_describes.contains(&object.entry.name) {
            return Answer { content_type: HTML, body: Payload::text(PAGE), ..answer };
        }
        let described = object.describe(self.version);
        let body = match self.plan.oversized_describes.get(&object.entry.name) {
            Some(bytes) => padded(&described, *bytes),
            None => Payload::packed(described),
        };
        Answer { body, ..answer }
    }

    fn unchanged(&self, modified: Timestamp, since: Option<Timestamp>) -> Option<Answer> {
        // Both stamps are whole seconds.
        since.filter(|since| modified <= *since)?;
        self.world.log.count(|requests| requests.not_modified += 1);
        Some(Answer { status: 304, headers: stamped(modified), ..Answer::default() })
    }
}

fn stamped(modified: Timestamp) -> Vec<(HeaderName, String)> {
    vec![(ETAG, stamp::etag(modified)), (LAST_MODIFIED, stamp::http_date(modified))]
}

/// A describe with one more member, so long that the whole has at least `bytes`.
fn padded(described: &Fragment, bytes: usize) -> Payload {
    let mut text = String::from_utf8(described.inflate()).unwrap_or_default();
    let filler = "x".repeat(bytes.saturating_sub(described.length()));
    // The describe's own closing brace comes off, and goes on again at the end.
    text.pop();
    text.push_str(",\"padding\":\"");
    text.push_str(&filler);
    text.push_str("\"}");
    Payload::text(text)
}

/// The first value of a query parameter, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A path segment, decoded.
fn decode(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    // `+` is a plus sign in a path, a space only in a query.
    let encoded = segment.replace('+', "%2B");
    parameter(&format!("segment={encoded}"), "segment").unwrap_or_default()
}
