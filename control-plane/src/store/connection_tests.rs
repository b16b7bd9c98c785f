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
