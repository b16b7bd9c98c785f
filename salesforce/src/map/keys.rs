//! Keys: a column's constraint and a table's foreign keys.

use std::collections::HashMap;
use std::sync::Arc;

use hybrid_runner_openmetadata::entity::Constraint;

use crate::describe::Field;

/// Names of the objects in scope as the listing spells them, by their lower-case names.
pub(super) type InScope = HashMap<String, Arc<str>>;

/// The most targets of a reference that are foreign keys of their own. `Event.WhatId` has 80: as constraints they would
/// say nothing about any of the 80, so beyond this they are listed in the description only.
pub(super) const MOST_TARGETS: usize = 5;

/// The field that references point to unless they say otherwise.
const ID: &str = "Id";

/// The constraint of a column. OpenMetadata has room for one, and the strongest wins.
pub(super) fn constraint(field: &Field<'_>) -> Option<Constraint> {
    if is_id(field) {
        return Some(Constraint::PrimaryKey);
    }
    if field.unique {
        return Some(Constraint::Unique);
    }
    Some(if field.nillable? { Constraint::Null } else { Constraint::NotNull })
}

/// Whether it is the row's own id. Other fields can be of the type `id`, such as those of a big object.
fn is_id(field: &Field<'_>) -> bool {
    field.name.as_deref() == Some(ID) && field.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("id"))
}

/// Whether its value is the key of a row. Lists of ids name their objects as well and are none.
fn is_reference(field: &Field<'_>) -> bool {
    let kind = field.kind.as_deref().unwrap_or_default();
    ["reference", "masterrecord"].iter().any(|reference| kind.eq_ignore_ascii_case(reference))
}

/// A foreign key of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignKey {
    /// Where its column stands, from 0.
    pub(super) column: usize,
    /// The object that it points to, as the listing spells it.
    pub(super) target: Arc<str>,
    /// The field that it points to, when that is not `Id`.
    field: Option<Box<str>>,
}

impl ForeignKey {
    /// The field that it points to.
    pub(super) fn field(&self) -> &str {
        self.field.as_deref().unwrap_or(ID)
    }
}

/// The foreign keys of a column: one for each target, which the server needs to know.
pub(super) fn foreign(in_scope: &InScope, field: &Field<'_>, column: usize, keys: &mut Vec<ForeignKey>) {
    let targets = &field.reference_to;
    if !is_reference(field) || targets.count > MOST_TARGETS {
        return;
    }
    let target_field = field.reference_target_field.as_deref().filter(|name| !matches!(*name, "" | ID));
    let first = keys.len();
    for target in targets.names.iter().filter_map(|name| in_scope.get(&name.to_ascii_lowercase())) {
        // The names of an answer differ, but perhaps by case only.
        if !keys.iter().skip(first).any(|key| key.target == *target) {
            keys.push(ForeignKey { column, target: Arc::clone(target), field: target_field.map(Box::from) });
        }
    }
}
