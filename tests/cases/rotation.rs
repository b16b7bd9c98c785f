//! Certificates, authorities and tokens that change while everything runs.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control_plane::identity::hash_token;
use control_plane::store::RunState;
use hybrid_runner::{AgentConfig, AgentEvent, Identity, Pem};
use hybrid_runner_tests::by_hand::{self, Session};
use hybrid_runner_tests::certificates::{Authority, Pair};
use hybrid_runner_tests::entities_with;
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, Setup, TOKEN, World, pem, write};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sandbox::{FaultPlan, OrgConfig};
use tokio::net::TcpStream;
use tokio::time::interval;
use tokio_rustls::TlsConnector;

/// How often something is looked at that tells nobody of a change.
const LOOK: Duration = Duration::from_millis(20);

fn install(folder: &Path, name: &str, pair: &Pair) {
    write(folder, &format!("{name}.pem"), &pair.certificate);
    write(folder, &format!("{name}.key"), &pair.key);
}

/// The agent `one`, whose pair is in files.
fn by_files(world: &World, folder: &Path, pair: &Pair) -> AgentConfig {
    install(folder, "agent", pair);
    let file = |name: &str| Pem::File(folder.join(name));
    let mut config = world.agent_config("one");
    config.control_plane.identity = Identity::Certificate { certificate: file("agent.pem"), key: file("agent.key") };
    config
}

/// The serial numbers of client certificates under which sessions were opened.
fn serials(logs: &Logs) -> BTreeSet<String> {
    let text = logs.text();
    let opened = text.lines().filter(|line| line.contains("agent connected"));
    let serial = |line: &str| Some(line.split_once("certificate=\"")?.1.split_once('"')?.0.to_owned());
    opened.filter_map(serial).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = interval(LOOK);
    within(what, async {
        while !holds() {
            ticks.tick().await;
        }
    })
    .await;
}

async fn connected(agent: &mut RunningAgent) {
    agent.until("a session", |event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_run_goes_on_while_certificates_that_live_eight_seconds_are_rotated_under_it() {
    // What breaks under an old certificate is opened again under the new one, and says so.
    let logs = Logs::capture().expecting("upload broke, opening it again");
    let faults = FaultPlan { latency: Duration::from_secs(3), ..FaultPlan::default() };
    let org = OrgConfig { objects: 250, ..OrgConfig::default() };
    let world = World::with(Setup { org: Some(org), faults, ..Setup::default() }).await;
    let life = Duration::from_secs(8);
    let mut agent = RunningAgent::start(by_files(&world, world.dir.path(), &world.authority.agent_for("one", life)));
    connected(&mut agent).await;
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let mut ended = Box::pin(world.plane.run_ended(run_id));
    for rotation in 1..=3 {
        let again = world.authority.agent_for("one", life);
        install(world.dir.path(), "agent", &again);
        until("a session under the new certificate", || serials(&logs).len() > rotation).await;
        // The push lasts longer than the certificate under which it was opened.
        let used = tokio::time::timeout(life / 5, &mut ended).await;
        assert!(used.is_err(), "the run is over after {rotation} rotations");
    }
    // As long as the run lasts.
    let keep = async {
        loop {
            install(world.dir.path(), "agent", &world.authority.agent_for("one", life));
            tokio::time::sleep(life / 2).await;
        }
    };
    world.org.faults().clear();
    let run = tokio::select! {
        run = within("the run's end", &mut ended) => run.unwrap(),
        () = keep => unreachable!("it goes on"),
    };
    assert_eq!((run.state, run.attempt), (RunState::Committed, 1), "{run:?}");
    assert_eq!(world.entities().await.len(), entities_with(250));
    assert!(serials(&logs).len() >= 4, "{:?}", serials(&logs));
    agent.stop().await;
    drop(ended);
    world.stop().await;
}

#[tokio::test]
async fn an_identity_that_is_half_written_keeps_the_session_and_is_told_once() {
    let logs = Logs::capture().expecting("the identity cannot be renewed, the last one stays in use");
    let world = World::new().await;
    let mut agent = RunningAgent::start(by_files(&world, world.dir.path(), &world.authority.agent("one")));
    connected(&mut agent).await;
    let new = world.authority.agent("one");
    write(world.dir.path(), "agent.pem", &new.certificate);
    let told = |logs: &Logs| logs.text().matches("the identity cannot be renewed").count();
    until("the warning", || told(&logs) == 1).await;
    while let Ok(event) = agent.events.try_recv() {
        assert!(!matches!(event, AgentEvent::Disconnected { .. }), "the session goes on: {event:?}");
    }
    write(world.dir.path(), "agent.key", &new.key);
    connected(&mut agent).await;
    assert_eq!((told(&logs), serials(&logs).len()), (1, 2), "{}", logs.text());
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_bearer_token_that_is_rotated_on_both_sides_is_used_without_a_restart() {
    let _logs = Logs::capture().expecting("no session with the control plane");
    let world = World::new().await;
    let file = write(world.dir.path(), "agent.token", TOKEN);
    let mut agent = RunningAgent::start(world.agent_config_as(Identity::TokenFile(file)));
    connected(&mut agent).await;
    let new = "another-bearer-token-of-at-least-32-characters";
    write(world.dir.path(), "agents.yaml", &format!("- {{name: token-agent, token_blake3: {}}}\n", hash_token(new)));
    write(world.dir.path(), "agent.token", new);
    connected(&mut agent).await;
    agent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn the_streams_of_a_caller_that_is_not_known_any_more_end_within_seconds() {
    let _logs = Logs::capture().expecting("no session with the control plane");
    let world = World::new().await;
    let short = world.authority.agent_for("two", Duration::from_secs(2));
    let identity = Identity::Certificate { certificate: pem(&short.certificate), key: pem(&short.key) };
    let token = Identity::Token(Arc::new(hybrid_runner::SecretValue::new(TOKEN.to_owned())));
    let mut agents = [
        RunningAgent::start(world.agent_config("one")),
        RunningAgent::start(world.agent_config_as(identity)),
        RunningAgent::start(world.agent_config_as(token)),
    ];
    for agent in &mut agents {
        connected(agent).await;
    }
    // `one` is removed, the token is another's hash, and the certificate of `two` runs out by itself.
    let list =
        format!("- {{name: two, certificate: true}}\n- {{name: token-agent, token_blake3: {}}}\n", hash_token("x"));
    write(world.dir.path(), "agents.yaml", &list);
    let before = tokio::time::Instant::now();
    for agent in &mut agents {
        let problem = agent.until("the end of its session", |event| match event {
            AgentEvent::Disconnected { problem } => Some(problem),
            _ => None,
        });
        let problem = problem.await;
        assert!(problem.contains("does not accept this agent's identity"), "{problem}");
    }
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
    for agent in agents {
        agent.kill().await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_control_plane_shows_its_new_certificate_and_trusts_a_new_authority_without_dropping_a_connection() {
    let logs = Logs::capture().expecting("the certificates cannot be used, the last ones stay in force");
    let world = World::new().await;
    let old = world.authority.server();
    let channel = by_hand::connect(world.port, &world.authority, &world.authority.agent("one")).await;
    let (mut session, _) = Session::hello(&channel).await;
    let before = shown(world.port, &world.authority).await;

    // Half of it first: the last pair stays in force.
    let (new, agents) = (world.authority.server(), Authority::new());
    write(world.dir.path(), "tls/server.pem", &new.certificate);
    until("the complaint", || logs.text().contains("the certificates cannot be used")).await;
    assert_eq!(shown(world.port, &world.authority).await, before);
    write(world.dir.path(), "tls/server.key", &new.key);
    write(world.dir.path(), "tls/ca.pem", &format!("{}{}", world.authority.pem, agents.pem));
    let wanted = CertificateDer::from_pem_slice(new.certificate.as_bytes()).unwrap();
    let mut ticks = interval(LOOK);
    within("the new certificate", async {
        while shown(world.port, &world.authority).await != wanted {
            ticks.tick().await;
        }
    })
    .await;
    assert_ne!(old.certificate, new.certificate);

    // An agent of the new authority enters, and the session of the old connection lasts.
    let mut config = world.agent_config("two");
    let pair = agents.agent("two");
    config.control_plane.identity = Identity::Certificate { certificate: pem(&pair.certificate), key: pem(&pair.key) };
    let mut agent = RunningAgent::start(config);
    connected(&mut agent).await;
    session.beat(&[]).await;
    agent.stop().await;
    drop((session, channel));
    world.stop().await;
}

/// The certificate that a server shows.
async fn shown(port: u16, authority: &Authority) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap().first().unwrap().clone()
}
