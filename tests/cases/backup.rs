//! A backup of the control plane while it works, and its return: the steps of docs/operations.md.

use std::path::Path;

use hybrid_runner_tests::deployment::{
    Deployment, SLOW, assert_ends_well, assert_same_export, committed, last_number, undisturbed,
};
use hybrid_runner_tests::outside;
use hybrid_runner_tests::processes::{command, output};

/// Where the configuration of a deployment has the store.
const STORE: &str = "control-plane.db";

/// `sqlite3 STORE "VACUUM INTO 'BACKUP'"`, and the check of what came out: what Python prints of it.
const BACKUP: &str = "
import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute('VACUUM INTO ?', (sys.argv[2],))
copy = sqlite3.connect(sys.argv[2])
print(copy.execute('PRAGMA integrity_check').fetchone()[0], copy.execute('SELECT count(*) FROM record').fetchone()[0])
";

async fn back_up(python: &Path, deployment: &Deployment, to: &str) -> u64 {
    let mut backup = command(python);
    backup.args(["-c", BACKUP, STORE, to]).current_dir(deployment.dir.path());
    let done = output(backup).await;
    let records = done.stdout.trim().strip_prefix("ok ").and_then(|records| records.parse().ok());
    records.unwrap_or_else(|| panic!("{done:?}"))
}

#[tokio::test]
async fn a_backup_that_is_taken_in_the_middle_of_a_run_is_whole_and_restored_the_run_ends_with_every_entity() {
    let Some(python) = outside::simple_salesforce("a backup") else { return };
    let wanted = undisturbed(SLOW[1]).await;
    let deployment = Deployment::written(&SLOW).await;
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    let agent = deployment.start_agent("agent.log");
    let durable_beyond =
        |bound: u64| move |log: &str| last_number(log, "batch durable", "next_seq").filter(|next| *next > bound);
    plane.until("some of the run is durable", durable_beyond(50)).await;
    // Its session lasts, and the run is not over before the backup is.
    agent.signal("STOP");
    let in_backup = back_up(&python, &deployment, "backup.db").await;
    agent.signal("CONT");
    assert!(in_backup > 50, "{in_backup}");
    let lost = plane.until("the run went on", durable_beyond(in_backup)).await;
    assert!(u64::try_from(wanted.lines().count()).unwrap() > lost, "the run is over, so that nothing is shown here");
    plane.kill().await;

    let folder = deployment.dir.path();
    std::fs::rename(folder.join("backup.db"), folder.join(STORE)).unwrap();
    for beside in ["-wal", "-shm"] {
        std::fs::remove_file(folder.join(format!("{STORE}{beside}"))).unwrap();
    }
    let mut plane = deployment.start_plane("plane-restored.log").await;
    plane.until("the commit", |log| committed(log, "")).await;
    let run = deployment.shown_run(None).await;
    assert_eq!((&run["state"], &run["attempt"], &run["complete"]), (&"committed".into(), &1.into(), &true.into()));
    assert_same_export(&deployment.export().await, &wanted);
    // What was acknowledged after the backup is in no window any more.
    let reread = format!("the control plane goes on at record {in_backup}, as before");
    assert!(agent.log().contains(&reread), "{reread}: {}", agent.log());
    assert_ends_well([agent, plane, org]).await;
    deployment.assert_quiet(&["plane.log", "plane-restored.log", "sandbox.log"], &[]);
    deployment.assert_quiet(&["agent.log"], &["no session with the control plane", "upload broke", &reread]);
}
