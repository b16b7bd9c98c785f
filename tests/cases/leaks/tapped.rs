//! The program as agent of a world, at TRACE, behind a tap on its connection to the control plane; and what is planted.

use std::sync::LazyLock;

use control_plane::store::Run;
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::processes::{Running, command, program};
use hybrid_runner_tests::sweep::Planted;
use hybrid_runner_tests::tap::Tap;
use hybrid_runner_tests::world::{Setup, TOKEN, World, write};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use sandbox::{Credentials, OrgConfig};
use tempfile::TempDir;

/// Of the shape of an error code: what Salesforce says in that place is shown to people.
pub(super) const PASSWORD: &str = "pwqzkjxvbwlowercaseletters";
pub(super) const SECURITY_TOKEN: &str = "tKn3Hs8Rd5Yc1&lt;\"%41'/+=ü]]>";
pub(super) const CONSUMER_SECRET: &str = "cnsxjfqguzmalowercaseletters";

pub(super) const AWS_SECRET_KEY: &str = "wJalrXUtnFEMIbPxRfiCYcanaryOfAws/K7MDENG+";
pub(super) const AWS_TOKEN: &str = "IQoJb3JpZ2luX2VjEcanaryOfASession//////wEaDGV1+";

/// What signs the assertions of a login by JWT.
pub(super) struct Signer {
    pub(super) key: String,
    certificate: String,
}

pub(super) static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    Signer { key: key.serialize_pem(), certificate: certificate.pem() }
});

pub(super) fn org() -> OrgConfig {
    let credentials = Credentials {
        password: PASSWORD.to_owned(),
        security_token: SECURITY_TOKEN.to_owned(),
        consumer_secret: CONSUMER_SECRET.to_owned(),
        jwt_certificate: SIGNER.certificate.clone(),
        ..Credentials::default()
    };
    OrgConfig { objects: 12, credentials, ..OrgConfig::default() }
}

/// Everything that was planted, and the sessions that were granted.
pub(super) fn planted(sessions: &[String]) -> Planted {
    let fixed = [
        ("password", PASSWORD),
        ("security token", SECURITY_TOKEN),
        ("consumer secret", CONSUMER_SECRET),
        ("bearer token", TOKEN),
        ("private key", &SIGNER.key),
        ("AWS secret key", AWS_SECRET_KEY),
        ("AWS session token", AWS_TOKEN),
    ];
    // Before `!` stands the org's id, which is in each object's identity.
    let own = sessions.iter().filter_map(|session| session.split_once('!')).map(|(_, own)| ("session", own));
    Planted::new(fixed.into_iter().chain(own))
}

/// A world whose agent is the program, behind a tap.
pub(super) struct Tapped {
    pub(super) world: World,
    tap: Tap,
    dir: TempDir,
    pub(super) agent: Running,
    pub(super) sessions: Vec<String>,
    logs: Logs,
}

impl Tapped {
    /// With the secrets in files.
    pub(super) async fn start(pipeline: String, logs: Logs) -> Self {
        Self::with(pipeline, logs, "mounted: {file: {dir: secrets}}", &[]).await
    }

    /// With a store, as the configuration has it, and variables for it.
    pub(super) async fn with(pipeline: String, logs: Logs, store: &str, variables: &[(&str, &str)]) -> Self {
        // Perhaps it is built first, while nothing else happens on this thread.
        let agent = program("hybrid-runner");
        let world = World::with(Setup { org: Some(org()), pipeline: Some(pipeline), ..Setup::default() }).await;
        let tap = Tap::before(world.port, &world.authority).await;
        let dir = TempDir::new().unwrap();
        let path = dir.path();
        write(path, "ca.pem", &world.authority.pem);
        write(path, "org-ca.pem", world.org.ca_pem());
        write(path, "secrets/agent.token", TOKEN);
        for (name, value) in [
            ("password", PASSWORD),
            ("token", SECURITY_TOKEN),
            ("consumer-secret", CONSUMER_SECRET),
            ("private-key", &SIGNER.key),
        ] {
            write(path, &format!("secrets/salesforce/{name}"), value);
        }
        let (plane, org) = (tap.port, world.org.addr().port());
        let config = format!(
            "control_plane: {{endpoint: 'https://localhost:{plane}', ca: ca.pem, token_file: secrets/agent.token}}
secrets: {{stores: {{{store}}}}}
salesforce: {{use_system_proxy: false, hosts: [{{host: localhost, port: {org}, ca: org-ca.pem}}]}}
"
        );
        write(path, "hybrid-runner.yaml", &config);
        let mut run = command(&agent);
        run.args(["run", "--config", "hybrid-runner.yaml"]).current_dir(path).env("HYBRID_RUNNER_LOG__LEVEL", "trace");
        run.envs(variables.iter().copied());
        let agent = Running::start(run, &path.join("hybrid-runner.log"));
        Self { world, tap, dir, agent, sessions: Vec::new(), logs }
    }

    pub(super) async fn run(&mut self) -> Run {
        let run = self.world.run().await;
        self.sessions.extend(self.world.org.sessions());
        run
    }

    /// Looks through everything, and ends. Returns the agent's log.
    pub(super) async fn sweep(self) -> String {
        let Self { world, tap, dir, agent, sessions, logs } = self;
        assert!(agent.terminate().await.success());
        let planted = planted(&sessions);
        let heard = tap.heard();
        for (side, said) in [("the control plane", "salesforceDomain"), ("the agent", "hybrid-runner/")] {
            assert!(!Planted::new([(side, said)]).found_in(&heard).is_empty(), "the tap hears {side}");
        }
        planted.absent_from("the connection to the control plane", &heard);
        assert!(planted.absent_below(dir.path(), &["secrets"]) >= 4);
        assert!(planted.absent_below(world.dir.path(), &[]) >= 7);
        for run in world.plane.store().runs(None, 100).await.unwrap() {
            for event in world.plane.store().events(run.run_id).await.unwrap() {
                planted.absent_from("an event", format!("{event:?}"));
            }
        }
        world.stop().await;
        planted.absent_from("the control plane's log", logs.text());
        let log = std::fs::read_to_string(dir.path().join("hybrid-runner.log")).unwrap();
        assert!(log.contains("TRACE") && logs.text().contains("TRACE"), "both sides log at TRACE");
        log
    }
}

/// A pipeline that logs in by OAuth with the client's secret.
pub(super) fn oauth_pipeline() -> String {
    pipeline("consumerSecret: secret:/salesforce/consumer-secret")
}

/// A pipeline that logs in by OAuth with a signature.
pub(super) fn jwt_pipeline() -> String {
    pipeline(
        "username: integration@example.com
      connectionArguments: {privatekey: 'secret:/salesforce/private-key'}",
    )
}

fn pipeline(credentials: &str) -> String {
    format!(
        "source:
  type: salesforce
  serviceName: crm
  serviceConnection:
    config:
      type: Salesforce
      consumerKey: sandbox-consumer-key
      salesforceDomain: localhost
      {credentials}
  sourceConfig: {{config: {{type: DatabaseMetadata}}}}
---
name: crm
"
    )
}
