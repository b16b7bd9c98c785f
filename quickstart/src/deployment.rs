//! The files of a deployment: certificates, both configurations, one pipeline. A first look uses a part of them, and
//! `--write` all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use control_plane::clock::{Clock as _, SystemClock};
use control_plane::identity::{Agent, Agents};
use control_plane::pki::{Authority, Issued};
use sandbox::Credentials;

/// Name of the agent, as in its certificate.
pub(crate) const AGENT: &str = "quickstart";

/// Name of the pipeline.
pub(crate) const PIPELINE: &str = "quickstart";

/// Where the password stands in the agent's secret store.
pub(crate) const PASSWORD: &str = "/salesforce/quickstart/password";

/// Where the security token stands in the agent's secret store.
pub(crate) const TOKEN: &str = "/salesforce/quickstart/security-token";

/// A directory with the files of a deployment.
pub(crate) struct Deployment {
    dir: PathBuf,
    /// What signed both sides' certificates, PEM.
    pub(crate) ca: String,
    /// What the agent is known by.
    pub(crate) agent: Issued,
}

impl Deployment {
    /// Writes what the control plane needs. It listens on that address.
    pub(crate) fn of_control_plane(dir: &Path, listen: &str, username: &str) -> anyhow::Result<Self> {
        let now = SystemClock::new().now();
        let authority = Authority::generate("Hybrid Runner quickstart", now)?;
        let server = authority.issue_server(&["localhost"], now)?;
        let issued = authority.issue_agent(AGENT, now)?;
        let deployment = Self { dir: dir.to_owned(), ca: authority.certificate().to_owned(), agent: issued };
        deployment.write("tls/ca.pem", &deployment.ca)?;
        deployment.write_private("tls/ca.key", &authority.key())?;
        deployment.write("tls/control-plane.pem", &server.certificate)?;
        deployment.write_private("tls/control-plane.key", &server.key)?;
        let agent = Agent { name: AGENT.to_owned(), certificate: true, token_blake3: None };
        deployment.write("agents.yaml", &Agents::default().with(agent).context("list the agent")?)?;
        deployment.write("control-plane.yaml", &control_plane_yaml(listen))?;
        deployment.write(&format!("pipelines/{PIPELINE}.yaml"), &pipeline_yaml(username))?;
        Ok(deployment)
    }

    /// Writes what the agent needs besides: its identity, its configuration, the secrets that the pipeline refers to.
    pub(crate) fn add_agent(
        &self,
        control_plane: u16,
        org: u16,
        org_ca: &str,
        login: &Credentials,
    ) -> anyhow::Result<()> {
        self.write("tls/agent.pem", &self.agent.certificate)?;
        self.write_private("tls/agent.key", &self.agent.key)?;
        self.write("tls/sandbox-ca.pem", org_ca)?;
        self.write_private(&format!("secrets{PASSWORD}"), &login.password)?;
        self.write_private(&format!("secrets{TOKEN}"), &login.security_token)?;
        self.write("hybrid-runner.yaml", &agent_yaml(control_plane, org))
    }

    /// The control plane's configuration file.
    pub(crate) fn control_plane_config(&self) -> PathBuf {
        self.dir.join("control-plane.yaml")
    }

    /// Writes a file below the directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write_private(&self, name: &str, text: &str) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        self.write(name, "")?;
        let path = self.dir.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("protect {}", path.display()))?;
        self.write(name, text)
    }
}

fn control_plane_yaml(listen: &str) -> String {
    format!(
        "\
# A control plane on loopback. Paths are relative to this file.
listen: {listen}
tls:
  certificate: tls/control-plane.pem
  key: tls/control-plane.key
  client_ca: tls/ca.pem
  client_ca_key: tls/ca.key
store:
  sqlite: control-plane.db
pipelines: pipelines
agents: agents.yaml
"
    )
}

/// The pipeline: an ordinary OpenMetadata workflow whose credentials are references.
fn pipeline_yaml(username: &str) -> String {
    format!(
        "\
# An OpenMetadata ingestion workflow. Its credentials are references that only the agent can resolve.
source:
  type: salesforce
  serviceName: quickstart
  serviceConnection:
    config:
      type: Salesforce
      username: {username}
      password: secret:{PASSWORD}
      securityToken: secret:{TOKEN}
      # The simulated org, which the agent's own configuration lists; for a real one, the part before .salesforce.com.
      salesforceDomain: localhost
  sourceConfig:
    config:
      type: DatabaseMetadata
sink:
  type: metadata-rest
  config: {{}}
workflowConfig:
  openMetadataServerConfig:
    hostPort: http://localhost:8585/api
    authProvider: openmetadata
---
name: {PIPELINE}
schedule:
  cron: '* * * * *'
  timezone: UTC
"
    )
}

fn agent_yaml(control_plane: u16, org: u16) -> String {
    format!(
        "\
# An agent on the same machine. Paths are relative to this file.
control_plane:
  endpoint: https://localhost:{control_plane}
  ca: tls/ca.pem
  tls:
    certificate: tls/agent.pem
    key: tls/agent.key
secrets:
  stores:
    files:
      file:
        dir: secrets
salesforce:
  use_system_proxy: false
  hosts:
    - host: localhost
      port: {org}
      ca: tls/sandbox-ca.pem
"
    )
}
