//! Which objects of the listing a definition reads.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_openmetadata::filter::{Filter, FilterPattern, PatternError};
use hybrid_runner_openmetadata::workflow::MetadataOptions;

use super::options::{Options, Preset};
use super::{CONNECTION, OPTIONS};
use crate::listing::{ListedObject, Listing};
use crate::naming::{Naming, SCHEMA};

/// What Salesforce keeps beside an object, as `associateEntityType` names it (API 50 and later) and as the name ends
/// before. They were 40 % of the objects of the orgs that were recorded.
const COMPANIONS: [&str; 5] = ["ChangeEvent", "Feed", "History", "Localization", "Share"];

/// Names and filters of a definition, compiled.
#[derive(Debug, Clone)]
pub struct Scope {
    naming: Naming,
    preset: Preset,
    companions: bool,
    /// `includeTables`
    tables: bool,
    /// `sobjectNames` in the order given; `None` for all objects.
    names: Option<Vec<String>>,
    by_fqn: bool,
    database: Filter,
    schema: Filter,
    table: Filter,
}

/// What a scope makes of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The objects to read, in the listing's order.
    pub in_scope: Vec<ListedObject>,
    /// Listed objects (of `sobjectNames`, when given) that presets and filters leave out.
    pub filtered: u64,
    /// Entries of `sobjectNames` that the listing lacks, in the order given.
    pub unknown_names: Vec<String>,
    /// Entries of `sobjectNames` that are spelled otherwise in the listing: as given, as listed.
    pub corrected: Vec<(String, String)>,
    /// Whether the filters let the database through.
    pub database: bool,
    /// Whether they let the schema through.
    pub schema: bool,
}

impl Scope {
    /// Compiles the filters.
    pub(super) fn compile(
        naming: Naming,
        names: Option<Vec<String>>,
        ours: &Options,
        options: &MetadataOptions,
        without_effect: &mut Vec<String>,
    ) -> Result<Self, DefinitionError> {
        if names.is_some() {
            let changed = [("objects", ours.objects != Preset::All), ("companions", !ours.companions)];
            let unused = changed.iter().filter(|(_, changed)| *changed);
            without_effect.extend(unused.map(|(key, _)| format!("{CONNECTION}.connectionOptions.{key}")));
        }
        let compile = |list, pattern: &FilterPattern| Filter::new(pattern).map_err(|error| refused(list, &error));
        Ok(Self {
            naming,
            preset: ours.objects,
            companions: ours.companions,
            tables: options.include_tables,
            names,
            by_fqn: options.use_fqn_for_filtering,
            database: compile(Filtered::Databases, &options.database_filter)?,
            schema: compile(Filtered::Schemas, &options.schema_filter)?,
            table: compile(Filtered::Tables, &options.table_filter)?,
        })
    }

    /// Whether `sobjectNames` is set.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.names.is_some()
    }

    /// Whether `includeTables` lets any object be in scope.
    #[must_use]
    pub fn has_tables(&self) -> bool {
        self.tables
    }

    /// The objects of a listing that are in scope.
    ///
    /// # Errors
    /// A filter pattern took too many steps on a name, so whether it matches is not known.
    pub fn select(&self, listing: &Listing) -> Result<Selection, DefinitionError> {
        let database = self.keeps(Filtered::Databases, self.naming.database(), || self.naming.database_fqn())?;
        let schema = database && self.keeps(Filtered::Schemas, SCHEMA, || self.naming.schema_fqn().to_owned())?;
        let tables = schema && self.tables;
        let mut selection = Selection { database, schema, ..Selection::default() };
        let wanted = self.resolve_names(listing, &mut selection);
        let parents = Parents::of(listing);
        for object in &listing.objects {
            let preset = match &wanted {
                Some(wanted) if !wanted.contains(object.name.as_str()) => continue,
                Some(_) => true,
                None => self.preset_keeps(object, &parents),
            };
            if tables && preset && self.keeps_table(&object.name)? {
                selection.in_scope.push(object.clone());
            } else {
                selection.filtered += 1;
            }
        }
        Ok(selection)
    }

    /// Whether an object of this name would be in scope if the org had it. A committed table in scope whose object is
    /// not in a complete listing is gone; one out of scope is nobody's business.
    ///
    /// # Errors
    /// As [`Scope::select`].
    pub fn includes_name(&self, object: &str) -> Result<bool, DefinitionError> {
        let named = match &self.names {
            Some(names) => names.iter().any(|name| name.eq_ignore_ascii_case(object)),
            // Of an object that the org has no more only the name is left.
            None => {
                let preset = match self.preset {
                    Preset::All => true,
                    Preset::Business => !object.ends_with("__mdt"),
                    Preset::Custom => object.contains("__"),
                };
                preset && (self.companions || companion_of(object).is_none())
            }
        };
        Ok(named
            && self.tables
            && self.keeps(Filtered::Databases, self.naming.database(), || self.naming.database_fqn())?
            && self.keeps(Filtered::Schemas, SCHEMA, || self.naming.schema_fqn().to_owned())?
            && self.keeps_table(object)?)
    }

    /// The names of the listing that `sobjectNames` means; `None` for all.
    fn resolve_names<'a>(&self, listing: &'a Listing, selection: &mut Selection) -> Option<HashSet<&'a str>> {
        let names = self.names.as_ref()?;
        let listed: HashMap<String, &str> =
            listing.objects.iter().map(|object| (object.name.to_ascii_lowercase(), object.name.as_str())).collect();
        let mut wanted = HashSet::new();
        for name in names {
            match listed.get(&name.to_ascii_lowercase()) {
                None if selection.unknown_names.contains(name) => {}
                None => selection.unknown_names.push(name.clone()),
                Some(listed) => {
                    if wanted.insert(*listed) && name != listed {
                        selection.corrected.push((name.clone(), (*listed).to_owned()));
                    }
                }
            }
        }
        Some(wanted)
    }

    /// Whether an object is of a kind that is read when none are named.
    fn preset_keeps<'a>(&self, object: &'a ListedObject, parents: &Parents<'a>) -> bool {
        let parent = parents.of_companion(object);
        if parent.is_some() && !self.companions {
            return false;
        }
        let judged = parent.unwrap_or(object);
        match self.preset {
            Preset::All => true,
            Preset::Business => judged.layoutable && !judged.custom_setting && !judged.name.ends_with("__mdt"),
            Preset::Custom => judged.custom,
        }
    }

    fn keeps_table(&self, object: &str) -> Result<bool, DefinitionError> {
        self.keeps(Filtered::Tables, object, || self.naming.table_fqn(object))
    }

    fn keeps(&self, list: Filtered, name: &str, fqn: impl FnOnce() -> String) -> Result<bool, DefinitionError> {
        let filter = match list {
            Filtered::Databases => &self.database,
            Filtered::Schemas => &self.schema,
            Filtered::Tables => &self.table,
        };
        let kept = if self.by_fqn { filter.keeps(&fqn()) } else { filter.keeps(name) };
        kept.map_err(|error| refused(list, &error))
    }
}

/// What a listing says about which object is a companion of which.
struct Parents<'a> {
    /// The objects by lower-case name.
    by_name: HashMap<String, &'a ListedObject>,
    /// Whether the listing names companions as such (API 50 and later). Otherwise their names do.
    told: bool,
}

impl<'a> Parents<'a> {
    fn of(listing: &'a Listing) -> Self {
        Self {
            by_name: listing.objects.iter().map(|object| (object.name.to_ascii_lowercase(), object)).collect(),
            told: listing.objects.iter().any(|object| object.associate_entity_type.is_some()),
        }
    }

    /// The object that this one is a companion of. One whose parent the user does not see stands for its parent.
    fn of_companion(&self, object: &'a ListedObject) -> Option<&'a ListedObject> {
        if self.told {
            object.associate_entity_type.as_deref().filter(|kind| COMPANIONS.contains(kind))?;
            let parent = object.associate_parent_entity.as_deref().and_then(|parent| self.named(parent));
            return Some(parent.unwrap_or(object));
        }
        // `LoginHistory` is an object of its own: there is none that is called `Login`.
        let parent = companion_of(&object.name)?;
        match parent.strip_suffix("__") {
            Some(custom) => self.named(&format!("{custom}__c")),
            None => self.named(parent),
        }
    }

    fn named(&self, name: &str) -> Option<&'a ListedObject> {
        self.by_name.get(&name.to_ascii_lowercase()).copied()
    }
}

/// What a name that ends as those of companions do begins with.
fn companion_of(name: &str) -> Option<&str> {
    COMPANIONS.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|start| !start.is_empty())
}

/// What a filter pattern is about.
#[derive(Debug, Clone, Copy)]
enum Filtered {
    Databases,
    Schemas,
    Tables,
}

/// The refusal of a filter pattern.
fn refused(list: Filtered, error: &PatternError) -> DefinitionError {
    let option = match list {
        Filtered::Databases => "databaseFilterPattern",
        Filtered::Schemas => "schemaFilterPattern",
        Filtered::Tables => "tableFilterPattern",
    };
    DefinitionError {
        reason: Reason::BadDefinition,
        field: format!("{OPTIONS}.{option}.{}[{}]", error.list, error.index),
        detail: error.detail.clone(),
    }
}
