//! A session that only looks: it is sent the definitions that an agent of this identity gets, and nothing else.
//!
//! It holds no lease, asks for none, and disturbs no agent: its instance id is its own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_proto::v1;
use hybrid_runner_proto::v1::runner_service_client::RunnerServiceClient;
use hybrid_runner_proto::v1::session_response::Message;
use hybrid_runner_secrets::Resolver;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use super::driver::{MAX_MESSAGE, refused};
use super::machine::{ANSWER, SessionError};
use super::{Connector, Definition, wire};
use crate::config::ControlPlane;
use crate::dial::Tcp;

/// All definitions come within this time. A thousand of them are some 10 MiB.
const ALL_SENT: Duration = Duration::from_secs(60);

/// The definitions that the control plane has for an agent of this identity with connectors for `sources`.
///
/// # Errors
/// [`SessionError`]: there is no such session, or it ended before all was sent.
pub(crate) async fn definitions(
    control_plane: ControlPlane,
    sources: &[String],
    secrets: Resolver,
) -> Result<Vec<Definition>, SessionError> {
    let link = Connector::new(control_plane, Arc::new(Tcp), secrets).connect().await?;
    // The stream stays open on this side for as long as this runs.
    let hello = wire::hello_to_look(uuid::Uuid::new_v4().into_bytes(), sources);
    let said = tokio_stream::once(hello).chain(tokio_stream::pending());
    let mut request = tonic::Request::new(said);
    link.authorize(request.metadata_mut());
    let mut client = RunnerServiceClient::new(link.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let mut answers = within_answer(client.session(request)).await?.map_err(|status| refused(&status))?.into_inner();
    welcomed(within_answer(answers.message()).await?)?;
    timeout(ALL_SENT, all(&mut answers)).await.map_err(|_elapsed| SessionError::NotAllSent)?
}

async fn within_answer<T>(answer: impl Future<Output = T>) -> Result<T, SessionError> {
    timeout(ANSWER, answer).await.map_err(|_elapsed| SessionError::NoWelcome)
}

fn welcomed(answer: Result<Option<v1::SessionResponse>, tonic::Status>) -> Result<(), SessionError> {
    let response = answer.map_err(|status| refused(&status))?.ok_or(SessionError::Closed)?;
    if !matches!(response.message, Some(Message::Welcome(_))) {
        return Err(SessionError::Violation("a message before Welcome".to_owned()));
    }
    if wire::lists(&response, wire::DIAGNOSTIC) { Ok(()) } else { Err(SessionError::NoDiagnostics) }
}

async fn all(answers: &mut Streaming<v1::SessionResponse>) -> Result<Vec<Definition>, SessionError> {
    let mut definitions: Vec<Definition> = Vec::new();
    loop {
        let response = answers.message().await.map_err(|status| refused(&status))?.ok_or(SessionError::Closed)?;
        match response.message {
            Some(Message::Definition(v1::Definition { pipeline, version, workflow_json })) => {
                definitions.retain(|definition| definition.pipeline != pipeline);
                definitions.push(Definition { pipeline, version, workflow_json });
            }
            Some(Message::DefinitionRemoved(v1::DefinitionRemoved { pipeline })) => {
                definitions.retain(|definition| definition.pipeline != pipeline);
            }
            Some(Message::DefinitionsSent(_)) => return Ok(definitions),
            // Nothing else is for somebody who only looks.
            _ => return Err(SessionError::Violation("a message that no diagnostic session is sent".to_owned())),
        }
    }
}
