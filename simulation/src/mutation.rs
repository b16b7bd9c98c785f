//! Faults of the store that nobody wants: the proof that the ledger sees one.

use control_plane::store::{
    Applied, Batch, EntityBody, Eof, MemoryStore, Opened, Store as _, StoreError, WriteError, Writer,
};

/// A way in which a control plane could be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The disk loses the last entity of what was committed.
    LosesAnEntity,
    /// An entity is there twice, under another name.
    ShowsAnEntityTwice,
    /// Who comes with an old grant is let in under the current one.
    IgnoresTheFence,
    /// A batch is acknowledged and not kept.
    AcksWhatIsNotKept,
    /// Each ack is one record ahead.
    AcksTooMuch,
    /// An incomplete run counts as complete, and what it did not read as gone.
    DeletesWhatWasNotRead,
    /// A run whose agent is lost is not granted again.
    ForgetsLostRuns,
}

impl Mutation {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::LosesAnEntity,
        Self::ShowsAnEntityTwice,
        Self::AcksWhatIsNotKept,
        Self::AcksTooMuch,
        Self::DeletesWhatWasNotRead,
        Self::ForgetsLostRuns,
        Self::IgnoresTheFence,
    ];

    /// The entities of a pipeline, as this store shows them.
    pub(crate) fn show(self, entities: &mut Vec<EntityBody>) {
        match self {
            Self::LosesAnEntity => drop(entities.pop()),
            Self::ShowsAnEntityTwice => {
                let again = entities.last().cloned();
                entities.extend(again.map(|mut entity| {
                    entity.row.fqn.push_str("-again");
                    entity
                }));
            }
            _ => {}
        }
    }

    /// A batch, as this store applies it.
    pub(crate) async fn apply(
        self,
        store: &MemoryStore,
        writer: &Writer,
        batch: &Batch,
    ) -> Result<Applied, WriteError> {
        let applied = match self {
            Self::AcksWhatIsNotKept => {
                let last = batch.records.last().map_or(0, |record| record.seq);
                return Ok(Applied::Durable { next_seq: last + 1 });
            }
            Self::IgnoresTheFence => match store.apply(writer, batch).await {
                Err(WriteError::Refused(_)) => store.apply(&current(store, writer).await?, batch).await?,
                other => other?,
            },
            _ => store.apply(writer, batch).await?,
        };
        Ok(match applied {
            Applied::Durable { next_seq } if self == Self::AcksTooMuch => Applied::Durable { next_seq: next_seq + 1 },
            other => other,
        })
    }

    /// A push, as this store opens it.
    pub(crate) async fn open(self, store: &MemoryStore, writer: &Writer) -> Result<Opened, WriteError> {
        match store.open(writer).await {
            Err(WriteError::Refused(_)) if self == Self::IgnoresTheFence => {
                store.open(&current(store, writer).await?).await
            }
            other => other,
        }
    }

    /// The end of a run, as this store reads it.
    pub(crate) async fn read_end(self, store: &MemoryStore, pipeline: &str, eof: &Eof) -> Eof {
        let mut eof = eof.clone();
        if self == Self::DeletesWhatWasNotRead && !eof.complete {
            eof.complete = true;
            let entities = store.entities(Some(pipeline), None, u32::MAX).await.unwrap_or_default();
            let is_failure = |fqn: &String| eof.failures.iter().any(|failure| failure.fqn == *fqn);
            eof.gone = entities.into_iter().map(|entity| entity.fqn).filter(is_failure).collect();
            eof.failures.clear();
        }
        eof
    }
}

/// The last grant of the writer's run.
async fn current(store: &MemoryStore, writer: &Writer) -> Result<Writer, StoreError> {
    let run = store.run(writer.token.run_id).await?;
    let current = run.and_then(|run| Some(Writer { token: run.token()?, agent: run.agent? }));
    Ok(current.unwrap_or_else(|| writer.clone()))
}
