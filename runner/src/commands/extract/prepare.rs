//! What a workflow file of a local user may hold that a definition from a control plane may not (CONTRACTS §2).
//!
//! - In a credential field, `${VAR}` is a reference to that variable; the value is read when a login needs it.
//! - A certificate may be literal PEM.
//! - `--allow-literal-secrets` permits other literals.
//! - Elsewhere `${VAR}` is expanded. Not in `sink` and `workflowConfig`: with `--out` they are not used.

use async_trait::async_trait;
use hybrid_runner_salesforce::config::CREDENTIAL_FIELDS;
use hybrid_runner_secrets::{Read, ReadError, SecretPath, SecretStore};
use serde_json::Value;

use super::CommandError;
use crate::config::Environment;

/// The store of `${VAR}`.
pub(super) const VARIABLES: &str = "variables";
/// The store of what stood in the file.
pub(super) const LITERALS: &str = "literals";

/// Where a workflow's credential fields are.
const CONNECTION: [&str; 3] = ["source", "serviceConnection", "config"];
/// Certificates are no secrets.
const CERTIFICATES: [&str; 4] =
    ["sslConfig.caCertificate", "sslConfig.ssl_ca", "sslConfig.sslCertificate", "sslConfig.ssl_cert"];
const UNUSED: [&str; 2] = ["sink", "workflowConfig"];

/// What a file's preparation found.
#[derive(Default)]
pub(super) struct Prepared {
    /// Path in the store [`LITERALS`], and value.
    pub(super) literals: Vec<(String, String)>,
    /// Whether one of them is a secret.
    pub(super) has_literal_secrets: bool,
}

/// Stands in for the default store of references when there is none.
#[derive(Debug)]
pub(super) struct NoStore;

#[async_trait]
impl SecretStore for NoStore {
    async fn read(&self, _path: &SecretPath) -> Result<Read, ReadError> {
        Err(ReadError::Unusable("cannot be read: no store is configured; give --secrets, such as file:DIR"))
    }
}

/// Prepares a workflow for planning.
pub(super) fn prepare(
    document: &mut Value,
    environment: &Environment,
    allow_literals: bool,
) -> Result<Prepared, CommandError> {
    let mut prepared = Prepared::default();
    if let Value::Object(map) = &mut *document {
        for (key, value) in map.iter_mut().filter(|(key, _)| !UNUSED.contains(&key.as_str())) {
            expand(value, key, environment)?;
        }
    }
    let connection = CONNECTION.iter().try_fold(document, |value, key| value.get_mut(key));
    let Some(connection) = connection else { return Ok(prepared) };
    for field in CREDENTIAL_FIELDS {
        let value = field.split('.').try_fold(&mut *connection, |value, key| value.get_mut(key));
        if let Some(Value::String(text)) = value {
            prepared.credential(field, text, environment, allow_literals)?;
        }
    }
    Ok(prepared)
}

impl Prepared {
    fn credential(
        &mut self,
        field: &str,
        text: &mut String,
        environment: &Environment,
        allow_literals: bool,
    ) -> Result<(), CommandError> {
        let is_certificate = CERTIFICATES.contains(&field) && text.trim_start().starts_with("-----BEGIN ");
        let path = || format!("{}.{field}", CONNECTION.join("."));
        if text.is_empty() || text.starts_with("secret:") {
            return Ok(());
        }
        if let Some(name) = only_variable(text) {
            environment.var(name).ok_or_else(|| unset(&path(), name))?;
            *text = format!("secret://{VARIABLES}/{name}");
        } else if variables(text).next().is_some() {
            let mixed = "mixes text and ${VARIABLE}; put the whole value into one variable";
            return Err(CommandError::refused(format!("{}: {mixed}", path())));
        } else if is_certificate || allow_literals {
            self.has_literal_secrets |= !is_certificate;
            let literal = std::mem::replace(text, format!("secret://{LITERALS}/{field}"));
            self.literals.push((format!("/{field}"), literal));
        }
        // What is left is a literal: planning refuses it and names the field.
        Ok(())
    }
}

/// Expands variables in every string but the credentials.
fn expand(value: &mut Value, path: &str, environment: &Environment) -> Result<(), CommandError> {
    match value {
        Value::String(text) => {
            if !is_credential(path) {
                *text = expanded(text, path, environment)?;
            }
            Ok(())
        }
        Value::Array(list) => list
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, item)| expand(item, &format!("{path}[{index}]"), environment)),
        Value::Object(map) => {
            map.iter_mut().try_for_each(|(key, value)| expand(value, &format!("{path}.{key}"), environment))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn is_credential(path: &str) -> bool {
    let field = path.strip_prefix(&CONNECTION.join(".")).and_then(|rest| rest.strip_prefix('.'));
    field.is_some_and(|field| CREDENTIAL_FIELDS.contains(&field))
}

fn expanded(text: &str, path: &str, environment: &Environment) -> Result<String, CommandError> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = split_variable(rest) {
        result.push_str(before);
        result.push_str(environment.var(name).ok_or_else(|| unset(path, name))?);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

fn unset(path: &str, name: &str) -> CommandError {
    CommandError::refused(format!("{path}: ${{{name}}} names a variable that is not set"))
}

/// The name when the text is one variable and nothing else.
fn only_variable(text: &str) -> Option<&str> {
    split_variable(text).and_then(|(before, name, after)| (before.is_empty() && after.is_empty()).then_some(name))
}

fn variables(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, name, after) = split_variable(rest)?;
        rest = after;
        Some(name)
    })
}

/// What stands before, in and behind the first `${NAME}`. Other dollars and braces are text: patterns have them.
fn split_variable(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices("${").find_map(|(at, open)| {
        let (before, rest) = text.split_at(at);
        let (name, after) = rest.strip_prefix(open)?.split_once('}')?;
        let is_name = name
            .bytes()
            .enumerate()
            .all(|(index, byte)| byte == b'_' || byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()));
        (is_name && !name.is_empty()).then_some((before, name, after))
    })
}

#[cfg(test)]
mod tests;
