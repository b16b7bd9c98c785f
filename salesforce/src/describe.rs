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

use serde::Deserialize;

pub(crate) mod lenient;

use lenient::IfObject;
pub use lenient::Scalar;

use crate::json::{self, Member, Order, Reader, Stuck, set};

/// An object's describe.
#[derive(Debug, Default)]
pub struct Describe<'a> {
    /// API name.
    pub name: Option<Cow<'a, str>>,
    /// What people call it; may be empty.
    pub label: Option<Cow<'a, str>>,
    /// Whether the org or a package made it.
    pub custom: bool,
    /// Whether it holds settings rather than records.
    pub custom_setting: bool,
    /// Whether it is no longer supported.
    pub deprecated_and_hidden: bool,
    /// Its fields, in Salesforce's order.
    fields: Fields<'a>,
}

/// A field of an object. A key that is absent, null or of another kind is `None`, `false`, 0 or empty.
#[derive(Debug, Default)]
pub struct Field<'a> {
    /// API name.
    pub name: Option<Cow<'a, str>>,
    /// What people call it; may be empty.
    pub label: Option<Cow<'a, str>>,
    /// Salesforce's name of its type, such as `reference`.
    pub kind: Option<Cow<'a, str>>,
    /// Characters, 0 for what has none.
    pub length: u32,
    /// Digits in all, of a double, currency or percent.
    pub precision: u32,
    /// Digits behind the point.
    pub scale: u32,
    /// Digits of an int.
    pub digits: u32,
    /// Whether it may be empty.
    pub nillable: Option<bool>,
    /// Whether no value occurs twice.
    pub unique: bool,
    /// Whether the org or a package made it.
    pub custom: bool,
    /// Whether it is no longer supported.
    pub deprecated_and_hidden: bool,
    /// Whether it is a key of another system.
    pub external_id: bool,
    /// Whether Salesforce numbers the rows.
    pub auto_number: bool,
    /// Whether it is computed: a formula or a roll-up summary.
    pub calculated: bool,
    /// The formula; absent for a roll-up summary.
    pub calculated_formula: Option<Cow<'a, str>>,
    /// The value of a new row.
    pub default_value: Scalar<'a>,
    /// The formula of the value of a new row.
    pub default_value_formula: Option<Cow<'a, str>>,
    /// What the administrator wrote for those who fill it in.
    pub inline_help_text: Option<Cow<'a, str>>,
    /// Whether it is stored encrypted.
    pub encrypted: bool,
    /// The compound field that it is a part of, such as `BillingAddress`.
    pub compound_field_name: Option<Cow<'a, str>>,
    /// The values of a picklist.
    pub picklist_values: Picklist<'a>,
    /// Whether only those values are accepted.
    pub restricted_picklist: bool,
    /// The field whose value decides which of the values can be chosen.
    pub controller_name: Option<Cow<'a, str>>,
    /// The objects that a reference can point to.
    pub reference_to: Targets<'a>,
    /// The field that it points to, when that is not `Id`.
    pub reference_target_field: Option<Cow<'a, str>>,
    /// Set on master-detail references: 0 for the first, 1 for the second.
    pub relationship_order: Option<u32>,
    /// Whether rows go with the row that they point to.
    pub cascade_delete: bool,
    /// Whether a row that is pointed to cannot go.
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
#[derive(Debug, Default)]
pub struct PicklistValue<'a> {
    /// What is stored.
    pub value: Option<Cow<'a, str>>,
    /// What people see.
    pub label: Option<Cow<'a, str>>,
    active: Option<bool>,
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
        let text = as_text(answer)?;
        let describe = json::read_all(text, Self::read)
            .map_err(|error| DescribeError::Syntax { line: error.line(), column: error.column() })?
            .ok_or(DescribeError::NOT_AN_OBJECT)?;
        describe.check()?;
        Ok(describe)
    }

    /// Reads one; `None` when it is not an object.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, Stuck> {
        let mut describe = Self::default();
        let is_object = reader.object(&mut describe, &mut Order::new(Self::member))?;
        Ok(is_object.then_some(describe))
    }

    fn member(key: &str) -> Member<'a, Self> {
        match key {
            "name" => |describe, reader| set(&mut describe.name, reader.text()),
            "label" => |describe, reader| set(&mut describe.label, reader.text()),
            "custom" => |describe, reader| set(&mut describe.custom, reader.is_true()),
            "customSetting" => |describe, reader| set(&mut describe.custom_setting, reader.is_true()),
            "deprecatedAndHidden" => |describe, reader| set(&mut describe.deprecated_and_hidden, reader.is_true()),
            "fields" => |describe, reader| set(&mut describe.fields, fields(reader)),
            _ => |_, reader| reader.skip(),
        }
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

impl DescribeError {
    const NOT_AN_OBJECT: Self = Self::NotADescribe { problem: "it is not an object" };
}

/// Reads an answer that must be one JSON object.
pub(crate) fn parse_object<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, DescribeError> {
    let parsed: IfObject<T> = serde_json::from_str(as_text(answer)?)
        .map_err(|error| DescribeError::Syntax { line: error.line(), column: error.column() })?;
    parsed.0.ok_or(DescribeError::NOT_AN_OBJECT)
}

/// From text and not from bytes: strings are then not checked one by one, which is 1.4 times as fast.
fn as_text(answer: &[u8]) -> Result<&str, DescribeError> {
    if answer.trim_ascii_start().starts_with(b"<") {
        return Err(DescribeError::Html);
    }
    str::from_utf8(answer).map_err(|_invalid| DescribeError::NotADescribe { problem: "it is not UTF-8" })
}

#[derive(Debug, Default)]
enum Fields<'a> {
    #[default]
    Absent,
    Malformed,
    TooMany,
    List(Vec<Field<'a>>),
}

impl<'a> Field<'a> {
    fn member(key: &str) -> Member<'a, Self> {
        match key {
            "name" => |field, reader| set(&mut field.name, reader.text()),
            "label" => |field, reader| set(&mut field.label, reader.text()),
            "type" => |field, reader| set(&mut field.kind, reader.text()),
            "length" => |field, reader| set(&mut field.length, reader.count()),
            "precision" => |field, reader| set(&mut field.precision, reader.count()),
            "scale" => |field, reader| set(&mut field.scale, reader.count()),
            "digits" => |field, reader| set(&mut field.digits, reader.count()),
            "nillable" => |field, reader| set(&mut field.nillable, reader.flag()),
            "unique" => |field, reader| set(&mut field.unique, reader.is_true()),
            "custom" => |field, reader| set(&mut field.custom, reader.is_true()),
            "deprecatedAndHidden" => |field, reader| set(&mut field.deprecated_and_hidden, reader.is_true()),
            "externalId" => |field, reader| set(&mut field.external_id, reader.is_true()),
            "autoNumber" => |field, reader| set(&mut field.auto_number, reader.is_true()),
            "calculated" => |field, reader| set(&mut field.calculated, reader.is_true()),
            "calculatedFormula" => |field, reader| set(&mut field.calculated_formula, reader.text()),
            "defaultValue" => |field, reader| set(&mut field.default_value, reader.scalar()),
            "defaultValueFormula" => |field, reader| set(&mut field.default_value_formula, reader.text()),
            "inlineHelpText" => |field, reader| set(&mut field.inline_help_text, reader.text()),
            "encrypted" => |field, reader| set(&mut field.encrypted, reader.is_true()),
            "compoundFieldName" => |field, reader| set(&mut field.compound_field_name, reader.text()),
            "picklistValues" => |field, reader| set(&mut field.picklist_values, picklist(reader)),
            "restrictedPicklist" => |field, reader| set(&mut field.restricted_picklist, reader.is_true()),
            "controllerName" => |field, reader| set(&mut field.controller_name, reader.text()),
            "referenceTo" => |field, reader| set(&mut field.reference_to, targets(reader)),
            "referenceTargetField" => |field, reader| set(&mut field.reference_target_field, reader.text()),
            "relationshipOrder" => |field, reader| set(&mut field.relationship_order, order(reader)),
            "cascadeDelete" => |field, reader| set(&mut field.cascade_delete, reader.is_true()),
            "restrictedDelete" => |field, reader| set(&mut field.restricted_delete, reader.is_true()),
            _ => |_, reader| reader.skip(),
        }
    }
}

fn fields<'a>(reader: &mut Reader<'a>) -> Result<Fields<'a>, Stuck> {
    let mut order = Order::new(Field::member);
    let mut fields = Fields::List(Vec::new());
    let is_list = reader.list(|reader| {
        let mut field = Field::default();
        let is_object = reader.object(&mut field, &mut order)?;
        if let Fields::List(list) = &mut fields {
            match is_object {
                _ if list.len() == Describe::MAX_FIELDS => fields = Fields::TooMany,
                false => fields = Fields::Malformed,
                true => list.push(field),
            }
        }
        Ok(())
    })?;
    Ok(if is_list { fields } else { Fields::Absent })
}

impl Picklist<'_> {
    /// How many values a description shows. Country lists have some 250 and the longest recorded one 423: a list of
    /// hundreds of values hides the rest of the text, and a hundred shows what the field is about.
    pub const SHOWN: usize = 100;
}

impl<'a> PicklistValue<'a> {
    fn member(key: &str) -> Member<'a, Self> {
        match key {
            "value" => |value, reader| set(&mut value.value, reader.text()),
            "label" => |value, reader| set(&mut value.label, reader.text()),
            "active" => |value, reader| set(&mut value.active, reader.flag()),
            "defaultValue" => |value, reader| set(&mut value.default_value, reader.is_true()),
            _ => |_, reader| reader.skip(),
        }
    }

    /// Whether it can be chosen.
    fn is_active(&self) -> bool {
        self.active != Some(false) && self.value.as_ref().is_some_and(|value| !value.is_empty())
    }
}

fn picklist<'a>(reader: &mut Reader<'a>) -> Result<Picklist<'a>, Stuck> {
    let mut order = Order::new(PicklistValue::member);
    let mut list = Picklist::default();
    reader.list(|reader| {
        let mut value = PicklistValue::default();
        if !reader.object(&mut value, &mut order)? || !value.is_active() {
            return Ok(());
        }
        list.active += 1;
        if value.default_value && list.default.is_none() {
            list.default.clone_from(&value.value);
        }
        if list.shown.len() < Picklist::SHOWN {
            list.shown.push(value);
        }
        Ok(())
    })?;
    Ok(list)
}

impl Targets<'_> {
    /// How many names are kept. `Event.WhatId` of a large org has some hundred.
    pub const KEPT: usize = 200;
}

fn targets<'a>(reader: &mut Reader<'a>) -> Result<Targets<'a>, Stuck> {
    let mut list = Targets::default();
    reader.list(|reader| {
        let Some(name) = reader.text()?.filter(|name| !name.is_empty() && !list.names.contains(name)) else {
            return Ok(());
        };
        list.count += 1;
        if list.names.len() < Targets::KEPT {
            list.names.push(name);
        }
        Ok(())
    })?;
    Ok(list)
}

fn order(reader: &mut Reader<'_>) -> Result<Option<u32>, Stuck> {
    Ok(match reader.scalar()? {
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
