//! A generated org: the same for the same seed, with relations that stay within it.

mod companion;
mod custom;
pub(crate) mod label;
mod pad;
pub(crate) mod people;
mod plan;
mod tables;

use std::collections::{BTreeMap, HashSet};

use fastrand::Rng;
use jiff::Timestamp;

use crate::model::{Child, ListEntry, Object, ObjectKind};
use plan::Planned;

/// `Related To` and `Parent` of the polymorphic fields: standard targets, then custom ones up to this many in all.
/// The recorded Event.WhatId has 80.
const MOST_TARGETS: usize = 80;

/// `count` objects, sorted by name as Salesforce lists them.
pub(crate) fn objects(count: usize, seed: u64, fields_per_object: Option<usize>) -> Vec<Object> {
    let planned = plan::objects(count, seed);
    let targets = Targets::new(planned.iter().map(|planned| (planned.name.as_str(), planned.kind)));
    let mut made: BTreeMap<String, Object> = BTreeMap::new();
    for planned in planned.iter().filter(|planned| !planned.kind.is_companion()) {
        made.insert(planned.name.clone(), object(planned, &targets, seed));
    }
    add_target_fields(&mut made);
    let changes: HashSet<&str> = planned
        .iter()
        .filter(|planned| planned.kind == ObjectKind::ChangeEvent)
        .filter_map(|planned| planned.parent.as_deref())
        .collect();
    let companions = planned.iter().filter(|planned| planned.kind.is_companion());
    let small: usize =
        companions.clone().filter(|p| p.kind != ObjectKind::ChangeEvent).map(companion::field_count).sum();
    if let Some(mean) = fields_per_object {
        pad::pad(&mut made, &changes, (mean * count).saturating_sub(small), &targets, seed);
    }
    for planned in companions {
        let parent = planned.parent.as_deref().and_then(|parent| made.get(parent));
        let companion = companion::object(planned, parent, &targets);
        made.insert(planned.name.clone(), companion);
    }
    let mut objects: Vec<Object> = made.into_values().collect();
    objects.sort_by_cached_key(|object| object.entry.name.to_lowercase());
    finish(&mut objects, seed);
    objects
}

/// An indirect lookup points to an external id of its target: the target gets that field.
fn add_target_fields(made: &mut BTreeMap<String, Object>) {
    let fields = made.values().flat_map(|object| &object.fields);
    let pointed: Vec<(String, String)> = fields
        .filter_map(|field| Some((field.reference_to.first()?.clone(), field.reference_target_field.clone()?)))
        .collect();
    for (target, name) in pointed {
        let Some(object) = made.get_mut(&target) else { continue };
        if object.fields.iter().all(|field| field.name != name) {
            object.fields.push(custom::external_id(&name));
        }
    }
}

/// Gives the listed objects without a recorded describe a generated one that agrees with their entry.
pub(crate) fn around(mut objects: Vec<Object>, seed: u64) -> Vec<Object> {
    let listed: Vec<(String, ObjectKind)> =
        objects.iter().map(|object| (object.entry.name.clone(), object.entry.kind())).collect();
    let targets = Targets::new(listed.iter().map(|(name, kind)| (name.as_str(), *kind)));
    let names: BTreeMap<String, String> = listed.iter().map(|(name, _)| (name.to_lowercase(), name.clone())).collect();
    let planned = |entry: &ListEntry| Planned {
        name: entry.name.clone(),
        kind: entry.kind(),
        parent: entry
            .associate_parent_entity
            .as_ref()
            .map(|parent| names.get(&parent.to_lowercase()).unwrap_or(parent).clone()),
    };
    for object in objects.iter_mut().filter(|object| object.recorded.is_none() && !object.entry.kind().is_companion()) {
        let made = self::object(&planned(&object.entry), &targets, seed);
        (object.fields, object.record_types) = (made.fields, made.record_types);
    }
    let fields: BTreeMap<String, Object> =
        objects.iter().map(|object| (object.entry.name.clone(), object.clone())).collect();
    for object in objects.iter_mut().filter(|object| object.recorded.is_none() && object.entry.kind().is_companion()) {
        let planned = planned(&object.entry);
        let parent = planned.parent.as_deref().and_then(|parent| fields.get(parent));
        object.fields = companion::object(&planned, parent, &targets).fields;
    }
    finish(&mut objects, seed);
    objects
}

/// A generator for one thing of the org, so that what else is in the org does not change it.
pub(crate) fn rng(seed: u64, thing: &str) -> Rng {
    // FNV-1a over the name, started at the seed.
    let hash = thing
        .bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    Rng::with_seed(hash)
}

/// What a reference may point to.
pub(crate) struct Targets {
    listed: HashSet<String>,
    what: Vec<String>,
    /// Objects that a custom lookup would choose.
    lookups: Vec<String>,
}

impl Targets {
    fn new<'a>(objects: impl Iterator<Item = (&'a str, ObjectKind)> + Clone) -> Self {
        const WHAT: [&str; 12] = [
            "Account",
            "Asset",
            "Campaign",
            "Case",
            "Contract",
            "Opportunity",
            "Order",
            "Product2",
            "Quote",
            "Solution",
            "WorkOrder",
            "ServiceAppointment",
        ];
        let listed: HashSet<String> = objects.clone().map(|(name, _)| name.to_owned()).collect();
        let mut custom: Vec<String> =
            objects.filter(|(_, kind)| *kind == ObjectKind::Custom).map(|(name, _)| name.to_owned()).collect();
        custom.sort_unstable();
        let standard = |names: &[&str]| {
            names.iter().filter(|name| listed.contains(**name)).map(ToString::to_string).collect::<Vec<_>>()
        };
        let mut what = standard(&WHAT);
        what.extend(custom.iter().cloned());
        what.truncate(MOST_TARGETS);
        let mut lookups = standard(&["Account", "Contact", "Opportunity", "Case", "User", "Product2", "Campaign"]);
        lookups.extend(custom);
        Self { listed, what, lookups }
    }

    /// The targets as written in a table, without those that the org does not have.
    fn resolve(&self, written: &[String]) -> Vec<String> {
        match written {
            [only] if only == tables::WHAT => self.what.clone(),
            _ => written.iter().filter(|name| self.listed.contains(*name)).cloned().collect(),
        }
    }
}

fn object(planned: &Planned, targets: &Targets, seed: u64) -> Object {
    let mut rng = rng(seed, &planned.name);
    let mut object = match (tables::TABLES.get(&planned.name), tables::PLAIN.get(planned.name.as_str())) {
        (Some(table), _) => from_table(table, planned.kind),
        (_, Some(plain)) => custom::plain(&planned.name, *plain, targets, &mut rng),
        _ if planned.kind == ObjectKind::Standard => {
            custom::plain(&planned.name, tables::Plain::Setup, targets, &mut rng)
        }
        _ => custom::object(planned, targets, &mut rng),
    };
    for field in &mut object.fields {
        field.reference_to = targets.resolve(&field.reference_to);
        if field.reference_to.is_empty() {
            field.relationship = None;
        }
    }
    object
}

fn from_table(table: &tables::Table, kind: ObjectKind) -> Object {
    let event = kind == ObjectKind::PlatformEvent;
    let entry = ListEntry {
        name: table.name.clone(),
        label: label::singular(&table.plural),
        label_plural: table.plural.clone(),
        key_prefix: Some(table.prefix.clone()),
        createable: true,
        deletable: !event,
        feed_enabled: table.companions.contains(&"Feed"),
        layoutable: table.layout,
        mergeable: table.merge,
        mru_enabled: table.layout,
        queryable: !event,
        replicateable: !event,
        retrieveable: !event,
        searchable: table.layout,
        triggerable: table.layout || event,
        undeletable: table.layout,
        updateable: !event,
        ..ListEntry::default()
    };
    Object { entry, fields: table.fields.clone(), record_types: table.record_types.clone(), ..Object::default() }
}

/// What depends on all objects: descriptions, stamps, the relations seen from the other side.
fn finish(objects: &mut [Object], seed: u64) {
    let base = Timestamp::from_second(1_777_866_414).unwrap_or_default();
    let mut children: BTreeMap<String, Vec<Child>> = BTreeMap::new();
    for object in objects.iter_mut() {
        let mut rng = rng(seed, &format!("{} about", object.entry.name));
        // A tenth of the objects was changed by itself after the last change of the whole org.
        let later = if rng.u8(..10) == 0 { rng.i64(60..40 * 86_400) } else { 0 };
        object.modified = Timestamp::from_second(base.as_second() + later).unwrap_or(base);
        people::annotate(object, &mut rng);
        for field in &object.fields {
            for target in &field.reference_to {
                children.entry(target.clone()).or_default().push(Child {
                    object: object.entry.name.clone(),
                    field: field.name.clone(),
                    relationship: field.relationship.as_ref().map(|_| relation_to_many(&object.entry)),
                    cascade: field.cascade,
                    restrict: field.restrict,
                });
            }
        }
    }
    for object in objects.iter_mut() {
        object.children = children.remove(&object.entry.name).unwrap_or_default();
    }
}

fn relation_to_many(child: &ListEntry) -> String {
    let plural: String = child.label_plural.split_whitespace().collect();
    if child.custom { format!("{plural}__r") } else { plural }
}
