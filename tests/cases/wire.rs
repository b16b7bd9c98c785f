//! The wire is what its files say, on both sides.

mod reread;
mod third_party;

use std::collections::BTreeSet;

use control_plane::digest;
use futures_util::{StreamExt as _, stream};
use hybrid_runner::{AgentEvent, RunEnd};
use hybrid_runner_connector::Reason as SourceReason;
use hybrid_runner_proto::v1::{self, Reason, record};
use hybrid_runner_proto::{reason_name, reason_of_name};
use hybrid_runner_tests::by_hand::{self, Push, Pushed, Said, Session};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{command, output};
use hybrid_runner_tests::world::{RunningAgent, World};
use hybrid_runner_tests::{outside, root};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1 as reflection;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use self::third_party::ThirdParty;

#[test]
fn the_digest_vectors_of_the_protocol_hold() {
    let vectors = vectors();
    assert!(vectors.len() >= 3, "the vectors of docs/protocol.md are gone");
    let mut ours = digest::EMPTY;
    for (at, (record, expected)) in vectors.iter().enumerate() {
        let hash = digest::of_body(body(record));
        assert_eq!(record.content_hash, hash.as_slice(), "content hash of {}", record.fqn);
        ours = digest::next(&ours, record.seq, &record.kind, &record.fqn, &hash);
        assert_eq!(digest::hex(&ours), *expected, "the control plane's digest after {}", record.fqn);
        let by_hand = by_hand::digest(vectors.iter().take(at + 1).map(|(record, _)| record));
        assert_eq!(digest::hex(&by_hand), *expected, "the digest by the proto's words after {}", record.fqn);
    }
}

/// The rows of the table in docs/protocol.md, each with the digest after it.
fn vectors() -> Vec<(v1::Record, String)> {
    let text = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| seq | kind | fqn |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> =
                line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect();
            let [seq, kind, fqn, body, content_hash, digest] = cells[..] else { panic!("not a vector: {line}") };
            let record = v1::Record {
                seq: seq.parse().unwrap(),
                kind: kind.to_owned(),
                fqn: fqn.to_owned(),
                content_hash: unhex(content_hash).into(),
                content: Some(record::Content::Body(body.to_owned().into())),
                memo: bytes::Bytes::new(),
            };
            (record, digest.to_owned())
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn body(record: &v1::Record) -> &[u8] {
    match &record.content {
        Some(record::Content::Body(body)) => body,
        other => panic!("{} has no body but {other:?}", record.fqn),
    }
}

#[tokio::test]
async fn an_agent_ends_its_run_at_a_third_party_with_the_digest_of_the_records_it_sent() {
    let _logs = Logs::capture();
    let world = World::new().await;
    let stored = world.plane.store().definitions().await.unwrap().remove(0);
    let third_party = ThirdParty::new(stored.new.workflow_json);
    let (port, _tasks) = third_party.clone().serve(&world.authority).await;
    let mut config = world.agent_config("one");
    config.control_plane.port = port;
    let mut agent = RunningAgent::start(config);
    let figures = agent.until("the end of the run", |event| match event {
        AgentEvent::RunEnded { end: RunEnd::Committed(figures), .. } => Some(figures),
        AgentEvent::RunEnded { end, .. } => panic!("{end:?}"),
        _ => None,
    });
    let figures = figures.await;
    agent.stop().await;

    let pushed = std::mem::take(&mut third_party.state.lock().unwrap().pushed);
    let mut records = Vec::new();
    let mut eofs = Vec::new();
    for (at, message) in pushed.into_iter().enumerate() {
        let token = match message {
            Pushed::Open(open) => {
                assert_eq!(at, 0, "Open comes first, once");
                open.token
            }
            Pushed::Batch(batch) => {
                assert!(eofs.is_empty(), "a batch came after Eof");
                records.extend(batch.records);
                batch.token
            }
            Pushed::Eof(eof) => {
                eofs.push(eof.clone());
                eof.token
            }
        };
        assert_eq!(token.as_ref(), Some(&third_party.token), "each write carries the grant's token");
    }
    let [eof] = &eofs[..] else { panic!("expected one Eof, got {eofs:?}") };
    for (seq, record) in (0..).zip(&records) {
        assert_eq!(record.seq, seq, "records have no gaps");
        assert_eq!(record.content_hash, blake3::hash(body(record)).as_bytes().as_slice(), "{}", record.fqn);
    }
    assert_eq!(eof.count, u64::try_from(records.len()).unwrap());
    assert_eq!(digest::hex(&eof.digest), digest::hex(&by_hand::digest(&records)));
    assert!(eof.complete && eof.failures.is_empty() && eof.gone.is_empty(), "{eof:?}");
    assert_eq!(figures.sent, eof.count);
    let names: BTreeSet<&str> = records.iter().map(|record| record.fqn.as_str()).collect();
    assert_eq!(names.len(), records.len(), "an FQN is unique in its run");
    assert!(records.len() > 40, "40 objects and their parents: {}", records.len());
    world.stop().await;
}

#[tokio::test]
async fn the_proto_files_are_clean_for_buf() {
    let Some(buf) = outside::buf("the_proto_files_are_clean_for_buf") else { return };
    let mut lint = command(&buf);
    lint.arg("lint").current_dir(root().join("proto"));
    let lint = output(lint).await;
    assert_eq!(lint.code(), 0, "{}{}", lint.stdout, lint.stderr);
}

#[tokio::test]
async fn health_says_serving_and_reflection_lists_the_service() {
    let _logs = Logs::capture();
    let world = World::new().await;
    let channel = by_hand::connect(world.port, &world.authority, &world.authority.agent("one")).await;
    let mut health = HealthClient::new(channel.clone());
    let named = HealthCheckRequest { service: "hybrid.runner.v1.RunnerService".to_owned() };
    assert_eq!(health.check(named).await.unwrap().into_inner().status(), ServingStatus::Serving);
    let serving = health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(serving.status(), ServingStatus::Serving);
    let unknown = health.check(HealthCheckRequest { service: "nobody".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let ask = |message| reflection::ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = stream::iter([
        ask(reflection::server_reflection_request::MessageRequest::ListServices(String::new())),
        ask(reflection::server_reflection_request::MessageRequest::FileContainingSymbol(
            "hybrid.runner.v1.RunnerService".to_owned(),
        )),
    ]);
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(questions).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let [
        reflection::server_reflection_response::MessageResponse::ListServicesResponse(services),
        reflection::server_reflection_response::MessageResponse::FileDescriptorResponse(files),
    ] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    let services: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(services.contains(&"hybrid.runner.v1.RunnerService"), "{services:?}");
    assert!(!files.file_descriptor_proto.is_empty());
    world.stop().await;
}

/// Each variant by name; does not compile when one is missing.
macro_rules! every_source_reason {
    ($($name:ident)*) => {
        [$(SourceReason::$name),*].map(|reason| match reason { $(SourceReason::$name)|* => reason })
    };
}

#[test]
fn every_reason_of_a_source_is_in_the_catalogue_of_the_wire() {
    let reasons = every_source_reason!(
        BadDefinition LiteralSecret PolicyDenied SourceUnknown SecretUnavailable SecretStoreUnreachable SecretMalformed
        SecretInOutput AuthFailed SourceUnreachable SourceProtocol SourceThrottled SourceDenied EntityTooLarge DescribeTooLarge
        ObjectVanished CheckpointUnusable SinkClosed
    );
    let mut seen = BTreeSet::new();
    for reason in reasons {
        let name = reason.as_str();
        let wire = reason_of_name(name).unwrap_or_else(|| panic!("{reason:?}: no REASON_{name} in reason.proto"));
        assert_ne!(wire, Reason::Unspecified);
        assert_eq!(reason_name(wire), name);
        assert!(seen.insert(name), "two reasons are called {name}");
    }
}

#[tokio::test]
async fn a_message_of_an_unlisted_capability_is_a_violation_that_names_it() {
    let _logs = Logs::capture();
    let world = World::new().await;
    let channel = by_hand::connect(world.port, &world.authority, &world.authority.agent("one")).await;
    // The control plane lists it, this agent does not.
    let (mut session, welcome) = Session::hello(&channel).await;
    assert!(welcome.capabilities.iter().any(|listed| listed == "logs"));
    session.say(Said::LogLines(v1::LogLines::default())).await;
    let status = session.end().await;
    assert_eq!((status.code(), by_hand::reason(&status)), (Code::InvalidArgument, Reason::ProtocolViolation));
    assert!(status.message().contains("logs"), "{}", status.message());
    world.stop().await;
}

#[tokio::test]
async fn whoever_does_not_say_hello_first_or_says_nothing_breaks_the_protocol() {
    let _logs = Logs::capture().expecting("a push ends");
    let world = World::new().await;
    let channel = by_hand::connect(world.port, &world.authority, &world.authority.agent("one")).await;
    for first in [
        Said::LeaseRequest(v1::LeaseRequest { slots: 1 }),
        Said::Heartbeat(v1::Heartbeat::default()),
        Said::Release(v1::Release::default()),
        Said::LogLines(v1::LogLines::default()),
    ] {
        let mut session = Session::open(&channel).await;
        session.say(first).await;
        violation(&session.end().await);
    }
    let mut silent = Session::open(&channel).await;
    silent.say_nothing().await;
    violation(&silent.end().await);
    let (mut session, _) = Session::hello(&channel).await;
    session.say_nothing().await;
    violation(&session.end().await);
    let (mut session, _) = Session::hello(&channel).await;
    session.say(Said::Hello(by_hand::hello())).await;
    violation(&session.end().await);

    let mut push = Push::connect(&channel).await;
    push.say_nothing().await;
    violation(&push.end().await);
    let token = v1::WriteToken { run_id: "nobody".to_owned(), fence: 1, lease_id: vec![0; 16].into() };
    for first in [by_hand::batch(&token, &by_hand::tables(1)), Pushed::Eof(by_hand::eof(&token, &[]))] {
        let mut push = Push::connect(&channel).await;
        push.say(first).await;
        violation(&push.end().await);
    }
    world.stop().await;
}

fn violation(status: &Status) {
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    assert_eq!(by_hand::reason(status), Reason::ProtocolViolation, "{}", status.message());
}
