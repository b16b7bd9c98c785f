//! Sending a call. The rest of [`super`] does no I/O.

use tokio::time::sleep;

use super::answer::{Replies, Reply, counts};
use super::call::ToolingCall;
use crate::auth::Session;
use crate::composite::{self, Unreadable};
use crate::http::{Call, CallError, Class, Retry};

/// What became of a call.
#[derive(Debug)]
pub(crate) enum ToolingOutcome {
    /// A reply to each of its questions.
    Answered(Vec<Reply>),
    /// The session is not accepted any more; nothing was read.
    Session(CallError),
    /// No answer, or not one that can be used; asking for less may do better.
    Smaller(CallError),
    /// The user may not ask, or the org does not have it.
    Denied(CallError),
    /// The run cannot go on.
    Failed(CallError),
}

/// Sends a call, after a wait if what it asks for failed before.
pub(crate) async fn perform(session: &Session, call: &ToolingCall) -> ToolingOutcome {
    if call.tries() > 0 {
        sleep(Retry::READ.backoff(call.tries(), fastrand::f64())).await;
    }
    let protocol = |problem| CallError::Protocol { host: session.host().clone(), problem };
    let path = call.path();
    let answered = match call.body() {
        Ok(Some(body)) => {
            let request = Call::post(&path, "application/json", body);
            composite::exchange(session, request, || Replies::new(call), Replies::read).await
        }
        // The record counts are the one question that has a request of its own.
        Ok(None) => {
            return match session.call(Call::get(&path), &Retry::READ_SPLITTABLE).await {
                Ok(answer) => ToolingOutcome::Answered(vec![counts(&answer.body)]),
                Err(error) => outcome_of(error),
            };
        }
        Err(_unwritable) => return ToolingOutcome::Failed(protocol("cannot be asked for")),
    };
    match answered {
        Ok((Replies { end: Some((status, code)), .. }, _)) => {
            let error = CallError::Status { host: session.host().clone(), status, code, retry_after: None };
            if error.class() == Class::Session { ToolingOutcome::Session(error) } else { ToolingOutcome::Failed(error) }
        }
        Ok((replies, _)) => ToolingOutcome::Answered(replies.all()),
        Err(Unreadable::Malformed(problem)) => ToolingOutcome::Smaller(protocol(problem)),
        Err(Unreadable::Call(error)) => outcome_of(error),
    }
}

fn outcome_of(error: CallError) -> ToolingOutcome {
    use hybrid_runner_connector::Reason;
    match &error {
        _ if error.class() == Class::Session => ToolingOutcome::Session(error),
        // Of a URI or of headers that are too long: the server counts those of the parts as well, for all we know.
        CallError::Status { status: 414 | 431, .. } => ToolingOutcome::Smaller(error),
        _ if error.is_size() => ToolingOutcome::Smaller(error),
        CallError::Status { status: 403 | 404, .. } if error.reason() != Reason::SourceThrottled => {
            ToolingOutcome::Denied(error)
        }
        _ => ToolingOutcome::Failed(error),
    }
}
