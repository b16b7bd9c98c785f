//! The control plane's disk is full, as a process sees it: a file system of its own, of a few MiB.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::Command;

use hybrid_runner_tests::deployment::{
    Deployment, PLANE, assert_ends_well, assert_same_export, committed, last_number, undisturbed,
};

use super::{lines, short_leases, since};

/// Enough for the run without ballast, several times over.
const SIZE: &str = "size=16m";

/// A small file system below a deployment, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where it may not be mounted: that takes root.
    fn mount(deployment: &Deployment) -> Option<Self> {
        let folder = deployment.dir.path().join("disk");
        std::fs::create_dir(&folder).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "none"]).arg(&folder).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            refused => {
                eprintln!("not run: a tmpfs cannot be mounted here, which takes root: {refused:?}");
                None
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all the room there is, and proves it.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let full = loop {
            if let Err(full) = ballast.write_all(&[0xb5; 4096]) {
                break full;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the control plane of a case that failed still has files open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_control_plane_without_room_loses_nothing_says_so_and_goes_on_when_there_is_room() {
    let deployment = short_leases("240").await;
    let Some(disk) = SmallDisk::mount(&deployment) else { return };
    deployment.change(PLANE, "sqlite: control-plane.db", "sqlite: disk/control-plane.db");
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    deployment.trigger(&[]).await;
    let agent = deployment.start_agent("agent.log");
    let some = |log: &str| last_number(log, "batch durable", "next_seq").filter(|&next| next > 3);
    plane.until("the first batches", some).await;
    disk.fill();
    let says = |log: &str| {
        let line = log.lines().find(|line| line.contains(" ERROR ") && line.contains("disk/control-plane.db"))?;
        Some(line.to_owned())
    };
    let said = plane.until("the control plane to say what is wrong", says).await;
    assert!(said.contains("full") || said.contains("room"), "{said}");
    let full = plane.log();
    assert_eq!(committed(&full, ""), None, "the disk was full in the middle of the run");
    // The agent comes back as soon as it was refused, perhaps before there is room.
    let (before, _) = full.split_once(&said).unwrap();
    let durable = last_number(before, "batch durable", "next_seq").unwrap();
    assert!(plane.is_alive());
    disk.make_room();

    plane.until("the commit", |log| committed(log, "")).await;
    let after = plane.log();
    let after = since(&after, before.len());
    let went_on = after.lines().find(|line| line.contains("push opened"));
    let went_on = went_on.and_then(|line| last_number(line, "push opened", "next_seq"));
    assert!(
        went_on.is_some_and(|went_on| went_on >= durable),
        "{durable} records were durable, it went on at {went_on:?}"
    );
    assert!(lines(after, "batch durable") > 0, "there was something left to do");
    assert_same_export(&deployment.export().await, &undisturbed("240").await);
    assert_ends_well([agent, plane, org]).await;
}
