//! Staged becomes current, and what is gone goes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, SqliteConnection};

use super::failed;
use super::push::{Staged, staged};
use super::rows::{column, flag, hash, list, number, run};
use crate::store::rules::{self, CommitContext, Shape, Standing};
use crate::store::{Eof, Failure, Figures, RunId, StoreError, WriteError, Writer};

const COMMIT: &str = "commit a run";
const DECIDE: &str = "decide deletions";

/// Names in one statement.
const ROWS: usize = 1_000;

pub(super) async fn commit(
    db: &mut SqliteConnection,
    writer: &Writer,
    eof: &Eof,
    now: Timestamp,
) -> Result<Figures, WriteError> {
    let staged = staged(db, writer).await?;
    if staged.standing == Standing::Committed {
        return Ok(rules::committed_again(staged.next_seq, staged.digest, staged.run.figures, eof)?);
    }
    let staged = staged.open(writer)?;
    let (run_id, pipeline) = (staged.run.run_id.to_string(), staged.run.pipeline.as_str());
    let plan = rules::plan_commit(&context(db, &staged).await?, eof)?;
    make_current(db, &staged).await?;
    delete(db, pipeline, &plan.delete).await?;
    void_pending(db, pipeline).await?;
    end_hold(db, pipeline).await?;
    for fqn in &plan.pending {
        sqlx::query("INSERT INTO pending_deletion (run_id, pipeline, fqn) VALUES (?, ?, ?)")
            .bind(&run_id)
            .bind(pipeline)
            .bind(fqn)
            .execute(&mut *db)
            .await
            .map_err(failed(COMMIT))?;
    }
    for (number, failure) in (0_i64..).zip(&eof.failures) {
        insert_failure(db, &run_id, number, failure).await?;
    }
    sqlx::query("UPDATE run SET state = 'committed', ended_at = ?, complete = ?, figures = ? WHERE run_id = ?")
        .bind(now.as_millisecond())
        .bind(eof.complete)
        .bind(figures_text(&plan.figures)?)
        .bind(&run_id)
        .execute(&mut *db)
        .await
        .map_err(failed(COMMIT))?;
    Ok(plan.figures)
}

async fn context(db: &mut SqliteConnection, staged: &Staged) -> Result<CommitContext, StoreError> {
    let pipeline = sqlx::query("SELECT mark_deleted FROM pipeline WHERE name = ?")
        .bind(&staged.run.pipeline)
        .fetch_one(&mut *db)
        .await
        .map_err(failed(COMMIT))?;
    let records = sqlx::query(
        "SELECT fqn, kind, content_hash, column_count, foreign_keys, has_body FROM record WHERE staging = ?",
    )
    .bind(&staged.staging)
    .fetch_all(&mut *db)
    .await
    .map_err(failed(COMMIT))?;
    let entities = sqlx::query(
        "SELECT fqn, kind, content_hash, column_count, foreign_keys, 1 AS has_body FROM entity WHERE pipeline = ?",
    )
    .bind(&staged.run.pipeline)
    .fetch_all(&mut *db)
    .await
    .map_err(failed(COMMIT))?;
    let shapes = |rows: Vec<SqliteRow>| rows.iter().map(shape).collect::<Result<BTreeMap<_, _>, _>>();
    Ok(CommitContext {
        next_seq: staged.next_seq,
        digest: staged.digest,
        mark_deleted: flag(&pipeline, "mark_deleted")?,
        staged: shapes(records)?,
        current: shapes(entities)?,
    })
}

fn shape(row: &SqliteRow) -> Result<(String, Shape), StoreError> {
    let shape = Shape {
        kind: column(row, "kind")?,
        content_hash: hash(row, "content_hash")?,
        columns: number(row, "column_count")?,
        foreign_keys: list(row, "foreign_keys")?,
        has_body: flag(row, "has_body")?,
    };
    Ok((column(row, "fqn")?, shape))
}

/// Points the changed entities to their new records, and deletes the records that no entity points to any more. No body
/// is touched but those that go.
async fn make_current(db: &mut SqliteConnection, staged: &Staged) -> Result<(), StoreError> {
    let (staging, pipeline) = (staged.staging.as_str(), staged.run.pipeline.as_str());
    // Records that are superseded: of changed entities.
    sqlx::query(
        "DELETE FROM record WHERE id IN (
             SELECT entity.record_id FROM record AS staged
             JOIN entity ON entity.pipeline = ?2 AND entity.fqn = staged.fqn
             WHERE staged.staging = ?1 AND staged.has_body = 1
                 AND (entity.content_hash <> staged.content_hash OR entity.kind <> staged.kind))",
    )
    .bind(staging)
    .bind(pipeline)
    .execute(&mut *db)
    .await
    .map_err(failed(COMMIT))?;
    sqlx::query(
        "INSERT INTO entity (pipeline, fqn, kind, content_hash, column_count, foreign_keys, memo, run_id, record_id)
         SELECT ?2, fqn, kind, content_hash, column_count, foreign_keys, memo, ?3, id
         FROM record WHERE staging = ?1 AND has_body = 1
         ON CONFLICT (pipeline, fqn) DO UPDATE SET
             kind = excluded.kind, content_hash = excluded.content_hash, column_count = excluded.column_count,
             foreign_keys = excluded.foreign_keys, run_id = excluded.run_id, record_id = excluded.record_id
         WHERE entity.content_hash <> excluded.content_hash OR entity.kind <> excluded.kind",
    )
    .bind(staging)
    .bind(pipeline)
    .bind(staged.run.run_id.to_string())
    .execute(&mut *db)
    .await
    .map_err(failed(COMMIT))?;
    // The memo is the last run's, also of what did not change.
    sqlx::query(
        "UPDATE entity SET memo = staged.memo FROM record AS staged
         WHERE staged.staging = ?1 AND entity.pipeline = ?2 AND entity.fqn = staged.fqn AND entity.memo <> staged.memo",
    )
    .bind(staging)
    .bind(pipeline)
    .execute(&mut *db)
    .await
    .map_err(failed(COMMIT))?;
    // Records of unchanged entities, which keep their old one.
    sqlx::query(
        "DELETE FROM record WHERE staging = ? AND NOT EXISTS (SELECT 1 FROM entity WHERE entity.record_id = record.id)",
    )
    .bind(staging)
    .execute(&mut *db)
    .await
    .map_err(failed(COMMIT))?;
    Ok(())
}

/// Deletes entities and their records; returns how many there were.
async fn delete(db: &mut SqliteConnection, pipeline: &str, fqns: &[String]) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for fqns in fqns.chunks(ROWS) {
        let mut records =
            QueryBuilder::new("DELETE FROM record WHERE id IN (SELECT record_id FROM entity WHERE pipeline = ");
        records.push_bind(pipeline).push(" AND fqn IN (");
        let mut list = records.separated(", ");
        for fqn in fqns {
            list.push_bind(fqn.as_str());
        }
        list.push_unseparated("))");
        records.build().persistent(false).execute(&mut *db).await.map_err(failed(COMMIT))?;
        let mut entities = QueryBuilder::new("DELETE FROM entity WHERE pipeline = ");
        entities.push_bind(pipeline).push(" AND fqn IN (");
        let mut list = entities.separated(", ");
        for fqn in fqns {
            list.push_bind(fqn.as_str());
        }
        list.push_unseparated(")");
        let done = entities.build().persistent(false).execute(&mut *db).await.map_err(failed(COMMIT))?;
        deleted += done.rows_affected();
    }
    Ok(deleted)
}

async fn void_pending(db: &mut SqliteConnection, pipeline: &str) -> Result<(), StoreError> {
    let void = sqlx::query("DELETE FROM pending_deletion WHERE pipeline = ?").bind(pipeline).execute(db).await;
    void.map_err(failed(COMMIT)).map(|_| ())
}

/// What holds a pipeline does not any more: a run of it came through.
async fn end_hold(db: &mut SqliteConnection, pipeline: &str) -> Result<(), StoreError> {
    let ended = sqlx::query("UPDATE pipeline SET hold_until = NULL WHERE name = ?").bind(pipeline).execute(db).await;
    ended.map_err(failed(COMMIT)).map(|_| ())
}

async fn insert_failure(
    db: &mut SqliteConnection,
    run_id: &str,
    number: i64,
    failure: &Failure,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO failure (run_id, number, fqn, reason, detail) VALUES (?, ?, ?, ?, ?)")
        .bind(run_id)
        .bind(number)
        .bind(&failure.fqn)
        .bind(&failure.reason)
        .bind(&failure.detail)
        .execute(db)
        .await
        .map_err(failed(COMMIT))?;
    Ok(())
}

fn figures_text(figures: &Figures) -> Result<String, StoreError> {
    serde_json::to_string(figures).or(Err(StoreError::Corrupt { what: "figures" }))
}

pub(super) async fn decide_deletions(
    db: &mut SqliteConnection,
    run_id: RunId,
    apply: bool,
) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query("SELECT * FROM run WHERE run_id = ?")
        .bind(run_id.to_string())
        .fetch_optional(&mut *db)
        .await
        .map_err(failed(DECIDE))?;
    let Some(decided) = row.as_ref().map(run).transpose()? else { return Ok(None) };
    // What the run in progress has found again is not gone, also while it waits for its next agent.
    let pending = sqlx::query(
        "SELECT fqn, EXISTS (
             SELECT 1 FROM record JOIN run ON run.staging = record.staging
             WHERE record.fqn = pending_deletion.fqn AND run.pipeline = pending_deletion.pipeline
                 AND run.state IN ('queued', 'granted', 'running')) AS found_again
         FROM pending_deletion WHERE run_id = ?",
    )
    .bind(run_id.to_string())
    .fetch_all(&mut *db)
    .await
    .map_err(failed(DECIDE))?;
    if pending.is_empty() {
        return Ok(None);
    }
    let mut gone: Vec<String> = Vec::new();
    for row in pending.iter().filter(|_| apply) {
        if !flag(row, "found_again")? {
            gone.push(column(row, "fqn")?);
        }
    }
    let deleted = delete(db, &decided.pipeline, &gone).await?;
    void_pending(db, &decided.pipeline).await?;
    if let Some(mut figures) = decided.figures {
        rules::decided(&mut figures, apply, deleted);
        sqlx::query("UPDATE run SET figures = ? WHERE run_id = ?")
            .bind(figures_text(&figures)?)
            .bind(run_id.to_string())
            .execute(&mut *db)
            .await
            .map_err(failed(DECIDE))?;
    }
    Ok(Some(deleted))
}
