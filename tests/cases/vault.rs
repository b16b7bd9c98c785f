//! A pipeline whose credentials are in a real OpenBao: rotation without a restart, and runs that end before they begin.

#[path = "../../secrets/tests/vault/bao.rs"]
#[expect(
    dead_code,
    clippy::print_stderr,
    reason = "the store's own cases use the rest of it, and say when they are not run"
)]
mod bao;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bao::{Bao, approle, mount};
use control_plane::store::{Run, RunState};
use hybrid_runner::AgentConfig;
use hybrid_runner_secrets::{Read, ReadError, SecretPath, SecretStore, Stores, VaultAuth, VaultSettings, VaultStore};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, Setup, World};
use hybrid_runner_tests::{install_crypto, within};
use sandbox::{FaultPlan, Faults, Kind};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;

async fn shared(case: &str) -> Option<&'static Bao> {
    // Before the server's own client installs one.
    install_crypto();
    bao::shared(case).await
}

/// A mount with the org's credentials, and a login that may read them.
struct Vault<'a> {
    bao: &'a Bao,
    name: &'static str,
    auth: VaultAuth,
    _folder: TempDir,
}

impl<'a> Vault<'a> {
    async fn new(bao: &'a Bao, name: &'static str, world: &World) -> Self {
        mount(bao, name, "2").await;
        let role = json!({"token_policies": name, "token_ttl": "1h"});
        let (folder, auth) = approle(bao, &format!("{name}-role"), role).await;
        let vault = Self { bao, name, auth, _folder: folder };
        let login = world.org.credentials();
        vault.put("password", &login.password).await;
        vault.put("token", &login.security_token).await;
        vault
    }

    async fn put(&self, entry: &str, value: &str) {
        let path = format!("{}/data/open/salesforce/{entry}", self.name);
        self.bao.post(&path, json!({"data": {"value": value}})).await;
    }

    /// Another password, in the org and here.
    async fn rotate(&self, world: &World, password: &str) {
        world.org.change_org(|org| org.change_password(password));
        self.put("password", password).await;
    }

    fn store(&self) -> VaultStore {
        let settings = VaultSettings::new(&self.bao.address, self.auth.clone()).unwrap();
        VaultStore::new(settings.with_mount(self.name).unwrap().with_prefix("open").unwrap())
    }

    fn agent(&self, world: &World) -> RunningAgent {
        start(world, self.store())
    }
}

fn start(world: &World, store: impl SecretStore + 'static) -> RunningAgent {
    let secrets = Arc::new(Stores::default().with("vault", store));
    RunningAgent::start(AgentConfig { secrets, ..world.agent_config("one") })
}

/// The statuses of all logins.
fn logins(world: &World) -> Vec<u16> {
    world
        .org
        .log()
        .into_iter()
        .filter(|request| request.kind == Kind::SoapLogin)
        .map(|request| request.status)
        .collect()
}

/// Holds up the first read after the sessions of a run expired, once.
#[derive(Debug)]
struct Held {
    store: VaultStore,
    faults: Faults,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    passed: AtomicBool,
    reached: Notify,
    open: Notify,
}

#[async_trait]
impl SecretStore for Held {
    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        let expired = self.faults.plan().expire_sessions_after.is_none();
        if expired && !self.gate.passed.swap(true, Ordering::SeqCst) {
            self.gate.reached.notify_one();
            self.gate.open.notified().await;
        }
        self.store.read(path).await
    }
}

/// A run whose sessions expire in the middle of it, and what is done before it logs in again.
async fn run_expiring(world: &World, vault: &Vault<'_>, meanwhile: impl AsyncFnOnce()) -> Run {
    let gate = Arc::new(Gate::default());
    let agent = start(world, Held { store: vault.store(), faults: world.org.faults(), gate: Arc::clone(&gate) });
    let run = world.plane.trigger(PIPELINE, false).await.unwrap();
    within("the second login's read", gate.reached.notified()).await;
    meanwhile().await;
    gate.open.notify_one();
    let run = within("the run's end", world.plane.run_ended(run)).await.unwrap();
    agent.stop().await;
    run
}

fn expiring() -> Setup {
    Setup { faults: FaultPlan { expire_sessions_after: Some(2), ..FaultPlan::default() }, ..Setup::default() }
}

#[tokio::test]
async fn a_password_that_is_rotated_between_two_runs_needs_no_restart() {
    let Some(bao) = shared("a_password_that_is_rotated_between_two_runs").await else { return };
    let _logs = Logs::capture();
    let world = World::new().await;
    let vault = Vault::new(bao, "between", &world).await;
    let agent = vault.agent(&world);
    for password in ["second-password", "third-password"] {
        let run = world.run().await;
        assert_eq!(run.state, RunState::Committed, "{run:?}");
        vault.rotate(&world, password).await;
        world.org.expire_sessions();
    }
    let run = world.run().await;
    assert_eq!(run.state, RunState::Committed, "{run:?}");
    assert_eq!(logins(&world), [200; 3], "none with an old password");
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_password_that_is_rotated_during_a_run_is_read_when_its_session_has_expired() {
    let Some(bao) = shared("a_password_that_is_rotated_during_a_run").await else { return };
    let _logs = Logs::capture();
    let world = World::with(expiring()).await;
    let vault = Vault::new(bao, "during", &world).await;
    let run = run_expiring(&world, &vault, async || {
        vault.rotate(&world, "second-password").await;
        // The store's own token goes, too.
        bao.post("sys/leases/revoke-prefix/auth/during-role/login", json!({})).await;
    })
    .await;
    assert_eq!(run.state, RunState::Committed, "{run:?}");
    assert_eq!(logins(&world), [200; 2]);
    world.stop().await;
}

#[tokio::test]
async fn a_rejected_password_that_the_store_still_holds_is_not_sent_again() {
    let Some(bao) = shared("a_rejected_password").await else { return };
    let _logs = Logs::capture().expecting("AUTH_FAILED");
    let world = World::new().await;
    let vault = Vault::new(bao, "rejected", &world).await;
    let agent = vault.agent(&world);
    world.org.change_org(|org| org.change_password("only-the-org-knows"));
    let run = world.run().await;
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("AUTH_FAILED")), "{run:?}");
    assert_eq!((logins(&world).len(), world.org.requests().total), (1, 1));
    vault.put("password", "only-the-org-knows").await;
    let run = world.run().await;
    assert_eq!(run.state, RunState::Committed, "{run:?}");
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_run_whose_store_is_sealed_fails_before_salesforce_hears_of_it() {
    install_crypto();
    let Some(bao) = bao::start("a_run_whose_store_is_sealed", &[]).await else { return };
    let logs = Logs::capture().expecting("SECRET_STORE_UNREACHABLE").expecting("a secret cannot be read");
    let world = World::new().await;
    let vault = Vault::new(&bao, "sealed", &world).await;
    let agent = vault.agent(&world);
    bao.post("sys/seal", json!({})).await;
    let run = world.run().await;
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("SECRET_STORE_UNREACHABLE")), "{run:?}");
    assert_eq!(world.org.requests().total, 0);
    agent.stop().await;
    assert!(logs.text().contains("store `vault` is sealed"), "the local log says what to do");
    world.stop().await;
}

#[tokio::test]
async fn a_permission_that_is_taken_away_during_a_run_ends_it_with_what_is_missing() {
    let Some(bao) = shared("a_permission_that_is_taken_away").await else { return };
    let logs = Logs::capture().expecting("SECRET_UNAVAILABLE");
    let world = World::with(expiring()).await;
    let vault = Vault::new(bao, "revoked", &world).await;
    let run = run_expiring(&world, &vault, async || {
        bao.post("sys/policies/acl/revoked", json!({"policy": "path \"revoked/*\" { capabilities = [\"list\"] }"}))
            .await;
    })
    .await;
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("SECRET_UNAVAILABLE")), "{run:?}");
    assert_eq!(logins(&world), [200], "no login without its password");
    assert!(
        logs.text().contains("it needs read on revoked/data/open/salesforce/"),
        "the local log says what is missing"
    );
    world.stop().await;
}
