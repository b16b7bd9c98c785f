//! Pipelines, faults and what agents think of them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::{Row as _, SqliteConnection};

use super::failed;
use super::rows::{column, definition, flag, number, signed};
use crate::store::rules;
use crate::store::{Definition, Fault, NewDefinition, StoreError, Verdict};

const ACTION: &str = "write definitions";

pub(super) async fn put(
    db: &mut SqliteConnection,
    definitions: &[NewDefinition],
    faults: &[Fault],
    now: Timestamp,
) -> Result<(), StoreError> {
    let bad: BTreeSet<&str> = faults.iter().map(|fault| fault.file.as_str()).collect();
    let named: BTreeSet<&str> = definitions.iter().map(|new| new.pipeline.as_str()).collect();
    for old in all(db).await? {
        if !named.contains(old.new.pipeline.as_str()) && !bad.contains(old.new.file.as_str()) {
            sqlx::query("UPDATE pipeline SET removed = 1 WHERE name = ?")
                .bind(&old.new.pipeline)
                .execute(&mut *db)
                .await
                .map_err(failed(ACTION))?;
        }
    }
    for new in definitions {
        put_one(db, new, now).await?;
    }
    sqlx::query("DELETE FROM fault").execute(&mut *db).await.map_err(failed(ACTION))?;
    for fault in faults {
        sqlx::query("INSERT INTO fault (file, error) VALUES (?, ?)")
            .bind(&fault.file)
            .bind(&fault.error)
            .execute(&mut *db)
            .await
            .map_err(failed(ACTION))?;
    }
    cancel_runs(db, now).await
}

async fn put_one(db: &mut SqliteConnection, new: &NewDefinition, now: Timestamp) -> Result<(), StoreError> {
    let schedule = new.schedule.as_ref();
    sqlx::query(
        "INSERT INTO pipeline (name, file, workflow_json, source, mark_deleted, cron, timezone, enabled, scheduled_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET
             file = excluded.file, workflow_json = excluded.workflow_json, source = excluded.source,
             mark_deleted = excluded.mark_deleted, cron = excluded.cron, timezone = excluded.timezone,
             enabled = excluded.enabled, removed = 0,
             version = pipeline.version + (pipeline.workflow_json <> excluded.workflow_json),
             hold_until = CASE WHEN pipeline.workflow_json = excluded.workflow_json THEN pipeline.hold_until END,
             scheduled_at = CASE
                 WHEN pipeline.removed = 1
                     OR COALESCE(pipeline.cron, '') <> COALESCE(excluded.cron, '')
                     OR COALESCE(pipeline.timezone, '') <> COALESCE(excluded.timezone, '')
                 THEN excluded.scheduled_at ELSE pipeline.scheduled_at END",
    )
    .bind(&new.pipeline)
    .bind(&new.file)
    .bind(&new.workflow_json)
    .bind(&new.source)
    .bind(new.mark_deleted)
    .bind(schedule.map(|schedule| &schedule.cron))
    .bind(schedule.map(|schedule| &schedule.timezone))
    .bind(new.enabled)
    .bind(now.as_millisecond())
    .execute(&mut *db)
    .await
    .map_err(failed(ACTION))?;
    Ok(())
}

/// Ends the runs of pipelines that may not run any more, and drops what they staged.
async fn cancel_runs(db: &mut SqliteConnection, now: Timestamp) -> Result<(), StoreError> {
    let ended = sqlx::query(
        "UPDATE run SET state = 'cancelled', not_before = NULL, reason = ?, detail = ?, ended_at = ?
         WHERE state IN ('queued', 'granted', 'running')
             AND pipeline IN (SELECT name FROM pipeline WHERE removed = 1 OR enabled = 0)
         RETURNING run_id",
    )
    .bind(rules::LEASE_REVOKED)
    .bind(rules::REVOKED_DETAIL)
    .bind(now.as_millisecond())
    .fetch_all(&mut *db)
    .await
    .map_err(failed(ACTION))?;
    for row in ended {
        let run_id: &str = row.try_get(0).map_err(failed(ACTION))?;
        super::dropped::drop_staged(db, run_id).await?;
    }
    Ok(())
}

pub(super) async fn all(db: &mut SqliteConnection) -> Result<Vec<Definition>, StoreError> {
    let rows = sqlx::query("SELECT * FROM pipeline WHERE removed = 0 ORDER BY name").fetch_all(db).await;
    rows.map_err(failed("read definitions"))?.iter().map(definition).collect()
}

pub(super) async fn faults(db: &mut SqliteConnection) -> Result<Vec<Fault>, StoreError> {
    let rows = sqlx::query("SELECT file, error FROM fault ORDER BY file").fetch_all(db).await;
    let rows = rows.map_err(failed("read definitions"))?;
    rows.iter().map(|row| Ok(Fault { file: column(row, "file")?, error: column(row, "error")? })).collect()
}

const UNREADABLE: &str = "unreadable_secrets";

pub(super) async fn put_verdict(db: &mut SqliteConnection, verdict: &Verdict) -> Result<(), StoreError> {
    let unreadable =
        serde_json::to_string(&verdict.unreadable_secrets).or(Err(StoreError::Corrupt { what: UNREADABLE }))?;
    sqlx::query(
        "INSERT OR REPLACE INTO verdict (pipeline, agent, version, accepted, reason, detail, unreadable_secrets)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&verdict.pipeline)
    .bind(&verdict.agent)
    .bind(signed(verdict.version))
    .bind(verdict.accepted)
    .bind(&verdict.reason)
    .bind(&verdict.detail)
    .bind(unreadable)
    .execute(db)
    .await
    .map_err(failed("write a definition's status"))?;
    Ok(())
}

pub(super) async fn verdicts(db: &mut SqliteConnection) -> Result<Vec<Verdict>, StoreError> {
    let rows = sqlx::query("SELECT * FROM verdict ORDER BY pipeline, agent").fetch_all(db).await;
    let rows = rows.map_err(failed("read definitions"))?;
    let verdict = |row| {
        Ok(Verdict {
            pipeline: column(row, "pipeline")?,
            agent: column(row, "agent")?,
            version: number(row, "version")?,
            accepted: flag(row, "accepted")?,
            reason: column(row, "reason")?,
            detail: column(row, "detail")?,
            unreadable_secrets: serde_json::from_str(&column::<String>(row, UNREADABLE)?)
                .or(Err(StoreError::Corrupt { what: UNREADABLE }))?,
        })
    };
    rows.iter().map(verdict).collect()
}
