//! The objects of an org, as describeGlobal lists them.
//!
//! The list decides what exists, and so what is deleted: an answer that may not be the whole list is refused, while keys
//! that an entry lacks (older releases have fewer) count as not said.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::{Deserialize, Deserializer};

use crate::describe::lenient::{IfObject, each, is_true, text};
use crate::describe::{DescribeError, parse_object};

/// The objects of an org, in Salesforce's order, no name twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The objects.
    pub objects: Vec<ListedObject>,
}

/// An object of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedObject {
    /// API name; never empty.
    pub name: String,
    /// What people call it; may be empty.
    pub label: Option<String>,
    /// Whether the org or a package made it.
    pub custom: bool,
    /// Whether it holds settings rather than records.
    pub custom_setting: bool,
    /// Whether its records have pages for people.
    pub layoutable: bool,
    /// The beginning of its rows' ids. Not unique.
    pub key_prefix: Option<String>,
    /// What a companion is of its parent, such as `History` (API 50 and later).
    pub associate_entity_type: Option<String>,
    /// The object that a companion belongs to (API 50 and later).
    pub associate_parent_entity: Option<String>,
}

/// An answer that is no list of objects. The texts hold nothing of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// It cannot be read at all.
    #[error(transparent)]
    Answer(DescribeError),
    /// JSON, and not a list of objects.
    #[error("the answer is JSON, but {problem}")]
    NotAListing {
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Listing {
    /// The most objects that an org can have: three times what 3,000 custom objects with five companions each and the
    /// standard ones come to (research: 5,000 to 15,000 in huge orgs).
    pub const MAX_OBJECTS: usize = 50_000;

    /// Reads an answer.
    ///
    /// # Errors
    /// [`ListingError`]: it is not the whole list.
    pub fn parse(answer: &[u8]) -> Result<Self, ListingError> {
        let global: Global<'_> = parse_object(answer).map_err(ListingError::Answer)?;
        let problem = match global.sobjects {
            Entries::List(list) => return Ok(Self::from_entries(list)),
            Entries::Absent => "it has no list of objects",
            Entries::Nameless => "one of its objects has no name",
            Entries::TooMany => "it has more than 50,000 objects",
        };
        Err(ListingError::NotAListing { problem })
    }

    fn from_entries(entries: Vec<Entry<'_>>) -> Self {
        let mut seen = HashSet::with_capacity(entries.len());
        let objects = entries.into_iter().filter_map(|entry| {
            let name = entry.name?;
            seen.insert(name.to_ascii_lowercase()).then(|| ListedObject {
                name: name.into_owned(),
                label: entry.label.map(Cow::into_owned),
                custom: entry.custom,
                custom_setting: entry.custom_setting,
                layoutable: entry.layoutable,
                key_prefix: entry.key_prefix.map(Cow::into_owned),
                associate_entity_type: entry.associate_entity_type.map(Cow::into_owned),
                associate_parent_entity: entry.associate_parent_entity.map(Cow::into_owned),
            })
        });
        Self { objects: objects.collect() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Global<'a> {
    #[serde(borrow, deserialize_with = "entries")]
    sobjects: Entries<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow, deserialize_with = "text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    label: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "is_true")]
    custom: bool,
    #[serde(deserialize_with = "is_true")]
    custom_setting: bool,
    #[serde(deserialize_with = "is_true")]
    layoutable: bool,
    #[serde(borrow, deserialize_with = "text")]
    key_prefix: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    associate_entity_type: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    associate_parent_entity: Option<Cow<'a, str>>,
}

#[derive(Debug, Default)]
enum Entries<'a> {
    #[default]
    Absent,
    Nameless,
    TooMany,
    List(Vec<Entry<'a>>),
}

fn entries<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Entries<'a>, D::Error> {
    let list = each(deserializer, Entries::List(Vec::new()), |entries, entry: IfObject<Entry<'a>>| {
        if let Entries::List(list) = entries {
            match entry.0.filter(|entry| entry.name.as_ref().is_some_and(|name| !name.is_empty())) {
                _ if list.len() == Listing::MAX_OBJECTS => *entries = Entries::TooMany,
                None => *entries = Entries::Nameless,
                Some(entry) => list.push(entry),
            }
        }
    })?;
    Ok(list.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_come_in_salesforces_order_and_no_name_twice() {
        let listing = Listing::parse(
            br#"{"encoding":"UTF-8","maxBatchSize":200,"sobjects":[
                {"name":"B__c","label":"","custom":true,"customSetting":true,"keyPrefix":"a01","urls":{"x":"y"}},
                {"name":"AHistory","label":"A","associateEntityType":"History","associateParentEntity":"A"},
                {"name":"b__C"},{"name":"C","custom":"yes","keyPrefix":7}]}"#,
        )
        .unwrap();
        let expected = [
            ListedObject {
                name: "B__c".into(),
                label: Some(String::new()),
                custom: true,
                custom_setting: true,
                key_prefix: Some("a01".into()),
                ..ListedObject::default()
            },
            ListedObject {
                name: "AHistory".into(),
                label: Some("A".into()),
                associate_entity_type: Some("History".into()),
                associate_parent_entity: Some("A".into()),
                ..ListedObject::default()
            },
            ListedObject { name: "C".into(), ..ListedObject::default() },
        ];
        assert_eq!(listing.objects, expected);
    }

    #[test]
    fn an_answer_that_may_not_be_the_whole_list_is_refused() {
        let problem = |answer: &str| Listing::parse(answer.as_bytes()).unwrap_err().to_string();
        assert_eq!(problem("<html>"), "the answer is HTML, not JSON");
        assert_eq!(problem(r#"{"sobjects":[{"name":"A"},"#), "the answer is not JSON (line 1, column 26)");
        for (answer, expected) in [
            ("[]", "it is not an object"),
            ("{}", "it has no list of objects"),
            (r#"{"sobjects":null}"#, "it has no list of objects"),
            (r#"{"sobjects":{"A":{}}}"#, "it has no list of objects"),
            (r#"{"sobjects":[{"name":"A"},{"label":"B"}]}"#, "one of its objects has no name"),
            (r#"{"sobjects":[{"name":""}]}"#, "one of its objects has no name"),
            (r#"{"sobjects":["A"]}"#, "one of its objects has no name"),
        ] {
            assert_eq!(problem(answer), format!("the answer is JSON, but {expected}"), "{answer}");
        }
    }

    #[test]
    fn an_empty_org_is_a_list() {
        assert_eq!(Listing::parse(br#"{"sobjects":[]}"#).unwrap(), Listing::default());
    }
}
