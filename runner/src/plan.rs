//! From a definition to something that can be run, without any I/O: whatever can be refused is refused here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hybrid_runner_connector::{DefinitionError, Reason, Source};
use hybrid_runner_openmetadata::workflow::{Workflow, WorkflowError};
use hybrid_runner_salesforce::{LocalConfig, SalesforceSource};

/// Plans a source from a workflow of its kind.
type Planner = Arc<dyn Fn(&Workflow) -> Result<Arc<dyn Source>, DefinitionError> + Send + Sync>;

/// A definition that can be run.
pub(crate) struct Plan {
    pub(crate) source: Arc<dyn Source>,
    /// Whether its runs are logged from DEBUG on (`workflowConfig.loggerLevel`).
    pub(crate) is_verbose: bool,
    /// The pipeline that it says it is; for the local policy, where nobody else says which.
    pub(crate) pipeline: Option<String>,
}

/// The connectors of an agent, by the kind of source (`source.type`, lower case).
#[derive(Clone)]
pub struct Connectors(BTreeMap<String, Planner>);

impl Connectors {
    /// Every connector of this product.
    #[must_use]
    pub fn new(salesforce: LocalConfig) -> Self {
        let none = Self(BTreeMap::new());
        none.with("salesforce", move |workflow| Ok(Arc::new(SalesforceSource::plan(workflow, &salesforce)?)))
    }

    /// Adds a connector, or replaces the one of this kind.
    #[must_use]
    pub fn with(
        mut self,
        kind: impl Into<String>,
        plan: impl Fn(&Workflow) -> Result<Arc<dyn Source>, DefinitionError> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(kind.into(), Arc::new(plan));
        self
    }

    /// The kinds of sources there are connectors for.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Plans a definition from a control plane: JSON, nothing in it is expanded.
    ///
    /// # Errors
    /// The first thing that is refused.
    pub(crate) fn plan_json(&self, workflow_json: &str) -> Result<Plan, DefinitionError> {
        let value = serde_json::from_str(workflow_json).map_err(|error| {
            refused("workflow_json", &format!("is no JSON (line {}, column {})", error.line(), error.column()))
        })?;
        self.plan(&parse(value)?)
    }

    /// Plans a workflow.
    ///
    /// # Errors
    /// The first thing that is refused.
    pub(crate) fn plan(&self, workflow: &Workflow) -> Result<Plan, DefinitionError> {
        let kind = &workflow.source.kind;
        let planner = self.0.get(kind).ok_or_else(|| DefinitionError {
            reason: Reason::SourceUnknown,
            field: "source.type".to_owned(),
            detail: format!("there is no connector for this kind of source; accepted: {}", self.kinds().join(", ")),
        })?;
        let is_verbose = workflow.logger_level.as_deref() == Some("DEBUG");
        let pipeline = workflow.ingestion_pipeline_fqn.clone();
        Ok(Plan { source: planner(workflow)?, is_verbose, pipeline })
    }
}

/// Parses a workflow.
///
/// # Errors
/// The first key or value that is not accepted.
pub(crate) fn parse(value: serde_json::Value) -> Result<Workflow, DefinitionError> {
    Workflow::from_value(value).map_err(|error| match error {
        WorkflowError::Field { field, detail } => refused(&field, &detail),
        syntax @ WorkflowError::Syntax { .. } => refused("workflow", &syntax.to_string()),
    })
}

fn refused(field: &str, detail: &str) -> DefinitionError {
    DefinitionError { reason: Reason::BadDefinition, field: field.to_owned(), detail: detail.to_owned() }
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
