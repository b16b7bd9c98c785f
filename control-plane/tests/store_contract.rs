//! One contract for every store: the same promises, kept by each.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use control_plane::digest;
use control_plane::server::Progress;
use control_plane::store::{
    Applied, BACKOFF, Batch, Content, Deletions, Ending, EnqueueError, Eof, Event, Failure, Fault, Granted, LeaseId,
    LineId, Listed, MAX_EVENTS, MemoryStore, NewDefinition, Pace, Record, Refusal, Run, RunId, RunState, ScheduleText,
    SqliteStore, Store, Summary, Token, UnreadableSecret, Verdict, WriteError, Writer, ready_runs,
};
use jiff::{SignedDuration, Timestamp};

const AGENT: &str = "agent";
const PIPELINE: &str = "crm";
const LISTED: Listed = Listed { memos: true, resume: true };

/// Pauses as they are by default, without their jitter.
const PACE: Pace = Pace::exact(BACKOFF);
const FAILED: Ending = Ending::Failed(PACE);
const HANDED_BACK: Ending = Ending::HandedBack(PACE);
const AGENT_LOST: &str = "AGENT_LOST";

/// A store that can lose its process.
enum Subject {
    Memory(Arc<MemoryStore>),
    Sqlite { store: Arc<SqliteStore>, folder: tempfile::TempDir },
}

impl Subject {
    fn memory() -> Self {
        Self::Memory(Arc::new(MemoryStore::new()))
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.db")).await.unwrap();
        Self::Sqlite { store: Arc::new(store), folder }
    }

    fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => Arc::clone(store) as Arc<dyn Store>,
            Self::Sqlite { store, .. } => Arc::clone(store) as Arc<dyn Store>,
        }
    }

    /// The process dies and another one starts on what it left. For SQLite that is the files as they are now, write-ahead
    /// log included: the old process never gets to close them.
    async fn crash(self) -> Self {
        match self {
            Self::Memory(store) => Self::Memory(Arc::new(store.crash())),
            Self::Sqlite { store, folder } => {
                let image = tempfile::tempdir().unwrap();
                for file in std::fs::read_dir(folder.path()).unwrap() {
                    let file = file.unwrap();
                    if file.file_name() != "store.db-shm" {
                        std::fs::copy(file.path(), image.path().join(file.file_name())).unwrap();
                    }
                }
                let after = SqliteStore::open(&image.path().join("store.db")).await.unwrap();
                store.close().await;
                Self::Sqlite { store: Arc::new(after), folder: image }
            }
        }
    }
}

fn now() -> Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

fn definition(pipeline: &str) -> NewDefinition {
    NewDefinition {
        pipeline: pipeline.to_owned(),
        file: format!("{pipeline}.yaml"),
        workflow_json: "{}".to_owned(),
        source: "salesforce".to_owned(),
        mark_deleted: true,
        schedule: None,
        enabled: true,
    }
}

async fn define(store: &dyn Store, definitions: &[NewDefinition]) {
    store.put_definitions(definitions.to_vec(), Vec::new(), now()).await.unwrap();
}

/// Queues a run of the pipeline and grants it.
async fn granted(store: &dyn Store) -> Granted {
    if store.definitions().await.unwrap().is_empty() {
        define(store, &[definition(PIPELINE)]).await;
    }
    let run_id = store.enqueue(PIPELINE, false, now()).await.unwrap();
    store.grant(run_id, 1, AGENT, LISTED, now()).await.unwrap().unwrap()
}

async fn opened(store: &dyn Store) -> Writer {
    let writer = writer(&granted(store).await);
    store.open(&writer).await.unwrap();
    writer
}

fn writer(granted: &Granted) -> Writer {
    Writer { agent: AGENT.to_owned(), token: granted.token }
}

fn record(seq: u64, name: &str, text: &str) -> Record {
    let body = Bytes::from(format!("{{\"name\":\"{name}\",\"description\":\"{text}\"}}"));
    Record {
        seq,
        kind: "table".to_owned(),
        fqn: format!("s.d.{name}"),
        content_hash: digest::of_body(&body),
        memo: Bytes::new(),
        content: Some(Content { body, columns: 2, foreign_keys: Vec::new() }),
    }
}

fn unchanged(seq: u64, name: &str, text: &str) -> Record {
    Record { content: None, ..record(seq, name, text) }
}

fn batch(records: &[Record]) -> Batch {
    let last = records.last().map_or(0, |record| record.seq);
    Batch { records: records.to_vec(), source_position: Bytes::from(format!("after {last}")) }
}

fn eof(records: &[Record], gone: &[&str]) -> Eof {
    let digest = records.iter().fold(digest::EMPTY, |digest, record| {
        digest::next(&digest, record.seq, &record.kind, &record.fqn, &record.content_hash)
    });
    Eof {
        count: u64::try_from(records.len()).unwrap(),
        digest,
        complete: true,
        failures: Vec::new(),
        gone: gone.iter().map(|name| format!("s.d.{name}")).collect(),
        summary: Summary { objects: 7, ..Summary::default() },
    }
}

fn tables(names: impl IntoIterator<Item = usize>) -> Vec<Record> {
    (0..).zip(names).map(|(seq, name)| record(seq, &format!("t{name:03}"), "first")).collect()
}

/// A whole run.
async fn commit(store: &dyn Store, records: &[Record], eof: &Eof) -> (RunId, control_plane::store::Figures) {
    let writer = opened(store).await;
    store.apply(&writer, &batch(records)).await.unwrap();
    (writer.token.run_id, store.commit(&writer, eof, now()).await.unwrap())
}

async fn run(store: &dyn Store, run_id: RunId) -> Run {
    store.run(run_id).await.unwrap().unwrap()
}

async fn names(store: &dyn Store) -> Vec<String> {
    store.entities(None, None, 1_000).await.unwrap().into_iter().map(|row| row.fqn).collect()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, WriteError>) -> Refusal {
    match result {
        Err(WriteError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Polls a future so many times, with whatever waiting lies between, and drops it.
async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        // The store's thread gets on meanwhile; how far does not matter to the promise.
        tokio::task::yield_now().await;
    }
    None
}

/// Each promise, for each store.
macro_rules! contract {
    ($($(#[$meta:meta])* async fn $name:ident($subject:ident: Subject) $body:block)*) => {
        mod promises {
            use super::*;
            $($(#[$meta])* pub(super) async fn $name($subject: Subject) $body)*
        }
        mod memory {
            use super::*;
            $(#[tokio::test] async fn $name() { promises::$name(Subject::memory()).await; })*
        }
        mod sqlite {
            use super::*;
            $(#[tokio::test] async fn $name() { promises::$name(Subject::sqlite().await).await; })*
        }
    };
}

#[path = "store_contract/backup.rs"]
mod backup;
#[path = "store_contract/dropped.rs"]
mod dropped;
#[path = "store_contract/model.rs"]
mod model;
#[path = "store_contract/resume.rs"]
mod resume;

contract! {
    async fn a_definition_gets_the_next_version_when_its_workflow_changes(subject: Subject) {
        let store = subject.store();
        define(&*store, &[definition("a"), definition("b")]).await;
        let changed = NewDefinition { workflow_json: "{\"x\":1}".to_owned(), ..definition("a") };
        define(&*store, &[changed.clone(), definition("b")]).await;
        define(&*store, &[changed.clone(), definition("b")]).await;
        let stored = store.definitions().await.unwrap();
        let versions: Vec<(&str, u64)> = stored.iter().map(|d| (d.new.pipeline.as_str(), d.version)).collect();
        assert_eq!(versions, [("a", 2), ("b", 1)]);
        define(&*store, &[definition("b")]).await;
        assert_eq!(store.definitions().await.unwrap().len(), 1);
        // It comes back: its version goes on.
        define(&*store, &[definition("a"), definition("b")]).await;
        assert_eq!(store.definitions().await.unwrap()[0].version, 3);
    }

    async fn a_file_that_turned_bad_keeps_its_last_good_definition(subject: Subject) {
        let store = subject.store();
        define(&*store, &[definition("a"), definition("b")]).await;
        let fault = Fault { file: "a.yaml".to_owned(), error: "line 1".to_owned() };
        store.put_definitions(vec![definition("b")], vec![fault.clone()], now()).await.unwrap();
        assert_eq!(store.definitions().await.unwrap().len(), 2);
        assert_eq!(store.faults().await.unwrap(), [fault]);
        define(&*store, &[definition("b")]).await;
        assert_eq!(store.definitions().await.unwrap().len(), 1);
        assert_eq!(store.faults().await.unwrap(), []);
    }

    async fn a_removed_or_disabled_pipeline_ends_its_runs_and_revokes_their_lease(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let queued = store.enqueue(PIPELINE, false, now()).await.unwrap();
        define(&*store, &[NewDefinition { enabled: false, ..definition(PIPELINE) }]).await;
        for run_id in [writer.token.run_id, queued] {
            assert_eq!(run(&*store, run_id).await.state, RunState::Cancelled);
        }
        let refused = refusal(store.apply(&writer, &batch(&tables(0..1))).await);
        assert_eq!(refused, Refusal::LeaseRevoked { current_fence: 1 });
        assert!(matches!(store.enqueue(PIPELINE, false, now()).await, Err(EnqueueError::Disabled { .. })));
        assert!(matches!(store.enqueue("other", false, now()).await, Err(EnqueueError::UnknownPipeline { .. })));
    }

    async fn what_agents_think_is_kept_in_place_of_what_they_thought(subject: Subject) {
        let store = subject.store();
        let verdict = |accepted: bool| Verdict {
            pipeline: "a".to_owned(),
            agent: AGENT.to_owned(),
            version: 1,
            accepted,
            reason: (!accepted).then(|| "BAD_DEFINITION".to_owned()),
            detail: None,
            unreadable_secrets: vec![UnreadableSecret {
                field: "password".to_owned(),
                reference: "secret:/crm/password".to_owned(),
                reason: "SECRET_UNAVAILABLE".to_owned(),
                detail: "not found".to_owned(),
            }],
        };
        store.put_verdict(verdict(false)).await.unwrap();
        store.put_verdict(verdict(true)).await.unwrap();
        assert_eq!(store.verdicts().await.unwrap(), [verdict(true)]);
    }

    async fn a_second_request_joins_the_run_that_is_queued(subject: Subject) {
        let store = subject.store();
        define(&*store, &[definition(PIPELINE)]).await;
        let first = store.enqueue(PIPELINE, false, now()).await.unwrap();
        assert_eq!(store.enqueue(PIPELINE, true, now()).await.unwrap(), first);
        assert!(run(&*store, first).await.full);
        let granted = store.grant(first, 1, AGENT, LISTED, now()).await.unwrap().unwrap();
        assert!(granted.full);
        assert_ne!(store.enqueue(PIPELINE, false, now()).await.unwrap(), first);
    }

    async fn a_tick_of_the_schedule_is_handled_once(subject: Subject) {
        let store = subject.store();
        let schedule = ScheduleText { cron: "@hourly".to_owned(), timezone: "UTC".to_owned() };
        let scheduled = NewDefinition { schedule: Some(schedule), ..definition(PIPELINE) };
        define(&*store, std::slice::from_ref(&scheduled)).await;
        let seen = store.definitions().await.unwrap()[0].scheduled_at;
        assert_eq!(seen, now());
        let later: Timestamp = "2026-05-01T13:00:00Z".parse().unwrap();
        assert!(store.enqueue_scheduled(PIPELINE, seen, later).await.unwrap().is_some());
        assert_eq!(store.enqueue_scheduled(PIPELINE, seen, later).await.unwrap(), None);
        define(&*store, &[scheduled]).await;
        assert_eq!(store.definitions().await.unwrap()[0].scheduled_at, later);
    }

    async fn two_runs_of_a_pipeline_are_never_active_at_once(subject: Subject) {
        let store = subject.store();
        let first = granted(&*store).await;
        let second = store.enqueue(PIPELINE, false, now()).await.unwrap();
        assert_eq!(store.grant(second, 1, "other", LISTED, now()).await.unwrap(), None);
        assert_eq!(store.grant(first.token.run_id, 1, "other", LISTED, now()).await.unwrap(), None);
        assert!(store.release(&writer(&first), FAILED, "SOURCE_UNKNOWN", "", now()).await.unwrap());
        let second = store.grant(second, 1, "other", LISTED, now()).await.unwrap().unwrap();
        assert!(second.token.fence > first.token.fence);
    }

    async fn a_run_is_granted_only_in_the_version_that_was_accepted(subject: Subject) {
        let store = subject.store();
        define(&*store, &[definition(PIPELINE)]).await;
        let run_id = store.enqueue(PIPELINE, false, now()).await.unwrap();
        assert_eq!(store.grant(run_id, 2, AGENT, LISTED, now()).await.unwrap(), None);
        assert!(store.grant(run_id, 1, AGENT, LISTED, now()).await.unwrap().is_some());
    }

    async fn the_fence_grows_over_crashes_and_removals(subject: Subject) {
        let store = subject.store();
        let first = granted(&*store).await;
        store.release(&writer(&first), FAILED, "SOURCE_UNKNOWN", "", now()).await.unwrap();
        define(&*store, &[]).await;
        let subject = subject.crash().await;
        let store = subject.store();
        define(&*store, &[definition(PIPELINE)]).await;
        assert_eq!(granted(&*store).await.token.fence, 2);
    }

    async fn a_lease_outlives_the_process(subject: Subject) {
        let writer = opened(&*subject.store()).await;
        let subject = subject.crash().await;
        let store = subject.store();
        assert_eq!(store.open_runs().await.unwrap()[0].token(), Some(writer.token));
        assert_eq!(store.renew(AGENT, &[writer.token]).await.unwrap(), [writer.token.run_id]);
        store.apply(&writer, &batch(&tables(0..1))).await.unwrap();
    }

    async fn a_forged_token_writes_renews_and_ends_nothing(subject: Subject) {
        let store = subject.store();
        let held = opened(&*store).await;
        let token = |token: Token| Writer { agent: AGENT.to_owned(), token };
        let forged = [
            (token(Token { fence: 0, ..held.token }), Refusal::Fenced { current_fence: 1 }),
            (token(Token { fence: 2, ..held.token }), Refusal::Fenced { current_fence: 1 }),
            (token(Token { lease_id: LeaseId::random(), ..held.token }), Refusal::Fenced { current_fence: 1 }),
            (token(Token { run_id: RunId::new(), ..held.token }), Refusal::Fenced { current_fence: 0 }),
            (Writer { agent: "other".to_owned(), token: held.token }, Refusal::OtherAgent),
        ];
        let records = tables(0..1);
        for (writer, expected) in forged {
            assert_eq!(refusal(store.open(&writer).await), expected);
            assert_eq!(refusal(store.apply(&writer, &batch(&records)).await), expected);
            assert_eq!(refusal(store.commit(&writer, &eof(&[], &[]), now()).await), expected);
            assert_eq!(store.renew(&writer.agent, &[writer.token]).await.unwrap(), []);
            assert!(!store.release(&writer, FAILED, "SOURCE_UNKNOWN", "", now()).await.unwrap());
        }
        assert_eq!(run(&*store, held.token.run_id).await.state, RunState::Running);
        assert_eq!(store.open(&held).await.unwrap().next_seq, 0);
    }

    async fn the_writer_of_an_earlier_grant_is_fenced_for_good(subject: Subject) {
        let store = subject.store();
        let first = opened(&*store).await;
        store.apply(&first, &batch(&tables(0..2))).await.unwrap();
        let lease = run(&*store, first.token.run_id).await.lease.unwrap();
        assert!(store.expire(first.token.run_id, &lease, Ending::Lost, AGENT_LOST, now()).await.unwrap());
        assert_eq!(refusal(store.open(&first).await), Refusal::LeaseExpired { current_fence: 1 });
        let second = store.grant(first.token.run_id, 1, "other", LISTED, now()).await.unwrap().unwrap();
        assert_eq!(second.attempt, 1, "a lost agent does not count");
        let fenced = Refusal::Fenced { current_fence: 2 };
        assert_eq!(refusal(store.open(&first).await), fenced);
        assert_eq!(refusal(store.apply(&first, &batch(&tables(2..3))).await), fenced);
        assert_eq!(refusal(store.commit(&first, &eof(&tables(0..2), &[]), now()).await), fenced);
    }

    async fn a_cancelled_run_ends_with_its_lease_and_what_it_staged_and_commits_nothing(subject: Subject) {
        let store = subject.store();
        assert_eq!(store.cancel(RunId::new(), now()).await.unwrap(), None);
        let writer = opened(&*store).await;
        let run_id = writer.token.run_id;
        store.apply(&writer, &batch(&tables(0..2))).await.unwrap();
        assert_eq!(store.cancel(run_id, now()).await.unwrap(), Some(RunState::Running));
        let cancelled = Refusal::Cancelled { current_fence: 1 };
        assert_eq!(refusal(store.apply(&writer, &batch(&tables(2..3))).await), cancelled);
        assert_eq!(refusal(store.commit(&writer, &eof(&tables(0..2), &[]), now()).await), cancelled);
        assert_eq!(store.renew(AGENT, &[writer.token]).await.unwrap(), []);
        assert_eq!(store.entities(None, None, 10).await.unwrap(), []);
        let ended = run(&*store, run_id).await;
        assert_eq!((ended.state, ended.reason.as_deref()), (RunState::Cancelled, Some("CANCELLED")));
        assert!(ended.ended_at.is_some());
        // Again, and of one that nobody had: the first end stays, and the pipeline is free.
        assert_eq!(store.cancel(run_id, now()).await.unwrap(), Some(RunState::Cancelled));
        let queued = store.enqueue(PIPELINE, false, now()).await.unwrap();
        assert_eq!(store.cancel(queued, now()).await.unwrap(), Some(RunState::Queued));
        assert_eq!(store.open_runs().await.unwrap(), []);
        assert_eq!(granted(&*store).await.token.fence, 2);
    }

    async fn a_lease_that_was_renewed_does_not_expire(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let run_id = writer.token.run_id;
        let seen = run(&*store, run_id).await.lease.unwrap();
        assert_eq!(store.renew(AGENT, &[writer.token]).await.unwrap(), [run_id]);
        assert!(!store.expire(run_id, &seen, Ending::Lost, AGENT_LOST, now()).await.unwrap());
        let seen = run(&*store, run_id).await.lease.unwrap();
        assert!(store.expire(run_id, &seen, Ending::Lost, AGENT_LOST, now()).await.unwrap());
        assert_eq!(store.renew(AGENT, &[writer.token]).await.unwrap(), []);
    }

    async fn batches_continue_and_known_records_count_once(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let records = tables(0..6);
        let durable = |next_seq| Applied::Durable { next_seq };
        assert_eq!(store.apply(&writer, &batch(&records[..3])).await.unwrap(), durable(3));
        assert_eq!(store.apply(&writer, &batch(&records[..3])).await.unwrap(), durable(3));
        assert_eq!(store.apply(&writer, &batch(&records[1..2])).await.unwrap(), durable(3));
        assert_eq!(store.apply(&writer, &batch(&records[2..5])).await.unwrap(), durable(5));
        let opened = store.open(&writer).await.unwrap();
        assert_eq!(opened.next_seq, 5);
        assert_eq!(opened.digest, eof(&records[..5], &[]).digest);
        assert_eq!(opened.source_position, "after 4");
        store.apply(&writer, &batch(&records[5..])).await.unwrap();
        assert_eq!(store.commit(&writer, &eof(&records, &[]), now()).await.unwrap().entities, 6);
    }

    async fn a_known_record_with_other_content_is_refused(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        store.apply(&writer, &batch(&tables(0..3))).await.unwrap();
        let forged = [record(1, "t001", "second"), record(1, "t009", "first")];
        for forged in forged {
            let refused = refusal(store.apply(&writer, &batch(&[forged, record(2, "t002", "first")])).await);
            assert_eq!(refused, Refusal::RecordChanged { seq: 1 });
        }
        assert_eq!(store.open(&writer).await.unwrap().next_seq, 3);
    }

    async fn a_gap_is_refused(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let records = tables(0..5);
        let refused = refusal(store.apply(&writer, &batch(&records[1..])).await);
        assert_eq!(refused, Refusal::OutOfOrder { expected: 0, found: 1 });
        let torn = [records[0].clone(), records[2].clone()];
        let refused = refusal(store.apply(&writer, &batch(&torn)).await);
        assert_eq!(refused, Refusal::OutOfOrder { expected: 1, found: 2 });
        assert_eq!(store.open(&writer).await.unwrap().next_seq, 0);
    }

    async fn a_name_comes_once_in_a_run(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let twice = [record(0, "a", "x"), record(1, "a", "y")];
        assert_eq!(refusal(store.apply(&writer, &batch(&twice)).await), Refusal::DuplicateName { seq: 1 });
        store.apply(&writer, &batch(&twice[..1])).await.unwrap();
        assert_eq!(refusal(store.apply(&writer, &batch(&twice[1..])).await), Refusal::DuplicateName { seq: 1 });
    }

    async fn nothing_is_written_before_the_push_is_opened(subject: Subject) {
        let store = subject.store();
        let writer = writer(&granted(&*store).await);
        assert_eq!(refusal(store.apply(&writer, &batch(&tables(0..1))).await), Refusal::NotOpen);
        assert_eq!(refusal(store.commit(&writer, &eof(&[], &[]), now()).await), Refusal::NotOpen);
    }

    async fn what_is_staged_is_invisible_until_all_of_it_is_current(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..2), &eof(&tables(0..2), &[])).await;
        let writer = opened(&*store).await;
        let records = [record(0, "t000", "second"), record(1, "t002", "first")];
        store.apply(&writer, &batch(&records)).await.unwrap();
        assert_eq!(names(&*store).await, ["s.d.t000", "s.d.t001"]);
        let bodies = store.bodies(Some(PIPELINE), None, 10).await.unwrap();
        assert!(!String::from_utf8_lossy(&bodies[0].body).contains("second"));
        store.commit(&writer, &eof(&records, &[]), now()).await.unwrap();
        assert_eq!(names(&*store).await, ["s.d.t000", "s.d.t001", "s.d.t002"]);
        let bodies = store.bodies(Some(PIPELINE), None, 10).await.unwrap();
        assert!(String::from_utf8_lossy(&bodies[0].body).contains("second"));
        assert_eq!(bodies[0].row.run_id, writer.token.run_id);
        assert_ne!(bodies[1].row.run_id, writer.token.run_id);
    }

    async fn an_end_that_disagrees_commits_nothing(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let records = tables(0..3);
        store.apply(&writer, &batch(&records)).await.unwrap();
        let wrong_count = Eof { count: 4, ..eof(&records, &[]) };
        let wrong_digest = Eof { digest: [7; 32], ..eof(&records, &[]) };
        for wrong in [wrong_count, wrong_digest, eof(&records[..2], &[])] {
            let refused = refusal(store.commit(&writer, &wrong, now()).await);
            assert!(matches!(refused, Refusal::DigestMismatch { applied: 3, .. }), "{refused:?}");
        }
        assert_eq!(names(&*store).await, Vec::<String>::new());
        store.commit(&writer, &eof(&records, &[]), now()).await.unwrap();
    }

    async fn an_end_that_comes_again_gets_the_same_answer(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let records = tables(0..3);
        store.apply(&writer, &batch(&records)).await.unwrap();
        let first = store.commit(&writer, &eof(&records, &[]), now()).await.unwrap();
        let subject = subject.crash().await;
        let store = subject.store();
        // The stream broke before the answer: the agent opens it again, is told that all is there, and ends it again.
        let opened = store.open(&writer).await.unwrap();
        assert_eq!((opened.next_seq, opened.digest), (3, eof(&records, &[]).digest));
        assert_eq!(store.commit(&writer, &eof(&records, &[]), now()).await.unwrap(), first);
        assert!(matches!(
            refusal(store.commit(&writer, &eof(&records[..2], &[]), now()).await),
            Refusal::DigestMismatch { .. }
        ));
        assert_eq!(refusal(store.apply(&writer, &batch(&tables(3..4))).await), Refusal::NotOpen);
        // A newer run does not change that.
        commit(&*store, &records[..1], &eof(&records[..1], &[])).await;
        assert_eq!(store.commit(&writer, &eof(&records, &[]), now()).await.unwrap(), first);
        let run = run(&*store, writer.token.run_id).await;
        assert_eq!((run.state, run.complete, run.figures), (RunState::Committed, true, Some(first)));
    }

    async fn a_stream_of_the_same_grant_goes_on_where_it_was(subject: Subject) {
        let writer = opened(&*subject.store()).await;
        subject.store().apply(&writer, &batch(&tables(0..4))).await.unwrap();
        let subject = subject.crash().await;
        let opened = subject.store().open(&writer).await.unwrap();
        assert_eq!((opened.next_seq, opened.digest), (4, eof(&tables(0..4), &[]).digest));
    }

    async fn a_dropped_transaction_leaves_nothing_or_all(subject: Subject) {
        let mut subject = subject;
        let mut expected = 0;
        for polls in 0..40 {
            let store = subject.store();
            let writer = opened(&*store).await;
            let records = tables(0..4);
            let first = batch(&records[..2]);
            store.apply(&writer, &first).await.unwrap();
            let second = batch(&records[2..]);
            let done = poll_times(store.apply(&writer, &second), polls).await;
            subject = subject.crash().await;
            let store = subject.store();
            let opened = store.open(&writer).await.unwrap();
            assert!(matches!(opened.next_seq, 2 | 4), "{}", opened.next_seq);
            if done.is_some() {
                assert_eq!(opened.next_seq, 4);
                expected += 1;
            }
            let staged = usize::try_from(opened.next_seq).unwrap();
            assert_eq!(opened.digest, eof(&records[..staged], &[]).digest);
            assert_eq!(opened.source_position, format!("after {}", staged - 1));
            store.release(&writer, FAILED, "SOURCE_UNKNOWN", "", now()).await.unwrap();
        }
        assert!(expected < 40);
    }

    async fn unchanged_is_taken_only_for_what_is_committed(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..3), &eof(&tables(0..3), &[])).await;
        let writer = opened(&*store).await;
        let records = [
            unchanged(0, "t000", "first"),
            unchanged(1, "t001", "second"),
            record(2, "t002", "second"),
            unchanged(3, "t003", "first"),
        ];
        let applied = store.apply(&writer, &batch(&records)).await.unwrap();
        assert_eq!(applied, Applied::BodyNeeded { seqs: vec![1, 3] });
        assert_eq!(store.open(&writer).await.unwrap().next_seq, 0);
        let records = [
            unchanged(0, "t000", "first"),
            record(1, "t001", "third"),
            record(2, "t002", "second"),
            record(3, "t003", "first"),
        ];
        store.apply(&writer, &batch(&records)).await.unwrap();
        let figures = store.commit(&writer, &eof(&records, &[]), now()).await.unwrap();
        assert_eq!((figures.sent, figures.changed, figures.unchanged), (3, 3, 1));
        assert_eq!((figures.entities, figures.columns), (4, 8));
    }

    async fn a_full_run_takes_nothing_as_unchanged(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..1), &eof(&tables(0..1), &[])).await;
        let run_id = store.enqueue(PIPELINE, true, now()).await.unwrap();
        let writer = writer(&store.grant(run_id, 1, AGENT, LISTED, now()).await.unwrap().unwrap());
        store.open(&writer).await.unwrap();
        let applied = store.apply(&writer, &batch(&[unchanged(0, "t000", "first")])).await.unwrap();
        assert_eq!(applied, Applied::BodyNeeded { seqs: vec![0] });
    }

    async fn what_came_again_with_its_body_is_unchanged_all_the_same(subject: Subject) {
        let store = subject.store();
        let (first, _) = commit(&*store, &tables(0..3), &eof(&tables(0..3), &[])).await;
        let (_, figures) = commit(&*store, &tables(0..3), &eof(&tables(0..3), &[])).await;
        assert_eq!((figures.sent, figures.changed, figures.unchanged), (3, 0, 3));
        let entities = store.bodies(None, None, 10).await.unwrap();
        assert!(entities.iter().all(|entity| entity.row.run_id == first && !entity.body.is_empty()));
    }

    async fn foreign_keys_without_a_target_are_counted(subject: Subject) {
        let store = subject.store();
        let mut records = tables(0..2);
        let point = |record: &mut Record, targets: &[&str]| {
            let content = record.content.as_mut().unwrap();
            content.foreign_keys = targets.iter().map(|target| (*target).to_owned()).collect();
        };
        point(&mut records[0], &["s.d.t001", "s.d.gone", "s.d.gone"]);
        let (_, figures) = commit(&*store, &records, &eof(&records, &[])).await;
        assert_eq!(figures.dangling_foreign_keys, 2);
        let records = [unchanged(0, "t000", "first"), record(1, "gone", "here")];
        let (_, figures) = commit(&*store, &records, &eof(&records, &["t001"])).await;
        assert_eq!((figures.deleted, figures.dangling_foreign_keys), (1, 1));
    }

    async fn what_is_gone_is_deleted_with_the_commit(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..40), &eof(&tables(0..40), &[])).await;
        // 8 of 40: as much as the guard lets through. Unknown names and what the run has seen do not count.
        let gone = ["t000", "t001", "t002", "t003", "t004", "t005", "t006", "t007", "t008", "nobody"];
        let (_, figures) = commit(&*store, &tables(8..40), &eof(&tables(8..40), &gone)).await;
        assert_eq!((figures.deletions, figures.deleted, figures.entities), (Deletions::Applied, 8, 32));
        assert_eq!(names(&*store).await.len(), 32);
        assert_eq!(store.bodies(None, None, 100).await.unwrap().len(), 32);
    }

    async fn more_than_the_guard_allows_waits_for_an_operator(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..40), &eof(&tables(0..40), &[])).await;
        let gone: Vec<String> = (0..9).map(|name| format!("t{name:03}")).collect();
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        let (run_id, figures) = commit(&*store, &tables(9..40), &eof(&tables(9..40), &gone)).await;
        assert_eq!((figures.deletions, figures.deleted), (Deletions::NeedsConfirmation, 0));
        assert_eq!(names(&*store).await.len(), 40);
        let pending = store.pending_deletions().await.unwrap();
        assert_eq!((pending.len(), pending[0].run_id, pending[0].fqns.len()), (1, run_id, 9));
        assert_eq!(store.decide_deletions(run_id, true).await.unwrap(), Some(9));
        assert_eq!(names(&*store).await.len(), 31);
        let run = run(&*store, run_id).await;
        let figures = run.figures.unwrap();
        assert_eq!((figures.deletions, figures.deleted, figures.entities), (Deletions::Applied, 9, 31));
        assert_eq!(store.decide_deletions(run_id, true).await.unwrap(), None);
    }

    async fn what_is_no_table_raises_nothing_that_the_guard_allows(subject: Subject) {
        let store = subject.store();
        // 40 tables and 40 tags: the tags would let 8 more go.
        let with_tags = |names: std::ops::Range<usize>| {
            let tags = (0..40).map(|name| Record { kind: "tag".to_owned(), ..record(0, &format!("tag{name:03}"), "") });
            let all = tags.chain(tables(names));
            (0..).zip(all).map(|(seq, record)| Record { seq, ..record }).collect::<Vec<_>>()
        };
        let (all, rest) = (with_tags(0..40), with_tags(9..40));
        commit(&*store, &all, &eof(&all, &[])).await;
        let gone = ["t000", "t001", "t002", "t003", "t004", "t005", "t006", "t007", "t008"];
        let (_, figures) = commit(&*store, &rest, &eof(&rest, &gone)).await;
        assert_eq!((figures.deletions, figures.deleted, figures.entities), (Deletions::NeedsConfirmation, 0, 80));
        let (_, figures) = commit(&*store, &all, &eof(&all, &[])).await;
        assert_eq!((figures.deletions, figures.entities), (Deletions::None, 80));
        let rest = with_tags(8..40);
        let (_, figures) = commit(&*store, &rest, &eof(&rest, &gone)).await;
        assert_eq!((figures.deletions, figures.deleted, figures.entities), (Deletions::Applied, 8, 72));
    }

    async fn rejected_deletions_delete_nothing(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..10), &eof(&tables(0..10), &[])).await;
        let gone = ["t000", "t001", "t002", "t003", "t004", "t005"];
        let (run_id, _) = commit(&*store, &tables(6..10), &eof(&tables(6..10), &gone)).await;
        assert_eq!(store.decide_deletions(run_id, false).await.unwrap(), Some(0));
        assert_eq!(names(&*store).await.len(), 10);
        assert_eq!(run(&*store, run_id).await.figures.unwrap().deletions, Deletions::None);
        assert_eq!(store.pending_deletions().await.unwrap(), []);
    }

    async fn a_newer_commit_voids_what_waits(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..10), &eof(&tables(0..10), &[])).await;
        let gone = ["t000", "t001", "t002", "t003", "t004", "t005"];
        let (run_id, _) = commit(&*store, &tables(6..10), &eof(&tables(6..10), &gone)).await;
        commit(&*store, &tables(0..10), &eof(&tables(0..10), &[])).await;
        assert_eq!(store.decide_deletions(run_id, true).await.unwrap(), None);
        assert_eq!(names(&*store).await.len(), 10);
    }

    async fn what_the_run_in_progress_found_again_is_not_deleted(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..10), &eof(&tables(0..10), &[])).await;
        let gone = ["t000", "t001", "t002", "t003", "t004", "t005"];
        let (run_id, _) = commit(&*store, &tables(6..10), &eof(&tables(6..10), &gone)).await;
        let writer = opened(&*store).await;
        let again = [unchanged(0, "t000", "first")];
        store.apply(&writer, &batch(&again)).await.unwrap();
        assert_eq!(store.decide_deletions(run_id, true).await.unwrap(), Some(5));
        store.commit(&writer, &eof(&again, &[]), now()).await.unwrap();
        assert_eq!(names(&*store).await, ["s.d.t000", "s.d.t006", "s.d.t007", "s.d.t008", "s.d.t009"]);
    }

    async fn nothing_is_deleted_by_a_run_that_is_incomplete_or_may_not(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..3), &eof(&tables(0..3), &[])).await;
        let incomplete = Eof { complete: false, ..eof(&tables(1..3), &["t000"]) };
        let (run_id, figures) = commit(&*store, &tables(1..3), &incomplete).await;
        assert_eq!((figures.deletions, figures.deleted), (Deletions::None, 0));
        assert!(!run(&*store, run_id).await.complete);
        let failure =
            Failure { fqn: "s.d.t000".to_owned(), reason: "SOURCE_DENIED".to_owned(), detail: "why".to_owned() };
        let failed = Eof { failures: vec![failure.clone()], ..eof(&tables(1..3), &["t000"]) };
        let (run_id, figures) = commit(&*store, &tables(1..3), &failed).await;
        assert_eq!((figures.deletions, figures.deleted), (Deletions::None, 0));
        assert_eq!(store.failures(run_id).await.unwrap(), [failure]);
        define(&*store, &[NewDefinition { mark_deleted: false, ..definition(PIPELINE) }]).await;
        let (_, figures) = commit(&*store, &tables(1..3), &eof(&tables(1..3), &["t000"])).await;
        assert_eq!((figures.deletions, figures.deleted), (Deletions::None, 0));
        assert_eq!(names(&*store).await.len(), 3);
    }

    async fn pipelines_do_not_touch_each_others_entities(subject: Subject) {
        let store = subject.store();
        define(&*store, &[definition(PIPELINE), definition("other")]).await;
        commit(&*store, &tables(0..2), &eof(&tables(0..2), &[])).await;
        let run_id = store.enqueue("other", false, now()).await.unwrap();
        let writer = writer(&store.grant(run_id, 1, AGENT, LISTED, now()).await.unwrap().unwrap());
        assert!(!store.open(&writer).await.unwrap().has_baseline);
        let records = tables(0..1);
        store.apply(&writer, &batch(&records)).await.unwrap();
        store.commit(&writer, &eof(&records, &["t001"]), now()).await.unwrap();
        assert_eq!(names(&*store).await, ["s.d.t000", "s.d.t000", "s.d.t001"]);
        let page = store.entities(None, Some(("s.d.t000", "crm")), 10).await.unwrap();
        assert_eq!((page.len(), page[0].pipeline.as_str()), (2, "other"));
    }

    async fn the_baseline_comes_in_pages_in_fqn_order(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..5), &eof(&tables(0..5), &[])).await;
        let first = store.baseline(PIPELINE, None, 3).await.unwrap();
        let rest = store.baseline(PIPELINE, Some(&first[2].fqn), 3).await.unwrap();
        let all: Vec<&str> = first.iter().chain(&rest).map(|entry| entry.fqn.as_str()).collect();
        assert_eq!(all, ["s.d.t000", "s.d.t001", "s.d.t002", "s.d.t003", "s.d.t004"]);
        assert_eq!(first[0].content_hash, tables(0..1)[0].content_hash);
    }

    async fn events_are_kept_up_to_their_bound_and_only_under_the_lease(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let event = |code: String| Event { at: now(), severity: "info".to_owned(), code, text: "text".to_owned() };
        for number in 0..MAX_EVENTS + 3 {
            store.add_event(&writer, event(format!("event_{number}"))).await.unwrap();
        }
        let stranger = Writer { agent: "other".to_owned(), token: writer.token };
        store.add_event(&stranger, event("forged".to_owned())).await.unwrap();
        let events = store.events(writer.token.run_id).await.unwrap();
        assert_eq!(u64::try_from(events.len()).unwrap(), MAX_EVENTS);
        assert_eq!((events[0].code.as_str(), events[0].at), ("event_0", now()));
    }

    async fn a_line_is_kept_once_under_its_number_and_only_from_the_last_grant(subject: Subject) {
        let store = subject.store();
        let first = opened(&*store).await;
        let run_id = first.token.run_id;
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let shown = async |after, limit| {
            let log = store.log(run_id, after, limit).await.unwrap();
            log.into_iter().map(|line| (line.id, line.text)).collect::<Vec<_>>()
        };
        store.add_log(&first, 0, lines(&["a", "b"])).await.unwrap();
        store.add_log(&first, 1, lines(&["other", "c"])).await.unwrap();
        let forged = Token { lease_id: LeaseId([0; 16]), ..first.token };
        for stranger in [
            Writer { agent: "other".to_owned(), token: first.token },
            Writer { agent: AGENT.to_owned(), token: forged },
            Writer { agent: AGENT.to_owned(), token: Token { fence: first.token.fence + 1, ..first.token } },
            Writer { agent: AGENT.to_owned(), token: Token { run_id: RunId::new(), ..first.token } },
        ] {
            store.add_log(&stranger, 3, lines(&["forged"])).await.unwrap();
        }
        let id = |fence, number| LineId { fence, number };
        let fence = first.token.fence;
        let of_first = [(id(fence, 0), "a".into()), (id(fence, 1), "b".into()), (id(fence, 2), "c".into())];
        assert_eq!(shown(None, 10).await, of_first);
        // Of a run that was given back its last agent may still send the end.
        assert!(store.release(&first, HANDED_BACK, "DRAINING", "", now()).await.unwrap());
        store.add_log(&first, 3, lines(&["d"])).await.unwrap();
        assert_eq!(shown(Some(id(fence, 2)), 10).await, [(id(fence, 3), "d".into())]);
        let second = writer(&store.grant(run_id, 1, AGENT, LISTED, now()).await.unwrap().unwrap());
        store.add_log(&first, 4, lines(&["late"])).await.unwrap();
        store.add_log(&second, 0, lines(&["e"])).await.unwrap();
        assert_eq!(shown(Some(id(fence, 2)), 1).await.len(), 1);
        assert_eq!(shown(Some(id(fence, 3)), 10).await, [(id(second.token.fence, 0), "e".into())]);
    }

    async fn what_an_agent_says_of_its_run_is_kept_for_whoever_looks(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        let run_id = writer.token.run_id;
        let said = |done| Progress { stage: "extract", objects_total: 100, objects_done: done, ..Progress::default() };
        let later = |seconds| now() + SignedDuration::from_secs(seconds);
        assert_eq!(store.progress(run_id).await.unwrap(), None);
        store.put_progress(AGENT, &[(writer.token, said(10))], later(0)).await.unwrap();
        store.put_progress("other", &[(writer.token, said(99))], later(1)).await.unwrap();
        store.put_progress(AGENT, &[(writer.token, said(30))], later(10)).await.unwrap();
        let progress = store.progress(run_id).await.unwrap().unwrap();
        assert_eq!((progress.at, progress.objects_done), (later(10), 30));
        assert_eq!(progress.time_left(), Some(Duration::from_secs(35)));
        assert_eq!(subject.crash().await.store().progress(run_id).await.unwrap(), Some(progress));
    }

    async fn an_entity_keeps_the_memo_of_the_last_committed_run_that_had_it(subject: Subject) {
        let store = subject.store();
        let memo = |record: Record, memo: &'static str| Record { memo: Bytes::from_static(memo.as_bytes()), ..record };
        let first = ["a1", "b1", "c1", "d1"].into_iter().zip(tables(0..4)).map(|(text, record)| memo(record, text));
        let first: Vec<Record> = first.collect();
        let (run_id, figures) = commit(&*store, &first, &eof(&first, &[])).await;
        let before = store.bodies(None, None, 10).await.unwrap();
        // Unchanged without its body, unchanged with it, changed, and not in the run at all.
        let second = [
            memo(unchanged(0, "t000", "first"), "a2"),
            memo(record(1, "t001", "first"), "b2"),
            memo(record(2, "t002", "second"), "c2"),
        ];
        let writer = opened(&*store).await;
        store.apply(&writer, &batch(&second)).await.unwrap();
        let memos = async || {
            let baseline = store.baseline(PIPELINE, None, 10).await.unwrap();
            baseline.into_iter().map(|entry| String::from_utf8(entry.memo.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(memos().await, ["a1", "b1", "c1", "d1"], "what is staged is invisible");
        let again = store.commit(&writer, &eof(&second, &[]), now()).await.unwrap();
        assert_eq!(memos().await, ["a2", "b2", "c2", "d1"]);
        assert_eq!((figures.changed, again.changed, again.unchanged), (4, 1, 2), "a memo is no change");
        let after = store.bodies(None, None, 10).await.unwrap();
        assert_eq!((&after[..2], &after[3]), (&before[..2], &before[3]));
        assert_eq!(after[0].row.run_id, run_id, "the run that brought the content");
        // An agent without memos leaves none.
        let (_, _) = commit(&*store, &[unchanged(0, "t000", "first")], &eof(&[unchanged(0, "t000", "first")], &[])).await;
        assert_eq!(memos().await, ["", "b2", "c2", "d1"]);
    }

    async fn what_the_agent_of_a_grant_listed_is_known_to_its_pushes(subject: Subject) {
        let store = subject.store();
        let first = granted(&*store).await;
        assert_eq!(store.open(&writer(&first)).await.unwrap().listed, LISTED);
        let subject = subject.crash().await;
        let store = subject.store();
        assert_eq!(store.open(&writer(&first)).await.unwrap().listed, LISTED);
        assert!(store.release(&writer(&first), HANDED_BACK, "DRAINING", "", now()).await.unwrap());
        let second = store.grant(first.token.run_id, 1, AGENT, Listed::default(), now()).await.unwrap().unwrap();
        assert_eq!(store.open(&writer(&second)).await.unwrap().listed, Listed::default());
    }

    async fn runs_are_listed_newest_first(subject: Subject) {
        let store = subject.store();
        define(&*store, &[definition("a"), definition("b")]).await;
        let a = store.enqueue("a", false, now()).await.unwrap();
        let b = store.enqueue("b", false, now()).await.unwrap();
        let ids = |runs: Vec<Run>| runs.into_iter().map(|run| run.run_id).collect::<Vec<_>>();
        assert_eq!(ids(store.runs(None, 10).await.unwrap()), [b, a]);
        assert_eq!(ids(store.runs(None, 1).await.unwrap()), [b]);
        assert_eq!(ids(store.runs(Some("a"), 10).await.unwrap()), [a]);
        assert_eq!(ids(store.open_runs().await.unwrap()), [a, b]);
        assert_eq!(store.run(RunId::new()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_process_that_dies_before_its_commit_leaves_nothing() {
    let store = MemoryStore::new();
    let writer = opened(&store).await;
    store.crash_in_next_transaction();
    assert!(matches!(store.apply(&writer, &batch(&tables(0..1))).await, Err(WriteError::Store(_))));
    assert!(store.runs(None, 1).await.is_err(), "the process is dead");
    assert_eq!(store.crash().open(&writer).await.unwrap().next_seq, 0);
}

#[tokio::test]
async fn a_store_of_the_first_schema_keeps_what_is_committed_and_has_no_memos() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let old = include_str!("../migrations/0001_initial.sql");
    let body = record(0, "t000", "first").content.unwrap().body;
    let hash = digest::of_body(&body);
    sqlx::raw_sql(old).execute(&pool).await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY); INSERT INTO schema_version VALUES (1)",
    )
    .execute(&pool)
    .await
    .unwrap();
    let run_id = RunId::new();
    for insert in [
        "INSERT INTO record VALUES (7, ?1, 0, 'table', 's.d.t000', ?2, 2, '[]', 1, ?3)",
        "INSERT INTO entity VALUES ('crm', 's.d.t000', 'table', ?2, 2, '[]', ?1, 7)",
    ] {
        let insert = sqlx::query(insert).bind(run_id.to_string()).bind(hash.as_slice()).bind(body.as_ref());
        insert.execute(&pool).await.unwrap();
    }
    pool.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    let bodies = store.bodies(None, None, 10).await.unwrap();
    assert_eq!((bodies.len(), bodies[0].row.run_id, &bodies[0].body), (1, run_id, &body));
    assert!(store.baseline(PIPELINE, None, 10).await.unwrap()[0].memo.is_empty());
    let known = Record { memo: Bytes::from_static(b"new"), ..unchanged(0, "t000", "first") };
    let end = eof(std::slice::from_ref(&known), &[]);
    assert_eq!(commit(&store, &[known], &end).await.1.unchanged, 1);
    assert_eq!(store.baseline(PIPELINE, None, 10).await.unwrap()[0].memo.as_ref(), b"new");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    SqliteStore::open(&path).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("INSERT INTO schema_version VALUES (99)").execute(&pool).await.unwrap();
    pool.close().await;
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(refused.to_string().contains("schema 99"), "{refused}");
}
