//! A workflow file of a local user, planned: what every command with `-c` begins with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_openmetadata::yaml;
use hybrid_runner_salesforce::LocalConfig;
use hybrid_runner_secrets::{EnvStore, MemoryStore, Resolver, SecretValue, Stores, open_store};

use super::prepare::{self, Prepared};
use crate::commands::terminal::Terminal;
use crate::commands::{CommandError, start_output};
use crate::config::{Environment, Log, Settings};
use crate::plan::{self, Connectors, Plan};

/// The arguments that say what is read and where its secrets are.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct WorkflowArguments {
    /// The workflow file, YAML or JSON, as for `metadata ingest -c`.
    #[arg(short = 'c', value_name = "WORKFLOW")]
    pub(in crate::commands) workflow: PathBuf,
    /// The store that `secret:/path` means: `file:DIR`, `env[:PREFIX]`, `vault`, `aws` or `kubernetes`.
    #[arg(long, value_name = "STORE")]
    pub(in crate::commands) secrets: Option<String>,
    /// Accept credentials that stand in the file itself.
    #[arg(long)]
    pub(in crate::commands) allow_literal_secrets: bool,
    /// The agent's configuration, for its stores and its Salesforce hosts.
    #[arg(long, value_name = "FILE")]
    pub(in crate::commands) config: Option<PathBuf>,
}

/// A workflow that can be run here and now.
pub(in crate::commands) struct Local {
    pub(in crate::commands) plan: Plan,
    pub(in crate::commands) secrets: Arc<Resolver>,
    /// As the control plane would name it.
    pub(in crate::commands) name: String,
    has_literal_secrets: bool,
}

impl Local {
    /// What its user should hear about the file.
    pub(in crate::commands) fn warning(&self) -> Option<&'static str> {
        let warning = "credentials stand in the workflow file itself; references keep them out of files";
        self.has_literal_secrets.then_some(warning)
    }
}

impl WorkflowArguments {
    /// Reads the configuration and starts the log.
    pub(in crate::commands) fn settings(
        &self,
        environment: &Environment,
        terminal: &Terminal,
    ) -> Result<Settings, CommandError> {
        let settings = Settings::load(self.config.as_deref(), environment)?;
        // What an operator wants to see of a one-off run is shown anyway; a log of its own only on request.
        let is_asked = self.config.is_some() || environment.var("HYBRID_RUNNER_LOG__LEVEL").is_some();
        let log =
            if is_asked { settings.log.clone() } else { Log { level: "warn".to_owned(), ..settings.log.clone() } };
        start_output(terminal, &log, settings.secrets.redactor())?;
        Ok(settings)
    }

    /// Reads, prepares and plans the workflow. Nothing is sent, no secret read.
    pub(in crate::commands) fn load(
        &self,
        settings: Settings,
        environment: &Environment,
    ) -> Result<Local, CommandError> {
        let mut document = read(&self.workflow)?;
        let prepared = prepare::prepare(&mut document, environment, self.allow_literal_secrets)?;
        let workflow = plan::parse(document).map_err(|error| refused(&error))?;
        let local = LocalConfig { definitions_are_local: true, ..settings.salesforce.clone() };
        let plan = Connectors::new(local).plan(&workflow).map_err(|error| refused(&error))?;
        let name = pipeline_name(&workflow, &self.workflow);
        let has_literal_secrets = prepared.has_literal_secrets;
        let policy = Arc::new(settings.policy.clone());
        let stores = Arc::new(self.stores(settings, prepared)?);
        let secrets = Arc::new(Resolver::new(stores, policy, Some(name.clone())));
        Ok(Local { plan, secrets, name, has_literal_secrets })
    }

    fn stores(&self, settings: Settings, prepared: Prepared) -> Result<Stores, CommandError> {
        let none = Stores::watched_by(settings.secrets.redactor().clone());
        // The first store is the default one.
        let stores = match &self.secrets {
            Some(text) => {
                let store = open_store(text).map_err(|error| CommandError::refused(format!("--secrets: {error}")))?;
                none.with("secrets", store)
            }
            None if settings.has_stores => settings.secrets,
            None => none.with("default", prepare::NoStore),
        };
        let literals = prepared
            .literals
            .into_iter()
            .fold(MemoryStore::default(), |store, (path, value)| store.with(path, SecretValue::new(value)));
        Ok(stores.with(prepare::VARIABLES, EnvStore::verbatim()).with(prepare::LITERALS, literals))
    }
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

/// As the control plane would name it.
fn pipeline_name(workflow: &Workflow, path: &Path) -> String {
    let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    workflow.ingestion_pipeline_fqn.clone().or_else(stem).unwrap_or_else(|| "workflow".to_owned())
}
