//! `hybrid-runner secrets check`: whether every secret can be read, and what to do when not. No value is shown.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use comfy_table::Table;
use hybrid_runner_connector::{DefinitionError, Reason, Source};
use hybrid_runner_secrets::Resolver;
use serde::Serialize;

use super::extract::local::WorkflowArguments;
use super::terminal::Terminal;
use super::{CommandError, interruptible, runtime, start_output};
use crate::config::{AgentConfig, Environment, Settings};
use crate::plan::Connectors;
use crate::preflight::{self, Checked};
use crate::session;
use crate::telemetry::Chain;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Read every secret of a workflow, or of all pipelines of the control plane, and show none.
    Check(Check),
}

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The workflow file. Without it the control plane of --config is asked for the pipelines of this agent.
    #[arg(short = 'c', value_name = "WORKFLOW", required_unless_present = "config")]
    workflow: Option<PathBuf>,
    /// The store that `secret:/path` means in the workflow: `file:DIR`, `env[:PREFIX]`, `vault`, `aws` or `kubernetes`.
    #[arg(long, value_name = "STORE", requires = "workflow")]
    secrets: Option<String>,
    /// Accept credentials that stand in the workflow file itself.
    #[arg(long, requires = "workflow")]
    allow_literal_secrets: bool,
    /// The agent's configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON array in place of the table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    Command::Check(arguments): Command,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<ExitCode, CommandError> {
    let Check { workflow, secrets, allow_literal_secrets, config, json } = arguments;
    let rows = match workflow {
        Some(workflow) => {
            let local = WorkflowArguments { workflow, secrets, allow_literal_secrets, config };
            let settings = local.settings(environment, terminal)?;
            let local = local.load(settings, environment)?;
            runtime()?
                .block_on(interruptible(async { Ok(check(&local.name, &*local.plan.source, &local.secrets).await) }))
        }
        None => {
            let settings = Settings::load(config.as_deref(), environment)?;
            start_output(terminal, &settings.log, settings.secrets.redactor())?;
            runtime()?.block_on(interruptible(check_all(settings.into_agent()?)))
        }
    }?;
    let text = if json {
        serde_json::to_string(&rows).map_err(|error| CommandError::failed_by(&error))?
    } else {
        table(&rows)
    };
    terminal.print(&text)?;
    Ok(if rows.iter().all(|row| row.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The secrets of every pipeline that the control plane has for this agent.
async fn check_all(config: AgentConfig) -> Result<Vec<Row>, CommandError> {
    let connectors = Connectors::new(config.salesforce.clone());
    let policy = config.policy();
    // The password of a proxy on the way is of no pipeline.
    let secrets = Resolver::new(Arc::clone(&config.secrets), Arc::clone(&policy), None);
    let definitions = session::definitions(config.control_plane, &connectors.kinds(), secrets)
        .await
        .map_err(|error| CommandError::failed_by(&error))?;
    let mut rows = Vec::new();
    for session::Definition { pipeline, workflow_json, .. } in definitions {
        match connectors.plan_json(&workflow_json) {
            Ok(plan) => {
                let (stores, policy) = (Arc::clone(&config.secrets), Arc::clone(&policy));
                let secrets = Resolver::new(stores, policy, Some(pipeline.clone()));
                rows.extend(check(&pipeline, &*plan.source, &secrets).await);
            }
            Err(refused) => rows.push(Row::refused(pipeline, &refused)),
        }
    }
    Ok(rows)
}

async fn check(pipeline: &str, source: &dyn Source, secrets: &Resolver) -> Vec<Row> {
    let checked = preflight::check(source, secrets).await;
    checked.into_iter().map(|checked| Row::new(pipeline, checked, secrets)).collect()
}

/// One secret as it is printed, or a definition that is refused.
#[derive(Debug, Serialize)]
struct Row {
    pipeline: String,
    field: String,
    reference: Option<String>,
    store: Option<String>,
    ok: bool,
    /// Which version was read, where the store knows one.
    version: Option<String>,
    /// Where the secret, and what is got for it, may go.
    hosts: Vec<String>,
    /// Name from the catalogue of reasons, when it cannot be read.
    reason: Option<&'static str>,
    /// What is wrong, or what is to be known of a secret that can be read.
    detail: Option<String>,
    remedy: Option<&'static str>,
}

impl Row {
    fn new(pipeline: &str, Checked { secret, found }: Checked, secrets: &Resolver) -> Self {
        let hosts = secrets.session_hosts(&secret.reference, &secret.purpose);
        let row = Self {
            pipeline: pipeline.to_owned(),
            field: secret.field,
            store: Some(secrets.store_of(&secret.reference).to_owned()),
            reference: Some(secret.reference.to_string()),
            ok: true,
            version: None,
            hosts: hosts.iter().map(ToString::to_string).collect(),
            reason: None,
            detail: None,
            remedy: None,
        };
        match found {
            Ok(readable) => {
                let detail = "has fewer than 8 bytes, so that it is not looked for in logs and results";
                Self { version: readable.version, detail: readable.is_short.then(|| detail.to_owned()), ..row }
            }
            Err(error) => Self {
                ok: false,
                reason: Some(Reason::from(&error).as_str()),
                detail: Some(Chain(&error).to_string()),
                remedy: Some(preflight::remedy(&error)),
                ..row
            },
        }
    }

    fn refused(pipeline: String, refused: &DefinitionError) -> Self {
        Self {
            pipeline,
            field: refused.field.clone(),
            reference: None,
            store: None,
            ok: false,
            version: None,
            hosts: Vec::new(),
            reason: Some(refused.reason.as_str()),
            detail: Some(refused.to_string()),
            remedy: Some("correct the field in the pipeline's definition"),
        }
    }
}

/// A row a secret, with what is to be done about it below.
fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no secret is referred to".to_owned();
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    for row in rows {
        let mut found = match row.reason {
            Some(reason) => reason.to_owned(),
            None => row.version.clone().unwrap_or_else(|| "read".to_owned()),
        };
        if let Some(detail) = &row.detail {
            found.push_str(&format!("\n{detail}"));
        }
        match row.remedy {
            Some(remedy) => found.push_str(&format!("\n→ {remedy}")),
            None => found.push_str(&format!("\nmay go to {}", row.hosts.join(", "))),
        }
        let secret = match (&row.reference, &row.store) {
            (Some(reference), Some(store)) => format!("{reference}\nstore {store}"),
            _ => "the definition".to_owned(),
        };
        let answer = if row.ok { "ok" } else { "failed" };
        table.add_row([row.pipeline.as_str(), &row.field, &secret, answer, &found]);
    }
    table.trim_fmt()
}
