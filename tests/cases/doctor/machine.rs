//! Faults of the machine.

use hybrid_runner_tests::outside;
use hybrid_runner_tests::world::World;

use super::Installation;

#[tokio::test]
async fn too_few_files_that_may_be_open_fail_that_check_and_no_other() {
    let world = World::new().await;
    let mut one = Installation::new(&world);
    one.prefix = ["/bin/sh", "-c", "ulimit -n 128 && exec \"$0\" \"$@\""].map(str::to_owned).to_vec();
    one.fails_with("descriptors", "at most 128 open files").await;
    world.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_ten_minutes_off_fails_that_check_and_no_other() {
    let Some(faketime) = outside::faketime("a_clock_that_is_ten_minutes_off_fails_that_check") else { return };
    let world = World::new().await;
    let mut one = Installation::new(&world);
    let preload = format!("LD_PRELOAD={}", faketime.display());
    for (offset, side) in [("+10m", "ahead of"), ("-10m", "behind")] {
        let offset = format!("FAKETIME={offset}");
        let before = ["/usr/bin/env", &preload, &offset, "FAKETIME_DONT_FAKE_MONOTONIC=1"];
        one.prefix = before.map(str::to_owned).to_vec();
        one.fails_with("clock", side).await;
    }
    world.stop().await;
}
