//! `hybrid-runner doctor`: what is wrong between this machine and a run, and what to do about it.

use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::Table;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::terminal::Terminal;
use super::{CommandError, interruptible, runtime, start_output};
use crate::config::{Environment, Settings};
use crate::doctor::{self, Check, Examination, Finding, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The agent's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only these checks, comma separated; what they need and fails is told too.
    #[arg(long, value_name = "CHECKS", value_delimiter = ',')]
    only: Vec<Check>,
    /// Print one JSON object in place of the table: the checks, versions and the configuration, for a support case.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<ExitCode, CommandError> {
    let settings = Settings::load(Some(&arguments.config), environment)?;
    start_output(terminal, &settings.log, settings.secrets.redactor())?;
    let configuration = settings.shown();
    let config = settings.into_agent()?;
    let examined = doctor::examine(&config, &arguments.only);
    let examination = runtime()?.block_on(interruptible(async { Ok(examined.await) }))?;
    let text = if arguments.json {
        serde_json::to_string(&Report::new(&examination, &configuration))
            .map_err(|error| CommandError::failed_by(&error))?
    } else {
        table(&examination)
    };
    terminal.print(&text)?;
    Ok(if examination.status() == Status::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A finding as it is printed.
#[derive(Debug, Serialize)]
struct Row<'a> {
    check: &'static str,
    subject: Option<&'a str>,
    status: Status,
    seen: &'a str,
    /// What to do about it.
    advice: Option<&'a str>,
    docs: String,
}

impl<'a> From<&'a Finding> for Row<'a> {
    fn from(finding: &'a Finding) -> Self {
        let Finding { check, subject, status, seen, advice } = finding;
        Self {
            check: check.name(),
            subject: subject.as_deref(),
            status: *status,
            seen,
            advice: advice.as_deref(),
            docs: check.docs(),
        }
    }
}

/// The report as it is printed: a support case begins with it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    status: Status,
    at: Timestamp,
    versions: Versions<'a>,
    configuration: &'a Value,
    checks: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Versions<'a> {
    hybrid_runner: &'static str,
    /// As it says itself; absent when it was not heard.
    control_plane: Option<&'a str>,
    protocol: Option<u32>,
    /// Operating system and processor.
    system: String,
}

impl<'a> Report<'a> {
    fn new(examination: &'a Examination, configuration: &'a Value) -> Self {
        let welcome = examination.welcome.as_ref();
        Self {
            status: examination.status(),
            at: Timestamp::now(),
            versions: Versions {
                hybrid_runner: env!("CARGO_PKG_VERSION"),
                control_plane: welcome.map(|welcome| welcome.control_plane.as_str()),
                protocol: welcome.map(|welcome| welcome.protocol),
                system: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            },
            configuration,
            checks: examination.findings.iter().map(Row::from).collect(),
        }
    }
}

/// A row a finding, with what is to be done about it below.
fn table(examination: &Examination) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    for finding in &examination.findings {
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
            Status::Skipped => "skipped",
        };
        let mut seen = match &finding.subject {
            Some(subject) => format!("{subject}: {}", finding.seen),
            None => finding.seen.clone(),
        };
        if let Some(advice) = &finding.advice {
            seen.push_str(&format!("\n→ {advice}\n→ {}", finding.check.docs()));
        }
        table.add_row([finding.check.name(), status, &seen]);
    }
    let count = |status| examination.findings.iter().filter(|finding| finding.status == status).count();
    let (ok, warn) = (count(Status::Ok), count(Status::Warn));
    let (fail, skipped) = (count(Status::Fail), count(Status::Skipped));
    format!("{}\n{ok} ok, {warn} to look at, {fail} failed, {skipped} skipped", table.trim_fmt())
}
