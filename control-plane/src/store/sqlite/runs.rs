//! Runs and their leases.

use jiff::Timestamp;
use sqlx::{Row as _, SqliteConnection};

use super::rows::{column, flag, number, run, run_id, signed, time};
use super::{failed, push};
use crate::digest;
use crate::store::rules::{self, Standing};
use crate::store::{
    Ending, EnqueueError, Granted, Lease, LeaseId, Listed, Refusal, Run, RunId, RunState, StoreError, Token, Writer,
};

const QUEUE: &str = "queue a run";

pub(super) async fn enqueue(
    db: &mut SqliteConnection,
    pipeline: &str,
    full: bool,
    now: Timestamp,
) -> Result<RunId, EnqueueError> {
    let row = sqlx::query("SELECT enabled FROM pipeline WHERE name = ? AND removed = 0")
        .bind(pipeline)
        .fetch_optional(&mut *db)
        .await
        .map_err(failed(QUEUE))?;
    let row = row.ok_or_else(|| EnqueueError::UnknownPipeline { pipeline: pipeline.to_owned() })?;
    if !flag(&row, "enabled")? {
        return Err(EnqueueError::Disabled { pipeline: pipeline.to_owned() });
    }
    Ok(insert(db, pipeline, full, now).await?)
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
    insert(db, pipeline, false, now).await.map(Some)
}

async fn insert(db: &mut SqliteConnection, pipeline: &str, full: bool, now: Timestamp) -> Result<RunId, StoreError> {
    let queued = sqlx::query(
        "UPDATE run SET full_read = max(full_read, ?)
         WHERE run_id = (SELECT min(run_id) FROM run WHERE pipeline = ? AND state = 'queued') RETURNING run_id",
    )
    .bind(full)
    .bind(pipeline)
    .fetch_optional(&mut *db)
    .await
    .map_err(failed(QUEUE))?;
    if let Some(row) = queued {
        return run_id(&row);
    }
    drop_surplus(db, pipeline).await?;
    let run_id = RunId::new();
    sqlx::query(
        "INSERT INTO run (run_id, pipeline, state, full_read, queued_at, digest, source_position)
         VALUES (?, ?, 'queued', ?, ?, ?, x'')",
    )
    .bind(run_id.to_string())
    .bind(pipeline)
    .bind(full)
    .bind(now.as_millisecond())
    .bind(digest::EMPTY.as_slice())
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

pub(super) async fn one(db: &mut SqliteConnection, run_id: RunId) -> Result<Option<Run>, StoreError> {
    let row = sqlx::query("SELECT * FROM run WHERE run_id = ?").bind(run_id.to_string()).fetch_optional(db).await;
    row.map_err(failed("read a run"))?.as_ref().map(run).transpose()
}

pub(super) async fn grant(
    db: &mut SqliteConnection,
    run_id: RunId,
    version: u64,
    agent: &str,
    listed: Listed,
    now: Timestamp,
) -> Result<Option<Granted>, StoreError> {
    const GRANT: &str = "grant a run";
    let granted = sqlx::query(
        "UPDATE pipeline SET fence = fence + 1
         WHERE removed = 0 AND enabled = 1 AND version = ?2
             AND name = (SELECT pipeline FROM run WHERE run_id = ?1 AND state = 'queued')
             AND NOT EXISTS (SELECT 1 FROM run WHERE pipeline = pipeline.name AND state IN ('granted', 'running'))
         RETURNING name, fence",
    )
    .bind(run_id.to_string())
    .bind(signed(version))
    .fetch_optional(&mut *db)
    .await
    .map_err(failed(GRANT))?;
    let Some(granted) = granted else { return Ok(None) };
    let token = Token { run_id, fence: number(&granted, "fence")?, lease_id: LeaseId::random() };
    let row = sqlx::query(
        "UPDATE run SET state = 'granted', attempt = attempt + 1, definition_version = ?, agent = ?, memos = ?, fence = ?,
             lease_id = ?, renewals = 0, reason = NULL, detail = NULL, started_at = COALESCE(started_at, ?)
         WHERE run_id = ? RETURNING attempt, full_read",
    )
    .bind(signed(version))
    .bind(agent)
    .bind(listed.memos)
    .bind(signed(token.fence))
    .bind(token.lease_id.0.as_slice())
    .bind(now.as_millisecond())
    .bind(run_id.to_string())
    .fetch_one(&mut *db)
    .await
    .map_err(failed(GRANT))?;
    Ok(Some(Granted {
        token,
        pipeline: column(&granted, "name")?,
        definition_version: version,
        attempt: super::rows::small(&row, "attempt")?,
        full: flag(&row, "full_read")?,
    }))
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
async fn held(db: &mut SqliteConnection, writer: &Writer) -> Result<Option<Run>, StoreError> {
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

pub(super) async fn release(
    db: &mut SqliteConnection,
    writer: &Writer,
    ending: Ending,
    reason: &str,
    detail: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(run) = held(db, writer).await? else { return Ok(false) };
    end(db, &run, ending, reason, detail, now).await?;
    Ok(true)
}

pub(super) async fn cancel(
    db: &mut SqliteConnection,
    run_id: RunId,
    now: Timestamp,
) -> Result<Option<RunState>, StoreError> {
    let Some(run) = one(db, run_id).await? else { return Ok(None) };
    if !run.state.is_final() {
        end(db, &run, Ending::Cancelled, rules::CANCELLED, "", now).await?;
    }
    Ok(Some(run.state))
}

pub(super) async fn expire(
    db: &mut SqliteConnection,
    run_id: RunId,
    lease: &Lease,
    ending: Ending,
    reason: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let run = one(db, run_id).await?.filter(|run| run.state.is_active() && run.lease.as_ref() == Some(lease));
    let Some(run) = run else { return Ok(false) };
    end(db, &run, ending, reason, "", now).await?;
    Ok(true)
}

async fn end(
    db: &mut SqliteConnection,
    run: &Run,
    ending: Ending,
    reason: &str,
    detail: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let state: RunState = rules::ended(ending, run.attempt);
    sqlx::query("UPDATE run SET state = ?, reason = ?, detail = ?, ended_at = ? WHERE run_id = ?")
        .bind(state.as_str())
        .bind(reason)
        .bind((!detail.is_empty()).then_some(detail))
        .bind(state.is_final().then(|| now.as_millisecond()))
        .bind(run.run_id.to_string())
        .execute(&mut *db)
        .await
        .map_err(failed("end a lease"))?;
    push::drop_staged(db, &run.run_id.to_string()).await
}
