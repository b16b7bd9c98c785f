//! What an agent is offered, and what its answer does.

use hybrid_runner_proto::v1::{self, Reason};

use super::handshake::positive;
use crate::check::{Checked, checks, ensure, failed};
use crate::kit::{Kit, verdict};
use crate::wire::{Heard, Session, granted, hello};

/// Bytes of a definition.
const DEFINITION: usize = 192 * 1024;

/// Bytes of the name of a pipeline.
const NAME: usize = 256;

checks! {
    a_definition_is_json_within_its_limits: "A definition has a name of at most 256 bytes, a version above 0 and a workflow of at most 192 KiB of JSON.";
    only_definitions_of_the_agents_sources_come: "An agent is offered no definition of a source that it did not name in `Hello.sources`.";
    a_session_that_looks_is_sent_definitions_only: "A session that only looks is sent definitions, then `DefinitionsSent`, and nothing else.";
    nothing_is_granted_before_the_definition_was_accepted: "A run is granted only to a session that accepted the definition, in the version that was sent.";
    a_rejected_definition_is_not_granted: "A rejected definition is never granted to this agent.";
    nothing_is_granted_without_a_free_slot: "Nothing is granted without a free slot; `LeaseRequest` with 0 slots takes an earlier one back.";
    a_grant_is_complete: "A `Grant` has a token of run, fence above 0 and 16 bytes of lease id, the version that was accepted, an attempt of at least 1 and both times.";
}

async fn a_definition_is_json_within_its_limits(kit: &mut Kit) -> Checked {
    let (_session, definition) = kit.offered(&[]).await?;
    let v1::Definition { pipeline, version, workflow_json, .. } = definition;
    ensure(!pipeline.is_empty() && pipeline.len() <= NAME, || format!("the name has {} bytes", pipeline.len()))?;
    ensure(version > 0, || "the version is 0".to_owned())?;
    ensure(workflow_json.len() <= DEFINITION, || format!("the workflow has {} bytes", workflow_json.len()))?;
    match serde_json::from_str::<serde_json::Value>(&workflow_json) {
        Err(error) => failed(format!("the workflow is not JSON (line {}, column {})", error.line(), error.column())),
        Ok(workflow) => {
            let kind = workflow.pointer("/source/type").and_then(serde_json::Value::as_str).unwrap_or_default();
            ensure(kind.eq_ignore_ascii_case("salesforce"), || {
                format!("the workflow's source.type is {kind:?}, and the agent named `salesforce` only")
            })
        }
    }
}

async fn only_definitions_of_the_agents_sources_come(kit: &mut Kit) -> Checked {
    for sources in [Vec::new(), vec!["a_source_that_nobody_knows".to_owned()]] {
        let (mut session, _) = Session::hello(&kit.link, v1::Hello { sources, ..hello() }).await?;
        if let Some(pipeline) = session.never(offered).await? {
            return failed(format!("`{pipeline}` was offered to an agent without its source"));
        }
    }
    Ok(())
}

fn offered(heard: Heard) -> Option<String> {
    match heard {
        Heard::Definition(definition) => Some(definition.pipeline),
        _ => None,
    }
}

async fn a_session_that_looks_is_sent_definitions_only(kit: &mut Kit) -> Checked {
    kit.needs("diagnostic").await?;
    let looks = v1::Hello { capabilities: vec!["diagnostic".to_owned()], diagnostic: true, ..hello() };
    let (mut session, _) = Session::hello(&kit.link, looks).await?;
    let mut definitions = 0;
    loop {
        match session.hear().await? {
            Heard::Definition(_) => definitions += 1,
            Heard::DefinitionsSent(_) => break,
            _ => return failed("something else than definitions came before DefinitionsSent"),
        }
    }
    ensure(definitions > 0, || "DefinitionsSent came before any definition".to_owned())?;
    session.ask(1).await;
    match session.never(granted).await? {
        None => Ok(()),
        Some(_) => failed("a run was granted to a session that only looks"),
    }
}

/// A run is queued that this session could be granted.
async fn queued(kit: &mut Kit) -> Checked {
    kit.hold().await?;
    kit.hand_back(Reason::Draining).await.map(drop)
}

async fn nothing_is_granted_before_the_definition_was_accepted(kit: &mut Kit) -> Checked {
    queued(kit).await?;
    let (mut session, definition) = kit.offered(&[]).await?;
    session.ask(1).await;
    if session.never(granted).await?.is_some() {
        return failed("a run was granted before its definition was answered");
    }
    let late = v1::Definition { version: definition.version + 1, ..definition.clone() };
    session.say(verdict(&late, true)).await;
    if session.never(granted).await?.is_some() {
        return failed("a run was granted after another version had been accepted than the one that was sent");
    }
    session.say(verdict(&definition, true)).await;
    let grant = session.grant().await?;
    kit.keep(session, grant).map(drop)
}

async fn a_rejected_definition_is_not_granted(kit: &mut Kit) -> Checked {
    queued(kit).await?;
    let (mut session, definition) = kit.offered(&[]).await?;
    session.say(verdict(&definition, false)).await;
    session.ask(1).await;
    if session.never(granted).await?.is_some() {
        return failed("a run was granted to an agent that rejected its definition");
    }
    drop(session);
    // Another agent, which accepts it, gets the run.
    kit.hold().await.map(drop)
}

async fn nothing_is_granted_without_a_free_slot(kit: &mut Kit) -> Checked {
    queued(kit).await?;
    let (mut session, definition) = kit.offered(&[]).await?;
    session.ask(1).await;
    session.ask(0).await;
    session.say(verdict(&definition, true)).await;
    if session.never(granted).await?.is_some() {
        return failed("a run was granted to a session whose request for slots had been taken back");
    }
    session.ask(1).await;
    let grant = session.grant().await?;
    kit.keep(session, grant).map(drop)
}

async fn a_grant_is_complete(kit: &mut Kit) -> Checked {
    queued(kit).await?;
    let (session, definition) = kit.offered(&[]).await?;
    session.say(verdict(&definition, true)).await;
    kit.take(session).await?;
    let grant = &kit.holder()?.grant;
    let Some(token) = &grant.token else { return failed("there is no token") };
    ensure(!token.run_id.is_empty(), || "the run has no id".to_owned())?;
    ensure(token.fence > 0, || "the fence is 0".to_owned())?;
    ensure(token.lease_id.len() == 16, || format!("the lease id has {} bytes", token.lease_id.len()))?;
    ensure(grant.pipeline == definition.pipeline, || format!("it is of the pipeline {:?}", grant.pipeline))?;
    ensure(grant.definition_version == definition.version, || {
        format!("version {} was accepted, {} is granted", definition.version, grant.definition_version)
    })?;
    ensure(grant.attempt >= 1, || "the attempt is 0".to_owned())?;
    positive("Grant.start_timeout", grant.start_timeout)?;
    positive("Grant.run_timeout", grant.run_timeout)?;
    ensure(grant.checkpoint.is_none(), || "it has a checkpoint, and the agent did not list `resume`".to_owned())
}
