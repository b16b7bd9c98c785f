//! What a custom field holds, by its type, with the traps that real orgs have: labels other than values, values no longer
//! offered, dependent and very long picklists, formulas, roll-up summaries.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::json;

use super::picklist_value;
use crate::generate::Targets;
use crate::model::{Field, FieldType, Object, PicklistValue};

const WORDS: &[&str] = &[
    "New",
    "Open",
    "In Review",
    "Approved",
    "Rejected",
    "On Hold",
    "Closed",
    "Draft",
    "Active",
    "Expired",
    "Gold",
    "Silver",
    "Bronze",
    "North",
    "South",
    "East",
    "West",
    "Direct",
    "Indirect",
    "Online",
    "Phone",
    "R&D",
    "Größe L",
    "Other / n.a.",
];

/// The longest picklist recorded has 423 values.
const LONG: usize = 423;

pub(super) fn fill(field: &mut Field, object: &Object, targets: &Targets, rng: &mut Rng) {
    match field.kind {
        FieldType::String => text(field, rng),
        FieldType::TextArea => long_text(field, rng),
        FieldType::Picklist => picklist(field, object, rng),
        FieldType::MultiPicklist => field.picklist = values(3 + rng.usize(..6), rng),
        FieldType::Double => {
            (field.precision, field.scale) =
                rng.choice([(18, 0), (18, 2), (5, 0), (10, 4), (16, 8)]).unwrap_or((18, 2));
            number(field, rng);
        }
        FieldType::Currency => {
            (field.precision, field.scale) = rng.choice([(18, 2), (16, 2), (18, 0)]).unwrap_or((18, 2));
            number(field, rng);
        }
        FieldType::Percent => (field.precision, field.scale) = rng.choice([(5, 2), (3, 0), (18, 2)]).unwrap_or((5, 2)),
        FieldType::Boolean if rng.u8(..6) == 0 => field.default_value = Some(json!(true)),
        FieldType::Reference => reference(field, targets, rng),
        FieldType::Location => field.scale = 5,
        _ => {}
    }
    if rng.u8(..5) == 0 {
        field.help =
            Some(format!("Enter the {}.\nSee \"Handbook\", §4 – <b>not</b> by hand.", field.label.to_lowercase()));
    }
}

fn text(field: &mut Field, rng: &mut Rng) {
    field.length = rng.choice([20, 40, 80, 100, 255, 255, 255]).unwrap_or(255);
    match rng.u8(..16) {
        0 => (field.external_id, field.unique) = (true, true),
        1 => {
            field.length = 1300;
            (field.calculated, field.nillable, field.read_only) = (true, true, true);
            field.formula = Some("IF(ISBLANK(Name), \"?\", Name & \" / \" & TEXT(CreatedDate))".into());
        }
        2 => field.external_id = true,
        3 => (field.auto_number, field.length, field.read_only) = (true, 30, true),
        _ => {}
    }
}

fn long_text(field: &mut Field, rng: &mut Rng) {
    match rng.u8(..4) {
        0 => field.length = 255,
        1 => (field.length, field.html, field.extra_type) = (131_072, true, Some("richtextarea")),
        _ => field.length = 32_768,
    }
    field.nillable = true;
}

fn number(field: &mut Field, rng: &mut Rng) {
    match rng.u8(..10) {
        // A roll-up summary: calculated, without a formula.
        0 => (field.calculated, field.read_only, field.nillable) = (true, true, true),
        1 | 2 => {
            (field.calculated, field.read_only, field.nillable) = (true, true, true);
            field.formula = Some("ROUND(NULLVALUE(Owner.Manager.Id, 0) * 1.19, 2)".into());
        }
        3 => (field.default_value, field.defaulted) = (Some(json!(0)), true),
        _ => {}
    }
}

fn picklist(field: &mut Field, object: &Object, rng: &mut Rng) {
    field.restricted = rng.bool();
    let controller =
        object.fields.iter().rfind(|other| other.kind == FieldType::Picklist && other.controller.is_none());
    match (rng.u8(..24), controller) {
        (0, _) => {
            let value = |n| picklist_value(&format!("V{n:03}"), &format!("Value {n}"));
            field.picklist = (0..LONG).map(value).collect();
        }
        (1 | 2, Some(controller)) => {
            field.controller = Some(controller.name.clone());
            field.picklist = values(4 + rng.usize(..6), rng);
            let bytes = controller.picklist.len().div_ceil(8).max(1);
            for value in &mut field.picklist {
                let bits: Vec<u8> = (0..bytes).map(|_| rng.u8(..)).collect();
                value.valid_for = Some(STANDARD.encode(bits));
            }
        }
        _ => field.picklist = values(2 + rng.usize(..8), rng),
    }
    if rng.u8(..4) == 0
        && let Some(first) = field.picklist.first_mut()
    {
        first.default = true;
        (field.default_value, field.defaulted) = (Some(json!(first.value)), true);
    }
}

fn values(count: usize, rng: &mut Rng) -> Vec<PicklistValue> {
    let mut words = WORDS.to_vec();
    rng.shuffle(&mut words);
    let mut values: Vec<_> = words.into_iter().take(count).map(|word| picklist_value(word, word)).collect();
    if let Some(last) = values.last_mut() {
        last.active = rng.bool();
        last.label = format!("{} (old)", last.value);
    }
    values
}

fn reference(field: &mut Field, targets: &Targets, rng: &mut Rng) {
    field.nillable = true;
    field.length = 18;
    if let Some(target) = rng.choice(&targets.lookups) {
        field.reference_to = vec![target.clone()];
        field.relationship = Some(format!("{}__r", field.name.trim_end_matches("__c")));
        field.restrict = rng.u8(..8) == 0;
    }
}

/// The two parts of a geolocation.
pub(super) fn coordinates(location: &Field) -> [Field; 2] {
    let stem = location.name.trim_end_matches("__c");
    ["Latitude", "Longitude"].map(|part| Field {
        name: format!("{stem}__{part}__s"),
        label: format!("{} ({part})", location.label),
        kind: FieldType::Double,
        precision: 8,
        scale: 5,
        nillable: true,
        custom: true,
        compound: Some(location.name.clone()),
        ..Field::default()
    })
}
