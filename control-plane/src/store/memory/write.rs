//! What agents write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::state::{Entity, RunRow, State};
use crate::store::rules::{self, After, BatchContext, BatchPlan, CommitContext, Shape, Standing};
use crate::store::{
    Applied, Batch, Ending, Eof, Event, Figures, Lease, MAX_EVENTS, Opened, PendingDeletions, Record, Refusal, RunId,
    RunState, Token, Writer,
};

impl State {
    fn standing(&self, writer: &Writer) -> Result<Standing, Refusal> {
        let run = self.runs.get(&writer.token.run_id).map(|row| &row.run);
        let pipeline = run.and_then(|run| self.pipelines.get(&run.pipeline));
        rules::standing(run, pipeline.map_or(0, |pipeline| pipeline.fence), writer)
    }

    /// The row of the run that the writer holds, to change it.
    fn held(&mut self, writer: &Writer) -> Result<&mut RunRow, Refusal> {
        if self.standing(writer)? == Standing::Committed {
            return Err(Refusal::NotOpen);
        }
        self.row(writer)
    }

    fn row(&mut self, writer: &Writer) -> Result<&mut RunRow, Refusal> {
        let row = self.runs.get_mut(&writer.token.run_id);
        row.map(Arc::make_mut).ok_or(Refusal::Fenced { current_fence: 0 })
    }

    /// As [`State::held`], if the grant opened its push.
    fn opened(&mut self, writer: &Writer) -> Result<&mut RunRow, Refusal> {
        let row = self.held(writer)?;
        if row.staged_fence == Some(writer.token.fence) { Ok(row) } else { Err(Refusal::NotOpen) }
    }

    pub(super) fn renew(&mut self, agent: &str, tokens: &[Token]) -> Vec<RunId> {
        let mut renewed = Vec::new();
        for token in tokens {
            let writer = Writer { agent: agent.to_owned(), token: *token };
            if let Ok(row) = self.held(&writer)
                && let Some(lease) = row.run.lease.as_mut()
            {
                lease.renewals += 1;
                renewed.push(token.run_id);
            }
        }
        renewed
    }

    pub(super) fn release(
        &mut self,
        writer: &Writer,
        ending: Ending,
        reason: &str,
        detail: &str,
        now: Timestamp,
    ) -> bool {
        if self.held(writer).is_err() {
            return false;
        }
        self.end(writer.token.run_id, ending, reason, detail, now);
        true
    }

    pub(super) fn cancel(&mut self, run_id: RunId, now: Timestamp) -> Option<RunState> {
        let before = self.runs.get(&run_id)?.run.state;
        if !before.is_final() {
            self.end(run_id, Ending::Cancelled, rules::CANCELLED, "", now);
        }
        Some(before)
    }

    pub(super) fn expire(
        &mut self,
        run_id: RunId,
        lease: &Lease,
        ending: Ending,
        reason: &str,
        now: Timestamp,
    ) -> bool {
        let row = self.runs.get(&run_id);
        let same = row.is_some_and(|row| row.run.state.is_active() && row.run.lease.as_ref() == Some(lease));
        if same {
            self.end(run_id, ending, reason, "", now);
        }
        same
    }

    fn end(&mut self, run_id: RunId, ending: Ending, reason: &str, detail: &str, now: Timestamp) {
        let Some(row) = self.runs.get_mut(&run_id).map(Arc::make_mut) else { return };
        let After { run, keeps_staged, hold } = rules::end(&row.run, ending, reason, detail, now);
        let pipeline = self.pipelines.get_mut(&run.pipeline);
        if let Some(pipeline) = pipeline.filter(|pipeline| pipeline.definition.version == run.definition_version) {
            pipeline.hold = hold.or_else(|| pipeline.hold.take());
        }
        row.run = run;
        if !keeps_staged {
            row.drop_staged();
        }
    }

    pub(super) fn open(&mut self, writer: &Writer) -> Result<Opened, Refusal> {
        let standing = self.standing(writer)?;
        let row = self.row(writer)?;
        if standing == Standing::Current {
            row.staged_fence = Some(writer.token.fence);
            row.run.state = RunState::Running;
        }
        let mut opened = Opened {
            pipeline: row.run.pipeline.clone(),
            next_seq: row.next_seq,
            digest: row.digest,
            source_position: row.source_position.clone(),
            has_baseline: false,
            listed: row.listed,
        };
        opened.has_baseline = self.entities.get(&opened.pipeline).is_some_and(|entities| !entities.is_empty());
        Ok(opened)
    }

    pub(super) fn apply(&mut self, writer: &Writer, batch: &Batch) -> Result<Applied, Refusal> {
        let row = self.opened(writer)?;
        let (run_id, pipeline) = (row.run.run_id, row.run.pipeline.clone());
        let context = self.batch_context(run_id, &pipeline, &batch.records);
        let row = self.opened(writer)?;
        match rules::plan_batch(&context, &batch.records)? {
            BatchPlan::BodyNeeded(seqs) => return Ok(Applied::BodyNeeded { seqs }),
            BatchPlan::Known => {}
            BatchPlan::Stage { from, next_seq, digest } => {
                let fresh = batch.records.iter().skip(from);
                row.records.extend(fresh.map(|record| (record.seq, Arc::new(record.clone()))));
                row.next_seq = next_seq;
                row.digest = digest;
                row.source_position = batch.source_position.clone();
                row.run.lost = 0;
                row.run.handed_back = 0;
            }
        }
        Ok(Applied::Durable { next_seq: row.next_seq })
    }

    fn batch_context(&self, run_id: RunId, pipeline: &str, records: &[Record]) -> BatchContext {
        let row = self.runs.get(&run_id);
        let first = records.first().map_or(0, |record| record.seq);
        let fqns: BTreeSet<&str> = records.iter().map(|record| record.fqn.as_str()).collect();
        let staged = row.into_iter().flat_map(|row| row.records.values());
        let entities = self.entities.get(pipeline);
        let committed = fqns.iter().filter_map(|fqn| {
            let entity = entities?.get(*fqn)?;
            let head =
                rules::Head { kind: entity.kind.clone(), fqn: (*fqn).to_owned(), content_hash: entity.content_hash };
            Some(((*fqn).to_owned(), head))
        });
        BatchContext {
            next_seq: row.map_or(0, |row| row.next_seq),
            digest: row.map_or(crate::digest::EMPTY, |row| row.digest),
            full: row.is_some_and(|row| row.run.full),
            committed: committed.collect(),
            names: staged
                .clone()
                .filter(|record| fqns.contains(record.fqn.as_str()))
                .map(|record| record.fqn.clone())
                .collect(),
            staged: staged
                .filter(|record| record.seq >= first)
                .map(|record| (record.seq, rules::Head::from(record.as_ref())))
                .collect(),
        }
    }

    pub(super) fn commit(&mut self, writer: &Writer, eof: &Eof, now: Timestamp) -> Result<Figures, Refusal> {
        if self.standing(writer)? == Standing::Committed {
            let row = self.row(writer)?;
            return rules::committed_again(row.next_seq, row.digest, row.run.figures, eof);
        }
        let row = self.opened(writer)?.clone();
        let pipeline = row.run.pipeline.clone();
        let mut entities = self.entities.remove(&pipeline).unwrap_or_default();
        let definition = self.pipelines.get_mut(&pipeline);
        let mark_deleted = definition.is_some_and(|pipeline| {
            pipeline.hold = None;
            pipeline.definition.new.mark_deleted
        });
        let context = CommitContext {
            next_seq: row.next_seq,
            digest: row.digest,
            mark_deleted,
            staged: row.records.values().map(|record| (record.fqn.clone(), shape_of_record(record))).collect(),
            current: entities.iter().map(|(fqn, entity)| (fqn.clone(), shape_of_entity(entity))).collect(),
        };
        let plan = rules::plan_commit(&context, eof)?;
        let current = Arc::make_mut(&mut entities);
        for record in row.records.values() {
            let same = current
                .get(&record.fqn)
                .is_some_and(|now| now.kind == record.kind && now.content_hash == record.content_hash);
            if let Some(entity) = Entity::of(record, row.run.run_id).filter(|_| !same) {
                current.insert(record.fqn.clone(), entity);
            } else if let Some(entity) = current.get_mut(&record.fqn) {
                entity.memo = record.memo.clone();
            }
        }
        for fqn in &plan.delete {
            current.remove(fqn);
        }
        self.entities.insert(pipeline.clone(), entities);
        self.pending.retain(|_, pending| pending.pipeline != pipeline);
        if !plan.pending.is_empty() {
            let run_id = row.run.run_id;
            self.pending.insert(run_id, PendingDeletions { run_id, pipeline, fqns: plan.pending });
        }
        let row = self.row(writer)?;
        row.records = BTreeMap::new();
        row.failures.clone_from(&eof.failures);
        row.run.state = RunState::Committed;
        row.run.ended_at = Some(now);
        row.run.complete = eof.complete;
        row.run.figures = Some(plan.figures);
        Ok(plan.figures)
    }

    pub(super) fn add_event(&mut self, writer: &Writer, event: Event) {
        if let Ok(row) = self.held(writer)
            && u64::try_from(row.events.len()).is_ok_and(|events| events < MAX_EVENTS)
        {
            row.events.push(event);
        }
    }
}

fn shape_of_record(record: &Record) -> Shape {
    Shape {
        kind: record.kind.clone(),
        content_hash: record.content_hash,
        columns: record.content.as_ref().map_or(0, |content| content.columns),
        foreign_keys: record.content.as_ref().map(|content| content.foreign_keys.clone()).unwrap_or_default(),
        has_body: record.content.is_some(),
    }
}

fn shape_of_entity(entity: &Entity) -> Shape {
    Shape {
        kind: entity.kind.clone(),
        content_hash: entity.content_hash,
        columns: entity.columns,
        foreign_keys: entity.foreign_keys.clone(),
        has_body: true,
    }
}
