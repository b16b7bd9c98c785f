//! An agent of a world as a program of its own.

use std::path::Path;

use tempfile::TempDir;

use crate::processes::{Running, command};
use crate::world::{World, write};

/// The files of an agent's program.
#[derive(Debug)]
pub struct AgentFiles {
    /// Where they are.
    pub dir: TempDir,
}

impl AgentFiles {
    /// An agent of a world, which finds its control plane at this port. Its lines are kept to what happens a few times a run.
    #[must_use]
    pub fn of(world: &World, name: &str, port: u16) -> Self {
        let dir = TempDir::new().unwrap();
        let (login, pair) = (world.org.credentials(), world.authority.agent(name));
        let org = world.org.addr().port();
        let configuration = format!(
            "control_plane:
  endpoint: https://localhost:{port}
  ca: ca.pem
  tls: {{certificate: agent.pem, key: agent.key}}
  use_system_proxy: false
drain_timeout: 0s
secrets: {{stores: {{mounted: {{file: {{dir: secrets}}}}}}}}
salesforce: {{use_system_proxy: false, hosts: [{{host: localhost, port: {org}, ca: org-ca.pem}}]}}
health: {{listen: '127.0.0.1:0'}}
"
        );
        for (file, text) in [
            ("ca.pem", world.authority.pem.as_str()),
            ("org-ca.pem", world.org.ca_pem()),
            ("agent.pem", &pair.certificate),
            ("agent.key", &pair.key),
            ("secrets/salesforce/password", &login.password),
            ("secrets/salesforce/token", &login.security_token),
            ("hybrid-runner.yaml", &configuration),
        ] {
            write(dir.path(), file, text);
        }
        Self { dir }
    }

    /// Starts the program; its log is `log` in the folder.
    #[must_use]
    pub fn start(&self, programs: &Path) -> Running {
        self.start_as(&programs.join("hybrid-runner"), &[])
    }

    /// Starts it by way of another program, which is given these arguments before the agent's own.
    #[must_use]
    pub fn start_as(&self, program: &Path, before: &[&str]) -> Running {
        let mut start = command(program);
        start.args(before).args(["run", "--config", "hybrid-runner.yaml"]).current_dir(self.dir.path());
        Running::start(start, &self.dir.path().join("log"))
    }
}
