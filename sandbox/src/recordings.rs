//! A folder of recorded responses, read into an org.
//!
//! Every file is one exchange: `{"source": {"api_version"}, "request": {"method", "path"}, "response": {"status", "body"}}`.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::model::{Field, FieldType, ListEntry, Object};
use crate::org::RecordedRows;

/// What a folder holds.
pub(crate) struct Recorded {
    /// The listed objects, those with a recorded describe complete.
    pub(crate) objects: Vec<Object>,
    pub(crate) rows: RecordedRows,
}

#[derive(Deserialize)]
struct Exchange {
    #[serde(default)]
    source: Source,
    request: Request,
    response: Response,
}

#[derive(Default, Deserialize)]
struct Source {
    #[serde(default)]
    api_version: String,
}

#[derive(Deserialize)]
struct Request {
    path: String,
}

#[derive(Deserialize)]
struct Response {
    body: Box<RawValue>,
}

#[derive(Deserialize)]
struct Listing {
    sobjects: Vec<ListEntry>,
}

/// A recorded describe, with what makes it the better of two.
struct Described {
    version: u16,
    entry: ListEntry,
    fields: Vec<Field>,
    raw: Arc<RawValue>,
}

/// Reads `dir/global`, `dir/describe`, `dir/composite` and `dir/tooling`.
pub(crate) fn read(dir: &Path) -> anyhow::Result<Recorded> {
    ensure!(dir.is_dir(), "{} is not a directory", dir.display());
    let mut entries = longest_list(&dir.join("global"))?;
    let mut described: BTreeMap<String, Described> = BTreeMap::new();
    for folder in ["describe", "composite"] {
        for file in files(&dir.join(folder))? {
            let found = describes(&file).with_context(|| format!("read {}", file.display()))?;
            found.into_iter().for_each(|one| keep_better(&mut described, one));
        }
    }
    for one in described.values() {
        if !entries.iter().any(|entry| entry.name.eq_ignore_ascii_case(&one.entry.name)) {
            entries.push(one.entry.clone());
        }
    }
    let object = |entry: ListEntry| match described.get(&entry.name.to_lowercase()) {
        Some(one) => {
            Object { entry, fields: one.fields.clone(), recorded: Some(Arc::clone(&one.raw)), ..Object::default() }
        }
        None => Object { entry, ..Object::default() },
    };
    let objects = entries.into_iter().map(object).collect();
    Ok(Recorded { objects, rows: rows(&dir.join("tooling"))? })
}

fn longest_list(dir: &Path) -> anyhow::Result<Vec<ListEntry>> {
    let mut longest = Vec::new();
    for file in files(dir)? {
        let exchange = exchange(&file)?;
        let listing: Listing = serde_json::from_str(exchange.response.body.get())
            .with_context(|| format!("read the describeGlobal in {}", file.display()))?;
        if listing.sobjects.len() > longest.len() {
            longest = listing.sobjects;
        }
    }
    ensure!(!longest.is_empty(), "{} holds no describeGlobal with objects", dir.display());
    let names: HashSet<String> = longest.iter().map(|entry| entry.name.clone()).collect();
    longest.iter_mut().for_each(|entry| name_parent(entry, &names));
    Ok(longest)
}

/// Lists older than API 49 do not say whose companion an object is; its name does, when there is such an object.
fn name_parent(entry: &mut ListEntry, names: &HashSet<String>) {
    if entry.associate_entity_type.is_some() {
        return;
    }
    for kind in ["History", "Share", "Feed", "ChangeEvent"] {
        let Some(stem) = entry.name.strip_suffix(kind) else { continue };
        let parent = stem.strip_suffix("__").map_or_else(|| stem.to_owned(), |stem| format!("{stem}__c"));
        if names.contains(&parent) {
            (entry.associate_entity_type, entry.associate_parent_entity) = (Some(kind.into()), Some(parent));
            return;
        }
    }
}

fn keep_better(described: &mut BTreeMap<String, Described>, one: Described) {
    let name = one.entry.name.to_lowercase();
    let better =
        described.get(&name).is_none_or(|other| (one.version, one.fields.len()) > (other.version, other.fields.len()));
    if better {
        described.insert(name, one);
    }
}

fn describes(file: &Path) -> anyhow::Result<Vec<Described>> {
    let exchange = exchange(file)?;
    let version = version(&exchange);
    let body = &exchange.response.body;
    let mut found: Vec<Box<RawValue>> = Vec::new();
    match serde_json::from_str::<Body>(body.get()).context("the body is neither a describe nor a composite")? {
        Body { composite_response: Some(answers), .. } => {
            found.extend(answers.into_iter().map(|answer| answer.body));
        }
        Body { results: Some(results), .. } => {
            found.extend(results.into_iter().map(|result| result.body));
        }
        Body { fields: Some(_), .. } => found.push(body.clone()),
        Body { .. } => {}
    }
    found.iter().filter_map(|raw| read_describe(raw, version).transpose()).collect()
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "compositeResponse")]
    composite_response: Option<Vec<Answer>>,
    results: Option<Vec<BatchResult>>,
    fields: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Answer {
    body: Box<RawValue>,
}

#[derive(Deserialize)]
struct BatchResult {
    #[serde(rename = "result")]
    body: Box<RawValue>,
}

fn read_describe(raw: &RawValue, version: u16) -> anyhow::Result<Option<Described>> {
    #[derive(Deserialize)]
    struct Describe {
        fields: Vec<RecordedField>,
        #[serde(flatten)]
        entry: ListEntry,
    }
    // An error or a query result inside a composite is no describe.
    let shape: Value = serde_json::from_str(raw.get())?;
    if !shape.get("fields").is_some_and(Value::is_array) || !shape.get("name").is_some_and(Value::is_string) {
        return Ok(None);
    }
    let describe: Describe = serde_json::from_str(raw.get()).context("read a describe")?;
    let fields = describe.fields.into_iter().map(Field::from).collect();
    // Compact, as Salesforce sends it; the order of the members stays.
    let raw = Arc::from(RawValue::from_string(compact(raw.get()))?);
    Ok(Some(Described { version, entry: describe.entry, fields, raw }))
}

/// What the Tooling rows need of a recorded field.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedField {
    name: String,
    #[serde(default)]
    label: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    length: u32,
    #[serde(default)]
    precision: u16,
    #[serde(default)]
    scale: u16,
    #[serde(default)]
    nillable: bool,
    #[serde(default)]
    custom: bool,
    #[serde(default)]
    calculated: bool,
    #[serde(default)]
    auto_number: bool,
    #[serde(default)]
    external_id: bool,
    #[serde(default)]
    name_field: bool,
    reference_to: Option<Vec<String>>,
    relationship_name: Option<String>,
}

impl From<RecordedField> for Field {
    fn from(recorded: RecordedField) -> Self {
        Self {
            name: recorded.name,
            label: recorded.label,
            kind: FieldType::named(&recorded.kind).unwrap_or_default(),
            length: recorded.length,
            precision: recorded.precision,
            scale: recorded.scale,
            nillable: recorded.nillable,
            custom: recorded.custom,
            calculated: recorded.calculated,
            auto_number: recorded.auto_number,
            external_id: recorded.external_id,
            name_field: recorded.name_field,
            reference_to: recorded.reference_to.unwrap_or_default(),
            relationship: recorded.relationship_name,
            ..Self::default()
        }
    }
}

fn rows(dir: &Path) -> anyhow::Result<RecordedRows> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        entity_type_name: String,
        records: Vec<Map<String, Value>>,
    }
    let mut all = RecordedRows::default();
    for file in files(dir)? {
        let exchange = exchange(&file)?;
        let rows: Rows = serde_json::from_str(exchange.response.body.get())
            .with_context(|| format!("read the rows in {}", file.display()))?;
        match rows.entity_type_name.as_str() {
            "EntityDefinition" => {
                for row in rows.records {
                    let name = row.get("QualifiedApiName").and_then(Value::as_str).unwrap_or_default().to_lowercase();
                    all.entities.insert(name, Arc::new(row));
                }
            }
            "FieldDefinition" => {
                let mut by_object: BTreeMap<String, Vec<Map<String, Value>>> = BTreeMap::new();
                for row in rows.records {
                    let of = row.get("EntityDefinitionId").and_then(Value::as_str).unwrap_or_default().to_owned();
                    by_object.entry(of).or_default().push(row);
                }
                all.fields.extend(by_object.into_iter().map(|(of, rows)| (of, Arc::new(rows))));
            }
            _ => {}
        }
    }
    by_name(&mut all);
    Ok(all)
}

/// Field rows name their object by its durable id; the entity rows tell whose that is.
fn by_name(rows: &mut RecordedRows) {
    let names: Vec<(String, String)> = rows
        .entities
        .iter()
        .filter_map(|(name, row)| Some((row.get("DurableId")?.as_str()?.to_owned(), name.clone())))
        .collect();
    for (id, name) in names {
        if let Some(fields) = rows.fields.remove(&id) {
            rows.fields.insert(name, fields);
        }
    }
}

fn exchange(file: &Path) -> anyhow::Result<Exchange> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a recorded exchange", file.display()))
}

/// The JSON files of a folder by name; none when there is no such folder.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The API version that was asked: from the path, else as the source says.
fn version(exchange: &Exchange) -> u16 {
    let in_path = exchange.request.path.split('/').find_map(|part| part.strip_prefix('v'));
    let text = in_path.unwrap_or(&exchange.source.api_version);
    text.split('.').next().and_then(|major| major.trim().parse().ok()).unwrap_or(0)
}

/// JSON without the whitespace between its tokens.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', c == '\\' && !escaped);
        } else if c == '"' {
            in_string = true;
        } else if c.is_ascii_whitespace() {
            continue;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_keeps_strings_as_they_are() {
        assert_eq!(
            compact("{ \"a b\" : \"c \\\" d\\\\\" ,\n \"e\": [1, 2] }"),
            "{\"a b\":\"c \\\" d\\\\\",\"e\":[1,2]}"
        );
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("global")).unwrap();
        std::fs::write(dir.path().join("global/list.json"), "{\"request\": 1").unwrap();
        let error = read(dir.path()).err().map(|error| format!("{error:#}")).unwrap();
        assert!(error.contains("list.json"), "{error}");
    }
}
