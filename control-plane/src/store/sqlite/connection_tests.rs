//! Connection tests.

use std::str::FromStr as _;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::rows::{column, time};
use super::{SqliteStore, failed};
use crate::store::connection_tests::{KEPT, MAX_OPEN_TESTS};
use crate::store::{AskError, ConnectionTest, ConnectionTests, StoreError, TestAnswer, TestId};

const ASK: &str = "ask for a connection test";
const LOOK: &str = "read connection tests";
const ANSWER: &str = "answer a connection test";

#[async_trait]
impl ConnectionTests for SqliteStore {
    async fn ask_test(&self, pipeline: &str, expires_at: Timestamp, now: Timestamp) -> Result<TestId, AskError> {
        let mut transaction = self.begin().await?;
        let id = ask(&mut transaction, pipeline, expires_at, now).await?;
        transaction.commit().await.map_err(failed(ASK))?;
        Ok(id)
    }

    async fn open_tests(&self) -> Result<Vec<ConnectionTest>, StoreError> {
        let rows = sqlx::query("SELECT * FROM connection_test WHERE answer IS NULL ORDER BY test_id")
            .fetch_all(&self.reader)
            .await
            .map_err(failed(LOOK))?;
        rows.iter().map(test).collect()
    }

    async fn test(&self, id: TestId) -> Result<Option<ConnectionTest>, StoreError> {
        let row = sqlx::query("SELECT * FROM connection_test WHERE test_id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(failed(LOOK))?;
        row.as_ref().map(test).transpose()
    }

    async fn take_test(&self, id: TestId, agent: &str) -> Result<bool, StoreError> {
        let taken =
            sqlx::query("UPDATE connection_test SET agent = ? WHERE test_id = ? AND agent IS NULL AND answer IS NULL")
                .bind(agent)
                .bind(id.to_string())
                .execute(&self.writer)
                .await
                .map_err(failed(ANSWER))?;
        Ok(taken.rows_affected() == 1)
    }

    async fn answer_test(&self, id: TestId, agent: Option<&str>, answer: TestAnswer) -> Result<bool, StoreError> {
        let answer = serde_json::to_string(&answer).or(Err(StoreError::Corrupt { what: "answer" }))?;
        let answered = sqlx::query(
            "UPDATE connection_test SET answer = ?1
             WHERE test_id = ?2 AND answer IS NULL AND (?3 IS NULL OR agent = ?3)",
        )
        .bind(answer)
        .bind(id.to_string())
        .bind(agent)
        .execute(&self.writer)
        .await
        .map_err(failed(ANSWER))?;
        Ok(answered.rows_affected() == 1)
    }
}

async fn ask(
    db: &mut SqliteConnection,
    pipeline: &str,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<TestId, AskError> {
    let forgotten = now.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
    sqlx::query("DELETE FROM connection_test WHERE expires_at < ?")
        .bind(forgotten.as_millisecond())
        .execute(&mut *db)
        .await
        .map_err(failed(ASK))?;
    let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM connection_test WHERE answer IS NULL")
        .fetch_one(&mut *db)
        .await
        .map_err(failed(ASK))?;
    if usize::try_from(open).unwrap_or(usize::MAX) >= MAX_OPEN_TESTS {
        return Err(AskError::TooMany);
    }
    let id = TestId::new();
    let asked = sqlx::query(
        "INSERT INTO connection_test (test_id, pipeline, source, workflow_json, expires_at)
         SELECT ?, name, source, workflow_json, ? FROM pipeline WHERE name = ? AND removed = 0",
    )
    .bind(id.to_string())
    .bind(expires_at.as_millisecond())
    .bind(pipeline)
    .execute(&mut *db)
    .await
    .map_err(failed(ASK))?;
    if asked.rows_affected() == 1 {
        return Ok(id);
    }
    Err(AskError::UnknownPipeline { pipeline: pipeline.to_owned() })
}

fn test(row: &SqliteRow) -> Result<ConnectionTest, StoreError> {
    let id: &str = row.try_get("test_id").map_err(failed(LOOK))?;
    let answer: Option<&str> = column(row, "answer")?;
    Ok(ConnectionTest {
        id: TestId::from_str(id).or(Err(StoreError::Corrupt { what: "test_id" }))?,
        pipeline: column(row, "pipeline")?,
        source: column(row, "source")?,
        workflow_json: column(row, "workflow_json")?,
        expires_at: time(row, "expires_at")?,
        agent: column(row, "agent")?,
        answer: answer.map(serde_json::from_str).transpose().or(Err(StoreError::Corrupt { what: "answer" }))?,
    })
}
