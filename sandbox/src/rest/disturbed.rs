//! Answers to what a [`Wrong`] meets.

use hyper::header::RETRY_AFTER;
use serde_json::Value;

use super::{Answer, Call, HTML, PAGE, answer, error, has_session};
use crate::faults::Wrong;
use crate::log::Kind;
use crate::login;
use crate::payload::Payload;
use crate::server::World;

/// What happens to a call. One with a dead session is let through to its 401: it may be left of a client that is gone.
pub(crate) fn meet(world: &World, kind: Kind, call: &Call<'_>) -> Option<Wrong> {
    let needs_session = !matches!(kind, Kind::SoapLogin | Kind::Token | Kind::Versions);
    if needs_session && !has_session(world, call) {
        return None;
    }
    world.faults.disturb_call(kind, call.body)
}

/// The answer to a call. How the connection fares is the server's.
pub(crate) fn call(world: &World, call: &Call<'_>, wrong: &Wrong) -> Answer {
    match wrong {
        Wrong::SessionsExpired => world.sessions(login::Sessions::expire),
        Wrong::Reversed => return reversed(&answer(world, call)),
        _ => {}
    }
    instead(wrong).unwrap_or_else(|| answer(world, call))
}

/// The answer to a sub-request, or to a call, that takes the place of the real one.
pub(super) fn instead(wrong: &Wrong) -> Option<Answer> {
    let page = |text: &str| Answer { content_type: HTML, body: Payload::text(text), ..Answer::default() };
    Some(match wrong {
        Wrong::Refused { status, code, message, retry_after } => {
            let refused = match code {
                Some(code) => error(*status, code, message),
                None => page(PAGE).status(*status),
            };
            let wait = retry_after.map(|seconds| (RETRY_AFTER, seconds.to_string()));
            Answer { headers: wait.into_iter().collect(), ..refused }
        }
        Wrong::Html(text) => page(text),
        Wrong::Json(text) => Answer { body: Payload::text(text.as_str()), ..Answer::default() },
        Wrong::Empty => Answer::default(),
        Wrong::NotModified => Answer::default().status(304),
        Wrong::Reset
        | Wrong::Truncated
        | Wrong::Late(_)
        | Wrong::SessionsExpired
        | Wrong::Reversed
        | Wrong::Missing => return None,
    })
}

fn reversed(answer: &Answer) -> Answer {
    let mut body: Value = serde_json::from_slice(&answer.body.plain()).unwrap_or_default();
    if let Some(parts) = body.get_mut("compositeResponse").and_then(Value::as_array_mut) {
        parts.reverse();
    }
    Answer { headers: answer.headers.clone(), server_time: answer.server_time, ..Answer::json(&body) }
        .status(answer.status)
}
