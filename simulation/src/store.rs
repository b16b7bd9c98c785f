//! The control plane's disk: its in-memory store, with the ledger at the border, and a mutation below if one is wanted.

mod delegate;

use std::sync::{Arc, Mutex};

use control_plane::store::{
    Applied, Batch, EntityBody, Eof, Figures, Granted, MemoryStore, Opened, RunId, Store as _, StoreError, Token,
    WriteError, Writer,
};

use crate::ledger::{Books, Ledger};
use crate::mutation::Mutation;

/// The disk. It outlives the control planes that use it one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    store: Arc<Mutex<Arc<MemoryStore>>>,
    ledger: Arc<Mutex<Ledger>>,
    mutation: Option<Mutation>,
}

/// A copy of a disk.
#[derive(Debug)]
pub(crate) struct Backup {
    store: MemoryStore,
    books: Books,
}

/// The store as one control plane sees it: after a crash it fails for whoever still has it.
#[derive(Debug)]
pub(crate) struct Watched {
    store: Arc<MemoryStore>,
    ledger: Arc<Mutex<Ledger>>,
    mutation: Option<Mutation>,
}

impl Disk {
    /// An empty one.
    #[must_use]
    pub(crate) fn new(ledger: Arc<Mutex<Ledger>>, mutation: Option<Mutation>) -> Self {
        Self { store: Arc::default(), ledger, mutation }
    }

    /// What is on it, for whoever starts now.
    #[must_use]
    pub(crate) fn mount(&self) -> Arc<Watched> {
        let store = Arc::clone(&self.store.lock().unwrap());
        Arc::new(Watched { store, ledger: Arc::clone(&self.ledger), mutation: self.mutation })
    }

    /// Whoever has it mounted dies.
    pub(crate) fn crash(&self) {
        let mut store = self.store.lock().unwrap();
        *store = Arc::new(store.crash());
    }

    /// Whether whoever has it mounted died in a transaction.
    #[must_use]
    pub(crate) fn has_crashed(&self) -> bool {
        crate::world::ready(self.store.lock().unwrap().faults()).is_err()
    }

    /// Whoever has it mounted dies in the next transaction.
    pub(crate) fn crash_in_next_transaction(&self) {
        self.store.lock().unwrap().crash_in_next_transaction();
    }

    /// Copies it.
    #[must_use]
    pub(crate) fn backup(&self) -> Backup {
        Backup { store: self.store.lock().unwrap().backup(), books: self.ledger.lock().unwrap().backup() }
    }

    /// Puts a copy in its place.
    pub(crate) fn restore(&self, backup: Backup) {
        *self.store.lock().unwrap() = Arc::new(backup.store);
        self.ledger.lock().unwrap().restore(backup.books);
    }
}

impl Watched {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// The variant of a pipeline's definition, as it is stored now.
    async fn variant(&self, pipeline: &str) -> Result<u32, StoreError> {
        let definitions = self.store.definitions().await?;
        let definition = definitions.into_iter().find(|definition| definition.new.pipeline == pipeline);
        let text = definition.map(|definition| definition.new.workflow_json).unwrap_or_default();
        let number = text.split("variant-").nth(1).and_then(|rest| rest.split('"').next());
        Ok(number.and_then(|number| number.parse().ok()).expect("a definition of the simulation"))
    }

    async fn granted(&self, granted: Option<&Granted>, agent: &str) -> Result<(), StoreError> {
        if let Some(granted) = granted {
            let variant = self.variant(&granted.pipeline).await?;
            self.ledger().granted(granted, agent, variant);
            let run = self.store.run(granted.token.run_id).await?;
            if run.is_some_and(|run| run.scheduled) {
                self.ledger().granted_by_schedule(granted);
            }
        }
        Ok(())
    }

    /// After a lease was ended: what became of its run.
    async fn ended(&self, run_id: RunId, how: &str, reason: &str) -> Result<(), StoreError> {
        if let Some(run) = self.store.run(run_id).await? {
            self.ledger().ended(&run, how, reason);
        }
        Ok(())
    }

    fn opened(&self, token: &Token, opened: Result<Opened, WriteError>) -> Result<Opened, WriteError> {
        match &opened {
            Ok(opened) => self.ledger().opened(token, opened),
            Err(error) => self.refused("open", error),
        }
        opened
    }

    async fn applied(&self, writer: &Writer, batch: &Batch) -> Result<Applied, WriteError> {
        let applied = match self.mutation {
            None => self.store.apply(writer, batch).await,
            Some(mutation) => mutation.apply(&self.store, writer, batch).await,
        };
        match &applied {
            Ok(Applied::Durable { next_seq }) => self.ledger().applied(&writer.token, &batch.records, *next_seq),
            Ok(Applied::BodyNeeded { .. }) => self.ledger().count("a body was needed"),
            Err(error) => self.refused("batch", error),
        }
        applied
    }

    async fn committed(&self, writer: &Writer, eof: &Eof, now: jiff::Timestamp) -> Result<Figures, WriteError> {
        let run = self.store.run(writer.token.run_id).await?;
        let pipeline = run.map(|run| run.pipeline).unwrap_or_default();
        let read = match self.mutation {
            None => eof.clone(),
            Some(mutation) => mutation.read_end(&self.store, &pipeline, eof).await,
        };
        let committed = self.store.commit(writer, &read, now).await;
        match &committed {
            Ok(figures) => {
                let entities = self.shown(Some(&pipeline), None, u32::MAX).await?;
                self.ledger().committed_run(&writer.token, eof, figures, &entities);
            }
            Err(error) => self.refused("end", error),
        }
        committed
    }

    async fn shown(
        &self,
        pipeline: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<EntityBody>, StoreError> {
        let mut entities = self.store.bodies(pipeline, after, limit).await?;
        if let Some(mutation) = self.mutation {
            mutation.show(&mut entities);
        }
        Ok(entities)
    }

    fn refused(&self, what: &'static str, error: &WriteError) {
        use control_plane::store::Refusal::{
            Cancelled, DigestMismatch, DuplicateName, Fenced, LeaseExpired, LeaseRevoked, NotOpen, OtherAgent,
            OutOfOrder, RecordChanged,
        };
        let WriteError::Refused(refusal) = error else { return };
        let reason = match refusal {
            Fenced { .. } => "FENCED",
            LeaseExpired { .. } => "LEASE_EXPIRED",
            LeaseRevoked { .. } => "LEASE_REVOKED",
            Cancelled { .. } => "CANCELLED",
            OtherAgent | NotOpen => "PROTOCOL_VIOLATION",
            RecordChanged { .. } | DuplicateName { .. } => "RECORD_CHANGED",
            OutOfOrder { .. } => "OUT_OF_ORDER",
            DigestMismatch { .. } => "DIGEST_MISMATCH",
        };
        self.ledger().refused(what, reason);
    }
}
