//! values.schema.json: which keys there are, and how a misspelt one is answered.
//!
//! Helm's answer to an unknown key does not say which was meant. So each mapping has rules for its names: a small one lists
//! them, that of the top level has for each key what looks like it.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::docs::{compare, paths_of};
use super::helm::{chart, scenarios};

fn read() -> Value {
    serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap()
}

/// The paths of the schema, `[]` for each item of a list.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Those without others below them.
    pub(super) leaves: BTreeSet<String>,
    pub(super) all: BTreeSet<String>,
}

pub(super) fn paths() -> Paths {
    let (root, mut paths) = (read(), Paths::default());
    collect(&root, &root, "", &mut paths);
    paths
}

fn collect(root: &Value, schema: &Value, path: &str, paths: &mut Paths) {
    // Its keys are documented once, at the first.
    let is_repeated = path.ends_with("caBundle") && path != "controlPlane.tls.caBundle";
    let schema = resolved(root, schema);
    let schema = schema["anyOf"].as_array().map_or(schema, |any| resolved(root, &any[0]));
    paths.all.insert(path.to_owned());
    if let Some(properties) = schema["properties"].as_object().filter(|_| !is_repeated) {
        for (key, schema) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            collect(root, schema, &path, paths);
        }
    } else if resolved(root, &schema["items"]).get("properties").is_some() {
        collect(root, &schema["items"], &format!("{path}[]"), paths);
        // A list whose items have documented keys may have words of its own.
    } else {
        paths.leaves.insert(path.to_owned());
    }
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    }
}

/// A mapping with more keys than this gets a rule a key.
const FEW: usize = 10;

/// The schema with its rules for names.
fn with_rules(schema: &mut Value) {
    match schema {
        Value::Array(several) => several.iter_mut().for_each(with_rules),
        Value::Object(map) => {
            let closed = map.get("additionalProperties") == Some(&Value::Bool(false));
            if let Some(properties) = map.get("properties").and_then(Value::as_object).filter(|_| closed) {
                let names = names(properties);
                map.insert("propertyNames".to_owned(), names);
            }
            map.iter_mut().filter(|(key, _)| *key != "propertyNames").for_each(|(_, below)| with_rules(below));
        }
        _ => {}
    }
}

fn names(properties: &Map<String, Value>) -> Value {
    let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
    if keys.len() <= FEW {
        return json!({"enum": keys});
    }
    let rule = |key: &&str| {
        let alike: Vec<&&str> = keys.iter().filter(|other| looks_like(key, other)).collect();
        json!({"if": {"pattern": pattern(key)}, "then": {"enum": alike}})
    };
    json!({"allOf": keys.iter().map(rule).collect::<Vec<_>>()})
}

/// One wrong letter leaves one half of a key as it is. The first half may be followed by anything, because people know how
/// a key begins; before the last half there are about as many letters as in the key.
fn pattern(key: &str) -> String {
    let (first, last) = key.split_at(key.len() / 2);
    let Range { start, end } = around(first.len());
    if is_short(key) {
        let after = around(last.len());
        format!("^({first}.{{{},{}}}|.{{{start},{}}}{last})$", after.start, after.end - 1, end - 1)
    } else {
        format!("^({first}.*|.{{{start},{}}}{last})$", end - 1)
    }
}

/// Whether the pattern of a key fits another name.
fn looks_like(key: &str, name: &str) -> bool {
    let (first, last) = key.split_at(key.len() / 2);
    name.strip_prefix(first).is_some_and(|rest| !is_short(key) || around(last.len()).contains(&rest.len()))
        || name.strip_suffix(last).is_some_and(|rest| around(first.len()).contains(&rest.len()))
}

/// Half of a short key says nothing about what follows.
fn is_short(key: &str) -> bool {
    key.len() < 8
}

/// Lengths of what stands in place of a half.
fn around(half: usize) -> Range<usize> {
    half.saturating_sub(if half < 4 { 1 } else { 2 })..half + if half < 4 { 2 } else { 3 }
}

#[test]
fn each_mapping_has_rules_that_name_the_key_which_was_meant() {
    let mut schema = read();
    with_rules(&mut schema);
    let mut text = serde_json::to_string_pretty(&schema).unwrap();
    text.push('\n');
    compare("charts/hybrid-runner/values.schema.json", &text);
}

#[test]
fn every_value_is_set_in_a_scenario_and_none_is_dead() {
    let mut set = BTreeSet::new();
    scenarios().iter().for_each(|scenario| paths_of(&scenario.values(), "", &mut set));
    let known = paths();
    let unset: Vec<&String> = known.leaves.iter().filter(|path| !set.contains(*path)).collect();
    assert!(unset.is_empty(), "no scenario sets {unset:#?}");

    let templates = std::fs::read_dir(chart().join("templates")).unwrap().map(|entry| entry.unwrap().path());
    let templates = templates.chain([chart().join("templates/tests/doctor.yaml")]).filter(|path| path.is_file());
    let templates: String = templates.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    // Handed to the agent as they are: the case about its settings shows that it has each of them.
    let handed_on = |path: &str| {
        ["[].aws.", "[].env.", "[].vault.", "policy.", "log.", ".proxy.", ".file.existingSecret.items"]
            .iter()
            .any(|prefix| path.contains(prefix))
    };
    for path in known.leaves.iter().filter(|path| !handed_on(path)) {
        let key = path.rsplit('.').next().unwrap().trim_end_matches("[]");
        let used = [format!(".{key}"), format!("\"{key}\"")];
        assert!(used.iter().any(|used| templates.contains(used.as_str())), "no template reads {path}");
    }
}
