//! Strictness from the JSON schema: one description of the file serves people's editors, the check of every key and
//! value with the path in the error, and the types of environment variables.

use hybrid_runner_openmetadata::strict::kind;
use hybrid_runner_openmetadata::suggest::nearest;
use serde_json::{Map, Value};

use super::ConfigError;
use super::file::ConfigFile;

/// The JSON schema of the file, without references.
pub(super) fn of_file() -> Value {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<ConfigFile>().to_value()
}

/// Checks a value against its schema and drops keys whose value is null.
pub(super) fn check(schema: &Value, value: &mut Value, path: &str) -> Result<(), ConfigError> {
    let Kind { name, accepted } = kind_of(schema);
    match (name, &mut *value) {
        ("object", Value::Object(map)) => check_object(schema, map, path),
        ("array", Value::Array(list)) => {
            let Some(items) = schema.get("items") else { return Ok(()) };
            list.iter_mut().enumerate().try_for_each(|(index, item)| check(items, item, &format!("{path}[{index}]")))
        }
        ("string", Value::String(text)) if is_listed(schema, text) => Ok(()),
        ("boolean", Value::Bool(_)) => Ok(()),
        ("integer", Value::Number(number)) if number.as_u64().is_some_and(|number| in_range(schema, number)) => Ok(()),
        _ => Err(ConfigError::field(
            if path.is_empty() { "the document" } else { path },
            format!("found {}; accepted: {accepted}", kind(value)),
        )),
    }
}

fn check_object(schema: &Value, map: &mut Map<String, Value>, path: &str) -> Result<(), ConfigError> {
    map.retain(|_, value| !value.is_null());
    map.iter_mut().try_for_each(|(key, value)| {
        let path = join(path, key);
        let schema = child(schema, key).map_err(|hint| unknown(&path, &hint))?;
        check(schema, value, &path)
    })
}

/// The schema of a key, or a hint at the known ones.
fn child<'a>(schema: &'a Value, key: &str) -> Result<&'a Value, String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(found) = properties.and_then(|properties| properties.get(key)) {
        return Ok(found);
    }
    if let Some(any) = schema.get("additionalProperties").filter(|any| any.is_object()) {
        return Ok(any);
    }
    let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    Err(match nearest(key, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "it has no keys below it".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    })
}

fn unknown(path: &str, hint: &str) -> ConfigError {
    ConfigError::field(path, format!("is not a known key; {hint}"))
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Puts the value of a variable where its path points to, with the type that the schema has there.
pub(super) fn set(
    schema: &Value,
    document: &mut Value,
    variable: &str,
    path: &[String],
    text: &str,
) -> Result<(), ConfigError> {
    let Some((key, rest)) = path.split_first() else {
        *document = typed(schema, variable, text)?;
        return Ok(());
    };
    if kind_of(schema).name == "array" {
        if !document.is_array() {
            *document = Value::Array(Vec::new());
        }
        let (Value::Array(list), Some(items)) = (document, schema.get("items")) else { return Ok(()) };
        // The next one may be added, a later one would leave a gap.
        let index = key.parse::<usize>().ok().filter(|index| *index <= list.len()).ok_or_else(|| {
            ConfigError::field(variable, format!("`{key}` is not a place in the list; accepted: 0 to {}", list.len()))
        })?;
        if index == list.len() {
            list.push(Value::Null);
        }
        return list.get_mut(index).map_or(Ok(()), |item| set(items, item, variable, rest, text));
    }
    let below = child(schema, key)
        .map_err(|hint| ConfigError::field(variable, format!("sets no known key: `{key}` is unknown; {hint}")))?;
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(map) = document else { return Ok(()) };
    set(below, map.entry(key.clone()).or_insert(Value::Null), variable, rest, text)
}

fn typed(schema: &Value, variable: &str, text: &str) -> Result<Value, ConfigError> {
    let Kind { name, accepted } = kind_of(schema);
    let value = match name {
        "string" => Some(Value::from(text)),
        "boolean" => text.parse::<bool>().ok().map(Value::from),
        "integer" => text.parse::<u64>().ok().map(Value::from),
        _ => None,
    };
    let mut value = value.ok_or_else(|| ConfigError::field(variable, format!("accepted: {accepted}")))?;
    check(schema, &mut value, variable)?;
    Ok(value)
}

struct Kind {
    name: &'static str,
    /// In an operator's words.
    accepted: String,
}

fn kind_of(schema: &Value) -> Kind {
    let types = schema.get("type");
    let is = |name: &str| match types {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    };
    let number = |key: &str| schema.get(key).and_then(Value::as_u64);
    let (name, accepted) = if is("object") {
        ("object", "a mapping of keys to values".to_owned())
    } else if is("array") {
        ("array", "a list".to_owned())
    } else if is("boolean") {
        ("boolean", "true or false".to_owned())
    } else if is("integer") {
        let least = number("minimum").unwrap_or_default();
        (
            "integer",
            number("maximum")
                .map_or_else(|| format!("a number from {least}"), |most| format!("a number from {least} to {most}")),
        )
    } else {
        match schema.get("enum").and_then(Value::as_array) {
            Some(words) => ("string", words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
            None => ("string", "a string".to_owned()),
        }
    };
    Kind { name, accepted }
}

fn is_listed(schema: &Value, text: &str) -> bool {
    schema.get("enum").and_then(Value::as_array).is_none_or(|words| words.iter().any(|word| word == text))
}

fn in_range(schema: &Value, number: u64) -> bool {
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    bound("minimum").is_none_or(|least| number >= least) && bound("maximum").is_none_or(|most| number <= most)
}
