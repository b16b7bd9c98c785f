//! `hybrid-runner config schema`

use std::path::Path;

use super::CommandError;
use super::terminal::Terminal;
use crate::config::{self, Environment, Settings};

pub(super) fn run(
    config: Option<&Path>,
    json: bool,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    if config.is_some() {
        Settings::load(config, environment)?;
    }
    let schema = config::json_schema();
    let text = if json { serde_json::to_string(&schema) } else { serde_json::to_string_pretty(&schema) };
    let text = text.map_err(|error| CommandError::failed_by(&error))?;
    terminal.print(&text)
}
