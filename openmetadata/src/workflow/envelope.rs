//! The parts of a workflow that are validated and not interpreted here: steps and `workflowConfig`.

use serde_json::Value;

use crate::strict::{FieldError, Object};

/// Reads `processor`, `stage`, `sink` or `bulkSink`: a type and free configuration.
pub(super) fn step(workflow: &mut Object, key: &'static str) -> Result<Option<Value>, FieldError> {
    let Some(map) = workflow.map(key)? else { return Ok(None) };
    let mut step = Object::new(workflow.path_of(key), map.clone());
    let kind = step.string("type")?;
    step.required("type", kind)?;
    step.map("config")?;
    step.finish()?;
    Ok(Some(Value::Object(map)))
}

/// Reads `workflowConfig`; answers its logger level.
pub(super) fn workflow_config(workflow: &mut Object) -> Result<Option<String>, FieldError> {
    let Some(mut config) = workflow.object("workflowConfig")? else { return Ok(None) };
    let level = config.one_of("loggerLevel", &["DEBUG", "INFO", "WARN", "ERROR"])?;
    config.boolean("raiseOnError")?;
    config.integer("successThreshold", 0..=100)?;
    config.map("config")?;
    if let Some(server) = config.object("openMetadataServerConfig")? {
        server_config(server)?;
    }
    config.finish()?;
    Ok(level.map(str::to_owned))
}

/// `entity/services/connections/metadata/openMetadataConnection.json`.
fn server_config(mut server: Object) -> Result<(), FieldError> {
    let host_port = server.string("hostPort")?;
    server.required("hostPort", host_port)?;
    for key in ["clusterName", "apiVersion"] {
        server.string(key)?;
    }
    for (key, accepted) in WORDS {
        server.one_of(key, accepted)?;
    }
    for key in FLAGS {
        server.boolean(key)?;
    }
    for key in ["schemaFilterPattern", "tableFilterPattern", "databaseFilterPattern"] {
        server.filter_pattern(key)?;
    }
    server.integer("limitRecords", 0..=i64::MAX)?;
    server.string_map("extraHeaders")?;
    step(&mut server, "elasticsSearch")?;
    if let Some(mut security) = server.object("securityConfig")? {
        let token = security.string("jwtToken")?;
        security.required("jwtToken", token)?;
        security.finish()?;
    }
    if let Some(mut ssl) = server.object("sslConfig")? {
        for key in ["caCertificate", "sslCertificate", "sslKey"] {
            ssl.string(key)?;
        }
        ssl.finish()?;
    }
    server.finish()
}

const WORDS: [(&str, &[&str]); 5] = [
    ("type", &["OpenMetadata"]),
    (
        "authProvider",
        &["basic", "azure", "google", "okta", "auth0", "aws-cognito", "custom-oidc", "ldap", "saml", "openmetadata"],
    ),
    ("verifySSL", &["no-ssl", "ignore", "validate"]),
    (
        "secretsManagerProvider",
        &[
            "db",
            "managed-aws",
            "aws",
            "managed-aws-ssm",
            "aws-ssm",
            "managed-azure-kv",
            "azure-kv",
            "in-memory",
            "gcp",
            "kubernetes",
        ],
    ),
    ("secretsManagerLoader", &["noop", "airflow", "env"]),
];

const FLAGS: [&str; 18] = [
    "includeTopics",
    "includeTables",
    "includeDashboards",
    "includePipelines",
    "includeMlModels",
    "includeUsers",
    "includeTeams",
    "includeGlossaryTerms",
    "includeTags",
    "includePolicy",
    "includeMessagingServices",
    "enableVersionValidation",
    "includeDatabaseServices",
    "includePipelineServices",
    "forceEntityOverwriting",
    "storeServiceConnection",
    "supportsDataInsightExtraction",
    "supportsElasticSearchReindexingExtraction",
];
