//! OpenMetadata's JSON schemas, which lie beside the workspace in `shared/schemas/openmetadata`.
//!
//! Their README says why each file's `$id` is replaced: a tenth of them are wrong, and a validator would resolve
//! references from the wrong place. The package `tests` includes this file by its path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonschema::{Draft, Retrieve, Uri, Validator};
use serde_json::{Value, json};

const BASE: &str = "https://open-metadata.org/schema/";

/// The Create request of each kind of entity.
const REQUESTS: [(&str, &str); 6] = [
    ("databaseService", "api/services/createDatabaseService.json"),
    ("database", "api/data/createDatabase.json"),
    ("databaseSchema", "api/data/createDatabaseSchema.json"),
    ("table", "api/data/createTable.json"),
    ("classification", "api/classification/createClassification.json"),
    ("tag", "api/classification/createTag.json"),
];

/// Compiled schemas of one version of OpenMetadata.
#[derive(Debug)]
pub struct Schemas {
    validators: BTreeMap<&'static str, Validator>,
}

impl Schemas {
    /// The versions whose schemas are there.
    pub const VERSIONS: [&'static str; 2] = ["1.13", "2.0"];

    /// Whether the schemas are there. Without them tests of CI fail, and others say that they did not run.
    ///
    /// # Panics
    /// They are not, and the environment says that this is CI.
    #[expect(clippy::print_stderr, reason = "the reader of a test's output learns what was left out")]
    pub fn are_available() -> bool {
        let directory = directory();
        if directory.is_dir() {
            return true;
        }
        let missing = format!("{} is missing; it comes with the shared material of the project", directory.display());
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("not run: {missing}");
        false
    }

    /// Compiles the Create requests of one version, such as `2.0`.
    ///
    /// # Errors
    /// A file that is missing or does not compile.
    pub fn load(version: &str) -> Result<Self, String> {
        let files = Files { directory: directory().join(version) };
        let validators = REQUESTS
            .into_iter()
            .map(|(kind, path)| files.compile(path).map(|validator| (kind, validator)))
            .collect::<Result<_, _>>()?;
        Ok(Self { validators })
    }

    /// Checks the body of a Create request of an entity type such as `table`.
    ///
    /// # Errors
    /// The first places where it differs from the schema, or an unknown kind.
    pub fn validate(&self, kind: &str, body: &Value) -> Result<(), String> {
        let validator = self.validators.get(kind).ok_or_else(|| format!("no schema for the kind `{kind}`"))?;
        let problems: Vec<String> =
            validator.iter_errors(body).take(5).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if problems.is_empty() { Ok(()) } else { Err(format!("{kind}: {}", problems.join("; "))) }
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/schemas/openmetadata")
}

#[derive(Debug, Clone)]
struct Files {
    directory: PathBuf,
}

impl Files {
    fn read(&self, path: &str) -> Result<Value, String> {
        let file = self.directory.join(path);
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
    }

    fn compile(&self, path: &str) -> Result<Validator, String> {
        jsonschema::options()
            .with_draft(Draft::Draft7)
            .should_validate_formats(true)
            .with_retriever(self.clone())
            .build(&json!({"$ref": format!("{BASE}{path}")}))
            .map_err(|error| format!("{path}: {error}"))
    }
}

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let path = uri.as_str().strip_prefix(BASE).ok_or_else(|| format!("{uri} is not below {BASE}"))?;
        let mut schema = self.read(path)?;
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("$id".to_owned(), json!(uri.as_str()));
            schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        }
        Ok(schema)
    }
}
