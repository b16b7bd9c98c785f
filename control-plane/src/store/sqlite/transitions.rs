//! How leases begin and end.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::rows::{column, hash, hold, number, signed};
use super::{dropped, failed, runs};
use crate::store::rules::{self, After};
use crate::store::{
    Checkpoint, Ending, Granted, Hold, Lease, LeaseId, Listed, Run, RunId, RunState, StoreError, Writer,
};

const GRANT: &str = "grant a run";
const END: &str = "end a lease";

pub(super) async fn grant(
    db: &mut SqliteConnection,
    run_id: RunId,
    version: u64,
    agent: &str,
    listed: Listed,
    now: Timestamp,
) -> Result<Option<Granted>, StoreError> {
    let Some(run) = runs::one(db, run_id).await? else { return Ok(None) };
    let pipeline = sqlx::query(
        "SELECT name, fence, hold_reason, hold_detail, hold_until FROM pipeline
         WHERE name = ? AND removed = 0 AND enabled = 1 AND version = ?",
    )
    .bind(&run.pipeline)
    .bind(signed(version))
    .fetch_optional(&mut *db)
    .await
    .map_err(failed(GRANT))?;
    let Some(pipeline) = pipeline else { return Ok(None) };
    let open = runs::open_of(db, &run.pipeline).await?;
    if !rules::may_be_granted(&run, &open, hold(&pipeline)?.as_ref(), now) {
        return Ok(None);
    }
    let lease = Lease { fence: number(&pipeline, "fence")? + 1, lease_id: LeaseId::random(), renewals: 0 };
    sqlx::query("UPDATE pipeline SET fence = ? WHERE name = ?")
        .bind(signed(lease.fence))
        .bind(&run.pipeline)
        .execute(&mut *db)
        .await
        .map_err(failed(GRANT))?;
    let (run, keeps_staged) = rules::grant(&run, lease, version, agent, listed, now);
    write(db, &run, keeps_staged).await?;
    sqlx::query("UPDATE run SET memos = ?, resume = ? WHERE run_id = ?")
        .bind(listed.memos)
        .bind(listed.resume)
        .bind(run_id.to_string())
        .execute(&mut *db)
        .await
        .map_err(failed(GRANT))?;
    let checkpoint = checkpoint(db, run_id).await?;
    let granted = run.token().map(|token| Granted {
        token,
        pipeline: run.pipeline,
        definition_version: version,
        attempt: run.attempt,
        full: run.full,
        checkpoint,
    });
    Ok(granted)
}

async fn checkpoint(db: &mut SqliteConnection, run_id: RunId) -> Result<Option<Checkpoint>, StoreError> {
    let row = sqlx::query("SELECT next_seq, digest, source_position FROM run WHERE run_id = ?")
        .bind(run_id.to_string())
        .fetch_one(db)
        .await
        .map_err(failed(GRANT))?;
    let next_seq = number(&row, "next_seq")?;
    let source_position = column::<Vec<u8>>(&row, "source_position")?.into();
    let digest = hash(&row, "digest")?;
    Ok((next_seq > 0).then_some(Checkpoint { source_position, next_seq, digest }))
}

pub(super) async fn release(
    db: &mut SqliteConnection,
    writer: &Writer,
    ending: Ending,
    reason: &str,
    detail: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(run) = runs::held(db, writer).await? else { return Ok(false) };
    end(db, &run, ending, reason, detail, now).await?;
    Ok(true)
}

pub(super) async fn cancel(
    db: &mut SqliteConnection,
    run_id: RunId,
    now: Timestamp,
) -> Result<Option<RunState>, StoreError> {
    let Some(run) = runs::one(db, run_id).await? else { return Ok(None) };
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
    let run = runs::one(db, run_id).await?.filter(|run| run.state.is_active() && run.lease.as_ref() == Some(lease));
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
    let After { run, keeps_staged, hold } = rules::end(run, ending, reason, detail, now);
    if let Some(hold) = hold {
        write_hold(db, &hold, run.definition_version).await?;
    }
    write(db, &run, keeps_staged).await
}

async fn write_hold(db: &mut SqliteConnection, hold: &Hold, version: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE pipeline SET hold_reason = ?, hold_detail = ?, hold_until = ? WHERE name = ? AND version = ?")
        .bind(&hold.reason)
        .bind(&hold.detail)
        .bind(hold.until.as_millisecond())
        .bind(&hold.pipeline)
        .bind(signed(version))
        .execute(db)
        .await
        .map_err(failed(END))?;
    Ok(())
}

/// Writes a run as the rules made it.
pub(super) async fn write(db: &mut SqliteConnection, run: &Run, keeps_staged: bool) -> Result<(), StoreError> {
    let lease = run.lease.as_ref();
    let time = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
    sqlx::query(
        "UPDATE run SET state = ?, attempt = ?, scheduled = ?, not_before = ?, lost = ?, handed_back = ?, restarts = ?,
             full_read = ?, definition_version = ?, started_at = ?, ended_at = ?, agent = ?, reason = ?, detail = ?,
             fence = ?, lease_id = ?, renewals = ?
         WHERE run_id = ?",
    )
    .bind(run.state.as_str())
    .bind(run.attempt)
    .bind(run.scheduled)
    .bind(time(run.not_before))
    .bind(run.lost)
    .bind(run.handed_back)
    .bind(run.restarts)
    .bind(run.full)
    .bind(signed(run.definition_version))
    .bind(time(run.started_at))
    .bind(time(run.ended_at))
    .bind(&run.agent)
    .bind(&run.reason)
    .bind(&run.detail)
    .bind(lease.map(|lease| signed(lease.fence)))
    .bind(lease.map(|lease| lease.lease_id.0.to_vec()))
    .bind(lease.map_or(0, |lease| signed(lease.renewals)))
    .bind(run.run_id.to_string())
    .execute(&mut *db)
    .await
    .map_err(failed("write a run"))?;
    if keeps_staged { Ok(()) } else { dropped::drop_staged(db, &run.run_id.to_string()).await }
}
