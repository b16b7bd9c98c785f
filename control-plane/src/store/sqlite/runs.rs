//! Runs, and how writers stand to them.

use jiff::Timestamp;
use sqlx::{Row as _, SqliteConnection};

use super::rows::{flag, run, run_id, time};
use super::{dropped, failed, transitions};
use crate::digest;
use crate::store::rules::{self, Standing};
use crate::store::{EnqueueError, Refusal, Run, RunId, StoreError, Token, Writer};

const QUEUE: &str = "queue a run";

pub(super) async fn enqueue(
    db: &mut SqliteConnection,
    pipeline: &str,
    full: bool,
    now: Timestamp,
) -> Result<RunId, EnqueueError> {
    let row = sqlx::query("UPDATE pipeline SET hold_until = NULL WHERE name = ? AND removed = 0 RETURNING enabled")
        .bind(pipeline)
        .fetch_optional(&mut *db)
        .await
        .map_err(failed(QUEUE))?;
    let row = row.ok_or_else(|| EnqueueError::UnknownPipeline { pipeline: pipeline.to_owned() })?;
    if !flag(&row, "enabled")? {
        return Err(EnqueueError::Disabled { pipeline: pipeline.to_owned() });
    }
    Ok(insert(db, pipeline, full, false, now).await?)
}

pub(super) async fn enqueue_scheduled(
    db: &mut SqliteConnection,
    pipeline: &str,
    seen: Timestamp,
    now: Timestamp,
) -> Result<Option<RunId>, StoreError> {
    let row = sqlx::query("SELECT scheduled_at FROM pipeline WHERE name = ? AND removed = 0 AND enabled = 1")
        .bind(pipeline)
        .fetch_optional(&mut *db)
        .await
        .map_err(failed(QUEUE))?;
    let Some(row) = row else { return Ok(None) };
    if time(&row, "scheduled_at")?.as_millisecond() != seen.as_millisecond() {
        return Ok(None);
    }
    sqlx::query("UPDATE pipeline SET scheduled_at = ? WHERE name = ?")
        .bind(now.as_millisecond())
        .bind(pipeline)
        .execute(&mut *db)
        .await
        .map_err(failed(QUEUE))?;
    insert(db, pipeline, false, true, now).await.map(Some)
}

async fn insert(
    db: &mut SqliteConnection,
    pipeline: &str,
    full: bool,
    scheduled: bool,
    now: Timestamp,
) -> Result<RunId, StoreError> {
    let open = open_of(db, pipeline).await?;
    if let Some(queued) = rules::joinable(&open) {
        let (run, keeps_staged) = rules::join(queued, full, scheduled);
        transitions::write(db, &run, keeps_staged).await?;
        return Ok(run.run_id);
    }
    drop_surplus(db, pipeline).await?;
    let run_id = RunId::new();
    sqlx::query(
        "INSERT INTO run (run_id, pipeline, state, full_read, scheduled, queued_at, digest, source_position, staging)
         VALUES (?, ?, 'queued', ?, ?, ?, ?, x'', ?)",
    )
    .bind(run_id.to_string())
    .bind(pipeline)
    .bind(full)
    .bind(scheduled)
    .bind(now.as_millisecond())
    .bind(digest::EMPTY.as_slice())
    .bind(dropped::new_name())
    .execute(&mut *db)
    .await
    .map_err(failed(QUEUE))?;
    Ok(run_id)
}

async fn drop_surplus(db: &mut SqliteConnection, pipeline: &str) -> Result<(), StoreError> {
    let finals = sqlx::query(
        "SELECT run_id FROM run WHERE pipeline = ? AND state IN ('committed', 'failed', 'cancelled')
         ORDER BY run_id DESC",
    )
    .bind(pipeline)
    .fetch_all(&mut *db)
    .await
    .map_err(failed(QUEUE))?;
    let finals: Vec<RunId> = finals.iter().map(run_id).collect::<Result<_, _>>()?;
    for run_id in rules::surplus(finals.into_iter()) {
        for statement in [
            "DELETE FROM run WHERE run_id = ?",
            "DELETE FROM event WHERE run_id = ?",
            "DELETE FROM failure WHERE run_id = ?",
            "DELETE FROM pending_deletion WHERE run_id = ?",
            "DELETE FROM log_line WHERE run_id = ?",
            "DELETE FROM run_watch WHERE run_id = ?",
        ] {
            sqlx::query(statement).bind(run_id.to_string()).execute(&mut *db).await.map_err(failed(QUEUE))?;
        }
    }
    Ok(())
}

pub(super) async fn newest(
    db: &mut SqliteConnection,
    pipeline: Option<&str>,
    limit: u32,
) -> Result<Vec<Run>, StoreError> {
    let rows = sqlx::query("SELECT * FROM run WHERE ?1 IS NULL OR pipeline = ?1 ORDER BY run_id DESC LIMIT ?2")
        .bind(pipeline)
        .bind(limit)
        .fetch_all(db)
        .await;
    rows.map_err(failed("read runs"))?.iter().map(run).collect()
}

pub(super) async fn open(db: &mut SqliteConnection) -> Result<Vec<Run>, StoreError> {
    let rows = sqlx::query("SELECT * FROM run WHERE state IN ('queued', 'granted', 'running') ORDER BY run_id")
        .fetch_all(db)
        .await;
    rows.map_err(failed("read runs"))?.iter().map(run).collect()
}

/// The open runs of a pipeline, oldest first.
pub(super) async fn open_of(db: &mut SqliteConnection, pipeline: &str) -> Result<Vec<Run>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM run WHERE pipeline = ? AND state IN ('queued', 'granted', 'running') ORDER BY run_id",
    )
    .bind(pipeline)
    .fetch_all(db)
    .await;
    rows.map_err(failed("read runs"))?.iter().map(run).collect()
}

pub(super) async fn one(db: &mut SqliteConnection, run_id: RunId) -> Result<Option<Run>, StoreError> {
    let row = sqlx::query("SELECT * FROM run WHERE run_id = ?").bind(run_id.to_string()).fetch_optional(db).await;
    row.map_err(failed("read a run"))?.as_ref().map(run).transpose()
}

/// How a writer stands to its run, and the run.
pub(super) async fn standing(
    db: &mut SqliteConnection,
    writer: &Writer,
) -> Result<Result<(Standing, Run), Refusal>, StoreError> {
    let Some(run) = one(db, writer.token.run_id).await? else {
        return Ok(Err(Refusal::Fenced { current_fence: 0 }));
    };
    let fence = sqlx::query("SELECT fence FROM pipeline WHERE name = ?")
        .bind(&run.pipeline)
        .fetch_optional(&mut *db)
        .await
        .map_err(failed("read a pipeline's fence"))?;
    let fence = fence.map(|row| row.try_get::<i64, _>(0)).transpose().map_err(failed("read a pipeline's fence"))?;
    let fence = u64::try_from(fence.unwrap_or(0)).or(Err(StoreError::Corrupt { what: "fence" }))?;
    Ok(rules::standing(Some(&run), fence, writer).map(|standing| (standing, run)))
}

/// As [`standing`], for what only the holder of the lease may do.
pub(super) async fn held(db: &mut SqliteConnection, writer: &Writer) -> Result<Option<Run>, StoreError> {
    let standing = standing(db, writer).await?.ok();
    Ok(standing.filter(|(standing, _)| *standing == Standing::Current).map(|(_, run)| run))
}

pub(super) async fn renew(db: &mut SqliteConnection, agent: &str, tokens: &[Token]) -> Result<Vec<RunId>, StoreError> {
    let mut renewed = Vec::new();
    for token in tokens {
        if held(db, &Writer { agent: agent.to_owned(), token: *token }).await?.is_none() {
            continue;
        }
        sqlx::query("UPDATE run SET renewals = renewals + 1 WHERE run_id = ?")
            .bind(token.run_id.to_string())
            .execute(&mut *db)
            .await
            .map_err(failed("renew leases"))?;
        renewed.push(token.run_id);
    }
    Ok(renewed)
}
