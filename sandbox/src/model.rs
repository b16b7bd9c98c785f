//! What an org consists of: objects, fields, relations. Plain data; how it looks on the wire is in `describe`.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::payload::Fragment;
use crate::rest::RowCache;

/// An entry of describeGlobal, without the members that follow from others (`urls`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListEntry {
    /// API name.
    pub name: String,
    /// Label, one.
    pub label: String,
    /// Label, several.
    pub label_plural: String,
    /// The first three characters of the ids of its rows.
    pub key_prefix: Option<String>,
    /// For a companion: History, Share, Feed, ChangeEvent.
    pub associate_entity_type: Option<String>,
    /// For a companion: the object it belongs to.
    pub associate_parent_entity: Option<String>,
    pub(crate) activateable: bool,
    pub(crate) createable: bool,
    /// Made in this org or by a package.
    pub custom: bool,
    pub(crate) custom_setting: bool,
    pub(crate) deep_cloneable: bool,
    pub(crate) deletable: bool,
    pub(crate) deprecated_and_hidden: bool,
    pub(crate) feed_enabled: bool,
    pub(crate) has_subtypes: bool,
    pub(crate) is_interface: bool,
    pub(crate) is_subtype: bool,
    pub(crate) layoutable: bool,
    pub(crate) mergeable: bool,
    pub(crate) mru_enabled: bool,
    pub(crate) queryable: bool,
    pub(crate) replicateable: bool,
    pub(crate) retrieveable: bool,
    pub(crate) searchable: bool,
    pub(crate) triggerable: bool,
    pub(crate) undeletable: bool,
    pub(crate) updateable: bool,
}

/// The kinds of objects that an org lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Comes with Salesforce.
    Standard,
    /// `X__c`, with or without a namespace.
    Custom,
    /// `X__c` that is a custom setting.
    CustomSetting,
    /// `X__mdt`.
    CustomMetadata,
    /// `X__e`, or a standard platform event.
    PlatformEvent,
    /// `X__b`.
    BigObject,
    /// `X__x`.
    External,
    /// `X__kav`.
    Knowledge,
    /// The history of another object.
    History,
    /// The sharing rows of another object.
    Share,
    /// The feed of another object.
    Feed,
    /// The change events of another object.
    ChangeEvent,
}

impl ObjectKind {
    /// Whether an object of this kind belongs to another one.
    #[must_use]
    pub fn is_companion(self) -> bool {
        matches!(self, Self::History | Self::Share | Self::Feed | Self::ChangeEvent)
    }
}

impl ListEntry {
    /// The kind, as the members tell it. Lists older than API 49 do not say which objects are companions; whoever reads
    /// one has to fill `associate_entity_type` in.
    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        let name = self.name.as_str();
        match self.associate_entity_type.as_deref() {
            Some("History") => return ObjectKind::History,
            Some("Share") => return ObjectKind::Share,
            Some("Feed") => return ObjectKind::Feed,
            Some("ChangeEvent") => return ObjectKind::ChangeEvent,
            _ => {}
        }
        let by_suffix = [
            ("__c", if self.custom_setting { ObjectKind::CustomSetting } else { ObjectKind::Custom }),
            ("__mdt", ObjectKind::CustomMetadata),
            ("__e", ObjectKind::PlatformEvent),
            ("__b", ObjectKind::BigObject),
            ("__x", ObjectKind::External),
            ("__kav", ObjectKind::Knowledge),
            (
                "Event",
                if self.key_prefix.is_some() && !self.queryable {
                    ObjectKind::PlatformEvent
                } else {
                    ObjectKind::Standard
                },
            ),
        ];
        by_suffix.iter().find(|(suffix, _)| name.ends_with(suffix)).map_or(ObjectKind::Standard, |(_, kind)| *kind)
    }
}

/// One object of the org.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Its entry in the list.
    pub entry: ListEntry,
    /// Its fields, in the describe's order.
    pub fields: Vec<Field>,
    /// The relations that point to it.
    pub children: Vec<Child>,
    /// Names of its record types besides Master.
    pub record_types: Vec<String>,
    /// What its owner wrote about it; only the Tooling API gives it.
    pub description: Option<String>,
    /// When its metadata last changed.
    pub modified: Timestamp,
    /// The recorded describe, served as it is.
    pub(crate) recorded: Option<Arc<RawValue>>,
    /// Describes as served, one for each API version that was asked for.
    pub(crate) prepared: Vec<OnceLock<Arc<Fragment>>>,
    /// Rows of FieldDefinition as served.
    pub(crate) rows: RowCache,
}

/// A field's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are Salesforce's own")]
pub enum FieldType {
    Address,
    #[serde(rename = "anyType")]
    AnyType,
    Base64,
    Boolean,
    Combobox,
    ComplexValue,
    Currency,
    DataCategoryGroupReference,
    Date,
    DateTime,
    Double,
    Email,
    EncryptedString,
    Id,
    Int,
    Json,
    Location,
    Long,
    MultiPicklist,
    Percent,
    Phone,
    Picklist,
    Reference,
    #[default]
    String,
    TextArea,
    Time,
    Url,
}

impl FieldType {
    /// Every type.
    pub const ALL: [Self; 27] = [
        Self::Address,
        Self::AnyType,
        Self::Base64,
        Self::Boolean,
        Self::Combobox,
        Self::ComplexValue,
        Self::Currency,
        Self::DataCategoryGroupReference,
        Self::Date,
        Self::DateTime,
        Self::Double,
        Self::Email,
        Self::EncryptedString,
        Self::Id,
        Self::Int,
        Self::Json,
        Self::Location,
        Self::Long,
        Self::MultiPicklist,
        Self::Percent,
        Self::Phone,
        Self::Picklist,
        Self::Reference,
        Self::String,
        Self::TextArea,
        Self::Time,
        Self::Url,
    ];

    /// The type as a describe names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::AnyType => "anyType",
            Self::Base64 => "base64",
            Self::Boolean => "boolean",
            Self::Combobox => "combobox",
            Self::ComplexValue => "complexvalue",
            Self::Currency => "currency",
            Self::DataCategoryGroupReference => "datacategorygroupreference",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Double => "double",
            Self::Email => "email",
            Self::EncryptedString => "encryptedstring",
            Self::Id => "id",
            Self::Int => "int",
            Self::Json => "json",
            Self::Location => "location",
            Self::Long => "long",
            Self::MultiPicklist => "multipicklist",
            Self::Percent => "percent",
            Self::Phone => "phone",
            Self::Picklist => "picklist",
            Self::Reference => "reference",
            Self::String => "string",
            Self::TextArea => "textarea",
            Self::Time => "time",
            Self::Url => "url",
        }
    }

    /// The type with this name in a describe.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn soap(self) -> &'static str {
        match self {
            Self::Id | Self::Reference => "tns:ID",
            Self::Boolean => "xsd:boolean",
            Self::Int => "xsd:int",
            Self::Long => "xsd:long",
            Self::Double | Self::Currency | Self::Percent => "xsd:double",
            Self::Date => "xsd:date",
            Self::DateTime => "xsd:dateTime",
            Self::Time => "xsd:time",
            Self::Base64 => "xsd:base64Binary",
            Self::Address => "urn:address",
            Self::Location => "urn:location",
            Self::AnyType => "xsd:anyType",
            Self::ComplexValue => "urn:ComplexValue",
            Self::Json => "tns:json",
            Self::Combobox
            | Self::DataCategoryGroupReference
            | Self::Email
            | Self::EncryptedString
            | Self::MultiPicklist
            | Self::Phone
            | Self::Picklist
            | Self::String
            | Self::TextArea
            | Self::Url => "xsd:string",
        }
    }
}

/// One field. What a describe says beyond this follows from these members.
#[derive(Clone, Debug, Default)]
pub struct Field {
    /// API name.
    pub name: String,
    /// Label.
    pub label: String,
    /// Type.
    pub kind: FieldType,
    /// Characters of a text, 0 for others.
    pub length: u32,
    /// Digits of a number, both sides of the point.
    pub precision: u16,
    /// Digits after the point.
    pub scale: u16,
    /// Digits of an int.
    pub digits: u16,
    /// May be empty.
    pub nillable: bool,
    /// No two rows have the same value.
    pub unique: bool,
    /// An external id.
    pub external_id: bool,
    /// Rows can be found by it in an upsert, although it is no external id.
    pub id_lookup: bool,
    /// Made in this org or by a package.
    pub custom: bool,
    /// The object's name field.
    pub name_field: bool,
    /// Filled by Salesforce.
    pub read_only: bool,
    /// Filled by Salesforce when a row is made.
    pub defaulted: bool,
    /// A formula or a roll-up summary.
    pub calculated: bool,
    /// The formula, if it is one.
    pub formula: Option<String>,
    /// Numbered by Salesforce.
    pub auto_number: bool,
    /// Holds HTML.
    pub html: bool,
    /// Only listed values are taken.
    pub restricted: bool,
    /// Objects it may point to, all of them in the org.
    pub reference_to: Vec<String>,
    /// Name of the relation from this side.
    pub relationship: Option<String>,
    /// 0 or 1 for a master-detail relation.
    pub relationship_order: Option<u8>,
    /// The field pointed to, when it is not Id.
    pub reference_target_field: Option<String>,
    /// Rows go when the row pointed to goes.
    pub cascade: bool,
    /// A row that is pointed to cannot go.
    pub restrict: bool,
    /// Its values.
    pub picklist: Vec<PicklistValue>,
    /// The picklist or checkbox that decides which values are valid.
    pub controller: Option<String>,
    /// The compound field that it is a part of.
    pub compound: Option<String>,
    /// What a new row gets.
    pub default_value: Option<serde_json::Value>,
    /// Help text.
    pub help: Option<String>,
    /// `personname`, `plaintextarea`, `richtextarea`, …
    pub extra_type: Option<&'static str>,
    /// What its owner wrote about it; only the Tooling API gives it.
    pub description: Option<String>,
    /// Data sensitivity level; only the Tooling API gives it.
    pub classification: Option<Cow<'static, str>>,
    /// Compliance groups joined by `;`; only the Tooling API gives it.
    pub compliance: Option<Cow<'static, str>>,
    /// What is planned for it; only the Tooling API gives it.
    pub business_status: Option<Cow<'static, str>>,
    /// The id of the user or group that it belongs to; only the Tooling API gives it.
    pub owner: Option<Cow<'static, str>>,
}

impl Field {
    /// Whether its children name it as their compound and it holds no value of its own.
    pub(crate) fn is_compound(&self) -> bool {
        matches!(self.kind, FieldType::Address | FieldType::Location)
    }
}

/// One value of a picklist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PicklistValue {
    /// API value.
    pub value: String,
    /// Label.
    pub label: String,
    /// Still offered.
    pub active: bool,
    /// Taken when nothing is chosen.
    pub default: bool,
    /// Bitmap over the controlling field's values, base64.
    pub valid_for: Option<String>,
}

/// A relation that points to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The object that points.
    pub object: String,
    /// Its field.
    pub field: String,
    /// Name of the relation from the other side.
    pub relationship: Option<String>,
    /// Rows go when the row pointed to goes.
    pub cascade: bool,
    /// A row that is pointed to cannot go.
    pub restrict: bool,
}
