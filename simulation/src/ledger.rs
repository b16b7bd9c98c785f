//! The oracle: what was promised, kept outside of the system under test.
//!
//! It is told of each transaction of the control plane's store, after it was done, and of what sources emitted. It
//! checks, by the ids of docs/guarantees.md:
//!
//! - I1, I2, I3: after a commit the pipeline's entities are exactly those that the definition's source yields.
//! - I4: what is applied or committed is so under the last grant of its pipeline, and fences grow.
//! - I5: an ack covers exactly what was applied, and a push goes on exactly there, or clean.
//! - I7: the same seq never has other content.
//! - I8: a run that is incomplete deletes nothing.
//! - I9: no source is further ahead of what is durable than the window.
//!
//! A crash of the control plane changes nothing here; a restore of an older copy takes back what the copy does not have.

mod checks;
mod trace;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use control_plane::digest::Hash;
use control_plane::store::{Deletions, EntityBody, Eof, Figures, Granted, Opened, Record, Run, RunId, RunState, Token};

use crate::clocks;
use crate::org::{Org, Truth};
pub(crate) use trace::Trace;

/// Refusals and reasons that nothing in a simulation can justify: somebody broke the protocol or lost count.
const NEVER: [&str; 8] = [
    "PROTOCOL_VIOLATION",
    "OUT_OF_ORDER",
    "RECORD_CHANGED",
    "DIGEST_MISMATCH",
    "HASH_MISMATCH",
    "INTERNAL",
    "LIMIT_EXCEEDED",
    "SECRET_IN_OUTPUT",
];

/// Reasons that pass: such a run is tried again, so often in all.
const PASSES: [&str; 4] = ["SOURCE_UNREACHABLE", "SOURCE_PROTOCOL", "SOURCE_THROTTLED", "SECRET_STORE_UNREACHABLE"];
const MAX_ATTEMPTS: u32 = 3;

/// A reason that holds its pipeline, and for how long at least: fifteen minutes at the pace of the simulation, less the
/// jitter.
const HOLDS: &str = "AUTH_FAILED";
const HELD: Duration = Duration::from_secs(12);

/// So many agents are lost in a row, without a new durable record, before a run fails for it.
const MAX_LOST: u32 = 5;

/// Counted when the control plane's wall clock was set.
pub(crate) const WALL_SET: &str = "the control plane's wall clock was set";

/// Counted when a copy of the disk was put in its place.
const RESTORED: &str = "an older copy of the disk was restored";

/// What a source may be ahead of what is durable: the window of 4 MiB, the emission that waits and the one that did not
/// fit, each of four bodies of at most 700 KiB, and the batch that is being written.
const MAX_AHEAD: usize = 4 * 1024 * 1024 + 2 * 4 * 700 * 1024 + 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    org: Arc<Org>,
    /// What happened, for the comparison of two runs of a seed.
    pub(crate) trace: Trace,
    /// What cannot be.
    pub(crate) violations: Vec<String>,
    /// How many runs were committed.
    pub(crate) commits: u64,
    /// How often what took place.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    grants: HashMap<[u8; 16], Grant>,
    books: Books,
    /// The most records of a run that ever were durable, in whatever copy of the disk.
    most: HashMap<String, u64>,
}

/// What a backup has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    pipelines: BTreeMap<String, Pipeline>,
    runs: BTreeMap<RunId, Staged>,
}

#[derive(Debug, Clone, Default)]
struct Pipeline {
    fence: u64,
    current: Option<[u8; 16]>,
    committed: Truth,
    /// When a run failed with a reason that holds the pipeline, and under which version of its definition.
    held: Option<(Duration, u64)>,
    /// Of the runs that committed: their last writer.
    ended: BTreeMap<[u8; 16], Figures>,
}

/// A grant as it was made. Its lease id is random: it is the same in no other history.
#[derive(Debug, Clone)]
struct Grant {
    run_id: RunId,
    pipeline: String,
    agent: String,
    fence: u64,
    variant: u32,
}

/// The records of a run that are durable.
#[derive(Debug, Clone, Default)]
struct Staged {
    records: Vec<(String, Hash)>,
    /// Of their bodies, those that did not travel included.
    bytes: usize,
    /// Under which they were staged: the definition's version, and whether everything was read.
    version: u64,
    full: bool,
    /// Whether the source could not go on after them.
    is_unusable: bool,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub(crate) fn new(org: Arc<Org>, is_loud: bool) -> Self {
        Self {
            org,
            trace: Trace::new(is_loud),
            violations: Vec::new(),
            commits: 0,
            counts: BTreeMap::new(),
            grants: HashMap::new(),
            books: Books::default(),
            most: HashMap::new(),
        }
    }

    /// What a backup made now has.
    #[must_use]
    pub(crate) fn backup(&self) -> Books {
        self.books.clone()
    }

    /// The control plane goes on with a backup.
    pub(crate) fn restore(&mut self, books: Books) {
        self.trace.write("restored", "", 0);
        self.count(RESTORED);
        self.books = books;
    }

    /// Whether a copy of the disk was ever put in its place.
    #[must_use]
    pub(crate) fn was_restored(&self) -> bool {
        self.counts.contains_key(RESTORED)
    }

    /// Counts that something took place.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The agent that holds this pipeline's lease.
    #[must_use]
    pub(crate) fn holder(&self, pipeline: &str) -> Option<&str> {
        let lease = self.books.pipelines.get(pipeline)?.current?;
        Some(self.grants.get(&lease)?.agent.as_str())
    }

    /// Whether an agent holds a lease.
    #[must_use]
    pub(crate) fn is_busy(&self, agent: &str) -> bool {
        self.books.pipelines.keys().any(|pipeline| self.holder(pipeline) == Some(agent))
    }

    /// Whether any run has staged records.
    #[must_use]
    pub(crate) fn has_staged(&self) -> bool {
        let current = self.books.pipelines.values().filter_map(|pipeline| self.grants.get(&pipeline.current?));
        current.into_iter().any(|grant| self.books.runs.get(&grant.run_id).is_some_and(|run| !run.records.is_empty()))
    }

    /// The most records of a run that ever were durable.
    #[must_use]
    pub(crate) fn most_durable(&self, run_id: &str) -> u64 {
        self.most.get(run_id).copied().unwrap_or_default()
    }

    /// What is committed of a pipeline.
    #[must_use]
    pub(crate) fn committed(&self, pipeline: &str) -> Truth {
        self.books.pipelines.get(pipeline).map(|books| books.committed.clone()).unwrap_or_default()
    }

    /// A run was granted, under a definition of this variant.
    pub(crate) fn granted(&mut self, granted: &Granted, agent: &str, variant: u32) {
        let Granted { token, pipeline, .. } = granted;
        self.trace.write("granted", &format!("{pipeline} {agent}"), token.fence);
        let books = self.books.pipelines.entry(pipeline.clone()).or_default();
        let (is_free, is_newer) = (books.current.is_none(), token.fence > books.fence);
        books.fence = token.fence;
        books.current = Some(token.lease_id.0);
        self.demand(is_free, || format!("I4: {pipeline} was granted to {agent} while another writer has it"));
        self.demand(is_newer, || format!("I4: the fence of {pipeline} did not grow at {}", token.fence));
        let grant = Grant {
            run_id: token.run_id,
            pipeline: pipeline.clone(),
            agent: agent.to_owned(),
            fence: token.fence,
            variant,
        };
        self.grants.insert(token.lease_id.0, grant);
        self.goes_on(granted);
    }

    /// A run that only the schedule asked for was granted: its pipeline is not held.
    pub(crate) fn granted_by_schedule(&mut self, granted: &Granted) {
        let held = self.books.pipelines.get(&granted.pipeline).and_then(|books| books.held);
        let is_held = held.is_some_and(|(since, version)| {
            version == granted.definition_version && clocks::elapsed().saturating_sub(since) < HELD
        });
        // Its time is the wall clock's, which somebody may have set.
        let is_known = !self.counts.contains_key(WALL_SET);
        self.demand(!(is_held && is_known), || format!("{} is held, and its schedule had a run", granted.pipeline));
    }

    /// An operator asked for a run: nothing is held any more.
    pub(crate) fn triggered(&mut self, pipeline: &str) {
        self.books.pipelines.entry(pipeline.to_owned()).or_default().held = None;
    }

    /// A grant goes on after what is durable; clean only for a reason.
    fn goes_on(&mut self, granted: &Granted) {
        let Granted { token, pipeline, definition_version, full, .. } = granted;
        let staged = self.books.runs.entry(token.run_id).or_default();
        let durable = staged.records.len() as u64;
        let may_be_dropped = staged.version != *definition_version || staged.full != *full || staged.is_unusable;
        let from = granted.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.next_seq);
        if from == 0 && may_be_dropped {
            *staged = Staged::default();
        }
        (staged.version, staged.full) = (*definition_version, *full);
        self.demand(from == durable || (from == 0 && may_be_dropped), || {
            format!("I1: a run of {pipeline} goes on at {from}, and {durable} records are durable")
        });
        if durable > 0 {
            self.count(if from > 0 { "a run went on from its checkpoint" } else { "a run began again clean" });
        }
    }

    /// The lease of a run ended without a commit, and this is the run now.
    pub(crate) fn ended(&mut self, run: &Run, how: &str, reason: &str) {
        let Run { run_id, pipeline, state, attempt, .. } = run;
        self.trace.write(how, &format!("{pipeline} {reason} {}", state.as_str()), u64::from(*attempt));
        self.demand(!NEVER.contains(&reason), || format!("{pipeline}: a run ended for {reason}"));
        let is_early = *state == RunState::Failed
            && match reason {
                "AGENT_LOST" => run.lost < MAX_LOST,
                _ => PASSES.contains(&reason) && *attempt < MAX_ATTEMPTS,
            };
        self.demand(!is_early, || format!("{pipeline}: a run failed for {reason} at attempt {attempt}"));
        if reason == "CHECKPOINT_UNUSABLE" {
            self.books.runs.entry(*run_id).or_default().is_unusable = true;
        }
        if reason == HOLDS && *state == RunState::Failed {
            self.count("a pipeline was held");
            let held = (clocks::elapsed(), run.definition_version);
            self.books.pipelines.entry(pipeline.clone()).or_default().held = Some(held);
        }
        if reason == "DRAINING" {
            self.count("a run was handed back by an agent that stops");
        }
        if state.is_final() {
            self.books.runs.remove(run_id);
        } else if PASSES.contains(&reason) {
            self.count("a run was tried again after a pause");
        }
        let grants = &self.grants;
        if let Some(books) = self.books.pipelines.get_mut(pipeline) {
            books.current.take_if(|lease| grants.get(lease).is_some_and(|grant| grant.run_id == *run_id));
        }
    }

    /// Definitions were replaced, and these runs are still open: the others have no writer any more.
    pub(crate) fn removed(&mut self, open: &[Run]) {
        for books in self.books.pipelines.values_mut() {
            let grant = books.current.and_then(|lease| self.grants.get(&lease));
            if grant.is_some_and(|grant| !open.iter().any(|run| run.run_id == grant.run_id)) {
                books.current = None;
            }
        }
    }

    /// A push was opened.
    pub(crate) fn opened(&mut self, token: &Token, opened: &Opened) {
        let books = self.books.pipelines.get(&opened.pipeline);
        if books.is_some_and(|books| books.ended.contains_key(&token.lease_id.0)) {
            // Its run is committed, and it did not hear of it.
            return self.count("a commit was asked for again");
        }
        if !self.check_writer(token, "opened") {
            return;
        }
        let durable = self.books.runs.get(&token.run_id).map_or(0, |run| run.records.len() as u64);
        let Opened { pipeline, next_seq, .. } = opened;
        self.trace.write("opened", pipeline, *next_seq);
        self.demand(*next_seq == durable, || {
            format!("I5: a push of {pipeline} goes on at {next_seq}, and {durable} records are durable")
        });
    }

    /// A batch was applied.
    pub(crate) fn applied(&mut self, token: &Token, records: &[Record], next_seq: u64) {
        if !self.check_writer(token, "applied") {
            return;
        }
        let Some(grant) = self.grants.get(&token.lease_id.0).cloned() else { return };
        self.trace.write("applied", &grant.pipeline, next_seq);
        let wrong = checks::batch(&self.org, &grant, self.books.runs.entry(token.run_id).or_default(), records);
        self.violations.extend(wrong);
        let durable = self.books.runs.get(&token.run_id).map_or(0, |run| run.records.len() as u64);
        let most = self.most.entry(token.run_id.to_string()).or_default();
        *most = durable.max(*most);
        self.demand(next_seq == durable, || {
            format!("I5: {} was acknowledged up to {next_seq}, and {durable} records are durable", grant.pipeline)
        });
    }

    /// A run was committed, and these are the pipeline's entities now.
    pub(crate) fn committed_run(&mut self, token: &Token, eof: &Eof, figures: &Figures, now: &[EntityBody]) {
        let Some(grant) = self.grants.get(&token.lease_id.0).cloned() else {
            return self.violations.push("I4: a writer without a grant committed".to_owned());
        };
        let pipeline = grant.pipeline.clone();
        let books = self.books.pipelines.entry(pipeline.clone()).or_default();
        if let Some(before) = books.ended.get(&token.lease_id.0) {
            let is_same = before == figures;
            self.count("a commit was asked for again");
            return self.demand(is_same, || format!("I3: the second answer to a commit of {pipeline} is another one"));
        }
        if !self.check_writer(token, "committed") {
            return;
        }
        self.trace.write("committed", &pipeline, eof.count);
        self.commits += 1;
        let staged = self.books.runs.remove(&token.run_id).unwrap_or_default();
        let books = self.books.pipelines.entry(pipeline).or_default();
        let before = std::mem::take(&mut books.committed);
        let now: Truth = now.iter().map(|entity| (entity.row.fqn.clone(), blake3::hash(&entity.body).into())).collect();
        let waits = figures.deletions == Deletions::NeedsConfirmation;
        let wrong = checks::commit(&self.org, &grant, &staged, eof, &before, &now, waits);
        books.committed = now;
        books.current = None;
        books.held = None;
        books.ended.insert(token.lease_id.0, *figures);
        self.violations.extend(wrong);
        self.count(if eof.complete { "a run was committed" } else { "an incomplete run was committed" });
        if figures.deleted > 0 {
            self.count("a run deleted");
        }
        if figures.unchanged > 0 {
            self.count("a run found something unchanged");
        }
    }

    /// The store refused a write.
    pub(crate) fn refused(&mut self, what: &'static str, reason: &str) {
        self.trace.write("refused", &format!("{what} {reason}"), 0);
        self.demand(!NEVER.contains(&reason), || format!("the store refused a write: {reason}"));
        self.count("a stale write was refused");
    }

    /// A source handed over so many bytes since it began to read.
    pub(crate) fn emitted(&mut self, agent: &str, pipeline: &str, bytes: usize) {
        let Some(grant) = self.books.pipelines.get(pipeline).and_then(|books| self.grants.get(&books.current?)) else {
            return;
        };
        // A reader that lost its lease, or went on from a checkpoint, counts otherwise; it is never ahead of this.
        let durable = self.books.runs.get(&grant.run_id).map_or(0, |run| run.bytes);
        let is_bounded = grant.agent != agent || bytes <= durable + MAX_AHEAD;
        self.demand(is_bounded, || format!("I9: {agent} read {bytes} bytes of {pipeline}, {durable} of them durable"));
    }

    /// Notes a violation unless it holds.
    pub(crate) fn demand(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            let otherwise = otherwise();
            self.trace.write("VIOLATION", &otherwise, 0);
            self.violations.push(otherwise);
        }
    }

    /// Whether the token is that of the pipeline's current grant.
    fn check_writer(&mut self, token: &Token, what: &str) -> bool {
        let grant = self.grants.get(&token.lease_id.0);
        let current = grant.and_then(|grant| self.books.pipelines.get(&grant.pipeline)?.current);
        let holds = current == Some(token.lease_id.0)
            && grant.is_some_and(|grant| grant.run_id == token.run_id && grant.fence == token.fence);
        let pipeline = grant.map_or_else(String::new, |grant| grant.pipeline.clone());
        self.demand(holds, || format!("I4: {pipeline}: a writer without the lease {what}, fence {}", token.fence));
        holds
    }
}
