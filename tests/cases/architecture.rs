//! The shape of the house: who may know whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which of our crates may use which. `tests` may use all; `sandbox` is otherwise a dev-dependency only.
const CRATE_EDGES: &[(&str, &[&str])] = &[
    ("hybrid-runner-proto", &[]),
    ("hybrid-runner-observability", &[]),
    ("hybrid-runner-secrets", &[]),
    ("hybrid-runner-openmetadata", &[]),
    ("hybrid-runner-connector", &["hybrid-runner-secrets"]),
    ("hybrid-runner-salesforce", &["hybrid-runner-connector", "hybrid-runner-openmetadata", "hybrid-runner-secrets"]),
    (
        "hybrid-runner",
        &[
            "hybrid-runner-proto",
            "hybrid-runner-observability",
            "hybrid-runner-connector",
            "hybrid-runner-secrets",
            "hybrid-runner-salesforce",
            "hybrid-runner-openmetadata",
        ],
    ),
    ("control-plane", &["hybrid-runner-proto", "hybrid-runner-observability", "hybrid-runner-openmetadata"]),
    ("sandbox", &[]),
    ("hybrid-runner-conformance", &["hybrid-runner-proto"]),
    ("quickstart", &["hybrid-runner", "control-plane", "sandbox"]),
    (
        "simulation",
        &[
            "hybrid-runner",
            "control-plane",
            "hybrid-runner-connector",
            "hybrid-runner-openmetadata",
            "hybrid-runner-secrets",
        ],
    ),
];

/// Which module of the runner's flow may use which; `agent` and `commands` may use all, the base nobody of the flow.
const RUNNER_EDGES: &[(&str, &[&str])] = &[
    ("session", &[]),
    ("lease", &["session"]),
    ("plan", &[]),
    ("preflight", &[]),
    ("doctor", &["session", "plan", "preflight"]),
    ("upload", &["session"]),
    ("run", &["lease", "plan", "upload"]),
    ("status", &["session"]),
    ("clock", &[]),
    ("dial", &[]),
    ("retry", &[]),
    ("event", &[]),
    ("telemetry", &[]),
    ("runlog", &[]),
    ("tripwire", &[]),
    ("hardening", &[]),
    ("health", &[]),
    ("metrics", &[]),
    ("otel", &[]),
    ("config", &[]),
];
const RUNNER_BASE: &[&str] =
    &["clock", "dial", "retry", "event", "telemetry", "runlog", "tripwire", "config", "metrics", "otel"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies below the workspace").to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec!["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo metadata answers")
}

#[test]
fn our_crates_use_only_the_crates_they_may() {
    let metadata = metadata();
    let ours: BTreeSet<String> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let allowed: BTreeMap<&str, &[&str]> = CRATE_EDGES.iter().copied().collect();
    for package in metadata.workspace_packages() {
        if package.name.as_str() == "hybrid-runner-tests" {
            continue;
        }
        let allowed = allowed.get(package.name.as_str()).unwrap_or_else(|| panic!("{} has no row", package.name));
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if !ours.contains(name) || allowed.contains(&name) {
                continue;
            }
            let test_peer = name == "sandbox" && dependency.kind == DependencyKind::Development;
            assert!(test_peer, "{} must not depend on {name}", package.name);
        }
    }
}

#[test]
fn there_is_one_tls_stack_and_one_crypto_provider() {
    // Not `cargo metadata`: its graph unites the features of all targets and lists what no build has.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"])
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&tree.stdout).lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    for banned in ["ring", "openssl-sys", "native-tls", "rusqlite", "serde_yaml"] {
        assert!(!versions.contains_key(banned), "{banned} is in the graph");
    }
    for single in ["rustls", "aws-lc-rs", "tonic", "prost", "hyper", "h2", "reqwest", "tokio"] {
        let found = versions.get(single).unwrap_or_else(|| panic!("{single} is not in the graph"));
        assert_eq!(found.len(), 1, "{single}: {found:?}");
    }
}

/// Every `crate::module` that a source file names outside its own module and outside comments.
fn modules_used(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| {
            line.match_indices("crate::").map(move |(at, found)| line.get(at + found.len()..).unwrap_or_default())
        })
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split([',', '}']).map(str::trim).map(str::to_owned).collect::<Vec<_>>(),
            None => vec![rest.to_owned()],
        })
        .map(|path| path.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>())
        .filter(|module| !module.is_empty())
        .collect()
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            rust_files(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

#[test]
fn the_modules_of_the_runner_use_only_the_modules_they_may() {
    let source = root().join("runner/src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 8, "the runner has its modules: {files:?}");
    let edges: BTreeMap<&str, &[&str]> = RUNNER_EDGES.iter().copied().collect();
    let mut checked = 0;
    for file in files {
        let inside = file.strip_prefix(&source).expect("below the source folder");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().replace(".rs", "");
        let Some(allowed) = edges.get(first.as_str()) else {
            assert!(
                ["lib", "main", "agent", "commands"].contains(&first.as_str()),
                "{} belongs to no module of HOUSE_STYLE §1",
                inside.display()
            );
            continue;
        };
        checked += 1;
        for used in modules_used(&fs::read_to_string(&file).expect("readable")) {
            let base = RUNNER_BASE.contains(&used.as_str()) && !RUNNER_BASE.contains(&first.as_str());
            assert!(
                used == first || base || allowed.contains(&used.as_str()) || RUNNER_BASE.contains(&used.as_str()),
                "runner/src/{} must not use crate::{used}",
                inside.display()
            );
        }
    }
    assert!(checked > 8, "only {checked} files of the flow were looked at");
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    let mut files = Vec::new();
    for package in metadata().workspace_packages() {
        let source = package.manifest_path.parent().expect("a folder").join("src");
        rust_files(source.as_std_path(), &mut files);
    }
    let long: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let text = fs::read_to_string(file).expect("readable");
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(&text);
            (code.lines().count() > 600).then(|| format!("{}: {}", file.display(), code.lines().count()))
        })
        .collect();
    assert!(long.is_empty(), "more than one subject in one file: {long:?}");
}

#[test]
fn every_reason_of_the_wire_has_a_row_in_the_operators_manual_and_no_other_has() {
    let catalogue = fs::read_to_string(root().join("proto/hybrid/runner/v1/reason.proto")).expect("the catalogue");
    let reasons: BTreeSet<&str> = catalogue
        .lines()
        .filter_map(|line| line.trim().strip_prefix("REASON_")?.split(' ').next())
        .filter(|reason| *reason != "UNSPECIFIED")
        .collect();
    let manual = fs::read_to_string(root().join("docs/operations.md")).expect("the manual");
    let rows: BTreeSet<&str> = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    assert_eq!(rows, reasons);
}

#[test]
fn every_promise_of_the_guarantees_and_of_the_security_page_names_a_test_that_exists() {
    let mut files = Vec::new();
    for package in metadata().workspace_packages() {
        for folder in ["src", "tests", "cases", "traces"] {
            let folder = package.manifest_path.parent().expect("a folder").join(folder);
            if folder.exists() {
                rust_files(folder.as_std_path(), &mut files);
            }
        }
    }
    let code: String = files.iter().map(|file| fs::read_to_string(file).expect("readable")).collect();
    let page = |name: &str| fs::read_to_string(root().join("docs").join(name)).expect(name);
    let guarantees = page("guarantees.md") + &page("security.md");
    let mut named = 0;
    for row in guarantees.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let tests = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        for test in tests.split('`').filter(|part| part.contains('_')) {
            named += 1;
            let is_function = [format!("fn {test}("), format!("fn {test}<")];
            assert!(is_function.iter().any(|form| code.contains(form)), "no test is called {test}");
        }
    }
    assert!(named > 25, "only {named} tests are named");
}
