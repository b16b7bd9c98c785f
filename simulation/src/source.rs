//! A source that yields what the [`Org`] has, in small emissions, and misbehaves as the org's moods say.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use hybrid_runner_connector::{
    Checkpoint, Content, DefinitionError, Entity, EntitySink, Extraction, Failure, Reason, Report, SecretUse, Source,
    SourceError, Step, Summary,
};
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_secrets::Resolver;

use crate::ledger::Ledger;
use crate::org::Org;

/// A hang: longer than a lease, shorter than anybody's patience.
const HANG: Duration = Duration::from_secs(25);

/// Entities of one emission, at most.
const EMISSION: usize = 4;

/// See the module.
pub(crate) struct Scripted {
    org: Arc<Org>,
    ledger: Arc<Mutex<Ledger>>,
    random: Arc<Mutex<fastrand::Rng>>,
    agent: String,
    pipeline: String,
    variant: u32,
}

impl Scripted {
    /// The source of a definition, on an agent: the service is the pipeline's name, the user its variant.
    ///
    /// # Errors
    /// The definition is none of the simulation's.
    pub(crate) fn plan(
        workflow: &Workflow,
        agent: &str,
        org: &Arc<Org>,
        ledger: &Arc<Mutex<Ledger>>,
        random: &Arc<Mutex<fastrand::Rng>>,
    ) -> Result<Self, DefinitionError> {
        let user = workflow.source.connection.get("username").and_then(|user| user.as_str());
        let variant = user.and_then(|user| user.strip_prefix("variant-")?.parse().ok()).ok_or_else(|| {
            let detail = "accepted: variant-N".to_owned();
            DefinitionError { reason: Reason::BadDefinition, field: "username".to_owned(), detail }
        })?;
        Ok(Self {
            org: Arc::clone(org),
            ledger: Arc::clone(ledger),
            random: Arc::clone(random),
            agent: agent.to_owned(),
            pipeline: workflow.source.service_name.clone(),
            variant,
        })
    }

    fn chance(&self, in_a_thousand: u32) -> bool {
        self.random.lock().unwrap().u32(..1000) < in_a_thousand
    }

    /// Where to begin.
    fn begin(&self, start: Option<&Checkpoint>) -> Result<Place, SourceError> {
        let Some(checkpoint) = start else { return Ok(Place::default()) };
        let unusable = |detail: &str| SourceError::new(Reason::CheckpointUnusable, detail);
        if self.chance(self.org.moods.lock().unwrap().forgets) {
            self.org.note("a checkpoint was not usable");
            return Err(unusable("the listing changed"));
        }
        let (variant, place) = Place::read(&checkpoint.0).ok_or_else(|| unusable("not a checkpoint of this source"))?;
        if variant != self.variant {
            return Err(unusable("the definition changed"));
        }
        self.org.note("a reading went on from a checkpoint");
        Ok(place)
    }

    /// Waits as the pace says; fails as the mood says.
    async fn proceed(&self) -> Result<(), SourceError> {
        let moods = *self.org.moods.lock().unwrap();
        let pause = self.random.lock().unwrap().u64(..moods.pace);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if self.chance(moods.hangs) {
            self.org.note("a source hung");
            tokio::time::sleep(HANG).await;
        }
        if self.chance(moods.fails) {
            self.org.note("a source failed for a while");
            let reasons = [
                Reason::SourceUnreachable,
                Reason::SourceProtocol,
                Reason::SecretStoreUnreachable,
                Reason::SourceThrottled,
            ];
            let reason = reasons[self.random.lock().unwrap().usize(..reasons.len())];
            return Err(SourceError::new(reason, "the org is not well"));
        }
        if self.chance(moods.denies) {
            self.org.note("a source refused");
            return Err(SourceError::new(Reason::AuthFailed, "the org does not know this user"));
        }
        Ok(())
    }

    /// The entity as the run wants it: unchanged without its body when the baseline has it.
    fn offer(&self, entity: &Entity, extraction: &Extraction) -> Entity {
        let known = extraction.baseline.0.get(&entity.fqn).filter(|_| !extraction.full);
        let is_unchanged = known.is_some_and(|known| known.content_hash == entity.content_hash());
        let mut offered = entity.clone();
        offered.memo = Bytes::from_static(b"read");
        if is_unchanged && self.chance(700) {
            offered.content = Content::Unchanged(entity.content_hash());
        }
        offered
    }
}

#[async_trait]
impl Source for Scripted {
    async fn extract(&self, extraction: Extraction, sink: &mut dyn EntitySink) -> Result<Report, SourceError> {
        let mut place = self.begin(extraction.start.as_ref())?;
        let entities = self.org.entities(&self.pipeline, self.variant);
        let closed = |closed| SourceError::caused(Reason::SinkClosed, "the run was ended", closed);
        let mut emitted = 0;
        self.proceed().await?;
        while place.next < entities.len() {
            let many = self.random.lock().unwrap().usize(1..=EMISSION);
            let mut emission = Vec::new();
            for entity in entities.iter().skip(place.next).take(many) {
                let loses = self.org.moods.lock().unwrap().loses;
                if self.chance(loses) {
                    self.org.note("an object could not be read");
                    self.org.unreadable.lock().unwrap().insert(entity.fqn.clone());
                    place.failed.push(place.next);
                } else {
                    emission.push(self.offer(entity, &extraction));
                }
                place.next += 1;
            }
            emitted += emission.iter().map(|entity| entity.body().map_or(0, Bytes::len)).sum::<usize>();
            if !emission.is_empty() {
                sink.emit(emission, place.checkpoint(self.variant)).await.map_err(closed)?;
                self.ledger.lock().unwrap().emitted(&self.agent, &self.pipeline, emitted);
            }
            self.proceed().await?;
        }
        Ok(self.report(&place, &entities, &extraction))
    }

    async fn test_connection(&self, _secrets: Arc<Resolver>) -> Vec<Step> {
        Vec::new()
    }

    fn secrets(&self) -> Vec<SecretUse> {
        Vec::new()
    }
}

impl Scripted {
    fn report(&self, place: &Place, entities: &[Entity], extraction: &Extraction) -> Report {
        let failures = place.failed.iter().map(|index| Failure {
            fqn: entities[*index].fqn.clone(),
            reason: Reason::SourceProtocol,
            detail: "the object could not be read".to_owned(),
        });
        let is_complete = place.failed.is_empty();
        let is_here = |fqn: &String| entities.iter().any(|entity| entity.fqn == *fqn);
        let gone = extraction.baseline.0.keys().filter(|fqn| is_complete && !is_here(fqn)).cloned().collect();
        let objects = entities.len() as u64;
        let failed = place.failed.len() as u64;
        Report {
            complete: is_complete,
            failures: failures.collect(),
            gone,
            advice: Vec::new(),
            summary: Summary { objects, failed, ..Summary::default() },
        }
    }
}

/// Where a reading is.
#[derive(Debug, Default)]
struct Place {
    next: usize,
    /// What could not be read before.
    failed: Vec<usize>,
}

impl Place {
    fn checkpoint(&self, variant: u32) -> Checkpoint {
        let mut bytes = BytesMut::new();
        bytes.put_u32(variant);
        bytes.put_u16(self.next as u16);
        for failed in &self.failed {
            bytes.put_u16(*failed as u16);
        }
        Checkpoint(bytes.freeze())
    }

    fn read(bytes: &[u8]) -> Option<(u32, Self)> {
        let (variant, rest) = bytes.split_first_chunk::<4>()?;
        let mut numbers = rest.chunks_exact(2).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]])));
        Some((u32::from_be_bytes(*variant), Self { next: numbers.next()?, failed: numbers.collect() }))
    }
}
