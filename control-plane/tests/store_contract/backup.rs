//! A SQLite file that was copied and put back, and one of an older version.

use std::path::Path;

use super::*;

async fn copy(store: &SqliteStore, to: &Path) {
    // As an operator does it while the control plane runs: `VACUUM INTO` is one transaction.
    let from = sqlx::sqlite::SqliteConnectOptions::new().filename(store.place()).read_only(true);
    let pool = sqlx::SqlitePool::connect_with(from).await.unwrap();
    sqlx::query("VACUUM INTO ?").bind(to.to_str().unwrap()).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn a_control_plane_restored_from_an_older_backup_names_an_older_checkpoint_and_fences_what_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("store.db"), folder.path().join("backup.db"));
    let store = SqliteStore::open(&path).await.unwrap();
    let records = tables(0..9);
    let first = opened(&store).await;
    let run_id = first.token.run_id;
    store.apply(&first, &batch(&records[..4])).await.unwrap();
    copy(&store, &backup).await;
    // What follows the backup: more records, and a grant that it knows nothing of.
    store.apply(&first, &batch(&records[4..6])).await.unwrap();
    store.release(&first, HANDED_BACK, "DRAINING", "", now()).await.unwrap();
    let second = store.grant(run_id, 1, "other", LISTED, now()).await.unwrap().unwrap();
    assert_eq!(second.checkpoint.as_ref().unwrap().next_seq, 6);
    let second = Writer { agent: "other".to_owned(), token: second.token };
    store.open(&second).await.unwrap();
    store.apply(&second, &batch(&records[6..8])).await.unwrap();
    store.close().await;

    let store = SqliteStore::open(&backup).await.unwrap();
    assert_eq!(refusal(store.open(&second).await), Refusal::Fenced { current_fence: 1 });
    // The lease of the backup's time ends as any that nobody renews, and the run goes on from the older place.
    let lease = run(&store, run_id).await.lease.unwrap();
    assert!(store.expire(run_id, &lease, Ending::Lost, AGENT_LOST, now()).await.unwrap());
    let third = store.grant(run_id, 1, AGENT, LISTED, now()).await.unwrap().unwrap();
    let checkpoint = third.checkpoint.as_ref().unwrap();
    assert_eq!((checkpoint.next_seq, checkpoint.digest), (4, eof(&records[..4], &[]).digest));
    assert_eq!(checkpoint.source_position, "after 3");
    // Its fence is the one that the agent from before the restore has; the lease id tells them apart.
    assert_eq!(third.token.fence, second.token.fence);
    let third = writer(&third);
    store.open(&third).await.unwrap();
    assert_eq!(refusal(store.apply(&second, &batch(&records[4..5])).await), Refusal::Fenced { current_fence: 2 });
    store.apply(&third, &batch(&records[4..])).await.unwrap();
    assert_eq!(store.commit(&third, &eof(&records, &[]), now()).await.unwrap().entities, 9);
}

#[tokio::test]
async fn the_runs_of_an_older_version_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    for migration in [
        include_str!("../../migrations/0001_initial.sql"),
        include_str!("../../migrations/0002_memos.sql"),
        include_str!("../../migrations/0003_connection_test.sql"),
        include_str!("../../migrations/0004_unreadable_secrets.sql"),
        "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY); INSERT INTO schema_version VALUES (4)",
        "INSERT INTO pipeline (name, file, workflow_json, source, mark_deleted, enabled, fence, scheduled_at)
         VALUES ('crm', 'crm.yaml', '{}', 'salesforce', 1, 1, 7, 0)",
    ] {
        sqlx::raw_sql(migration).execute(&pool).await.unwrap();
    }
    // One was lost twice and granted again, one waits; the counts are of grants.
    let (active, queued) = (RunId::new(), RunId::new());
    let token = Token { run_id: active, fence: 7, lease_id: LeaseId([9; 16]) };
    for (run_id, state, attempt) in [(active, "running", 3), (queued, "queued", 2)] {
        sqlx::query(
            "INSERT INTO run (run_id, pipeline, state, attempt, full_read, definition_version, queued_at, agent, fence,
                 lease_id, staged_fence, digest, source_position)
             VALUES (?, 'crm', ?, ?, 0, 1, 0, 'agent', 7, ?, 7, ?, x'')",
        )
        .bind(run_id.to_string())
        .bind(state)
        .bind(attempt)
        .bind(token.lease_id.0.as_slice())
        .bind(digest::EMPTY.as_slice())
        .execute(&pool)
        .await
        .unwrap();
    }
    pool.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!((run(&store, active).await.attempt, run(&store, queued).await.attempt), (1, 0));
    assert_eq!(store.grant(queued, 1, AGENT, LISTED, now()).await.unwrap(), None);
    let writer = Writer { agent: AGENT.to_owned(), token };
    store.apply(&writer, &batch(&tables(0..2))).await.unwrap();
    store.commit(&writer, &eof(&tables(0..2), &[]), now()).await.unwrap();
    assert_eq!(store.grant(queued, 1, AGENT, LISTED, now()).await.unwrap().unwrap().attempt, 1);
}
