//! `hybrid-runner extract`: one extraction without a control plane.

mod output;
mod prepare;
mod summary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::{Baseline, DefinitionError, Extraction, Progress, Reason, Report, Source, SourceError};
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_openmetadata::yaml;
use hybrid_runner_salesforce::LocalConfig;
use hybrid_runner_secrets::{EnvStore, MemoryStore, SecretValue, StoreSpec, Stores};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{CommandError, runtime};
use crate::config::{Environment, Log, Settings};
use crate::plan::{self, Connectors};
use crate::telemetry::{self, Chain};
use output::{Destination, ExportSink};
use prepare::Prepared;
use summary::{Display, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The workflow file, YAML or JSON, as for `metadata ingest -c`.
    #[arg(short = 'c', value_name = "WORKFLOW")]
    workflow: PathBuf,
    /// The store that `secret:/path` means: `file:DIR`, `env` or `env:PREFIX`.
    #[arg(long, value_name = "STORE")]
    secrets: Option<String>,
    /// Where the entities go, as JSON Lines; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result as one JSON object, the last line of stdout.
    #[arg(long)]
    json: bool,
    /// Accept credentials that stand in the file itself.
    #[arg(long)]
    allow_literal_secrets: bool,
    /// The agent's configuration, for its stores and its Salesforce hosts.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How often the progress bar moves.
const REDRAW: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<ExitCode, CommandError> {
    let settings = Settings::load(arguments.config.as_deref(), environment)?;
    // What an operator wants to see of a one-off run is shown anyway; a log of its own only on request.
    let is_asked = arguments.config.is_some() || environment.var("HYBRID_RUNNER_LOG__LEVEL").is_some();
    let log = if is_asked { settings.log.clone() } else { Log { level: "warn".to_owned(), ..settings.log.clone() } };
    telemetry::start(&log)?;
    let out = arguments.out.as_deref().ok_or_else(|| {
        CommandError::refused(
            "writing to the workflow's sink is not available yet; give --out FILE, or --out - for stdout, to get the \
             entities as JSON Lines",
        )
    })?;
    let mut document = read(&arguments.workflow)?;
    let prepared = prepare::prepare(&mut document, environment, arguments.allow_literal_secrets)?;
    let workflow = plan::parse(document).map_err(|error| refused(&error))?;
    let local = LocalConfig { definitions_are_local: true, ..settings.salesforce.clone() };
    let source = Connectors::new(local).plan(&workflow).map_err(|error| refused(&error))?;
    let display = Display::new();
    if prepared.has_literal_secrets {
        display.warn("credentials stand in the workflow file itself; references keep them out of files");
    }
    let secrets = stores(arguments, settings, prepared)?;
    let name = pipeline_name(&workflow, &arguments.workflow);
    runtime()?.block_on(extract(Job { source, secrets, name, out, json: arguments.json, display }))
}

fn read(path: &Path) -> Result<serde_json::Value, CommandError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| CommandError::refused(format!("read the workflow {shown}: {error}")))?;
    let documents = yaml::documents(&text).map_err(|error| {
        let yaml::SyntaxError { line, column, detail } = error;
        CommandError::refused(format!("{shown}, line {line}, column {column}: {detail}"))
    })?;
    let count = documents.len();
    match documents.into_iter().next() {
        Some(document) if count == 1 => Ok(document),
        _ => Err(CommandError::refused(format!("{shown}: found {count} documents; accepted: one workflow"))),
    }
}

fn refused(error: &DefinitionError) -> CommandError {
    let hint = match error.reason {
        Reason::LiteralSecret => {
            "; in a local file ${VARIABLE} is accepted too, and everything with --allow-literal-secrets"
        }
        _ => "",
    };
    CommandError::refused(format!("{error}{hint}"))
}

fn stores(arguments: &Arguments, settings: Settings, prepared: Prepared) -> Result<Stores, CommandError> {
    // The first store is the default one.
    let stores = match &arguments.secrets {
        Some(text) => {
            let spec =
                text.parse::<StoreSpec>().map_err(|error| CommandError::refused(format!("--secrets: {error}")))?;
            Stores::default().with_spec("secrets", spec)
        }
        None if settings.has_stores => settings.secrets,
        None => Stores::default().with("default", prepare::NoStore),
    };
    let literals = prepared
        .literals
        .into_iter()
        .fold(MemoryStore::default(), |store, (path, value)| store.with(path, SecretValue::new(value)));
    Ok(stores.with(prepare::VARIABLES, EnvStore::verbatim()).with(prepare::LITERALS, literals))
}

/// As the control plane would name it.
fn pipeline_name(workflow: &Workflow, path: &Path) -> String {
    let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    workflow.ingestion_pipeline_fqn.clone().or_else(stem).unwrap_or_else(|| "workflow".to_owned())
}

struct Job<'a> {
    source: Arc<dyn Source>,
    secrets: Stores,
    name: String,
    out: &'a Path,
    json: bool,
    display: Display,
}

async fn extract(job: Job<'_>) -> Result<ExitCode, CommandError> {
    let Job { source, secrets, name, out, json, display } = job;
    let destination = Destination::open(out).await.map_err(|error| CommandError::refused(error.to_string()))?;
    let progress = Arc::new(Progress::default());
    let extraction = Extraction {
        secrets: Arc::new(secrets),
        start: None,
        baseline: Arc::new(Baseline::default()),
        full: false,
        progress: Arc::clone(&progress),
    };
    let begun = Instant::now();
    let mut sink = ExportSink::new(destination, display.clone());
    let extracted = watch(&*source, extraction, &mut sink, &display).await;
    display.clear();
    let entities = sink.entities();
    let state = if matches!(extracted, End::Interrupted) { "cancelled" } else { "failed" };
    let finished = match (extracted, sink.into_error()) {
        (End::Interrupted, _) => Err(CommandError::failed("interrupted; nothing was written")),
        (_, Err(error)) => Err(CommandError::failed(error.to_string())),
        (End::Source(Err(error)), Ok(_)) => Err(source_error(&error, progress.snapshot().requests)),
        (End::Source(Ok(report)), Ok(destination)) => match destination.finish().await {
            Ok(export) => Ok((report, export)),
            Err(error) => Err(CommandError::failed(error.to_string())),
        },
    };
    let outcome = Outcome { pipeline: name, entities, wall: begun.elapsed(), progress: progress.snapshot() };
    match finished {
        Ok((report, export)) => {
            display.report(&outcome, &report, export.as_deref());
            if json {
                outcome.print_committed(&report, export.as_deref())?;
            }
            Ok(if report.complete { ExitCode::SUCCESS } else { ExitCode::from(3) })
        }
        Err(error) => {
            if json && error.code == CommandError::FAILED {
                outcome.print_unwritten(state)?;
            }
            Err(error)
        }
    }
}

enum End {
    Source(Result<Report, SourceError>),
    Interrupted,
}

/// Extracts, and shows how far it is.
async fn watch(source: &dyn Source, extraction: Extraction, sink: &mut ExportSink, display: &Display) -> End {
    let progress = Arc::clone(&extraction.progress);
    let mut extracted = source.extract(extraction, sink);
    // Without it, a SIGTERM ends the process as it always does.
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => terminate.recv().await,
            None => std::future::pending().await,
        }
    };
    let mut terminated = std::pin::pin!(terminated);
    let mut ticker = interval(REDRAW);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            result = &mut extracted => return End::Source(result),
            _ = tokio::signal::ctrl_c() => return End::Interrupted,
            _ = &mut terminated => return End::Interrupted,
            _ = ticker.tick() => {}
        }
        display.show(progress.snapshot());
    }
}

/// What is wrong with the input is refused as such, as long as nothing was sent.
fn source_error(error: &SourceError, requests: u64) -> CommandError {
    let text = format!("{}: {}", error.reason, Chain(error));
    let is_input = matches!(
        error.reason,
        Reason::BadDefinition
            | Reason::LiteralSecret
            | Reason::PolicyDenied
            | Reason::SourceUnknown
            | Reason::SecretUnavailable
            | Reason::SecretMalformed
    );
    if is_input && requests == 0 { CommandError::refused(text) } else { CommandError::failed(text) }
}
