//! One field of a describe. Most members follow from the type in the way that the recordings show.

use super::json::Writer;
use super::since;
use crate::model::{Field, FieldType, PicklistValue};

pub(super) fn field(w: &mut Writer, f: &Field, v: u16) {
    w.open('{');
    first(w, f, v);
    to_h(w, f, v);
    to_p(w, f);
    last(w, f, v);
    w.close('}');
}

fn first(w: &mut Writer, f: &Field, v: u16) {
    let writable = !f.read_only && !f.calculated && !f.auto_number && !f.is_compound();
    w.bool("aggregatable", is_aggregatable(f));
    if v >= since::PREDICTION {
        w.bool("aiPredictionField", false);
    }
    w.bool("autoNumber", f.auto_number);
    w.number("byteLength", byte_length(f));
    w.bool("calculated", f.calculated);
    w.optional("calculatedFormula", f.formula.as_deref());
    w.bool("cascadeDelete", f.cascade);
    w.bool("caseSensitive", f.external_id && f.unique);
    w.optional("compoundFieldName", f.compound.as_deref());
    w.optional("controllerName", f.controller.as_deref());
    w.bool("createable", writable);
    w.bool("custom", f.custom);
    match &f.default_value {
        Some(value) => w.raw("defaultValue", &value.to_string()),
        None if f.kind == FieldType::Boolean => w.bool("defaultValue", false),
        None => w.raw("defaultValue", "null"),
    }
    w.raw("defaultValueFormula", "null");
    w.bool("defaultedOnCreate", f.defaulted || matches!(f.kind, FieldType::Boolean | FieldType::Id));
    w.bool("dependentPicklist", f.controller.is_some());
    w.bool("deprecatedAndHidden", false);
    w.number("digits", f.digits.into());
    w.bool("displayLocationInDecimal", f.kind == FieldType::Location);
    w.bool("encrypted", false);
    w.bool("externalId", f.external_id);
    w.optional("extraTypeInfo", f.extra_type);
}

fn to_h(w: &mut Writer, f: &Field, v: u16) {
    w.bool("filterable", is_filterable(f));
    w.raw("filteredLookupInfo", "null");
    if v >= since::PREDICTION {
        w.bool("formulaTreatNullNumberAsZero", f.formula.is_some());
    }
    w.bool("groupable", is_groupable(f));
    if v >= since::HIGH_SCALE {
        w.bool("highScaleNumber", false);
    }
    w.bool("htmlFormatted", f.html);
}

fn to_p(w: &mut Writer, f: &Field) {
    w.bool("idLookup", f.kind == FieldType::Id || f.external_id || f.id_lookup);
    w.optional("inlineHelpText", f.help.as_deref());
    w.text("label", &f.label);
    w.number("length", f.length);
    let masked = f.kind == FieldType::EncryptedString;
    w.optional("mask", masked.then_some("asterisk"));
    w.optional("maskType", masked.then_some("all"));
    w.text("name", &f.name);
    w.bool("nameField", f.name_field);
    w.bool("namePointing", f.reference_to.len() > 1);
    w.bool("nillable", f.nillable);
    w.bool("permissionable", f.custom && f.nillable);
    w.list("picklistValues", &f.picklist, value);
    w.bool("polymorphicForeignKey", f.reference_to.len() > 1);
    w.number("precision", f.precision.into());
    w.bool("queryByDistance", f.is_compound());
}

fn last(w: &mut Writer, f: &Field, v: u16) {
    let writable = !f.read_only && !f.calculated && !f.auto_number && !f.is_compound();
    w.optional("referenceTargetField", f.reference_target_field.as_deref());
    w.strings("referenceTo", &f.reference_to);
    w.optional("relationshipName", f.relationship.as_deref());
    match f.relationship_order {
        Some(order) => w.number("relationshipOrder", order.into()),
        None => w.raw("relationshipOrder", "null"),
    }
    w.bool("restrictedDelete", f.restrict);
    w.bool("restrictedPicklist", f.restricted);
    w.number("scale", f.scale.into());
    if v >= since::PREFILTERABLE {
        w.bool("searchPrefilterable", f.kind == FieldType::Reference && f.reference_to.len() == 1);
    }
    w.text("soapType", f.kind.soap());
    w.bool("sortable", is_filterable(f) && !f.is_compound() && f.kind != FieldType::MultiPicklist);
    w.text("type", f.kind.name());
    w.bool("unique", f.unique);
    w.bool("updateable", writable && f.relationship_order.is_none());
    w.bool("writeRequiresMasterRead", false);
}

fn value(w: &mut Writer, value: &PicklistValue) {
    w.open('{');
    w.bool("active", value.active);
    w.bool("defaultValue", value.default);
    w.text("label", &value.label);
    w.optional("validFor", value.valid_for.as_deref());
    w.text("value", &value.value);
    w.close('}');
}

/// A character takes up to three bytes, except in ids and multipicklists.
fn byte_length(f: &Field) -> u32 {
    match f.kind {
        FieldType::Id | FieldType::Reference | FieldType::MultiPicklist => f.length,
        _ => f.length.saturating_mul(3),
    }
}

fn is_long_text(f: &Field) -> bool {
    f.kind == FieldType::TextArea && f.length > 255
}

fn is_filterable(f: &Field) -> bool {
    !is_long_text(f)
        && !matches!(
            f.kind,
            FieldType::Base64
                | FieldType::EncryptedString
                | FieldType::AnyType
                | FieldType::ComplexValue
                | FieldType::Json
        )
}

fn is_groupable(f: &Field) -> bool {
    is_aggregatable(f)
        && !f.calculated
        && !matches!(
            f.kind,
            FieldType::Currency | FieldType::Double | FieldType::Percent | FieldType::DateTime | FieldType::Long
        )
        || f.kind == FieldType::Boolean
}

fn is_aggregatable(f: &Field) -> bool {
    is_filterable(f)
        && !f.is_compound()
        && !matches!(
            f.kind,
            FieldType::Boolean | FieldType::MultiPicklist | FieldType::Time | FieldType::DataCategoryGroupReference
        )
}
