//! The agent's wall clock is wrong by 400 days, either way.

use std::path::Path;
use std::time::Duration;

use control_plane::clock::{Clock as _, SystemClock};
use control_plane::store::RunState;
use hybrid_runner_tests::agent_files::AgentFiles;
use hybrid_runner_tests::outside;
use hybrid_runner_tests::processes::{Running, program};
use hybrid_runner_tests::world::{World, write};

const DAYS: u64 = 400;

/// The agent as a program whose clock is off, and its files.
fn start(world: &World, program: &Path, faketime: &Path, offset: &str) -> (Running, AgentFiles) {
    let files = AgentFiles::of(world, "one", world.port);
    let preload = format!("LD_PRELOAD={}", faketime.display());
    let offset = format!("FAKETIME={offset}");
    let before = [&preload, &offset, "FAKETIME_DONT_FAKE_MONOTONIC=1", program.to_str().unwrap()];
    (files.start_as(Path::new("env"), &before), files)
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_400_days_harms_no_lease_and_is_named_where_tls_fails_for_it() {
    let Some(faketime) = outside::faketime("a_clock_that_is_wrong_by_400_days_harms_no_lease") else { return };
    // Perhaps it is built first, while nothing else happens on this thread.
    let program = program("hybrid-runner");
    let world = World::new().await;
    let (now, off) = (SystemClock::new().now(), Duration::from_secs(DAYS * 86_400));
    for (offset, then) in [("+400d", now.checked_add(off).unwrap()), ("-400d", now.checked_sub(off).unwrap())] {
        let (agent, _files) = start(&world, &program, &faketime, offset);
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
        let (mut agent, _files) = start(&world, &program, &faketime, offset);
        agent.until(sentence, |log| log.contains(sentence).then_some(())).await;
        agent.kill().await;
    }
    world.stop().await;
}
