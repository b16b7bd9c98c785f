//! The expressions of rules and of a dashboard, and what they ask for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What stands before the name of each metric of the agent.
const PREFIX: &str = "hybrid_runner_";

/// One expression, as Prometheus gets it.
#[derive(Debug)]
pub(super) struct Asked {
    /// The alert, or the panel.
    pub(super) name: String,
    pub(super) expression: String,
    /// What is made of its result's labels.
    text: String,
}

impl Asked {
    /// The rules in all groups.
    pub(super) fn rules(rules: &Value) -> impl Iterator<Item = &Value> {
        let groups = rules["groups"].as_array().unwrap().iter();
        let rules: Vec<&Value> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
        assert!(rules.len() > 3, "{rules:?}");
        rules.into_iter()
    }

    /// Those of the rules.
    pub(super) fn of_rules(rules: &Value) -> impl Iterator<Item = Self> {
        Self::rules(rules).map(|rule| Self {
            name: rule["alert"].as_str().unwrap().to_owned(),
            expression: rule["expr"].as_str().unwrap().to_owned(),
            text: rule["annotations"]["summary"].as_str().unwrap().replace("$labels.", ""),
        })
    }

    /// Those of the panels, for the namespace `agents`, with what Grafana puts in the place of its variables.
    pub(super) fn of_dashboard(dashboard: &Value) -> impl Iterator<Item = Self> {
        let panels = dashboard["panels"].as_array().unwrap();
        assert!(panels.len() > 5, "{panels:?}");
        let targets =
            panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap().iter().map(move |of| (panel, of)));
        targets.map(|(panel, target)| {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression.replace("$namespace", "agents").replace("$__rate_interval", "1m");
            assert!(!expression.contains('$'), "a variable that this case does not know: {expression}");
            Self {
                name: panel["title"].as_str().unwrap().to_owned(),
                expression,
                text: target["legendFormat"].as_str().unwrap().to_owned(),
            }
        })
    }

    /// Each metric that it names, with what stands in its braces.
    pub(super) fn selectors(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, _) in self.expression.match_indices(PREFIX) {
            let (_, rest) = self.expression.split_at(at);
            let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, rest) = rest.split_at(name);
            let (braces, _) = rest.split_at(if rest.starts_with('{') { closing(rest) } else { 0 });
            found.insert(format!("{name}{braces}"));
        }
        assert!(!found.is_empty(), "{self:?}");
        found
    }

    /// The labels that it groups by, and those that its text shows.
    pub(super) fn labels(&self) -> BTreeSet<String> {
        let grouped = self.expression.split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split(','));
        let shown = self.text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap());
        grouped.chain(shown).map(|label| label.trim().to_owned()).collect()
    }
}

/// Where the braces that it begins with end; a regular expression in quotes may have braces of its own.
fn closing(text: &str) -> usize {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '}' if !quoted => return at + 1,
            _ => {}
        }
    }
    panic!("no end in {text}")
}

/// A page of OpenMetrics in Prometheus' older format, which its linter reads: there a counter's family bears the name of its
/// series, and there is no type `info`.
pub(super) fn classic(page: &str) -> String {
    let described = |line: &str, what: &str| -> Option<(String, String)> {
        let (name, rest) = line.strip_prefix(what)?.split_once(' ')?;
        Some((name.to_owned(), rest.to_owned()))
    };
    let types: BTreeMap<String, String> = page.lines().filter_map(|line| described(line, "# TYPE ")).collect();
    let renamed = |name: String| match types[&name].as_str() {
        "counter" => name + "_total",
        "info" => name + "_info",
        _ => name,
    };
    let mut text = String::new();
    for line in page.lines().filter(|line| *line != "# EOF") {
        let line = if let Some((name, help)) = described(line, "# HELP ") {
            format!("# HELP {} {help}", renamed(name))
        } else if let Some((name, kind)) = described(line, "# TYPE ") {
            format!("# TYPE {} {}", renamed(name), if kind == "info" { "gauge" } else { &kind })
        } else {
            line.to_owned()
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}
