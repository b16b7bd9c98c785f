//! OpenMetadata ingestion workflow files: every key of 1.6 to 2.0, no other.
//!
//! Keys and types are those of `metadataIngestion/workflow.json` and the schemas it refers to. `serviceConnection.config`
//! is left to the connector, which reads it with the same [`crate::strict::Object`].

mod envelope;
mod options;

use std::fmt;

use serde_json::{Map, Value};

pub use self::options::MetadataOptions;
use crate::rules;
use crate::strict::{FieldError, Object};
use crate::yaml::{self, SyntaxError};

/// A workflow: what a pipeline definition is.
#[derive(Clone)]
pub struct Workflow {
    /// `source`.
    pub source: WorkflowSource,
    /// `ingestionPipelineFQN`, when given.
    pub ingestion_pipeline_fqn: Option<String>,
    /// `workflowConfig.loggerLevel`, upper case, when given.
    pub logger_level: Option<String>,
    /// Whether a `sink` other than none was given (validated, not used by anything but a writer to OpenMetadata).
    pub sink: Option<Value>,
}

/// `source` of a workflow.
#[derive(Clone)]
pub struct WorkflowSource {
    /// `type`, lower case: `salesforce`.
    pub kind: String,
    /// `serviceName`.
    pub service_name: String,
    /// `serviceConnection.config`, for the connector to parse.
    pub connection: Map<String, Value>,
    /// `sourceConfig.config`.
    pub options: MetadataOptions,
}

/// A pipeline file of the control plane: a workflow and, in a second YAML document, its name and schedule.
#[derive(Clone)]
pub struct PipelineFile {
    /// The workflow.
    pub workflow: Workflow,
    /// The workflow as JSON, as it travels.
    pub workflow_json: String,
    /// `name` of the second document.
    pub name: Option<String>,
    /// `schedule` of the second document.
    pub schedule: Option<Schedule>,
    /// `enabled` of the second document, default true.
    pub enabled: bool,
}

/// `schedule` of a [`PipelineFile`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Five fields, or `@hourly` and its like.
    pub cron: String,
    /// IANA name, default UTC.
    pub timezone: String,
}

/// A workflow is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkflowError {
    /// It does not parse as YAML.
    #[error("line {line}, column {column}: {detail}")]
    Syntax {
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What the parser met.
        detail: String,
    },
    /// A key or value is not accepted.
    #[error("{field}: {detail}")]
    Field {
        /// Its path, such as `source.sourceConfig.config.threads`.
        field: String,
        /// The kind of value found (never its content), what is accepted, the near key.
        detail: String,
    },
}

impl Workflow {
    /// Parses a workflow from one YAML (or JSON) document.
    ///
    /// # Errors
    /// [`WorkflowError`]
    pub fn from_yaml(text: &str) -> Result<Self, WorkflowError> {
        let mut documents = yaml::documents(text)?;
        match (documents.pop(), documents.len()) {
            (None, _) => Err(empty()),
            (Some(document), 0) => Self::from_value(document),
            (Some(_), others) => Err(too_many(others + 1, "one workflow")),
        }
    }

    /// Parses a workflow from JSON that was parsed before.
    ///
    /// # Errors
    /// [`WorkflowError`]
    pub fn from_value(value: Value) -> Result<Self, WorkflowError> {
        let mut object = Object::from_value("", value)?;
        let source = object.object("source")?;
        let source = WorkflowSource::read(object.required("source", source)?)?;
        for key in ["processor", "stage", "bulkSink"] {
            envelope::step(&mut object, key)?;
        }
        let sink = envelope::step(&mut object, "sink")?;
        let logger_level = envelope::workflow_config(&mut object)?;
        let ingestion_pipeline_fqn = object.string("ingestionPipelineFQN")?;
        // Set by OpenMetadata's server when it dispatches a workflow; none of it means anything here.
        for key in ["pipelineRunId", "ingestionRunnerName", "ingestionRunner"] {
            object.string(key)?;
        }
        object.boolean("enableStreamableLogs")?;
        object.finish()?;
        Ok(Self { source, ingestion_pipeline_fqn, logger_level, sink })
    }
}

impl WorkflowSource {
    fn read(mut source: Object) -> Result<Self, FieldError> {
        let kind = source.string("type")?;
        let service_name = source.string("serviceName")?;
        let connection = source.object("serviceConnection")?;
        let options = source.object("sourceConfig")?;

        let kind = source.required("type", kind)?.to_lowercase();
        let service_name = source.required("serviceName", service_name)?;
        rules::check_name(&service_name).map_err(|problem| source.error("serviceName", problem))?;
        if service_name.contains('"') {
            return Err(source.error("serviceName", "contains a `\"`, which no fully qualified name can"));
        }
        let mut connection = source.required("serviceConnection", connection)?;
        let mut options = source.required("sourceConfig", options)?;
        source.finish()?;

        let config = connection.map("config")?;
        let config = connection.required("config", config)?;
        connection.finish()?;
        let settings = match options.object("config")? {
            Some(settings) => MetadataOptions::read(settings)?,
            None => MetadataOptions::default(),
        };
        options.finish()?;
        Ok(Self { kind, service_name, connection: config, options: settings })
    }
}

impl PipelineFile {
    /// Parses a pipeline file of the control plane: one or two YAML documents.
    ///
    /// # Errors
    /// [`WorkflowError`]
    pub fn from_yaml(text: &str) -> Result<Self, WorkflowError> {
        let documents = yaml::documents(text)?;
        let count = documents.len();
        let mut documents = documents.into_iter();
        let (Some(document), settings, None) = (documents.next(), documents.next(), documents.next()) else {
            return Err(if count == 0 {
                empty()
            } else {
                too_many(count, "a workflow and, behind `---`, its name and schedule")
            });
        };
        let workflow_json = document.to_string();
        let workflow = Workflow::from_value(document)?;
        let file = Self { workflow, workflow_json, name: None, schedule: None, enabled: true };
        Ok(match settings {
            Some(settings) => file.with_settings(Object::from_value("", settings)?)?,
            None => file,
        })
    }

    fn with_settings(self, mut settings: Object) -> Result<Self, FieldError> {
        let name = settings.string("name")?;
        if let Some(problem) = name.as_deref().and_then(|name| rules::check_name(name).err()) {
            return Err(settings.error("name", problem));
        }
        let schedule = settings.object("schedule")?.map(Schedule::read).transpose()?;
        let enabled = settings.boolean("enabled")?.unwrap_or(true);
        settings.finish()?;
        Ok(Self { name, schedule, enabled, ..self })
    }
}

impl Schedule {
    fn read(mut schedule: Object) -> Result<Self, FieldError> {
        let cron = schedule.string("cron")?;
        let cron = schedule.required("cron", cron)?;
        let timezone = schedule.string("timezone")?.unwrap_or_else(|| "UTC".to_owned());
        schedule.finish()?;
        Ok(Self { cron, timezone })
    }
}

fn empty() -> WorkflowError {
    WorkflowError::Syntax { line: 1, column: 1, detail: "the file is empty; a workflow is expected".to_owned() }
}

fn too_many(count: usize, accepted: &str) -> WorkflowError {
    WorkflowError::Field {
        field: "document".to_owned(),
        detail: format!("found {count} documents; accepted: {accepted}"),
    }
}

impl From<SyntaxError> for WorkflowError {
    fn from(SyntaxError { line, column, detail }: SyntaxError) -> Self {
        Self::Syntax { line, column, detail }
    }
}

impl From<FieldError> for WorkflowError {
    fn from(FieldError { field, detail }: FieldError) -> Self {
        Self::Field { field, detail }
    }
}

// A literal credential may stand in a connection or a sink, so none of them is printed.

impl fmt::Debug for Workflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workflow")
            .field("source", &self.source)
            .field("ingestion_pipeline_fqn", &self.ingestion_pipeline_fqn)
            .field("logger_level", &self.logger_level)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkflowSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkflowSource")
            .field("kind", &self.kind)
            .field("service_name", &self.service_name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PipelineFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineFile")
            .field("workflow", &self.workflow)
            .field("name", &self.name)
            .field("schedule", &self.schedule)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
