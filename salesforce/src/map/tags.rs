//! Tags: classifications, their tags, and the labels of tables and columns.
//!
//! | classification | tags | from |
//! |---|---|---|
//! | `Salesforce` | those of [`Mark`] | the describe |
//! | `SalesforceSensitivity` | the org's values | `FieldDefinition.SecurityClassification` |
//! | `SalesforceCompliance` | the org's values | `FieldDefinition.ComplianceGroup` |
//! | `SalesforceStatus` | the org's values | `FieldDefinition.BusinessStatus` |
//!
//! The server refuses a table with the label of a tag that it does not know, so a label is made only of a tag that
//! [`Tags::entities`] gives before any table; a value that is no tag stands in the description.
//!
//! A label is `Automated`, because a program read it, and `Confirmed`: it repeats what Salesforce states or its
//! administrator decided, while `Suggested` would ask somebody to decide it again, for each of thousands of columns.
//!
//! No classification is mutually exclusive, although a field has one sensitivity and one status at a time: when a table
//! is written again, the server merges its old labels into the new ones, and refuses the whole table when two of them
//! exclude each other. A field whose sensitivity changed would cost the table.

use hybrid_runner_openmetadata::entity::{CreateClassification, CreateTag, LabelState, LabelType, TagSource};
use hybrid_runner_openmetadata::{fqn, rules};
use serde::{Serialize, Serializer};

use super::text;
use crate::annotations::{FieldAnnotations, Vocabulary};
use crate::describe::{Describe, Field};
use crate::listing::ListedObject;

/// The classification of what a describe says.
const SALESFORCE: &str = "Salesforce";

/// The fields that Salesforce keeps in every record (Object Reference, "System Fields").
const SYSTEM_FIELDS: [&str; 7] =
    ["Id", "IsDeleted", "CreatedById", "CreatedDate", "LastModifiedById", "LastModifiedDate", "SystemModstamp"];

/// What a describe says that is a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    Custom,
    System,
    ExternalId,
    Encrypted,
    Formula,
    Deprecated,
    CustomSetting,
    CustomMetadataType,
    PlatformEvent,
    BigObject,
    ExternalObject,
}

/// Each mark's tag, and what it means. The order is that of the labels.
const MARKS: [(Mark, &str, &str); 11] = [
    (Mark::Custom, "Salesforce.Custom", "Made by the org or a package, not by Salesforce."),
    (Mark::System, "Salesforce.System", "Kept by Salesforce in every record."),
    (Mark::ExternalId, "Salesforce.ExternalId", "Key of a record in another system."),
    (Mark::Encrypted, "Salesforce.Encrypted", "Stored encrypted."),
    (Mark::Formula, "Salesforce.Formula", "Computed by a formula."),
    (Mark::Deprecated, "Salesforce.Deprecated", "No longer supported, and hidden from people."),
    (Mark::CustomSetting, "Salesforce.CustomSetting", "Holds settings, not records."),
    (Mark::CustomMetadataType, "Salesforce.CustomMetadataType", "Holds configuration that is deployed with its type."),
    (Mark::PlatformEvent, "Salesforce.PlatformEvent", "Holds messages for subscribers, not records."),
    (Mark::BigObject, "Salesforce.BigObject", "Holds very many records, found by the fields of its index only."),
    (Mark::ExternalObject, "Salesforce.ExternalObject", "Shows the records of another system."),
];

/// A set of marks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks(u16);

impl Marks {
    /// What the describe says about a field.
    pub(super) fn of_field(field: &Field<'_>) -> Self {
        let name = field.name.as_deref().unwrap_or_default();
        let is_encrypted = field.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("encryptedstring"));
        let is_formula = field.calculated_formula.as_deref().is_some_and(|formula| !formula.trim().is_empty());
        Self::from([
            (Mark::Custom, field.custom),
            (Mark::System, !field.custom && SYSTEM_FIELDS.contains(&name)),
            (Mark::ExternalId, field.external_id),
            (Mark::Encrypted, field.encrypted || is_encrypted),
            (Mark::Formula, is_formula),
            (Mark::Deprecated, field.deprecated_and_hidden),
        ])
    }

    /// What the describe and the listing say about an object. Some kinds are known by the end of the name only.
    pub(super) fn of_object(object: &ListedObject, describe: &Describe<'_>) -> Self {
        let name = object.name.to_ascii_lowercase();
        Self::from([
            (Mark::Custom, object.custom || describe.custom),
            (Mark::Deprecated, describe.deprecated_and_hidden),
            (Mark::CustomSetting, object.custom_setting || describe.custom_setting),
            (Mark::CustomMetadataType, name.ends_with("__mdt")),
            (Mark::PlatformEvent, name.ends_with("__e")),
            (Mark::BigObject, name.ends_with("__b")),
            (Mark::ExternalObject, name.ends_with("__x")),
        ])
    }

    fn from<const N: usize>(marks: [(Mark, bool); N]) -> Self {
        Self(marks.iter().filter(|(_, is_set)| *is_set).fold(0, |set, (mark, _)| set | Self::bit(*mark)))
    }

    const fn bit(mark: Mark) -> u16 {
        1 << mark as u16
    }

    /// The FQNs of its tags.
    fn tags<'a>(self) -> impl Iterator<Item = &'a str> {
        MARKS.iter().filter(move |(mark, ..)| self.0 & Self::bit(*mark) != 0).map(|(_, tag, _)| *tag)
    }
}

/// A classification whose tags are an org's values.
struct Values {
    classification: &'static str,
    description: &'static str,
    /// What a value is called where it is text.
    title: &'static str,
    of_org: fn(&Vocabulary) -> &[String],
    of_field: fn(&FieldAnnotations) -> &[String],
}

const VALUES: [Values; 3] = [
    Values {
        classification: "SalesforceSensitivity",
        description: "How much it would harm if the data became known: Data Sensitivity Level of a field in Salesforce.",
        title: "Data sensitivity",
        of_org: |vocabulary| &vocabulary.sensitivity,
        of_field: |field| field.sensitivity.as_slice(),
    },
    Values {
        classification: "SalesforceCompliance",
        description: "Laws and rules that the data is under: Compliance Categorization of a field in Salesforce.",
        title: "Compliance",
        of_org: |vocabulary| &vocabulary.compliance,
        of_field: |field| &field.compliance,
    },
    Values {
        classification: "SalesforceStatus",
        description: "Whether a field is in use: Field Usage of a field in Salesforce.",
        title: "Field usage",
        of_org: |vocabulary| &vocabulary.status,
        of_field: |field| field.status.as_slice(),
    },
];

/// The tags that exist: those of the marks, and the org's values.
pub(super) struct Tags {
    /// Of each of [`VALUES`].
    values: Vec<Vec<Tag>>,
    is_on: bool,
}

/// The tag of a value.
struct Tag {
    /// As the org writes it.
    value: String,
    name: String,
    fqn: String,
}

impl Tags {
    /// The tags of an org's values; none at all when tags are off.
    pub(super) fn new(is_on: bool, vocabulary: &Vocabulary) -> Self {
        let of = |values: &Values| {
            let mut tags: Vec<Tag> = Vec::new();
            for value in if is_on { (values.of_org)(vocabulary) } else { &[] } {
                let Some(name) = name(value) else { continue };
                if find(&tags, &name).is_none() {
                    let fqn = fqn::child(values.classification, &name);
                    tags.push(Tag { value: value.trim().to_owned(), name, fqn });
                }
            }
            // An administrator can reorder the values, which changes no field.
            tags.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            tags
        };
        Self { values: VALUES.iter().map(of).collect(), is_on }
    }

    /// The FQNs of all tags.
    pub(super) fn fqns(&self) -> impl Iterator<Item = &str> {
        let of_marks = MARKS.iter().filter(|_| self.is_on).map(|(_, fqn, _)| *fqn);
        of_marks.chain(self.values.iter().flatten().map(|tag| tag.fqn.as_str()))
    }

    /// The classifications, then their tags, each with its FQN.
    pub(super) fn entities(&self) -> (Vec<CreateClassification>, Vec<(String, CreateTag)>) {
        let mut classifications = Vec::new();
        let mut tags = Vec::new();
        if self.is_on {
            classifications.push(classification(SALESFORCE, "What Salesforce says about an object or a field."));
            tags.extend(MARKS.iter().map(|(_, fqn, meaning)| {
                let name = fqn.rsplit('.').next().unwrap_or_default();
                ((*fqn).to_owned(), tag(SALESFORCE, name, None, (*meaning).to_owned()))
            }));
        }
        for (values, known) in VALUES.iter().zip(&self.values).filter(|(_, known)| !known.is_empty()) {
            classifications.push(classification(values.classification, values.description));
            tags.extend(known.iter().map(|Tag { value, name, fqn }| {
                let display_name = (value != name).then(|| value.clone());
                let mut meaning = String::new();
                let title = format!("{} in Salesforce", values.title);
                text::values(&title, std::iter::once(value.as_str()), &mut meaning);
                (fqn.clone(), tag(values.classification, name, display_name, meaning))
            }));
        }
        (classifications, tags)
    }

    /// The labels of marks alone.
    pub(super) fn of_marks(&self, marks: Marks) -> Labels<'_> {
        Labels { marks: if self.is_on { marks } else { Marks::default() }, values: Vec::new() }
    }

    /// The labels of a field. What is no tag is appended to a description.
    pub(super) fn of_field(&self, marks: Marks, field: &FieldAnnotations, text: &mut String) -> Labels<'_> {
        let mut labels = self.of_marks(marks);
        for (values, known) in VALUES.iter().zip(&self.values) {
            let mut others = Vec::new();
            for value in (values.of_field)(field).iter().map(|value| value.trim()).filter(|value| !value.is_empty()) {
                match name(value).and_then(|name| find(known, &name)) {
                    Some(tag) => labels.values.push(tag.fqn.as_str()),
                    None => others.push(value),
                }
            }
            others.sort_unstable();
            others.dedup();
            text::values(values.title, others.into_iter(), text);
        }
        labels.values.sort_unstable();
        labels.values.dedup();
        labels
    }
}

/// The name of the tag of a value; `None` for a value that cannot be one.
fn name(value: &str) -> Option<String> {
    let name = fqn::reserve(value.trim());
    rules::check_name(&name).is_ok().then_some(name)
}

/// Values that differ by case only are one, as they are in a picklist.
fn find<'a>(tags: &'a [Tag], name: &str) -> Option<&'a Tag> {
    tags.iter().find(|tag| tag.name.eq_ignore_ascii_case(name))
}

fn classification(name: &str, description: &str) -> CreateClassification {
    CreateClassification { name: name.to_owned(), description: description.to_owned() }
}

fn tag(classification: &str, name: &str, display_name: Option<String>, description: String) -> CreateTag {
    CreateTag { classification: classification.to_owned(), name: name.to_owned(), display_name, description }
}

/// The labels of a table or column, in order: marks, then values by FQN.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels<'a> {
    marks: Marks,
    values: Vec<&'a str>,
}

impl Labels<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.marks == Marks::default() && self.values.is_empty()
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.marks.tags().chain(self.values.iter().copied()).map(|tag_fqn| Label {
            tag_fqn,
            source: TagSource::Classification,
            label_type: LabelType::Automated,
            state: LabelState::Confirmed,
        }))
    }
}

/// [`TagLabel`](hybrid_runner_openmetadata::entity::TagLabel), borrowed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Label<'a> {
    #[serde(rename = "tagFQN")]
    tag_fqn: &'a str,
    source: TagSource,
    label_type: LabelType,
    state: LabelState,
}
