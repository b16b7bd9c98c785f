//! Connection tests that somebody asks for and an agent answers: a request, who took it, and its answer.
//!
//! The first agent to take a test answers it, and the first answer stays. Nothing of it is needed for long: a test is
//! forgotten a while after its time is over.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::StoreError;

/// Tests that are not answered, at most. Each is a person who waits at a prompt.
pub const MAX_OPEN_TESTS: usize = 64;

/// A test is kept so long after its time is over, for whoever asked to read the answer.
pub const KEPT: SignedDuration = SignedDuration::from_mins(10);

/// The part of a [`Store`](super::Store) that is about connection tests.
#[async_trait]
pub trait ConnectionTests {
    /// Asks for a test of a pipeline as it is now, enabled or not, and forgets old ones.
    ///
    /// # Errors
    /// [`AskError`]
    async fn ask_test(&self, pipeline: &str, expires_at: Timestamp, now: Timestamp) -> Result<TestId, AskError>;

    /// Tests that nobody answered, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn open_tests(&self) -> Result<Vec<ConnectionTest>, StoreError>;

    /// One test.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn test(&self, id: TestId) -> Result<Option<ConnectionTest>, StoreError>;

    /// Makes a test this agent's. False: it is another one's, answered, or gone.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn take_test(&self, id: TestId, agent: &str) -> Result<bool, StoreError>;

    /// Answers a test: by the agent that took it, or, without one, by the control plane. False: it has an answer, is
    /// another agent's, or gone.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn answer_test(&self, id: TestId, agent: Option<&str>, answer: TestAnswer) -> Result<bool, StoreError>;
}

/// The id of a connection test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TestId(Uuid);

impl TestId {
    /// A new id, greater than those made before.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for TestId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for TestId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

impl fmt::Display for TestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionTest {
    /// Its id.
    pub id: TestId,
    /// Whose connection.
    pub pipeline: String,
    /// The kind of source, lower case.
    pub source: String,
    /// The workflow as it travels.
    pub workflow_json: String,
    /// Nobody waits longer.
    pub expires_at: Timestamp,
    /// Who took it.
    pub agent: Option<String>,
    /// What came of it.
    pub answer: Option<TestAnswer>,
}

/// What came of a connection test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestAnswer {
    /// The agent's steps, in the order they were taken.
    Steps(Vec<TestStep>),
    /// Nothing, and why.
    Failed(String),
}

/// One step of a connection test. Its keys are those that the commands print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestStep {
    /// OpenMetadata's name of the step where it has one.
    pub name: String,
    /// Whether the pipeline cannot work without it.
    pub mandatory: bool,
    /// Whether it succeeded.
    pub passed: bool,
    /// How it ended, in OpenMetadata's words.
    pub status: TestStatus,
    /// Why it failed, from the catalogue.
    pub reason: Option<String>,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remediation: Option<String>,
}

/// How a [`TestStep`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TestStatus {
    /// As it should.
    Passed,
    /// Not.
    Failed,
    /// Not taken, because an earlier one failed.
    Skipped,
}

/// A test cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No such pipeline.
    #[error("there is no pipeline {pipeline}")]
    UnknownPipeline {
        /// The name asked for.
        pipeline: String,
    },
    /// [`MAX_OPEN_TESTS`] wait already.
    #[error("{MAX_OPEN_TESTS} connection tests wait for their answers; try again when they have ended")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, NewDefinition, SqliteStore, Store};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    async fn defined(store: &dyn Store) {
        let new = NewDefinition {
            pipeline: "crm".to_owned(),
            file: "crm.yaml".to_owned(),
            workflow_json: "{\"source\":1}".to_owned(),
            source: "salesforce".to_owned(),
            mark_deleted: true,
            schedule: None,
            enabled: false,
        };
        store.put_definitions(vec![new], Vec::new(), at(0)).await.unwrap();
    }

    fn steps() -> TestAnswer {
        TestAnswer::Steps(vec![TestStep {
            name: "CheckAccess".to_owned(),
            mandatory: true,
            passed: false,
            status: TestStatus::Failed,
            reason: Some("AUTH_FAILED".to_owned()),
            message: "no".to_owned(),
            remediation: Some("change it".to_owned()),
        }])
    }

    async fn on_each(promise: impl AsyncFn(&dyn Store)) {
        let memory = MemoryStore::new();
        defined(&memory).await;
        promise(&memory).await;
        let folder = tempfile::tempdir().unwrap();
        let sqlite = SqliteStore::open(&folder.path().join("store.db")).await.unwrap();
        defined(&sqlite).await;
        promise(&sqlite).await;
        sqlite.close().await;
    }

    #[tokio::test]
    async fn a_test_is_taken_once_and_answered_once_by_who_took_it() {
        on_each(async |store| {
            let id = store.ask_test("crm", at(60), at(0)).await.unwrap();
            let open = store.open_tests().await.unwrap();
            assert_eq!((open.len(), open[0].id, open[0].source.as_str()), (1, id, "salesforce"));
            assert_eq!((open[0].workflow_json.as_str(), open[0].expires_at), ("{\"source\":1}", at(60)));
            assert!(!store.answer_test(id, Some("west"), steps()).await.unwrap(), "nobody took it");
            assert!(store.take_test(id, "west").await.unwrap());
            assert!(!store.take_test(id, "east").await.unwrap());
            assert!(!store.answer_test(id, Some("east"), steps()).await.unwrap());
            assert!(store.answer_test(id, Some("west"), steps()).await.unwrap());
            assert!(!store.answer_test(id, None, TestAnswer::Failed("late".to_owned())).await.unwrap());
            let test = store.test(id).await.unwrap().unwrap();
            assert_eq!((test.agent.as_deref(), test.answer), (Some("west"), Some(steps())));
            assert!(store.open_tests().await.unwrap().is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn the_control_plane_may_answer_what_nobody_took_and_nobody_takes_it_then() {
        on_each(async |store| {
            let id = store.ask_test("crm", at(60), at(0)).await.unwrap();
            let failed = TestAnswer::Failed("no agent".to_owned());
            assert!(store.answer_test(id, None, failed.clone()).await.unwrap());
            assert!(!store.take_test(id, "west").await.unwrap());
            assert_eq!(store.test(id).await.unwrap().unwrap().answer, Some(failed));
        })
        .await;
    }

    #[tokio::test]
    async fn unknown_pipelines_and_too_many_tests_are_refused_and_old_ones_forgotten() {
        on_each(async |store| {
            let unknown = store.ask_test("none", at(60), at(0)).await.unwrap_err();
            assert!(matches!(unknown, AskError::UnknownPipeline { .. }), "{unknown}");
            let mut first = None;
            for _ in 0..MAX_OPEN_TESTS {
                let id = store.ask_test("crm", at(60), at(0)).await.unwrap();
                first.get_or_insert(id);
            }
            assert!(matches!(store.ask_test("crm", at(60), at(0)).await.unwrap_err(), AskError::TooMany));
            let kept = at(60).checked_add(KEPT).unwrap();
            assert!(matches!(store.ask_test("crm", kept, kept).await.unwrap_err(), AskError::TooMany));
            let later = kept.checked_add(SignedDuration::from_secs(1)).unwrap();
            store.ask_test("crm", later, later).await.unwrap();
            assert_eq!(store.test(first.unwrap()).await.unwrap(), None);
        })
        .await;
    }
}
