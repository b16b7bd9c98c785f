//! A run goes on from where it is durable: on another agent, on another stream, and after the control plane lost something.

use bytes::Bytes;
use hybrid_runner::RunEnd;
use hybrid_runner_connector::Checkpoint;
use hybrid_runner_proto::v1;

use crate::control_plane::{Reply, digest, grant, position};
use crate::ready;
use crate::run::{NOTHING, WINDOW, committed};
use crate::source::{Fake, entity};

fn fake(count: usize) -> Fake {
    Fake::new((0..count).map(|n| entity(&n.to_string(), 1024)).collect())
}

fn names(records: &[v1::Record]) -> Vec<&str> {
    records.iter().map(|record| record.fqn.as_str()).collect()
}

#[tokio::test]
async fn a_run_that_another_agent_began_goes_on_from_its_last_durable_batch_and_is_not_numbered_anew() {
    let (source, steps) = fake(6).stepping();
    let (mut server, agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    steps.add_permits(4);
    let (mut durable, mut place) = (Vec::new(), Bytes::new());
    while durable.len() < 4 {
        let batch = push.batch().await;
        durable.extend(batch.records);
        place = batch.source_position;
        push.ack(durable.len() as u64).await;
    }
    assert_eq!(place, position(4, "4"));
    drop((agent, session));
    let source = fake(6);
    let readings = source.readings.clone();
    let (mut server, mut agent, session) = ready(source).await;
    let checkpoint =
        v1::Checkpoint { source_position: place.clone(), next_seq: 4, digest: digest(&durable).to_vec().into() };
    session.reply(Reply::Grant(v1::Grant { checkpoint: Some(checkpoint), ..grant("r", "p") })).await;
    let mut push = server.push().await;
    let known = committed(&entity("0", 1024));
    push.open_at(4, digest(&durable), place, WINDOW, vec![known.clone()]).await;
    let (rest, eof) = push.take_all(4).await;
    assert_eq!(names(&rest), ["sf.default.salesforce.4", "sf.default.salesforce.5"]);
    assert_eq!((eof.count, eof.digest.as_ref()), (6, digest(durable.iter().chain(&rest)).as_slice()));
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
    let readings = readings.lock().unwrap();
    assert_eq!(readings[0].start, Some(Checkpoint("4".into())));
    assert!(readings[0].baseline.0.contains_key(&known.fqn));
}

#[tokio::test]
async fn a_place_that_does_not_hold_at_the_next_record_is_handed_back_as_unusable() {
    let unusable = [Bytes::new(), position(3, "3"), position(5, "5"), position(4, ""), Bytes::from_static(b"4")];
    let too_long = position(4, &"x".repeat(Checkpoint::MAX + 1));
    for place in unusable.into_iter().chain([too_long]) {
        let source = fake(6);
        let readings = source.readings.clone();
        let (mut server, mut agent, mut session) = ready(source).await;
        session.grant("r", "p").await;
        let mut push = server.push().await;
        push.open_at(4, [7; 32], place, WINDOW, Vec::new()).await;
        let release = session.release().await;
        assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::CheckpointUnusable));
        assert!(matches!(agent.run_end().await, RunEnd::HandedBack { reason: "CHECKPOINT_UNUSABLE", .. }));
        assert!(readings.lock().unwrap().is_empty(), "the source was not started");
        // The control plane dropped what was staged, and grants the run again at once.
        session.reply(Reply::Released(v1::Released { run_id: "r".to_owned() })).await;
        session.grant("r", "p").await;
        let mut push = server.push().await;
        push.open(0, NOTHING, WINDOW, Vec::new()).await;
        assert_eq!(push.take_all(0).await.0.len(), 6);
        assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
    }
}

#[tokio::test]
async fn a_source_that_cannot_go_on_there_hands_its_run_back() {
    let (mut server, _agent, mut session) = ready(Fake { refuses_checkpoints: true, ..fake(6) }).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open_at(4, [7; 32], position(4, "4"), WINDOW, Vec::new()).await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::CheckpointUnusable));
    assert_eq!(release.detail, "the org has changed");
}

#[tokio::test]
async fn a_control_plane_that_was_restored_from_an_older_backup_gets_the_run_from_there() {
    let (source, steps) = fake(6).stepping();
    let readings = source.readings.clone();
    let (mut server, mut agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    steps.add_permits(5);
    let (mut records, mut places) = (Vec::new(), vec![Bytes::new()]);
    while records.len() < 5 {
        let batch = push.batch().await;
        places.resize(records.len() + batch.records.len(), Bytes::new());
        records.extend(batch.records);
        places.push(batch.source_position);
        push.ack(records.len() as u64).await;
    }
    push.break_off().await;
    // An older place of a batch's end, which the agent holds no more.
    let older = places[..5].iter().rposition(|place| !place.is_empty()).unwrap_or_default();
    let (digest_there, place) = (digest(&records[..older]), places[older].clone());
    let mut push = server.push().await;
    push.open_at(older as u64, digest_there, place.clone(), WINDOW, Vec::new()).await;
    // Another stream, for the baseline of the moment.
    steps.add_permits(100);
    let mut push = server.push().await;
    push.open_at(older as u64, digest_there, place, WINDOW, vec![committed(&entity("gone", 5))]).await;
    let (again, eof) = push.take_all(older as u64).await;
    assert_eq!((eof.count, eof.digest.as_ref()), (6, digest(records[..older].iter().chain(&again)).as_slice()));
    assert_eq!(eof.gone.len(), 1, "the baseline of the moment");
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
    assert_eq!(readings.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_control_plane_that_has_other_records_gets_the_run_back() {
    let (source, steps) = fake(3).stepping();
    let (mut server, _agent, mut session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    steps.add_permits(1);
    push.batch().await;
    push.ack(1).await;
    push.break_off().await;
    let mut push = server.push().await;
    push.open_at(1, [7; 32], position(1, "1"), WINDOW, Vec::new()).await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::CheckpointUnusable));
    assert!(release.detail.contains("digest"), "{}", release.detail);
}

#[tokio::test]
async fn a_stream_on_a_connection_that_leads_nowhere_is_left_for_that_of_the_next_session() {
    let (source, steps) = fake(3).stepping();
    let (mut server, mut agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut old = server.push().await;
    old.open(0, NOTHING, WINDOW, Vec::new()).await;
    steps.add_permits(1);
    let batch = old.batch().await;
    // The session ends; the upload's stream says nothing more, and nobody tells that it is dead.
    session.refuse(tonic::Status::unavailable("restarting")).await;
    let mut session = server.session().await;
    session.welcome(5_000, 60_000).await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    steps.add_permits(100);
    let (records, eof) = push.take_all(0).await;
    assert_eq!(records[0], batch.records[0], "the same upload goes on from its window");
    assert_eq!(eof.count, 3);
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
}
