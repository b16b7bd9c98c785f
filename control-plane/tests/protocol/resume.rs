//! How a run goes on: on another agent, after a pause, clean, or not at all.

use std::time::Duration;

use control_plane::config::LeaseConfig;
use control_plane::store::{Run, RunState};
use hybrid_runner_proto::v1::{self, Outcome, Reason, push_response, session_request};
use tonic::Code;

use crate::agent::{Client, Push, Session, Shown, client, eof, granted, hello, reason, tables, west};
use crate::plane::{Plane, soon};

async fn south(plane: &Plane) -> Client {
    client(plane, Shown::Token("another-token")).await
}

async fn run(plane: &Plane, token: &v1::WriteToken) -> Run {
    plane.handle.store().run(token.run_id.parse().unwrap()).await.unwrap().unwrap()
}

/// A run of which three records are durable.
async fn begun(plane: &Plane, client: &mut Client) -> (Session, v1::WriteToken) {
    let (session, token) = granted(plane, client).await;
    let (mut push, _) = Push::open(client, &token).await;
    push.batch(&token, &tables(3)).await;
    assert_eq!(push.ack().await, 3);
    (session, token)
}

#[tokio::test]
async fn a_run_that_is_handed_back_goes_on_on_another_agent_after_its_last_durable_batch() {
    let plane = Plane::start().await;
    let mut west = west(&plane).await;
    let (mut leaving, token) = begun(&plane, &mut west).await;
    let mut south = south(&plane).await;
    let mut staying = Session::ready(&mut south, 1).await;
    leaving.release(&token, Outcome::HandedBack, Reason::Draining).await;
    let grant = staying.grant().await;
    let taken = grant.token.unwrap();
    assert_eq!((taken.run_id.as_str(), grant.attempt), (token.run_id.as_str(), 1));
    let checkpoint = grant.checkpoint.unwrap();
    assert_eq!((checkpoint.next_seq, checkpoint.source_position.as_ref()), (3, b"here".as_slice()));
    let (mut push, opened) = Push::open(&mut south, &taken).await;
    assert_eq!((opened.next_seq, opened.source_position), (3, checkpoint.source_position));
    assert_eq!((opened.digest.len(), opened.digest), (32, checkpoint.digest));
    let records = tables(5);
    push.batch(&taken, &records[3..]).await;
    assert_eq!(push.ack().await, 5);
    push.say(eof(&taken, &records)).await;
    match push.hear().await {
        push_response::Message::Committed(committed) => assert_eq!((committed.count, committed.entities), (5, 5)),
        other => panic!("expected Committed, got {other:?}"),
    }
}

#[tokio::test]
async fn an_agent_that_did_not_list_resume_is_granted_a_clean_run() {
    let plane = Plane::start().await;
    let mut west = west(&plane).await;
    let (mut leaving, token) = begun(&plane, &mut west).await;
    let mut south = south(&plane).await;
    let plain = v1::Hello { capabilities: Vec::new(), ..hello() };
    let mut staying = Session::ready_as(&mut south, plain, 1).await;
    leaving.release(&token, Outcome::HandedBack, Reason::Draining).await;
    let grant = staying.grant().await;
    assert_eq!(grant.checkpoint, None);
    let (_push, opened) = Push::open(&mut south, &grant.token.unwrap()).await;
    assert_eq!((opened.next_seq, opened.source_position.as_ref()), (0, b"".as_slice()));
}

#[tokio::test]
async fn a_run_whose_source_cannot_go_on_is_granted_again_at_once_and_clean() {
    let plane = Plane::start().await;
    let mut west = west(&plane).await;
    let (mut session, token) = begun(&plane, &mut west).await;
    session.ask(1).await;
    session.release(&token, Outcome::HandedBack, Reason::CheckpointUnusable).await;
    let grant = session.grant().await;
    assert_eq!((grant.attempt, grant.checkpoint), (1, None));
    let again = grant.token.unwrap();
    assert_eq!(again.run_id, token.run_id);
    let (_push, opened) = Push::open(&mut west, &again).await;
    assert_eq!(opened.next_seq, 0);
}

#[tokio::test]
async fn an_agent_that_leaves_is_granted_nothing_more_and_finishes_what_it_has() {
    let plane = Plane::start().await;
    let mut west = west(&plane).await;
    let (mut leaving, token) = granted(&plane, &mut west).await;
    let deadline = Some(prost_types::Duration { seconds: 20, nanos: 0 });
    leaving.say(session_request::Message::Draining(v1::Draining { deadline })).await;
    // Even if it asks: whatever is granted now would be handed back.
    leaving.ask(3).await;
    let (mut push, _) = Push::open(&mut west, &token).await;
    push.say(eof(&token, &[])).await;
    assert!(matches!(push.hear().await, push_response::Message::Committed(_)));
    let run_id = plane.trigger().await;
    assert_eq!(leaving.beat(1, &[]).await, Vec::<String>::new());
    let mut south = south(&plane).await;
    let mut staying = Session::ready(&mut south, 1).await;
    assert_eq!(staying.grant().await.token.unwrap().run_id, run_id.to_string());
    assert_eq!(leaving.beat(2, &[]).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_run_that_failed_for_a_while_waits_visibly_and_goes_on_by_itself() {
    let plane = Plane::start().await;
    let mut west = west(&plane).await;
    let (mut session, token) = begun(&plane, &mut west).await;
    session.ask(1).await;
    session.release(&token, Outcome::Failed, Reason::SourceUnreachable).await;
    let waits = run(&plane, &token).await;
    assert_eq!(
        (waits.state, waits.attempt, waits.reason.as_deref()),
        (RunState::Queued, 2, Some("SOURCE_UNREACHABLE"))
    );
    let pause = waits.not_before.unwrap().duration_since(waits.queued_at).as_secs();
    assert!((24..=36).contains(&pause), "{pause}");
    plane.clock.advance(Duration::from_secs(23));
    assert_eq!(session.beat(1, &[]).await, Vec::<String>::new());
    plane.clock.advance(Duration::from_secs(14));
    let grant = session.grant().await;
    assert_eq!((grant.attempt, grant.checkpoint.unwrap().next_seq), (2, 3));
    assert_eq!(run(&plane, &token).await.not_before, None);
}

#[tokio::test]
async fn a_rejected_login_holds_the_schedule_and_not_who_asks_by_hand() {
    let plane = Plane::start().await;
    let mut west = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut west).await;
    session.ask(1).await;
    session.release(&token, Outcome::Failed, Reason::AuthFailed).await;
    let ended = run(&plane, &token).await;
    assert_eq!((ended.state, ended.detail.as_deref()), (RunState::Failed, Some("why")));
    let store = plane.handle.store();
    let seen = store.definitions().await.unwrap()[0].scheduled_at;
    let now = ended.ended_at.unwrap();
    let ticked = store.enqueue_scheduled(crate::plane::PIPELINE, seen, now).await.unwrap().unwrap();
    // Whoever accepts and asks now is granted nothing: by the answer to its heartbeat it would have been.
    let (mut other, _) = Session::hello(&mut west).await;
    let definition = other.definition().await;
    other.accept(&definition).await;
    other.ask(1).await;
    assert_eq!(other.beat(1, &[]).await, Vec::<String>::new());
    assert_eq!(store.run(ticked).await.unwrap().unwrap().state, RunState::Queued);
    drop(other);
    assert_eq!(plane.trigger().await, ticked);
    assert_eq!(session.grant().await.token.unwrap().run_id, ticked.to_string());
}

#[tokio::test]
async fn a_run_that_no_agent_begins_fails_in_the_end() {
    let lease = LeaseConfig { ttl: Duration::from_secs(3_600), ..LeaseConfig::default() };
    let plane = Plane::with_lease(lease).await;
    let mut west = west(&plane).await;
    let (session, token) = granted(&plane, &mut west).await;
    session.ask(9).await;
    let run_id = token.run_id.parse().unwrap();
    let run = soon("the end of the run", async {
        let mut changes = plane.handle.changes();
        loop {
            let run = plane.handle.store().run(run_id).await.unwrap().unwrap();
            if run.state.is_final() {
                return run;
            }
            // The start time-out is counted from when the control plane has seen the grant.
            plane.clock.advance(Duration::from_secs(301));
            drop(tokio::time::timeout(Duration::from_millis(200), changes.changed()).await);
        }
    });
    let run = run.await;
    assert_eq!((run.state, run.reason.as_deref(), run.lost), (RunState::Failed, Some("AGENT_LOST"), 5));
}

#[tokio::test]
async fn more_messages_than_an_agent_ever_has_end_its_session() {
    let plane = Plane::start().await;
    let mut west = west(&plane).await;
    let (session, token) = granted(&plane, &mut west).await;
    let beat = |id| session_request::Message::Heartbeat(v1::Heartbeat { id, renewals: Vec::new() });
    let (mut flooding, _) = Session::hello(&mut west).await;
    let flood = async {
        for id in 0..5_000 {
            if !flooding.says(beat(id)).await {
                break;
            }
        }
        flooding.end().await
    };
    let status = soon("the end of the flood", flood).await;
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Reason::LimitExceeded));
    assert!(status.message().contains("50 a second"), "{}", status.message());
    // Neither its other session nor its lease is touched.
    let mut session = session;
    assert_eq!(session.beat(1, std::slice::from_ref(&token)).await, [token.run_id]);
}
