//! From what Salesforce says to OpenMetadata's Create requests. Pure: the same answers give the same bytes.
//!
//! Names are the peer connector's (service, `databaseName` or `default`, schema `salesforce`, API names, columns flat
//! and in the describe's order), so that tags, owners and lineage survive a switch; types, keys and descriptions are
//! complete. `types` chooses a column's type, `keys` its constraint and the foreign keys, `text` its description.
//!
//! `sourceHash` is the first 32 hexadecimal digits of the BLAKE3 of the request without it: a server that stores an
//! equal one has this request already. It is the last key of a request.

mod keys;
mod text;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use hybrid_runner_connector::{Entity, Reason};
use hybrid_runner_openmetadata::entity::{
    Column, Constraint, CreateDatabase, CreateDatabaseSchema, CreateDatabaseService, CreateTable, Kind,
    TableConstraint, TableType,
};
use hybrid_runner_openmetadata::{fqn, rules};
use serde::Serialize;

use crate::annotations::{Annotations, Vocabulary};
use crate::config::Selection;
use crate::describe::{Describe, Field};
use crate::listing::ListedObject;
use crate::naming::{Naming, SCHEMA};

/// OpenMetadata's name of this kind of service.
const SERVICE_TYPE: &str = "Salesforce";

/// Makes entities of one org's answers.
#[derive(Debug, Clone)]
pub struct Mapper {
    naming: Naming,
    instance_host: String,
    /// Names of the objects in scope as the listing spells them, by their lower-case names.
    in_scope: HashMap<String, String>,
    has_database: bool,
    has_schema: bool,
}

/// A table as its describe has it, waiting for what else is known about the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    fqn: String,
    table: CreateTable,
    fields: usize,
    skipped: u64,
}

impl Draft {
    /// Fields of the describe.
    #[must_use]
    pub fn fields(&self) -> usize {
        self.fields
    }
}

/// A table, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The table.
    pub entity: Entity,
    /// Columns of the table.
    pub columns: u64,
    /// Primary, unique and foreign keys of the table.
    pub keys: u64,
    /// Fields of the describe that are no columns: without a name, or with one that another field has.
    pub skipped: u64,
}

/// A describe that makes no table. The texts hold nothing of an answer but names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// It is of another object than asked for.
    #[error("the answer describes another object")]
    OtherObject,
    /// OpenMetadata does not take such a name.
    #[error("the object's name {problem}")]
    Name {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The table does not travel.
    #[error("the table is {size} bytes as JSON; the largest that is sent is 3,145,728 bytes")]
    TooLarge {
        /// Bytes.
        size: usize,
    },
    /// It cannot be written as JSON.
    #[error("the table cannot be written as JSON")]
    Unwritable,
}

impl MapError {
    /// The reason to report.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::OtherObject | Self::Name { .. } | Self::Unwritable => Reason::SourceProtocol,
            Self::TooLarge { .. } => Reason::EntityTooLarge,
        }
    }
}

impl Mapper {
    /// Raised with every change of the mapping.
    pub const VERSION: u8 = 1;

    /// A mapper for the org behind `instance_host` (where people open it; for `sourceUrl`), whose foreign keys point to
    /// the objects of `selection` only.
    #[must_use]
    pub fn new(naming: Naming, instance_host: impl Into<String>, selection: &Selection, _tags: bool) -> Self {
        let spelled = |object: &ListedObject| (object.name.to_ascii_lowercase(), object.name.clone());
        Self {
            naming,
            instance_host: instance_host.into(),
            in_scope: selection.in_scope.iter().map(spelled).collect(),
            has_database: selection.database,
            has_schema: selection.schema,
        }
    }

    /// Where the tables stand.
    #[must_use]
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// The service, the database and the schema, as far as the filters let them through.
    ///
    /// # Errors
    /// [`MapError::Unwritable`]
    pub fn parents(&self, _vocabulary: &Vocabulary) -> Result<Vec<Entity>, MapError> {
        let naming = &self.naming;
        let service =
            CreateDatabaseService { name: naming.service().to_owned(), service_type: SERVICE_TYPE.to_owned() };
        let service = body(&service)?;
        let mut parents = vec![Entity::new(Kind::DatabaseService.as_str(), naming.service_fqn(), service.into())];
        if self.has_database {
            let database =
                CreateDatabase { name: naming.database().to_owned(), service: naming.service_fqn(), source_hash: None };
            let body = hashed(&body(&database)?);
            parents.push(Entity::new(Kind::Database.as_str(), naming.database_fqn(), body));
        }
        if self.has_schema {
            let schema =
                CreateDatabaseSchema { name: SCHEMA.to_owned(), database: naming.database_fqn(), source_hash: None };
            let body = hashed(&body(&schema)?);
            parents.push(Entity::new(Kind::DatabaseSchema.as_str(), naming.schema_fqn().to_owned(), body));
        }
        Ok(parents)
    }

    /// What the describe of a listed object says, taken over from the answer. Its name is the listing's: an answer cannot
    /// make another table than the one asked for.
    ///
    /// # Errors
    /// [`MapError`]: the object is to be reported as failed.
    pub fn draft(&self, object: &ListedObject, describe: &Describe<'_>) -> Result<Draft, MapError> {
        if describe.name.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case(&object.name)) {
            return Err(MapError::OtherObject);
        }
        let name = fqn::reserve(&object.name);
        rules::check_name(&name).map_err(|problem| MapError::Name { problem })?;
        let columns = self.columns(describe);
        let table = CreateTable {
            display_name: describe.label.as_deref().or(object.label.as_deref()).map(str::to_owned),
            description: None,
            table_type: TableType::Regular,
            columns: columns.columns,
            table_constraints: columns.foreign_keys,
            database_schema: self.naming.schema_fqn().to_owned(),
            source_url: Some(format!("https://{}/lightning/o/{}/list", self.instance_host, object.name)),
            source_hash: None,
            name,
        };
        Ok(Draft {
            fqn: self.naming.table_fqn(&object.name),
            table,
            fields: describe.fields().len(),
            skipped: columns.skipped,
        })
    }

    /// The table of a draft, with what else is known about it.
    ///
    /// # Errors
    /// [`MapError`]: the object is to be reported as failed.
    pub fn finish(
        &self,
        draft: Draft,
        annotations: &Annotations,
        _vocabulary: &Vocabulary,
    ) -> Result<Mapped, MapError> {
        let Draft { fqn, mut table, fields: _, skipped } = draft;
        table.description.clone_from(&annotations.description);
        let body = hashed(&body(&table)?);
        if body.len() > Entity::MAX_BODY {
            return Err(MapError::TooLarge { size: body.len() });
        }
        let is_key = |column: &&Column| matches!(column.constraint, Some(Constraint::PrimaryKey | Constraint::Unique));
        let keys = table.columns.iter().filter(is_key).count() + table.table_constraints.len();
        let entity = Entity::new(Kind::Table.as_str(), fqn, body);
        Ok(Mapped { entity, columns: counted(table.columns.len()), keys: counted(keys), skipped })
    }

    fn columns(&self, describe: &Describe<'_>) -> Columns {
        let mut columns = Columns::default();
        let mut seen = HashSet::with_capacity(describe.fields().len());
        for field in describe.fields() {
            let name = fqn::reserve(field.name.as_deref().unwrap_or_default());
            // Salesforce's names differ by more than case, and OpenMetadata refuses a table with a repeated one.
            let is_new = rules::check_name(&name).is_ok() && seen.insert(name.to_ascii_lowercase());
            if !is_new {
                columns.skipped += 1;
                continue;
            }
            columns.foreign_keys.extend(keys::foreign(self, field, &name));
            let position = u32::try_from(columns.columns.len() + 1).ok();
            columns.columns.push(column(field, name, position));
        }
        columns
    }
}

#[derive(Debug, Default)]
struct Columns {
    columns: Vec<Column>,
    foreign_keys: Vec<TableConstraint>,
    skipped: u64,
}

fn column(field: &Field<'_>, name: String, position: Option<u32>) -> Column {
    let kind = types::of(field);
    Column {
        name,
        display_name: field.label.as_deref().map(str::to_owned),
        data_type: kind.data_type,
        array_data_type: None,
        data_length: kind.length,
        precision: kind.precision,
        scale: kind.scale,
        data_type_display: field.kind.as_deref().map(str::to_owned),
        description: text::describe(field),
        constraint: keys::constraint(field),
        ordinal_position: position,
        children: Vec::new(),
    }
}

fn body(request: &impl Serialize) -> Result<Vec<u8>, MapError> {
    serde_json::to_vec(request).map_err(|_never| MapError::Unwritable)
}

/// The same request with its `sourceHash`, which is the last key of a request: appended, because writing a request a
/// second time costs as much as mapping it.
fn hashed(body: &[u8]) -> Bytes {
    let hash: [u8; 32] = blake3::hash(body).into();
    let hash = hash.first_chunk().map_or(0, |first| u128::from_be_bytes(*first));
    let open = body.strip_suffix(b"}").unwrap_or(body);
    Bytes::from([open, format!(",\"sourceHash\":\"{hash:032x}\"}}").as_bytes()].concat())
}

fn counted(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
