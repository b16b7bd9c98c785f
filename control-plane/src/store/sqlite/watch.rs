//! What people watch of a run.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use super::rows::{column, number, signed};
use super::{SqliteStore, failed, runs};
use crate::progress::RunProgress;
use crate::shared::Progress;
use crate::store::watch::{LogSize, admitted, may_write};
use crate::store::{LineId, LogLine, RunId, RunWatch, StoreError, Token, Writer};

const WRITE: &str = "write a run's log";
const READ: &str = "read a run's log";
const PROGRESS: &str = "write a run's progress";

/// Lines in one statement: 4 variables each, far below SQLite's 32,766.
const ROWS: usize = 1_000;

#[async_trait]
impl RunWatch for SqliteStore {
    async fn add_log(&self, writer: &Writer, first: u64, lines: Vec<String>) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_log(&mut transaction, writer, first, lines).await?;
        transaction.commit().await.map_err(failed(WRITE))
    }

    async fn log(&self, run_id: RunId, after: Option<LineId>, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        let after = after.map_or((-1, -1), |after| (signed(after.fence), signed(after.number)));
        let rows = sqlx::query(
            "SELECT fence, number, text FROM log_line WHERE run_id = ? AND (fence, number) > (?, ?)
             ORDER BY fence, number LIMIT ?",
        )
        .bind(run_id.to_string())
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(&self.reader)
        .await
        .map_err(failed(READ))?;
        let line = |row| {
            let id = LineId { fence: number(row, "fence")?, number: number(row, "number")? };
            Ok(LogLine { id, text: column(row, "text")? })
        };
        rows.iter().map(line).collect()
    }

    async fn put_progress(
        &self,
        agent: &str,
        progress: &[(Token, Progress)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if progress.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        for (token, said) in progress {
            let writer = Writer { agent: agent.to_owned(), token: *token };
            put_progress(&mut transaction, &writer, said, now).await?;
        }
        transaction.commit().await.map_err(failed(PROGRESS))
    }

    async fn progress(&self, run_id: RunId) -> Result<Option<RunProgress>, StoreError> {
        let mut reader = self.reader.acquire().await.map_err(failed("open a connection"))?;
        progress(&mut reader, run_id).await
    }
}

async fn add_log(db: &mut SqliteConnection, writer: &Writer, first: u64, lines: Vec<String>) -> Result<(), StoreError> {
    let run = runs::one(db, writer.token.run_id).await?;
    if !run.is_some_and(|run| may_write(&run, writer)) {
        return Ok(());
    }
    let (run_id, fence) = (writer.token.run_id.to_string(), writer.token.fence);
    let size = sqlx::query("SELECT log_lines, log_bytes FROM run_watch WHERE run_id = ?")
        .bind(&run_id)
        .fetch_optional(&mut *db)
        .await
        .map_err(failed(WRITE))?;
    let mut size = match &size {
        Some(row) => LogSize { lines: number(row, "log_lines")?, bytes: number(row, "log_bytes")? },
        None => LogSize::default(),
    };
    let known = sqlx::query("SELECT COALESCE(MAX(number) + 1, 0) FROM log_line WHERE run_id = ? AND fence = ?")
        .bind(&run_id)
        .bind(signed(fence))
        .fetch_one(&mut *db)
        .await
        .map_err(failed(WRITE))?;
    let known: i64 = known.try_get(0).map_err(failed(WRITE))?;
    let known = u64::try_from(known).or(Err(StoreError::Corrupt { what: "number" }))?;
    let lines = admitted(&mut size, fence, known, first, lines);
    for lines in lines.chunks(ROWS) {
        let mut insert = QueryBuilder::new("INSERT INTO log_line (run_id, fence, number, text) ");
        insert.push_values(lines, |mut row, LogLine { id, text }| {
            row.push_bind(&run_id).push_bind(signed(id.fence)).push_bind(signed(id.number)).push_bind(text);
        });
        insert.build().persistent(false).execute(&mut *db).await.map_err(failed(WRITE))?;
    }
    sqlx::query(
        "INSERT INTO run_watch (run_id, log_lines, log_bytes) VALUES (?, ?, ?)
         ON CONFLICT (run_id) DO UPDATE SET log_lines = excluded.log_lines, log_bytes = excluded.log_bytes",
    )
    .bind(&run_id)
    .bind(signed(size.lines))
    .bind(signed(size.bytes))
    .execute(&mut *db)
    .await
    .map_err(failed(WRITE))?;
    Ok(())
}

async fn put_progress(
    db: &mut SqliteConnection,
    writer: &Writer,
    said: &Progress,
    now: Timestamp,
) -> Result<(), StoreError> {
    let run_id = writer.token.run_id;
    let run = runs::one(db, run_id).await?;
    if !run.is_some_and(|run| may_write(&run, writer)) {
        return Ok(());
    }
    let before = progress(db, run_id).await?;
    let next = RunProgress::next(before.as_ref(), writer.token.fence, now, said);
    let next = serde_json::to_string(&next).or(Err(StoreError::Corrupt { what: "progress" }))?;
    sqlx::query(
        "INSERT INTO run_watch (run_id, progress) VALUES (?, ?)
         ON CONFLICT (run_id) DO UPDATE SET progress = excluded.progress",
    )
    .bind(run_id.to_string())
    .bind(next)
    .execute(db)
    .await
    .map_err(failed(PROGRESS))?;
    Ok(())
}

async fn progress(db: &mut SqliteConnection, run_id: RunId) -> Result<Option<RunProgress>, StoreError> {
    let row = sqlx::query("SELECT progress FROM run_watch WHERE run_id = ?")
        .bind(run_id.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("read a run's progress"))?;
    let text: Option<String> = row.as_ref().map(|row| column(row, "progress")).transpose()?.flatten();
    text.map(|text| serde_json::from_str(&text)).transpose().or(Err(StoreError::Corrupt { what: "progress" }))
}
