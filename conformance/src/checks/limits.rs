//! What is too large, or too many.

use hybrid_runner_proto::v1::{self, Reason, Record};

use crate::check::{Checked, Stop, checks};
use crate::kit::Kit;
use crate::records::with_body;
use crate::wire::{Push, Pushed, Said, Session, batch, eof, hello};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

checks! {
    a_session_message_has_256_kib: "A message above 256 KiB ends the session with `LIMIT_EXCEEDED`.";
    a_heartbeat_lists_64_leases: "More than 64 leases in a heartbeat or a `Hello` end the session with `LIMIT_EXCEEDED`.";
    a_heartbeat_tells_of_16_kinds: "More than 16 kinds in the progress of a run end the session with `LIMIT_EXCEEDED`.";
    texts_of_a_session_are_bounded: "A pipeline name above 256 bytes and a detail above 4 KiB end the session with `LIMIT_EXCEEDED`.";
    a_push_message_has_4_mib: "A message above 4 MiB ends the push with `LIMIT_EXCEEDED`.";
    a_body_has_3_mib: "A body of 3 MiB travels alone; a larger one is refused with `LIMIT_EXCEEDED`.";
    a_batch_has_1000_records: "A batch of 1,000 records is accepted, one of 1,001 refused with `LIMIT_EXCEEDED`.";
    a_batch_of_several_has_1_mib: "A batch of more than one record above 1 MiB is refused with `LIMIT_EXCEEDED`.";
    names_of_a_record_are_bounded: "A kind above 64 bytes, an FQN above 3,072 and a memo above 512 are refused with `LIMIT_EXCEEDED`.";
    a_source_position_has_4_kib: "A source position of 4 KiB is accepted, a longer one refused with `LIMIT_EXCEEDED`.";
    an_end_lists_1000_failures: "More than 1,000 failures in `Eof` are refused with `LIMIT_EXCEEDED`, and nothing is committed.";
}

/// A session that ends with `LIMIT_EXCEEDED` when it says this.
async fn too_much(kit: &Kit, message: Said) -> Checked {
    let (mut session, _) = Session::hello(&kit.link, hello()).await?;
    session.say(message).await;
    session.refused(Reason::LimitExceeded).await.map(drop)
}

async fn a_session_message_has_256_kib(kit: &mut Kit) -> Checked {
    // Names of sources are many and short: no other limit is met first but the number of names, which has the same reason.
    let sources = (0..3_000).map(|number| format!("{number:0100}")).collect();
    let mut session = Session::start(&kit.link, Some(Said::Hello(v1::Hello { sources, ..hello() }))).await?;
    session.refused(Reason::LimitExceeded).await.map(drop)
}

async fn a_heartbeat_lists_64_leases(kit: &mut Kit) -> Checked {
    let renewals = (0..65).map(|_| v1::LeaseRenewal { token: Some(nobody()), progress: None }).collect();
    too_much(kit, Said::Heartbeat(v1::Heartbeat { id: 1_000, renewals })).await?;
    let held = (0..65).map(|_| v1::HeldLease { token: Some(nobody()), pipeline: "nobody".to_owned() }).collect();
    let mut session = Session::start(&kit.link, Some(Said::Hello(v1::Hello { held, ..hello() }))).await?;
    session.refused(Reason::LimitExceeded).await.map(drop)
}

async fn a_heartbeat_tells_of_16_kinds(kit: &mut Kit) -> Checked {
    let kind = v1::KindProgress { kind: "k".to_owned(), records_acked: 1, records_expected: 1 };
    let progress = Some(v1::Progress { kinds: vec![kind; 17], ..Default::default() });
    let renewals = vec![v1::LeaseRenewal { token: Some(nobody()), progress }];
    too_much(kit, Said::Heartbeat(v1::Heartbeat { id: 1_000, renewals })).await
}

/// A lease that was never granted.
fn nobody() -> v1::WriteToken {
    v1::WriteToken { run_id: uuid::Uuid::new_v4().to_string(), fence: 1, lease_id: vec![0; 16].into() }
}

async fn texts_of_a_session_are_bounded(kit: &mut Kit) -> Checked {
    let status = |pipeline: usize, detail: usize| {
        let (pipeline, detail) = ("p".repeat(pipeline), "d".repeat(detail));
        Said::DefinitionStatus(v1::DefinitionStatus { pipeline, detail, version: 1, ..Default::default() })
    };
    too_much(kit, status(257, 0)).await?;
    too_much(kit, status(1, 4 * KIB + 1)).await?;
    // At the limit it is a session as any other.
    let (session, _) = Session::hello(&kit.link, hello()).await?;
    session.say(status(256, 4 * KIB)).await;
    session.beat(&[]).await.map(drop)
}

/// Sends these records, made from the next seq.
async fn sent(kit: &mut Kit, make: impl FnOnce(Vec<Record>) -> Vec<Record>, count: u64) -> Checked<(Push, u64)> {
    let token = kit.hold().await?;
    let (push, opening) = Push::open(&kit.link, &token).await?;
    let records = make(kit.tables(opening.opened.next_seq, count));
    push.say(batch(&token, &records)).await;
    Ok((push, opening.opened.next_seq + count))
}

async fn over(kit: &mut Kit, count: u64, make: impl FnOnce(Vec<Record>) -> Vec<Record>) -> Checked {
    let (mut push, _) = sent(kit, make, count).await?;
    push.refused(Reason::LimitExceeded).await.map(drop)
}

async fn within(kit: &mut Kit, count: u64, make: impl FnOnce(Vec<Record>) -> Vec<Record>) -> Checked {
    let (mut push, next_seq) = sent(kit, make, count).await?;
    push.acknowledged(next_seq).await
}

/// A body of exactly so many bytes.
fn body(bytes: usize) -> String {
    let frame = r#"{"name":""}"#.len();
    format!(r#"{{"name":"{}"}}"#, "x".repeat(bytes.saturating_sub(frame)))
}

fn bodies(records: &[Record], bytes: usize) -> Vec<Record> {
    records.iter().map(|record| with_body(record, &body(bytes))).collect()
}

async fn a_push_message_has_4_mib(kit: &mut Kit) -> Checked {
    over(kit, 1, |records| bodies(&records, 4 * MIB + 1)).await
}

async fn a_body_has_3_mib(kit: &mut Kit) -> Checked {
    over(kit, 1, |records| bodies(&records, 3 * MIB + 1)).await?;
    within(kit, 1, |records| bodies(&records, 3 * MIB)).await
}

async fn a_batch_has_1000_records(kit: &mut Kit) -> Checked {
    over(kit, 1_001, |records| records).await?;
    within(kit, 1_000, |records| records).await
}

async fn a_batch_of_several_has_1_mib(kit: &mut Kit) -> Checked {
    over(kit, 2, |records| bodies(&records, MIB / 2)).await?;
    within(kit, 2, |records| bodies(&records, MIB / 2 - KIB)).await
}

async fn names_of_a_record_are_bounded(kit: &mut Kit) -> Checked {
    over(kit, 1, |records| records.into_iter().map(|record| Record { kind: "k".repeat(65), ..record }).collect())
        .await?;
    let named = |length: usize| move |record: Record| Record { fqn: format!("{:f<length$}", record.fqn), ..record };
    over(kit, 1, |records| records.into_iter().map(named(3_073)).collect()).await?;
    within(kit, 1, |records| records.into_iter().map(named(3_072)).collect()).await?;
    kit.needs("memos").await?;
    let reminded = |length: usize| move |record: Record| Record { memo: vec![1; length].into(), ..record };
    over(kit, 1, |records| records.into_iter().map(reminded(513)).collect()).await?;
    within(kit, 1, |records| records.into_iter().map(reminded(512)).collect()).await
}

async fn a_source_position_has_4_kib(kit: &mut Kit) -> Checked {
    for (length, accepted) in [(4 * KIB + 1, false), (4 * KIB, true)] {
        let token = kit.hold().await?;
        let (mut push, opening) = Push::open(&kit.link, &token).await?;
        let records = kit.tables(opening.opened.next_seq, 1);
        let source_position = vec![1; length].into();
        push.say(Pushed::Batch(v1::Batch { token: Some(token), records, source_position })).await;
        match accepted {
            true => push.acknowledged(opening.opened.next_seq + 1).await?,
            false => push.refused(Reason::LimitExceeded).await.map(drop)?,
        }
    }
    Ok(())
}

async fn an_end_lists_1000_failures(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let failure = |number: usize| v1::Failure { fqn: format!("conformance.failed.{number}"), ..Default::default() };
    let end = eof(&token, &opening.opened, &[]);
    let failures = (0..1_001).map(failure).collect();
    push.say(Pushed::Eof(v1::Eof { complete: false, failures, ..end })).await;
    push.refused(Reason::LimitExceeded).await?;
    let renewed = kit.holder()?.session.beat(std::slice::from_ref(&token)).await?;
    let ended = || Stop::Failed("the run ended by an end that was refused".to_owned());
    (renewed == [token.run_id]).then_some(()).ok_or_else(ended)
}
