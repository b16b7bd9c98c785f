//! What of the store's trait the ledger does not hear of, and where it does.

use async_trait::async_trait;
use control_plane::progress::RunProgress;
use control_plane::server::Progress;
use control_plane::store::{
    Applied, AskError, BaselineEntry, Batch, ConnectionTest, ConnectionTests, Definition, Ending, EnqueueError,
    EntityBody, EntityRow, Eof, Event, Failure, Fault, Figures, Granted, Hold, Lease, LineId, Listed, LogLine,
    NewDefinition, Opened, PendingDeletions, Run, RunId, RunState, RunWatch, Store, StoreError, TestAnswer, TestId,
    Token, Verdict, WriteError, Writer,
};
use jiff::Timestamp;

use super::Watched;
use crate::mutation::Mutation;

#[async_trait]
impl Store for Watched {
    fn place(&self) -> String {
        self.store.place()
    }

    async fn put_definitions(
        &self,
        definitions: Vec<NewDefinition>,
        faults: Vec<Fault>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.store.put_definitions(definitions, faults, now).await?;
        let open = self.store.open_runs().await?;
        self.ledger().removed(&open);
        Ok(())
    }

    async fn definitions(&self) -> Result<Vec<Definition>, StoreError> {
        self.store.definitions().await
    }

    async fn faults(&self) -> Result<Vec<Fault>, StoreError> {
        self.store.faults().await
    }

    async fn put_verdict(&self, verdict: Verdict) -> Result<(), StoreError> {
        self.store.put_verdict(verdict).await
    }

    async fn verdicts(&self) -> Result<Vec<Verdict>, StoreError> {
        self.store.verdicts().await
    }

    async fn enqueue(&self, pipeline: &str, full: bool, now: Timestamp) -> Result<RunId, EnqueueError> {
        let queued = self.store.enqueue(pipeline, full, now).await?;
        self.ledger().triggered(pipeline);
        Ok(queued)
    }

    async fn enqueue_scheduled(
        &self,
        pipeline: &str,
        seen: Timestamp,
        now: Timestamp,
    ) -> Result<Option<RunId>, StoreError> {
        let queued = self.store.enqueue_scheduled(pipeline, seen, now).await?;
        if queued.is_some() {
            self.ledger().count("a schedule fired");
        }
        Ok(queued)
    }

    async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.store.holds().await
    }

    async fn runs(&self, pipeline: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError> {
        self.store.runs(pipeline, limit).await
    }

    async fn open_runs(&self) -> Result<Vec<Run>, StoreError> {
        self.store.open_runs().await
    }

    async fn run(&self, run_id: RunId) -> Result<Option<Run>, StoreError> {
        self.store.run(run_id).await
    }

    async fn grant(
        &self,
        run_id: RunId,
        definition_version: u64,
        agent: &str,
        listed: Listed,
        now: Timestamp,
    ) -> Result<Option<Granted>, StoreError> {
        if self.mutation == Some(Mutation::ForgetsLostRuns) {
            let run = self.store.run(run_id).await?;
            if run.is_some_and(|run| run.reason.as_deref() == Some("AGENT_LOST")) {
                return Ok(None);
            }
        }
        let granted = self.store.grant(run_id, definition_version, agent, listed, now).await?;
        self.granted(granted.as_ref(), agent).await?;
        Ok(granted)
    }

    async fn renew(&self, agent: &str, tokens: &[Token]) -> Result<Vec<RunId>, StoreError> {
        self.store.renew(agent, tokens).await
    }

    async fn release(
        &self,
        writer: &Writer,
        ending: Ending,
        reason: &str,
        detail: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let released = self.store.release(writer, ending, reason, detail, now).await?;
        if released {
            self.ended(writer.token.run_id, "released", reason).await?;
        }
        Ok(released)
    }

    async fn cancel(&self, run_id: RunId, now: Timestamp) -> Result<Option<RunState>, StoreError> {
        let before = self.store.cancel(run_id, now).await?;
        if before.is_some_and(|state| !state.is_final()) {
            self.ended(run_id, "cancelled", "").await?;
        }
        Ok(before)
    }

    async fn expire(
        &self,
        run_id: RunId,
        lease: &Lease,
        ending: Ending,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let expired = self.store.expire(run_id, lease, ending, reason, now).await?;
        if expired {
            self.ledger().count("a lease was lost");
            self.ended(run_id, "expired", reason).await?;
        }
        Ok(expired)
    }

    async fn open(&self, writer: &Writer) -> Result<Opened, WriteError> {
        let opened = match self.mutation {
            None => self.store.open(writer).await,
            Some(mutation) => mutation.open(&self.store, writer).await,
        };
        self.opened(&writer.token, opened)
    }

    async fn baseline(
        &self,
        pipeline: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<BaselineEntry>, StoreError> {
        self.store.baseline(pipeline, after, limit).await
    }

    async fn apply(&self, writer: &Writer, batch: &Batch) -> Result<Applied, WriteError> {
        self.applied(writer, batch).await
    }

    async fn commit(&self, writer: &Writer, eof: &Eof, now: Timestamp) -> Result<Figures, WriteError> {
        self.committed(writer, eof, now).await
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        self.store.sweep().await
    }

    async fn add_event(&self, writer: &Writer, event: Event) -> Result<(), StoreError> {
        self.store.add_event(writer, event).await
    }

    async fn events(&self, run_id: RunId) -> Result<Vec<Event>, StoreError> {
        self.store.events(run_id).await
    }

    async fn failures(&self, run_id: RunId) -> Result<Vec<Failure>, StoreError> {
        self.store.failures(run_id).await
    }

    async fn entities(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityRow>, StoreError> {
        Ok(self.shown(pipeline, after, limit).await?.into_iter().map(|entity| entity.row).collect())
    }

    async fn bodies(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityBody>, StoreError> {
        self.shown(pipeline, after, limit).await
    }

    async fn pending_deletions(&self) -> Result<Vec<PendingDeletions>, StoreError> {
        self.store.pending_deletions().await
    }

    async fn decide_deletions(&self, run_id: RunId, apply: bool) -> Result<Option<u64>, StoreError> {
        self.store.decide_deletions(run_id, apply).await
    }
}

#[async_trait]
impl ConnectionTests for Watched {
    async fn ask_test(&self, pipeline: &str, expires_at: Timestamp, now: Timestamp) -> Result<TestId, AskError> {
        self.store.ask_test(pipeline, expires_at, now).await
    }

    async fn open_tests(&self) -> Result<Vec<ConnectionTest>, StoreError> {
        self.store.open_tests().await
    }

    async fn test(&self, id: TestId) -> Result<Option<ConnectionTest>, StoreError> {
        self.store.test(id).await
    }

    async fn take_test(&self, id: TestId, agent: &str) -> Result<bool, StoreError> {
        self.store.take_test(id, agent).await
    }

    async fn answer_test(&self, id: TestId, agent: Option<&str>, answer: TestAnswer) -> Result<bool, StoreError> {
        self.store.answer_test(id, agent, answer).await
    }
}

#[async_trait]
impl RunWatch for Watched {
    async fn add_log(&self, writer: &Writer, first: u64, lines: Vec<String>) -> Result<(), StoreError> {
        self.store.add_log(writer, first, lines).await
    }

    async fn log(&self, run_id: RunId, after: Option<LineId>, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        self.store.log(run_id, after, limit).await
    }

    async fn put_progress(
        &self,
        agent: &str,
        progress: &[(Token, Progress)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.store.put_progress(agent, progress, now).await
    }

    async fn progress(&self, run_id: RunId) -> Result<Option<RunProgress>, StoreError> {
        self.store.progress(run_id).await
    }
}
