//! The configuration as it may be shown to whoever helps.

use std::fmt;

use serde_json::Value;

/// The document, checked against the schema.
#[derive(Clone)]
pub(super) struct Document(Value);

/// Keys whose values are half of a credential, or say who somebody is.
const HIDDEN: [&str; 3] = ["username", "role_id", "external_id"];
const GIVEN: &str = "(given)";

impl Document {
    pub(super) fn new(document: Value) -> Self {
        Self(document)
    }

    /// The configuration holds references and names of files, no credentials; what may be close to one is left out.
    pub(super) fn shown(&self) -> Value {
        let mut shown = self.0.clone();
        hide(&mut shown);
        shown
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| match HIDDEN.contains(&key.as_str()) {
            true => *value = GIVEN.into(),
            false => hide(value),
        }),
        Value::Array(list) => list.iter_mut().for_each(hide),
        Value::String(text) => {
            // An address with a login in it is refused; should one pass somewhere, it is not repeated.
            if text.contains("://") && text.contains('@') {
                *text = GIVEN.to_owned();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// It is large, and there is [`Document::shown`].
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document(..)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_files_and_references_are_shown_and_logins_are_not() {
        let document = Document::new(json!({
            "control_plane": {"proxy": {"url": "http://proxy:3128", "username": "agent", "password": "secret:/p"}},
            "secrets": {"stores": {"vault": {"vault": {"auth": {"approle": {"role_id": "r-1"}}}}}},
            "salesforce": {"hosts": [{"host": "https://a:b@host"}]},
            "slots": 2,
        }));
        let expected = json!({
            "control_plane": {"proxy": {"url": "http://proxy:3128", "username": "(given)", "password": "secret:/p"}},
            "secrets": {"stores": {"vault": {"vault": {"auth": {"approle": {"role_id": "(given)"}}}}}},
            "salesforce": {"hosts": [{"host": "(given)"}]},
            "slots": 2,
        });
        assert_eq!(document.shown(), expected);
        assert_eq!(format!("{document:?}"), "Document(..)");
    }
}
