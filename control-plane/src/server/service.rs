//! The gRPC service: who calls, then over to the session or the push.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_proto::v1::Reason;
use hybrid_runner_proto::v1::runner_service_server::RunnerService;
use hybrid_runner_proto::v1::{PushRequest, PushResponse, SessionRequest, SessionResponse};
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, info, info_span};

use super::accept::Peer;
use crate::identity::Caller;
use crate::shared::Shared;
use crate::status::Problem;
use crate::stream::Driven;
use crate::{otel, push, session};

/// How often the end of a caller's certificate is looked at, at least: within this time a stream ends when the clock was
/// set beyond it.
const LOOK: Duration = Duration::from_secs(10);

/// A certificate is valid to the end of its last second.
const PAST_THE_END: Duration = Duration::from_secs(1);

/// The service.
#[derive(Debug)]
pub(super) struct Runner {
    shared: Arc<Shared>,
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The agent that calls.
    fn identify<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.as_deref());
        let agents = self.shared.agents.borrow().clone();
        agents.identify(request.metadata(), certificate, self.shared.clock.now()).map_err(|error| {
            info!(peer = ?peer.map(|peer| peer.address), %error, "a caller was refused");
            Problem::from(error).into()
        })
    }
}

#[tonic::async_trait]
impl RunnerService for Runner {
    type SessionStream = Driven<SessionResponse>;
    type PushStream = Driven<PushResponse>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = self.identify(&request)?;
        let span = info_span!("session", agent = caller.agent, certificate = caller.serial());
        let ends_at = request.extensions().get::<Peer>().map(|peer| peer.ends_at);
        let shared = Arc::clone(&self.shared);
        let stream = Driven::new(|out| {
            let agent = caller.agent.clone();
            let session = session::run(Arc::clone(&shared), agent, request.into_inner(), out);
            let session = served(session, while_known(Arc::clone(&shared), caller), ends_at);
            counted(shared, "session", session).instrument(span)
        });
        Ok(Response::new(stream))
    }

    async fn push(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        let caller = self.identify(&request)?;
        let traced = otel::push_span(request.metadata());
        let span = traced.in_scope(|| info_span!("push", agent = caller.agent, certificate = caller.serial()));
        let shared = Arc::clone(&self.shared);
        let stream = Driven::new(|out| {
            let push = push::run(Arc::clone(&shared), caller.agent.clone(), request.into_inner(), out);
            // It may last longer than its connection should: a run goes on on it to its end.
            let push = served(push, while_known(Arc::clone(&shared), caller), None);
            counted(shared, "push", push).instrument(span).instrument(traced)
        });
        Ok(Response::new(stream))
    }
}

/// Serves a stream until it ends, its caller is not known any more, or its time on this connection is over. A handler
/// may be dropped at any point, as it is when its peer hangs up: the store's transactions are whole or nothing.
async fn served(
    handler: impl Future<Output = Result<(), Problem>>,
    unknown: impl Future<Output = Problem>,
    ends_at: Option<Instant>,
) -> Result<(), Problem> {
    let aged = async {
        match ends_at {
            Some(ends_at) => sleep_until(ends_at).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        ended = handler => ended,
        problem = unknown => Err(problem),
        () = aged => Err(Problem::new(Reason::Draining, "the connection has reached its age; connect again")),
    }
}

/// Waits until what the caller showed does not count any more: it left the list, its token was changed, or its
/// certificate ran out.
async fn while_known(shared: Arc<Shared>, caller: Caller) -> Problem {
    let mut agents = shared.agents.subscribe();
    loop {
        let now = shared.clock.now();
        let checked = agents.borrow_and_update().check(&caller, now);
        if let Err(error) = checked {
            info!(%error, "a stream ends: its caller is not known any more");
            return error.into();
        }
        let left = caller.not_after().and_then(|end| Duration::try_from(end.duration_since(now)).ok());
        // The wall clock may be set meanwhile.
        let look = left.map_or(LOOK, |left| left.saturating_add(PAST_THE_END).min(LOOK));
        tokio::select! {
            // The sender lives as long as this.
            _ = agents.changed() => {}
            () = tokio::time::sleep(look) => {}
        }
    }
}

/// Counts a stream that ends in error.
async fn counted(
    shared: Arc<Shared>,
    stream: &'static str,
    ends: impl Future<Output = Result<(), Problem>>,
) -> Result<(), Problem> {
    let ended = ends.await;
    shared.metrics.stream_ended(stream, &ended);
    ended
}
