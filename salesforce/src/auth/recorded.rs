//! Answers of real orgs, for the tests beside the code.

use std::path::Path;

use serde_json::Value;

/// A recorded exchange; `None`, after saying so, where the recordings are not there. CI has them.
#[expect(clippy::print_stdout, reason = "says what was not run")]
pub(super) fn recorded(file: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/salesforce/misc").join(file);
    if let Ok(text) = std::fs::read_to_string(path) {
        return Some(serde_json::from_str(&text).unwrap());
    }
    let hint = format!(
        "not run: no ../shared/fixtures/salesforce/misc/{file} beside the repository; put the shared folder there"
    );
    assert!(std::env::var_os("CI").is_none(), "{hint}");
    println!("{hint}");
    None
}
