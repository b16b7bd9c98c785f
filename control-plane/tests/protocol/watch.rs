//! What people watch of a run: the lines of its log, and how far it is.

use std::time::Duration;

use hybrid_runner_proto::v1::{self, Reason, session_request, session_response};

use crate::agent::{Client, Session, Shown, client, hello, reason, west};
use crate::plane::Plane;

/// A run granted to the agent `west`, which sends logs.
async fn granted(plane: &Plane, client: &mut Client) -> (Session, v1::WriteToken) {
    let hello = v1::Hello { capabilities: vec!["logs".to_owned()], ..hello() };
    let mut session = Session::ready_as(client, hello, 1).await;
    plane.trigger().await;
    let token = session.grant().await.token.unwrap();
    (session, token)
}

fn lines(token: &v1::WriteToken, first_line: u64, lines: &[&str]) -> session_request::Message {
    session_request::Message::LogLines(v1::LogLines {
        token: Some(token.clone()),
        first_line,
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
    })
}

async fn kept(plane: &Plane, token: &v1::WriteToken) -> Vec<(u64, String)> {
    let log = plane.handle.store().log(token.run_id.parse().unwrap(), None, 100).await.unwrap();
    log.into_iter().map(|line| (line.id.number, line.text)).collect()
}

#[tokio::test]
async fn lines_are_kept_before_a_heartbeat_that_follows_is_answered() {
    let plane = Plane::start().await;
    let (mut session, token) = granted(&plane, &mut west(&plane).await).await;
    session.say(lines(&token, 0, &["a", "b"])).await;
    session.say(lines(&token, 0, &["a", "b", "c"])).await;
    session.beat(1, std::slice::from_ref(&token)).await;
    assert_eq!(kept(&plane, &token).await, [(0, "a".into()), (1, "b".into()), (2, "c".into())]);
}

#[tokio::test]
async fn lines_under_a_forged_token_write_nothing_and_end_no_session() {
    let plane = Plane::start().await;
    let (mut session, token) = granted(&plane, &mut west(&plane).await).await;
    let sends_logs = v1::Hello { capabilities: vec!["logs".to_owned()], ..hello() };
    let south = &mut client(&plane, Shown::Token("another-token")).await;
    let (mut stranger, _) = Session::hello_with(south, sends_logs).await;
    stranger.definition().await;
    stranger.say(lines(&token, 0, &["of another agent"])).await;
    stranger.beat(1, &[]).await;
    for forged in [
        v1::WriteToken { fence: token.fence + 1, ..token.clone() },
        v1::WriteToken { lease_id: vec![0; 16].into(), ..token.clone() },
        v1::WriteToken { lease_id: vec![0; 3].into(), ..token.clone() },
        v1::WriteToken { run_id: "nobody".to_owned(), ..token.clone() },
        v1::WriteToken::default(),
    ] {
        session.say(lines(&forged, 0, &["forged"])).await;
    }
    assert_eq!(session.beat(1, std::slice::from_ref(&token)).await, [token.run_id.as_str()]);
    assert_eq!(kept(&plane, &token).await, []);
}

#[tokio::test]
async fn the_last_lines_of_a_run_are_taken_when_it_is_over() {
    let plane = Plane::start().await;
    let (mut session, token) = granted(&plane, &mut west(&plane).await).await;
    session
        .say(session_request::Message::Release(v1::Release {
            token: Some(token.clone()),
            outcome: v1::Outcome::Failed.into(),
            reason: Reason::AuthFailed.into(),
            detail: String::new(),
        }))
        .await;
    session.hear().await;
    session.say(lines(&token, 0, &["run failed"])).await;
    session.beat(1, &[]).await;
    assert_eq!(kept(&plane, &token).await, [(0, "run failed".into())]);
}

#[tokio::test]
async fn a_line_or_a_message_of_lines_above_the_limit_ends_the_session() {
    let plane = Plane::start().await;
    let west = &mut west(&plane).await;
    let many = vec!["x"; 4_097];
    let long = "x".repeat(16 * 1024 + 1);
    for message in [
        lines(&v1::WriteToken::default(), 0, &many),
        lines(&v1::WriteToken::default(), 0, &[&long]),
        lines(&v1::WriteToken::default(), u64::MAX, &["x"]),
    ] {
        let hello = v1::Hello { capabilities: vec!["logs".to_owned()], ..hello() };
        let (mut session, _) = Session::hello_with(west, hello).await;
        session.say(message).await;
        assert_eq!(reason(&session.end().await), Reason::LimitExceeded);
    }
}

fn kind(kind: &str, records_acked: u64, records_expected: u64) -> v1::KindProgress {
    v1::KindProgress { kind: kind.to_owned(), records_acked, records_expected }
}

#[tokio::test]
async fn more_kinds_than_there_can_be_and_a_name_above_the_limit_end_the_session() {
    let plane = Plane::start().await;
    let west = &mut west(&plane).await;
    for (kinds, is_taken) in [
        (vec![kind("x", 1, 1); 16], true),
        (vec![kind("x", 1, 1); 17], false),
        (vec![kind(&"x".repeat(64), 1, 1)], true),
        (vec![kind(&"x".repeat(65), 1, 1)], false),
    ] {
        let (mut session, _) = Session::hello_with(west, hello()).await;
        let progress = Some(v1::Progress { kinds, ..Default::default() });
        let renewals = vec![v1::LeaseRenewal { token: Some(v1::WriteToken::default()), progress }];
        session.say(session_request::Message::Heartbeat(v1::Heartbeat { id: 1, renewals })).await;
        if is_taken {
            let is_answer = |heard| matches!(heard, session_response::Message::HeartbeatAck(_));
            while !is_answer(session.hear().await) {}
        } else {
            assert_eq!(reason(&session.end().await), Reason::LimitExceeded);
        }
    }
}

#[tokio::test]
async fn heartbeats_say_how_far_a_run_is_and_when_it_may_be_done() {
    let plane = Plane::start().await;
    let (mut session, token) = granted(&plane, &mut west(&plane).await).await;
    for (id, done) in [(1, 100), (2, 300)] {
        let progress = v1::Progress {
            stage: v1::Stage::Extract.into(),
            objects_total: 1_000,
            objects_done: done,
            records_acked: done,
            kinds: vec![kind("databaseSchema", 1, 1), kind("table", done - 1, 1_000)],
            ..Default::default()
        };
        let renewal = v1::LeaseRenewal { token: Some(token.clone()), progress: Some(progress) };
        session.say(session_request::Message::Heartbeat(v1::Heartbeat { id, renewals: vec![renewal] })).await;
        session.hear().await;
        plane.clock.advance(Duration::from_secs(10));
    }
    let progress = plane.handle.store().progress(token.run_id.parse().unwrap()).await.unwrap().unwrap();
    let text = "extract 300 of 1000 objects, 300 records durable (1 of 1 databaseSchema, 299 of 1000 table), \
                20.0 objects a second, about 35 s left";
    assert_eq!(progress.sentence(), text);
    let of_table = serde_json::json!({"kind": "table", "acked": 299, "expected": 1_000});
    assert_eq!(progress.json()["kinds"][1], of_table);
}
