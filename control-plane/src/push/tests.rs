use std::io::Write;
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;

use jiff::Timestamp;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::clock::ManualClock;
use crate::config::{LeaseConfig, RetryConfig};
use crate::metrics;
use crate::store::{NewDefinition, RunState, SqliteStore, Store as _, Summary};

const AGENT: &str = "agent";
/// The end of a run without a record.
fn nothing() -> Eof {
    let summary = Summary::default();
    Eof { count: 0, digest: [0; 32], complete: true, failures: Vec::new(), gone: Vec::new(), summary }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn commits(&self) -> usize {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().matches("run committed").count()
    }
}

/// A push of a run that is granted, opened and known to be open.
async fn opened(folder: &tempfile::TempDir) -> (Push, Arc<SqliteStore>, Writer) {
    let store = Arc::new(SqliteStore::open(&folder.path().join("store.db")).await.unwrap());
    let definition = NewDefinition {
        pipeline: "crm".to_owned(),
        file: "crm.yaml".to_owned(),
        workflow_json: "{}".to_owned(),
        source: "salesforce".to_owned(),
        mark_deleted: true,
        schedule: None,
        enabled: true,
    };
    let now = Timestamp::UNIX_EPOCH;
    store.put_definitions(vec![definition], Vec::new(), now).await.unwrap();
    let run_id = store.enqueue("crm", false, now).await.unwrap();
    let listed = Listed { memos: true, resume: true };
    let granted = store.grant(run_id, 1, AGENT, listed, now).await.unwrap().unwrap();
    let writer = Writer { agent: AGENT.to_owned(), token: granted.token };
    store.open(&writer).await.unwrap();
    let clock = Arc::new(ManualClock::new(now));
    let shared = Arc::new(Shared::new(Arc::clone(&store) as _, clock, LeaseConfig::default(), RetryConfig::default()));
    look(&shared).await;
    let mut responses = None;
    drop(crate::stream::Driven::new(|out| {
        responses = Some(out);
        std::future::ready(Ok(()))
    }));
    (Push { shared, agent: AGENT.to_owned(), responses: responses.unwrap() }, store, writer)
}

/// What the dispatch does twice a second.
async fn look(shared: &Shared) {
    metrics::look(shared, &shared.store.open_runs().await.unwrap()).await.unwrap();
}

/// Polls a future so often, and drops it; whether it ended well before.
async fn polled<T>(future: impl Future<Output = Result<T, End>>, times: usize) -> bool {
    let mut future = pin!(future);
    let mut polls = 0;
    std::future::poll_fn(move |cx| {
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.is_ok()),
            Poll::Pending if polls >= times => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What the store has come to, when all that it was asked for is done.
async fn settled(push: Push, store: &SqliteStore, folder: &tempfile::TempDir) -> Shared {
    store.close().await;
    let mut shared = Arc::into_inner(push.shared).unwrap();
    shared.store = Arc::new(SqliteStore::open(&folder.path().join("store.db")).await.unwrap());
    shared
}

#[tokio::test]
async fn a_commit_whose_agent_hangs_up_in_it_is_logged_exactly_when_it_took_place() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let (mut cut_off, mut polls) = (Vec::new(), 1_usize);
    // Dropped in front of the transaction's end, and in it: the way there takes a poll more or less each time, so
    // whoever came too late tries again a little earlier.
    while !(cut_off.contains(&false) && cut_off.contains(&true)) {
        assert!(cut_off.len() < 500, "never dropped in the transaction's end: {cut_off:?}");
        let folder = tempfile::tempdir().unwrap();
        let (push, store, writer) = opened(&folder).await;
        let before = log.commits();
        let ended = polled(push.commit(&writer, &nothing()), polls).await;
        let shared = settled(push, &store, &folder).await;
        look(&shared).await;
        look(&shared).await;
        let run = shared.store.run(writer.token.run_id).await.unwrap().unwrap();
        let is_committed = run.state == RunState::Committed;
        assert_eq!(log.commits() - before, usize::from(is_committed), "dropped after {polls} polls");
        if ended {
            assert!(is_committed);
            polls = polls.saturating_sub(2).max(1);
        } else {
            cut_off.push(is_committed);
            polls += 1;
        }
    }
}
