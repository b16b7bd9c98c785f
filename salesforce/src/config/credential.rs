//! Fields that hold credentials.

use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_openmetadata::strict::{Object, kind};
use hybrid_runner_secrets::{MalformedReference, SecretRef};
use serde_json::{Map, Value};

use super::CONNECTION;

/// The fields of a connection that hold credentials, as paths inside `serviceConnection.config`. In each stands a
/// reference; a local command turns what its user wrote there into one before [`super::Config::parse`].
pub const CREDENTIAL_FIELDS: &[&str] = &[
    "password",
    "securityToken",
    "consumerSecret",
    "sslConfig.caCertificate",
    "sslConfig.sslCertificate",
    "sslConfig.sslKey",
    "sslConfig.ssl_ca",
    "sslConfig.ssl_cert",
    "sslConfig.ssl_key",
    "connectionArguments.privatekey",
    "connectionArguments.session_id",
];

/// Fields in which text that looks like a reference is just text.
const INERT_FIELDS: &[&str] = &["databaseFilterPattern", "schemaFilterPattern", "tableFilterPattern"];

/// What stands in a credential field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// Nothing.
    Absent,
    /// An empty string: the form's way to leave a field out, and for a security token a meaning of its own.
    Empty,
    /// A reference.
    Reference(SecretRef),
}

impl Credential {
    pub(super) fn reference(self) -> Option<SecretRef> {
        match self {
            Self::Reference(reference) => Some(reference),
            Self::Absent | Self::Empty => None,
        }
    }
}

/// Takes a credential out of an object.
pub(super) fn read(object: &mut Object, key: &'static str) -> Result<Credential, DefinitionError> {
    let value = object.value(key);
    parse(value, || object.path_of(key))
}

/// Reads a credential. Whatever is wrong with it, its content is not repeated.
pub(super) fn parse(value: Option<Value>, field: impl FnOnce() -> String) -> Result<Credential, DefinitionError> {
    let text = match value {
        None | Some(Value::Null) => return Ok(Credential::Absent),
        Some(Value::String(text)) if text.is_empty() => return Ok(Credential::Empty),
        Some(Value::String(text)) => text,
        Some(other) => {
            let found = kind(&other);
            let detail = format!("holds {found}; write a reference to a secret store, such as secret:/path/to/secret");
            return Err(DefinitionError { reason: Reason::LiteralSecret, field: field(), detail });
        }
    };
    text.parse().map(Credential::Reference).map_err(|error: MalformedReference| DefinitionError {
        reason: match error {
            MalformedReference::Literal => Reason::LiteralSecret,
            MalformedReference::Grammar(_) => Reason::BadDefinition,
        },
        field: field(),
        detail: error.to_string(),
    })
}

/// Refuses a reference outside the credential fields: there it would be sent as it stands.
pub(super) fn refuse_references_elsewhere(connection: &Map<String, Value>) -> Result<(), DefinitionError> {
    for (key, value) in connection {
        refuse_references(key, value)?;
    }
    Ok(())
}

fn refuse_references(path: &str, value: &Value) -> Result<(), DefinitionError> {
    if CREDENTIAL_FIELDS.contains(&path) || INERT_FIELDS.contains(&path) {
        return Ok(());
    }
    match value {
        Value::String(text) if text.trim_start().starts_with("secret:") => Err(DefinitionError {
            reason: Reason::BadDefinition,
            field: format!("{CONNECTION}.{path}"),
            detail: format!(
                "holds a reference to a secret; only these fields take one: {}",
                CREDENTIAL_FIELDS.join(", ")
            ),
        }),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(index, element)| refuse_references(&format!("{path}[{index}]"), element)),
        Value::Object(map) => {
            map.iter().try_for_each(|(key, element)| refuse_references(&format!("{path}.{key}"), element))
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
