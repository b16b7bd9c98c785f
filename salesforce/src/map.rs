//! From what Salesforce says to OpenMetadata's Create requests. Pure: the same answers give the same bytes.
//!
//! Names are the peer connector's (service, `databaseName` or `default`, schema `salesforce`, API names, columns flat
//! and in the describe's order), so that tags, owners and lineage survive a switch; types, keys and descriptions are
//! complete. `types` chooses a column's type, `keys` its constraint and the foreign keys, `text` its description, `tags`
//! its tags. A describe becomes a `draft`, which needs the answer no more and waits for what else is known about the
//! object ([`Annotations`]); `body` is what is then written, once.
//!
//! `sourceHash` is the first 32 hexadecimal digits of the BLAKE3 of the request without it: a server that stores an
//! equal one has this request already. It is the last key of a request.

mod body;
mod draft;
mod keys;
mod tags;
mod text;
mod types;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use hybrid_runner_connector::{Entity, Reason};
use hybrid_runner_openmetadata::entity::{
    Constraint, CreateDatabase, CreateDatabaseSchema, CreateDatabaseService, Kind, TableType,
};
use hybrid_runner_openmetadata::{fqn, rules};
use serde::Serialize;

use self::body::{Columns, ForeignKeys, TableBody};
pub use self::draft::Draft;
use self::keys::InScope;
use self::tags::Tags;
use crate::annotations::{Annotations, Vocabulary};
use crate::config::Selection;
use crate::describe::Describe;
use crate::digest::Digest;
use crate::listing::ListedObject;
use crate::naming::{Naming, SCHEMA};

/// OpenMetadata's name of this kind of service.
const SERVICE_TYPE: &str = "Salesforce";

/// Makes entities of one org's answers.
#[derive(Debug, Clone)]
pub struct Mapper {
    naming: Naming,
    instance_host: String,
    in_scope: InScope,
    has_database: bool,
    has_schema: bool,
    has_tags: bool,
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
    #[error("the table is at least {size} bytes as JSON; the largest that is sent is 3,145,728 bytes")]
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
    /// Of the mapping: raised with every change of what the same answers become, so that what an earlier run remembers
    /// of an object ("unchanged since") does not keep its table as it was. A test compares it with the goldens.
    pub const VERSION: u8 = 1;

    /// A mapper for the org behind `instance_host` (where people open it; for `sourceUrl`), whose foreign keys point to
    /// the objects of `selection` only. `tags`: whether classifications, tags and labels are made (`includeTags`).
    #[must_use]
    pub fn new(naming: Naming, instance_host: impl Into<String>, selection: &Selection, tags: bool) -> Self {
        let spelled = |object: &ListedObject| (object.name.to_ascii_lowercase(), Arc::from(object.name.as_str()));
        Self {
            naming,
            instance_host: instance_host.into(),
            in_scope: selection.in_scope.iter().map(spelled).collect(),
            has_database: selection.database,
            has_schema: selection.schema,
            has_tags: tags,
        }
    }

    /// Where the tables stand.
    #[must_use]
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// A digest of everything that a table depends on beyond what the listing, its describe and its annotations say: when
    /// it is as it was, so is the table of an object of which they say the same.
    #[must_use]
    pub fn digest(&self, vocabulary: &Vocabulary) -> [u8; 16] {
        let mut in_scope: Vec<&str> = self.in_scope.values().map(AsRef::as_ref).collect();
        in_scope.sort_unstable();
        let tags = Tags::new(self.has_tags, vocabulary);
        let mut digest = Digest::default();
        digest.bytes(&[Self::VERSION]);
        digest.bytes(&counted(in_scope.len()).to_be_bytes());
        for text in [self.naming.schema_fqn(), &self.instance_host].into_iter().chain(in_scope).chain(tags.fqns()) {
            digest.text(text);
        }
        digest.finish()
    }

    /// What the tables refer to: the service, the database and the schema, as far as the filters let them through; then,
    /// with tags, the classifications, then their tags.
    ///
    /// # Errors
    /// [`MapError::Unwritable`]
    pub fn parents(&self, vocabulary: &Vocabulary) -> Result<Vec<Entity>, MapError> {
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
        let (classifications, tags) = Tags::new(self.has_tags, vocabulary).entities();
        for classification in classifications {
            let body = body(&classification)?.into();
            parents.push(Entity::new(Kind::Classification.as_str(), fqn::quote(&classification.name), body));
        }
        for (fqn, tag) in tags {
            parents.push(Entity::new(Kind::Tag.as_str(), fqn, body(&tag)?.into()));
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
        rules::check_name(&fqn::reserved(&object.name)).map_err(|problem| MapError::Name { problem })?;
        Draft::new(object, describe, &self.in_scope)
    }

    /// The table of a draft, with what else is known about it.
    ///
    /// # Errors
    /// [`MapError`]: the object is to be reported as failed.
    #[expect(clippy::needless_pass_by_value, reason = "a draft is finished once, and its memory is free then")]
    pub fn finish(&self, draft: Draft, annotations: &Annotations, vocabulary: &Vocabulary) -> Result<Mapped, MapError> {
        let draft = &draft;
        let tags = &Tags::new(self.has_tags, vocabulary);
        let table = TableBody {
            name: fqn::reserved(&draft.object),
            display_name: draft.label.as_deref(),
            description: text::about(annotations),
            table_type: TableType::Regular,
            columns: Columns { draft, annotations, tags },
            table_constraints: ForeignKeys { draft, naming: &self.naming },
            tags: tags.of_marks(draft.marks),
            database_schema: self.naming.schema_fqn(),
            source_url: format!("https://{}/lightning/o/{}/list", self.instance_host, draft.object),
        };
        let body = hashed(&written(&table, draft.body_size())?);
        if body.len() > Entity::MAX_BODY {
            return Err(MapError::TooLarge { size: body.len() });
        }
        let is_key = |constraint| matches!(constraint, Some(Constraint::PrimaryKey | Constraint::Unique));
        let keys = draft.columns().filter(|column| is_key(column.constraint)).count() + draft.foreign_keys.len();
        let columns = counted(draft.columns().len());
        let entity = Entity::new(Kind::Table.as_str(), self.naming.table_fqn(&draft.object), body);
        Ok(Mapped { entity, columns, keys: counted(keys), skipped: draft.skipped })
    }
}

fn body(request: &impl Serialize) -> Result<Vec<u8>, MapError> {
    written(request, 256)
}

/// A request as JSON, which is about so large.
fn written(request: &impl Serialize, about: usize) -> Result<Vec<u8>, MapError> {
    let mut body = Vec::with_capacity(about);
    serde_json::to_writer(&mut body, request).map_err(|_never| MapError::Unwritable)?;
    Ok(body)
}

/// The same request with its `sourceHash`, which is the last key of a request: appended, because writing a request a
/// second time costs as much as mapping it.
fn hashed(body: &[u8]) -> Bytes {
    let mut digest = Digest::default();
    digest.bytes(body);
    let hash = u128::from_be_bytes(digest.finish());
    let open = body.strip_suffix(b"}").unwrap_or(body);
    Bytes::from([open, format!(",\"sourceHash\":\"{hash:032x}\"}}").as_bytes()].concat())
}

fn counted(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
