//! `hybrid-runner extract`: one extraction without a control plane.

pub(super) mod local;
mod output;
mod prepare;
mod summary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::{
    Baseline, Extraction, Progress, ProgressSnapshot, Reason, Report, Source, SourceError, Summary,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{Instrument as _, Span};

use super::terminal::Terminal;
use super::{CommandError, runtime};
use crate::config::Environment;
use crate::telemetry::{self, Chain};
use crate::tripwire::Tripwire;
use local::{Local, WorkflowArguments};
use output::{Destination, ExportSink, OutputError, Written};
use summary::{Display, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    local: WorkflowArguments,
    /// Where the entities go, as JSON Lines; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result as one JSON object, the last line of stdout.
    #[arg(long)]
    json: bool,
}

/// How often the progress bar moves.
const REDRAW: Duration = Duration::from_millis(100);

pub(super) fn run(
    arguments: &Arguments,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<ExitCode, CommandError> {
    let settings = arguments.local.settings(environment, terminal)?;
    let out = arguments.out.as_deref().ok_or_else(|| {
        CommandError::refused(
            "writing to the workflow's sink is not available yet; give --out FILE, or --out - for stdout, to get the \
             entities as JSON Lines",
        )
    })?;
    let local = arguments.local.load(settings, environment)?;
    let display = Display::new(terminal.clone());
    if let Some(warning) = local.warning() {
        display.warn(warning);
    }
    runtime()?.block_on(extract(Job { local, out, json: arguments.json, display }))
}

struct Job<'a> {
    local: Local,
    out: &'a Path,
    json: bool,
    display: Display,
}

async fn extract(job: Job<'_>) -> Result<ExitCode, CommandError> {
    let Job { local: Local { plan, secrets, name, .. }, out, json, display } = job;
    let destination = Destination::open(out).await.map_err(|error| CommandError::refused(error.to_string()))?;
    let progress = Arc::new(Progress::default());
    let extraction = Extraction {
        secrets,
        start: None,
        baseline: Arc::new(Baseline::default()),
        full: false,
        progress: Arc::clone(&progress),
    };
    let begun = Instant::now();
    let mut sink = ExportSink::new(destination, display.clone());
    let span = if plan.is_verbose { telemetry::run_span(true, "local", &name) } else { Span::none() };
    let extracted = watch(&*plan.source, extraction, &mut sink, &display).instrument(span).await;
    display.clear();
    let written = sink.written();
    let state = if matches!(extracted, End::Interrupted) { "cancelled" } else { "failed" };
    let finished = match (extracted, sink.into_error()) {
        (End::Interrupted, _) => Err(CommandError::failed("interrupted; nothing was written")),
        (_, Err(error)) => Err(unwritten(&error)),
        (End::Source(Err(error)), Ok(destination)) => match throttled(&error, written, progress.snapshot(), &display) {
            Some(report) => {
                destination.finish().await.map(|export| (report, export)).map_err(|error| unwritten(&error))
            }
            None => Err(source_error(&error, progress.snapshot().requests)),
        },
        (End::Source(Ok(report)), Ok(destination)) => {
            destination.finish().await.map(|export| (report, export)).map_err(|error| unwritten(&error))
        }
    };
    let outcome = Outcome { pipeline: name, written, wall: begun.elapsed(), progress: progress.snapshot() };
    match finished {
        Ok((report, export)) => {
            display.report(&outcome, &report, export.as_deref());
            if json {
                display.print(&outcome.committed(&report, export.as_deref()))?;
            }
            Ok(if report.complete { ExitCode::SUCCESS } else { ExitCode::from(3) })
        }
        Err(error) => {
            if json && error.code == CommandError::FAILED {
                display.print(&outcome.unwritten(state))?;
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
    let redactor = extraction.secrets.redactor().clone();
    let mut tripwire = Tripwire::before(sink, &redactor);
    let mut extracted = source.extract(extraction, &mut tripwire);
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
    let result = loop {
        tokio::select! {
            result = &mut extracted => break result,
            _ = tokio::signal::ctrl_c() => return End::Interrupted,
            _ = &mut terminated => return End::Interrupted,
            _ = ticker.tick() => {}
        }
        display.show(progress.snapshot());
    };
    drop(extracted);
    End::Source(tripwire.passed(result))
}

fn unwritten(error: &OutputError) -> CommandError {
    CommandError::failed(error.to_string())
}

/// The report of a run that the source's quota ended after tables were written: they are kept.
fn throttled(error: &SourceError, written: Written, seen: ProgressSnapshot, display: &Display) -> Option<Report> {
    if error.reason != Reason::SourceThrottled || written.tables == 0 {
        return None;
    }
    let Written { tables, columns, keys, .. } = written;
    let objects = seen.objects_total;
    display.warn(&format!("stopped early: {}: {}", error.reason, Chain(error)));
    let advice =
        format!("{tables} of {objects} objects are written; run again once the quota permits, for all of them");
    let summary = Summary {
        objects,
        failed: objects.saturating_sub(tables),
        columns,
        keys,
        requests: seen.requests,
        bytes_received: seen.bytes_received,
        requests_left: seen.requests_left,
        ..Summary::default()
    };
    Some(Report { complete: false, failures: Vec::new(), gone: Vec::new(), advice: vec![advice], summary })
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
