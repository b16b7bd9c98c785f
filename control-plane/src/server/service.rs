//! The gRPC service: who calls, then over to the session or the push.

use std::sync::Arc;

use hybrid_runner_proto::v1::runner_service_server::RunnerService;
use hybrid_runner_proto::v1::{PushRequest, PushResponse, SessionRequest, SessionResponse};
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, info, info_span};

use super::accept::Peer;
use crate::shared::Shared;
use crate::status::Problem;
use crate::stream::Driven;
use crate::{otel, push, session};

/// The service.
#[derive(Debug)]
pub(super) struct Runner {
    shared: Arc<Shared>,
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The name of the agent that calls.
    fn identify<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.as_deref());
        let agents = self.shared.agents.borrow().clone();
        agents.identify(request.metadata(), certificate).map_err(|error| {
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
        let agent = self.identify(&request)?;
        let span = info_span!("session", agent);
        let shared = Arc::clone(&self.shared);
        let stream = Driven::new(|out| {
            counted(Arc::clone(&shared), "session", session::run(shared, agent, request.into_inner(), out))
                .instrument(span)
        });
        Ok(Response::new(stream))
    }

    async fn push(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        let agent = self.identify(&request)?;
        let traced = otel::push_span(request.metadata());
        let span = traced.in_scope(|| info_span!("push", agent));
        let shared = Arc::clone(&self.shared);
        let stream = Driven::new(|out| {
            counted(Arc::clone(&shared), "push", push::run(shared, agent, request.into_inner(), out))
                .instrument(span)
                .instrument(traced)
        });
        Ok(Response::new(stream))
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
