//! A table as its describe has it, waiting for what else is known about the object.
//!
//! Hundreds of drafts wait at once, so a draft is a handful of allocations and not five a column: the texts of all columns
//! stand in one string, one behind the other, and a column knows where its own end.

use std::collections::HashSet;

use hybrid_runner_connector::Entity;
use hybrid_runner_openmetadata::entity::Constraint;
use hybrid_runner_openmetadata::{fqn, rules};

use super::keys::{self, ForeignKey, InScope};
use super::tags::Marks;
use super::types::{self, ColumnType};
use super::{MapError, text};
use crate::describe::{Describe, Field};
use crate::listing::ListedObject;

/// A table as its describe has it, waiting for what else is known about the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The object's name, as the listing spells it.
    pub(super) object: Box<str>,
    pub(super) label: Option<Box<str>>,
    pub(super) marks: Marks,
    pub(super) foreign_keys: Box<[ForeignKey]>,
    /// Fields of the describe that are no columns.
    pub(super) skipped: u64,
    fields: usize,
    texts: Box<str>,
    columns: Box<[Column]>,
}

/// A column of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    /// Where in the texts its name, label, type, help text and facts end. Each begins where the one before ends.
    ends: [u32; 5],
    has_label: bool,
    has_type: bool,
    constraint: Option<Constraint>,
    marks: Marks,
    kind: ColumnType,
}

// 500 drafts of 110 columns hold 2.6 MB of these. As OpenMetadata's requests they would be 10 MB, and texts beside.
const _: () = assert!(size_of::<Column>() <= 48);

/// A column of a draft, with its texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnView<'a> {
    pub(super) name: &'a str,
    pub(super) label: Option<&'a str>,
    /// As the describe spells it.
    pub(super) type_name: Option<&'a str>,
    /// Help text; empty when there is none.
    pub(super) help: &'a str,
    /// What else its description says; empty when that is nothing.
    pub(super) facts: &'a str,
    pub(super) constraint: Option<Constraint>,
    pub(super) marks: Marks,
    pub(super) kind: ColumnType,
}

impl Draft {
    /// Takes over what a describe says about a listed object.
    pub(super) fn new(object: &ListedObject, describe: &Describe<'_>, in_scope: &InScope) -> Result<Self, MapError> {
        let fields = describe.fields();
        let mut texts = String::new();
        let mut columns = Vec::with_capacity(fields.len());
        let mut foreign_keys = Vec::new();
        let mut seen = HashSet::with_capacity(fields.len());
        for field in fields {
            let name = fqn::reserved(field.name.as_deref().unwrap_or_default());
            // Salesforce's names differ by more than case, and OpenMetadata refuses a table with a repeated one.
            if rules::check_name(&name).is_err() || !seen.insert(name.to_ascii_lowercase()) {
                continue;
            }
            keys::foreign(in_scope, field, columns.len(), &mut foreign_keys);
            columns.push(Column::new(field, &name, &mut texts));
            // All of it will be in the table: no need to go on.
            if texts.len() > Entity::MAX_BODY {
                return Err(MapError::TooLarge { size: texts.len() });
            }
        }
        Ok(Self {
            object: object.name.as_str().into(),
            label: describe.label.as_deref().or(object.label.as_deref()).map(Box::from),
            marks: Marks::of_object(object, describe),
            foreign_keys: foreign_keys.into(),
            skipped: super::counted(fields.len() - columns.len()),
            fields: fields.len(),
            texts: texts.into(),
            columns: columns.into(),
        })
    }

    /// Fields of the describe.
    #[must_use]
    pub fn fields(&self) -> usize {
        self.fields
    }

    /// Its columns, in the describe's order.
    pub(super) fn columns(&self) -> impl ExactSizeIterator<Item = ColumnView<'_>> {
        let mut start = 0;
        self.columns.iter().map(move |column| {
            let [name, label, type_name, help, facts] = column.ends.map(|end| {
                let from = std::mem::replace(&mut start, usize::try_from(end).unwrap_or(usize::MAX));
                self.texts.get(from..start).unwrap_or_default()
            });
            ColumnView {
                name,
                label: column.has_label.then_some(label),
                type_name: column.has_type.then_some(type_name),
                help,
                facts,
                constraint: column.constraint,
                marks: column.marks,
                kind: column.kind,
            }
        })
    }

    /// The name of a column; empty for one that it does not have.
    pub(super) fn column_name(&self, index: usize) -> &str {
        let at = |end: u32| usize::try_from(end).unwrap_or(usize::MAX);
        let before = index.checked_sub(1).and_then(|before| self.columns.get(before));
        let start = before.map_or(0, |Column { ends: [.., facts], .. }| at(*facts));
        let end = self.columns.get(index).map_or(start, |Column { ends: [name, ..], .. }| at(*name));
        self.texts.get(start..end).unwrap_or_default()
    }

    /// About how many bytes its table is as JSON: of a column, the names of its members and one label make up 240.
    pub(super) fn body_size(&self) -> usize {
        1024 + self.texts.len() + 240 * self.columns.len() + 256 * self.foreign_keys.len()
    }
}

impl Column {
    fn new(field: &Field<'_>, name: &str, texts: &mut String) -> Self {
        let help = text::written(field.inline_help_text.as_deref());
        let label = field.label.as_deref();
        let type_name = field.kind.as_deref();
        let ends = [name, label.unwrap_or_default(), type_name.unwrap_or_default(), &help].map(|text| {
            texts.push_str(text);
            end(texts)
        });
        text::facts(field, texts);
        let [name, label_end, type_end, help] = ends;
        Self {
            ends: [name, label_end, type_end, help, end(texts)],
            has_label: label.is_some(),
            has_type: type_name.is_some(),
            constraint: keys::constraint(field),
            marks: Marks::of_field(field),
            kind: types::of(field),
        }
    }
}

/// Where the texts end. They never come near 4 GiB: [`Draft::new`] stops behind the field that passes 3 MiB.
fn end(texts: &str) -> u32 {
    u32::try_from(texts.len()).unwrap_or(u32::MAX)
}
