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
use tonic::metadata::MetadataMap;

use super::driver::{MAX_MESSAGE, refused};
use super::machine::{ANSWER, PROTOCOL, SessionError};
use super::{Connector, Definition, Link, Reason, wire};
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
    let looked = look(link, sources).await.opened?.definitions().await?;
    Ok(looked.into_iter().map(|looked| looked.definition).collect())
}

/// What the control plane answered first.
pub(crate) struct Answer {
    /// The header `date` of its answer, also of a refusal.
    pub(crate) date: Option<String>,
    pub(crate) opened: Result<Look, SessionError>,
}

/// A session that only looks, welcomed.
pub(crate) struct Look {
    pub(crate) welcome: Welcome,
    answers: Streaming<v1::SessionResponse>,
    /// It lasts as long as its connection.
    _link: Link,
}

/// A definition, and what is known of the pipeline's last run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) definition: Definition,
    pub(crate) last_run: LastRun,
}

/// How the last run of a pipeline that is over ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastRun {
    /// The control plane does not say.
    NotKnown,
    /// None is over yet.
    None,
    /// So long ago.
    Committed(Duration),
    /// So long ago.
    Failed(Reason, Duration),
    /// So long ago.
    Cancelled(Duration),
}

/// The control plane, as it says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// Its name and version.
    pub(crate) control_plane: String,
    pub(crate) protocol: u32,
    /// What an agent can do and this control plane did not list.
    pub(crate) missing: Vec<&'static str>,
}

/// Opens a session that only looks on a connection.
///
/// # Cancel safety
/// Dropping the future ends the session.
pub(crate) async fn look(link: Link, sources: &[String]) -> Answer {
    // The stream stays open on this side for as long as this runs.
    let hello = wire::hello_to_look(uuid::Uuid::new_v4().into_bytes(), sources);
    let said = tokio_stream::once(hello).chain(tokio_stream::pending());
    let mut request = tonic::Request::new(said);
    link.authorize(request.metadata_mut());
    let mut client = RunnerServiceClient::new(link.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let (date, mut answers) = match within_answer(client.session(request)).await {
        Ok(Ok(response)) => (date_of(response.metadata()), response.into_inner()),
        Ok(Err(status)) => return Answer { date: date_of(status.metadata()), opened: Err(refused(&status)) },
        Err(error) => return Answer { date: None, opened: Err(error) },
    };
    let opened = match within_answer(answers.message()).await {
        Ok(first) => welcomed(first).map(|welcome| Look { welcome, answers, _link: link }),
        Err(error) => Err(error),
    };
    Answer { date, opened }
}

impl Look {
    /// All definitions of the moment.
    ///
    /// # Errors
    /// [`SessionError`]: the session ended before all was sent.
    pub(crate) async fn definitions(mut self) -> Result<Vec<Looked>, SessionError> {
        timeout(ALL_SENT, all(&mut self.answers)).await.map_err(|_elapsed| SessionError::NotAllSent)?
    }
}

fn date_of(headers: &MetadataMap) -> Option<String> {
    headers.get("date")?.to_str().ok().map(str::to_owned)
}

async fn within_answer<T>(answer: impl Future<Output = T>) -> Result<T, SessionError> {
    timeout(ANSWER, answer).await.map_err(|_elapsed| SessionError::NoWelcome)
}

fn welcomed(answer: Result<Option<v1::SessionResponse>, tonic::Status>) -> Result<Welcome, SessionError> {
    let response = answer.map_err(|status| refused(&status))?.ok_or(SessionError::Closed)?;
    let missing = wire::not_listed(&response);
    let is_diagnostic = wire::lists(&response, wire::DIAGNOSTIC);
    let Some(Message::Welcome(welcome)) = response.message else {
        return Err(SessionError::Violation("a message before Welcome".to_owned()));
    };
    if welcome.protocol != PROTOCOL {
        return Err(SessionError::Version(welcome.protocol));
    }
    if !is_diagnostic {
        return Err(SessionError::NoDiagnostics);
    }
    let control_plane = wire::name(welcome.control_plane_version);
    Ok(Welcome { control_plane, protocol: welcome.protocol, missing })
}

async fn all(answers: &mut Streaming<v1::SessionResponse>) -> Result<Vec<Looked>, SessionError> {
    let mut definitions: Vec<Looked> = Vec::new();
    loop {
        let response = answers.message().await.map_err(|status| refused(&status))?.ok_or(SessionError::Closed)?;
        match response.message {
            Some(Message::Definition(v1::Definition { pipeline, version, workflow_json, last_run })) => {
                definitions.retain(|looked| looked.definition.pipeline != pipeline);
                let definition = Definition { pipeline, version, workflow_json };
                definitions.push(Looked { definition, last_run: last_run.map_or(LastRun::NotKnown, of_wire) });
            }
            Some(Message::DefinitionRemoved(v1::DefinitionRemoved { pipeline })) => {
                definitions.retain(|looked| looked.definition.pipeline != pipeline);
            }
            Some(Message::DefinitionsSent(_)) => return Ok(definitions),
            // Nothing else is for somebody who only looks.
            _ => return Err(SessionError::Violation("a message that no diagnostic session is sent".to_owned())),
        }
    }
}

fn of_wire(last_run: v1::LastRun) -> LastRun {
    // Nobody reads a time that cannot be one.
    let ago = last_run.ended_ago.and_then(|ago| ago.try_into().ok()).unwrap_or_default();
    match v1::LastRunState::try_from(last_run.state) {
        Ok(v1::LastRunState::Unspecified) => LastRun::None,
        Ok(v1::LastRunState::Committed) => LastRun::Committed(ago),
        Ok(v1::LastRunState::Failed) => LastRun::Failed(wire::reason(last_run.reason), ago),
        Ok(v1::LastRunState::Cancelled) => LastRun::Cancelled(ago),
        Err(_unknown) => LastRun::NotKnown,
    }
}
