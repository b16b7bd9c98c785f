//! The state, and what happens to definitions and runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::watch::Watched;
use crate::digest::{self, Hash};
use crate::store::rules;
use crate::store::{
    BaselineEntry, Checkpoint, ConnectionTest, Definition, EnqueueError, EntityBody, EntityRow, Event, Failure, Fault,
    Granted, Hold, Lease, LeaseId, Listed, NewDefinition, PendingDeletions, Record, Run, RunId, RunState, TestId,
    Verdict,
};

/// Everything. What is large is behind an [`Arc`], so that a copy is cheap.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) pipelines: BTreeMap<String, Pipeline>,
    pub(super) faults: Vec<Fault>,
    pub(super) verdicts: BTreeMap<(String, String), Verdict>,
    pub(super) runs: BTreeMap<RunId, Arc<RunRow>>,
    /// By pipeline, then FQN.
    pub(super) entities: BTreeMap<String, Arc<BTreeMap<String, Entity>>>,
    pub(super) pending: BTreeMap<RunId, PendingDeletions>,
    pub(super) tests: BTreeMap<TestId, ConnectionTest>,
}

/// A removed pipeline keeps its place: neither its version nor its fence ever starts again.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) definition: Definition,
    pub(super) fence: u64,
    pub(super) hold: Option<Hold>,
    pub(super) removed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct RunRow {
    pub(super) run: Run,
    /// By the agent of the last grant.
    pub(super) listed: Listed,
    /// The fence of the grant that opened its push last.
    pub(super) staged_fence: Option<u64>,
    pub(super) next_seq: u64,
    pub(super) digest: Hash,
    pub(super) source_position: Bytes,
    pub(super) records: BTreeMap<u64, Arc<Record>>,
    pub(super) events: Vec<Event>,
    pub(super) failures: Vec<Failure>,
    pub(super) watched: Watched,
}

#[derive(Debug, Clone)]
pub(super) struct Entity {
    pub(super) kind: String,
    pub(super) content_hash: Hash,
    pub(super) columns: u64,
    pub(super) foreign_keys: Vec<String>,
    pub(super) run_id: RunId,
    pub(super) memo: Bytes,
    pub(super) body: Bytes,
}

/// A limit as an index.
pub(super) fn bound(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl RunRow {
    fn checkpoint(&self) -> Option<Checkpoint> {
        let (source_position, digest) = (self.source_position.clone(), self.digest);
        (self.next_seq > 0).then_some(Checkpoint { source_position, next_seq: self.next_seq, digest })
    }

    pub(super) fn drop_staged(&mut self) {
        self.records.clear();
        self.staged_fence = None;
        self.next_seq = 0;
        self.digest = digest::EMPTY;
        self.source_position = Bytes::new();
    }
}

impl State {
    pub(super) fn put_definitions(&mut self, definitions: Vec<NewDefinition>, faults: Vec<Fault>, now: Timestamp) {
        let bad: BTreeSet<&str> = faults.iter().map(|fault| fault.file.as_str()).collect();
        let named: BTreeSet<String> = definitions.iter().map(|new| new.pipeline.clone()).collect();
        for (name, pipeline) in &mut self.pipelines {
            if !named.contains(name) && !bad.contains(pipeline.definition.new.file.as_str()) {
                pipeline.removed = true;
            }
        }
        for new in definitions {
            self.put_definition(new, now);
        }
        self.faults = faults;
        self.faults.sort_by(|a, b| a.file.cmp(&b.file));
        let ended: Vec<String> = self
            .pipelines
            .iter()
            .filter(|(_, pipeline)| pipeline.removed || !pipeline.definition.new.enabled)
            .map(|(name, _)| name.clone())
            .collect();
        for row in self.runs.values_mut() {
            if !row.run.state.is_final() && ended.contains(&row.run.pipeline) {
                let row = Arc::make_mut(row);
                row.drop_staged();
                row.run.state = RunState::Cancelled;
                row.run.not_before = None;
                row.run.reason = Some(rules::LEASE_REVOKED.to_owned());
                row.run.detail = Some(rules::REVOKED_DETAIL.to_owned());
                row.run.ended_at = Some(now);
            }
        }
    }

    fn put_definition(&mut self, new: NewDefinition, now: Timestamp) {
        let Some(old) = self.pipelines.get_mut(&new.pipeline) else {
            let definition = Definition { new, version: 1, scheduled_at: now };
            let name = definition.new.pipeline.clone();
            self.pipelines.insert(name, Pipeline { definition, fence: 0, hold: None, removed: false });
            return;
        };
        let definition = &mut old.definition;
        if definition.new.workflow_json != new.workflow_json {
            definition.version += 1;
            old.hold = None;
        }
        if definition.new.schedule != new.schedule || old.removed {
            definition.scheduled_at = now;
        }
        definition.new = new;
        old.removed = false;
    }

    pub(super) fn definitions(&self) -> Vec<Definition> {
        self.pipelines
            .values()
            .filter(|pipeline| !pipeline.removed)
            .map(|pipeline| pipeline.definition.clone())
            .collect()
    }

    pub(super) fn holds(&self) -> Vec<Hold> {
        let present = self.pipelines.values().filter(|pipeline| !pipeline.removed);
        present.filter_map(|pipeline| pipeline.hold.clone()).collect()
    }

    pub(super) fn enqueue(&mut self, name: &str, full: bool, now: Timestamp) -> Result<RunId, EnqueueError> {
        let pipeline = self.pipelines.get_mut(name).filter(|pipeline| !pipeline.removed);
        let pipeline = pipeline.ok_or_else(|| EnqueueError::UnknownPipeline { pipeline: name.to_owned() })?;
        if !pipeline.definition.new.enabled {
            return Err(EnqueueError::Disabled { pipeline: name.to_owned() });
        }
        pipeline.hold = None;
        Ok(self.insert_run(name, full, false, now))
    }

    pub(super) fn enqueue_scheduled(&mut self, name: &str, seen: Timestamp, now: Timestamp) -> Option<RunId> {
        let pipeline = self.pipelines.get_mut(name)?;
        let due = !pipeline.removed && pipeline.definition.new.enabled && pipeline.definition.scheduled_at == seen;
        if !due {
            return None;
        }
        pipeline.definition.scheduled_at = now;
        Some(self.insert_run(name, false, true, now))
    }

    fn insert_run(&mut self, pipeline: &str, full: bool, scheduled: bool, now: Timestamp) -> RunId {
        if let Some(run_id) = rules::joinable(self.open_runs(pipeline)).map(|run| run.run_id)
            && let Some(row) = self.runs.get_mut(&run_id).map(Arc::make_mut)
        {
            let (run, keeps_staged) = rules::join(&row.run, full, scheduled);
            row.run = run;
            if !keeps_staged {
                row.drop_staged();
            }
            return run_id;
        }
        let finals = self.runs_newest_first(Some(pipeline)).filter(|run| run.state.is_final()).map(|run| run.run_id);
        for run_id in rules::surplus(finals) {
            self.runs.remove(&run_id);
            self.pending.remove(&run_id);
        }
        let run = Run::queued(pipeline, full, scheduled, now);
        let run_id = run.run_id;
        let row = RunRow {
            run,
            listed: Listed::default(),
            staged_fence: None,
            next_seq: 0,
            digest: digest::EMPTY,
            source_position: Bytes::new(),
            records: BTreeMap::new(),
            events: Vec::new(),
            failures: Vec::new(),
            watched: Watched::default(),
        };
        self.runs.insert(run_id, Arc::new(row));
        run_id
    }

    pub(super) fn open_runs<'a>(&'a self, pipeline: &'a str) -> impl Iterator<Item = &'a Run> {
        let runs = self.runs.values().map(|row| &row.run);
        runs.filter(move |run| run.pipeline == pipeline && !run.state.is_final())
    }

    pub(super) fn runs_newest_first<'a>(&'a self, pipeline: Option<&'a str>) -> impl Iterator<Item = &'a Run> {
        self.runs
            .values()
            .rev()
            .map(|row| &row.run)
            .filter(move |run| pipeline.is_none_or(|pipeline| run.pipeline == pipeline))
    }

    pub(super) fn grant(
        &mut self,
        run_id: RunId,
        version: u64,
        agent: &str,
        listed: Listed,
        now: Timestamp,
    ) -> Option<Granted> {
        let run = &self.runs.get(&run_id)?.run;
        let pipeline = self.pipelines.get(&run.pipeline)?;
        let definition = &pipeline.definition;
        if pipeline.removed
            || !definition.new.enabled
            || definition.version != version
            || !rules::may_be_granted(run, self.open_runs(&run.pipeline), pipeline.hold.as_ref(), now)
        {
            return None;
        }
        let name = run.pipeline.clone();
        let pipeline = self.pipelines.get_mut(&name)?;
        pipeline.fence += 1;
        let lease = Lease { fence: pipeline.fence, lease_id: LeaseId::random(), renewals: 0 };
        let row = Arc::make_mut(self.runs.get_mut(&run_id)?);
        let (run, keeps_staged) = rules::grant(&row.run, lease, version, agent, listed, now);
        row.run = run;
        row.listed = listed;
        if !keeps_staged {
            row.drop_staged();
        }
        Some(Granted {
            token: row.run.token()?,
            pipeline: name,
            definition_version: version,
            attempt: row.run.attempt,
            full: row.run.full,
            checkpoint: row.checkpoint(),
        })
    }

    pub(super) fn baseline(&self, pipeline: &str, after: Option<&str>, limit: u32) -> Vec<BaselineEntry> {
        let entities = self.entities.get(pipeline);
        let entries = entities.into_iter().flat_map(|entities| entities.iter());
        entries
            .filter(|(fqn, _)| after.is_none_or(|after| fqn.as_str() > after))
            .take(bound(limit))
            .map(|(fqn, entity)| BaselineEntry {
                kind: entity.kind.clone(),
                fqn: fqn.clone(),
                content_hash: entity.content_hash,
                memo: entity.memo.clone(),
            })
            .collect()
    }

    pub(super) fn bodies(&self, pipeline: Option<&str>, after: Option<(&str, &str)>, limit: u32) -> Vec<EntityBody> {
        let mut all: Vec<(&str, &str, &Entity)> = self
            .entities
            .iter()
            .filter(|(name, _)| pipeline.is_none_or(|pipeline| *name == pipeline))
            .flat_map(|(name, entities)| entities.iter().map(|(fqn, entity)| (fqn.as_str(), name.as_str(), entity)))
            .filter(|(fqn, name, _)| after.is_none_or(|after| (*fqn, *name) > after))
            .collect();
        all.sort_by_key(|(fqn, name, _)| (*fqn, *name));
        let page = all.into_iter().take(bound(limit));
        page.map(|(fqn, name, entity)| EntityBody {
            row: EntityRow {
                pipeline: name.to_owned(),
                kind: entity.kind.clone(),
                fqn: fqn.to_owned(),
                columns: entity.columns,
                run_id: entity.run_id,
            },
            body: entity.body.clone(),
        })
        .collect()
    }

    pub(super) fn decide_deletions(&mut self, run_id: RunId, apply: bool) -> Option<u64> {
        let pending = self.pending.remove(&run_id)?;
        let mut deleted = 0;
        if apply {
            // What the run in progress has found again is not gone, also while it waits for its next agent.
            let found_again: BTreeSet<&String> = self
                .runs
                .values()
                .filter(|row| row.run.pipeline == pending.pipeline && !row.run.state.is_final())
                .flat_map(|row| row.records.values().map(|record| &record.fqn))
                .collect();
            if let Some(entities) = self.entities.get_mut(&pending.pipeline) {
                let entities = Arc::make_mut(entities);
                for fqn in pending.fqns.iter().filter(|fqn| !found_again.contains(fqn)) {
                    deleted += u64::from(entities.remove(fqn).is_some());
                }
            }
        }
        let run = Arc::make_mut(self.runs.get_mut(&run_id)?);
        if let Some(figures) = run.run.figures.as_mut() {
            rules::decided(figures, apply, deleted);
        }
        Some(deleted)
    }
}

impl From<&Record> for rules::Head {
    fn from(record: &Record) -> Self {
        Self { kind: record.kind.clone(), fqn: record.fqn.clone(), content_hash: record.content_hash }
    }
}

impl Entity {
    pub(super) fn of(record: &Record, run_id: RunId) -> Option<Self> {
        let content = record.content.as_ref()?;
        Some(Self {
            kind: record.kind.clone(),
            content_hash: record.content_hash,
            columns: content.columns,
            foreign_keys: content.foreign_keys.clone(),
            run_id,
            memo: record.memo.clone(),
            body: content.body.clone(),
        })
    }
}
