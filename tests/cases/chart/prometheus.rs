//! What the chart asks of Prometheus, put to a real one: alerts fire when they should and not otherwise, and nothing asks for
//! what the programs do not show.

mod asked;
mod server;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use hybrid_runner_tests::deployment::{Deployment, PLANE, assert_ends_well, committed};
use hybrid_runner_tests::processes::Running;
use hybrid_runner_tests::{outside, root};
use serde_json::Value;
use tempfile::TempDir;

use super::helm::{Helm, of_kind, scenarios, yaml};
use asked::Asked;
use server::{Prometheus, page};

/// The rules of a release `crm`, with these values, if it has any.
fn rules(helm: &Helm, values: &Path, more: &[&str]) -> Option<Value> {
    let objects = yaml(&helm.template(&[values], more).unwrap());
    let rules = objects.into_iter().find(|object| object["kind"] == "PrometheusRule")?;
    Some(rules["spec"].clone())
}

/// Those of a release that sets little else, and its dashboard.
fn of_the_chart(helm: &Helm) -> (Value, Value) {
    let switched_on = ["--set", "prometheusRule.enabled=true,grafanaDashboard.enabled=true"];
    let scenario = scenarios().into_iter().find(|scenario| scenario.name == "minimal-token").unwrap();
    let objects = yaml(&helm.template(&[&scenario.path], &switched_on).unwrap());
    let maps = objects.iter().filter(|object| object["kind"] == "ConfigMap");
    let text = maps.filter_map(|map| map["data"]["hybrid-runner.json"].as_str()).next().unwrap();
    (of_kind(&objects, "PrometheusRule")["spec"].clone(), serde_json::from_str(text).unwrap())
}

/// What promtool says, and whether it was content.
fn promtool(programs: &Path, arguments: &[&str], folder: &Path, input: Option<&Path>) -> (bool, String) {
    let input = input.map_or_else(Stdio::null, |input| std::fs::File::open(input).unwrap().into());
    let mut promtool = Command::new(programs.join("promtool"));
    let output = promtool.args(arguments).current_dir(folder).stdin(input).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.success(), said)
}

fn write(folder: &Path, name: &str, value: &Value) {
    std::fs::write(folder.join(name), serde_json::to_string_pretty(value).unwrap()).unwrap();
}

#[test]
fn prometheus_takes_the_rules_of_every_scenario_that_has_some() {
    let case = "rules for Prometheus";
    let (Some(helm), Some(programs)) = (Helm::find(case), outside::prometheus(case)) else { return };
    let folder = TempDir::new().unwrap();
    let mut taken = 0;
    for scenario in scenarios() {
        for more in [&[][..], &["--set", "prometheusRule.enabled=true"]] {
            let Some(rules) = rules(&helm, &scenario.path, more) else { continue };
            write(folder.path(), "rules.yaml", &rules);
            let (content, said) = promtool(&programs, &["check", "rules", "rules.yaml"], folder.path(), None);
            let count = rules["groups"][0]["rules"].as_array().unwrap().len();
            assert!(content && said.contains(&format!("{count} rules found")), "{}: {said}", scenario.name);
            taken += 1;
        }
    }
    assert!(taken > scenarios().len(), "no scenario has rules of its own");
}

#[test]
fn each_alert_fires_for_what_it_tells_of_and_for_nothing_else() {
    let case = "alerts";
    let (Some(helm), Some(programs)) = (Helm::find(case), outside::prometheus(case)) else { return };
    let (rules, _) = of_the_chart(&helm);
    let folder = TempDir::new().unwrap();
    write(folder.path(), "rules.yaml", &rules);
    let cases = root().join("tests/fixtures/prometheus/alerts.yaml");
    std::fs::copy(&cases, folder.path().join("alerts.yaml")).unwrap();
    let (content, said) = promtool(&programs, &["test", "rules", "alerts.yaml"], folder.path(), None);
    assert!(content, "{said}");

    let alerts: BTreeSet<&str> = Asked::rules(&rules).filter_map(|rule| rule["alert"].as_str()).collect();
    let cases = yaml(&std::fs::read_to_string(cases).unwrap()).remove(0);
    let tried = cases["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let (silent, firing): (Vec<&Value>, Vec<&Value>) =
        tried.partition(|tried| tried["exp_alerts"].as_array().unwrap().is_empty());
    for (which, tried) in [("silent", silent), ("firing", firing)] {
        let tried: BTreeSet<&str> = tried.into_iter().map(|tried| tried["alertname"].as_str().unwrap()).collect();
        assert_eq!(tried, alerts, "alerts that have a {which} case");
    }
}

/// Both programs with an org, and where they are scraped.
struct Scraped {
    deployment: Deployment,
    org: Running,
    plane: Running,
    agent: Running,
    /// Of the agent, and of the control plane.
    addresses: [String; 2],
}

/// Both answer scrapes.
const HEALTH: &str = "health: {listen: '127.0.0.1:0'}";

/// Where the pages are, as a program logged it.
fn address(log: &str, line: &str, before: &str) -> Option<String> {
    let (_, rest) = log.lines().find(|logged| logged.contains(line))?.split_once(before)?;
    Some(rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect())
}

impl Scraped {
    /// They have committed the first run; each takes so long that it is scraped.
    async fn start() -> Self {
        let deployment = Deployment::written(&["--objects", "240", "--describe-ms", "50"]).await;
        deployment.change(PLANE, "agents: agents.yaml", &format!("agents: agents.yaml\n{HEALTH}"));
        deployment.change("hybrid-runner.yaml", "salesforce:", &format!("{HEALTH}\nsalesforce:"));
        let org = deployment.start_org().await;
        let mut plane = deployment.start_plane("plane.log").await;
        let mut agent = deployment.start_agent("agent.log");
        let of_plane = |log: &str| address(log, "control plane listens", "health_addr=Some(");
        let of_agent = |log: &str| address(log, "probes and scrapes are answered", "address=");
        let addresses = [
            agent.until("the agent's address", of_agent).await,
            plane.until("the control plane's address", of_plane).await,
        ];
        plane.until("the first commit", |log| committed(log, "")).await;
        Self { deployment, org, plane, agent, addresses }
    }

    /// One run is committed, and then one fails, whose password is not there.
    async fn two_runs(&mut self) {
        let run_id = self.deployment.trigger(&["--full"]).await;
        self.plane.until("the second commit", |log| committed(log, &run_id)).await;
        std::fs::remove_file(self.deployment.dir.path().join("secrets/salesforce/quickstart/password")).unwrap();
        self.deployment.trigger(&[]).await;
        let failed =
            |log: &str| log.lines().any(|line| line.contains("run failed reason=SECRET_UNAVAILABLE")).then_some(());
        self.agent.until("a failed run", failed).await;
    }
}

#[tokio::test]
async fn a_real_prometheus_scrapes_both_programs_and_finds_all_that_dashboard_and_alerts_ask_for() {
    let case = "scrapes of a real Prometheus";
    let (Some(helm), Some(programs)) = (Helm::find(case), outside::prometheus(case)) else { return };
    let (rules, dashboard) = of_the_chart(&helm);
    let mut scraped = Scraped::start().await;
    let prometheus = Prometheus::start(&programs, &scraped.addresses, &rules).await;
    let active = "max_over_time(hybrid_runner_runs_active[1h]) == 1";
    scraped.two_runs().await;
    assert_eq!(prometheus.until_some(active).await.len(), 1, "it scraped while a run was under way");

    // What happened is told, and nothing else is.
    for (alert, labels) in [
        ("HybridRunnerRunsFail", [("reason", "SECRET_UNAVAILABLE")].as_slice()),
        ("HybridRunnerSecretsUnreadable", &[("store", "file"), ("outcome", "not_found")]),
    ] {
        let told = prometheus.until_some(&format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}")).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(labels.iter().all(|(name, value)| told[0]["metric"][name] == *value), "{told:?}");
    }
    assert_eq!(prometheus.query("ALERTS{alertstate=\"firing\"}").await.len(), 2);

    for asked in Asked::of_rules(&rules).chain(Asked::of_dashboard(&dashboard)) {
        prometheus.query(&asked.expression).await;
        let mut labels = asked.labels();
        for selector in asked.selectors() {
            let series = prometheus.series(&selector).await;
            assert!(!series.is_empty(), "nothing has ever shown {selector}, which is asked for by {asked:?}");
            labels.retain(|label| series.iter().all(|series| series.get(label).is_none()));
        }
        assert!(labels.is_empty(), "no series of {asked:?} has the labels {labels:?}");
    }
    for panel in Asked::of_dashboard(&dashboard) {
        prometheus.until_some(&panel.expression).await;
    }
    // The first of its kind is drawn, which no increase shows.
    let ended = Asked::of_dashboard(&dashboard).find(|asked| asked.name == "Runs that ended").unwrap();
    let drawn = prometheus.query(&format!("{} >= 1", ended.expression)).await;
    assert!(drawn.iter().any(|series| series["metric"]["end"] == "failed"), "{drawn:?}");

    prometheus.assert_content().await;
    for address in &scraped.addresses {
        assert_clean(&programs, &page(&format!("http://{address}/metrics")).await);
    }
    let Scraped { org, plane, agent, .. } = scraped;
    assert_ends_well([agent, plane, org]).await;
}

/// No series is on the page twice, and the linter has no remark.
fn assert_clean(programs: &Path, page: &str) {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let mut seen = BTreeSet::new();
    for (series, _) in samples.map(|line| line.rsplit_once(' ').unwrap()) {
        assert!(seen.insert(series), "{series} is there twice");
    }
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("page"), asked::classic(page)).unwrap();
    let (content, said) = promtool(programs, &["check", "metrics"], folder.path(), Some(&folder.path().join("page")));
    assert!(content && said.is_empty(), "{said}\n{page}");
}
