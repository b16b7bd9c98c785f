//! The second run: what has not changed is neither read nor sent again, and what has is never missed.

use std::collections::BTreeMap;

use hybrid_runner_connector::{Baseline, Committed, Content, Entity};
use sandbox::Org;

use crate::case::{Case, Sink};

/// What a control plane would have after these were committed on top of the baseline.
fn commit(before: &Baseline, entities: &[Entity]) -> Baseline {
    let committed = entities.iter().map(|entity| {
        if let Content::Unchanged(hash) = entity.content {
            assert_eq!(before.0.get(&entity.fqn).map(|committed| committed.content_hash), Some(hash));
        }
        let committed =
            Committed { kind: entity.kind.to_owned(), content_hash: entity.content_hash(), memo: entity.memo.clone() };
        (entity.fqn.clone(), committed)
    });
    Baseline(committed.collect())
}

/// Names of the tables that came with a body.
fn read(sink: &Sink) -> Vec<&str> {
    let tables = sink.entities.iter().filter(|entity| entity.kind == "table" && entity.body().is_some());
    tables.filter_map(|entity| entity.fqn.strip_prefix("sf.default.salesforce.")).collect()
}

/// Hashes of all entities, by FQN.
fn hashes(sink: &Sink) -> BTreeMap<&str, [u8; 32]> {
    sink.entities.iter().map(|entity| (entity.fqn.as_str(), entity.content_hash())).collect()
}

impl Case {
    /// Runs and commits.
    async fn next(&mut self) -> Sink {
        let (report, sink) = self.report().await;
        self.assert_complete(&report, &sink);
        self.baseline = commit(&self.baseline, &sink.entities);
        sink
    }

    /// What a run that knows nothing would emit now.
    async fn afresh(&mut self) -> Sink {
        let known = std::mem::take(&mut self.baseline);
        let (report, sink) = self.report().await;
        self.assert_complete(&report, &sink);
        self.baseline = known;
        sink
    }

    /// What the next run reads after a change of the org, checked against what a run that knows nothing would emit.
    async fn after(&mut self, change: impl FnOnce(&mut Org)) -> Vec<String> {
        self.org.change_org(change);
        let sink = self.next().await;
        let afresh = self.afresh().await;
        assert_eq!(hashes(&sink), hashes(&afresh));
        read(&sink).into_iter().map(str::to_owned).collect()
    }

    /// The name of a generated object that can be changed.
    fn name(&self, nth: usize) -> String {
        self.org.org().objects().nth(nth).unwrap().entry.name.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_org_is_read_with_as_many_calls_and_no_body() {
    let mut case = Case::of(130).await;
    case.next().await;
    let first = case.org.requests();
    let sink = case.next().await;
    let second = case.org.requests();
    assert_eq!(read(&sink), [""; 0]);
    assert_eq!(second.total, 2 * first.total);
    assert_eq!(second.not_modified, 130);
    // A third run goes by what the second left.
    assert_eq!(read(&case.next().await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_object_and_nothing_else_is_read() {
    let mut case = Case::of(60).await;
    case.next().await;
    let changed = case.name(17);
    let read = case.after(|org| org.add_field(&changed, "Added__c").unwrap()).await;
    assert_eq!(read, [changed]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stamp_that_moved_without_a_change_is_read_and_the_body_is_the_same() {
    let mut case = Case::of(60).await;
    let first = case.next().await;
    let read = case.after(Org::touch_all).await;
    assert_eq!(read.len(), 60);
    let again = case.next().await;
    assert_eq!(hashes(&again), hashes(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_set_of_names_in_scope_drops_every_condition() {
    let mut case = Case::of(60).await;
    case.next().await;
    // Foreign keys may have pointed to it.
    let removed = case.name(3);
    let read = case.after(|org| org.remove(&removed).unwrap()).await;
    assert_eq!(read.len(), 59);
    case.options = format!("tableFilterPattern:\n  excludes: ['{}$']", case.name(5));
    let before = case.org.requests().not_modified;
    let (report, sink) = case.report().await;
    assert!(report.complete);
    assert_eq!(crate::incremental::read(&sink).len(), 58);
    assert_eq!(case.org.requests().not_modified, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_user_or_option_drops_every_condition() {
    let mut case = Case::of(40).await;
    case.next().await;
    let connection = case.connection.clone();
    for line in ["salesforceApiVersion: '60.0'", "databaseName: other", "connectionOptions: {recordCounts: 'true'}"] {
        case.connection = format!("{connection}\n{line}");
        let before = case.org.requests().not_modified;
        let (report, _) = case.report().await;
        assert!(report.complete);
        assert_eq!(case.org.requests().not_modified, before, "{line}");
    }
    let key = case.org.credentials().consumer_key;
    case.connection = format!("consumerKey: {key}\nconsumerSecret: secret:/sf/secret");
    let before = case.org.requests().not_modified;
    case.report().await;
    assert_eq!(case.org.requests().not_modified, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_run_and_one_after_the_days_of_a_refresh_read_everything() {
    let mut case = Case::of(40).await;
    case.next().await;
    case.full = true;
    assert_eq!(read(&case.next().await).len(), 40);
    case.full = false;
    assert_eq!(read(&case.next().await), [""; 0]);
    // As if it had been read seven days ago: the day stands behind two digests of 16 bytes (source/memo.rs).
    for committed in case.baseline.0.values_mut().filter(|committed| !committed.memo.is_empty()) {
        let mut memo = committed.memo.to_vec();
        let day = u32::from_be_bytes(memo[34..38].try_into().unwrap()) - 7;
        memo[34..38].copy_from_slice(&day.to_be_bytes());
        committed.memo = memo.into();
    }
    assert_eq!(read(&case.next().await).len(), 40);
    case.connection.push_str("\nconnectionOptions: {fullRefreshDays: '30'}");
    assert_eq!(read(&case.next().await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memo_that_is_none_costs_a_read_and_nothing_else() {
    let mut case = Case::of(40).await;
    let first = case.next().await;
    for (index, committed) in case.baseline.0.values_mut().enumerate() {
        let whole = committed.memo.to_vec();
        committed.memo = match index % 4 {
            0 => Vec::new(),
            1 => vec![0xff; 512],
            2 => whole.get(..whole.len() / 2).unwrap_or_default().to_vec(),
            _ => whole,
        }
        .into();
    }
    let second = case.next().await;
    assert!((25..=35).contains(&read(&second).len()), "{}", read(&second).len());
    assert_eq!(hashes(&second), hashes(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_fails_keeps_nothing_and_is_read_in_the_next_run() {
    let mut case = Case::of(40).await;
    case.next().await;
    let failing = case.name(11);
    case.org.change_org(|org| org.add_field(&failing, "Added__c").unwrap());
    case.org.faults().change(|plan| plan.html_describes.insert(failing.clone()));
    let (report, sink) = case.report().await;
    assert!(!report.complete);
    assert_eq!((read(&sink), report.failures.len()), (Vec::<&str>::new(), 1));
    // It was not committed, so that what the first run left of it still stands.
    let earlier = case.baseline.0.get(&report.failures[0].fqn).cloned().unwrap();
    case.baseline = commit(&case.baseline, &sink.entities);
    case.baseline.0.insert(report.failures[0].fqn.clone(), earlier);
    case.org.faults().clear();
    assert_eq!(read(&case.next().await), [failing.as_str()]);
}
