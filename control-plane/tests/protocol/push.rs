//! Pushes: from `Open` to `Committed`, and what is refused on the way.

use control_plane::export::Export;
use control_plane::store::RunState;
use hybrid_runner_proto::v1::{self, Reason, push_request, push_response, record};
use tonic::Code;
use tonic::codec::CompressionEncoding;

use crate::agent::{Push, Session, eof, granted, reason, table, tables, west};
use crate::plane::{PIPELINE, Plane, soon};

#[tokio::test]
async fn a_run_commits_and_is_exported_in_fqn_order() {
    let plane = Plane::start().await;
    let mut client =
        west(&plane).await.send_compressed(CompressionEncoding::Zstd).accept_compressed(CompressionEncoding::Zstd);
    let (_session, token) = granted(&plane, &mut client).await;
    let (mut push, opened) = Push::open(&mut client, &token).await;
    assert_eq!((opened.next_seq, opened.baseline_follows), (0, false));
    assert_eq!(opened.max_unacked_bytes, 8 * 1024 * 1024);
    let mut records = tables(30);
    records.swap(0, 20);
    for (seq, record) in (0..).zip(&mut records) {
        record.seq = seq;
    }
    push.batch(&token, &records[..10]).await;
    push.batch(&token, &records[10..]).await;
    assert_eq!(push.ack().await, 10);
    assert_eq!(push.ack().await, 30);
    let push_request::Message::Eof(mut end) = eof(&token, &records) else { panic!("an Eof") };
    end.summary = Some(v1::RunSummary { source_requests: 9, source_requests_left: Some(0), ..Default::default() });
    push.say(push_request::Message::Eof(end)).await;
    match push.hear().await {
        push_response::Message::Committed(committed) => {
            assert_eq!((committed.count, committed.entities, committed.columns), (30, 30, 30));
            assert_eq!((committed.changed, committed.unchanged), (30, 0));
            assert_eq!(committed.deletions(), v1::Deletions::None);
        }
        other => panic!("expected Committed, got {other:?}"),
    }
    push.ends_well().await;
    let run = soon("the end", plane.handle.run_ended(token.run_id.parse().unwrap())).await.unwrap();
    assert_eq!((run.state, run.complete, run.attempt), (RunState::Committed, true, 1));
    let summary = run.figures.unwrap().summary;
    assert_eq!((summary.source_requests, summary.source_requests_left), (9, Some(0)), "none left is not unknown");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.jsonl");
    let store = std::sync::Arc::clone(plane.handle.store());
    assert_eq!(Export::new(store, Some(PIPELINE.to_owned())).write(&path).await.unwrap(), 30);
    let export = std::fs::read_to_string(path).unwrap();
    assert!(export.starts_with(
        "{\"kind\":\"table\",\"fqn\":\"crm.default.salesforce.T0\",\"entity\":{\"columns\":[{}],\"name\":\"T0\"}}\n"
    ));
    assert!(export.lines().is_sorted());
}

#[tokio::test]
async fn the_next_run_is_told_what_is_committed_and_sends_only_what_changed() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    let (push, _) = Push::open(&mut client, &token).await;
    push.batch(&token, &tables(3)).await;
    push.say(eof(&token, &tables(3))).await;
    soon("the commit", plane.handle.run_ended(token.run_id.parse().unwrap())).await.unwrap();

    session.ask(1).await;
    plane.trigger().await;
    let token = session.grant().await.token.unwrap();
    let (mut push, opened) = Push::open(&mut client, &token).await;
    assert!(opened.baseline_follows);
    let baseline = push.baseline().await;
    assert_eq!(baseline.len(), 3);
    assert_eq!(baseline[1].content_hash, tables(3)[1].content_hash);
    let unchanged = |mut record: v1::Record| {
        record.content = Some(record::Content::Unchanged(v1::Unchanged {}));
        record
    };
    let changed = table(1, "T1", "{\"columns\":[{},{}]}");
    // The second says unchanged and is not: nothing of its batch is applied, what follows is dropped.
    let lie = unchanged(changed.clone());
    let [first, third] = [unchanged(tables(3)[0].clone()), unchanged(tables(3)[2].clone())];
    push.batch(&token, std::slice::from_ref(&first)).await;
    push.batch(&token, &[lie]).await;
    push.batch(&token, std::slice::from_ref(&third)).await;
    assert_eq!(push.ack().await, 1);
    match push.hear().await {
        push_response::Message::BodyNeeded(needed) => assert_eq!(needed.seqs, [1]),
        other => panic!("expected BodyNeeded, got {other:?}"),
    }
    push.batch(&token, std::slice::from_ref(&changed)).await;
    push.batch(&token, std::slice::from_ref(&third)).await;
    assert_eq!(push.ack().await, 2);
    assert_eq!(push.ack().await, 3);
    push.say(eof(&token, &[first, changed, third])).await;
    match push.hear().await {
        push_response::Message::Committed(committed) => {
            assert_eq!((committed.changed, committed.unchanged, committed.columns), (1, 2, 4));
        }
        other => panic!("expected Committed, got {other:?}"),
    }
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_was_and_the_end_is_told_again() {
    let mut plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (_session, token) = granted(&plane, &mut client).await;
    let records = tables(4);
    let (mut push, _) = Push::open(&mut client, &token).await;
    push.batch(&token, &records[..2]).await;
    assert_eq!(push.ack().await, 2);
    plane.restart().await;
    let mut client = west(&plane).await;
    let (mut push, opened) = Push::open(&mut client, &token).await;
    assert_eq!((opened.next_seq, opened.source_position.as_ref()), (2, b"here".as_slice()));
    // What it has not seen acknowledged it sends again; what is known counts once.
    push.batch(&token, &records[1..]).await;
    assert_eq!(push.ack().await, 4);
    push.say(eof(&token, &records)).await;
    let committed = push.hear().await;
    drop(push);
    let (mut push, opened) = Push::open(&mut client, &token).await;
    assert_eq!(opened.next_seq, 4);
    assert!(opened.baseline_follows);
    push.baseline().await;
    push.say(eof(&token, &records)).await;
    assert_eq!(push.hear().await, committed);
}

#[tokio::test]
async fn a_forged_token_is_fenced() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (_session, token) = granted(&plane, &mut client).await;
    let stale = v1::WriteToken { fence: token.fence - 1, ..token.clone() };
    let other = v1::WriteToken { lease_id: vec![1; 16].into(), ..token.clone() };
    let nobody = v1::WriteToken { run_id: "nobody".to_owned(), ..token.clone() };
    for forged in [&stale, &other, &nobody] {
        let mut push = Push::connect(&mut client).await.unwrap();
        push.say(push_request::Message::Open(v1::Open { token: Some(forged.clone()) })).await;
        assert_eq!(push.fenced().await, Reason::Fenced);
    }
    for forged in [&stale, &other] {
        let (mut push, opened) = Push::open(&mut client, &token).await;
        assert_eq!(opened.next_seq, 0);
        push.batch(forged, &tables(1)).await;
        assert_eq!(push.fenced().await, Reason::Fenced);
        let (mut push, _) = Push::open(&mut client, &token).await;
        push.say(eof(forged, &[])).await;
        assert_eq!(push.fenced().await, Reason::Fenced);
    }
    let (_, opened) = Push::open(&mut client, &token).await;
    assert_eq!(opened.next_seq, 0);
}

#[tokio::test]
async fn another_agent_cannot_use_a_grant() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (_session, token) = granted(&plane, &mut client).await;
    let mut south = crate::agent::client(&plane, crate::agent::Shown::Token("another-token")).await;
    let mut push = Push::connect(&mut south).await.unwrap();
    push.say(push_request::Message::Open(v1::Open { token: Some(token) })).await;
    let status = push.end().await;
    assert_eq!((status.code(), reason(&status)), (Code::PermissionDenied, Reason::IdentityDenied));
}

#[tokio::test]
async fn what_breaks_the_protocol_is_refused_with_its_reason() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (_session, token) = granted(&plane, &mut client).await;
    let batch = |records: Vec<v1::Record>| {
        push_request::Message::Batch(v1::Batch { token: Some(token.clone()), records, ..Default::default() })
    };
    let one = || tables(1).remove(0);
    let position = v1::Batch { token: Some(token.clone()), records: tables(1), source_position: vec![0; 4097].into() };
    let half = "x".repeat(600 * 1024);
    let large = |seq: u64| table(seq, &format!("L{seq}"), &format!("{{\"d\":\"{half}\"}}"));
    let huge = table(0, "H", &format!("{{\"d\":\"{}\"}}", "x".repeat(3 * 1024 * 1024)));
    let enormous = table(0, "E", &format!("{{\"d\":\"{}\"}}", "x".repeat(5 * 1024 * 1024)));
    let failures = v1::Eof {
        token: Some(token.clone()),
        digest: vec![0; 32].into(),
        failures: vec![v1::Failure::default(); 1001],
        ..Default::default()
    };
    for (message, expected, part) in [
        (push_request::Message::Open(v1::Open { token: Some(token.clone()) }), Reason::ProtocolViolation, "second"),
        (batch(vec![]), Reason::ProtocolViolation, "without records"),
        (batch(tables(1001)), Reason::LimitExceeded, "1001 records"),
        (batch(vec![large(0), large(1)]), Reason::LimitExceeded, "or one record"),
        (batch(vec![huge]), Reason::LimitExceeded, "body"),
        (batch(vec![enormous]), Reason::LimitExceeded, ""),
        (push_request::Message::Batch(position), Reason::LimitExceeded, "source_position"),
        (batch(vec![v1::Record { fqn: "x".repeat(3073), ..one() }]), Reason::LimitExceeded, "fqn"),
        (batch(vec![v1::Record { kind: "x".repeat(65), ..one() }]), Reason::LimitExceeded, "kind"),
        (batch(vec![v1::Record { content_hash: vec![0; 32].into(), ..one() }]), Reason::ProtocolViolation, "BLAKE3"),
        (batch(vec![v1::Record { content_hash: vec![0; 31].into(), ..one() }]), Reason::ProtocolViolation, "31 bytes"),
        (batch(vec![v1::Record { content: None, ..one() }]), Reason::ProtocolViolation, "neither"),
        (
            batch(vec![v1::Record { memo: vec![1; 513].into(), ..one() }]),
            Reason::LimitExceeded,
            "record 0: memo has 513",
        ),
        (batch(vec![table(0, "T", "not json")]), Reason::ProtocolViolation, "not a JSON object"),
        (batch(vec![table(1, "T", "{}")]), Reason::OutOfOrder, "record 1 came where 0"),
        (batch(vec![table(0, "T", "{}"), table(1, "T", "{}")]), Reason::ProtocolViolation, "record 1 names"),
        (push_request::Message::Eof(failures), Reason::LimitExceeded, "1001"),
        (eof(&token, &tables(1)), Reason::DigestMismatch, "1 records, 0 were applied"),
    ] {
        let (mut push, opened) = Push::open(&mut client, &token).await;
        assert_eq!(opened.next_seq, 0, "nothing was applied");
        push.say(message).await;
        let status = push.end().await;
        assert_eq!(reason(&status), expected, "{}", status.message());
        assert!(status.message().contains(part), "{}", status.message());
    }
    let mut push = Push::connect(&mut client).await.unwrap();
    push.say(eof(&token, &[])).await;
    assert_eq!(reason(&push.end().await), Reason::ProtocolViolation);
}

#[tokio::test]
async fn memos_come_back_in_the_next_run_and_an_unchanged_record_replaces_them() {
    let mut plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (_session, token) = granted(&plane, &mut client).await;
    let remembering = |memo: &str| {
        let memo = |record: v1::Record| v1::Record { memo: memo.repeat(512).into_bytes().into(), ..record };
        tables(3000).into_iter().map(memo).collect::<Vec<_>>()
    };
    let records = remembering("a");
    let (mut push, _) = Push::open(&mut client, &token).await;
    for records in records.chunks(1000) {
        push.batch(&token, records).await;
        push.ack().await;
    }
    push.say(eof(&token, &records)).await;
    assert!(matches!(push.hear().await, push_response::Message::Committed(_)));
    // They are durable, and what a memo is has no part in what an entity is.
    plane.restart().await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    let (mut push, _) = Push::open(&mut client, &token).await;
    let mut pages = 0;
    let mut baseline = Vec::new();
    loop {
        match push.hear().await {
            push_response::Message::Baseline(page) => {
                assert!(prost::Message::encoded_len(&page) <= 1024 * 1024 && page.entries.len() <= 1000);
                pages += 1;
                baseline.extend(page.entries);
                if page.last {
                    break;
                }
            }
            other => panic!("expected Baseline, got {other:?}"),
        }
    }
    assert!(pages >= 3, "{pages}");
    assert_eq!(baseline.len(), 3000);
    assert!(baseline.iter().all(|entry| entry.memo.as_ref() == [b'a'; 512]));
    let unchanged =
        |record: v1::Record| v1::Record { content: Some(record::Content::Unchanged(v1::Unchanged {})), ..record };
    let known: Vec<v1::Record> = remembering("b").into_iter().take(2).map(unchanged).collect();
    push.batch(&token, &known).await;
    assert_eq!(push.ack().await, 2);
    push.say(eof(&token, &known)).await;
    match push.hear().await {
        push_response::Message::Committed(committed) => assert_eq!((committed.changed, committed.unchanged), (0, 2)),
        other => panic!("expected Committed, got {other:?}"),
    }
    session.ask(1).await;
    plane.trigger().await;
    let token = session.grant().await.token.unwrap();
    let (mut push, _) = Push::open(&mut client, &token).await;
    let memo = |name: &str, baseline: &[v1::BaselineEntry]| {
        let fqn = format!("crm.default.salesforce.{name}");
        baseline.iter().find(|entry| entry.fqn == fqn).unwrap().memo.first().copied()
    };
    let baseline = push.baseline().await;
    assert_eq!(
        (memo("T0", &baseline), memo("T1", &baseline), memo("T2", &baseline)),
        (Some(b'b'), Some(b'b'), Some(b'a'))
    );
}

#[tokio::test]
async fn an_agent_that_did_not_list_memos_is_sent_none_and_may_send_none() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (_session, token) = granted(&plane, &mut client).await;
    let records: Vec<_> = tables(2).into_iter().map(|record| v1::Record { memo: vec![1].into(), ..record }).collect();
    let (mut push, _) = Push::open(&mut client, &token).await;
    push.batch(&token, &records).await;
    assert_eq!(push.ack().await, 2);
    push.say(eof(&token, &records)).await;
    assert!(matches!(push.hear().await, push_response::Message::Committed(_)));

    let plain = v1::Hello { capabilities: Vec::new(), ..crate::agent::hello() };
    let mut session = Session::ready_as(&mut client, plain, 1).await;
    plane.trigger().await;
    let token = session.grant().await.token.unwrap();
    let (mut push, _) = Push::open(&mut client, &token).await;
    let baseline = push.baseline().await;
    assert_eq!(baseline.len(), 2);
    assert!(baseline.iter().all(|entry| entry.memo.is_empty()));
    push.batch(&token, &records[..1]).await;
    let status = push.end().await;
    assert_eq!(reason(&status), Reason::ProtocolViolation);
    assert!(status.message().contains("record 0: memo is of capability `memos`"), "{}", status.message());
}

#[tokio::test]
async fn an_entity_of_three_mebibytes_travels_alone() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (_session, token) = granted(&plane, &mut client).await;
    let (mut push, _) = Push::open(&mut client, &token).await;
    let body = format!("{{\"d\":\"{}\"}}", "x".repeat(3 * 1024 * 1024 - 8));
    assert_eq!(body.len(), 3 * 1024 * 1024);
    push.batch(&token, &[table(0, "Large", &body)]).await;
    assert_eq!(push.ack().await, 1);
}

#[tokio::test]
async fn a_record_that_changes_is_refused() {
    let plane = Plane::start().await;
    let mut client = west(&plane).await;
    let (_session, token) = granted(&plane, &mut client).await;
    let (mut push, _) = Push::open(&mut client, &token).await;
    push.batch(&token, &tables(2)).await;
    assert_eq!(push.ack().await, 2);
    push.batch(&token, &[table(1, "T1", "{}")]).await;
    let status = push.end().await;
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, Reason::RecordChanged));
}
