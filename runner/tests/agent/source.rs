//! A source that does what a test tells it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hybrid_runner_connector::{
    Checkpoint, Entity, EntitySink, Extraction, Failure, Notice, Reason, Report, Severity, Source, SourceError, Step,
    StepOutcome, Summary,
};
use hybrid_runner_secrets::Stores;
use tokio::sync::Semaphore;

/// Emits the entities it was given, one emission each.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) entities: Vec<Entity>,
    /// One permit for each emission; none: no waiting.
    pub(crate) steps: Option<Arc<Semaphore>>,
    pub(crate) fails: Option<Reason>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) panics: bool,
}

pub(crate) fn entity(name: &str, bytes: usize) -> Entity {
    Entity::new("table", format!("sf.default.salesforce.{name}"), Bytes::from(vec![b'x'; bytes]))
}

impl Fake {
    pub(crate) fn new(entities: Vec<Entity>) -> Self {
        Self { entities, steps: None, fails: None, failures: Vec::new(), panics: false }
    }

    pub(crate) fn stepped(entities: Vec<Entity>) -> (Self, Arc<Semaphore>) {
        let steps = Arc::new(Semaphore::new(0));
        (Self { steps: Some(steps.clone()), ..Self::new(entities) }, steps)
    }
}

#[async_trait]
impl Source for Fake {
    async fn extract(&self, extraction: Extraction, sink: &mut dyn EntitySink) -> Result<Report, SourceError> {
        assert!(!self.panics, "as the test wants it");
        sink.notice(Notice { severity: Severity::Info, code: "login_succeeded", text: "logged in".to_owned() });
        for (index, entity) in self.entities.iter().enumerate() {
            if let Some(steps) = &self.steps {
                steps.acquire().await.expect("the test holds it").forget();
            }
            let checkpoint = Checkpoint(Bytes::from(index.to_string()));
            let closed = |error| SourceError::caused(Reason::SinkClosed, "closed", error);
            sink.emit(vec![entity.clone()], checkpoint).await.map_err(closed)?;
            extraction.progress.add_done(1);
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
            summary: Summary { objects: self.entities.len() as u64, requests: 3, ..Summary::default() },
        })
    }

    async fn test_connection(&self, _secrets: Arc<Stores>) -> Vec<Step> {
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
}
