//! The connection of a workflow, parsed: what is accepted, what is refused before anything is sent.
//!
//! Every key of the connection's schema of 1.6 to 2.0 is known and another one refused. Credential fields hold
//! references and nothing else; a reference anywhere else is refused, because it would travel as text. Keys of the
//! workflow that are accepted and change nothing are collected, so that nobody relies on them.

mod auth;
mod credential;
mod options;
mod scope;
mod ssl;
mod version;

use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_openmetadata::strict::{FieldError, Object};
use hybrid_runner_openmetadata::workflow::{MetadataOptions, Workflow};
use hybrid_runner_openmetadata::{fqn, rules};

use crate::host::HostPolicy;
use crate::naming::Naming;

pub use auth::Auth;
pub use credential::CREDENTIAL_FIELDS;
pub use options::{Options, Preset};
pub use scope::{Scope, Selection};
pub use ssl::Ssl;
pub use version::ApiVersion;

#[cfg(test)]
mod tests;

/// Where the connection stands in a workflow.
pub(crate) const CONNECTION: &str = "source.serviceConnection.config";

/// Where the options of the extraction stand in a workflow.
const OPTIONS: &str = "source.sourceConfig.config";

/// The database's name when a definition gives none, as the peer connector's.
const DATABASE: &str = "default";

/// The keys of [`OPTIONS`] that have an effect: here, or, for the deletions, where runs are committed.
const EFFECTIVE: &[&str] = &[
    "databaseFilterPattern",
    "includeTables",
    "includeTags",
    "markDeletedTables",
    "markDeletedTablesFromFilterOnly",
    "schemaFilterPattern",
    "tableFilterPattern",
    "threads",
    "useFqnForFiltering",
];

/// A definition's Salesforce part.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to log in.
    pub auth: Auth,
    /// The version of the REST API; `None` for the newest that the org offers.
    pub api_version: Option<ApiVersion>,
    /// What `sslConfig` gives. It counts only in definitions of the machine's own user
    /// ([`crate::LocalConfig::definitions_are_local`]).
    pub ssl: Ssl,
    /// The most requests at a time (`threads`); `None` for automatic.
    pub threads: Option<u16>,
    /// Whether classifications, and tags on tables and columns, are made (`includeTags`).
    pub tags: bool,
    /// Options of ours.
    pub options: Options,
    /// Where the tables stand.
    pub naming: Naming,
    /// Which objects are read.
    pub scope: Scope,
    /// Paths of the options that were set to other than their default and have no effect, to be named before login.
    pub without_effect: Vec<String>,
}

impl Config {
    /// Parses a workflow's connection and options.
    ///
    /// # Errors
    /// The first thing that is not accepted, naming its field.
    pub fn parse(workflow: &Workflow, hosts: &HostPolicy) -> Result<Self, DefinitionError> {
        let source = &workflow.source;
        if source.kind != "salesforce" {
            return Err(DefinitionError {
                reason: Reason::SourceUnknown,
                field: "source.type".to_owned(),
                detail: "is not a source that this connector reads; accepted: salesforce".to_owned(),
            });
        }
        // First: that a refresh token is a reference does not make it welcome.
        auth::refuse_arguments(&source.connection)?;
        credential::refuse_references_elsewhere(&source.connection)?;
        let mut connection = Object::new(CONNECTION, source.connection.clone());
        connection.one_of("type", &["Salesforce"]).map_err(refused)?;
        let mut without_effect = options_without_effect(&source.options);
        let api_version = version::read(&mut connection)?;
        let ours = options::read(&mut connection, &mut without_effect)?;
        let ssl = Ssl::read(&mut connection)?;
        let naming = Naming::new(&source.service_name, &read_database(&mut connection)?);
        let names = read_names(&mut connection)?;
        let login_version = ours.login_version.unwrap_or_else(|| ApiVersion::login_of(api_version));
        let logins = auth::read(&mut connection, hosts, &mut without_effect)?;
        read_the_rest(&mut connection, &mut without_effect)?;
        // Before a login is chosen: a misspelt credential is named as such, not as one that is missing.
        connection.finish().map_err(refused)?;
        let auth = logins.choose(ours.authentication, login_version, &mut without_effect)?;
        if ours.login_version.is_some() && !matches!(auth, Auth::Soap { .. }) {
            without_effect.push(format!("{CONNECTION}.connectionOptions.loginApiVersion"));
        }
        let scope = Scope::compile(naming.clone(), names, &ours, &source.options, &mut without_effect)?;
        without_effect.sort_unstable();
        Ok(Self {
            auth,
            api_version,
            ssl,
            threads: threads(&source.options),
            tags: source.options.include_tags,
            options: ours,
            naming,
            scope,
            without_effect,
        })
    }
}

fn options_without_effect(options: &MetadataOptions) -> Vec<String> {
    let changed = options.changed.iter().filter(|key| !EFFECTIVE.contains(&key.as_str()));
    changed.map(|key| format!("{OPTIONS}.{key}")).collect()
}

/// The form always writes 1, which the peer connector takes for one request at a time; here it means automatic.
fn threads(options: &MetadataOptions) -> Option<u16> {
    (options.threads > 1).then(|| u16::try_from(options.threads).unwrap_or(u16::MAX))
}

/// `databaseName`: an empty one is none, as the form says.
fn read_database(connection: &mut Object) -> Result<String, DefinitionError> {
    let name = connection.string("databaseName").map_err(refused)?.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| DATABASE.to_owned());
    match rules::check_name(&fqn::reserve(&name)) {
        Ok(()) => Ok(name),
        Err(problem) => Err(refused(connection.error("databaseName", problem))),
    }
}

/// `sobjectNames`, and `sobjectName` of 1.6 to 1.10. An empty list means all objects.
fn read_names(connection: &mut Object) -> Result<Option<Vec<String>>, DefinitionError> {
    let one = connection.string("sobjectName").map_err(refused)?.filter(|name| !name.is_empty());
    let several = connection.strings("sobjectNames").map_err(refused)?.unwrap_or_default();
    if let Some(index) = several.iter().position(String::is_empty) {
        return Err(refused(connection.error(&format!("sobjectNames[{index}]"), "is empty; write an API name")));
    }
    let names: Vec<String> = several.into_iter().chain(one).collect();
    Ok((!names.is_empty()).then_some(names))
}

/// What OpenMetadata's form fills in for its own use.
fn read_the_rest(connection: &mut Object, without_effect: &mut Vec<String>) -> Result<(), DefinitionError> {
    for key in ["databaseFilterPattern", "schemaFilterPattern", "tableFilterPattern"] {
        if connection.filter_pattern(key).map_err(refused)?.is_some_and(|pattern| !pattern.is_empty()) {
            without_effect.push(connection.path_of(key));
        }
    }
    if connection.boolean("supportsMetadataExtraction").map_err(refused)? == Some(false) {
        without_effect.push(connection.path_of("supportsMetadataExtraction"));
    }
    Ok(())
}

/// The refusal of a field for its kind or its key.
fn refused(error: FieldError) -> DefinitionError {
    DefinitionError { reason: Reason::BadDefinition, field: error.field, detail: error.detail }
}
