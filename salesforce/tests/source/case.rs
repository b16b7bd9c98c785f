//! One org, one definition, and what a run of it emits.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hybrid_runner_connector::{
    Baseline, Checkpoint, Entity, EntitySink, Extraction, Notice, Progress, Report, SinkClosed, Source as _,
    SourceError,
};
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_salesforce::{HostPolicy, LocalConfig, LocalHost, SalesforceSource};
use hybrid_runner_secrets::{MemoryStore, Resolver, SecretValue, Stores};
use sandbox::{FaultPlan, Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};

/// Collects what a run emits; can refuse to take more after a number of emits.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) entities: Vec<Entity>,
    pub(crate) emits: Vec<(usize, Checkpoint)>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) closes_after: Option<usize>,
    /// Never takes anything over once this many were emitted.
    pub(crate) stalls_after: Option<usize>,
}

#[async_trait]
impl EntitySink for Sink {
    async fn emit(&mut self, entities: Vec<Entity>, checkpoint: Checkpoint) -> Result<(), SinkClosed> {
        if self.closes_after.is_some_and(|most| self.emits.len() >= most) {
            return Err(SinkClosed);
        }
        if self.stalls_after.is_some_and(|most| self.emits.len() >= most) {
            std::future::pending::<()>().await;
        }
        self.entities.extend(entities);
        self.emits.push((self.entities.len(), checkpoint));
        Ok(())
    }

    fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

impl Sink {
    pub(crate) fn tables(&self) -> Vec<&str> {
        self.entities.iter().filter(|entity| entity.kind == "table").map(|entity| entity.fqn.as_str()).collect()
    }

    pub(crate) fn has_notice(&self, code: &str) -> bool {
        self.notices.iter().any(|notice| notice.code == code)
    }
}

/// One org, one definition.
pub(crate) struct Case {
    pub(crate) org: SandboxHandle,
    /// Lines below `serviceConnection.config`.
    pub(crate) connection: String,
    /// Lines below `sourceConfig.config`.
    pub(crate) options: String,
    pub(crate) ca: Option<String>,
    pub(crate) baseline: Baseline,
    pub(crate) start: Option<Checkpoint>,
    pub(crate) full: bool,
    pub(crate) password: String,
    /// The deadline of each call.
    pub(crate) call_timeout: Duration,
}

pub(crate) const PASSWORD: &str = "password: secret:/sf/password\nsecurityToken: secret:/sf/token";

impl Case {
    pub(crate) async fn of(objects: usize) -> Self {
        Self::with(objects, FaultPlan::default()).await
    }

    pub(crate) async fn with(objects: usize, faults: FaultPlan) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let _already_installed = provider.install_default();
        let org = Org::generate(&OrgConfig { objects, fields_per_object: Some(8), ..OrgConfig::default() });
        let org = Sandbox::start(org, ServerConfig { faults, ..ServerConfig::default() }).await.unwrap();
        let credentials = org.credentials();
        Self {
            connection: format!("username: {}\n{PASSWORD}", credentials.username),
            options: String::new(),
            ca: Some(org.ca_pem().to_owned()),
            password: credentials.password,
            org,
            baseline: Baseline::default(),
            start: None,
            full: false,
            call_timeout: LocalConfig::default().call_timeout,
        }
    }

    pub(crate) fn workflow(&self) -> Workflow {
        let indent =
            |text: &str, by: usize| text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect::<String>();
        let yaml = format!(
            "source:\n  type: salesforce\n  serviceName: sf\n  serviceConnection:\n    config:\n      type: Salesforce\n      \
             salesforceDomain: localhost\n{}  sourceConfig:\n    config:\n      type: DatabaseMetadata\n{}",
            indent(&self.connection, 6),
            indent(&self.options, 6),
        );
        Workflow::from_yaml(&yaml).unwrap()
    }

    fn local(&self) -> LocalConfig {
        let host = LocalHost {
            host: "localhost".to_owned(),
            port: self.org.addr().port(),
            ca: self.ca.clone().map(String::into_bytes),
        };
        let hosts = HostPolicy::new(vec![host]).unwrap();
        LocalConfig { hosts, use_system_proxy: false, call_timeout: self.call_timeout, ..LocalConfig::default() }
    }

    pub(crate) fn source(&self) -> SalesforceSource {
        SalesforceSource::plan(&self.workflow(), &self.local()).unwrap()
    }

    pub(crate) fn extraction(&self) -> Extraction {
        let credentials = self.org.credentials();
        let store = MemoryStore::default()
            .with("/sf/password", SecretValue::new(self.password.clone()))
            .with("/sf/token", SecretValue::new(credentials.security_token))
            .with("/sf/secret", SecretValue::new(credentials.consumer_secret));
        Extraction {
            secrets: Arc::new(Resolver::new(
                Arc::new(Stores::default().with("memory", store)),
                Arc::new(self.local().policy()),
                None,
            )),
            start: self.start.clone(),
            baseline: Arc::new(Baseline(self.baseline.0.clone())),
            full: self.full,
            progress: Arc::new(Progress::default()),
        }
    }

    pub(crate) async fn run(&self) -> (Result<Report, SourceError>, Sink) {
        let mut sink = Sink::default();
        let result = self.source().extract(self.extraction(), &mut sink).await;
        self.assert_no_secret(&result, &sink);
        (result, sink)
    }

    pub(crate) async fn report(&self) -> (Report, Sink) {
        let (result, sink) = self.run().await;
        (result.unwrap(), sink)
    }

    pub(crate) async fn error(&self) -> SourceError {
        self.run().await.0.unwrap_err()
    }

    /// FQNs of the tables of all objects, in the listing's order.
    pub(crate) fn expected(&self) -> Vec<String> {
        self.org.org().objects().map(|object| format!("sf.default.salesforce.{}", object.entry.name)).collect()
    }

    pub(crate) fn assert_complete(&self, report: &Report, sink: &Sink) {
        assert_eq!(report.failures, []);
        assert!(report.complete);
        assert_eq!(sink.tables(), self.expected());
        let org = self.org.org();
        assert_eq!(report.summary.objects, u64::try_from(org.objects().len()).unwrap());
        assert_eq!(report.summary.columns, u64::try_from(org.field_count()).unwrap());
        assert!(report.summary.keys >= report.summary.objects);
    }

    pub(crate) fn assert_no_secret(&self, result: &Result<Report, SourceError>, sink: &Sink) {
        let credentials = self.org.credentials();
        let said = format!("{result:?} {:?} {:?}", sink.notices, sink.emits);
        for secret in [&self.password, &credentials.security_token, &credentials.consumer_secret] {
            assert!(!said.contains(secret.as_str()), "a secret is in {said}");
        }
    }
}

/// The texts of an error and its causes.
pub(crate) fn chain(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
