//! The agent's wall clock is wrong by 400 days, either way.

use std::path::Path;
use std::time::Duration;

use control_plane::clock::{Clock as _, SystemClock};
use control_plane::store::RunState;
use hybrid_runner_tests::outside;
use hybrid_runner_tests::processes::{Running, command, program};
use hybrid_runner_tests::world::{World, write};
use tempfile::TempDir;

const DAYS: u64 = 400;

/// The agent as a program whose clock is off, and its folder.
fn start(world: &World, program: &Path, faketime: &Path, offset: &str) -> (Running, TempDir) {
    let dir = TempDir::new().unwrap();
    let path = dir.path();
    let login = world.org.credentials();
    let pair = world.authority.agent("one");
    for (name, text) in [
        ("ca.pem", world.authority.pem.as_str()),
        ("org-ca.pem", world.org.ca_pem()),
        ("agent.pem", &pair.certificate),
        ("agent.key", &pair.key),
        ("secrets/salesforce/password", &login.password),
        ("secrets/salesforce/token", &login.security_token),
    ] {
        write(path, name, text);
    }
    let (plane, org) = (world.port, world.org.addr().port());
    let config = format!(
        "control_plane: {{endpoint: 'https://localhost:{plane}', ca: ca.pem, tls: {{certificate: agent.pem, key: agent.key}}}}
secrets: {{stores: {{mounted: {{file: {{dir: secrets}}}}}}}}
salesforce: {{use_system_proxy: false, hosts: [{{host: localhost, port: {org}, ca: org-ca.pem}}]}}
"
    );
    write(path, "hybrid-runner.yaml", &config);
    let mut run = command(program);
    run.args(["run", "--config", "hybrid-runner.yaml"]).current_dir(path);
    run.env("LD_PRELOAD", faketime).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    (Running::start(run, &path.join("hybrid-runner.log")), dir)
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_400_days_harms_no_lease_and_is_named_where_tls_fails_for_it() {
    let Some(faketime) = outside::faketime("a_clock_that_is_wrong_by_400_days_harms_no_lease") else { return };
    // Perhaps it is built first, while nothing else happens on this thread.
    let program = program("hybrid-runner");
    let world = World::new().await;
    let (now, off) = (SystemClock::new().now(), Duration::from_secs(DAYS * 86_400));
    for (offset, then) in [("+400d", now.checked_add(off).unwrap()), ("-400d", now.checked_sub(off).unwrap())] {
        let (agent, _dir) = start(&world, &program, &faketime, offset);
        let run = world.run().await;
        assert_eq!((run.state, run.attempt), (RunState::Committed, 1), "{offset}: {run:?}");
        let day = then.to_string().get(..10).unwrap().to_owned();
        assert!(agent.log().contains(&day), "its clock was off: {}", agent.log());
        assert!(agent.terminate().await.success());
    }

    // Valid for thirty days around now: TLS cannot do without the clock.
    let server = world.authority.server_around_now(Duration::from_secs(30 * 86_400));
    write(world.dir.path(), "tls/server.pem", &server.certificate);
    write(world.dir.path(), "tls/server.key", &server.key);
    super::shown_until(&world, &server).await;
    for (offset, sentence) in [
        ("+400d", "its certificate expired 370 days ago by this machine's clock"),
        ("-400d", "its certificate is valid only in 369 days by this machine's clock"),
    ] {
        let (mut agent, _dir) = start(&world, &program, &faketime, offset);
        agent.until(sentence, |log| log.contains(sentence).then_some(())).await;
        agent.kill().await;
    }
    world.stop().await;
}
