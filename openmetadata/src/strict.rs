//! Reading an object whose every key must be known.
//!
//! Each reader takes one key out of the object and checks its type; [`Object::finish`] refuses what is left. An error
//! names the path and the kind of the value found, never the value: a credential may stand there.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::filter::FilterPattern;
use crate::suggest::nearest;

/// A field is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct FieldError {
    /// Its path, such as `source.sourceConfig.config.threads`.
    pub field: String,
    /// The kind of value found (never its content), what is accepted, the near key.
    pub detail: String,
}

impl FieldError {
    /// An error at a path.
    #[must_use]
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// An object that is read key by key. A key whose value is null counts as absent.
pub struct Object {
    path: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Object {
    /// Starts reading `map`, which stands at `path` (empty for a whole document).
    #[must_use]
    pub fn new(path: impl Into<String>, map: Map<String, Value>) -> Self {
        Self { path: path.into(), map, known: Vec::new() }
    }

    /// Starts reading `value`, which must be an object.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_value(path: impl Into<String>, value: Value) -> Result<Self, FieldError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self::new(path, map)),
            other => Err(mismatch(&path, &other, "a mapping of keys to values")),
        }
    }

    /// Where the object stands.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of one of its keys.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { shown(key) } else { format!("{}.{}", self.path, shown(key)) }
    }

    /// An error at one of its keys.
    #[must_use]
    pub fn error(&self, key: &str, detail: impl Into<String>) -> FieldError {
        FieldError::new(self.path_of(key), detail)
    }

    /// Takes a string.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn string(&mut self, key: &'static str) -> Result<Option<String>, FieldError> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// Takes true or false.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, FieldError> {
        self.typed(key, "true or false", |value| value.as_bool().ok_or(value))
    }

    /// Takes a whole number in a range.
    ///
    /// # Errors
    /// Another kind of value, or one outside the range.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Result<Option<i64>, FieldError> {
        let accepted = match (*range.start(), *range.end()) {
            (i64::MIN, i64::MAX) => "a whole number".to_owned(),
            (least, i64::MAX) => format!("a whole number from {least}"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        self.typed(key, &accepted, |value| value.as_i64().filter(|number| range.contains(number)).ok_or(value))
    }

    /// Takes a string that is one of a few.
    ///
    /// # Errors
    /// Another kind of value, or another string.
    pub fn one_of(&mut self, key: &'static str, accepted: &[&'static str]) -> Result<Option<&'static str>, FieldError> {
        let words = accepted.join(", ");
        self.typed(key, &words, |value| {
            accepted.iter().copied().find(|word| value.as_str() == Some(*word)).ok_or(value)
        })
    }

    /// Takes a list of strings.
    ///
    /// # Errors
    /// Another kind of value, or another kind of element.
    pub fn strings(&mut self, key: &'static str) -> Result<Option<Vec<String>>, FieldError> {
        let Some(list) = self.typed(key, "a list of strings", |value| match value {
            Value::Array(list) => Ok(list),
            other => Err(other),
        })?
        else {
            return Ok(None);
        };
        list.into_iter()
            .enumerate()
            .map(|(index, element)| match element {
                Value::String(text) => Ok(text),
                other => Err(mismatch(&format!("{}[{index}]", self.path_of(key)), &other, "a string")),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Takes an object whose values are strings, whatever its keys.
    ///
    /// # Errors
    /// Another kind of value, or another kind of value in it.
    pub fn string_map(&mut self, key: &'static str) -> Result<Option<BTreeMap<String, String>>, FieldError> {
        let Some(map) = self.map(key)? else { return Ok(None) };
        let within = Self::new(self.path_of(key), Map::new());
        map.into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name, text)),
                other => Err(mismatch(&within.path_of(&name), &other, "a string")),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Takes an object as it is.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn map(&mut self, key: &'static str) -> Result<Option<Map<String, Value>>, FieldError> {
        self.typed(key, "a mapping of keys to values", |value| match value {
            Value::Object(map) => Ok(map),
            other => Err(other),
        })
    }

    /// Takes an object to read in the same way.
    ///
    /// # Errors
    /// Another kind of value.
    pub fn object(&mut self, key: &'static str) -> Result<Option<Self>, FieldError> {
        Ok(self.map(key)?.map(|map| Self::new(self.path_of(key), map)))
    }

    /// Takes a filter pattern: `includes` and `excludes`.
    ///
    /// # Errors
    /// Another kind of value, another key, or elements that are no strings.
    pub fn filter_pattern(&mut self, key: &'static str) -> Result<Option<FilterPattern>, FieldError> {
        let Some(mut object) = self.object(key)? else { return Ok(None) };
        let pattern = FilterPattern { includes: object.strings("includes")?, excludes: object.strings("excludes")? };
        object.finish()?;
        Ok(Some(pattern))
    }

    /// Takes any value; null counts as absent here too.
    pub fn value(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// A value that must be given: `object.required("serviceName", object.string("serviceName")?)?`.
    ///
    /// # Errors
    /// It is absent. When a key that is not read yet looks like it, the error names that one.
    pub fn required<T>(&self, key: &'static str, value: Option<T>) -> Result<T, FieldError> {
        value.ok_or_else(|| match self.map.keys().find(|other| nearest(other, &[key]).is_some()) {
            Some(slip) => self.error(slip, format!("is not a known key; did you mean `{key}`?")),
            None => self.error(key, "is missing"),
        })
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// A key that nobody took: it is unknown. The error names the nearest key that somebody did ask for.
    pub fn finish(self) -> Result<(), FieldError> {
        let Some(unknown) = self.map.keys().next() else { return Ok(()) };
        let hint = match nearest(unknown, &self.known) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known here: {}", self.known.join(", ")),
        };
        Err(self.error(unknown, format!("is not a known key; {hint}")))
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, FieldError> {
        self.value(key)
            .map(|value| read(value).map_err(|other| mismatch(&self.path_of(key), &other, accepted)))
            .transpose()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("path", &self.path).field("keys", &self.map.keys()).finish_non_exhaustive()
    }
}

/// The error for a value of another kind than accepted.
fn mismatch(path: &str, found: &Value, accepted: &str) -> FieldError {
    let quotes = if accepted == "a string" && (found.is_number() || found.is_boolean()) { ", in quotes" } else { "" };
    let path = if path.is_empty() { "document" } else { path };
    FieldError::new(path, format!("found {}; accepted: {accepted}{quotes}", kind(found)))
}

/// What kind of value it is, in a reader's words.
#[must_use]
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// A key as an error shows it: on one line, cut where no known key reaches.
pub(crate) fn shown(key: &str) -> String {
    const LONGEST: usize = 64;
    let mut shown: String = key.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if key.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{FieldError, Object};

    fn object(value: Value) -> Object {
        Object::from_value("source", value).unwrap()
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T, FieldError>, text: &str) {
        assert_eq!(result.unwrap_err().to_string(), text);
    }

    #[test]
    fn values_are_taken_by_type() {
        let mut object = object(json!({
            "string": "a", "boolean": false, "integer": 7, "word": "b", "strings": ["a"], "map": {"a": 1},
            "string_map": {"a": "b"}, "object": {"a": true}, "filter": {"includes": ["a"]}, "value": [1], "null": null,
        }));
        assert_eq!(object.string("string").unwrap().as_deref(), Some("a"));
        assert_eq!(object.boolean("boolean").unwrap(), Some(false));
        assert_eq!(object.integer("integer", 0..=7).unwrap(), Some(7));
        assert_eq!(object.one_of("word", &["a", "b"]).unwrap(), Some("b"));
        assert_eq!(object.strings("strings").unwrap(), Some(vec!["a".to_owned()]));
        assert_eq!(object.map("map").unwrap().unwrap()["a"], 1);
        assert_eq!(object.string_map("string_map").unwrap().unwrap()["a"], "b");
        assert_eq!(object.filter_pattern("filter").unwrap().unwrap().includes, Some(vec!["a".to_owned()]));
        assert_eq!(object.value("value"), Some(json!([1])));
        assert_eq!(object.string("null").unwrap(), None);
        assert_eq!(object.string("absent").unwrap(), None);
        let mut inner = object.object("object").unwrap().unwrap();
        assert_eq!(inner.path(), "source.object");
        assert_eq!(inner.boolean("a"), Ok(Some(true)));
        assert_eq!((inner.finish(), object.finish()), (Ok(()), Ok(())));
    }

    #[test]
    fn an_error_names_the_path_and_the_kinds_and_never_the_value() {
        let value = || {
            object(json!({
                "a": "hunter2", "n": 1234567, "l": ["hunter2", 1234567], "m": {"k": 1234567, "f": {"includes": [true]}},
            }))
        };
        refused(value().boolean("a"), "source.a: found a string; accepted: true or false");
        refused(value().string("n"), "source.n: found a number; accepted: a string, in quotes");
        refused(value().strings("a"), "source.a: found a string; accepted: a list of strings");
        refused(value().strings("l"), "source.l[1]: found a number; accepted: a string, in quotes");
        refused(value().string("l"), "source.l: found a list; accepted: a string");
        refused(value().integer("a", 1..=5), "source.a: found a string; accepted: a whole number from 1 to 5");
        refused(value().integer("n", 1..=5), "source.n: found a number; accepted: a whole number from 1 to 5");
        refused(value().integer("l", 0..=i64::MAX), "source.l: found a list; accepted: a whole number from 0");
        refused(value().one_of("a", &["b", "c"]), "source.a: found a string; accepted: b, c");
        refused(value().map("a"), "source.a: found a string; accepted: a mapping of keys to values");
        refused(value().string_map("m"), "source.m.f: found a mapping; accepted: a string");
        let mut inner = value().object("m").unwrap().unwrap();
        refused(
            inner.filter_pattern("f"),
            "source.m.f.includes[0]: found true or false; accepted: a string, in quotes",
        );
        refused(Object::from_value("", json!("x")), "document: found a string; accepted: a mapping of keys to values");
        assert!(!format!("{:?}", value()).contains("hunter2"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_near_one() {
        let mut near = object(json!({"passwrod": "hunter2"}));
        assert_eq!(near.string("password").unwrap(), None);
        refused(near.finish(), "source.passwrod: is not a known key; did you mean `password`?");

        let mut far = object(json!({"colour": 1}));
        assert_eq!((far.string("password").unwrap(), far.string("username").unwrap()), (None, None));
        refused(far.finish(), "source.colour: is not a known key; known here: password, username");
    }

    #[test]
    fn a_required_key_that_is_misspelt_is_named_as_such() {
        let mut misspelt = object(json!({"servicename": "x"}));
        let name = misspelt.string("serviceName").unwrap();
        refused(
            misspelt.required("serviceName", name),
            "source.servicename: is not a known key; did you mean `serviceName`?",
        );
        refused(object(json!({})).required::<()>("serviceName", None), "source.serviceName: is missing");
    }

    #[test]
    fn a_key_is_shown_on_one_short_line() {
        let error = object(json!({ "a\nb".repeat(1000): 1 })).finish().unwrap_err();
        assert!(error.field.starts_with("source.a\\nba\\nb") && error.field.chars().count() < 200, "{error}");
    }
}
