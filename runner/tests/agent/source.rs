//! A source that does what a test tells it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use hybrid_runner_connector::{
    Baseline, Checkpoint, Content, Entity, EntitySink, Extraction, Failure, Notice, Reason, Report, SecretUse,
    Severity, Source, SourceError, Step, StepOutcome, Summary,
};
use hybrid_runner_secrets::Resolver;
use tokio::sync::Semaphore;

/// Emits the entities it was given. Its checkpoint is how many it has emitted.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) entities: Vec<Entity>,
    /// Entities of one emission.
    pub(crate) at_once: usize,
    /// One permit for each emission; none: no waiting.
    pub(crate) steps: Option<Arc<Semaphore>>,
    /// What the baseline has with the same content is emitted without its body.
    pub(crate) conditional: bool,
    pub(crate) refuses_checkpoints: bool,
    pub(crate) fails: Option<Reason>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) panics: bool,
    pub(crate) readings: Arc<Mutex<Vec<Reading>>>,
}

/// What one reading was given.
pub(crate) struct Reading {
    pub(crate) start: Option<Checkpoint>,
    pub(crate) baseline: Arc<Baseline>,
}

pub(crate) fn entity(name: &str, bytes: usize) -> Entity {
    Entity::new("table", format!("sf.default.salesforce.{name}"), Bytes::from(vec![b'x'; bytes]))
}

impl Fake {
    pub(crate) fn new(entities: Vec<Entity>) -> Self {
        Self {
            entities,
            at_once: 1,
            steps: None,
            conditional: false,
            refuses_checkpoints: false,
            fails: None,
            failures: Vec::new(),
            panics: false,
            readings: Arc::default(),
        }
    }

    pub(crate) fn stepped(entities: Vec<Entity>) -> (Self, Arc<Semaphore>) {
        Self::new(entities).stepping()
    }

    pub(crate) fn stepping(self) -> (Self, Arc<Semaphore>) {
        let steps = Arc::new(Semaphore::new(0));
        (Self { steps: Some(steps.clone()), ..self }, steps)
    }

    fn seen(&self, entity: &Entity, baseline: &Baseline) -> Entity {
        let hash = entity.content_hash();
        let is_known = baseline.0.get(&entity.fqn).is_some_and(|old| old.content_hash == hash);
        let content = if self.conditional && is_known { Content::Unchanged(hash) } else { entity.content.clone() };
        Entity { content, ..entity.clone() }
    }
}

#[async_trait]
impl Source for Fake {
    async fn extract(&self, extraction: Extraction, sink: &mut dyn EntitySink) -> Result<Report, SourceError> {
        assert!(!self.panics, "as the test wants it");
        let reading = Reading { start: extraction.start.clone(), baseline: Arc::clone(&extraction.baseline) };
        self.readings.lock().unwrap().push(reading);
        let mut done = 0;
        if let Some(Checkpoint(start)) = &extraction.start {
            if self.refuses_checkpoints {
                return Err(SourceError::new(Reason::CheckpointUnusable, "the org has changed"));
            }
            done = std::str::from_utf8(start).unwrap().parse().unwrap();
        }
        sink.notice(Notice { severity: Severity::Info, code: "login_succeeded", text: "logged in".to_owned() });
        for entities in self.entities[done..].chunks(self.at_once) {
            if let Some(steps) = &self.steps {
                steps.acquire().await.expect("the test holds it").forget();
            }
            done += entities.len();
            let checkpoint = Checkpoint(Bytes::from(done.to_string()));
            let closed = |error| SourceError::caused(Reason::SinkClosed, "closed", error);
            let seen = entities.iter().map(|entity| self.seen(entity, &extraction.baseline)).collect();
            sink.emit(seen, checkpoint).await.map_err(closed)?;
            extraction.progress.add_done(entities.len() as u64);
        }
        if let Some(reason) = self.fails {
            return Err(SourceError::caused(reason, "wrong password", std::io::Error::other("only for the log")));
        }
        let complete = self.failures.is_empty();
        let known: Vec<&str> = self.entities.iter().map(|entity| entity.fqn.as_str()).collect();
        let gone = extraction.baseline.0.keys().filter(|fqn| complete && !known.contains(&fqn.as_str()));
        Ok(Report {
            complete,
            gone: gone.cloned().collect(),
            failures: self.failures.clone(),
            advice: Vec::new(),
            summary: Summary {
                objects: self.entities.len() as u64,
                requests: 3,
                requests_left: Some(997),
                ..Summary::default()
            },
        })
    }

    async fn test_connection(&self, _secrets: Arc<Resolver>) -> Vec<Step> {
        assert!(!self.panics, "as the test wants it");
        if let Some(steps) = &self.steps {
            steps.acquire().await.expect("the test holds it").forget();
        }
        let outcome = self.fails.map_or(StepOutcome::Passed, StepOutcome::Failed);
        let step = |name, outcome| Step {
            name,
            mandatory: true,
            outcome,
            message: "looked".to_owned(),
            remediation: matches!(outcome, StepOutcome::Failed(_)).then(|| "change it".to_owned()),
        };
        vec![step("CheckAccess", outcome), step("ListObjects", StepOutcome::Skipped)]
    }

    fn secrets(&self) -> Vec<SecretUse> {
        Vec::new()
    }
}
