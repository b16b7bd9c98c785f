//! Several requests in one: `/composite`, `/tooling/composite` and `/composite/batch`.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use axum::body::Bytes;
use hyper::header::{ETAG, LAST_MODIFIED};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Server, disturbed, error, not_found, segments};
use crate::faults::Wrong;
use crate::payload::Payload;

/// Sub-requests in one call.
const MOST: usize = 25;

/// Queries among them, in a composite.
const MOST_QUERIES: usize = 5;

/// Whose composite it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Data,
    Tooling,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Composite {
    composite_request: Vec<SubRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubRequest {
    method: String,
    url: String,
    reference_id: String,
    #[serde(default)]
    http_headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    #[serde(default)]
    halt_on_error: bool,
    batch_requests: Vec<BatchRequest>,
}

#[derive(Deserialize)]
struct BatchRequest {
    method: String,
    url: String,
}

/// `/composite`: one API call, whatever is in it; sub-requests may be conditional.
pub(super) fn composite(server: &Server<'_>, body: &Bytes, api: Api) -> Answer {
    server.world.log.count(|requests| requests.api_calls += 1);
    let composite: Composite = match serde_json::from_slice(body) {
        Ok(composite) => composite,
        Err(problem) => return error(400, "JSON_PARSER_ERROR", &problem.to_string()),
    };
    if let Some(refused) = refuse(&composite.composite_request) {
        return refused;
    }
    let mut all = Answer::default();
    all.body.push("{\"compositeResponse\":[");
    let mut comma = "";
    for request in &composite.composite_request {
        let wrong = server.world.faults.disturb_part(&request.url);
        if wrong == Some(Wrong::Missing) {
            continue;
        }
        let instead = wrong.as_ref().and_then(disturbed::instead);
        let answer = instead.unwrap_or_else(|| sub_request(server, request, api));
        all.server_time += answer.server_time;
        all.body.push(comma);
        all.body.push("{\"body\":");
        comma = ",";
        let (status, headers) = (answer.status, headers(&answer));
        append(&mut all.body, answer);
        all.body.push(&format!(
            ",\"httpHeaders\":{headers},\"httpStatusCode\":{status},\"referenceId\":{}}}",
            json!(request.reference_id)
        ));
    }
    all.body.push("]}");
    all
}

fn refuse(requests: &[SubRequest]) -> Option<Answer> {
    if requests.is_empty() || requests.len() > MOST {
        let message = format!("A composite takes 1 to {MOST} subrequests, this one has {}.", requests.len());
        return Some(error(400, "LIMIT_EXCEEDED", &message));
    }
    let queries = requests.iter().filter(|request| request.url.contains("/query")).count();
    if queries > MOST_QUERIES {
        let message = format!("A composite takes at most {MOST_QUERIES} queries, this one has {queries}.");
        return Some(error(400, "LIMIT_EXCEEDED", &message));
    }
    let mut seen = HashSet::new();
    let bad = requests.iter().map(|request| request.reference_id.as_str()).find(|id| {
        let well_formed = id.starts_with(|c: char| c.is_ascii_alphabetic())
            && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        !well_formed || !seen.insert(*id)
    })?;
    Some(error(
        400,
        "INVALID_INPUT",
        &format!("Reference id {bad:?} is not unique or not of letters, digits and underscores."),
    ))
}

fn sub_request(server: &Server<'_>, request: &SubRequest, api: Api) -> Answer {
    if !request.method.eq_ignore_ascii_case("GET") {
        return error(405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed. Allowed are GET");
    }
    if let Some((status, code)) = server.world.faults.meet_part(&request.url) {
        return error(status, &code, "This request was made to fail.");
    }
    if server.plan.longest_part_url.is_some_and(|most| request.url.len() > most) {
        return error(414, "URI_TOO_LONG", "The URI is too long.");
    }
    let (path, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
    let own = format!("v{}", server.version);
    let segments = segments(path);
    let resource = match segments.as_slice() {
        ["services", "data", version, resource @ ..] if request.url.starts_with('/') && *version == own => resource,
        _ => {
            return error(
                400,
                "INVALID_URI",
                "The subrequest's url must begin with /services/data/ and the call's version.",
            );
        }
    };
    if resource.first().is_some_and(|first| *first == "composite")
        || (api == Api::Tooling) != (resource.first() == Some(&"tooling"))
    {
        return not_found();
    }
    let since = request.http_headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("if-modified-since"));
    server.get(resource, query, since.map(|(_, value)| value.as_str()))
}

/// Only the two stamps are passed on.
fn headers(answer: &Answer) -> serde_json::Value {
    let mut headers = serde_json::Map::new();
    for (name, value) in &answer.headers {
        match name {
            name if name == ETAG => headers.insert("ETag".into(), json!(value)),
            name if name == LAST_MODIFIED => headers.insert("Last-Modified".into(), json!(value)),
            _ => None,
        };
    }
    headers.into()
}

/// A sub-request's body: `null` where there is none, a JSON string where it is no JSON.
fn append(body: &mut Payload, answer: Answer) {
    if answer.status == 304 || answer.body.is_empty() {
        body.push("null");
    } else if answer.content_type == super::JSON {
        body.append(answer.body);
    } else {
        body.push(&json!(String::from_utf8_lossy(&answer.body.plain())).to_string());
    }
}

/// `/composite/batch`: every sub-request counts, none is conditional, they run one after the other.
pub(super) fn batch(server: &Server<'_>, body: &Bytes) -> Answer {
    let batch: Batch = match serde_json::from_slice(body) {
        Ok(batch) => batch,
        Err(problem) => return error(400, "JSON_PARSER_ERROR", &problem.to_string()),
    };
    let count = batch.batch_requests.len();
    server.world.log.count(|requests| requests.api_calls += u64::try_from(count).unwrap_or(u64::MAX));
    if count == 0 || count > MOST {
        return error(400, "LIMIT_EXCEEDED", &format!("A batch takes 1 to {MOST} subrequests, this one has {count}."));
    }
    let mut results = Payload::default();
    let (mut failed, mut server_time) = (false, Duration::ZERO);
    for (at, request) in batch.batch_requests.iter().enumerate() {
        let answer = if failed && batch.halt_on_error {
            error(412, "BATCH_PROCESSING_HALTED", "Batch processing halted per request")
        } else {
            batch_request(server, request)
        };
        failed |= answer.status >= 400;
        server_time += answer.server_time;
        results.push(if at == 0 { "" } else { "," });
        results.push(&format!("{{\"statusCode\":{},\"result\":", answer.status));
        append(&mut results, answer);
        results.push("}");
    }
    let mut body = Payload::text(format!("{{\"hasErrors\":{failed},\"results\":["));
    body.append(results);
    body.push("]}");
    Answer { body, server_time, ..Answer::default() }
}

fn batch_request(server: &Server<'_>, request: &BatchRequest) -> Answer {
    if !request.method.eq_ignore_ascii_case("GET") {
        return error(405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed. Allowed are GET");
    }
    let (path, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
    let segments = segments(path);
    let (version, resource) = match segments.as_slice() {
        ["services", "data", version, resource @ ..] | [version, resource @ ..] => (*version, resource),
        [] => return not_found(),
    };
    // A sub-request may name an older version, from 34.0 on.
    let version = match super::offered(server.org, version) {
        Ok(version) if version.0 >= 34 && version <= server.version => version,
        Ok(_) => {
            return error(400, "INVALID_BATCH_VERSION", "The subrequest's version must be 34.0 to that of the batch.");
        }
        Err(answer) => return answer,
    };
    if resource.first().is_some_and(|first| *first == "composite") {
        return not_found();
    }
    Server { version, ..*server }.get(resource, query, None)
}
