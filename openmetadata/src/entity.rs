//! OpenMetadata's Create requests, as far as this product sends them.
//!
//! Field names, enums and limits are those of OpenMetadata's JSON schemas 1.13 and 2.0 (`api/data/create*.json`,
//! `entity/data/table.json`); absent values are left out, because the server refuses unknown and 2.0-only fields.

use serde::{Deserialize, Serialize};

/// The kinds of entities that travel, with OpenMetadata's entity type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `databaseService`
    DatabaseService,
    /// `database`
    Database,
    /// `databaseSchema`
    DatabaseSchema,
    /// `classification`
    Classification,
    /// `tag`
    Tag,
    /// `table`
    Table,
}

impl Kind {
    /// Every kind; what another refers to comes first.
    pub const ALL: [Self; 6] =
        [Self::DatabaseService, Self::Database, Self::DatabaseSchema, Self::Classification, Self::Tag, Self::Table];

    /// OpenMetadata's name of the entity type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DatabaseService => "databaseService",
            Self::Database => "database",
            Self::DatabaseSchema => "databaseSchema",
            Self::Classification => "classification",
            Self::Tag => "tag",
            Self::Table => "table",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// `api/services/createDatabaseService.json`. Never with a `connection`: it would carry credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateDatabaseService {
    /// The service's name, 1 to 256 characters.
    pub name: String,
    /// `Salesforce`.
    pub service_type: String,
}

/// `api/data/createDatabase.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateDatabase {
    /// The database's name, reserved characters rewritten.
    pub name: String,
    /// FQN of the service.
    pub service: String,
    /// Opaque, 1 to 32 characters: the server skips an entity whose stored one is equal (2.0).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_hash: Option<String>,
}

/// `api/data/createDatabaseSchema.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateDatabaseSchema {
    /// The schema's name, reserved characters rewritten.
    pub name: String,
    /// FQN of the database.
    pub database: String,
    /// As in [`CreateDatabase::source_hash`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_hash: Option<String>,
}

/// `api/classification/createClassification.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateClassification {
    /// The classification's name, reserved characters rewritten.
    pub name: String,
    /// Markdown.
    pub description: String,
}

/// `api/classification/createTag.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateTag {
    /// FQN of the classification.
    pub classification: String,
    /// The tag's name, reserved characters rewritten.
    pub name: String,
    /// The name as people write it, where it differs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub display_name: Option<String>,
    /// Markdown.
    pub description: String,
}

/// `type/tagLabel.json`: that something has a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagLabel {
    /// FQN of the tag. The server refuses one that it does not know.
    #[serde(rename = "tagFQN")]
    pub tag_fqn: String,
    /// What the tag is part of.
    pub source: TagSource,
    /// How the label came about.
    pub label_type: LabelType,
    /// Whether somebody has still to confirm it.
    pub state: LabelState,
}

/// `type/tagLabel.json#/definitions/TagSource`, as far as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TagSource {
    /// A classification.
    Classification,
}

/// `labelType` of a [`TagLabel`], as far as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LabelType {
    /// A program found it out.
    Automated,
}

/// `state` of a [`TagLabel`], as far as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LabelState {
    /// Nobody need confirm it.
    Confirmed,
}

/// `api/data/createTable.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateTable {
    /// The table's name, reserved characters rewritten.
    pub name: String,
    /// The label people see.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub display_name: Option<String>,
    /// Markdown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// `Regular`.
    pub table_type: TableType,
    /// At least one, in the source's order.
    pub columns: Vec<Column>,
    /// Keys over named columns.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub table_constraints: Vec<TableConstraint>,
    /// The tags that it has.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<TagLabel>,
    /// FQN of the schema.
    pub database_schema: String,
    /// Where a person looks at the object.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_url: Option<String>,
    /// As in [`CreateDatabase::source_hash`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_hash: Option<String>,
}

/// `entity/data/table.json#/definitions/tableType`, as far as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableType {
    /// An ordinary table; what the peer connector sends for every object.
    Regular,
}

/// `entity/data/table.json#/definitions/column`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// The column's name, unique in the table, reserved characters rewritten.
    pub name: String,
    /// The label people see.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub display_name: Option<String>,
    /// OpenMetadata's type.
    pub data_type: DataType,
    /// Of the elements; required when `data_type` is ARRAY.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub array_data_type: Option<DataType>,
    /// Characters or bytes; required for CHAR, VARCHAR, BINARY and VARBINARY.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_length: Option<u32>,
    /// Digits in all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub precision: Option<u32>,
    /// Digits behind the point; needs a precision that is not smaller.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scale: Option<u32>,
    /// The type as the source spells it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_type_display: Option<String>,
    /// Markdown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// The tags that it has.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<TagLabel>,
    /// At most one a column.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub constraint: Option<Constraint>,
    /// From 1, in the source's order.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ordinal_position: Option<u32>,
    /// Required when `data_type` is STRUCT.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub children: Vec<Self>,
}

/// `entity/data/table.json#/definitions/dataType`, as far as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are OpenMetadata's and say it all")]
pub enum DataType {
    Array,
    Bigint,
    Binary,
    Blob,
    Boolean,
    Char,
    Date,
    Datetime,
    Decimal,
    Double,
    Enum,
    Int,
    Json,
    Point,
    String,
    Struct,
    Text,
    Time,
    Timestamp,
    Timestampz,
    Unknown,
    Varbinary,
    Varchar,
    Variant,
}

/// `entity/data/table.json#/definitions/constraint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Constraint {
    /// May be empty.
    Null,
    /// May not be empty.
    NotNull,
    /// No value twice.
    Unique,
    /// Identifies the row.
    PrimaryKey,
}

/// `entity/data/table.json#/definitions/tableConstraint`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableConstraint {
    /// What it says.
    pub constraint_type: ConstraintType,
    /// Names of columns of this table.
    pub columns: Vec<String>,
    /// FQNs of the columns that a foreign key points to.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub referred_columns: Vec<String>,
    /// How many rows on either side of a foreign key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub relationship_type: Option<RelationshipType>,
}

/// `constraintType` of a [`TableConstraint`], as far as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConstraintType {
    /// Points to another table.
    ForeignKey,
    /// Identifies the row by several columns.
    PrimaryKey,
    /// No combination twice.
    Unique,
}

/// `relationshipType` of a [`TableConstraint`], as far as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RelationshipType {
    /// Many rows here point to one there.
    ManyToOne,
    /// At most one row here points to one there.
    OneToOne,
}
