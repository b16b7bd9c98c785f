//! Ids, definitions and runs, as a [`Store`](super::Store) takes and gives them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id, greater than those made before.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Its 16 bytes: the id of the run's trace, too.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for RunId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The 16 random bytes of a grant. Whoever knows them may write, so they are not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LeaseId(pub [u8; 16]);

impl LeaseId {
    /// A new id from the operating system's random source.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().into_bytes())
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseId(..)")
    }
}

/// Run, fence and lease id: what every write and renewal carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The run.
    pub run_id: RunId,
    /// The pipeline's fence at the grant.
    pub fence: u64,
    /// Of the grant.
    pub lease_id: LeaseId,
}

/// Who writes: an authenticated agent and the token that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The agent's name.
    pub agent: String,
    /// What it was granted.
    pub token: Token,
}

/// A pipeline as read from its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDefinition {
    /// Unique name.
    pub pipeline: String,
    /// The file's name.
    pub file: String,
    /// The workflow as it travels.
    pub workflow_json: String,
    /// The kind of source, lower case.
    pub source: String,
    /// `markDeletedTables`.
    pub mark_deleted: bool,
    /// When it runs.
    pub schedule: Option<ScheduleText>,
    /// Whether it may run.
    pub enabled: bool,
}

/// A schedule as written; it was parsed before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleText {
    /// Five fields or `@hourly` and its like.
    pub cron: String,
    /// IANA name.
    pub timezone: String,
}

/// A stored pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As read.
    pub new: NewDefinition,
    /// Grows with each change of the workflow.
    pub version: u64,
    /// The tick of the schedule that was handled last, or when the schedule was written.
    pub scheduled_at: Timestamp,
}

/// A file of the pipelines folder that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file's name.
    pub file: String,
    /// What is wrong with it.
    pub error: String,
}

/// What an agent thinks of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The pipeline.
    pub pipeline: String,
    /// The agent's name.
    pub agent: String,
    /// The version that this is about.
    pub version: u64,
    /// Whether the agent would run it.
    pub accepted: bool,
    /// Name from the catalogue of reasons, when rejected.
    pub reason: Option<String>,
    /// A sentence for the operator.
    pub detail: Option<String>,
    /// References that the agent could not read when the definition came.
    pub unreadable_secrets: Vec<UnreadableSecret>,
}

/// A reference of a definition that an agent could not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableSecret {
    /// The field of the definition.
    pub field: String,
    /// What it holds.
    pub reference: String,
    /// Name from the catalogue of reasons.
    pub reason: String,
    /// A sentence for the operator.
    pub detail: String,
}

/// Where a run is. Queued → granted → running → committed, failed or cancelled; an active run whose agent is lost or
/// hands it back, or that failed with a reason that may pass, is queued again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Waits for an agent.
    Queued,
    /// An agent holds the lease and has not opened its push yet.
    Granted,
    /// The agent opened its push.
    Running,
    /// Its records are current.
    Committed,
    /// It ended without a result.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl RunState {
    const ALL: [Self; 6] = [Self::Queued, Self::Granted, Self::Running, Self::Committed, Self::Failed, Self::Cancelled];

    /// The word that people and files see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Granted => "granted",
            Self::Running => "running",
            Self::Committed => "committed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether an agent holds its lease.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Granted | Self::Running)
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Failed | Self::Cancelled)
    }
}

/// One execution of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub run_id: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// Where it is.
    pub state: RunState,
    /// 0 before the first grant; then 1, and one more for each failure with a reason that may pass.
    pub attempt: u32,
    /// Whether only the schedule asked for it.
    pub scheduled: bool,
    /// Not granted before, because an attempt failed or an agent could not take it.
    pub not_before: Option<Timestamp>,
    /// Grants in a row whose agents were lost without one new durable record.
    pub lost: u32,
    /// Times in a row that it was handed back without one new durable record.
    pub handed_back: u32,
    /// Times that what was staged was dropped, because its source could not go on there.
    pub restarts: u32,
    /// Whether nothing may be skipped because it looks unchanged.
    pub full: bool,
    /// The definition's version at the last grant; 0 before.
    pub definition_version: u64,
    /// When it was asked for.
    pub queued_at: Timestamp,
    /// When it was granted first.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub ended_at: Option<Timestamp>,
    /// The agent of the last grant.
    pub agent: Option<String>,
    /// Name from the catalogue of reasons: why it failed, or went back to the queue last.
    pub reason: Option<String>,
    /// A sentence for the operator.
    pub detail: Option<String>,
    /// Whether every object in scope was read; false before the commit.
    pub complete: bool,
    /// Known from the commit on.
    pub figures: Option<Figures>,
    /// The last grant.
    pub lease: Option<Lease>,
}

/// The grant of an active run, or the last one of any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The pipeline's fence at the grant.
    pub fence: u64,
    /// Its random id.
    pub lease_id: LeaseId,
    /// Grows with each renewal. Whoever watches a lease sees that it lives when this changes.
    pub renewals: u64,
}

impl Run {
    /// A run that nobody was granted yet.
    #[must_use]
    pub fn queued(pipeline: &str, full: bool, scheduled: bool, now: Timestamp) -> Self {
        Self {
            run_id: RunId::new(),
            pipeline: pipeline.to_owned(),
            state: RunState::Queued,
            attempt: 0,
            scheduled,
            not_before: None,
            lost: 0,
            handed_back: 0,
            restarts: 0,
            full,
            definition_version: 0,
            queued_at: now,
            started_at: None,
            ended_at: None,
            agent: None,
            reason: None,
            detail: None,
            complete: false,
            figures: None,
            lease: None,
        }
    }

    /// The token of the last grant.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        let lease = self.lease.as_ref()?;
        Some(Token { run_id: self.run_id, fence: lease.fence, lease_id: lease.lease_id })
    }
}

/// A committed run in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Records of the run.
    pub count: u64,
    /// Entities current for the pipeline after it.
    pub entities: u64,
    /// Columns of their tables.
    pub columns: u64,
    /// Records that came with a body.
    pub sent: u64,
    /// Records that differed from what was committed.
    pub changed: u64,
    /// Records equal to what was committed.
    pub unchanged: u64,
    /// Entities deleted by this run.
    pub deleted: u64,
    /// What became of the deletions.
    pub deletions: Deletions,
    /// Foreign keys whose target is not among the current entities.
    pub dangling_foreign_keys: u64,
    /// As the agent counted.
    pub summary: Summary,
}

/// What the agent counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Objects in scope.
    pub objects: u64,
    /// Objects that the filters left out.
    pub filtered: u64,
    /// Objects that could not be read.
    pub failed: u64,
    /// Keys found.
    pub keys: u64,
    /// Requests made to the source.
    pub source_requests: u64,
    /// Bytes received from the source.
    pub source_bytes: u64,
    /// Requests that the source still permitted that day; `None` when it did not say.
    #[serde(default)]
    pub source_requests_left: Option<u64>,
}

/// What became of a run's deletions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletions {
    /// There was nothing to delete, or the definition says not to, or somebody rejected them.
    #[default]
    None,
    /// They were applied.
    Applied,
    /// They are more than the guard lets through and wait for an operator.
    NeedsConfirmation,
}

impl Deletions {
    /// The word that people and files see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Applied => "applied",
            Self::NeedsConfirmation => "needs_confirmation",
        }
    }
}
