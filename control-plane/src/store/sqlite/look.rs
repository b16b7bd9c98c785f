//! What people and agents read.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::rows::{column, hash, hold, number, run_id, time};
use super::{failed, packed};
use crate::store::{BaselineEntry, EntityBody, EntityRow, Event, Failure, Hold, PendingDeletions, RunId, StoreError};

pub(super) async fn baseline(
    db: &mut SqliteConnection,
    pipeline: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<BaselineEntry>, StoreError> {
    // An FQN is never empty, so that all of them are greater than ''.
    let rows = sqlx::query(
        "SELECT kind, fqn, content_hash, memo FROM entity WHERE pipeline = ? AND fqn > ? ORDER BY fqn LIMIT ?",
    )
    .bind(pipeline)
    .bind(after.unwrap_or_default())
    .bind(limit)
    .fetch_all(db)
    .await
    .map_err(failed("read the baseline"))?;
    let entry = |row| {
        Ok(BaselineEntry {
            kind: column(row, "kind")?,
            fqn: column(row, "fqn")?,
            content_hash: hash(row, "content_hash")?,
            memo: column::<Vec<u8>>(row, "memo")?.into(),
        })
    };
    rows.iter().map(entry).collect()
}

pub(super) async fn holds(db: &mut SqliteConnection) -> Result<Vec<Hold>, StoreError> {
    let rows = sqlx::query(
        "SELECT name, hold_reason, hold_detail, hold_until FROM pipeline
         WHERE hold_until IS NOT NULL AND removed = 0 ORDER BY name",
    )
    .fetch_all(db)
    .await
    .map_err(failed("read what is held"))?;
    rows.iter().filter_map(|row| hold(row).transpose()).collect()
}

pub(super) async fn entities(
    db: &mut SqliteConnection,
    pipeline: Option<&str>,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Result<Vec<EntityRow>, StoreError> {
    let (fqn, name) = after.unwrap_or_default();
    let rows = sqlx::query(
        "SELECT pipeline, kind, fqn, column_count, run_id FROM entity
         WHERE (?1 IS NULL OR pipeline = ?1) AND (fqn, pipeline) > (?2, ?3) ORDER BY fqn, pipeline LIMIT ?4",
    )
    .bind(pipeline)
    .bind(fqn)
    .bind(name)
    .bind(limit)
    .fetch_all(db)
    .await
    .map_err(failed("read entities"))?;
    rows.iter().map(entity).collect()
}

pub(super) async fn bodies(
    db: &mut SqliteConnection,
    pipeline: Option<&str>,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Result<Vec<EntityBody>, StoreError> {
    let (fqn, name) = after.unwrap_or_default();
    let rows = sqlx::query(
        "SELECT entity.pipeline, entity.kind, entity.fqn, entity.column_count, entity.run_id, record.body
         FROM entity JOIN record ON record.id = entity.record_id
         WHERE (?1 IS NULL OR entity.pipeline = ?1) AND (entity.fqn, entity.pipeline) > (?2, ?3)
         ORDER BY entity.fqn, entity.pipeline LIMIT ?4",
    )
    .bind(pipeline)
    .bind(fqn)
    .bind(name)
    .bind(limit)
    .fetch_all(db)
    .await
    .map_err(failed("read entities"))?;
    rows.iter().map(|row| Ok(EntityBody { row: entity(row)?, body: packed::unpack(column(row, "body")?)? })).collect()
}

fn entity(row: &SqliteRow) -> Result<EntityRow, StoreError> {
    Ok(EntityRow {
        pipeline: column(row, "pipeline")?,
        kind: column(row, "kind")?,
        fqn: column(row, "fqn")?,
        columns: number(row, "column_count")?,
        run_id: run_id(row)?,
    })
}

pub(super) async fn events(db: &mut SqliteConnection, run_id: RunId) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query("SELECT at, severity, code, text FROM event WHERE run_id = ? ORDER BY number")
        .bind(run_id.to_string())
        .fetch_all(db)
        .await
        .map_err(failed("read events"))?;
    let event = |row| {
        Ok(Event {
            at: time(row, "at")?,
            severity: column(row, "severity")?,
            code: column(row, "code")?,
            text: column(row, "text")?,
        })
    };
    rows.iter().map(event).collect()
}

pub(super) async fn failures(db: &mut SqliteConnection, run_id: RunId) -> Result<Vec<Failure>, StoreError> {
    let rows = sqlx::query("SELECT fqn, reason, detail FROM failure WHERE run_id = ? ORDER BY number")
        .bind(run_id.to_string())
        .fetch_all(db)
        .await
        .map_err(failed("read failures"))?;
    let failure =
        |row| Ok(Failure { fqn: column(row, "fqn")?, reason: column(row, "reason")?, detail: column(row, "detail")? });
    rows.iter().map(failure).collect()
}

pub(super) async fn pending_deletions(db: &mut SqliteConnection) -> Result<Vec<PendingDeletions>, StoreError> {
    let rows = sqlx::query("SELECT run_id, pipeline, fqn FROM pending_deletion ORDER BY run_id, fqn")
        .fetch_all(db)
        .await
        .map_err(failed("read pending deletions"))?;
    let mut all: Vec<PendingDeletions> = Vec::new();
    for row in &rows {
        let (run_id, fqn) = (run_id(row)?, column(row, "fqn")?);
        match all.last_mut().filter(|last| last.run_id == run_id) {
            Some(last) => last.fqns.push(fqn),
            None => all.push(PendingDeletions { run_id, pipeline: column(row, "pipeline")?, fqns: vec![fqn] }),
        }
    }
    Ok(all)
}
