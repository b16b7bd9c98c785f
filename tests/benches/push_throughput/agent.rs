//! The agent's process: the library, with a source that has every entity ready.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hybrid_runner::{
    Agent, AgentConfig, AgentEvent, Connectors, ControlPlane, Identity, LocalConfig, Pem, RunEnd, RunProgress, Stores,
};
use hybrid_runner_connector::{
    Checkpoint, Entity, EntitySink, Extraction, Reason, Report, SecretUse, Source, SourceError, Step, Summary,
};
use hybrid_runner_secrets::Resolver;
use hybrid_runner_tests::bench::cpu_seconds;
use hybrid_runner_tests::install_crypto;
use tokio_util::sync::CancellationToken;

/// The first argument of this process; port, count and size follow.
pub(crate) const ROLE: &str = "agent";
/// Entities emitted at once, as one call to Salesforce brings them.
const AT_ONCE: usize = 25;
/// Different bodies; each is sent many times under another name.
const BODIES: usize = 400;
/// How often the window is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Runs the agent in the folder of its files until its run is committed, and prints what was seen as one line of JSON.
pub(crate) async fn run(arguments: &[String]) {
    let [port, count, size] = [0, 1, 2].map(|at: usize| arguments[at].parse::<usize>().unwrap());
    install_crypto();
    let file = |name: &str| Pem::File(PathBuf::from(name));
    let config = AgentConfig {
        control_plane: ControlPlane {
            host: "localhost".to_owned(),
            port: u16::try_from(port).unwrap(),
            ca: Some(file("tls/ca.pem")),
            identity: Identity::Certificate { certificate: file("agent.pem"), key: file("agent.key") },
            proxy: None,
        },
        slots: 1,
        drain_timeout: Duration::ZERO,
        secrets: Arc::new(Stores::default()),
        salesforce: LocalConfig::default(),
        policy: None,
        run_log_bytes: AgentConfig::RUN_LOG_BYTES,
    };
    let source = Arc::new(Ready { bodies: bodies(size), count, begun: Mutex::default() });
    let planned = Arc::clone(&source);
    let connectors = Connectors::new(LocalConfig::default())
        .with("salesforce", move |_| Ok(Arc::clone(&planned) as Arc<dyn Source>));
    let agent = Agent::with_connectors(config, connectors);
    let mut events = agent.events();
    let stop = CancellationToken::new();
    let watch = async {
        let mut seen = Seen::default();
        loop {
            match events.recv().await.unwrap() {
                AgentEvent::Granted { progress, .. } => {
                    let ended = async { while !is_end(&events.recv().await.unwrap()) {} };
                    seen.watch(&progress, count, ended).await;
                    stop.cancel();
                    return seen;
                }
                AgentEvent::DefinitionRejected { detail, .. } => panic!("{detail}"),
                event => eprintln!("{event:?}"),
            }
        }
    };
    let (seen, ended) = tokio::join!(watch, agent.run(stop.clone()));
    ended.unwrap();
    let begun = source.begun.lock().unwrap().unwrap();
    let since = |moment: Option<Instant>| (moment.unwrap() - begun).as_secs_f64();
    let cpu = cpu_seconds(std::process::id());
    let (acked, committed, window) = (since(seen.acked), since(seen.committed), seen.window);
    println!("{}", serde_json::json!({"acked": acked, "committed": committed, "window": window, "cpu": cpu}));
}

/// Whether the run is committed; it ends in no other way.
fn is_end(event: &AgentEvent) -> bool {
    match event {
        AgentEvent::RunEnded { end: RunEnd::Committed(_), .. } => true,
        AgentEvent::RunEnded { end, .. } => panic!("{end:?}"),
        _ => false,
    }
}

/// What was seen of the run.
#[derive(Debug, Default)]
struct Seen {
    acked: Option<Instant>,
    committed: Option<Instant>,
    window: u64,
}

impl Seen {
    async fn watch(&mut self, progress: &RunProgress, count: usize, ended: impl Future<Output = ()>) {
        let mut ended = Box::pin(ended);
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = &mut ended => {
                    let now = Instant::now();
                    self.acked.get_or_insert(now);
                    self.committed = Some(now);
                    return;
                }
                _ = looks.tick() => {}
            }
            let seen = progress.snapshot();
            self.window = self.window.max(seen.window_bytes);
            if seen.records_acked == u64::try_from(count).unwrap() {
                self.acked.get_or_insert_with(Instant::now);
            }
        }
    }
}

struct Ready {
    bodies: Vec<String>,
    count: usize,
    /// When the first entity was ready.
    begun: Mutex<Option<Instant>>,
}

#[async_trait]
impl Source for Ready {
    async fn extract(&self, _extraction: Extraction, sink: &mut dyn EntitySink) -> Result<Report, SourceError> {
        *self.begun.lock().unwrap() = Some(Instant::now());
        for first in (0..self.count).step_by(AT_ONCE) {
            let emission = (first..self.count.min(first + AT_ONCE)).map(|nth| self.entity(nth)).collect();
            let checkpoint = Checkpoint(Bytes::copy_from_slice(&first.to_be_bytes()));
            let closed = |closed| SourceError::caused(Reason::SinkClosed, "the run was ended", closed);
            sink.emit(emission, checkpoint).await.map_err(closed)?;
        }
        let objects = u64::try_from(self.count).unwrap();
        let summary = Summary { objects, ..Summary::default() };
        Ok(Report { complete: true, failures: Vec::new(), gone: Vec::new(), advice: Vec::new(), summary })
    }

    async fn test_connection(&self, _secrets: Arc<Resolver>) -> Vec<Step> {
        Vec::new()
    }

    fn secrets(&self) -> Vec<SecretUse> {
        Vec::new()
    }
}

impl Ready {
    fn entity(&self, nth: usize) -> Entity {
        let body = &self.bodies[nth % self.bodies.len()];
        let mut named = String::with_capacity(body.len() + 32);
        // Of the same length each, so that the size is what was asked for.
        write!(named, r#"{{"name":"Object_{nth:08}__c",{body}"#).unwrap();
        Entity::new("table", format!("crm.default.salesforce.Object_{nth:08}__c"), Bytes::from(named))
    }
}

/// Tables without their names, as Salesforce's are: columns of words that repeat, so that they compress as real ones do.
fn bodies(size: usize) -> Vec<String> {
    const WORDS: [&str; 24] = [
        "Account",
        "Billing",
        "City",
        "Close",
        "Contact",
        "Country",
        "Date",
        "Email",
        "External",
        "Forecast",
        "Lead",
        "Manager",
        "Owner",
        "Parent",
        "Phone",
        "Postal",
        "Probability",
        "Record",
        "Region",
        "Stage",
        "Status",
        "Street",
        "Type",
        "Value",
    ];
    const TYPES: [(&str, &str); 5] = [
        ("VARCHAR", r#","dataTypeDisplay":"varchar(255)","dataLength":255"#),
        ("BOOLEAN", r#","dataTypeDisplay":"checkbox""#),
        ("DATETIME", r#","dataTypeDisplay":"datetime""#),
        ("DOUBLE", r#","dataTypeDisplay":"currency","precision":18,"scale":2"#),
        ("STRING", r#","dataTypeDisplay":"picklist""#),
    ];
    // The name and what is before the body.
    let size = size - r#"{"name":"Object_00000000__c","#.len();
    let mut random = fastrand::Rng::with_seed(1);
    let mut body = || {
        let mut text = r#""databaseSchema":"crm.default.salesforce","tableType":"Regular","columns":["#.to_owned();
        while text.len() < size.saturating_sub(400) {
            let (kind, rest) = TYPES[random.usize(..TYPES.len())];
            let mut word = || WORDS[random.usize(..WORDS.len())];
            let (first, second, third) = (word(), word(), word());
            let number = random.u16(..);
            write!(
                text,
                r#"{{"name":"{first}_{second}_{number}__c","displayName":"{first} {second} {third}","dataType":"{kind}"{rest},"description":"{third} of the {second}, {number:x}"}},"#
            )
            .unwrap();
        }
        text.push_str(r#"{"name":"Id","dataType":"VARCHAR","dataLength":18}],"description":""#);
        while text.len() < size - 2 {
            text.push(char::from(random.u8(b'a'..=b'z')));
        }
        text.push_str(r#""}"#);
        text
    };
    (0..BODIES).map(|_| body()).collect()
}
