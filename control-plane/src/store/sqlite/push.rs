//! What agents write before the commit.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use super::rows::{column, flag, hash, list_text, number, signed};
use super::{failed, runs};
use crate::digest::Hash;
use crate::store::rules::{self, BatchContext, BatchPlan, Head, Standing};
use crate::store::{
    Applied, Batch, Event, Listed, MAX_EVENTS, Opened, Record, Refusal, Run, StoreError, WriteError, Writer,
};

const WRITE: &str = "write a batch";

/// Rows of a statement that inserts, the most first. Each number is a text that is parsed once and kept: with a text for
/// each size of batch, a fifth of the store's work was parsing.
const ROWS: [usize; 3] = [64, 8, 1];

/// What a run has staged.
pub(super) struct Staged {
    pub(super) run: Run,
    /// The name under which it stages.
    pub(super) staging: String,
    pub(super) standing: Standing,
    pub(super) fence: Option<u64>,
    pub(super) next_seq: u64,
    pub(super) digest: Hash,
    pub(super) source_position: Bytes,
    listed: Listed,
}

/// Checks the writer and reads what its run has staged.
pub(super) async fn staged(db: &mut SqliteConnection, writer: &Writer) -> Result<Staged, WriteError> {
    let (standing, run) = runs::standing(db, writer).await??;
    let row = sqlx::query(
        "SELECT staging, staged_fence, next_seq, digest, source_position, memos, resume FROM run WHERE run_id = ?",
    )
    .bind(run.run_id.to_string())
    .fetch_one(&mut *db)
    .await
    .map_err(failed("read a run"))?;
    let fence: Option<i64> = column(&row, "staged_fence")?;
    Ok(Staged {
        run,
        staging: column(&row, "staging")?,
        standing,
        fence: fence.and_then(|fence| u64::try_from(fence).ok()),
        next_seq: number(&row, "next_seq")?,
        digest: hash(&row, "digest")?,
        source_position: column::<Vec<u8>>(&row, "source_position")?.into(),
        listed: Listed { memos: flag(&row, "memos")?, resume: flag(&row, "resume")? },
    })
}

impl Staged {
    /// This, if the writer's grant holds the lease and opened its push.
    pub(super) fn open(self, writer: &Writer) -> Result<Self, Refusal> {
        let open = self.standing == Standing::Current && self.fence == Some(writer.token.fence);
        if open { Ok(self) } else { Err(Refusal::NotOpen) }
    }
}

pub(super) async fn open(db: &mut SqliteConnection, writer: &Writer) -> Result<Opened, WriteError> {
    const OPEN: &str = "open a push";
    let staged = staged(db, writer).await?;
    let run_id = staged.run.run_id.to_string();
    if staged.standing == Standing::Current {
        sqlx::query("UPDATE run SET state = 'running', staged_fence = ? WHERE run_id = ?")
            .bind(signed(writer.token.fence))
            .bind(&run_id)
            .execute(&mut *db)
            .await
            .map_err(failed(OPEN))?;
    }
    let baseline = sqlx::query("SELECT EXISTS (SELECT 1 FROM entity WHERE pipeline = ?)")
        .bind(&staged.run.pipeline)
        .fetch_one(&mut *db)
        .await
        .map_err(failed(OPEN))?;
    Ok(Opened {
        pipeline: staged.run.pipeline,
        next_seq: staged.next_seq,
        digest: staged.digest,
        source_position: staged.source_position,
        has_baseline: baseline.try_get(0).map_err(failed(OPEN))?,
        listed: staged.listed,
    })
}

/// Stages a batch, with its bodies as [`super::packed`] made them.
pub(super) async fn apply(
    db: &mut SqliteConnection,
    writer: &Writer,
    batch: &Batch,
    bodies: &[Option<Vec<u8>>],
) -> Result<Applied, WriteError> {
    let staged = staged(db, writer).await?.open(writer)?;
    let context = batch_context(db, &staged, &batch.records).await?;
    match rules::plan_batch(&context, &batch.records)? {
        BatchPlan::BodyNeeded(seqs) => Ok(Applied::BodyNeeded { seqs }),
        BatchPlan::Known => Ok(Applied::Durable { next_seq: staged.next_seq }),
        BatchPlan::Stage { from, next_seq, digest } => {
            let rows: Vec<_> = batch.records.iter().zip(bodies).skip(from).collect();
            insert_all(db, &staged.staging, &rows).await?;
            sqlx::query(
                "UPDATE run SET next_seq = ?, digest = ?, source_position = ?, lost = 0, handed_back = 0 WHERE run_id = ?",
            )
            .bind(signed(next_seq))
            .bind(digest.as_slice())
            .bind(batch.source_position.as_ref())
            .bind(staged.run.run_id.to_string())
            .execute(&mut *db)
            .await
            .map_err(failed(WRITE))?;
            Ok(Applied::Durable { next_seq })
        }
    }
}

async fn batch_context(
    db: &mut SqliteConnection,
    staged: &Staged,
    records: &[Record],
) -> Result<BatchContext, StoreError> {
    let first = records.first().map_or(0, |record| record.seq);
    let mut context = BatchContext {
        next_seq: staged.next_seq,
        digest: staged.digest,
        full: staged.run.full,
        staged: BTreeMap::new(),
        names: BTreeSet::new(),
        committed: BTreeMap::new(),
    };
    if first < staged.next_seq {
        let known = sqlx::query("SELECT seq, kind, fqn, content_hash FROM record WHERE staging = ? AND seq >= ?")
            .bind(&staged.staging)
            .bind(signed(first))
            .fetch_all(&mut *db)
            .await
            .map_err(failed(WRITE))?;
        for row in &known {
            context.staged.insert(number(row, "seq")?, head(row)?);
        }
    }
    let names = sqlx::query("SELECT fqn FROM record WHERE staging = ? AND fqn IN (SELECT value FROM json_each(?))")
        .bind(&staged.staging)
        .bind(fqns(records.iter()))
        .fetch_all(&mut *db)
        .await
        .map_err(failed(WRITE))?;
    for row in &names {
        context.names.insert(column(row, "fqn")?);
    }
    // Nothing else is compared with what is committed.
    let unchanged: Vec<&Record> = records.iter().filter(|record| record.content.is_none()).collect();
    if !unchanged.is_empty() {
        let committed = sqlx::query(
            "SELECT fqn, kind, content_hash FROM entity WHERE pipeline = ? AND fqn IN (SELECT value FROM json_each(?))",
        )
        .bind(staged.run.pipeline.as_str())
        .bind(fqns(unchanged.into_iter()))
        .fetch_all(&mut *db)
        .await
        .map_err(failed(WRITE))?;
        for row in &committed {
            context.committed.insert(column(row, "fqn")?, head(row)?);
        }
    }
    Ok(context)
}

/// FQNs as JSON: one variable, whatever their number, so that the statement's text is always the same.
fn fqns<'a>(records: impl Iterator<Item = &'a Record>) -> String {
    records.map(|record| record.fqn.as_str()).collect::<serde_json::Value>().to_string()
}

fn head(row: &SqliteRow) -> Result<Head, StoreError> {
    Ok(Head { kind: column(row, "kind")?, fqn: column(row, "fqn")?, content_hash: hash(row, "content_hash")? })
}

/// A record, and its body as it is stored.
type Row<'a> = (&'a Record, &'a Option<Vec<u8>>);

async fn insert_all(db: &mut SqliteConnection, staging: &str, records: &[Row<'_>]) -> Result<(), StoreError> {
    let mut rest = records;
    for rows in ROWS {
        let blocks = rest.chunks_exact(rows);
        rest = blocks.remainder();
        for block in blocks {
            insert(db, staging, block).await?;
        }
    }
    Ok(())
}

async fn insert(db: &mut SqliteConnection, staging: &str, records: &[Row<'_>]) -> Result<(), StoreError> {
    let mut insert = QueryBuilder::new(
        "INSERT INTO record (staging, seq, kind, fqn, content_hash, column_count, foreign_keys, memo, has_body, body) ",
    );
    insert.push_values(records, |mut row, (record, body)| {
        let content = record.content.as_ref();
        row.push_bind(staging)
            .push_bind(signed(record.seq))
            .push_bind(record.kind.as_str())
            .push_bind(record.fqn.as_str())
            .push_bind(record.content_hash.as_slice())
            .push_bind(signed(content.map_or(0, |content| content.columns)))
            .push_bind(list_text(content.map_or(&[], |content| &content.foreign_keys)))
            .push_bind(record.memo.as_ref())
            .push_bind(content.is_some())
            .push_bind(body.as_deref());
    });
    insert.build().execute(&mut *db).await.map_err(failed(WRITE))?;
    Ok(())
}

pub(super) async fn add_event(db: &mut SqliteConnection, writer: &Writer, event: &Event) -> Result<(), StoreError> {
    const EVENT: &str = "write an event";
    if !matches!(runs::standing(db, writer).await?, Ok((Standing::Current, _))) {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO event (run_id, number, at, severity, code, text)
         SELECT ?1, count(*), ?2, ?3, ?4, ?5 FROM event WHERE run_id = ?1 HAVING count(*) < ?6",
    )
    .bind(writer.token.run_id.to_string())
    .bind(event.at.as_millisecond())
    .bind(&event.severity)
    .bind(&event.code)
    .bind(&event.text)
    .bind(signed(MAX_EVENTS))
    .execute(&mut *db)
    .await
    .map_err(failed(EVENT))?;
    Ok(())
}
