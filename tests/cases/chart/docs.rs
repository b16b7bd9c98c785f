//! What values.yaml says about each value, and the README made of it.
//!
//! `UPDATE_GOLDENS=1 ./test chart` makes README.md, the rules of names in values.schema.json and the rendered scenarios
//! again; they are reviewed as text.

use std::collections::BTreeSet;

use hybrid_runner_tests::root;
use serde_json::Value;

use super::helm::{chart, yaml};
use super::schema;

/// A value and the words above it.
#[derive(Debug)]
struct Documented {
    /// Its path; `[]` stands for each item of a list.
    path: String,
    text: String,
    /// Whether it only shows the shape of a value above it, which is empty by default.
    is_shape: bool,
}

/// Everything documented in values.yaml, in its order.
fn documented() -> Vec<Documented> {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let mut found = Vec::new();
    // The keys above, each with its indentation.
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut words: Option<String> = None;
    for line in text.lines() {
        let (line, is_shape) = uncommented(line);
        let mut indent = line.len() - line.trim_start().len();
        let mut rest = line.trim_start();
        if let Some(item) = rest.strip_prefix("- ") {
            above.retain(|(of, _)| *of < indent);
            above.push((indent, "[]".to_owned()));
            (indent, rest) = (indent + 2, item);
        }
        if let Some(said) = rest.strip_prefix("# -- ") {
            assert!(words.replace(said.to_owned()).is_none(), "words without a value: {said}");
            continue;
        }
        let Some((key, _)) = rest.split_once(':').filter(|(key, _)| is_key(key)) else { continue };
        above.retain(|(of, _)| *of < indent);
        above.push((indent, key.to_owned()));
        let path = above.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".").replace(".[]", "[]");
        found.extend(words.take().map(|text| Documented { path, text, is_shape }));
    }
    assert!(found.len() > 100, "{found:?}");
    found
}

/// A line as it would be if it were not commented out.
fn uncommented(line: &str) -> (String, bool) {
    match line.trim_start().strip_prefix('#') {
        Some(rest) if !rest.starts_with(" -- ") => (line.replacen('#', "", 1), true),
        _ => (line.to_owned(), false),
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric())
}

fn table() -> String {
    let defaults = yaml(&std::fs::read_to_string(chart().join("values.yaml")).unwrap()).remove(0);
    let mut table = "| value | default | |\n|---|---|---|\n".to_owned();
    for Documented { path, text, is_shape } in documented() {
        let default = if is_shape {
            String::new()
        } else {
            let pointer = format!("/{}", path.replace('.', "/"));
            format!("`{}`", defaults.pointer(&pointer).unwrap_or_else(|| panic!("{path} has no default")))
        };
        table.push_str(&format!("| `{path}` | {default} | {} |\n", text.replace('|', "\\|")));
    }
    table
}

/// What stands above the table is written by hand.
const MARK: &str = "<!-- Below this line the test of the chart writes what values.yaml says. -->\n";

#[test]
fn the_readme_has_every_value_with_its_default_and_what_it_does() {
    let path = chart().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (by_hand, _) = readme.split_once(MARK).expect("the mark");
    compare("charts/hybrid-runner/README.md", &format!("{by_hand}{MARK}\n{}", table()));
}

#[test]
fn every_value_of_the_schema_is_documented_and_no_other_is() {
    let documented: BTreeSet<String> = documented().into_iter().map(|documented| documented.path).collect();
    let known = schema::paths();
    let missing: Vec<&String> = known.leaves.difference(&documented).collect();
    assert!(missing.is_empty(), "not documented in values.yaml: {missing:#?}");
    let unknown: Vec<&String> = documented.difference(&known.all).collect();
    assert!(unknown.is_empty(), "not in values.schema.json: {unknown:#?}");
}

/// Compares a committed file with what is made now.
pub(super) fn compare(path: &str, made: &str) {
    let file = root().join(path);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, made).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let first = made.lines().zip(committed.lines()).position(|(made, committed)| made != committed);
    assert!(
        made == committed,
        "{path} is not what is made now, from line {first:?} on; if the change is wanted: UPDATE_GOLDENS=1 ./test chart"
    );
}

/// The paths of values that a document sets, `[]` for each item of a list.
pub(super) fn paths_of(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            paths_of(value, &path, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| paths_of(item, &format!("{path}[]"), found)),
        _ => {}
    }
}
