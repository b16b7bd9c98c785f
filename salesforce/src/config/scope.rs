//! Which objects of the listing a definition reads.

use std::collections::{HashMap, HashSet};

use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_openmetadata::filter::{Filter, FilterPattern, PatternError};
use hybrid_runner_openmetadata::workflow::MetadataOptions;

use super::OPTIONS;
use crate::listing::{ListedObject, Listing};
use crate::naming::{Naming, SCHEMA};

/// Names and filters of a definition, compiled.
#[derive(Debug, Clone)]
pub struct Scope {
    naming: Naming,
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
    /// Listed objects (of `sobjectNames`, when given) that the filters leave out.
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
        options: &MetadataOptions,
    ) -> Result<Self, DefinitionError> {
        let compile = |list, pattern: &FilterPattern| Filter::new(pattern).map_err(|error| refused(list, &error));
        Ok(Self {
            naming,
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

    /// The objects of a listing that are in scope.
    ///
    /// # Errors
    /// A filter pattern took too many steps on a name, so whether it matches is not known.
    pub fn select(&self, listing: &Listing) -> Result<Selection, DefinitionError> {
        let database = self.keeps(Filtered::Databases, self.naming.database(), || self.naming.database_fqn())?;
        let schema = database && self.keeps(Filtered::Schemas, SCHEMA, || self.naming.schema_fqn().to_owned())?;
        let mut selection = Selection { database, schema, ..Selection::default() };
        let wanted = self.resolve_names(listing, &mut selection);
        for object in &listing.objects {
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(object.name.as_str())) {
                continue;
            }
            if schema && self.keeps_table(&object.name)? {
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
        let named = self.names.as_ref().is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case(object)));
        Ok(named
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
