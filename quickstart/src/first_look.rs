//! The first look: builds the three parts, joins them, and shows what happens.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use control_plane::clock::SystemClock;
use control_plane::config::Config;
use control_plane::export::Export;
use control_plane::store::{Run, RunId, SqliteStore};
use control_plane::{ControlPlane, Handle};
use hybrid_runner::{
    Agent, AgentConfig, AgentEvent, ControlPlane as Endpoint, HostPolicy, Identity, LocalConfig, LocalHost,
    MemoryStore, Pem, SecretValue, Stores,
};
use sandbox::{Credentials, FaultPlan, Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Duration, interval};
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::deployment::{Deployment, PASSWORD, PIPELINE, TOKEN};
use crate::report::{Committed, Report};
use crate::show::{self, Screen, TICK};

/// Runs until the first run ended (`--once`) or until Ctrl-C.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let screen = Screen::new();
    let dir = data_dir(args)?;
    screen.line(format!("Hybrid Runner, a first look. Data directory: {}\n", dir.display()));

    let login = Credentials::default();
    let org = start_org(args, &login).await?;
    screen.line(format!("✓ simulated Salesforce org up at {}", org.url()));

    let deployment = Deployment::of_control_plane(&dir, "127.0.0.1:0", &login.username)?;
    let mut config = Config::load(&deployment.control_plane_config())?;
    // Whoever looks waits at the prompt, and a simulated org has no quota that comes back by the hour.
    config.retry.backoff = Duration::from_millis(100);
    let store = Arc::new(SqliteStore::open(&config.store).await?);
    let bound = ControlPlane::new(config, Arc::clone(&store) as _, Arc::new(SystemClock::new())).bind().await?;
    let (handle, port) = (bound.handle(), bound.local_addr().port());
    screen.line(format!("✓ control plane up at https://localhost:{port}"));

    let (stop_agent, stop_plane) = (CancellationToken::new(), CancellationToken::new());
    let agent = Agent::new(agent_config(&deployment, port, &org)?);
    let look = Look { args, dir, config: deployment.control_plane_config(), handle, events: agent.events(), screen };
    let first = look.handle.trigger(PIPELINE, false).await?;

    let mut plane_task = JoinSet::new();
    plane_task.spawn(bound.run(stop_plane.clone()));
    let mut agent_task = JoinSet::new();
    agent_task.spawn(agent.run(stop_agent.clone()));

    let outcome = tokio::select! {
        outcome = look.watch(first) => outcome,
        Some(ended) = plane_task.join_next() => match ended? {
            Ok(()) => bail!("the control plane stopped"),
            Err(error) => Err(anyhow::Error::from(error)),
        },
        Some(ended) = agent_task.join_next() => match ended? {
            Ok(()) => bail!("the agent stopped"),
            Err(error) => Err(anyhow::Error::from(error)),
        },
    };
    // The agent first: it hands back what it holds.
    stop_agent.cancel();
    while agent_task.join_next().await.is_some() {}
    stop_plane.cancel();
    while plane_task.join_next().await.is_some() {}
    org.stop().await;
    store.close().await;
    outcome
}

/// What is watched.
struct Look<'a> {
    args: &'a Args,
    dir: PathBuf,
    config: PathBuf,
    handle: Handle,
    events: broadcast::Receiver<AgentEvent>,
    screen: Screen,
}

impl Look<'_> {
    async fn watch(mut self, first: RunId) -> anyhow::Result<ExitCode> {
        let export = self.dir.join("entities.jsonl");
        let mut shown: Option<RunId> = None;
        let mut changes = self.handle.changes();
        let mut ticker = interval(TICK);
        // Made once: a signal that comes while something else is handled is not lost.
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Ok(event) => self.screen.on_event(event),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => bail!("the agent stopped"),
                },
                _ = interrupt.recv() => return Ok(self.stopping()),
                _ = terminate.recv() => return Ok(self.stopping()),
                _ = ticker.tick() => self.screen.on_tick(),
                changed = changes.changed() => {
                    changed.context("the control plane stopped")?;
                    let Some(run) = self.ended_run(first, shown).await? else { continue };
                    // What the agent said before it is shown before the table.
                    self.catch_up(&run).await;
                    Export::new(Arc::clone(self.handle.store()), Some(PIPELINE.to_owned())).write(&export).await?;
                    let committed = Committed::of(&**self.handle.store(), PIPELINE).await?;
                    let report = Report::new(&run, committed, &export);
                    self.screen.ended(&report);
                    if shown.replace(run.run_id).is_none() {
                        show::results(&self.screen, &export, &self.config);
                    }
                    if self.args.json {
                        show::json(&report)?;
                    }
                    if self.args.once {
                        return Ok(report.exit_code());
                    }
                    self.screen.line("\nThe pipeline runs again every minute; Ctrl-C stops.");
                }
            }
        }
    }

    fn stopping(&self) -> ExitCode {
        self.screen.line("\nstopping");
        ExitCode::SUCCESS
    }

    /// The newest final run, unless it was shown.
    async fn ended_run(&self, first: RunId, shown: Option<RunId>) -> anyhow::Result<Option<Run>> {
        let runs = self.handle.store().runs(Some(PIPELINE), 2).await?;
        Ok(runs
            .into_iter()
            .find(|run| run.state.is_final())
            .filter(|run| run.run_id >= first && Some(run.run_id) != shown))
    }

    /// Shows the agent's events until the one that ends this run.
    async fn catch_up(&mut self, run: &Run) {
        let id = run.run_id.to_string();
        let until_end = async {
            while let Ok(event) = self.events.recv().await {
                let is_end = matches!(&event, AgentEvent::RunEnded { run_id, .. } if *run_id == id);
                self.screen.on_event(event);
                if is_end {
                    return;
                }
            }
        };
        // The agent may have lost the run; its word is not needed then.
        drop(tokio::time::timeout(Duration::from_secs(2), until_end).await);
    }
}

async fn start_org(args: &Args, login: &Credentials) -> anyhow::Result<SandboxHandle> {
    let config = OrgConfig {
        objects: args.objects,
        seed: args.seed,
        recordings: args.recordings.clone(),
        credentials: login.clone(),
        ..OrgConfig::default()
    };
    let org = Org::new(&config)?;
    let faults = FaultPlan {
        latency: Duration::from_millis(args.latency_ms),
        describe_time: Duration::from_millis(args.describe_ms),
        ..FaultPlan::default()
    };
    Sandbox::start(org, ServerConfig { faults, ..ServerConfig::default() }).await
}

fn agent_config(deployment: &Deployment, port: u16, org: &SandboxHandle) -> anyhow::Result<AgentConfig> {
    let pem = |text: &str| Pem::Inline(Arc::from(text.as_bytes()));
    let login = org.credentials();
    let secrets = MemoryStore::default()
        .with(PASSWORD, SecretValue::new(login.password))
        .with(TOKEN, SecretValue::new(login.security_token));
    let host = LocalHost { host: "localhost".to_owned(), port: org.addr().port(), ca: Some(org.ca_pem().into()) };
    Ok(AgentConfig {
        control_plane: Endpoint {
            host: "localhost".to_owned(),
            port,
            ca: Some(pem(&deployment.ca)),
            identity: Identity::Certificate {
                certificate: pem(&deployment.agent.certificate),
                key: pem(&deployment.agent.key),
            },
            proxy: None,
        },
        slots: 1,
        // Whoever stops a first look does not wait for a run.
        drain_timeout: Duration::ZERO,
        secrets: Arc::new(Stores::default().with("quickstart", secrets)),
        salesforce: LocalConfig {
            hosts: HostPolicy::new(vec![host])?,
            use_system_proxy: false,
            ..LocalConfig::default()
        },
        policy: None,
        run_log_bytes: AgentConfig::RUN_LOG_BYTES,
    })
}

/// The directory of `--data-dir`, or a new one.
fn data_dir(args: &Args) -> anyhow::Result<PathBuf> {
    let dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("hybrid-runner-quickstart-{}", std::process::id())),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Path::canonicalize(&dir).with_context(|| format!("find {}", dir.display()))
}
