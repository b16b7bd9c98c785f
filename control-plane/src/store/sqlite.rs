//! The store in one SQLite file, the default of a control plane on one machine.
//!
//! WAL with `synchronous=FULL`: a transaction that returned survives the loss of power. One connection writes, because
//! SQLite knows one writer at a time and waiting in the pool is fairer than in its busy handler; a few others read. Other
//! processes (`control-plane run`, `deletions confirm`) write to the same file through their own connection.

mod commit;
mod connection_tests;
mod definitions;
mod dropped;
mod look;
mod packed;
mod push;
mod rows;
mod runs;
mod transitions;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite, SqlitePool, Transaction};

use super::{
    Applied, BaselineEntry, Batch, Definition, Ending, EnqueueError, EntityBody, EntityRow, Eof, Event, Failure, Fault,
    Figures, Granted, Hold, Lease, Listed, NewDefinition, Opened, PendingDeletions, Run, RunId, RunState, Store,
    StoreError, Token, Verdict, WriteError, Writer,
};

/// How long a transaction waits for one of another process. Theirs are a few rows.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that read: look-ups of sessions, pages of baselines and exports. More would wait for two cores.
const READERS: u32 = 4;

/// Several bodies fit in a page as they are stored, and a large one goes over few. Measured when bodies were not compressed
/// yet: with 8 KiB half as much again was written. A file keeps the size that it was made with.
const PAGE_SIZE: u32 = 16 * 1024;

/// Pages of the write-ahead log after which SQLite copies them into the database, within some transaction: 32 MiB, so that
/// a run of 1,000 tables does not wait for that copy in its midst.
const CHECKPOINT_PAGES: &str = "2048";

// Result codes of SQLite: https://sqlite.org/rescode.html
const SQLITE_READONLY: u32 = 8;
const SQLITE_IOERR: u32 = 10;
const SQLITE_FULL: u32 = 13;
const SQLITE_CANTOPEN: u32 = 14;

/// The schema, a file a version, in order.
const MIGRATIONS: [&str; 8] = [
    include_str!("../../migrations/0001_initial.sql"),
    include_str!("../../migrations/0002_memos.sql"),
    include_str!("../../migrations/0003_connection_test.sql"),
    include_str!("../../migrations/0004_unreadable_secrets.sql"),
    include_str!("../../migrations/0005_resume.sql"),
    include_str!("../../migrations/0006_run_log.sql"),
    include_str!("../../migrations/0007_staging.sql"),
    include_str!("../../migrations/0008_packed_bodies.sql"),
];

/// A [`Store`] in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: SqlitePool,
    reader: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it when it is absent, and brings its schema up to this version's.
    ///
    /// # Errors
    /// [`StoreError::Schema`] for a file of a newer version, [`StoreError::Database`] for one that cannot be opened.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::connect(path, true).await
    }

    /// As [`SqliteStore::open`], for a file that must be there.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        Self::connect(path, false).await
    }

    async fn connect(path: &Path, create: bool) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .page_size(PAGE_SIZE)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            // What a statement needs to be taken back would go to a file in /tmp otherwise: the image has none, and a root
            // file system that is read-only would not take it (SQLITE_IOERR_GETTEMPPATH).
            .pragma("temp_store", "MEMORY")
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        // A write that finds the disk full ends its transaction by itself, and the driver counts it as open for ever:
        // such a connection is left for another one.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(std::future::ready(Ok(!connection.is_in_transaction()))))
            .connect_with(options.clone())
            .await;
        let writer = writer.map_err(failed("open the file"))?;
        migrate(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(options.read_only(true));
        Ok(Self { path: path.to_owned(), writer, reader })
    }

    /// Ends all connections. The store fails from now on.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a transaction"))
    }
}

/// Wraps an error of the database with what was tried.
fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match error {
        sqlx::Error::PoolClosed => StoreError::Closed,
        error => match primary_code(&error) {
            Some(SQLITE_FULL) => StoreError::Full { action, source: Box::new(error) },
            Some(SQLITE_READONLY | SQLITE_IOERR | SQLITE_CANTOPEN) => {
                StoreError::Unusable { action, source: Box::new(error) }
            }
            _ => StoreError::Database { action, source: Box::new(error) },
        },
    }
}

/// SQLite's primary result code; extended ones have more bits above.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let mut connection = pool.acquire().await.map_err(failed("open the file"))?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a transaction"))?;
    let table = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)";
    sqlx::query(table).execute(&mut *transaction).await.map_err(failed("read the schema version"))?;
    let found: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM schema_version")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed("read the schema version"))?;
    if found > known {
        return Err(StoreError::Schema { found, known });
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        sqlx::raw_sql(migration).execute(&mut *transaction).await.map_err(failed("change the schema"))?;
        sqlx::query("INSERT INTO schema_version (version) VALUES (?)")
            .bind(version)
            .execute(&mut *transaction)
            .await
            .map_err(failed("change the schema"))?;
    }
    transaction.commit().await.map_err(failed("change the schema"))
}

/// Runs a body in a writing transaction and commits it when it ends well. Dropping the future rolls back.
macro_rules! transaction {
    ($store:expr, $action:literal, |$connection:ident| $body:expr) => {{
        let mut transaction = $store.begin().await?;
        let $connection = &mut *transaction;
        let done = $body.await?;
        transaction.commit().await.map_err(failed($action))?;
        Ok(done)
    }};
}

/// Runs a body on a connection that reads.
macro_rules! reading {
    ($store:expr, |$connection:ident| $body:expr) => {{
        let mut reader = $store.reader.acquire().await.map_err(failed("open a connection"))?;
        let $connection = &mut *reader;
        $body.await
    }};
}

#[async_trait]
impl Store for SqliteStore {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    async fn put_definitions(
        &self,
        definitions: Vec<NewDefinition>,
        faults: Vec<Fault>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        transaction!(self, "write definitions", |db| definitions::put(db, &definitions, &faults, now))
    }

    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        reading!(self, |db| definitions::all(db))
    }

    async fn faults(&self) -> Result<Vec<Fault>, StoreError> {
        reading!(self, |db| definitions::faults(db))
    }

    async fn put_verdict(&self, verdict: Verdict) -> Result<(), StoreError> {
        transaction!(self, "write a definition's status", |db| definitions::put_verdict(db, &verdict))
    }

    async fn verdicts(&self) -> Result<Vec<Verdict>, StoreError> {
        reading!(self, |db| definitions::verdicts(db))
    }

    async fn enqueue(&self, pipeline: &str, full: bool, now: Timestamp) -> Result<RunId, EnqueueError> {
        transaction!(self, "queue a run", |db| runs::enqueue(db, pipeline, full, now))
    }

    async fn enqueue_scheduled(
        &self,
        pipeline: &str,
        seen: Timestamp,
        now: Timestamp,
    ) -> Result<Option<RunId>, StoreError> {
        transaction!(self, "queue a run", |db| runs::enqueue_scheduled(db, pipeline, seen, now))
    }

    async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        reading!(self, |db| look::holds(db))
    }

    async fn runs(&self, pipeline: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError> {
        reading!(self, |db| runs::newest(db, pipeline, limit))
    }

    async fn open_runs(&self) -> Result<Vec<Run>, StoreError> {
        reading!(self, |db| runs::open(db))
    }

    async fn run(&self, run_id: RunId) -> Result<Option<Run>, StoreError> {
        reading!(self, |db| runs::one(db, run_id))
    }

    async fn grant(
        &self,
        run_id: RunId,
        definition_version: u64,
        agent: &str,
        listed: Listed,
        now: Timestamp,
    ) -> Result<Option<Granted>, StoreError> {
        transaction!(self, "grant a run", |db| transitions::grant(db, run_id, definition_version, agent, listed, now))
    }

    async fn renew(&self, agent: &str, tokens: &[Token]) -> Result<Vec<RunId>, StoreError> {
        transaction!(self, "renew leases", |db| runs::renew(db, agent, tokens))
    }

    async fn release(
        &self,
        writer: &Writer,
        ending: Ending,
        reason: &str,
        detail: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        transaction!(self, "release a lease", |db| transitions::release(db, writer, ending, reason, detail, now))
    }

    async fn cancel(&self, run_id: RunId, now: Timestamp) -> Result<Option<RunState>, StoreError> {
        transaction!(self, "cancel a run", |db| transitions::cancel(db, run_id, now))
    }

    async fn expire(
        &self,
        run_id: RunId,
        lease: &Lease,
        ending: Ending,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        transaction!(self, "end a lease", |db| transitions::expire(db, run_id, lease, ending, reason, now))
    }

    async fn open(&self, writer: &Writer) -> Result<Opened, WriteError> {
        transaction!(self, "open a push", |db| push::open(db, writer))
    }

    async fn baseline(
        &self,
        pipeline: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<BaselineEntry>, StoreError> {
        reading!(self, |db| look::baseline(db, pipeline, after, limit))
    }

    async fn apply(&self, writer: &Writer, batch: &Batch) -> Result<Applied, WriteError> {
        // Before the transaction, which nobody else can write in.
        let bodies = packed::pack(&batch.records)?;
        transaction!(self, "write a batch", |db| push::apply(db, writer, batch, &bodies))
    }

    async fn commit(&self, writer: &Writer, eof: &Eof, now: Timestamp) -> Result<Figures, WriteError> {
        transaction!(self, "commit a run", |db| commit::commit(db, writer, eof, now))
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        // The writing connection is asked for only where there is something to do.
        if !reading!(self, |db| dropped::is_any(db))? {
            return Ok(false);
        }
        transaction!(self, "drop what was staged", |db| dropped::sweep(db))
    }

    async fn add_event(&self, writer: &Writer, event: Event) -> Result<(), StoreError> {
        transaction!(self, "write an event", |db| push::add_event(db, writer, &event))
    }

    async fn events(&self, run_id: RunId) -> Result<Vec<Event>, StoreError> {
        reading!(self, |db| look::events(db, run_id))
    }

    async fn failures(&self, run_id: RunId) -> Result<Vec<Failure>, StoreError> {
        reading!(self, |db| look::failures(db, run_id))
    }

    async fn entities(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityRow>, StoreError> {
        reading!(self, |db| look::entities(db, pipeline, after, limit))
    }

    async fn bodies(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityBody>, StoreError> {
        reading!(self, |db| look::bodies(db, pipeline, after, limit))
    }

    async fn pending_deletions(&self) -> Result<Vec<PendingDeletions>, StoreError> {
        reading!(self, |db| look::pending_deletions(db))
    }

    async fn decide_deletions(&self, run_id: RunId, apply: bool) -> Result<Option<u64>, StoreError> {
        transaction!(self, "decide deletions", |db| commit::decide_deletions(db, run_id, apply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_connection_asks_for_a_folder_of_temporary_files() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = SqliteStore::open(&folder.path().join("control-plane.db")).await.unwrap();
        for pool in [&store.writer, &store.reader] {
            // 2 is MEMORY.
            let kind: i64 = sqlx::query_scalar("PRAGMA temp_store").fetch_one(pool).await.unwrap();
            assert_eq!(kind, 2);
        }
        store.close().await;
    }
}
