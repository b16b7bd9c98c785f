//! Helm, and the scenarios of the chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hybrid_runner_openmetadata::yaml::documents;
use hybrid_runner_tests::{outside, root};
use serde_json::Value;

/// The chart's folder.
pub(super) fn chart() -> PathBuf {
    root().join("charts/hybrid-runner")
}

/// The documents of a YAML text.
pub(super) fn yaml(text: &str) -> Vec<Value> {
    documents(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A file `ci/NAME-values.yaml`.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Scenario {
    pub(super) fn values(&self) -> Value {
        yaml(&std::fs::read_to_string(&self.path).unwrap()).remove(0)
    }
}

/// Every scenario, in the order of their names.
pub(super) fn scenarios() -> Vec<Scenario> {
    let files = std::fs::read_dir(chart().join("ci")).unwrap().map(|entry| entry.unwrap().path());
    let name =
        |path: &Path| path.file_name().unwrap().to_str().unwrap().strip_suffix("-values.yaml").unwrap().to_owned();
    let mut all: Vec<Scenario> = files.map(|path| Scenario { name: name(&path), path }).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(all.len() >= 6, "{all:?}");
    all
}

/// The program.
pub(super) struct Helm(PathBuf);

impl Helm {
    /// `None`: the case is not run.
    pub(super) fn find(case: &str) -> Option<Self> {
        outside::helm(case).map(Self)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        // Its own folders may be anywhere: nothing is read from or written to them.
        Command::new(&self.0).args(arguments).env_remove("KUBECONFIG").output().unwrap()
    }

    /// What a strict lint remarks fails the case; a missing icon is no remark.
    pub(super) fn lint(&self, values: &Path) {
        let output = self.run(&["lint", "--strict", chart().to_str().unwrap(), "-f", values.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let remarks: Vec<&str> = text.lines().filter(|line| line.contains('[') && !line.contains("icon")).collect();
        assert!(output.status.success() && remarks.is_empty(), "{values:?}: {text}");
    }

    /// What is rendered, or the refusal.
    pub(super) fn template(&self, values: &[&Path], more: &[&str]) -> Result<String, String> {
        self.template_of("crm", values, more)
    }

    fn template_of(&self, release: &str, values: &[&Path], more: &[&str]) -> Result<String, String> {
        let chart = chart();
        let mut arguments = vec!["template", release, chart.to_str().unwrap(), "--namespace", "agents"];
        // Without it helm assumes the version that it was built with.
        arguments.extend(["--kube-version", "1.34.0"]);
        arguments.extend(values.iter().flat_map(|file| ["-f", file.to_str().unwrap()]));
        arguments.extend(more);
        let output = self.run(&arguments);
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    /// The objects of a scenario.
    pub(super) fn objects(&self, scenario: &Scenario) -> Vec<Value> {
        self.objects_of("crm", scenario)
    }

    /// The same under another name of the release.
    pub(super) fn objects_of(&self, release: &str, scenario: &Scenario) -> Vec<Value> {
        let text = self.template_of(release, &[&scenario.path], &[]).unwrap();
        let objects = yaml(&text);
        assert!(objects.len() > 2, "{text}");
        objects
    }
}

/// The object of this kind.
pub(super) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}
