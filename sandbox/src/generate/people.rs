//! Who owns fields, and what people write about objects and fields: all of it invented, and with what texts of people
//! have in them.

use std::borrow::Cow;

use fastrand::Rng;

use crate::model::{Field, FieldType, Object};

/// Users by id.
pub(crate) const USERS: [(&str, &str); 6] = [
    ("0055g0000OwnerAAAA", "Anna Müller"),
    ("0055g0000OwnerBAAA", "Brian O'Neill"),
    ("0055g0000OwnerCAAA", "Chiara \"Kiki\" Rossi"),
    ("0055g0000OwnerDAAA", "Dong-hyun Kim"),
    ("0055g0000OwnerEAAA", "Élodie Martin"),
    ("0055g0000OwnerFAAA", "Integration <billing>"),
];

/// Groups by id.
pub(crate) const GROUPS: [(&str, &str); 2] =
    [("00G5g0000GroupAAAA", "Data Governance Board"), ("00G5g0000GroupBAAA", "R&D")];

/// Descriptions and classifications, which only the Tooling API gives.
pub(super) fn annotate(object: &mut Object, rng: &mut Rng) {
    if object.entry.custom || rng.u8(..4) == 0 {
        object.description = Some(text(&object.entry.label, rng));
    }
    for field in &mut object.fields {
        if rng.u8(..20) < if field.custom { 9 } else { 2 } {
            field.description = Some(text(&field.label, rng));
        }
        classify(field, rng);
        if field.custom && rng.u8(..30) == 0 {
            let of = if rng.u8(..5) == 0 { rng.choice(GROUPS) } else { rng.choice(USERS) };
            field.owner = of.map(|(id, _)| id.into());
        }
    }
}

fn classify(field: &mut Field, rng: &mut Rng) {
    let personal = matches!(field.kind, FieldType::Email | FieldType::Phone | FieldType::EncryptedString);
    if personal && rng.bool() {
        (field.classification, field.compliance) =
            (Some(Cow::Borrowed("Confidential")), rng.choice(["PII;GDPR", "PII", "BDSG;GDPR"]).map(Cow::Borrowed));
    } else if field.custom && rng.u8(..10) == 0 {
        field.classification =
            rng.choice(["Public", "Internal", "Restricted", "MissionCritical", "Works Council"]).map(Cow::Borrowed);
    }
    if field.classification.is_some() {
        let states = ["Active", "Active", "Active", "DeprecateCandidate", "Piloted"];
        field.business_status = rng.choice(states).map(Cow::Borrowed);
    }
}

fn text(label: &str, rng: &mut Rng) -> String {
    let issue = rng.u32(100..10_000);
    match rng.u8(..6) {
        0 => format!("{label} of the record, as agreed with \"finance\" & <audit>; see OPS-{issue}."),
        1 => {
            format!("{label}: Größe und Stückzahl laut Vertrag.\nÄnderungen nur durch das Team »Stammdaten« ({issue}).")
        }
        2 => format!("<p>See <a href=\"https://wiki.example.com/{issue}\">the wiki</a> for {label}.</p>"),
        3 => format!("{label}\r\n\r\n1. entered by sales\r\n2. checked by *finance*\r\n\tnot later than day {issue}"),
        4 => format!("Copied from C:\\exports\\{issue}\\{label}.csv | {{!User.Name}} [old](javascript:void) 数量 🚚"),
        _ => format!("{label}: kept by the operations team since release {issue}."),
    }
}
