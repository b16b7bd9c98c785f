//! The describe of FieldDefinition, as far as it tells which values its picklists have.

use serde_json::{Value, json};

use super::super::Answer;
use super::field;

/// Values of the data sensitivity level: Salesforce's own, one that this org has added, and one that it took out of use.
const LEVELS: [(&str, bool); 7] = [
    ("Public", true),
    ("Internal", true),
    ("Confidential", true),
    ("Restricted", true),
    ("MissionCritical", true),
    ("Works Council", true),
    ("Top Secret", false),
];
const GROUPS: [(&str, bool); 8] = [
    ("CCPA", true),
    ("COPPA", true),
    ("GDPR", true),
    ("HIPAA", true),
    ("PCI", true),
    ("PersonalInfo", true),
    ("PII", true),
    ("BDSG", true),
];
const STATES: [(&str, bool); 4] = [("Active", true), ("DeprecateCandidate", true), ("Hidden", true), ("Piloted", true)];

pub(super) fn describe() -> Answer {
    let fields: Vec<Value> = field::STANDARD
        .iter()
        .map(|name| {
            let (kind, values): (_, &[(&str, bool)]) = match *name {
                "SecurityClassification" => ("picklist", &LEVELS),
                "ComplianceGroup" => ("multipicklist", &GROUPS),
                "BusinessStatus" => ("picklist", &STATES),
                "BusinessOwnerId" => ("reference", &[]),
                "Description" => ("textarea", &[]),
                _ => ("string", &[]),
            };
            let values: Vec<Value> = values.iter().map(|(value, active)| picklist_value(value, *active)).collect();
            json!({ "name": name, "label": name, "type": kind, "nillable": true, "picklistValues": values })
        })
        .collect();
    Answer::json(&json!({ "name": "FieldDefinition", "label": "Field Definition", "custom": false, "fields": fields }))
}

fn picklist_value(value: &str, active: bool) -> Value {
    json!({ "active": active, "defaultValue": false, "label": value, "validFor": null, "value": value })
}
