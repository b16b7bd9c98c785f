//! How a session begins, and who may begin one.

use hybrid_runner_proto::v1::{self, Reason};
use tonic_types::StatusExt as _;

use crate::check::{Checked, Stop, checks, ensure, failed, not_run};
use crate::connect::{ConnectError, Identity, Link, connect};
use crate::kit::Kit;
use crate::wire::{Heard, Push, Said, Session, hello};

checks! {
    hello_is_answered_by_welcome: "`Welcome` is the answer to `Hello`, before anything else and within 10 s.";
    the_version_in_force_is_spoken_by_both: "The version in force is the highest that both sides speak.";
    no_common_version_is_refused: "Where no version is spoken by both sides the session ends with `VERSION_UNSUPPORTED`.";
    unknown_capabilities_are_ignored: "Capabilities that the receiver does not know are ignored.";
    the_first_message_is_hello: "A session whose first message is not `Hello` ends with `PROTOCOL_VIOLATION`.";
    hello_comes_once: "A second `Hello` ends the session with `PROTOCOL_VIOLATION`.";
    a_session_message_has_content: "A message without content ends its stream with `PROTOCOL_VIOLATION`.";
    an_instance_id_has_16_bytes: "An `instance_id` of another length than 16 bytes ends the session with `PROTOCOL_VIOLATION`.";
    an_unlisted_capability_is_named: "A message of a capability that the receiver did not list ends the stream with `PROTOCOL_VIOLATION`, and the text names the capability.";
    nobody_is_served_without_an_identity: "Without a client certificate or bearer token both streams end with `IDENTITY_UNKNOWN`.";
    an_unknown_token_is_refused: "A bearer token that is not known ends the stream with `IDENTITY_UNKNOWN`.";
    a_heartbeat_is_answered_with_its_id: "Each `Heartbeat` is answered by `HeartbeatAck` with its id, also when it lists no lease.";
    two_sessions_of_one_identity_live_side_by_side: "No session supersedes another one's: agents that share an identity differ in `instance_id`.";
    a_pause_is_a_duration_above_zero: "Where a status is `UNAVAILABLE`, or `RetryInfo` or `Pushback` come, the pause that they ask for is above zero.";
}

async fn hello_is_answered_by_welcome(kit: &mut Kit) -> Checked {
    let (_session, welcome) = Session::hello(&kit.link, hello()).await?;
    let interval = positive("Welcome.heartbeat_interval", welcome.heartbeat_interval)?;
    let ttl = positive("Welcome.lease_ttl", welcome.lease_ttl)?;
    ensure(interval < ttl, || {
        format!("the interval {interval:?} is not below the TTL {ttl:?}: the agent would stop each run at once")
    })?;
    ensure(welcome.resumed_run_ids.is_empty(), || "Welcome resumes leases that Hello does not name".to_owned())
}

async fn the_version_in_force_is_spoken_by_both(kit: &mut Kit) -> Checked {
    for max in [1, 1_000] {
        let (_session, welcome) = Session::hello(&kit.link, v1::Hello { protocol_max: max, ..hello() }).await?;
        let protocol = welcome.protocol;
        ensure((1..=max).contains(&protocol), || format!("the agent speaks 1 to {max}, in force is {protocol}"))?;
    }
    Ok(())
}

async fn no_common_version_is_refused(kit: &mut Kit) -> Checked {
    let far = v1::Hello { protocol_min: 1_000_000, protocol_max: 1_000_001, ..hello() };
    let mut session = Session::start(&kit.link, Some(Said::Hello(far))).await?;
    session.refused(Reason::VersionUnsupported).await.map(drop)
}

async fn unknown_capabilities_are_ignored(kit: &mut Kit) -> Checked {
    let capabilities = vec!["a_capability_that_nobody_knows".to_owned(), String::new()];
    let (session, _) = Session::hello(&kit.link, v1::Hello { capabilities, ..hello() }).await?;
    session.beat(&[]).await.map(drop)
}

async fn the_first_message_is_hello(kit: &mut Kit) -> Checked {
    let firsts = [
        Said::LeaseRequest(v1::LeaseRequest { slots: 1 }),
        Said::Heartbeat(v1::Heartbeat::default()),
        Said::Release(v1::Release::default()),
        Said::DefinitionStatus(v1::DefinitionStatus::default()),
    ];
    for first in firsts {
        let mut session = Session::start(&kit.link, Some(first)).await?;
        session.refused(Reason::ProtocolViolation).await?;
    }
    Ok(())
}

async fn hello_comes_once(kit: &mut Kit) -> Checked {
    let (mut session, _) = Session::hello(&kit.link, hello()).await?;
    session.say(Said::Hello(hello())).await;
    session.refused(Reason::ProtocolViolation).await.map(drop)
}

async fn a_session_message_has_content(kit: &mut Kit) -> Checked {
    let mut session = Session::start(&kit.link, None).await?;
    session.refused(Reason::ProtocolViolation).await?;
    let (mut session, _) = Session::hello(&kit.link, hello()).await?;
    session.say_nothing().await;
    session.refused(Reason::ProtocolViolation).await?;
    let mut push = Push::start(&kit.link, None, false).await?;
    push.refused(Reason::ProtocolViolation).await.map(drop)
}

async fn an_instance_id_has_16_bytes(kit: &mut Kit) -> Checked {
    for length in [0, 15, 17] {
        let short = v1::Hello { instance_id: vec![7; length].into(), ..hello() };
        let mut session = Session::start(&kit.link, Some(Said::Hello(short))).await?;
        session.refused(Reason::ProtocolViolation).await?;
    }
    Ok(())
}

async fn an_unlisted_capability_is_named(kit: &mut Kit) -> Checked {
    let mut tested = 0;
    for (capability, message) in [
        ("drain", Said::Draining(v1::Draining::default())),
        ("logs", Said::LogLines(v1::LogLines::default())),
        ("test_connection", Said::TestConnectionResult(v1::TestConnectionResult::default())),
    ] {
        if kit.lists(capability).await? {
            continue;
        }
        tested += 1;
        let (mut session, _) = Session::hello(&kit.link, hello()).await?;
        session.say(message).await;
        let status = session.refused(Reason::ProtocolViolation).await?;
        ensure(status.message().contains(capability), || {
            format!("{:?} does not name `{capability}`", status.message())
        })?;
    }
    if tested == 0 {
        not_run("the control plane lists every capability that has messages of the agent")
    } else {
        Ok(())
    }
}

async fn nobody_is_served_without_an_identity(kit: &mut Kit) -> Checked {
    let Some(link) = another(kit, Identity::None).await? else { return Ok(()) };
    let mut session = Session::start(&link, Some(Said::Hello(hello()))).await?;
    unknown(session.refused(Reason::IdentityUnknown).await)?;
    let token = v1::WriteToken { run_id: "nobody".to_owned(), fence: 1, lease_id: vec![0; 16].into() };
    let mut push = Push::knock(&link, &token).await?;
    unknown(push.refused(Reason::IdentityUnknown).await)
}

async fn an_unknown_token_is_refused(kit: &mut Kit) -> Checked {
    let nobody = Identity::Token(format!("nobody-{}", uuid::Uuid::new_v4()));
    let Some(link) = another(kit, nobody).await? else { return Ok(()) };
    let mut session = Session::start(&link, Some(Said::Hello(hello()))).await?;
    unknown(session.refused(Reason::IdentityUnknown).await)
}

/// A connection as somebody else. `None`: the handshake refuses them already, which is as good.
async fn another(kit: &Kit, identity: Identity) -> Checked<Option<Link>> {
    match connect(&crate::Target { identity, ..kit.target.clone() }).await {
        Ok(link) => Ok(Some(link)),
        Err(ConnectError::Network { .. }) => Ok(None),
        Err(other) => failed(other.to_string()),
    }
}

/// With TLS 1.3 a server that wants a certificate says so after the handshake, by ending the connection: nothing is
/// served then either.
fn unknown(refused: Checked<tonic::Status>) -> Checked {
    match refused {
        Err(Stop::Failed(why)) if why.contains("transport error") || why.contains("CertificateRequired") => Ok(()),
        other => other.map(drop),
    }
}

async fn a_heartbeat_is_answered_with_its_id(kit: &mut Kit) -> Checked {
    let (session, _) = Session::hello(&kit.link, hello()).await?;
    for _ in 0..3 {
        let renewed = session.beat(&[]).await?;
        ensure(renewed.is_empty(), || format!("a heartbeat without leases renewed {renewed:?}"))?;
    }
    Ok(())
}

async fn two_sessions_of_one_identity_live_side_by_side(kit: &mut Kit) -> Checked {
    let (first, _) = Session::hello(&kit.link, hello()).await?;
    let (second, _) = Session::hello(&kit.link, hello()).await?;
    for session in [&first, &second, &first] {
        session.beat(&[]).await?;
    }
    Ok(())
}

async fn a_pause_is_a_duration_above_zero(kit: &mut Kit) -> Checked {
    // A control plane has no reason to ask for one here, but for a pushback; what it says is looked at.
    let (mut session, _) = Session::hello(&kit.link, hello()).await?;
    let pushback = |heard| match heard {
        Heard::Pushback(pushback) => Some(pushback),
        _ => None,
    };
    if let Some(pushback) = session.never(pushback).await? {
        positive("Pushback.retry_after", pushback.retry_after)?;
    }
    let mut refused = Session::start(&kit.link, Some(Said::LeaseRequest(v1::LeaseRequest::default()))).await?;
    let status = refused.refused(Reason::ProtocolViolation).await?;
    match status.get_details_retry_info() {
        None => Ok(()),
        Some(info) => ensure(info.retry_delay.is_some_and(|delay| !delay.is_zero()), || {
            "RetryInfo.retry_delay is absent or zero".to_owned()
        }),
    }
}

/// A duration of the wire that must be there and above zero.
pub(super) fn positive(what: &str, duration: Option<prost_types::Duration>) -> Checked<std::time::Duration> {
    let duration = duration.and_then(|duration| std::time::Duration::try_from(duration).ok());
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| Stop::Failed(format!("{what} is absent, zero or negative")))
}
