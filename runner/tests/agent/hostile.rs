//! A control plane that lies, floods and stalls.

use std::sync::Arc;
use std::time::Duration;

use hybrid_runner::{AgentEvent, RunEnd, RunProgress};
use hybrid_runner_proto::v1;
use tokio::sync::Semaphore;

use crate::control_plane::{Answer, PushSide, Reply, Said, Server, SessionSide, WORKFLOW, grant, milliseconds, token};
use crate::run::{NOTHING, WINDOW, committed};
use crate::source::{Fake, entity};
use crate::{Running, ready, ready_with, start};

/// What an agent holds at most beside its window: the queue before it, and what the source has in hand.
const BESIDE: u64 = 1024 * 1024 + 200_000;

async fn granted(agent: &mut Running) -> RunProgress {
    let granted = |event| match event {
        AgentEvent::Granted { progress, .. } => Some(progress),
        _ => None,
    };
    agent.event(granted).await
}

/// A run of which one record is under way.
async fn under_way() -> (Server, Running, SessionSide, PushSide, Arc<Semaphore>) {
    let (source, steps) = Fake::stepped((0..4).map(|n| entity(&n.to_string(), 100)).collect());
    let (mut server, agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    steps.add_permits(1);
    push.batch().await;
    (server, agent, session, push, steps)
}

async fn violates(agent: &mut Running, session: &mut SessionSide, what: &str) {
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::Failed, v1::Reason::ProtocolViolation));
    assert!(release.detail.contains(what), "{}", release.detail);
    assert!(matches!(agent.run_end().await, RunEnd::Failed { reason: "PROTOCOL_VIOLATION", .. }));
}

#[tokio::test]
async fn a_control_plane_that_never_acks_stops_extraction_in_a_bounded_window_and_keeps_its_lease() {
    let entities: Vec<_> = (0..200).map(|n| entity(&n.to_string(), 100_000)).collect();
    let (mut server, mut agent, session) = ready_with(Fake::new(entities), 100, 2_000).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    let progress = granted(&mut agent).await;
    let mut unacked = 0;
    while let Some(batch) = push.batch_within(Duration::from_millis(500)).await {
        unacked += batch.records.len() as u64;
    }
    let full = progress.snapshot();
    assert!(full.window_bytes <= 4 << 20, "{full:?}");
    assert!(full.source.objects_done * 100_000 <= (4 << 20) + BESIDE, "{full:?}");
    // Longer than the lease lasts without a heartbeat, and nothing grows.
    let mut beats = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..25 {
        beats.tick().await;
        assert_eq!(progress.snapshot(), full);
    }
    push.ack(unacked).await;
    let (rest, _) = push.take_all(unacked).await;
    assert_eq!(unacked + rest.len() as u64, 200);
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
    assert_eq!(progress.snapshot().window_bytes, 0);
}

#[tokio::test]
async fn no_more_is_under_way_than_the_control_plane_allows_and_the_source_waits() {
    let entities: Vec<_> = (0..40).map(|n| entity(&n.to_string(), 100_000)).collect();
    let (mut server, mut agent, session) = ready(Fake::new(entities)).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, 350_000, Vec::new()).await;
    let progress = granted(&mut agent).await;
    let mut unacked = 0;
    while let Some(batch) = push.batch_within(Duration::from_millis(300)).await {
        unacked += batch.records.len();
    }
    assert_eq!(unacked, 3, "three of 100 kB fit into 350 kB");
    let seen = progress.snapshot();
    assert!(seen.window_bytes <= 350_000 && seen.source.objects_done * 100_000 <= 350_000 + BESIDE, "{seen:?}");
    push.ack(3).await;
    push.take_all(3).await;
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
    assert_eq!(progress.snapshot().records_acked, 40);
}

#[tokio::test]
async fn acks_of_what_was_not_sent_and_acks_that_go_backwards_end_the_run() {
    for next_seq in [2, 4, u64::MAX] {
        let (_server, mut agent, mut session, push, _steps) = under_way().await;
        push.ack(next_seq).await;
        violates(&mut agent, &mut session, &format!("Ack.next_seq {next_seq}")).await;
    }
    let (_server, mut agent, mut session, mut push, steps) = under_way().await;
    push.ack(1).await;
    steps.add_permits(1);
    push.batch().await;
    push.ack(0).await;
    violates(&mut agent, &mut session, "Ack.next_seq 0").await;
}

#[tokio::test]
async fn bodies_of_records_that_were_not_sent_end_the_run() {
    for seqs in [vec![1], vec![u64::MAX], vec![0], Vec::new(), vec![0; 100_000]] {
        let (_server, mut agent, mut session, push, _steps) = under_way().await;
        push.answer(Answer::BodyNeeded(v1::BodyNeeded { seqs })).await;
        violates(&mut agent, &mut session, "BodyNeeded").await;
    }
}

#[tokio::test]
async fn a_commit_of_other_records_than_were_sent_is_no_commit() {
    for (count, is_digest_right) in [(3, true), (4, false), (u64::MAX, true)] {
        let (_server, mut agent, mut session, mut push, steps) = under_way().await;
        push.ack(1).await;
        steps.add_permits(100);
        let mut next_seq = 1;
        while next_seq < 4 {
            next_seq += push.batch().await.records.len() as u64;
            push.ack(next_seq).await;
        }
        let mut eof = push.eof().await;
        eof.count = count;
        if !is_digest_right {
            eof.digest = vec![7; 32].into();
        }
        push.commit(&eof).await;
        violates(&mut agent, &mut session, "another count or digest").await;
    }
}

#[tokio::test]
async fn a_baseline_that_never_ends_names_without_end_and_empty_pages_end_the_run() {
    let page = |entries: Vec<v1::BaselineEntry>| Answer::Baseline(v1::Baseline { entries, last: false });
    let entry = |name: &str| committed(&entity(name, 1));
    let long = v1::BaselineEntry { fqn: "x".repeat(4000), ..entry("a") };
    let kind = v1::BaselineEntry { kind: "x".repeat(65), ..entry("a") };
    let hash = v1::BaselineEntry { content_hash: vec![1; 31].into(), ..entry("a") };
    for (entries, what) in [(Vec::new(), "empty"), (vec![long], "3,072"), (vec![kind], "64"), (vec![hash], "32 bytes")]
    {
        let (mut server, mut agent, mut session) = ready(Fake::new(Vec::new())).await;
        session.grant("r", "p").await;
        let mut push = server.push().await;
        push.opened_with_baseline().await;
        push.answer(page(entries)).await;
        violates(&mut agent, &mut session, what).await;
    }
    let (mut server, mut agent, mut session) = ready(Fake::new(Vec::new())).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.opened_with_baseline().await;
    let entries: Vec<_> = (0..1000).map(|n| entry(&format!("{n:01000}"))).collect();
    for _ in 0..40 {
        if !push.try_answer(page(entries.clone())).await {
            break;
        }
    }
    violates(&mut agent, &mut session, "32 MiB").await;
}

#[tokio::test]
async fn a_grant_under_a_lower_or_the_same_fence_changes_nothing_and_under_a_higher_one_stops_the_former_run() {
    let (mut server, mut agent, mut session, mut push, steps) = under_way().await;
    session.define("q").await;
    for fence in [0, 6, 7] {
        let token = v1::WriteToken { fence, lease_id: vec![1; 16].into(), ..token("r") };
        session.reply(Reply::Grant(v1::Grant { token: Some(token), ..grant("r", "p") })).await;
    }
    push.ack(1).await;
    steps.add_permits(1);
    push.batch().await;
    let higher = v1::WriteToken { fence: 8, lease_id: vec![1; 16].into(), ..token("r") };
    session.reply(Reply::Grant(v1::Grant { token: Some(higher.clone()), ..grant("r", "p") })).await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.token), (v1::Outcome::HandedBack, Some(higher)));
    assert!(matches!(agent.run_end().await, RunEnd::LeaseLost { reason: "FENCED" }));
    steps.add_permits(100);
    assert!(push.next().await.is_none(), "nothing more is written under the former fence");
    session.reply(Reply::Released(v1::Released { run_id: "r".to_owned() })).await;
    assert!(session.slots().await > 0, "it takes work again");
    session.grant("s", "q").await;
    server.push().await;
}

#[tokio::test]
async fn a_slot_whose_grant_was_declined_is_offered_again() {
    let (_server, _agent, mut session) = ready(Fake::new(Vec::new())).await;
    // The definition changes while a run of the former version is granted.
    session.define("q").await;
    let changed =
        v1::Definition { pipeline: "q".to_owned(), version: 2, workflow_json: WORKFLOW.to_owned(), last_run: None };
    session.reply(Reply::Definition(changed)).await;
    session.grant("r", "q").await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::Busy));
    session.reply(Reply::Released(v1::Released { run_id: "r".to_owned() })).await;
    assert_eq!(session.slots().await, 2);
}

#[tokio::test]
async fn words_about_foreign_runs_change_nothing() {
    let (_server, mut agent, mut session, mut push, steps) = under_way().await;
    for run_id in ["foreign", "../../x", "p", "R"] {
        session.reply(Reply::Released(v1::Released { run_id: run_id.to_owned() })).await;
        let reason = v1::Reason::LeaseRevoked.into();
        session.reply(Reply::Revoke(v1::Revoke { run_id: run_id.to_owned(), reason })).await;
        session.reply(Reply::DefinitionRemoved(v1::DefinitionRemoved { pipeline: run_id.to_owned() })).await;
    }
    // Its own run was not released by the agent.
    session.reply(Reply::Released(v1::Released { run_id: "r".to_owned() })).await;
    session.define("seen").await;
    push.ack(1).await;
    steps.add_permits(100);
    push.take_all(1).await;
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
}

/// What the session ends with when this comes.
async fn problem_of(reply: Reply) -> String {
    let (_server, mut agent, session) = ready(Fake::new(Vec::new())).await;
    session.reply(reply).await;
    agent.problem().await
}

#[tokio::test]
async fn names_that_are_too_long_or_missing_and_lists_without_end_end_the_session_with_the_field() {
    let long = "x".repeat(257);
    let run_id = long.clone();
    let definition = |pipeline: &str, json: String| {
        Reply::Definition(v1::Definition {
            pipeline: pipeline.to_owned(),
            version: 2,
            workflow_json: json,
            last_run: None,
        })
    };
    let no_lease = v1::WriteToken { lease_id: vec![9; 15].into(), ..token("r") };
    for (reply, field) in [
        (definition(&long, String::new()), "Definition.pipeline"),
        (definition("", String::new()), "Definition.pipeline"),
        (definition("p", " ".repeat(200 * 1024)), "Definition.workflow_json"),
        (Reply::DefinitionRemoved(v1::DefinitionRemoved { pipeline: long.clone() }), "DefinitionRemoved.pipeline"),
        (Reply::Grant(grant(&long, "p")), "Grant.token.run_id"),
        (Reply::Grant(grant("", "p")), "Grant.token.run_id"),
        (Reply::Grant(grant("r", &long)), "Grant.pipeline"),
        (Reply::Grant(v1::Grant { token: Some(no_lease), ..grant("r", "p") }), "Grant.token.lease_id"),
        (Reply::Grant(v1::Grant { token: None, ..grant("r", "p") }), "Grant.token"),
        (Reply::Grant(v1::Grant { run_timeout: None, ..grant("r", "p") }), "Grant.run_timeout"),
        (Reply::Released(v1::Released { run_id: run_id.clone() }), "Released.run_id"),
        (Reply::Revoke(v1::Revoke { run_id, reason: 0 }), "Revoke.run_id"),
        (
            Reply::HeartbeatAck(v1::HeartbeatAck { id: 1, renewed_run_ids: vec!["r".to_owned(); 65] }),
            "HeartbeatAck.renewed_run_ids",
        ),
        (Reply::Pushback(v1::Pushback { retry_after: None }), "Pushback.retry_after"),
        (
            Reply::TestConnection(v1::TestConnection { request_id: long.clone(), ..v1::TestConnection::default() }),
            "TestConnection.request_id",
        ),
    ] {
        let problem = problem_of(reply).await;
        assert!(problem.contains("broke the protocol") && problem.contains(field), "{field}: {problem}");
        assert!(problem.len() < 300, "{}", problem.len());
    }
}

#[tokio::test]
async fn terms_that_no_agent_can_keep_end_the_session() {
    for (interval, ttl) in [(0, 60_000), (1, 60_000), (60_000, 60_000), (1_000, 100_000_000), (10_000_000, 20_000_000)]
    {
        let mut server = Server::start().await;
        let mut agent = start(&server, Fake::new(Vec::new()));
        server.session().await.welcome(interval, ttl).await;
        let problem = agent.problem().await;
        assert!(problem.contains("Welcome.") && problem.contains("accepted"), "{problem}");
    }
    let mut server = Server::start().await;
    let mut agent = start(&server, Fake::new(Vec::new()));
    let mut session = server.session().await;
    session.hello().await;
    let endless = Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 });
    session
        .reply(Reply::Welcome(v1::Welcome {
            protocol: 1,
            heartbeat_interval: milliseconds(1_000),
            lease_ttl: endless,
            ..v1::Welcome::default()
        }))
        .await;
    assert!(agent.problem().await.contains("Welcome.lease_ttl"));
}

#[tokio::test]
async fn a_flood_of_messages_ends_the_session_and_the_agent_comes_back() {
    let (mut server, mut agent, session) = ready(Fake::new(Vec::new())).await;
    for _ in 0..600 {
        let reply = Reply::Revoke(v1::Revoke { run_id: "r".to_owned(), reason: 0 });
        if !session.try_reply(reply).await {
            break;
        }
    }
    let problem = agent.problem().await;
    assert!(problem.contains("50 messages a second"), "{problem}");
    server.session().await.hello().await;
}

#[tokio::test]
async fn ten_thousand_definitions_end_the_session() {
    let (_server, mut agent, session) = ready(Fake::new(Vec::new())).await;
    for n in 0..10_000 {
        let (pipeline, workflow_json) = (n.to_string(), "{}".to_owned());
        if !session
            .try_reply(Reply::Definition(v1::Definition { pipeline, version: 1, workflow_json, last_run: None }))
            .await
        {
            break;
        }
    }
    assert!(agent.problem().await.contains("more than 1000 definitions"));
}

#[tokio::test]
async fn granting_and_revoking_in_turn_ends_the_session() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 10)]);
    let (mut server, mut agent, session) = ready(source).await;
    for n in 0..600 {
        let run = n.to_string();
        let revoke = Reply::Revoke(v1::Revoke { run_id: run.clone(), reason: v1::Reason::LeaseRevoked.into() });
        if !session.try_reply(Reply::Grant(grant(&run, "p"))).await || !session.try_reply(revoke).await {
            break;
        }
    }
    let problem = agent.problem().await;
    assert!(problem.contains("broke the protocol"), "{problem}");
    let mut session = server.session().await;
    let hello = session.welcome(5_000, 60_000).await;
    assert!(hello.held.len() <= 1, "{:?}", hello.held);
}

#[tokio::test]
async fn leases_that_were_not_listed_end_the_session() {
    let mut server = Server::start().await;
    let mut agent = start(&server, Fake::new(Vec::new()));
    let mut session = server.session().await;
    session.hello().await;
    session
        .reply(Reply::Welcome(v1::Welcome {
            protocol: 1,
            heartbeat_interval: milliseconds(1_000),
            lease_ttl: milliseconds(60_000),
            resumed_run_ids: vec!["foreign".to_owned()],
            ..v1::Welcome::default()
        }))
        .await;
    assert!(agent.problem().await.contains("Welcome.resumed_run_ids"));
    assert!(matches!(server.session().await.next().await, Said::Hello(_)));
}
