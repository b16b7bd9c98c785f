//! A Prometheus that scrapes an agent and a control plane, twice a second.

use std::path::Path;
use std::time::Duration;

use hybrid_runner_tests::processes::{Running, command};
use hybrid_runner_tests::{install_crypto, within};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The pod that the agent is said to be, as the chart's monitors label what is scraped.
const POD: &str = "crm-hybrid-runner-6d5f7c9b8-x2x7q";

/// The whole text of a page.
pub(super) async fn page(url: &str) -> String {
    let answer = within(url, client().get(url).send()).await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    answer.text().await.unwrap()
}

fn client() -> reqwest::Client {
    install_crypto();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The server.
pub(super) struct Prometheus {
    process: Running,
    url: String,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Prometheus {
    /// It has these rules, and has scraped both addresses.
    pub(super) async fn start(programs: &Path, [agent, plane]: &[String; 2], rules: &Value) -> Self {
        let folder = TempDir::new().unwrap();
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": "agent", "static_configs": [
                    {"targets": [agent], "labels": {"namespace": "agents", "pod": POD}}]},
                {"job_name": "control-plane", "static_configs": [{"targets": [plane]}]},
            ],
        });
        super::write(folder.path(), "prometheus.yaml", &config);
        super::write(folder.path(), "rules.yaml", rules);
        let mut start = command(&programs.join("prometheus"));
        start.args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]);
        start.current_dir(folder.path());
        let mut process = Running::start(start, &folder.path().join("prometheus.log"));
        let address = process
            .until("Prometheus's address", |log| {
                let (_, rest) = log.split_once("msg=\"Listening on\" address=")?;
                log.contains("Server is ready").then(|| rest.split_whitespace().next().map(str::to_owned))?
            })
            .await;
        let prometheus = Self { process, url: format!("http://{address}"), client: client(), _folder: folder };
        prometheus.until_some("count(up == 1) == 2").await;
        prometheus
    }

    /// What a path of the API answers to this form.
    async fn ask(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let request = self.client.post(format!("{}/api/v1/{path}", self.url)).form(form);
        let answer = within(path, request.send()).await.unwrap().text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{form:?}: {answer}");
        answer["data"].take()
    }

    async fn look(&self, path: &str) -> Value {
        let mut answer: Value = serde_json::from_str(&page(&format!("{}/api/v1/{path}", self.url)).await).unwrap();
        answer["data"].take()
    }

    /// What an expression is now; an error in it fails the case.
    pub(super) async fn query(&self, expression: &str) -> Vec<Value> {
        let found = self.ask("query", &[("query", expression)]).await;
        found["result"].as_array().unwrap().clone()
    }

    /// What an expression is as soon as it is something.
    pub(super) async fn until_some(&self, expression: &str) -> Vec<Value> {
        // The next scrape tells nobody that it took place.
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        within(expression, async {
            loop {
                ticks.tick().await;
                let found = self.query(expression).await;
                if !found.is_empty() {
                    return found;
                }
            }
        })
        .await
    }

    /// The series that a selector has found so far.
    pub(super) async fn series(&self, selector: &str) -> Vec<Value> {
        self.ask("series", &[("match[]", selector)]).await.as_array().unwrap().clone()
    }

    /// Every scrape and every rule went well.
    pub(super) async fn assert_content(&self) {
        let targets = self.look("targets").await;
        for target in targets["activeTargets"].as_array().unwrap() {
            assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");
        }
        // The older format has no such type: this one was agreed on.
        let known = self.look("metadata").await;
        for metric in ["hybrid_runner_build", "control_plane_build"] {
            assert_eq!(known[metric][0]["type"], "info", "{metric}: {known}");
        }
        for rule in super::Asked::rules(&self.look("rules").await) {
            assert_eq!((&rule["health"], rule.get("lastError")), (&"ok".into(), None), "{rule}");
        }
        let own = page(&format!("{}/metrics", self.url)).await;
        for metric in [
            "prometheus_target_scrapes_sample_duplicate_timestamp_total",
            "prometheus_target_scrapes_sample_out_of_order_total",
            "prometheus_target_scrapes_sample_out_of_bounds_total",
        ] {
            assert!(own.lines().any(|line| line == format!("{metric} 0")), "{metric} in\n{own}");
        }
        let log = self.process.log();
        assert!(!log.contains("level=warn") && !log.contains("level=error"), "{log}");
    }
}
