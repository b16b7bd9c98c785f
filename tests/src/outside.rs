//! What a case needs from outside the repository. Absent, it fails where `CI` is set and is counted as not run elsewhere.

use std::io::Write as _;
use std::path::PathBuf;

use crate::root;

/// The recorded Salesforce responses; `None`: not run.
#[must_use]
pub fn recordings(case: &str) -> Option<PathBuf> {
    needs(case, root().join("../shared/fixtures/salesforce"), "put the recordings there, in the layout of their README")
}

/// OpenMetadata's JSON schemas; `None`: not run.
#[must_use]
pub fn schemas(case: &str) -> Option<PathBuf> {
    needs(case, root().join("../shared/schemas/openmetadata"), "put OpenMetadata's JSON schemas 1.13 and 2.0 there")
}

/// The linter of the .proto files; `None`: not run.
#[must_use]
pub fn buf(case: &str) -> Option<PathBuf> {
    needs(case, root().join("target/peers/node_modules/.bin/buf"), "run tools/peers (it needs npm)")
}

fn needs(case: &str, path: PathBuf, how: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let absent = format!("{case}: {} is absent; {how}", path.display());
    assert!(std::env::var_os("CI").is_none(), "{absent}");
    not_run(&absent);
    None
}

/// Counts a case as not run. `./test` prints these lines at its end.
pub fn not_run(line: &str) {
    if let Some(file) = std::env::var_os("HYBRID_RUNNER_NOT_RUN") {
        let mut file =
            std::fs::OpenOptions::new().append(true).create(true).open(file).expect("the list of cases not run");
        writeln!(file, "{line}").expect("append to the list of cases not run");
    }
}
