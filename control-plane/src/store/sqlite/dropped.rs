//! What runs staged and dropped: out of sight in one row's time, deleted in steps.
//!
//! A run may have staged a million records, and who deletes them keeps all other writers waiting. So a drop only renames:
//! the run stages under a new name from then on. The records of the old name are nobody's, and go a bounded number a
//! transaction. A process that dies in between leaves the name in `dropped`, and the next one goes on.

use sqlx::{Row as _, SqliteConnection};

use super::failed;
use crate::digest;
use crate::store::{RunId, StoreError};

const DROP: &str = "drop what was staged";

/// Records of one step: of 4 KiB each, some tens of milliseconds.
const STEP: u32 = 1_000;

/// Forgets what a run staged and did not commit.
pub(super) async fn drop_staged(db: &mut SqliteConnection, run_id: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO dropped (staging) SELECT staging FROM run WHERE run_id = ? AND next_seq > 0")
        .bind(run_id)
        .execute(&mut *db)
        .await
        .map_err(failed(DROP))?;
    sqlx::query(
        "UPDATE run SET staging = ?, staged_fence = NULL, next_seq = 0, digest = ?, source_position = x''
         WHERE run_id = ?",
    )
    .bind(new_name())
    .bind(digest::EMPTY.as_slice())
    .bind(run_id)
    .execute(&mut *db)
    .await
    .map_err(failed(DROP))?;
    Ok(())
}

/// A name that nothing was staged under.
pub(super) fn new_name() -> String {
    // As unique as a run's id, and in the order of time like it: what is staged is appended to the indexes.
    RunId::new().to_string()
}

/// Whether anything waits to be deleted.
pub(super) async fn is_any(db: &mut SqliteConnection) -> Result<bool, StoreError> {
    let any = sqlx::query("SELECT EXISTS (SELECT 1 FROM dropped)").fetch_one(db).await.map_err(failed(DROP))?;
    any.try_get(0).map_err(failed(DROP))
}

/// Deletes one step of what was dropped; returns whether there is more.
pub(super) async fn sweep(db: &mut SqliteConnection) -> Result<bool, StoreError> {
    let oldest = sqlx::query("SELECT staging FROM dropped ORDER BY staging LIMIT 1").fetch_optional(&mut *db).await;
    let Some(oldest) = oldest.map_err(failed(DROP))? else { return Ok(false) };
    let staging: &str = oldest.try_get(0).map_err(failed(DROP))?;
    let deleted = sqlx::query("DELETE FROM record WHERE id IN (SELECT id FROM record WHERE staging = ? LIMIT ?)")
        .bind(staging)
        .bind(STEP)
        .execute(&mut *db)
        .await
        .map_err(failed(DROP))?;
    if deleted.rows_affected() < u64::from(STEP) {
        sqlx::query("DELETE FROM dropped WHERE staging = ?")
            .bind(staging)
            .execute(&mut *db)
            .await
            .map_err(failed(DROP))?;
    }
    is_any(db).await
}
