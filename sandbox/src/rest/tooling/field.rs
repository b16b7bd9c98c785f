//! The columns of FieldDefinition.

use serde_json::{Value, json};

use super::{base62, durable_id, entity};
use crate::generate::label;
use crate::login::USER;
use crate::model::{Field, FieldType, Object, ObjectKind};

/// What `FIELDS(STANDARD)` gives.
pub(super) const STANDARD: &[&str] = &[
    "Id",
    "DurableId",
    "QualifiedApiName",
    "EntityDefinitionId",
    "NamespacePrefix",
    "DeveloperName",
    "MasterLabel",
    "Label",
    "Length",
    "DataType",
    "ValueTypeId",
    "ExtraTypeInfo",
    "IsCalculated",
    "IsHighScaleNumber",
    "IsHtmlFormatted",
    "IsNameField",
    "IsNillable",
    "IsWorkflowFilterable",
    "IsCompactLayoutable",
    "Precision",
    "Scale",
    "IsFieldHistoryTracked",
    "IsIndexed",
    "IsApiFilterable",
    "IsApiSortable",
    "IsListFilterable",
    "IsListSortable",
    "IsApiGroupable",
    "IsListVisible",
    "ControllingFieldDefinitionId",
    "LastModifiedDate",
    "LastModifiedById",
    "PublisherId",
    "RunningUserFieldAccessId",
    "RelationshipName",
    "ReferenceTo",
    "ReferenceTargetField",
    "IsCompound",
    "IsSearchPrefilterable",
    "IsPolymorphicForeignKey",
    "BusinessOwnerId",
    "BusinessStatus",
    "SecurityClassification",
    "ComplianceGroup",
    "Description",
];

/// A row that follows from a field of the describe, or one that the describe lacks.
pub(super) enum Made<'a> {
    Described(&'a Field),
    Hidden(Box<Field>),
}

/// Fields of every custom object that are in no describe.
const HIDDEN: [(&str, &str); 2] =
    [("UserRecordAccessId", "UserRecordAccess"), ("RecordVisibilityId", "RecordVisibility")];

/// The rows of an object, with so many of fields that the user does not see. Parts of an address have none, as their
/// compound stands for them; it has.
pub(super) fn made(object: &Object, invisible: usize) -> Vec<Made<'_>> {
    let is_part = |field: &Field| {
        let parent = field.compound.as_ref().and_then(|name| object.fields.iter().find(|other| other.name == *name));
        parent.is_some_and(|parent| matches!(parent.kind, FieldType::Address | FieldType::Location))
    };
    let hidden = HIDDEN.iter().filter(|_| object.entry.kind() == ObjectKind::Custom).map(|(name, target)| {
        Made::Hidden(Box::new(Field {
            name: (*name).into(),
            label: label::of_field(name, FieldType::Reference),
            kind: FieldType::Reference,
            length: 18,
            nillable: true,
            reference_to: vec![(*target).into()],
            relationship: Some((*target).into()),
            ..Field::default()
        }))
    });
    let invisible = (0..invisible).map(|at| {
        let (name, description) = (format!("Invisible_{at}__c"), Some("Not for everyone.".to_owned()));
        Made::Hidden(Box::new(Field { name, description, length: 80, custom: true, ..Field::default() }))
    });
    let described = object.fields.iter().filter(|field| !is_part(field)).map(Made::Described);
    described.chain(hidden).chain(invisible).collect()
}

impl Made<'_> {
    pub(super) fn field(&self) -> &Field {
        match self {
            Self::Described(field) => field,
            Self::Hidden(field) => field,
        }
    }

    /// One column, if there is such a one.
    pub(super) fn column(&self, object: &Object, name: &str) -> Option<Value> {
        if name.contains('.') {
            return match name.to_lowercase().as_str() {
                "valuetype.developername" => Some(json!(value_type(self.field().kind))),
                _ => of_object(object, name),
            };
        }
        let name = STANDARD.iter().find(|known| known.eq_ignore_ascii_case(name))?;
        Some(column(object, self.field(), name))
    }
}

/// A column of the object that the field belongs to.
pub(super) fn of_object(object: &Object, name: &str) -> Option<Value> {
    let (parent, rest) = name.split_once('.')?;
    if parent.eq_ignore_ascii_case("EntityDefinition") { entity::column(object, rest) } else { None }
}

fn column(object: &Object, field: &Field, name: &str) -> Value {
    match name {
        "Id" => json!("000000000000000AAA"),
        "DurableId" => json!(field_id(object, field)),
        "QualifiedApiName" => json!(field.name),
        "EntityDefinitionId" => json!(durable_id(object)),
        "NamespacePrefix" => json!(label::namespace(&field.name)),
        "DeveloperName" => json!(developer_name(field)),
        "MasterLabel" | "Label" => json!(field.label),
        "Length" => json!(field.length),
        "DataType" => json!(data_type(object, field)),
        "ValueTypeId" => json!(value_type(field.kind)),
        "ExtraTypeInfo" => json!(field.extra_type),
        "IsCalculated" => json!(field.calculated),
        "IsHtmlFormatted" => json!(field.html),
        "IsNameField" => json!(field.name_field),
        "IsNillable" => json!(field.nillable),
        "Precision" => json!(field.precision),
        "Scale" => json!(field.scale),
        "IsIndexed" => json!(field.kind == FieldType::Id || field.external_id || field.kind == FieldType::Reference),
        "IsApiFilterable" | "IsListFilterable" => json!(field.length <= 255),
        "IsApiSortable" | "IsListSortable" => json!(field.length <= 255 && !field.is_compound()),
        "IsApiGroupable" | "IsListVisible" | "IsWorkflowFilterable" | "IsCompactLayoutable" => {
            json!(!field.is_compound())
        }
        "ControllingFieldDefinitionId" => json!(field.controller),
        "LastModifiedDate" if field.custom => json!(entity::date(object.modified)),
        "LastModifiedById" if field.custom => json!(USER),
        "PublisherId" => {
            json!(label::namespace(&field.name).unwrap_or(if field.custom { "<local>" } else { "System" }))
        }
        "RunningUserFieldAccessId" => json!(format!("{}.{USER}", field_id(object, field))),
        "RelationshipName" => json!(field.relationship),
        "ReferenceTo" => {
            let to = (!field.reference_to.is_empty()).then_some(&field.reference_to);
            json!({ "referenceTo": to })
        }
        "ReferenceTargetField" => json!(field.reference_target_field),
        "IsCompound" => json!(field.is_compound()),
        "IsPolymorphicForeignKey" => json!(field.reference_to.len() > 1),
        "IsHighScaleNumber" | "IsFieldHistoryTracked" => json!(false),
        "IsSearchPrefilterable" => json!(field.reference_to.len() == 1),
        "SecurityClassification" => json!(field.classification),
        "ComplianceGroup" => json!(field.compliance),
        "Description" => json!(field.description),
        "BusinessStatus" => json!(field.business_status),
        "BusinessOwnerId" => json!(field.owner),
        _ => Value::Null,
    }
}

/// Custom fields are known by an id that contains `.00N`.
pub(super) fn field_id(object: &Object, field: &Field) -> String {
    let of = durable_id(object);
    if field.custom {
        return format!("{of}.00N5g{}", base62(&format!("{}.{}", object.entry.name, field.name)));
    }
    format!("{of}.{}", developer_name(field))
}

/// Without affixes; a standard lookup loses its `Id`, the id itself does not.
fn developer_name(field: &Field) -> &str {
    if field.custom {
        return label::without_affixes(&field.name);
    }
    let lookup = field.kind == FieldType::Reference;
    field.name.strip_suffix("Id").filter(|name| lookup && !name.is_empty()).unwrap_or(&field.name)
}

fn value_type(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Id | FieldType::Reference => "id",
        FieldType::Boolean => "boolean",
        FieldType::Int => "int",
        FieldType::Long => "long",
        FieldType::Currency | FieldType::Double | FieldType::Percent => "double",
        FieldType::Date => "date",
        FieldType::DateTime => "datetime",
        FieldType::Time => "time",
        FieldType::Base64 => "base64",
        FieldType::Address => "address",
        FieldType::Location => "location",
        FieldType::AnyType => "anyType",
        FieldType::ComplexValue => "complexvalue",
        FieldType::Json => "json",
        _ => "string",
    }
}

/// The type as the setup pages write it.
fn data_type(object: &Object, field: &Field) -> String {
    let (length, digits) = (field.length, format!("{}, {}", field.precision.saturating_sub(field.scale), field.scale));
    let plain = match field.kind {
        FieldType::Id => "Lookup()".into(),
        FieldType::Reference if field.relationship_order.is_some() => {
            format!("Master-Detail({})", field.reference_to.join(","))
        }
        FieldType::Reference => format!("Lookup({})", field.reference_to.join(",")),
        FieldType::String if field.auto_number => "Auto Number".into(),
        FieldType::String if field.name_field && field.name == "Name" && !object.entry.custom => "Name".into(),
        FieldType::String => "Text".into(),
        FieldType::TextArea if field.html => format!("Rich Text Area({length})"),
        FieldType::TextArea if length > 255 => format!("Long Text Area({length})"),
        FieldType::TextArea => "Text Area(255)".into(),
        FieldType::Boolean => "Checkbox".into(),
        FieldType::DateTime => "Date/Time".into(),
        FieldType::Double | FieldType::Int | FieldType::Long => format!("Number({digits})"),
        FieldType::Currency => format!("Currency({digits})"),
        FieldType::Percent => format!("Percent({digits})"),
        FieldType::MultiPicklist => "Picklist (Multi-Select)".into(),
        FieldType::EncryptedString => format!("Text (Encrypted)({length})"),
        FieldType::Location => "Geolocation".into(),
        FieldType::Phone if field.name.ends_with("Fax") => "Fax".into(),
        FieldType::Url => format!("URL({length})"),
        kind => {
            let name = kind.name();
            let mut letters = name.chars();
            letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
        }
    };
    match (field.calculated, &field.formula) {
        (true, Some(_)) => format!("Formula ({})", plain.split('(').next().unwrap_or_default().trim()),
        (true, None) if field.custom => format!("Roll-Up Summary (SUM {})", object.entry.label),
        _ if plain == "Text" && field.external_id => format!("Text({length})  (External ID)"),
        _ if plain == "Text" => format!("Text({length})"),
        _ => plain,
    }
}
