//! OpenMetadata's own JSON schemas, as `../shared/schemas/openmetadata` has them.

use std::error::Error;
use std::path::{Path, PathBuf};

use jsonschema::{Draft, Retrieve, Uri, Validator};
use serde_json::Value;

const BASE: &str = "https://open-metadata.org/schema/";

/// The Create request of each kind of entity.
const REQUESTS: [(&str, &str); 6] = [
    ("databaseService", "api/services/createDatabaseService.json"),
    ("database", "api/data/createDatabase.json"),
    ("databaseSchema", "api/data/createDatabaseSchema.json"),
    ("classification", "api/classification/createClassification.json"),
    ("tag", "api/classification/createTag.json"),
    ("table", "api/data/createTable.json"),
];

/// The schema of the Create request of a kind of entity, of the release in a folder.
pub(crate) fn of(kind: &str, schemas: PathBuf) -> Validator {
    let (_, path) = REQUESTS.into_iter().find(|(known, _)| *known == kind).unwrap();
    let root = read(&schemas, path).unwrap();
    jsonschema::options().with_draft(Draft::Draft7).with_retriever(Folder(schemas)).build(&root).unwrap()
}

struct Folder(PathBuf);

impl Retrieve for Folder {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let path = uri.as_str().strip_prefix(BASE).ok_or("not a schema of OpenMetadata")?;
        read(&self.0, path)
    }
}

/// A schema under the address of its file: the `$id` in some files is another file's.
fn read(folder: &Path, path: &str) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let mut schema: Value = serde_json::from_slice(&std::fs::read(folder.join(path))?)?;
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$id".to_owned(), format!("{BASE}{path}").into());
        // One draft for all: the newer files use nothing that this one lacks.
        schema.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    }
    Ok(schema)
}
