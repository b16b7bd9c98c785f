//! How the org looks on the wire: list entries and describes, with the members that each API version really has.
//!
//! Members stand in Salesforce's (alphabetical) order. When a member came is taken from the recorded responses where they
//! show it, else from the API's documentation.

mod field;
pub(crate) mod json;

use crate::model::{Child, ListEntry, Object, ObjectKind};
use crate::org::ApiVersion;
use json::Writer;

/// Host in the links to a record's page: the org's own domain, not the one that the client used.
pub(crate) const MY_DOMAIN: &str = "example-org.my.salesforce.com";

/// The record type that every object has.
const MASTER: &str = "012000000000000AAA";

pub(super) mod since {
    /// `developerName` of record types.
    pub(crate) const RECORD_TYPE_NAME: u16 = 43;
    /// `aiPredictionField` and `formulaTreatNullNumberAsZero`: absent at 42, recorded at 44.
    pub(crate) const PREDICTION: u16 = 44;
    /// `deepCloneable`, `isInterface` and the other members about interfaces: absent at 44, recorded at 48.
    pub(crate) const INTERFACES: u16 = 46;
    /// `associateEntityType`, `associateParentEntity`: absent at 48, recorded at 49.
    pub(crate) const ASSOCIATES: u16 = 49;
    /// `highScaleNumber` (documented).
    pub(crate) const HIGH_SCALE: u16 = 33;
    /// `searchPrefilterable` (documented).
    pub(crate) const PREFILTERABLE: u16 = 40;
}

/// A describe.
pub(crate) fn describe(object: &Object, version: ApiVersion) -> String {
    if let Some(recorded) = &object.recorded {
        return recorded.get().to_owned();
    }
    let (entry, v) = (&object.entry, version.0);
    // 1.4 KB a field, as in the recordings.
    let mut w = Writer::with_capacity(4096 + object.fields.len() * 1500);
    w.open('{');
    w.raw("actionOverrides", "[]");
    w.bool("activateable", entry.activateable);
    associates(&mut w, entry, v);
    w.list("childRelationships", &object.children, child);
    w.bool("compactLayoutable", entry.layoutable);
    w.bool("createable", entry.createable);
    w.bool("custom", entry.custom);
    w.bool("customSetting", entry.custom_setting);
    if v >= since::INTERFACES {
        w.bool("deepCloneable", entry.deep_cloneable);
        w.raw("defaultImplementation", "null");
    }
    w.bool("deletable", entry.deletable);
    w.bool("deprecatedAndHidden", entry.deprecated_and_hidden);
    if v >= since::INTERFACES {
        w.raw("extendedBy", "null");
        w.raw("extendsInterfaces", "null");
    }
    w.bool("feedEnabled", entry.feed_enabled);
    w.list("fields", &object.fields, |w, described| field::field(w, described, v));
    w.bool("hasSubtypes", entry.has_subtypes);
    if v >= since::INTERFACES {
        w.raw("implementedBy", "null");
        w.raw("implementsInterfaces", "null");
        w.bool("isInterface", entry.is_interface);
    }
    w.bool("isSubtype", entry.is_subtype);
    names(&mut w, entry);
    w.bool("layoutable", entry.layoutable);
    w.raw("listviewable", "null");
    w.raw("lookupLayoutable", "null");
    w.bool("mergeable", entry.mergeable);
    w.bool("mruEnabled", entry.mru_enabled);
    w.text("name", &entry.name);
    w.raw("namedLayoutInfos", "[]");
    w.raw("networkScopeFieldName", "null");
    tail(&mut w, object, v);
    w.close('}');
    w.finish()
}

fn tail(w: &mut Writer, object: &Object, v: u16) {
    let entry = &object.entry;
    w.bool("queryable", entry.queryable);
    record_types(w, object, v);
    w.bool("replicateable", entry.replicateable);
    w.bool("retrieveable", entry.retrieveable);
    w.bool("searchLayoutable", entry.searchable && entry.layoutable);
    w.bool("searchable", entry.searchable);
    // The recordings of 44 and 48 were made before Salesforce had this member, those of 42 and of 49 and later after it.
    if !(43..=48).contains(&v) {
        w.text("sobjectDescribeOption", "FULL");
    }
    w.list("supportedScopes", &["everything", "mine"], |w, scope| {
        w.open('{');
        let whose = if *scope == "mine" { "My" } else { "All" };
        w.text("label", &format!("{whose} {}", entry.label_plural.to_lowercase()));
        w.text("name", scope);
        w.close('}');
    });
    w.bool("triggerable", entry.triggerable);
    w.bool("undeletable", entry.undeletable);
    w.bool("updateable", entry.updateable);
    urls(w, entry, v, true);
}

/// An entry of describeGlobal.
pub(crate) fn list_entry(entry: &ListEntry, version: ApiVersion) -> String {
    let v = version.0;
    let mut w = Writer::with_capacity(1024);
    w.open('{');
    w.bool("activateable", entry.activateable);
    associates(&mut w, entry, v);
    w.bool("createable", entry.createable);
    w.bool("custom", entry.custom);
    w.bool("customSetting", entry.custom_setting);
    if v >= since::INTERFACES {
        w.bool("deepCloneable", entry.deep_cloneable);
    }
    w.bool("deletable", entry.deletable);
    w.bool("deprecatedAndHidden", entry.deprecated_and_hidden);
    w.bool("feedEnabled", entry.feed_enabled);
    w.bool("hasSubtypes", entry.has_subtypes);
    if v >= since::INTERFACES {
        w.bool("isInterface", entry.is_interface);
    }
    w.bool("isSubtype", entry.is_subtype);
    names(&mut w, entry);
    w.bool("layoutable", entry.layoutable);
    w.bool("mergeable", entry.mergeable);
    w.bool("mruEnabled", entry.mru_enabled);
    w.text("name", &entry.name);
    w.bool("queryable", entry.queryable);
    w.bool("replicateable", entry.replicateable);
    w.bool("retrieveable", entry.retrieveable);
    w.bool("searchable", entry.searchable);
    w.bool("triggerable", entry.triggerable);
    w.bool("undeletable", entry.undeletable);
    w.bool("updateable", entry.updateable);
    urls(&mut w, entry, v, false);
    w.close('}');
    w.finish()
}

fn associates(w: &mut Writer, entry: &ListEntry, v: u16) {
    if v >= since::ASSOCIATES {
        w.optional("associateEntityType", entry.associate_entity_type.as_deref());
        w.optional("associateParentEntity", entry.associate_parent_entity.as_deref());
    }
}

fn names(w: &mut Writer, entry: &ListEntry) {
    w.optional("keyPrefix", entry.key_prefix.as_deref());
    w.text("label", &entry.label);
    w.text("labelPlural", &entry.label_plural);
}

fn child(w: &mut Writer, child: &Child) {
    w.open('{');
    w.bool("cascadeDelete", child.cascade);
    w.text("childSObject", &child.object);
    w.bool("deprecatedAndHidden", false);
    w.text("field", &child.field);
    w.raw("junctionIdListNames", "[]");
    w.raw("junctionReferenceTo", "[]");
    w.optional("relationshipName", child.relationship.as_deref());
    w.bool("restrictedDelete", child.restrict);
    w.close('}');
}

fn record_types(w: &mut Writer, object: &Object, v: u16) {
    let own =
        object.record_types.iter().enumerate().map(|(at, name)| (name.as_str(), format!("0125g0000001Rt{at}AAA")));
    let master = std::iter::once(("Master", MASTER.to_owned()));
    let all = if object.entry.layoutable { own.chain(master).collect::<Vec<_>>() } else { Vec::new() };
    w.list("recordTypeInfos", &all, |w, (name, id)| {
        w.open('{');
        w.bool("active", true);
        w.bool("available", true);
        w.bool("defaultRecordTypeMapping", id == MASTER);
        if v >= since::RECORD_TYPE_NAME {
            w.text("developerName", &name.replace(' ', "_"));
        }
        w.bool("master", id == MASTER);
        w.text("name", name);
        w.text("recordTypeId", id);
        w.key("urls");
        w.open('{');
        w.text("layout", &format!("/services/data/v{v}.0/sobjects/{}/describe/layouts/{id}", object.entry.name));
        w.close('}');
        w.close('}');
    });
}

fn urls(w: &mut Writer, entry: &ListEntry, v: u16, with_pages: bool) {
    let base = format!("/services/data/v{v}.0/sobjects/{}", entry.name);
    w.key("urls");
    w.open('{');
    if entry.layoutable {
        w.text("compactLayouts", &format!("{base}/describe/compactLayouts"));
    }
    w.text("rowTemplate", &format!("{base}/{{ID}}"));
    if entry.layoutable {
        w.text("approvalLayouts", &format!("{base}/describe/approvalLayouts"));
    }
    if entry.layoutable && with_pages {
        w.text("uiDetailTemplate", &format!("https://{MY_DOMAIN}/{{ID}}"));
        w.text("uiEditTemplate", &format!("https://{MY_DOMAIN}/{{ID}}/e"));
    }
    if entry.mru_enabled {
        w.text("listviews", &format!("{base}/listviews"));
    }
    if matches!(entry.kind(), ObjectKind::ChangeEvent | ObjectKind::PlatformEvent) {
        w.text("eventSchema", &format!("{base}/eventSchema"));
    }
    w.text("describe", &format!("{base}/describe"));
    if entry.layoutable {
        if with_pages {
            let prefix = entry.key_prefix.as_deref().unwrap_or_default();
            w.text("uiNewRecord", &format!("https://{MY_DOMAIN}/{prefix}/e"));
        }
        w.text("quickActions", &format!("{base}/quickActions"));
        w.text("layouts", &format!("{base}/describe/layouts"));
    }
    w.text("sobject", &base);
    w.close('}');
}
