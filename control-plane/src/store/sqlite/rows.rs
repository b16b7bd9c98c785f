//! Between columns and values.

use std::str::FromStr;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type};

use super::failed;
use crate::digest::Hash;
use crate::store::{Definition, Hold, Lease, LeaseId, NewDefinition, Run, RunId, RunState, ScheduleText, StoreError};

/// A column's value.
pub(super) fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T, StoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(name).map_err(failed("read a column"))
}

/// SQLite's integers are signed; numbers that never reach 2^63 are stored as they are.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &SqliteRow, name: &'static str) -> Result<u64, StoreError> {
    u64::try_from(column::<i64>(row, name)?).or(Err(StoreError::Corrupt { what: name }))
}

pub(super) fn small(row: &SqliteRow, name: &'static str) -> Result<u32, StoreError> {
    u32::try_from(column::<i64>(row, name)?).or(Err(StoreError::Corrupt { what: name }))
}

pub(super) fn flag(row: &SqliteRow, name: &'static str) -> Result<bool, StoreError> {
    column(row, name)
}

pub(super) fn time(row: &SqliteRow, name: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(column(row, name)?).or(Err(StoreError::Corrupt { what: name }))
}

/// What holds a pipeline, given as its row.
pub(super) fn hold(row: &SqliteRow) -> Result<Option<Hold>, StoreError> {
    let Some(until) = optional_time(row, "hold_until")? else { return Ok(None) };
    let (pipeline, reason, detail) = (column(row, "name")?, column(row, "hold_reason")?, column(row, "hold_detail")?);
    Ok(Some(Hold { pipeline, reason, detail, until }))
}

fn optional_time(row: &SqliteRow, name: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let stored: Option<i64> = column(row, name)?;
    stored.map(Timestamp::from_millisecond).transpose().or(Err(StoreError::Corrupt { what: name }))
}

pub(super) fn hash(row: &SqliteRow, name: &'static str) -> Result<Hash, StoreError> {
    column::<&[u8]>(row, name)?.try_into().or(Err(StoreError::Corrupt { what: name }))
}

pub(super) fn run_id(row: &SqliteRow) -> Result<RunId, StoreError> {
    RunId::from_str(column(row, "run_id")?).or(Err(StoreError::Corrupt { what: "run_id" }))
}

/// A list of strings, as JSON.
pub(super) fn list(row: &SqliteRow, name: &'static str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(column(row, name)?).or(Err(StoreError::Corrupt { what: name }))
}

/// A list of strings as JSON.
pub(super) fn list_text(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

pub(super) fn run(row: &SqliteRow) -> Result<Run, StoreError> {
    let figures: Option<&str> = column(row, "figures")?;
    let fence: Option<i64> = column(row, "fence")?;
    Ok(Run {
        run_id: run_id(row)?,
        pipeline: column(row, "pipeline")?,
        state: RunState::from_name(column(row, "state")?).ok_or(StoreError::Corrupt { what: "state" })?,
        attempt: small(row, "attempt")?,
        scheduled: flag(row, "scheduled")?,
        not_before: optional_time(row, "not_before")?,
        lost: small(row, "lost")?,
        handed_back: small(row, "handed_back")?,
        restarts: small(row, "restarts")?,
        full: flag(row, "full_read")?,
        definition_version: number(row, "definition_version")?,
        queued_at: time(row, "queued_at")?,
        started_at: optional_time(row, "started_at")?,
        ended_at: optional_time(row, "ended_at")?,
        agent: column(row, "agent")?,
        reason: column(row, "reason")?,
        detail: column(row, "detail")?,
        complete: flag(row, "complete")?,
        figures: figures.map(serde_json::from_str).transpose().or(Err(StoreError::Corrupt { what: "figures" }))?,
        lease: fence.map(|_| lease(row)).transpose()?,
    })
}

fn lease(row: &SqliteRow) -> Result<Lease, StoreError> {
    let lease_id = column::<&[u8]>(row, "lease_id")?.try_into().or(Err(StoreError::Corrupt { what: "lease_id" }))?;
    Ok(Lease { fence: number(row, "fence")?, lease_id: LeaseId(lease_id), renewals: number(row, "renewals")? })
}

pub(super) fn definition(row: &SqliteRow) -> Result<Definition, StoreError> {
    let cron: Option<String> = column(row, "cron")?;
    let timezone: Option<String> = column(row, "timezone")?;
    Ok(Definition {
        new: NewDefinition {
            pipeline: column(row, "name")?,
            file: column(row, "file")?,
            workflow_json: column(row, "workflow_json")?,
            source: column(row, "source")?,
            mark_deleted: flag(row, "mark_deleted")?,
            schedule: cron.zip(timezone).map(|(cron, timezone)| ScheduleText { cron, timezone }),
            enabled: flag(row, "enabled")?,
        },
        version: number(row, "version")?,
        scheduled_at: time(row, "scheduled_at")?,
    })
}
