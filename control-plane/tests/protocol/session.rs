//! Sessions: what is offered, granted, renewed and taken back.

use std::time::Duration;

use control_plane::config::LeaseConfig;
use control_plane::store::RunState;
use hybrid_runner_proto::v1::{self, Reason, session_request, session_response};
use tonic::Code;

use crate::agent::{Push, Session, Shown, client, granted, hello, reason, west};
use crate::plane::{PIPELINE, Plane, WORKFLOW, soon};

#[tokio::test]
async fn welcome_says_what_is_in_force() {
    let plane = Plane::start().await;
    let (mut session, welcome) = Session::hello(&mut west(&plane).await).await;
    assert_eq!(welcome.protocol, 1);
    assert_eq!(
        welcome.capabilities,
        [
            "zstd",
            "memos",
            "resume",
            "drain",
            "test_connection",
            "secret_preflight",
            "diagnostic",
            "logs",
            "traceparent"
        ]
    );
    assert_eq!(welcome.heartbeat_interval.unwrap().seconds, 15);
    assert_eq!(welcome.lease_ttl.unwrap().seconds, 60);
    let definition = session.definition().await;
    assert_eq!((definition.pipeline.as_str(), definition.version), (PIPELINE, 1));
    let workflow: serde_json::Value = serde_json::from_str(&definition.workflow_json).unwrap();
    assert_eq!(workflow["source"]["serviceConnection"]["config"]["password"], "secret:/a");
}

#[tokio::test]
async fn whatever_comes_before_hello_is_a_violation() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    for message in [
        session_request::Message::LeaseRequest(v1::LeaseRequest { slots: 1 }),
        session_request::Message::Heartbeat(v1::Heartbeat::default()),
    ] {
        let mut session = Session::open(&mut client).await.unwrap();
        session.say(message).await;
        let status = session.end().await;
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Reason::ProtocolViolation));
    }
    let (mut session, _) = Session::hello(&mut client).await;
    session.say(session_request::Message::Hello(hello())).await;
    assert_eq!(reason(&session.end().await), Reason::ProtocolViolation);
}

#[tokio::test]
async fn a_version_that_is_not_spoken_is_refused() {
    let plane = Plane::start().await;
    let mut session = Session::open(&mut west(&plane).await).await.unwrap();
    session.say(session_request::Message::Hello(v1::Hello { protocol_min: 2, protocol_max: 3, ..hello() })).await;
    let status = session.end().await;
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, Reason::VersionUnsupported));
}

#[tokio::test]
async fn a_message_of_a_capability_that_was_not_listed_is_a_violation_that_names_it() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut session, _) = Session::hello(&mut client).await;
    session.say(session_request::Message::LogLines(v1::LogLines::default())).await;
    let status = session.end().await;
    assert_eq!(reason(&status), Reason::ProtocolViolation);
    assert!(status.message().contains("`logs`"), "{}", status.message());
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let status = |detail: usize| {
        session_request::Message::DefinitionStatus(v1::DefinitionStatus {
            detail: "x".repeat(detail),
            ..Default::default()
        })
    };
    let renewals = vec![v1::LeaseRenewal::default(); 65];
    let heartbeat = session_request::Message::Heartbeat(v1::Heartbeat { id: 1, renewals });
    for message in [status(4 * 1024 + 1), status(256 * 1024), status(5 * 1024 * 1024), heartbeat] {
        let (mut session, _) = Session::hello(&mut client).await;
        session.say(message).await;
        assert_eq!(reason(&session.end().await), Reason::LimitExceeded);
    }
}

#[tokio::test]
async fn an_agent_without_the_connector_is_offered_nothing() {
    let plane = Plane::start().await;
    let other = v1::Hello { sources: vec!["sap".to_owned()], ..hello() };
    let (mut session, _) = Session::hello_with(&mut west(&plane).await, other).await;
    // The answer to a heartbeat comes next: no definition was sent before it.
    assert_eq!(session.beat(1, &[]).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_rejected_definition_is_not_granted_and_its_reason_is_kept() {
    let plane = Plane::start().await;
    let (mut session, _) = Session::hello(&mut west(&plane).await).await;
    let definition = session.definition().await;
    session
        .say(session_request::Message::DefinitionStatus(v1::DefinitionStatus {
            pipeline: definition.pipeline,
            version: definition.version,
            accepted: false,
            reason: Reason::LiteralSecret.into(),
            detail: "password: a literal".to_owned(),
            unreadable_secrets: Vec::new(),
        }))
        .await;
    session.ask(1).await;
    plane.trigger().await;
    assert_eq!(session.beat(1, &[]).await, Vec::<String>::new());
    let verdicts = plane.handle.store().verdicts().await.unwrap();
    assert_eq!(verdicts[0].reason.as_deref(), Some("LITERAL_SECRET"));
    assert_eq!((verdicts[0].agent.as_str(), verdicts[0].accepted), ("west", false));
    // The definition changes: it is offered again and may be accepted.
    std::fs::write(plane.pipeline_file("crm.yaml"), WORKFLOW.replace("username: u", "username: v")).unwrap();
    let changed = session.definition().await;
    assert_eq!(changed.version, 2);
    session.accept(&changed).await;
    assert_eq!(session.grant().await.definition_version, 2);
}

#[tokio::test]
async fn what_an_agent_cannot_read_is_kept_with_its_answer_and_does_not_keep_the_run_away() {
    let plane = Plane::start().await;
    let (mut session, _) = Session::hello(&mut west(&plane).await).await;
    let definition = session.definition().await;
    let unreadable = v1::UnreadableSecret {
        field: "password".to_owned(),
        reference: "secret:/a".to_owned(),
        reason: Reason::SecretUnavailable.into(),
        detail: "not found".to_owned(),
    };
    session
        .say(session_request::Message::DefinitionStatus(v1::DefinitionStatus {
            pipeline: definition.pipeline,
            version: definition.version,
            accepted: true,
            unreadable_secrets: vec![unreadable],
            ..v1::DefinitionStatus::default()
        }))
        .await;
    session.ask(1).await;
    plane.trigger().await;
    session.grant().await;
    let verdict = plane.handle.store().verdicts().await.unwrap().remove(0);
    assert!(verdict.accepted);
    let [secret] = &verdict.unreadable_secrets[..] else { panic!("{verdict:?}") };
    assert_eq!((secret.field.as_str(), secret.reason.as_str()), ("password", "SECRET_UNAVAILABLE"));
    assert_eq!((secret.reference.as_str(), secret.detail.as_str()), ("secret:/a", "not found"));
}

#[tokio::test]
async fn a_diagnostic_session_is_sent_definitions_and_nothing_else_and_disturbs_nobody() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut agent, token) = granted(&plane, &mut client).await;
    let sessions = plane.handle.sessions();
    assert_eq!(sessions.len(), 1);
    // It claims the other one's lease, answers and asks: nothing comes of it.
    let held = vec![v1::HeldLease { token: Some(token.clone()), pipeline: PIPELINE.to_owned() }];
    let look = v1::Hello { diagnostic: true, instance_id: vec![8; 16].into(), held, ..hello() };
    let (mut looker, welcome) = Session::hello_with(&mut client, look).await;
    assert_eq!(welcome.resumed_run_ids, Vec::<String>::new());
    let definition = looker.definition().await;
    assert_eq!(looker.hear().await, session_response::Message::DefinitionsSent(v1::DefinitionsSent {}));
    let status = v1::DefinitionStatus {
        pipeline: definition.pipeline,
        version: definition.version,
        detail: "no".to_owned(),
        ..v1::DefinitionStatus::default()
    };
    looker.say(session_request::Message::DefinitionStatus(status)).await;
    looker.ask(1).await;
    // One is queued beside the one that runs; another agent would get it as soon as that one ends.
    plane.trigger().await;
    assert_eq!(looker.beat(1, &[]).await, Vec::<String>::new());
    assert_eq!(plane.handle.sessions(), sessions, "it is not listed");
    let verdicts = plane.handle.store().verdicts().await.unwrap();
    assert!(verdicts.iter().all(|verdict| verdict.accepted), "{verdicts:?}");
    drop(looker);
    assert_eq!(agent.beat(1, std::slice::from_ref(&token)).await, [token.run_id], "the lease is the agent's as before");
}

#[tokio::test]
async fn two_agents_never_run_one_pipeline_at_once() {
    let plane = Plane::start().await;
    let mut first = Session::ready(&mut west(&plane).await, 2).await;
    let mut south = client(&plane, Shown::Token("another-token")).await;
    let mut second = Session::ready(&mut south, 2).await;
    let run_id = plane.trigger().await;
    plane
        .until("a grant", || async {
            let run = plane.handle.store().run(run_id).await.unwrap()?;
            (run.state == RunState::Granted).then_some(())
        })
        .await;
    plane.trigger().await;
    let (mut holder, mut other) = match plane.handle.store().run(run_id).await.unwrap().unwrap().agent.as_deref() {
        Some("west") => (first, second),
        _ => {
            std::mem::swap(&mut first, &mut second);
            (first, second)
        }
    };
    let grant = holder.grant().await;
    assert_eq!(holder.beat(1, &[]).await, Vec::<String>::new());
    assert_eq!(other.beat(1, &[]).await, Vec::<String>::new());
    // It gives the run back as failed: the next one may be granted, to either, under a greater fence.
    let token = grant.token.unwrap();
    holder
        .say(session_request::Message::Release(v1::Release {
            token: Some(token.clone()),
            outcome: v1::Outcome::Failed.into(),
            reason: Reason::AuthFailed.into(),
            detail: "wrong password".to_owned(),
        }))
        .await;
    let failed = soon("the end of the run", plane.handle.run_ended(run_id)).await.unwrap();
    assert_eq!((failed.state, failed.reason.as_deref()), (RunState::Failed, Some("AUTH_FAILED")));
    assert_eq!(failed.detail.as_deref(), Some("wrong password"));
    let next = plane
        .until("the next grant", || async {
            let runs = plane.handle.store().open_runs().await.unwrap();
            runs.into_iter().find(|run| run.state == RunState::Granted)
        })
        .await;
    assert!(next.token().unwrap().fence > token.fence);
}

#[tokio::test]
async fn a_release_is_answered_however_often_it_comes() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    let release = session_request::Message::Release(v1::Release {
        token: Some(token.clone()),
        outcome: v1::Outcome::Cancelled.into(),
        reason: Reason::Cancelled.into(),
        detail: String::new(),
    });
    for _ in 0..2 {
        session.say(release.clone()).await;
        match session.hear().await {
            session_response::Message::Released(released) => assert_eq!(released.run_id, token.run_id),
            other => panic!("expected Released, got {other:?}"),
        }
    }
    let run = plane.handle.store().run(token.run_id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Cancelled);
}

#[tokio::test]
async fn a_run_that_is_handed_back_is_granted_again() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    session.ask(1).await;
    session
        .say(session_request::Message::Release(v1::Release {
            token: Some(token.clone()),
            outcome: v1::Outcome::HandedBack.into(),
            reason: Reason::Draining.into(),
            detail: String::new(),
        }))
        .await;
    assert!(matches!(session.hear().await, session_response::Message::Released(_)));
    let again = session.grant().await;
    assert_eq!(again.attempt, 1, "it does not count");
    let again = again.token.unwrap();
    assert_eq!(again.run_id, token.run_id);
    assert!(again.fence > token.fence);
}

#[tokio::test]
async fn a_removed_pipeline_is_revoked() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    let (mut push, _) = Push::open(&mut client, &token).await;
    std::fs::remove_file(plane.pipeline_file("crm.yaml")).unwrap();
    assert_eq!(push.fenced().await, Reason::LeaseRevoked);
    let mut heard = [session.hear().await, session.hear().await];
    heard.sort_by_key(|message| matches!(message, session_response::Message::Revoke(_)));
    match heard {
        [session_response::Message::DefinitionRemoved(removed), session_response::Message::Revoke(revoke)] => {
            assert_eq!(removed.pipeline, PIPELINE);
            assert_eq!((revoke.run_id.as_str(), revoke.reason()), (token.run_id.as_str(), Reason::LeaseRevoked));
        }
        other => panic!("expected DefinitionRemoved and Revoke, got {other:?}"),
    }
}

#[tokio::test]
async fn a_cancelled_run_is_revoked_as_such_and_its_writer_writes_nothing_more() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    let (mut push, _) = Push::open(&mut client, &token).await;
    // As another process does it: the store is all that they share.
    plane.handle.store().cancel(token.run_id.parse().unwrap(), jiff::Timestamp::now()).await.unwrap();
    assert_eq!(push.fenced().await, Reason::Cancelled);
    match session.hear().await {
        session_response::Message::Revoke(revoke) => {
            assert_eq!((revoke.run_id.as_str(), revoke.reason()), (token.run_id.as_str(), Reason::Cancelled));
        }
        other => panic!("expected Revoke, got {other:?}"),
    }
    assert_eq!(session.beat(1, std::slice::from_ref(&token)).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_goes_to_another_agent() {
    let plane = Plane::start().await;
    let mut client_west = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client_west).await;
    let (mut push, _) = Push::open(&mut client_west, &token).await;
    let mut south = client(&plane, Shown::Token("another-token")).await;
    let mut other = Session::ready(&mut south, 1).await;
    assert_eq!(session.beat(1, std::slice::from_ref(&token)).await, [token.run_id.as_str()]);
    // The time of a lease begins when the control plane sees its last renewal, which may be after the first of these.
    let grant = loop {
        plane.clock.advance(Duration::from_secs(66));
        if let Ok(grant) = tokio::time::timeout(Duration::from_secs(1), other.grant()).await {
            break grant;
        }
    };
    assert_eq!(grant.attempt, 1, "a lost agent does not count");
    let taken = grant.token.unwrap();
    assert_eq!(taken.run_id, token.run_id);
    assert!(taken.fence > token.fence);
    // The first one is told on both streams, and its heartbeat renews nothing.
    assert!(matches!(push.fenced().await, Reason::Fenced | Reason::LeaseExpired));
    match session.hear().await {
        session_response::Message::Revoke(revoke) => assert_eq!(revoke.run_id, token.run_id),
        other => panic!("expected Revoke, got {other:?}"),
    }
    assert_eq!(session.beat(2, &[token]).await, Vec::<String>::new());
    assert_eq!(other.beat(2, std::slice::from_ref(&taken)).await, [taken.run_id.as_str()]);
}

#[tokio::test]
async fn a_silent_session_is_closed_and_its_lease_lives() {
    let lease = LeaseConfig { ttl: Duration::from_secs(60), heartbeat: Duration::from_millis(100) };
    let plane = Plane::with_lease(lease).await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    let status = session.end().await;
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Reason::AgentLost));
    let held = v1::HeldLease { token: Some(token.clone()), pipeline: PIPELINE.to_owned() };
    let (_session, welcome) = Session::hello_with(&mut client, v1::Hello { held: vec![held], ..hello() }).await;
    assert_eq!(welcome.resumed_run_ids, [token.run_id]);
}

#[tokio::test]
async fn a_control_plane_that_starts_again_knows_its_leases() {
    let mut plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    plane.restart().await;
    assert_eq!(reason(&session.end().await), Reason::Draining);
    let mut client = west(&plane).await;
    let forged = v1::WriteToken { lease_id: vec![0; 16].into(), ..token.clone() };
    let held = |token: &v1::WriteToken| v1::HeldLease { token: Some(token.clone()), pipeline: PIPELINE.to_owned() };
    let hello = v1::Hello { held: vec![held(&forged), held(&token)], ..hello() };
    let (mut session, welcome) = Session::hello_with(&mut client, hello).await;
    assert_eq!(welcome.resumed_run_ids, [token.run_id.as_str()]);
    session.definition().await;
    assert_eq!(session.beat(1, std::slice::from_ref(&token)).await, [token.run_id.as_str()]);
}

#[tokio::test]
async fn a_request_of_another_process_is_acted_on() {
    let plane = Plane::start().await;
    let mut session = Session::ready(&mut west(&plane).await, 1).await;
    // Straight into the store, as `control-plane run` does: nothing in this process is told.
    let run_id = plane.handle.store().enqueue(PIPELINE, true, jiff::Timestamp::now()).await.unwrap();
    let grant = session.grant().await;
    assert_eq!((grant.token.unwrap().run_id, grant.full), (run_id.to_string(), true));
}

#[tokio::test]
async fn events_and_progress_reach_the_operator() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    let run_id = token.run_id.parse().unwrap();
    session
        .say(session_request::Message::RunEvent(v1::RunEvent {
            token: Some(token.clone()),
            severity: v1::Severity::Warning.into(),
            code: "login_slow".to_owned(),
            text: "took 4 s".to_owned(),
        }))
        .await;
    let progress = v1::Progress { stage: v1::Stage::Extract.into(), objects_done: 3, ..Default::default() };
    let renewals = vec![v1::LeaseRenewal { token: Some(token), progress: Some(progress) }];
    session.say(session_request::Message::Heartbeat(v1::Heartbeat { id: 9, renewals })).await;
    assert!(matches!(session.hear().await, session_response::Message::HeartbeatAck(_)));
    let events = plane.handle.store().events(run_id).await.unwrap();
    assert_eq!((events[0].severity.as_str(), events[0].code.as_str()), ("warning", "login_slow"));
    let progress = plane.handle.store().progress(run_id).await.unwrap().unwrap();
    assert_eq!((progress.stage.as_str(), progress.objects_done), ("extract", 3));
}

#[tokio::test]
async fn a_schedule_that_fell_due_runs_once() {
    let plane = Plane::start().await;
    let scheduled = format!("{WORKFLOW}\n---\nschedule: {{cron: '@hourly'}}\n");
    std::fs::write(plane.pipeline_file("crm.yaml"), scheduled).unwrap();
    plane
        .until("the schedule", || async {
            let definitions = plane.handle.store().definitions().await.unwrap();
            definitions[0].new.schedule.as_ref().map(|_| ())
        })
        .await;
    // Five ticks are missed: one run makes up for them.
    plane.clock.advance(Duration::from_secs(5 * 3600));
    let queued = plane
        .until("the scheduled run", || async { plane.handle.store().open_runs().await.unwrap().into_iter().next() })
        .await;
    assert_eq!(queued.state, RunState::Queued);
    assert_eq!(plane.handle.store().runs(None, 10).await.unwrap().len(), 1);
}
