//! A finished table as it is written: OpenMetadata's [`CreateTable`](hybrid_runner_openmetadata::entity::CreateTable),
//! borrowed from a draft and what is known beyond it. Member by member the same, which the goldens' test checks.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use hybrid_runner_openmetadata::entity::{Constraint, ConstraintType, DataType, RelationshipType, TableType};
use hybrid_runner_openmetadata::fqn;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::draft::{ColumnView, Draft};
use super::tags::{Labels, Tags};
use super::text;
use crate::annotations::{Annotations, FieldAnnotations};
use crate::naming::Naming;

/// A table.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TableBody<'a> {
    pub(super) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) display_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    pub(super) table_type: TableType,
    pub(super) columns: Columns<'a>,
    #[serde(skip_serializing_if = "ForeignKeys::is_empty")]
    pub(super) table_constraints: ForeignKeys<'a>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub(super) tags: Labels<'a>,
    pub(super) database_schema: &'a str,
    pub(super) source_url: String,
}

/// The columns of a table.
pub(super) struct Columns<'a> {
    pub(super) draft: &'a Draft,
    pub(super) annotations: &'a Annotations,
    pub(super) tags: &'a Tags,
}

impl Serialize for Columns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let columns = self.draft.columns();
        let mut list = serializer.serialize_seq(Some(columns.len()))?;
        let mut lower = String::new();
        for (column, position) in columns.zip(1_u64..) {
            lower.clear();
            lower.push_str(column.name);
            lower.make_ascii_lowercase();
            let known = self.annotations.fields.get(&lower);
            list.serialize_element(&ColumnBody::new(column, position, known, self.tags))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ColumnBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'a str>,
    data_type: DataType,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_length: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_type_display: Option<&'a str>,
    #[serde(skip_serializing_if = "Description::is_empty")]
    description: Description<'a>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    tags: Labels<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    constraint: Option<Constraint>,
    ordinal_position: u64,
}

impl<'a> ColumnBody<'a> {
    fn new(column: ColumnView<'a>, position: u64, known: Option<&'a FieldAnnotations>, tags: &'a Tags) -> Self {
        let mut description =
            Description { written: Cow::Borrowed(""), help: column.help, facts: column.facts, rest: String::new() };
        let labels = match known {
            None => tags.of_marks(column.marks),
            Some(known) => {
                description.written = text::written(known.description.as_deref());
                if description.written == description.help {
                    description.help = "";
                }
                let owner = known.owner.as_deref().map(str::trim).filter(|owner| !owner.is_empty());
                text::values("Data owner", owner.into_iter(), &mut description.rest);
                tags.of_field(column.marks, known, &mut description.rest)
            }
        };
        Self {
            name: column.name,
            display_name: column.label,
            data_type: column.kind.data_type,
            data_length: column.kind.length,
            precision: column.kind.precision,
            scale: column.kind.scale,
            data_type_display: column.type_name,
            description,
            tags: labels,
            constraint: column.constraint,
            ordinal_position: position,
        }
    }
}

/// The paragraphs of a column's description; an empty one is left out.
struct Description<'a> {
    written: Cow<'a, str>,
    help: &'a str,
    facts: &'a str,
    rest: String,
}

impl Description<'_> {
    fn parts(&self) -> impl Iterator<Item = &str> {
        [&*self.written, self.help, self.facts, &self.rest].into_iter().filter(|part| !part.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl Serialize for Description<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The foreign keys of a table.
pub(super) struct ForeignKeys<'a> {
    pub(super) draft: &'a Draft,
    pub(super) naming: &'a Naming,
}

impl ForeignKeys<'_> {
    fn is_empty(&self) -> bool {
        self.draft.foreign_keys.is_empty()
    }
}

impl Serialize for ForeignKeys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.draft.foreign_keys.iter().map(|key| ForeignKeyBody {
            constraint_type: ConstraintType::ForeignKey,
            columns: [self.draft.column_name(key.column)],
            referred_columns: [fqn::child(&self.naming.table_fqn(&key.target), &fqn::reserved(key.field()))],
            relationship_type: RelationshipType::ManyToOne,
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ForeignKeyBody<'a> {
    constraint_type: ConstraintType,
    columns: [&'a str; 1],
    referred_columns: [String; 1],
    relationship_type: RelationshipType,
}
