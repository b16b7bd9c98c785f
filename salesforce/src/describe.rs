//! What Salesforce says about one object, as far as it is used.
//!
//! Releases and clients differ in the keys that a describe has, so an absent key, a null and a value of another kind
//! than documented never fail an object: they count as not said. Only an answer that is no describe at all does, because
//! taking it for one would empty a table. What is read borrows from the answer.
//!
//! An answer is at most 8 MiB (the caller's cap). A hostile one could spell millions of tiny fields in that, so the
//! number of fields kept is bounded, and of a field's picklist values and targets only as many are kept as a
//! description shows.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

pub(crate) mod lenient;

pub use lenient::Scalar;
use lenient::{IfObject, count, each, flag, is_true, text};

/// An object's describe.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Describe<'a> {
    /// API name.
    #[serde(borrow, deserialize_with = "text")]
    pub name: Option<Cow<'a, str>>,
    /// What people call it; may be empty.
    #[serde(borrow, deserialize_with = "text")]
    pub label: Option<Cow<'a, str>>,
    /// Whether the org or a package made it.
    #[serde(deserialize_with = "is_true")]
    pub custom: bool,
    /// Whether it holds settings rather than records.
    #[serde(deserialize_with = "is_true")]
    pub custom_setting: bool,
    /// Whether it is no longer supported.
    #[serde(deserialize_with = "is_true")]
    pub deprecated_and_hidden: bool,
    /// Its fields, in Salesforce's order.
    #[serde(borrow, deserialize_with = "fields")]
    fields: Fields<'a>,
}

/// A field of an object. A key that is absent, null or of another kind is `None`, `false`, 0 or empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Field<'a> {
    /// API name.
    #[serde(borrow, deserialize_with = "text")]
    pub name: Option<Cow<'a, str>>,
    /// What people call it; may be empty.
    #[serde(borrow, deserialize_with = "text")]
    pub label: Option<Cow<'a, str>>,
    /// Salesforce's name of its type, such as `reference`.
    #[serde(rename = "type", borrow, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
    /// Characters, 0 for what has none.
    #[serde(deserialize_with = "count")]
    pub length: u32,
    /// Digits in all, of a double, currency or percent.
    #[serde(deserialize_with = "count")]
    pub precision: u32,
    /// Digits behind the point.
    #[serde(deserialize_with = "count")]
    pub scale: u32,
    /// Digits of an int.
    #[serde(deserialize_with = "count")]
    pub digits: u32,
    /// Whether it may be empty.
    #[serde(deserialize_with = "flag")]
    pub nillable: Option<bool>,
    /// Whether no value occurs twice.
    #[serde(deserialize_with = "is_true")]
    pub unique: bool,
    /// Whether the org or a package made it.
    #[serde(deserialize_with = "is_true")]
    pub custom: bool,
    /// Whether it is no longer supported.
    #[serde(deserialize_with = "is_true")]
    pub deprecated_and_hidden: bool,
    /// Whether it is a key of another system.
    #[serde(deserialize_with = "is_true")]
    pub external_id: bool,
    /// Whether Salesforce numbers the rows.
    #[serde(deserialize_with = "is_true")]
    pub auto_number: bool,
    /// Whether it is computed: a formula or a roll-up summary.
    #[serde(deserialize_with = "is_true")]
    pub calculated: bool,
    /// The formula; absent for a roll-up summary.
    #[serde(borrow, deserialize_with = "text")]
    pub calculated_formula: Option<Cow<'a, str>>,
    /// The value of a new row.
    #[serde(borrow)]
    pub default_value: Scalar<'a>,
    /// The formula of the value of a new row.
    #[serde(borrow, deserialize_with = "text")]
    pub default_value_formula: Option<Cow<'a, str>>,
    /// What the administrator wrote for those who fill it in.
    #[serde(borrow, deserialize_with = "text")]
    pub inline_help_text: Option<Cow<'a, str>>,
    /// Whether it is stored encrypted.
    #[serde(deserialize_with = "is_true")]
    pub encrypted: bool,
    /// The compound field that it is a part of, such as `BillingAddress`.
    #[serde(borrow, deserialize_with = "text")]
    pub compound_field_name: Option<Cow<'a, str>>,
    /// The values of a picklist.
    #[serde(borrow, deserialize_with = "picklist")]
    pub picklist_values: Picklist<'a>,
    /// Whether only those values are accepted.
    #[serde(deserialize_with = "is_true")]
    pub restricted_picklist: bool,
    /// The field whose value decides which of the values can be chosen.
    #[serde(borrow, deserialize_with = "text")]
    pub controller_name: Option<Cow<'a, str>>,
    /// The objects that a reference can point to.
    #[serde(borrow, deserialize_with = "targets")]
    pub reference_to: Targets<'a>,
    /// The field that it points to, when that is not `Id`.
    #[serde(borrow, deserialize_with = "text")]
    pub reference_target_field: Option<Cow<'a, str>>,
    /// Set on master-detail references: 0 for the first, 1 for the second.
    #[serde(deserialize_with = "order")]
    pub relationship_order: Option<u32>,
    /// Whether rows go with the row that they point to.
    #[serde(deserialize_with = "is_true")]
    pub cascade_delete: bool,
    /// Whether a row that is pointed to cannot go.
    #[serde(deserialize_with = "is_true")]
    pub restricted_delete: bool,
}

/// The active values of a picklist, as many as a description shows.
#[derive(Debug, Default)]
pub struct Picklist<'a> {
    /// The first [`Picklist::SHOWN`].
    pub shown: Vec<PicklistValue<'a>>,
    /// How many there are.
    pub active: usize,
    /// The value of a new row.
    pub default: Option<Cow<'a, str>>,
}

/// A value of a picklist.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PicklistValue<'a> {
    /// What is stored.
    #[serde(borrow, deserialize_with = "text")]
    pub value: Option<Cow<'a, str>>,
    /// What people see.
    #[serde(borrow, deserialize_with = "text")]
    pub label: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "flag")]
    active: Option<bool>,
    #[serde(deserialize_with = "is_true")]
    default_value: bool,
}

/// The objects that a reference can point to.
#[derive(Debug, Default)]
pub struct Targets<'a> {
    /// The first [`Targets::KEPT`].
    pub names: Vec<Cow<'a, str>>,
    /// How many there are.
    pub count: usize,
}

/// An answer that is no describe. The texts hold nothing of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// A page for people, as proxies and maintenance windows answer.
    #[error("the answer is HTML, not JSON")]
    Html,
    /// No JSON.
    #[error("the answer is not JSON (line {line}, column {column})")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON, and not an object with a list of fields.
    #[error("the answer is JSON, but {problem}")]
    NotADescribe {
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl<'a> Describe<'a> {
    /// The most fields that an object can have. Salesforce allows 800 to 900 custom fields (help.salesforce.com,
    /// custom_field_allocations) beside at most a few hundred standard ones and their parts.
    pub const MAX_FIELDS: usize = 5_000;

    /// Reads an answer.
    ///
    /// # Errors
    /// [`DescribeError`]: it is no describe.
    pub fn parse(answer: &'a [u8]) -> Result<Self, DescribeError> {
        let describe = parse_object::<Describe<'a>>(answer)?;
        describe.check()?;
        Ok(describe)
    }

    /// Whether it is one: any object can be read as a describe in which nothing is said.
    pub(crate) fn check(&self) -> Result<(), DescribeError> {
        let problem = match self.fields {
            Fields::List(_) => return Ok(()),
            Fields::Absent => "it has no list of fields",
            Fields::Malformed => "one of its fields is not an object",
            Fields::TooMany => "it has more than 5,000 fields",
        };
        Err(DescribeError::NotADescribe { problem })
    }

    /// Its fields, in Salesforce's order.
    #[must_use]
    pub fn fields(&self) -> &[Field<'a>] {
        match &self.fields {
            Fields::List(list) => list,
            Fields::Absent | Fields::Malformed | Fields::TooMany => &[],
        }
    }
}

/// Reads an answer that must be one JSON object.
pub(crate) fn parse_object<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, DescribeError> {
    if answer.trim_ascii_start().starts_with(b"<") {
        return Err(DescribeError::Html);
    }
    // From text and not from bytes: strings are then not checked one by one, which is 1.4 times as fast.
    let text = str::from_utf8(answer).map_err(|_invalid| DescribeError::NotADescribe { problem: "it is not UTF-8" })?;
    let parsed: IfObject<T> = serde_json::from_str(text)
        .map_err(|error| DescribeError::Syntax { line: error.line(), column: error.column() })?;
    parsed.0.ok_or(DescribeError::NotADescribe { problem: "it is not an object" })
}

#[derive(Debug, Default)]
enum Fields<'a> {
    #[default]
    Absent,
    Malformed,
    TooMany,
    List(Vec<Field<'a>>),
}

fn fields<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'a>, D::Error> {
    let list = each(deserializer, Fields::List(Vec::new()), |fields, field: IfObject<Field<'a>>| {
        if let Fields::List(list) = fields {
            match field.0 {
                _ if list.len() == Describe::MAX_FIELDS => *fields = Fields::TooMany,
                None => *fields = Fields::Malformed,
                Some(field) => list.push(field),
            }
        }
    })?;
    Ok(list.unwrap_or_default())
}

impl Picklist<'_> {
    /// How many values a description shows. Country lists have some 250 and the longest recorded one 423: a list of
    /// hundreds of values hides the rest of the text, and a hundred shows what the field is about.
    pub const SHOWN: usize = 100;
}

fn picklist<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Picklist<'a>, D::Error> {
    let list = each(deserializer, Picklist::default(), |list, value: IfObject<PicklistValue<'a>>| {
        let is_value = |value: &PicklistValue<'_>| {
            value.active != Some(false) && value.value.as_ref().is_some_and(|value| !value.is_empty())
        };
        let Some(value) = value.0.filter(is_value) else { return };
        list.active += 1;
        if value.default_value && list.default.is_none() {
            list.default.clone_from(&value.value);
        }
        if list.shown.len() < Picklist::SHOWN {
            list.shown.push(value);
        }
    })?;
    Ok(list.unwrap_or_default())
}

impl Targets<'_> {
    /// How many names are kept. `Event.WhatId` of a large org has some hundred.
    pub const KEPT: usize = 200;
}

fn targets<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Targets<'a>, D::Error> {
    let list = each(deserializer, Targets::default(), |list, target: Scalar<'a>| {
        let Some(name) = target.text().filter(|name| !name.is_empty()) else { return };
        if list.names.contains(&name) {
            return;
        }
        list.count += 1;
        if list.names.len() < Targets::KEPT {
            list.names.push(name);
        }
    })?;
    Ok(list.unwrap_or_default())
}

fn order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Unsigned(order) => u32::try_from(order).ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_describe_is_refused_with_a_reason() {
        let problem = |answer: &[u8]| Describe::parse(answer).unwrap_err().to_string();
        assert_eq!(problem(b" \n<html><body>Maintenance</body></html>"), "the answer is HTML, not JSON");
        assert_eq!(problem(b"{\"name\":\"A\",\n\"fields\":[{\"na"), "the answer is not JSON (line 2, column 14)");
        assert_eq!(problem(b""), "the answer is not JSON (line 1, column 0)");
        assert_eq!(problem(br#"{"name":"A","fields":[]} x"#), "the answer is not JSON (line 1, column 26)");
        assert_eq!(problem(b"\xff\xfe"), "the answer is JSON, but it is not UTF-8");
        for (answer, expected) in [
            (r#"[{"message":"gone","errorCode":"NOT_FOUND"}]"#, "it is not an object"),
            ("null", "it is not an object"),
            ("\"text\"", "it is not an object"),
            ("17", "it is not an object"),
            ("{}", "it has no list of fields"),
            (r#"{"name":"A"}"#, "it has no list of fields"),
            (r#"{"name":"A","fields":null}"#, "it has no list of fields"),
            (r#"{"name":"A","fields":{"Id":{}}}"#, "it has no list of fields"),
            (r#"{"name":"A","fields":["Id"]}"#, "one of its fields is not an object"),
            (r#"{"name":"A","fields":[{"name":"Id"},["Id"]]}"#, "one of its fields is not an object"),
        ] {
            assert_eq!(problem(answer.as_bytes()), format!("the answer is JSON, but {expected}"), "{answer}");
        }
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let answer = |count| format!(r#"{{"fields":[{}]}}"#, vec!["{}"; count].join(","));
        assert_eq!(Describe::parse(answer(Describe::MAX_FIELDS).as_bytes()).unwrap().fields().len(), 5_000);
        let error = Describe::parse(answer(Describe::MAX_FIELDS + 1).as_bytes()).unwrap_err();
        assert_eq!(error, DescribeError::NotADescribe { problem: "it has more than 5,000 fields" });
    }

    #[test]
    fn a_key_that_is_absent_null_or_of_another_kind_counts_as_not_said() {
        for field in [
            "{}",
            r#"{"name":null,"type":null,"length":null,"nillable":null,"picklistValues":null,"referenceTo":null}"#,
            r#"{"name":1,"type":[],"length":"18","nillable":"yes","picklistValues":{},"referenceTo":"User"}"#,
            r#"{"length":-1,"precision":1.5,"scale":99999999999,"unique":1,"defaultValue":{"a":[1]}}"#,
            r#"{"picklistValues":["a",[],{},null,{"value":null},{"value":""}],"referenceTo":[1,null,"",{}]}"#,
        ] {
            let answer = format!(r#"{{"fields":[{field}]}}"#);
            let describe = Describe::parse(answer.as_bytes()).unwrap();
            assert_eq!(format!("{:?}", describe.fields()), format!("{:?}", [Field::default()]), "{field}");
        }
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        let describe = Describe::parse(br#"{"name":"Account","label":"Caf\u00e9","fields":[]}"#).unwrap();
        assert!(matches!(describe.name, Some(Cow::Borrowed("Account"))));
        assert!(matches!(describe.label, Some(Cow::Owned(label)) if label == "Café"));
    }

    #[test]
    fn only_as_many_picklist_values_and_targets_are_kept_as_are_shown() {
        let values: Vec<_> = (0..423).map(|n| format!(r#"{{"active":{},"value":"v{n}"}}"#, n != 1)).collect();
        let targets: Vec<_> = (0..300).map(|n| format!(r#""T{}""#, n % 250)).collect();
        let answer = format!(
            r#"{{"fields":[{{"picklistValues":[{}],"referenceTo":[{}]}}]}}"#,
            values.join(","),
            targets.join(",")
        );
        let describe = Describe::parse(answer.as_bytes()).unwrap();
        let field = &describe.fields()[0];
        assert_eq!((field.picklist_values.active, field.picklist_values.shown.len()), (422, Picklist::SHOWN));
        assert_eq!(field.picklist_values.shown[1].value.as_deref(), Some("v2"));
        assert_eq!(field.reference_to.names.len(), Targets::KEPT);
    }
}
