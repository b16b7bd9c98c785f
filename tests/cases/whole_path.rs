//! The main job, as a user runs it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hybrid_runner_tests::processes::{Output, Running, command, output, program};
use hybrid_runner_tests::world::{World, parse_export};
use hybrid_runner_tests::{RESULT_KEYS, entities_with, logs, outside};
use serde_json::Value;
use tempfile::TempDir;

async fn quickstart(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = command(&program("quickstart"));
    command.args(["--once", "--json", "--data-dir"]).arg(dir).args(arguments);
    output(command).await
}

fn number(line: &Value, key: &str) -> u64 {
    line.get(key).and_then(Value::as_u64).unwrap_or_else(|| panic!("{key} in {line}"))
}

fn exported(line: &Value) -> Vec<(String, String, Value)> {
    let path = line.get("export").and_then(Value::as_str).expect("a path");
    assert!(Path::new(path).is_absolute(), "{path}");
    parse_export(&std::fs::read_to_string(path).unwrap())
}

#[tokio::test]
async fn quickstart_commits_a_table_for_each_object_and_says_so_in_one_line() {
    let dir = TempDir::new().unwrap();
    let ended = quickstart(dir.path(), &["--objects", "50", "--latency-ms", "0", "--describe-ms", "0"]).await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(logs::unexpected(&ended.stderr, &[]), Vec::<String>::new());
    let line = ended.json();
    let order: Vec<_> = RESULT_KEYS.iter().map(|key| ended.stdout.find(&format!("\"{key}\":")).expect(key)).collect();
    assert!(order.is_sorted(), "{}", ended.stdout);
    assert_eq!(line.as_object().unwrap().len(), RESULT_KEYS.len(), "{line}");
    assert_eq!(line.get("state").unwrap(), "committed");
    assert_eq!(line.get("complete").unwrap(), true);
    let counts = ["objects", "entities", "sent", "unchanged", "filtered", "failed", "deleted"];
    let all = u64::try_from(entities_with(50)).unwrap();
    assert_eq!(counts.map(|key| number(&line, key)), [50, all, all, 0, 0, 0, 0]);

    let entities = exported(&line);
    let fqns: Vec<_> = entities.iter().map(|(_, fqn, _)| fqn.clone()).collect();
    assert!(fqns.is_sorted(), "the export is in FQN order");
    let tables = entities.iter().filter(|(kind, _, _)| kind == "table").count();
    assert_eq!(tables, 50);
    let shown = |name: &str| {
        let row = ended.stderr.lines().find_map(|line| line.strip_prefix('│')?.trim().strip_prefix(name));
        row.map(|rest| rest.trim_end_matches('│').trim().to_owned())
    };
    let tags = entities.iter().filter(|(kind, _, _)| kind == "tag").count();
    assert_eq!(shown("tables committed"), Some(tables.to_string()), "{}", ended.stderr);
    assert_eq!(shown("tags"), Some(tags.to_string()), "{}", ended.stderr);
    assert_eq!(shown("all entities"), Some(all.to_string()), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("Summer '27").count(), 1, "advice is given once:\n{}", ended.stderr);
    for step in ["control plane up", "agent connected", "granted", "logged in", "objects listed", "committed"] {
        assert!(ended.stderr.contains(step), "`{step}` is not shown:\n{}", ended.stderr);
    }
}

#[tokio::test]
async fn quickstart_without_once_stays_up_and_stops_cleanly_on_a_signal() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut command = command(&program("quickstart"));
    command.args(["--objects", "20", "--latency-ms", "0", "--data-dir"]).arg(&data);
    let mut running = Running::start(command, &dir.path().join("log"));
    let text = running.until("its first run", |log| log.contains("Ctrl-C stops").then(|| log.to_owned())).await;
    assert_eq!(logs::unexpected(&text, &[]), Vec::<String>::new());
    assert_eq!(running.terminate().await.code(), Some(0));
    assert!(data.join("entities.jsonl").exists());
}

#[tokio::test]
async fn a_thousand_objects_at_50_ms_a_call_take_at_most_60_salesforce_requests() {
    let dir = TempDir::new().unwrap();
    let ended = quickstart(dir.path(), &["--objects", "1000", "--latency-ms", "50", "--describe-ms", "0"]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let line = ended.json();
    let tables = exported(&line).into_iter().filter(|(kind, _, _)| kind == "table").count();
    assert_eq!(tables, 1000);
    assert!(number(&line, "salesforce_requests") <= 60, "{line}");
}

/// The fields of every recorded describe by object, of the recording that the org serves: highest version, most fields.
fn recorded_fields(recordings: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut best: BTreeMap<String, (u32, BTreeSet<String>)> = BTreeMap::new();
    let files = ["describe", "composite"].map(|folder| std::fs::read_dir(recordings.join(folder)).unwrap());
    for file in files.into_iter().flatten() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let recording: Value = serde_json::from_str(&text).unwrap();
        let version = recording.pointer("/request/path").and_then(Value::as_str).and_then(version_in).unwrap_or(0);
        let mut describes = Vec::new();
        collect_describes(recording.pointer("/response/body").unwrap(), &mut describes);
        for (name, fields) in describes {
            let entry = best.entry(name).or_default();
            if (version, fields.len()) > (entry.0, entry.1.len()) {
                *entry = (version, fields);
            }
        }
    }
    best.into_iter().map(|(name, (_, fields))| (name, fields)).collect()
}

fn version_in(path: &str) -> Option<u32> {
    path.split('/').find_map(|part| part.strip_prefix('v')?.strip_suffix(".0")?.parse().ok())
}

/// Whatever has a name and fields is a describe, however deep it lies in an answer.
fn collect_describes(value: &Value, found: &mut Vec<(String, BTreeSet<String>)>) {
    if let (Some(name), Some(fields)) =
        (value.get("name").and_then(Value::as_str), value.get("fields").and_then(Value::as_array))
    {
        let names = fields.iter().filter_map(|field| Some(field.get("name")?.as_str()?.to_owned())).collect();
        found.push((name.to_owned(), names));
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_describes(item, found)),
        Value::Object(members) => members.values().for_each(|member| collect_describes(member, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_recorded_field_becomes_a_column_of_a_known_type() {
    let Some(recordings) = outside::recordings("quickstart on the recordings") else { return };
    let dir = TempDir::new().unwrap();
    let arguments = ["--latency-ms", "0", "--describe-ms", "0", "--recordings"];
    let ended = quickstart(dir.path(), &[&arguments[..], &[recordings.to_str().unwrap()]].concat()).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let line = ended.json();
    let tables: BTreeMap<String, Value> = exported(&line)
        .into_iter()
        .filter(|(kind, _, _)| kind == "table")
        .map(|(_, _, entity)| (entity.get("name").and_then(Value::as_str).unwrap().to_owned(), entity))
        .collect();
    assert_eq!(u64::try_from(tables.len()).unwrap(), number(&line, "objects"));
    assert!(tables.len() >= 787, "{} tables", tables.len());

    let recorded = recorded_fields(&recordings);
    assert!(recorded.len() > 12, "{:?}", recorded.keys());
    for (object, fields) in recorded {
        let table = tables.get(&object).unwrap_or_else(|| panic!("{object} is no table"));
        let columns: BTreeMap<&str, &str> = table
            .get("columns")
            .and_then(Value::as_array)
            .unwrap()
            .iter()
            .map(|column| ["name", "dataType"].map(|key| column.get(key).and_then(Value::as_str).unwrap()))
            .map(|[name, data_type]| (name, data_type))
            .collect();
        for field in fields {
            let data_type = columns.get(field.as_str()).unwrap_or_else(|| panic!("{object}.{field} is no column"));
            assert_ne!(*data_type, "UNKNOWN", "{object}.{field}");
        }
    }
}

#[tokio::test]
async fn a_second_run_of_an_unchanged_org_sends_nothing_again() {
    let _logs = logs::Logs::capture();
    let world = World::new().await;
    let agent = world.start_agent();
    let first = world.run().await;
    let before = world.entities().await;
    let second = world.run().await;
    let (first, second) = (first.figures.unwrap(), second.figures.unwrap());
    let all = u64::try_from(entities_with(40)).unwrap();
    assert_eq!((first.sent, first.unchanged), (all, 0));
    assert_eq!((second.sent, second.unchanged), (0, all));
    assert_eq!(world.entities().await, before);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn the_result_does_not_depend_on_faults_that_pass() {
    let _logs = logs::Logs::capture();
    let calm = World::new().await;
    let agent = calm.start_agent();
    calm.run().await;
    let undisturbed = calm.entities().await;
    agent.stop().await;
    calm.stop().await;

    let world = World::new().await;
    world.org.faults().change(|faults| {
        faults.unavailable_calls = BTreeSet::from([2, 4]);
        faults.reset_calls = BTreeSet::from([5]);
        faults.expire_sessions_after = Some(2);
    });
    let agent = world.start_agent();
    let run = world.run().await;
    assert!(run.complete, "{run:?}");
    let left = world.org.faults().plan();
    assert!(left.expire_sessions_after.is_none(), "the session expired under the run: {left:?}");
    assert_eq!(instances_alike(&world.entities().await), instances_alike(&undisturbed));
    agent.stop().await;
    world.stop().await;
}

/// Entities without what names the org's port: `sourceUrl`, and the hash over it.
fn instances_alike(entities: &[(String, String, Value)]) -> Vec<(String, Value)> {
    entities
        .iter()
        .map(|(_, fqn, entity)| {
            let mut entity = entity.clone();
            if let Some(members) = entity.as_object_mut() {
                members.remove("sourceUrl");
                members.remove("sourceHash");
            }
            (fqn.clone(), entity)
        })
        .collect()
}
