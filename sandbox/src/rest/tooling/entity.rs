//! The columns of EntityDefinition.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::durable_id;
use crate::generate::label;
use crate::login::USER;
use crate::model::{Object, ObjectKind};

/// What `FIELDS(STANDARD)` gives: everything but the description.
pub(super) const STANDARD: &[&str] = &[
    "Id",
    "DurableId",
    "LastModifiedDate",
    "LastModifiedById",
    "QualifiedApiName",
    "NamespacePrefix",
    "DeveloperName",
    "MasterLabel",
    "Label",
    "PluralLabel",
    "DefaultCompactLayoutId",
    "IsCustomizable",
    "IsApexTriggerable",
    "IsWorkflowEnabled",
    "IsProcessEnabled",
    "IsCompactLayoutable",
    "DeploymentStatus",
    "KeyPrefix",
    "IsCustomSetting",
    "IsDeprecatedAndHidden",
    "IsReplicateable",
    "IsRetrieveable",
    "IsSearchLayoutable",
    "IsSearchable",
    "IsTriggerable",
    "IsIdEnabled",
    "IsEverCreatable",
    "IsEverUpdatable",
    "IsEverDeletable",
    "IsFeedEnabled",
    "IsQueryable",
    "IsMruEnabled",
    "DetailUrl",
    "EditUrl",
    "NewUrl",
    "EditDefinitionUrl",
    "HelpSettingPageName",
    "HelpSettingPageUrl",
    "RunningUserEntityAccessId",
    "PublisherId",
    "IsLayoutable",
    "RecordTypesSupported",
    "InternalSharingModel",
    "ExternalSharingModel",
    "HasSubtypes",
    "IsSubtype",
    "IsAutoActivityCaptureEnabled",
    "IsInterface",
    "ImplementsInterfaces",
    "ImplementedBy",
    "ExtendsInterfaces",
    "ExtendedBy",
    "DefaultImplementation",
];

/// One column, if there is such a one.
pub(super) fn column(object: &Object, name: &str) -> Option<Value> {
    let name = STANDARD.iter().chain(&["Description"]).find(|known| known.eq_ignore_ascii_case(name))?;
    Some(flag(object, name).map_or_else(|| text(object, name), Value::Bool))
}

fn flag(object: &Object, name: &str) -> Option<bool> {
    let entry = &object.entry;
    Some(match name {
        "IsCustomSetting" => entry.custom_setting,
        "IsDeprecatedAndHidden" => entry.deprecated_and_hidden,
        "IsReplicateable" => entry.replicateable,
        "IsRetrieveable" => entry.retrieveable,
        "IsSearchLayoutable" => entry.searchable && entry.layoutable,
        "IsSearchable" => entry.searchable,
        "IsTriggerable" => entry.triggerable,
        "IsApexTriggerable" => entry.triggerable && entry.kind() != ObjectKind::ChangeEvent,
        "IsCustomizable" => entry.custom || entry.layoutable,
        "IsWorkflowEnabled" | "IsProcessEnabled" => entry.layoutable && entry.triggerable,
        "IsCompactLayoutable" | "IsLayoutable" => entry.layoutable,
        "IsIdEnabled" => object.fields.iter().any(|field| field.name == "Id"),
        "IsEverCreatable" => entry.createable,
        "IsEverUpdatable" => entry.updateable,
        "IsEverDeletable" => entry.deletable,
        "IsFeedEnabled" => entry.feed_enabled,
        "IsQueryable" => entry.queryable,
        "IsMruEnabled" => entry.mru_enabled,
        "HasSubtypes" => entry.has_subtypes,
        "IsSubtype" => entry.is_subtype,
        "IsInterface" => entry.is_interface,
        "IsAutoActivityCaptureEnabled" => false,
        _ => return None,
    })
}

fn text(object: &Object, name: &str) -> Value {
    let entry = &object.entry;
    let own = entry.custom && !entry.kind().is_companion();
    let (prefix, layout) = (entry.key_prefix.as_deref(), entry.layoutable);
    match name {
        "Id" => json!("000000000000000AAA"),
        "DurableId" => json!(durable_id(object)),
        "LastModifiedDate" => json!(own.then(|| date(object.modified))),
        "LastModifiedById" => json!(own.then_some(USER)),
        "QualifiedApiName" => json!(entry.name),
        "NamespacePrefix" => json!(label::namespace(&entry.name)),
        "DeveloperName" => json!(label::without_affixes(&entry.name)),
        "MasterLabel" | "Label" => json!(entry.label),
        "PluralLabel" => json!(entry.label_plural),
        "DefaultCompactLayoutId" => json!(layout.then(|| format!("{}.SYSTEM", entry.name))),
        "Description" => json!(object.description),
        "DeploymentStatus" => json!(own.then_some("Deployed")),
        "KeyPrefix" => json!(prefix),
        "DetailUrl" => json!(layout.then_some("/{ID}")),
        "EditUrl" => json!(layout.then_some("/{ID}/e")),
        "NewUrl" => json!(prefix.filter(|_| layout).map(|prefix| format!("/{prefix}/e"))),
        "EditDefinitionUrl" => json!(own.then(|| format!("/{}/e", durable_id(object)))),
        "RunningUserEntityAccessId" => json!(format!("{}.{USER}", durable_id(object))),
        "PublisherId" => json!(label::namespace(&entry.name).unwrap_or(if own { "<local>" } else { "System" })),
        "InternalSharingModel" | "ExternalSharingModel" => {
            json!(if layout { "ReadWrite" } else { "ControlledByParent" })
        }
        "RecordTypesSupported" => json!({ "recordTypeInfos": [] }),
        _ => Value::Null,
    }
}

/// A date as the rows have it.
pub(super) fn date(stamp: Timestamp) -> String {
    stamp.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
}

/// A child relation's rows, if there is such a relation.
pub(super) fn children(object: &Object, relation: &str) -> Option<Value> {
    let rows: Vec<Value> = match relation.to_lowercase().as_str() {
        "childrelationships" => object
            .children
            .iter()
            .map(|child| {
                json!({
                    "attributes": { "type": "RelationshipInfo" },
                    "FieldId": format!("{}.{}", child.object, child.field),
                    "IsRestrictedDelete": child.restrict,
                    "IsCascadeDelete": child.cascade,
                    "JunctionIdListNames": null,
                })
            })
            .collect(),
        "layouts" if object.entry.layoutable => {
            vec![json!({ "attributes": { "type": "Layout" }, "Name": format!("{} Layout", object.entry.label) })]
        }
        "layouts" => Vec::new(),
        _ => return None,
    };
    let size = rows.len();
    Some(json!({ "size": size, "totalSize": size, "done": true, "queryLocator": null, "records": rows }))
}
