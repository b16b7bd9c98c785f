//! What a run staged and dropped.

use super::*;
use control_plane::store::BaselineEntry;

/// More than two steps of a sweep.
const STAGED: usize = 2_500;

/// A run that waits, with [`STAGED`] records staged.
async fn waiting_with_records(store: &dyn Store) -> RunId {
    let writer = opened(store).await;
    for records in tables(0..STAGED).chunks(1_000) {
        store.apply(&writer, &batch(records)).await.unwrap();
    }
    let run_id = writer.token.run_id;
    let lease = run(store, run_id).await.lease.unwrap();
    assert!(store.expire(run_id, &lease, Ending::Lost, AGENT_LOST, now()).await.unwrap());
    run_id
}

/// Grants the run to an agent that cannot resume: it begins anew.
async fn begun_anew(store: &dyn Store, run_id: RunId) -> Writer {
    let granted = store.grant(run_id, 1, AGENT, Listed { memos: true, resume: false }, now()).await.unwrap().unwrap();
    assert_eq!(granted.checkpoint, None);
    writer(&granted)
}

async fn baseline(store: &dyn Store) -> Vec<BaselineEntry> {
    store.baseline(PIPELINE, None, 1_000).await.unwrap()
}

contract! {
    async fn what_was_dropped_is_never_seen_again_wherever_its_deletion_stopped(subject: Subject) {
        let store = subject.store();
        let run_id = waiting_with_records(&*store).await;
        let writer = begun_anew(&*store, run_id).await;
        assert_eq!(store.open(&writer).await.unwrap().next_seq, 0);
        // The same names under the same numbers with another content, before, amid and after the deletion.
        let again: Vec<Record> = (0..3).map(|seq| record(seq, &format!("t{seq:03}"), "second")).collect();
        store.apply(&writer, &batch(&again[..1])).await.unwrap();
        store.sweep().await.unwrap();
        let subject = subject.crash().await;
        let store = subject.store();
        store.apply(&writer, &batch(&again[1..2])).await.unwrap();
        while store.sweep().await.unwrap() {}
        store.apply(&writer, &batch(&again[2..])).await.unwrap();
        let figures = store.commit(&writer, &eof(&again, &[]), now()).await.unwrap();
        assert_eq!((figures.entities, figures.changed), (3, 3));
        assert!(!store.sweep().await.unwrap());
        let hashes: Vec<_> = baseline(&*store).await.into_iter().map(|entry| entry.content_hash).collect();
        assert_eq!(hashes, again.iter().map(|record| record.content_hash).collect::<Vec<_>>());
    }

    async fn a_sweep_keeps_what_is_committed_and_what_is_staged(subject: Subject) {
        let store = subject.store();
        let kept = tables(5_000..5_003);
        commit(&*store, &kept, &eof(&kept, &[])).await;
        let dropped = waiting_with_records(&*store).await;
        store.cancel(dropped, now()).await.unwrap();
        let staged = tables(0..2);
        let writer = opened(&*store).await;
        store.apply(&writer, &batch(&staged)).await.unwrap();
        while store.sweep().await.unwrap() {}
        assert_eq!(names(&*store).await, ["s.d.t5000", "s.d.t5001", "s.d.t5002"]);
        assert_eq!(store.bodies(None, None, 10).await.unwrap().len(), 3);
        assert_eq!(store.commit(&writer, &eof(&staged, &[]), now()).await.unwrap().entities, 5);
    }
}

/// The records in the file, whoever they belong to.
async fn rows(pool: &sqlx::SqlitePool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM record").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_drop_deletes_nothing_and_a_sweep_a_bounded_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).read_only(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let run_id = waiting_with_records(&store).await;
    store.cancel(run_id, now()).await.unwrap();
    let mut left = vec![rows(&pool).await];
    while store.sweep().await.unwrap() {
        left.push(rows(&pool).await);
    }
    left.push(rows(&pool).await);
    assert_eq!(left, [2_500, 1_500, 500, 0]);
}

#[tokio::test]
async fn a_run_that_had_staged_before_the_file_was_of_this_schema_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let run_id = waiting_with_records(&store).await;
    store.close().await;
    // The file as version 6 of the schema had it.
    let pool = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&path)).await.unwrap();
    for back in [
        "UPDATE record SET staging = (SELECT run_id FROM run WHERE run.staging = record.staging)",
        "ALTER TABLE record RENAME COLUMN staging TO run_id",
        "ALTER TABLE run DROP COLUMN staging",
        "DROP TABLE dropped",
        "UPDATE record SET body = CAST('{}' AS BLOB) WHERE has_body",
        "DELETE FROM schema_version WHERE version > 6",
    ] {
        sqlx::raw_sql(back).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    let granted = store.grant(run_id, 1, AGENT, LISTED, now()).await.unwrap().unwrap();
    assert_eq!(granted.checkpoint.as_ref().unwrap().next_seq, u64::try_from(STAGED).unwrap());
    let writer = writer(&granted);
    store.open(&writer).await.unwrap();
    let figures = store.commit(&writer, &eof(&tables(0..STAGED), &[]), now()).await.unwrap();
    assert_eq!(figures.entities, u64::try_from(STAGED).unwrap());
    let bodies = store.bodies(None, None, 1_000).await.unwrap();
    assert_eq!(bodies.len(), 1_000);
    assert!(bodies.iter().all(|entity| entity.body == "{}"));
}
