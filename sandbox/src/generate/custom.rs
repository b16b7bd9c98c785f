//! Objects and fields that somebody made: custom objects of all kinds, custom fields of all types, and standard objects of
//! which only the name is written down.

use fastrand::Rng;

use super::plan::Planned;
use super::tables::{Plain, complete, parse};
use super::{Targets, label};
use crate::model::{Field, FieldType, ListEntry, Object, ObjectKind, PicklistValue};

mod value;

/// Custom fields that an object of the org has naturally: most have few, some many.
const FEW: std::ops::Range<usize> = 4..24;
const MANY: std::ops::Range<usize> = 24..90;

const FIRST_WORDS: &[&str] = &[
    "Billing",
    "Contract",
    "Delivery",
    "Discount",
    "Approval",
    "Partner",
    "Region",
    "Primary",
    "Secondary",
    "Legacy",
    "External",
    "Internal",
    "Estimated",
    "Actual",
    "Planned",
    "Last",
    "Next",
    "First",
    "Total",
    "Net",
    "Gross",
    "Average",
    "Target",
    "Risk",
    "Quality",
    "Service",
    "Support",
    "Renewal",
    "Onboarding",
    "Compliance",
    "Marketing",
    "Invoice",
];
const SECOND_WORDS: &[&str] = &[
    "Date",
    "Amount",
    "Status",
    "Type",
    "Code",
    "Category",
    "Score",
    "Owner",
    "Contact",
    "Number",
    "Level",
    "Stage",
    "Reason",
    "Comment",
    "Note",
    "Rate",
    "Limit",
    "Count",
    "Flag",
    "Channel",
    "Segment",
    "Group",
    "Term",
    "Value",
    "Price",
    "Cost",
    "Margin",
    "Share",
    "Period",
    "Deadline",
    "Reference",
    "Result",
    "Plan",
    "Zone",
    "Unit",
    "Priority",
    "Source",
];

/// A standard object of which only the name is known.
pub(super) fn plain(name: &str, plain: Plain, targets: &Targets, rng: &mut Rng) -> Object {
    let (event, business) = (plain == Plain::Event, plain == Plain::Business);
    let (one, several) = label::of_object(name);
    let entry = ListEntry {
        name: name.into(),
        label: one,
        label_plural: several,
        key_prefix: Some(prefix('0', rng)),
        createable: !event,
        deletable: business,
        feed_enabled: business,
        layoutable: business,
        mru_enabled: business,
        queryable: !event,
        replicateable: !event,
        retrieveable: !event,
        searchable: business,
        triggerable: business || event,
        undeletable: business,
        updateable: !event,
        ..ListEntry::default()
    };
    let parent = parent_by_name(name, targets)
        .map(|parent| format!("{parent}Id~reference({parent})~nil~rel={parent}"))
        .unwrap_or_default();
    let text = match plain {
        Plain::Event => {
            "CreatedDate~datetime~ro~req CreatedById~reference(User)~ro~rel=CreatedBy ReplayId~string(1000)~ro~nil \
            EventUuid~string(36)~ro~nil:Event UUID EventIdentifier~string(36)~ro EventDate~datetime~ro \
            UserId~reference(User)~ro~nil~rel=User SourceIp~string(39)~ro"
                .to_owned()
        }
        Plain::Business => format!(
            "@head @owners Name~string(255)~name~req @audit @viewed {parent} Status~picklist~values=New,In Progress,Closed \
             Description~textarea(32000) StartDate~datetime EndDate~datetime Quantity~double(18,2)"
        ),
        Plain::Setup => format!(
            "Id~id DeveloperName~string(80)~req Language~picklist(40)~restricted~values=en_US,de,es,fr,ja \
             MasterLabel~string(80)~name~req:Label NamespacePrefix~string(15)~ro~nil {parent} IsActive~boolean:Active \
             Description~string(255) @audit"
        ),
    };
    let mut object = Object { entry, fields: parse(&text), ..Object::default() };
    if business {
        add_fields(&mut object, rng.usize(..6), targets, rng);
    }
    object
}

/// The object whose name begins this one's, as in `AccountTeamMember`.
fn parent_by_name<'a>(name: &str, targets: &'a Targets) -> Option<&'a str> {
    let begins = |candidate: &&String| name.len() > candidate.len() && name.starts_with(candidate.as_str());
    targets.listed.iter().filter(begins).max_by_key(|candidate| candidate.len()).map(String::as_str)
}

/// A custom object of whatever kind.
pub(super) fn object(planned: &Planned, targets: &Targets, rng: &mut Rng) -> Object {
    let kind = planned.kind;
    let custom = kind == ObjectKind::Custom;
    let event = kind == ObjectKind::PlatformEvent;
    let rows = custom || kind == ObjectKind::External;
    let (one, several) = label::of_object(&planned.name);
    let first = match kind {
        ObjectKind::CustomMetadata => 'm',
        ObjectKind::PlatformEvent => 'e',
        ObjectKind::External => 'x',
        ObjectKind::BigObject => 'I',
        _ => 'a',
    };
    let entry = ListEntry {
        name: planned.name.clone(),
        label: one,
        label_plural: several,
        key_prefix: Some(prefix(first, rng)),
        custom: true,
        custom_setting: kind == ObjectKind::CustomSetting,
        createable: kind != ObjectKind::CustomMetadata,
        deletable: rows || kind == ObjectKind::CustomSetting,
        feed_enabled: custom && rng.bool(),
        layoutable: rows || kind == ObjectKind::CustomMetadata,
        mru_enabled: custom,
        queryable: !event,
        replicateable: custom || kind == ObjectKind::CustomSetting,
        retrieveable: !event,
        searchable: rows,
        triggerable: custom || event,
        undeletable: custom,
        updateable: !event && kind != ObjectKind::BigObject && kind != ObjectKind::CustomMetadata,
        ..ListEntry::default()
    };
    let mut object = Object { entry, fields: parse(system_fields(kind)), ..Object::default() };
    let few = if rng.u8(..5) == 0 { MANY } else { FEW };
    match kind {
        // The objects that every org has show every type.
        ObjectKind::Custom if planned.name == "Service_Visit__c" => {
            CUSTOM_TYPES.iter().for_each(|(kind, _)| add(&mut object, *kind, targets, rng));
            add_fields(&mut object, 20, targets, rng);
        }
        ObjectKind::Custom => add_fields(&mut object, rng.usize(few), targets, rng),
        ObjectKind::External => {
            let indirect =
                Field { reference_target_field: Some("Account_Number__c".into()), ..lookup("Account", "Customer") };
            object.fields.push(Field { extra_type: Some("indirectlookup"), ..indirect });
            add_fields(&mut object, rng.usize(4..12), targets, rng);
        }
        _ => (0..rng.usize(3..12)).for_each(|_| add(&mut object, simple_type(rng), targets, rng)),
    }
    if custom && rng.u8(..3) == 0 && targets.listed.contains("Account") {
        let master = Field {
            cascade: true,
            relationship_order: Some(0),
            nillable: false,
            restricted: false,
            ..lookup("Account", "Parent_Account")
        };
        object.fields.push(master);
    }
    object
}

fn system_fields(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::CustomMetadata => {
            "Id~id DeveloperName~string(40)~req MasterLabel~string(40)~req:Label \
             Language~picklist(40)~restricted~values=en_US,de,es,fr,ja NamespacePrefix~string(15)~ro~nil \
             Label~string(40)~ro~name QualifiedApiName~string(70)~ro~req:Qualified API Name SystemModstamp~datetime~ro"
        }
        ObjectKind::PlatformEvent => {
            "ReplayId~string(1000)~ro~nil:Replay ID CreatedDate~datetime~ro~req \
             CreatedById~reference(User)~ro~rel=CreatedBy EventUuid~string(36)~ro~nil:Event UUID"
        }
        ObjectKind::BigObject => "Id~id~nil CreatedDate~datetime~ro CreatedById~reference(User)~ro~nil~rel=CreatedBy",
        ObjectKind::External => {
            "Id~id ExternalId~string(1000)~uniq~req:External ID DisplayUrl~url(1000)~ro:Display URL"
        }
        ObjectKind::CustomSetting => {
            "@head Name~string(38)~name SetupOwnerId~reference(Organization,Profile,User)~rel=SetupOwner:Location @audit"
        }
        _ => "Id~id @owners IsDeleted~boolean~ro:Deleted Name~string(80)~name @audit @viewed",
    }
}

/// Types of custom fields with their weights.
const CUSTOM_TYPES: &[(FieldType, u32)] = &[
    (FieldType::String, 24),
    (FieldType::Picklist, 14),
    (FieldType::Boolean, 11),
    (FieldType::Reference, 9),
    (FieldType::Double, 9),
    (FieldType::Date, 7),
    (FieldType::Currency, 7),
    (FieldType::TextArea, 7),
    (FieldType::DateTime, 4),
    (FieldType::Percent, 2),
    (FieldType::Email, 2),
    (FieldType::Phone, 2),
    (FieldType::Url, 2),
    (FieldType::MultiPicklist, 2),
    (FieldType::Location, 1),
    (FieldType::Time, 1),
    (FieldType::EncryptedString, 1),
];

fn simple_type(rng: &mut Rng) -> FieldType {
    let types = [FieldType::String, FieldType::Boolean, FieldType::Double, FieldType::DateTime, FieldType::TextArea];
    rng.choice(types).unwrap_or_default()
}

/// Adds `count` custom fields.
pub(super) fn add_fields(object: &mut Object, count: usize, targets: &Targets, rng: &mut Rng) {
    let total: u32 = CUSTOM_TYPES.iter().map(|(_, weight)| weight).sum();
    let end = object.fields.len() + count;
    while object.fields.len() < end {
        let mut left = rng.u32(..total);
        let chosen = CUSTOM_TYPES.iter().find(|(_, weight)| {
            let hit = left < *weight;
            left = left.saturating_sub(*weight);
            hit
        });
        let mut kind = chosen.map_or(FieldType::String, |(kind, _)| *kind);
        // A geolocation is three fields.
        if kind == FieldType::Location && object.fields.len() + 3 > end {
            kind = FieldType::String;
        }
        add(object, kind, targets, rng);
    }
}

fn add(object: &mut Object, kind: FieldType, targets: &Targets, rng: &mut Rng) {
    let name = name(object, rng);
    let mut field = Field {
        label: label::of_field(&name, kind),
        name,
        kind,
        nillable: kind != FieldType::Boolean && rng.u8(..12) != 0,
        custom: true,
        ..Field::default()
    };
    value::fill(&mut field, object, targets, rng);
    if field.length == 0 {
        complete(&mut field, None);
    }
    let parts = (kind == FieldType::Location).then(|| value::coordinates(&field));
    object.fields.push(field);
    object.fields.extend(parts.into_iter().flatten());
}

fn name(object: &Object, rng: &mut Rng) -> String {
    let namespace = label::namespace(&object.entry.name).map(|ns| format!("{ns}__")).unwrap_or_default();
    let taken = |name: &str| object.fields.iter().any(|field| field.name == name);
    let words = [FIRST_WORDS, SECOND_WORDS].map(|words| rng.choice(words).copied().unwrap_or_default()).join("_");
    let plain = format!("{namespace}{words}__c");
    if !taken(&plain) {
        return plain;
    }
    format!("{namespace}{words}_{}__c", object.fields.len())
}

fn lookup(target: &str, name: &str) -> Field {
    Field {
        name: format!("{name}__c"),
        label: label::of_field(name, FieldType::String),
        kind: FieldType::Reference,
        length: 18,
        nillable: true,
        custom: true,
        reference_to: vec![target.into()],
        relationship: Some(format!("{name}__r")),
        ..Field::default()
    }
}

/// A key that another system gives, as the target of indirect lookups.
pub(super) fn external_id(name: &str) -> Field {
    Field {
        name: name.to_owned(),
        label: label::of_field(name.trim_end_matches("__c"), FieldType::String),
        kind: FieldType::String,
        length: 40,
        nillable: true,
        custom: true,
        unique: true,
        external_id: true,
        ..Field::default()
    }
}

/// Three characters: the kind's first, then two by chance. Real prefixes are not unique either.
fn prefix(first: char, rng: &mut Rng) -> String {
    let mut any = || char::from_digit(rng.u32(..36), 36).unwrap_or('0');
    format!("{first}{}{}", any().to_ascii_uppercase(), any())
}

/// One value of a generated picklist.
fn picklist_value(value: &str, label: &str) -> PicklistValue {
    PicklistValue { value: value.into(), label: label.into(), active: true, default: false, valid_for: None }
}
