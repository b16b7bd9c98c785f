//! The way out of a source's results: none that holds the value of a secret passes.
//!
//! Between every source and its sink stands a [`Tripwire`]. An entity with a value in its body, name or memo is not handed on
//! and closes the sink; the run fails with `SECRET_IN_OUTPUT`, so that nothing of it is kept. Sentences for people go on
//! without the value.

use async_trait::async_trait;
use hybrid_runner_connector::{Checkpoint, Entity, EntitySink, Notice, Reason, Report, SinkClosed, SourceError};
use hybrid_runner_secrets::Redactor;

/// A sink for what holds no value of a secret.
pub(crate) struct Tripwire<'a> {
    redactor: Redactor,
    sink: &'a mut dyn EntitySink,
    met: Option<SourceError>,
}

impl<'a> Tripwire<'a> {
    pub(crate) fn before(sink: &'a mut dyn EntitySink, redactor: &Redactor) -> Self {
        Self { redactor: redactor.clone(), sink, met: None }
    }

    /// What the source came to, after it wrote to this sink.
    ///
    /// # Errors
    /// The source's own, without values; or that there was one in what it made.
    pub(crate) fn passed(self, extracted: Result<Report, SourceError>) -> Result<Report, SourceError> {
        if let Some(met) = self.met {
            return Err(met);
        }
        let report = extracted?;
        let names = report.failures.iter().map(|failure| &failure.fqn).chain(&report.gone);
        match names.into_iter().find(|name| self.redactor.scan(name.as_bytes())) {
            Some(name) => Err(self.refused("name of an object", name)),
            None => Ok(report),
        }
    }

    fn check(&self, entities: &[Entity], checkpoint: &Checkpoint) -> Result<(), SourceError> {
        for entity in entities {
            let parts = [entity.fqn.as_bytes(), entity.body().map_or(b"", |body| body), &entity.memo];
            if parts.into_iter().any(|part| self.redactor.scan(part)) {
                return Err(self.refused(entity.kind, &entity.fqn));
            }
        }
        if self.redactor.scan(&checkpoint.0) { Err(self.refused("checkpoint", "")) } else { Ok(()) }
    }

    fn refused(&self, kind: &str, name: &str) -> SourceError {
        let name = self.redactor.replace_text(name.to_owned());
        let detail = format!(
            "the {kind} {name} holds the value of a secret, so that nothing of this run is kept: take the value out of the \
             source's names, labels and descriptions and change the secret; if the secret is a common word, choose a \
             longer random one"
        );
        SourceError::new(Reason::SecretInOutput, detail)
    }
}

#[async_trait]
impl EntitySink for Tripwire<'_> {
    async fn emit(&mut self, entities: Vec<Entity>, checkpoint: Checkpoint) -> Result<(), SinkClosed> {
        if let Err(met) = self.check(&entities, &checkpoint) {
            self.met = Some(met);
        }
        if self.met.is_some() {
            return Err(SinkClosed);
        }
        self.sink.emit(entities, checkpoint).await
    }

    fn notice(&mut self, mut notice: Notice) {
        notice.text = self.redactor.replace_text(notice.text);
        self.sink.notice(notice);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hybrid_runner_connector::{Failure, Severity, Summary};
    use hybrid_runner_secrets::SecretValue;

    use super::*;

    const PASSWORD: &str = "correct horse <battery>";

    #[derive(Default)]
    struct Sink {
        entities: Vec<Entity>,
        notices: Vec<Notice>,
    }

    #[async_trait]
    impl EntitySink for Sink {
        async fn emit(&mut self, entities: Vec<Entity>, _checkpoint: Checkpoint) -> Result<(), SinkClosed> {
            self.entities.extend(entities);
            Ok(())
        }

        fn notice(&mut self, notice: Notice) {
            self.notices.push(notice);
        }
    }

    fn entity(fqn: &str, body: &str) -> Entity {
        Entity::new("table", fqn.to_owned(), Bytes::from(body.to_owned()))
    }

    fn report() -> Report {
        let (failures, gone, advice) = (Vec::new(), Vec::new(), Vec::new());
        Report { complete: true, failures, gone, advice, summary: Summary::default() }
    }

    fn watching() -> (Redactor, SecretValue) {
        let redactor = Redactor::default();
        let held = redactor.watch(SecretValue::new(PASSWORD.to_owned()));
        (redactor, held)
    }

    #[tokio::test]
    async fn an_entity_with_a_value_closes_the_sink_and_is_named_without_it() {
        let (redactor, _held) = watching();
        let leak = format!("{{\"description\":\"{PASSWORD}\"}}");
        let with_memo = Entity { memo: Bytes::from_static(PASSWORD.as_bytes()), ..entity("crm.memo", "{}") };
        for (bad, name) in [
            (entity("crm.body", &leak), "crm.body"),
            (entity(&format!("crm.{PASSWORD}"), "{}"), "crm.[redacted]"),
            (with_memo, "crm.memo"),
        ] {
            let mut sink = Sink::default();
            let mut tripwire = Tripwire::before(&mut sink, &redactor);
            tripwire.emit(vec![entity("crm.good", "{}")], Checkpoint::default()).await.unwrap();
            assert_eq!(tripwire.emit(vec![bad], Checkpoint::default()).await, Err(SinkClosed));
            assert_eq!(tripwire.emit(vec![entity("crm.later", "{}")], Checkpoint::default()).await, Err(SinkClosed));
            // Whatever the source makes of a closed sink.
            let error = tripwire.passed(Ok(report())).unwrap_err();
            assert_eq!(error.reason, Reason::SecretInOutput);
            assert!(error.detail.contains(name) && !error.detail.contains("horse"), "{}", error.detail);
            assert_eq!(sink.entities, [entity("crm.good", "{}")]);
        }
        assert_eq!(redactor.hits(), 4, "a hit each, and one in a name that was shown");
    }

    #[tokio::test]
    async fn a_checkpoint_and_the_names_of_a_report_are_looked_at() {
        let (redactor, _held) = watching();
        let mut sink = Sink::default();
        let mut tripwire = Tripwire::before(&mut sink, &redactor);
        let checkpoint = Checkpoint(Bytes::from_static(PASSWORD.as_bytes()));
        assert_eq!(tripwire.emit(Vec::new(), checkpoint).await, Err(SinkClosed));
        let failure = Failure { fqn: PASSWORD.to_owned(), reason: Reason::ObjectVanished, detail: "gone".to_owned() };
        for bad in
            [Report { failures: vec![failure], ..report() }, Report { gone: vec![PASSWORD.to_owned()], ..report() }]
        {
            let error = Tripwire::before(&mut sink, &redactor).passed(Ok(bad)).unwrap_err();
            assert_eq!(error.reason, Reason::SecretInOutput);
        }
        assert_eq!(Tripwire::before(&mut sink, &redactor).passed(Ok(report())).unwrap(), report());
    }

    #[test]
    fn a_notice_goes_on_without_the_value() {
        let (redactor, _held) = watching();
        let mut sink = Sink::default();
        let notice = |text: &str| Notice { severity: Severity::Warning, code: "odd", text: text.to_owned() };
        Tripwire::before(&mut sink, &redactor).notice(notice(&format!("it says {PASSWORD}!")));
        assert_eq!(sink.notices, [notice("it says [redacted]!")]);
    }
}
