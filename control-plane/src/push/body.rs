//! What the control plane reads from an entity's body: that it is one, and the figures that a commit needs.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The figures of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) columns: u64,
    /// FQNs of the tables that foreign keys point to, one a constraint.
    pub(super) foreign_keys: Vec<String>,
}

/// A table, as far as it is read. The rest is skipped, and checked to be JSON on the way.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    #[serde(default)]
    columns: Vec<IgnoredAny>,
    #[serde(default, borrow)]
    table_constraints: Vec<Constraint<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Constraint<'a> {
    #[serde(default, borrow)]
    constraint_type: Cow<'a, str>,
    #[serde(default, borrow)]
    referred_columns: Vec<Cow<'a, str>>,
}

/// Any other entity.
#[derive(Deserialize)]
struct Other {
    connection: Option<IgnoredAny>,
}

/// Reads a body of this kind. The error is a sentence without any of its content.
pub(super) fn read(kind: &str, body: &[u8]) -> Result<Shape, String> {
    let refused = |error: serde_json::Error| {
        // The parser's own words quote the text; its place does not.
        format!("the body is not the JSON of a {kind} (line {}, column {})", error.line(), error.column())
    };
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8 ({error})"))?;
    // serde reads a list into a struct as well.
    if !text.trim_ascii_start().starts_with('{') {
        return Err("the body is not a JSON object (line 1)".to_owned());
    }
    if kind != "table" {
        let other: Other = serde_json::from_str(text).map_err(refused)?;
        return match other.connection {
            Some(_) => Err("the body has a `connection`, which never travels".to_owned()),
            None => Ok(Shape::default()),
        };
    }
    let table: Table<'_> = serde_json::from_str(text).map_err(refused)?;
    let foreign = table.table_constraints.iter().filter(|constraint| constraint.constraint_type == "FOREIGN_KEY");
    let targets = foreign.filter_map(|constraint| constraint.referred_columns.first()).filter_map(|fqn| parent(fqn));
    Ok(Shape {
        columns: u64::try_from(table.columns.len()).unwrap_or(u64::MAX),
        foreign_keys: targets.map(str::to_owned).collect(),
    })
}

/// The FQN without its last part, which may be quoted.
fn parent(fqn: &str) -> Option<&str> {
    match fqn.strip_suffix('"') {
        Some(quoted) => quoted.rsplit_once(".\"").map(|(parent, _)| parent),
        None => fqn.rsplit_once('.').map(|(parent, _)| parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_targets_of_foreign_keys_are_read() {
        let body = r#"{"name": "Contact", "columns": [{"name": "Id"}, {"name": "AccountId", "children": [{}]}],
            "tableConstraints": [
                {"constraintType": "FOREIGN_KEY", "columns": ["AccountId"], "referredColumns": ["crm.d.s.Account.Id"]},
                {"constraintType": "UNIQUE", "columns": ["Id"]},
                {"constraintType": "FOREIGN_KEY", "columns": ["x"], "referredColumns": ["crm.\"d.e\".s.\"A.b\".\"I.d\""]}]}"#;
        let shape = read("table", body.as_bytes()).unwrap();
        assert_eq!(shape.columns, 2);
        assert_eq!(shape.foreign_keys, ["crm.d.s.Account", "crm.\"d.e\".s.\"A.b\""]);
    }

    #[test]
    fn what_is_no_entity_is_refused_without_its_content() {
        for (kind, body) in [("table", "{\"columns\": hunter2}"), ("database", "[\"hunter2\"]"), ("table", "{} {}")] {
            let problem = read(kind, body.as_bytes()).unwrap_err();
            assert!(problem.contains("line 1") && !problem.contains("hunter2"), "{problem}");
        }
        assert!(read("table", b"\xff").is_err());
        assert!(read("databaseService", br#"{"name": "crm", "connection": {"config": {}}}"#).is_err());
        assert_eq!(read("databaseService", br#"{"name": "crm"}"#), Ok(Shape::default()));
    }
}
