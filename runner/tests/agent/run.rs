use hybrid_runner::RunEnd;
use hybrid_runner_connector::{Entity, Failure, Reason};
use hybrid_runner_proto::{ERROR_DOMAIN, v1};
use tonic_types::{ErrorDetails, StatusExt as _};
use v1::record::Content;

use crate::control_plane::{Answer, Reply, Said, digest, grant, milliseconds};
use crate::ready;
use crate::source::{Fake, entity};

pub(crate) const NOTHING: [u8; 32] = [0; 32];
pub(crate) const WINDOW: u32 = 8 << 20;

pub(crate) fn committed(entity: &Entity) -> v1::BaselineEntry {
    v1::BaselineEntry {
        kind: entity.kind.to_owned(),
        fqn: entity.fqn.clone(),
        content_hash: entity.content_hash().to_vec().into(),
        memo: entity.memo.clone(),
    }
}

pub(crate) fn is_unchanged(record: &v1::Record) -> bool {
    matches!(record.content, Some(Content::Unchanged(_)))
}

#[tokio::test]
async fn a_granted_run_is_committed_with_the_digest_of_the_contract() {
    let entities = vec![entity("a", 100), entity("b", 200), entity("c", 300)];
    let (mut server, mut agent, mut session) = ready(Fake::new(entities.clone())).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    assert_eq!(push.encoding.as_deref(), Some("zstd"), "both sides list it");
    push.open(0, NOTHING, WINDOW, vec![committed(&entities[1]), committed(&entity("gone", 5))]).await;
    let (records, eof) = push.take_all(0).await;
    assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(records.iter().map(is_unchanged).collect::<Vec<_>>(), [false, true, false]);
    assert!(matches!(&records[2].content, Some(Content::Body(body)) if Some(body) == entities[2].body()));
    assert_eq!((eof.count, eof.complete, eof.gone), (3, true, vec!["sf.default.salesforce.gone".to_owned()]));
    assert_eq!(eof.digest.as_ref(), digest(&records));
    let summary = eof.summary.unwrap();
    assert_eq!((summary.source_requests, summary.source_requests_left), (3, Some(997)));
    let RunEnd::Committed(figures) = agent.run_end().await else { panic!("committed") };
    assert_eq!((figures.complete, figures.sent, figures.entities, figures.columns), (true, 2, 3, 42));
    let mut events = Vec::new();
    loop {
        match session.next().await {
            Said::RunEvent(event) => events.push(event.code),
            Said::LeaseRequest(request) => {
                assert_eq!(request.slots, 2, "the slot is free again");
                break;
            }
            other => panic!("{other:?}: a committed run is not released"),
        }
    }
    assert_eq!(events, ["login_succeeded"]);
}

#[tokio::test]
async fn a_full_run_sends_every_body_and_still_tells_what_is_gone() {
    let entities = vec![entity("a", 100)];
    let (mut server, _agent, session) = ready(Fake::new(entities.clone())).await;
    session.reply(Reply::Grant(v1::Grant { full: true, ..grant("r", "p") })).await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, vec![committed(&entities[0]), committed(&entity("gone", 5))]).await;
    let (records, eof) = push.take_all(0).await;
    assert!(!is_unchanged(&records[0]));
    assert_eq!(eof.gone.len(), 1);
}

#[tokio::test]
async fn an_unchanged_record_whose_body_is_needed_is_sent_again_from_its_batch_on() {
    let entities: Vec<_> = (0..4).map(|n| entity(&n.to_string(), 300_000)).collect();
    let (mut server, mut agent, session) = ready(Fake::new(entities.clone())).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, entities[1..3].iter().map(committed).collect()).await;
    let mut records = Vec::new();
    while records.len() < 4 {
        records.extend(push.batch().await.records);
    }
    assert_eq!(records.iter().map(is_unchanged).collect::<Vec<_>>(), [false, true, true, false]);
    push.answer(Answer::BodyNeeded(v1::BodyNeeded { seqs: vec![2] })).await;
    let again = push.batch().await;
    let begin = again.records[0].seq;
    assert!(begin <= 2, "from the batch that holds it");
    push.ack(begin + again.records.len() as u64).await;
    let (rest, eof) = push.take_all(begin + again.records.len() as u64).await;
    let sent: Vec<_> = again.records.iter().chain(&rest).collect();
    let needed = sent.iter().find(|record| record.seq == 2).unwrap();
    assert!(matches!(&needed.content, Some(Content::Body(body)) if Some(body) == entities[2].body()));
    let all: Vec<_> = records[..begin as usize].iter().chain(sent).collect();
    assert_eq!(eof.digest.as_ref(), digest(all));
    let RunEnd::Committed(figures) = agent.run_end().await else { panic!("committed") };
    assert_eq!(figures.sent, 3);
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_where_the_control_plane_is() {
    let entities: Vec<_> = (0..6).map(|n| entity(&n.to_string(), 400_000)).collect();
    let (mut server, mut agent, session) = ready(Fake::new(entities)).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    let mut records = Vec::new();
    while records.len() < 4 {
        records.extend(push.batch().await.records);
    }
    push.ack(1).await;
    push.break_off().await;
    // What was applied after the last ack that the agent saw.
    let mut push = server.push().await;
    push.open(3, digest(&records[..3]), WINDOW, Vec::new()).await;
    let (rest, eof) = push.take_all(3).await;
    assert_eq!(rest[0].content_hash, records[3].content_hash, "a record never changes");
    assert_eq!((eof.count, eof.digest.as_ref()), (6, digest(records[..3].iter().chain(&rest)).as_slice()));
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_taken_from_the_next_stream() {
    let (mut server, mut agent, session) = ready(Fake::new(vec![entity("a", 10)])).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    push.batch().await;
    push.ack(1).await;
    let eof = push.eof().await;
    push.break_off().await;
    let push = server.push().await;
    push.commit(&eof).await;
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
}

#[tokio::test]
async fn a_fenced_writer_stops_and_does_not_release_what_is_not_its_own() {
    let (mut server, mut agent, mut session) = ready(Fake::new(vec![entity("a", 10)])).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    push.batch().await;
    push.answer(Answer::Fenced(v1::Fenced { reason: v1::Reason::Fenced.into(), current_fence: 8 })).await;
    assert!(matches!(agent.run_end().await, RunEnd::LeaseLost { reason: "FENCED" }));
    loop {
        match session.next().await {
            Said::LeaseRequest(_) => break,
            Said::Release(release) => panic!("{release:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_refused_upload_fails_with_the_control_planes_reason() {
    let (mut server, mut agent, mut session) = ready(Fake::new(vec![entity("a", 10)])).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    push.batch().await;
    let details = ErrorDetails::with_error_info("RECORD_CHANGED", ERROR_DOMAIN, std::collections::HashMap::new());
    push.refuse(tonic::Status::with_error_details(tonic::Code::FailedPrecondition, "seq 0", details)).await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::Failed, v1::Reason::RecordChanged));
    assert!(matches!(agent.run_end().await, RunEnd::Failed { reason: "RECORD_CHANGED", .. }));
}

#[tokio::test]
async fn what_could_not_be_read_is_told_and_nothing_is_gone_then() {
    let mut source = Fake::new(vec![entity("a", 10)]);
    let failure = Failure { fqn: "sf.x".to_owned(), reason: Reason::ObjectVanished, detail: "é".repeat(2000) };
    source.failures = vec![failure; 1200];
    let (mut server, mut agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, vec![committed(&entity("gone", 5))]).await;
    let (_, eof) = push.take_all(0).await;
    assert_eq!((eof.complete, eof.gone.len(), eof.failures.len()), (false, 0, 1000));
    assert_eq!(eof.failures[0].reason(), v1::Reason::ObjectVanished);
    assert_eq!(eof.failures[0].detail.len(), 1024);
    let RunEnd::Committed(figures) = agent.run_end().await else { panic!("committed") };
    assert!(!figures.complete);
}

#[tokio::test]
async fn a_control_plane_that_breaks_the_protocol_is_named() {
    let cases: [(Answer, &str); 4] = [
        (Answer::Ack(v1::Ack { next_seq: 5 }), "Ack.next_seq 5"),
        (Answer::BodyNeeded(v1::BodyNeeded { seqs: vec![0] }), "BodyNeeded names seq 0"),
        (Answer::Opened(v1::Opened::default()), "a second Opened"),
        (Answer::Committed(v1::Committed::default()), "Committed before Eof"),
    ];
    for (answer, expected) in cases {
        let (source, steps) = Fake::stepped(vec![entity("a", 10), entity("b", 10)]);
        let (mut server, mut agent, mut session) = ready(source).await;
        session.grant("r", "p").await;
        let mut push = server.push().await;
        push.open(0, NOTHING, WINDOW, Vec::new()).await;
        steps.add_permits(1);
        push.batch().await;
        push.answer(answer).await;
        let release = session.release().await;
        assert_eq!(release.reason(), v1::Reason::ProtocolViolation);
        assert!(release.detail.contains(expected), "{}", release.detail);
        assert!(matches!(agent.run_end().await, RunEnd::Failed { .. }));
    }
}

#[tokio::test]
async fn a_run_ends_at_its_own_deadline() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 10)]);
    let (mut server, mut agent, mut session) = ready(source).await;
    session.reply(Reply::Grant(v1::Grant { run_timeout: milliseconds(300), ..grant("r", "p") })).await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::Failed, v1::Reason::RunDeadline));
    assert!(matches!(agent.run_end().await, RunEnd::Failed { reason: "RUN_DEADLINE", .. }));
}

#[tokio::test]
async fn a_source_that_panics_fails_its_run_and_nothing_else() {
    let mut source = Fake::new(Vec::new());
    source.panics = true;
    let (mut server, mut agent, mut session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::Failed, v1::Reason::Internal));
    assert!(matches!(agent.run_end().await, RunEnd::Failed { reason: "INTERNAL", .. }));
    assert_eq!(session.slots().await, 2);
}
