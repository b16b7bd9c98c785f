//! Keys: a column's constraint and a table's foreign keys.

use std::collections::HashSet;

use hybrid_runner_openmetadata::entity::{Constraint, ConstraintType, RelationshipType, TableConstraint};
use hybrid_runner_openmetadata::fqn;

use super::Mapper;
use crate::describe::Field;

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

/// The foreign keys of a column: one for each target, which the server needs to know.
pub(super) fn foreign<'a>(
    mapper: &'a Mapper,
    field: &'a Field<'_>,
    column: &'a str,
) -> impl Iterator<Item = TableConstraint> + 'a {
    let targets = &field.reference_to;
    let is_key = is_reference(field) && targets.count <= MOST_TARGETS;
    let names = if is_key { targets.names.as_slice() } else { &[] };
    let target_field = field.reference_target_field.as_deref().filter(|name| !name.is_empty()).unwrap_or(ID);
    let mut seen = HashSet::new();
    names
        .iter()
        .filter_map(|name| mapper.in_scope.get(&name.to_ascii_lowercase()))
        .filter(move |object| seen.insert(object.as_str()))
        .map(move |object| TableConstraint {
            constraint_type: ConstraintType::ForeignKey,
            columns: vec![column.to_owned()],
            referred_columns: vec![fqn::child(&mapper.naming.table_fqn(object), &fqn::reserve(target_field))],
            relationship_type: Some(RelationshipType::ManyToOne),
        })
}
