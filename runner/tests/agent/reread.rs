//! Memos, what a source leaves unmade because it did not change, and what happens when that is not enough.

use bytes::Bytes;
use hybrid_runner::RunEnd;
use hybrid_runner_connector::{Checkpoint, Content as Made, Entity};
use hybrid_runner_proto::v1;
use v1::record::Content;

use crate::control_plane::{Answer, Reply, digest, grant, position};
use crate::run::{NOTHING, WINDOW, committed, is_unchanged};
use crate::source::{Fake, entity};
use crate::{ready, ready_at};

fn remembering(entity: Entity, memo: &[u8]) -> Entity {
    Entity { memo: Bytes::copy_from_slice(memo), ..entity }
}

/// So many entities of a kibibyte, and a source that makes only what the baseline does not have.
fn conditional(count: usize) -> (Vec<Entity>, Fake) {
    let entities: Vec<_> = (0..count).map(|n| entity(&n.to_string(), 1024)).collect();
    (entities.clone(), Fake { conditional: true, ..Fake::new(entities) })
}

fn needed(seq: u64) -> Answer {
    Answer::BodyNeeded(v1::BodyNeeded { seqs: vec![seq] })
}

#[tokio::test]
async fn memos_travel_both_ways_and_one_above_the_limit_stays_behind() {
    let entities = [(b'a', 512), (b'b', 513), (b'c', 0)]
        .map(|(name, length)| remembering(entity(&char::from(name).to_string(), 10), &vec![name; length]));
    let source = Fake { conditional: true, ..Fake::new(entities.to_vec()) };
    let readings = source.readings.clone();
    let (mut server, _agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    let before = remembering(entities[0].clone(), b"what it left");
    push.open(0, NOTHING, WINDOW, vec![committed(&before)]).await;
    let (records, eof) = push.take_all(0).await;
    assert_eq!(records.iter().map(|record| record.memo.len()).collect::<Vec<_>>(), [512, 0, 0]);
    assert_eq!(records.iter().map(is_unchanged).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(eof.digest.as_ref(), digest(&records), "a memo is no part of the digest");
    assert_eq!(readings.lock().unwrap()[0].baseline.0[&entities[0].fqn].memo, "what it left");
}

#[tokio::test]
async fn a_control_plane_that_does_not_list_memos_is_sent_none_and_may_send_none() {
    let remembered = remembering(entity("a", 10), b"memo");
    let (mut server, mut agent, mut session) =
        ready_at(Fake::new(vec![remembered.clone()]), &["zstd"], 5_000, 60_000).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, vec![committed(&entity("a", 10))]).await;
    let (records, _) = push.take_all(0).await;
    assert!(records[0].memo.is_empty());
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
    session.grant("s", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, vec![committed(&remembered)]).await;
    let release = session.release().await;
    assert_eq!(release.reason(), v1::Reason::ProtocolViolation);
    assert!(release.detail.contains("BaselineEntry.memo of capability `memos`"), "{}", release.detail);
}

#[tokio::test]
async fn a_memo_above_the_limit_in_the_baseline_is_named() {
    let (mut server, _agent, mut session) = ready(Fake::new(Vec::new())).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, vec![committed(&remembering(entity("a", 10), &[0; 513]))]).await;
    let release = session.release().await;
    assert_eq!(release.reason(), v1::Reason::ProtocolViolation);
    assert!(release.detail.contains("BaselineEntry.memo has 513 bytes"), "{}", release.detail);
}

#[tokio::test]
async fn a_needed_body_that_was_never_made_is_read_again_from_the_last_durable_place() {
    let (entities, source) = conditional(5);
    let (source, steps) = source.stepping();
    let readings = source.readings.clone();
    let (mut server, mut agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, entities[..4].iter().map(committed).collect()).await;
    steps.add_permits(2);
    let mut first = Vec::new();
    while first.len() < 2 {
        first.extend(push.batch().await.records);
        push.ack(first.len() as u64).await;
    }
    steps.add_permits(100);
    let mut lost = Vec::new();
    while !lost.iter().any(|record: &v1::Record| record.seq == 2) {
        lost.extend(push.batch().await.records);
    }
    assert!(first.iter().chain(&lost).take(3).all(is_unchanged));
    push.answer(needed(2)).await;
    // On another stream, which tells anew what is committed: one has gone, one is new.
    let mut push = server.push().await;
    let now: Vec<_> = [0, 1, 2, 4].map(|n| committed(&entities[n])).to_vec();
    push.open_at(2, digest(&first), position(2, "2"), WINDOW, now).await;
    let (again, eof) = push.take_all(2).await;
    assert_eq!(again.iter().map(|record| record.seq).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(again.iter().map(is_unchanged).collect::<Vec<_>>(), [false, false, true]);
    assert!(matches!(&again[0].content, Some(Content::Body(body)) if Some(body) == entities[2].body()));
    assert_eq!((eof.count, eof.digest.as_ref()), (5, digest(first.iter().chain(&again)).as_slice()));
    assert!(eof.complete && eof.gone.is_empty(), "{eof:?}");
    let RunEnd::Committed(figures) = agent.run_end().await else { panic!("committed") };
    assert_eq!(figures.sent, 2, "what was read in vain does not count");
    let readings = readings.lock().unwrap();
    assert_eq!(readings.len(), 2);
    assert_eq!((&readings[0].start, &readings[1].start), (&None, &Some(Checkpoint("2".into()))));
    assert!(!readings[1].baseline.0.contains_key(&entities[2].fqn), "without condition");
    assert!(readings[1].baseline.0.contains_key(&entities[4].fqn), "as it is committed now");
}

#[tokio::test]
async fn a_run_that_is_durable_inside_of_an_emission_is_handed_back() {
    // One emission, in two batches: its checkpoint does not hold after the first.
    let (small, large) = (|name: &str| entity(name, 10), |name: &str| entity(name, 350_000));
    let entities = vec![small("0"), large("1"), large("2"), small("3"), small("4")];
    let source = Fake { at_once: 4, conditional: true, ..Fake::new(entities.clone()) };
    let (mut server, mut agent, mut session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, vec![committed(&entities[3])]).await;
    let first = push.batch().await;
    assert_eq!((first.records.len(), first.source_position.len()), (2, 0));
    push.ack(2).await;
    push.batch().await;
    push.answer(needed(3)).await;
    let mut push = server.push().await;
    push.open_at(2, digest(&first.records), first.source_position, WINDOW, Vec::new()).await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::CheckpointUnusable));
    assert!(matches!(agent.run_end().await, RunEnd::HandedBack { reason: "CHECKPOINT_UNUSABLE", .. }));
}

#[tokio::test]
async fn a_control_plane_that_needs_bodies_again_and_again_gets_the_run_back() {
    let (entities, source) = conditional(6);
    let readings = source.readings.clone();
    let (mut server, mut agent, mut session) = ready(source).await;
    session.grant("r", "p").await;
    for seq in 0..4 {
        let mut push = server.push().await;
        push.open(0, NOTHING, WINDOW, entities.iter().map(committed).collect()).await;
        let mut records = Vec::new();
        while records.len() as u64 <= seq {
            records.extend(push.batch().await.records);
        }
        assert_eq!(records.iter().take_while(|record| !is_unchanged(record)).count() as u64, seq);
        push.answer(needed(seq)).await;
    }
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::CheckpointUnusable));
    assert!(
        release.detail.contains("read again more than 3 times") && release.detail.contains(&entities[3].fqn),
        "{}",
        release.detail
    );
    assert!(matches!(agent.run_end().await, RunEnd::HandedBack { .. }));
    assert_eq!(readings.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_source_that_cannot_begin_at_the_durable_place_hands_its_run_back() {
    let (entities, source) = conditional(2);
    let (source, steps) = Fake { refuses_checkpoints: true, ..source }.stepping();
    let (mut server, mut agent, mut session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, entities[1..].iter().map(committed).collect()).await;
    steps.add_permits(1);
    let first = push.batch().await;
    push.ack(1).await;
    steps.add_permits(1);
    push.batch().await;
    push.answer(needed(1)).await;
    let mut push = server.push().await;
    push.open_at(1, digest(&first.records), first.source_position, WINDOW, Vec::new()).await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::CheckpointUnusable));
    assert!(matches!(agent.run_end().await, RunEnd::HandedBack { reason: "CHECKPOINT_UNUSABLE", .. }));
}

#[tokio::test]
async fn what_the_baseline_does_not_have_is_never_sent_as_unchanged() {
    let known = entity("a", 10);
    let unmade = Entity { content: Made::Unchanged(known.content_hash()), ..known.clone() };
    let other_kind = v1::BaselineEntry { kind: "tag".to_owned(), ..committed(&known) };
    let other_hash = committed(&entity("a", 11));
    for (full, baseline) in
        [(false, Vec::new()), (false, vec![other_kind]), (false, vec![other_hash]), (true, vec![committed(&known)])]
    {
        let (mut server, mut agent, mut session) = ready(Fake::new(vec![unmade.clone()])).await;
        session.reply(Reply::Grant(v1::Grant { full, ..grant("r", "p") })).await;
        let mut push = server.push().await;
        push.open(0, NOTHING, WINDOW, baseline).await;
        let release = session.release().await;
        assert_eq!((release.outcome(), release.reason()), (v1::Outcome::Failed, v1::Reason::Internal));
        assert!(release.detail.contains(&format!("{} is unchanged", known.fqn)), "{}", release.detail);
        assert!(matches!(agent.run_end().await, RunEnd::Failed { .. }));
        assert_eq!(push.next().await, None, "nothing was sent");
    }
}
