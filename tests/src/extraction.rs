//! `hybrid-runner extract` as a program of its own, against a sandbox org in this process.

use std::path::PathBuf;

use sandbox::{FaultPlan, Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};
use tempfile::TempDir;
use tokio::process::Command;

use crate::install_crypto;
use crate::processes::{Output, command, output, program};
use crate::world::write;

/// The connection of a SOAP login whose secrets are in the store.
pub const SOAP: &str = "username: integration@example.com
password: secret:/salesforce/password
securityToken: secret:/salesforce/token
";

/// The connection of an OAuth login whose secret is in the store.
pub const OAUTH: &str = "consumerKey: sandbox-consumer-key
consumerSecret: secret:/salesforce/consumer-secret
";

/// [`SOAP`] at the host that the configuration of an [`Extraction`] lists.
#[must_use]
pub fn soap_at_localhost() -> String {
    format!("{SOAP}salesforceDomain: localhost\n")
}

/// A folder with a workflow, its secrets and a configuration, and the org that they are for.
#[derive(Debug)]
pub struct Extraction {
    /// The folder: `workflow.yaml`, `config.yaml`, `ca.pem`, `secrets/`.
    pub dir: TempDir,
    /// The org.
    pub org: SandboxHandle,
}

impl Extraction {
    /// A healthy org of 30 objects and a workflow that reads all of it.
    pub async fn new() -> Self {
        Self::with(OrgConfig { objects: 30, ..OrgConfig::default() }, FaultPlan::default()).await
    }

    /// One that differs. The secrets are what the org accepts.
    pub async fn with(config: OrgConfig, faults: FaultPlan) -> Self {
        install_crypto();
        let org = Org::new(&config).unwrap();
        let org = Sandbox::start(org, ServerConfig { faults, ..ServerConfig::default() }).await.unwrap();
        let made = Self { dir: TempDir::new().unwrap(), org };
        let login = made.org.credentials();
        made.secret("password", &login.password);
        made.secret("token", &login.security_token);
        made.secret("consumer-secret", &login.consumer_secret);
        made.write("ca.pem", made.org.ca_pem());
        made.hosts(made.org.addr().port());
        made.workflow(&soap_at_localhost(), "");
        made
    }

    /// Writes a file of the folder.
    pub fn write(&self, name: &str, text: &str) {
        write(self.dir.path(), name, text);
    }

    /// Sets a secret: `secret:/salesforce/NAME`.
    pub fn secret(&self, name: &str, value: &str) {
        self.write(&format!("secrets/salesforce/{name}"), value);
    }

    /// Lists `localhost` with this port in the configuration.
    pub fn hosts(&self, port: u16) {
        let text = format!("salesforce:\n  hosts: [{{host: localhost, port: {port}, ca: ca.pem}}]\n");
        self.write("config.yaml", &text);
    }

    /// Writes the workflow from the lines of its connection and of its options, both without indentation.
    pub fn workflow(&self, connection: &str, options: &str) {
        self.write("workflow.yaml", &workflow_yaml(connection, options));
    }

    /// `hybrid-runner extract -c workflow.yaml` in the folder, and nothing else.
    #[must_use]
    pub fn bare(&self) -> Command {
        let mut command = command(&program("hybrid-runner"));
        command.current_dir(self.dir.path()).args(["extract", "-c", "workflow.yaml"]);
        command
    }

    /// With the secrets of the folder, into `out.jsonl`.
    #[must_use]
    pub fn to_file(&self) -> Command {
        let mut command = self.bare();
        command.args(["--secrets", "file:secrets", "--out", "out.jsonl", "--json"]);
        command
    }

    /// With the configuration, too.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = self.to_file();
        command.args(["--config", "config.yaml"]);
        command
    }

    /// Without the configuration: Salesforce's own hosts, through the sandbox as proxy.
    #[must_use]
    pub fn proxied(&self) -> Command {
        let mut command = self.to_file();
        command.env("HTTPS_PROXY", self.org.proxy_url());
        command
    }

    /// Runs [`Extraction::command`].
    pub async fn run(&self) -> Output {
        output(self.command()).await
    }

    /// Runs it and sees that the input is refused: exit code 2, one sentence, nothing written, nothing sent.
    pub async fn refused(&self) -> String {
        self.refusal_of(self.command()).await
    }

    /// As [`Extraction::refused`], for another command.
    pub async fn refusal_of(&self, command: Command) -> String {
        let output = output(command).await;
        assert_eq!(output.code(), 2, "{output:?}");
        assert_eq!(output.stdout, "", "{output:?}");
        assert!(output.stderr.lines().any(|line| line.starts_with("error: ")), "{output:?}");
        self.nothing_was_written();
        let requests = self.org.requests();
        assert_eq!((requests.total, requests.tunnels, requests.tunnels_refused), (0, 0, 0), "{output:?}");
        output.stderr
    }

    /// Sees that there is no export, and no part of one.
    pub fn nothing_was_written(&self) {
        let left: Vec<PathBuf> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("out.jsonl"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// What was written.
    #[must_use]
    pub fn export(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out.jsonl")).unwrap()
    }
}

/// A workflow from the lines of its connection and of its options, both without indentation.
#[must_use]
pub fn workflow_yaml(connection: &str, options: &str) -> String {
    let indented = |text: &str| text.lines().map(|line| format!("      {line}\n")).collect::<String>();
    format!(
        "source:
  type: salesforce
  serviceName: crm
  serviceConnection:
    config:
      type: Salesforce
{}  sourceConfig:
    config:
      type: DatabaseMetadata
{}",
        indented(connection),
        indented(options)
    )
}
