//! What is common to the two kinds of streams: how one begins, how it ends, and how long anything may take.

mod push;
mod session;

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use hybrid_runner_proto::v1::{Reason, push_request, push_response, session_request, session_response};
use hybrid_runner_proto::{ERROR_DOMAIN, reason_name, reason_of_name};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::check::{Checked, Stop, ensure, failed};
use crate::connect::Link;

pub(crate) use push::{Opening, Push, batch, eof};
pub(crate) use session::{Session, granted, hello};

/// What the kit says on a session, and what it hears there.
pub(crate) type Said = session_request::Message;
pub(crate) type Heard = session_response::Message;

/// What the kit says on a push, and what it hears there.
pub(crate) type Pushed = push_request::Message;
pub(crate) type Answer = push_response::Message;

/// How long a control plane may take for an answer: the contract gives it 10 s for those with a time.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// In this time something would have come that must not come.
pub(crate) const QUIET: Duration = Duration::from_millis(400);

/// Messages that a check may be ahead of the connection.
const AHEAD: usize = 64;

/// Messages of a push; some checks send what is too large.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// What a stream answers; a refusal at its very beginning is its first answer.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Waits for an answer.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> Checked<T> {
    let answer = tokio::time::timeout(ANSWER, future).await;
    answer.map_err(|_elapsed| Stop::Failed(format!("{what} did not come within {} s", ANSWER.as_secs())))
}

/// A request that carries the identity.
fn authorized<T>(link: &Link, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(authorization) = &link.authorization {
        request.metadata_mut().insert("authorization", authorization.clone());
    }
    request
}

fn answers<T: Send + 'static>(response: Result<Response<Streaming<T>>, Status>) -> Answers<T> {
    match response {
        Ok(response) => response.into_inner().boxed(),
        Err(status) => stream::once(std::future::ready(Err(status))).boxed(),
    }
}

/// The stream ended as it must for this reason: code, domain and reason.
pub(crate) fn refused(status: &Status, reason: Reason) -> Checked {
    let wanted = reason_name(reason);
    let said = format!("{:?}: {}", status.code(), status.message());
    let Some(info) = status.get_details_error_info() else {
        return failed(format!("expected {wanted}; the status has no google.rpc.ErrorInfo ({said})"));
    };
    ensure(info.domain == ERROR_DOMAIN, || {
        format!("the domain of ErrorInfo is {:?}, not {ERROR_DOMAIN:?}", info.domain)
    })?;
    ensure(reason_of_name(&info.reason).is_some(), || format!("{:?} is not in the catalogue of reasons", info.reason))?;
    ensure(info.reason == wanted, || format!("expected {wanted}, got {} ({said})", info.reason))?;
    let code = code(reason);
    ensure(status.code() == code, || format!("{wanted} comes with {code:?}, got {said}"))
}

/// The code that reason.proto states for the reasons that end streams.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::ProtocolViolation | Reason::LimitExceeded => Code::InvalidArgument,
        Reason::IdentityUnknown => Code::Unauthenticated,
        Reason::IdentityDenied => Code::PermissionDenied,
        _ => Code::FailedPrecondition,
    }
}

/// The name of a message, for sentences: its content may be long.
fn called(message: &impl std::fmt::Debug) -> String {
    let text = format!("{message:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}
