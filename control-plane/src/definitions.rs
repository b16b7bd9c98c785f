//! The pipelines folder: `*.yaml`, `*.yml` and `*.json`, each an OpenMetadata workflow with an optional second document.
//!
//! The folder is read every second, whole: it holds a handful of small files, and comparing what they say is simpler and
//! surer than comparing times. A file that cannot be used is kept out and named with its error; a pipeline whose file
//! turned bad keeps its last good definition, as its error says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hybrid_runner_openmetadata::workflow::PipelineFile;
use jiff::Timestamp;

use crate::schedule::Schedule;
use crate::store::{Fault, NewDefinition, ScheduleText};

/// Pipelines of one folder. More are a mistake: the folder is the wrong one.
const MAX_FILES: usize = 1_000;

/// What agents take at most of all workflows together, in bytes: they keep what they are sent (docs/protocol.md).
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A workflow as it travels, in bytes: it fits a control message of 256 KiB with room for the rest.
pub const MAX_WORKFLOW_BYTES: usize = 192 * 1024;

/// A pipeline's name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// What a folder says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definitions {
    /// The pipelines, by name.
    pub definitions: Vec<NewDefinition>,
    /// Files that cannot be used, by name.
    pub faults: Vec<Fault>,
}

/// The folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the pipelines folder {}", path.display())]
pub struct FolderError {
    /// The folder.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// The files of a folder with their texts; an unreadable one has its error.
pub type Files = BTreeMap<String, Result<String, String>>;

/// Reads the folder's files.
///
/// # Errors
/// [`FolderError`] when the folder itself cannot be read.
///
/// # Cancel safety
/// Yes: it only reads.
pub async fn read_folder(path: &Path) -> Result<Files, FolderError> {
    let failed = |source| FolderError { path: path.to_owned(), source };
    let mut folder = tokio::fs::read_dir(path).await.map_err(failed)?;
    let mut files = Files::new();
    while let Some(entry) = folder.next_entry().await.map_err(failed)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Hidden files are editors' and Kubernetes' own.
        if name.starts_with('.') || !is_pipeline_file(Path::new(&name)) {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(failed(std::io::Error::other(format!("it has more than {MAX_FILES} pipeline files"))));
        }
        let text = tokio::fs::read_to_string(entry.path()).await.map_err(|error| error.to_string());
        files.insert(name, text);
    }
    Ok(files)
}

fn is_pipeline_file(name: &Path) -> bool {
    name.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

/// Makes definitions of files. Of two files with one pipeline name, the first by file name has it.
#[must_use]
pub fn parse(files: &Files, now: Timestamp) -> Definitions {
    let mut pipelines: BTreeMap<String, NewDefinition> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut bytes = 0;
    for (file, text) in files {
        let parsed = text.as_ref().map_err(|error| format!("cannot be read: {error}"));
        match parsed.and_then(|text| definition(file, text, now)) {
            Err(error) => faults.push(Fault { file: file.clone(), error }),
            Ok(definition) => match pipelines.get(&definition.pipeline) {
                Some(other) => faults.push(Fault {
                    file: file.clone(),
                    error: format!(
                        "pipeline {} is defined by {} already; give one of them another `name` in a second document",
                        definition.pipeline, other.file
                    ),
                }),
                None if bytes + definition.pipeline.len() + definition.workflow_json.len() > MAX_BYTES => {
                    let error = "the workflows of the folder have more than 16 MiB together; accepted: at most that";
                    faults.push(Fault { file: file.clone(), error: error.to_owned() });
                }
                None => {
                    bytes += definition.pipeline.len() + definition.workflow_json.len();
                    pipelines.insert(definition.pipeline.clone(), definition);
                }
            },
        }
    }
    Definitions { definitions: pipelines.into_values().collect(), faults }
}

fn definition(file: &str, text: &str, now: Timestamp) -> Result<NewDefinition, String> {
    let parsed = PipelineFile::from_yaml(text).map_err(|error| error.to_string())?;
    let stem = || Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = parsed.name.or(parsed.workflow.ingestion_pipeline_fqn).or_else(stem).unwrap_or_default();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(format!("name: accepted: 1 to {MAX_NAME_BYTES} bytes without control characters"));
    }
    if parsed.workflow_json.len() > MAX_WORKFLOW_BYTES {
        let found = parsed.workflow_json.len();
        return Err(format!("the workflow has {found} bytes as JSON; accepted: at most {MAX_WORKFLOW_BYTES}"));
    }
    let schedule = parsed.schedule.map(|schedule| ScheduleText { cron: schedule.cron, timezone: schedule.timezone });
    if let Some(schedule) = &schedule {
        Schedule::parse(schedule, now).map_err(|error| error.to_string())?;
    }
    Ok(NewDefinition {
        pipeline: name,
        file: file.to_owned(),
        source: parsed.workflow.source.kind,
        mark_deleted: parsed.workflow.source.options.mark_deleted_tables,
        workflow_json: parsed.workflow_json,
        schedule,
        enabled: parsed.enabled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKFLOW: &str = r"
source:
  type: salesforce
  serviceName: crm
  serviceConnection: {config: {type: Salesforce, username: u, password: 'secret:/a'}}
  sourceConfig: {config: {type: DatabaseMetadata}}
";

    fn parse_all(files: &[(&str, &str)]) -> Definitions {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), Ok((*text).to_owned()))).collect();
        parse(&files, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_pipeline_is_named_by_its_second_document_its_fqn_or_its_file() {
        let fqn = format!("ingestionPipelineFQN: crm.metadata\n{WORKFLOW}");
        let named = format!("{fqn}\n---\nname: nightly\nschedule: {{cron: '0 2 * * *', timezone: Europe/Berlin}}\n");
        let parsed = parse_all(&[("a.yaml", WORKFLOW), ("b.yml", &fqn), ("c.yaml", &named)]);
        assert_eq!(parsed.faults, []);
        let names: Vec<&str> = parsed.definitions.iter().map(|new| new.pipeline.as_str()).collect();
        assert_eq!(names, ["a", "crm.metadata", "nightly"]);
        assert!(parsed.definitions[2].schedule.is_some());
        assert_eq!(parsed.definitions[0].source, "salesforce");
    }

    #[test]
    fn workflows_of_more_bytes_than_agents_take_are_kept_out_and_named() {
        let long = WORKFLOW.replace("username: u,", &format!("username: {},", "u".repeat(150 * 1024)));
        let names: Vec<String> = (0..115).map(|number| format!("{number:03}.yaml")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), long.as_str())).collect();
        let parsed = parse_all(&files);
        let bytes: usize = parsed.definitions.iter().map(|new| new.pipeline.len() + new.workflow_json.len()).sum();
        assert!(bytes <= MAX_BYTES && bytes + 151 * 1024 > MAX_BYTES, "{bytes}");
        assert_eq!(parsed.definitions.len() + parsed.faults.len(), names.len());
        assert!(parsed.faults.iter().all(|fault| fault.error.contains("16 MiB")), "{:?}", parsed.faults);
    }

    #[test]
    fn a_bad_file_is_kept_out_and_named() {
        let scheduled = format!("{WORKFLOW}\n---\nschedule: {{cron: '0 0 30 2 *'}}\n");
        let duplicate = format!("{WORKFLOW}\n---\nname: good\n");
        let parsed = parse_all(&[
            ("bad.yaml", "source: ["),
            ("good.yaml", WORKFLOW),
            ("never.yaml", &scheduled),
            ("other.yaml", &duplicate),
        ]);
        assert_eq!(parsed.definitions.len(), 1);
        let files: Vec<&str> = parsed.faults.iter().map(|fault| fault.file.as_str()).collect();
        assert_eq!(files, ["bad.yaml", "never.yaml", "other.yaml"]);
        assert!(parsed.faults[1].error.starts_with("schedule.cron: never"), "{}", parsed.faults[1].error);
        assert!(parsed.faults[2].error.contains("good.yaml"));
    }
}
