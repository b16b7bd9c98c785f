//! What happens to processes that are really deployed: killed, stopped, without room, cut off. Whatever it is, the result
//! is the one of an undisturbed run, and each case proves that it did what it says.
#![expect(clippy::print_stderr, reason = "a seed, what was counted, and what was not run")]

mod asleep;
mod cut_off;
mod full_disk;
mod kills;

use hybrid_runner_tests::deployment::{Deployment, PLANE};

/// Leases that end within two seconds.
const LEASE: &str = "lease: {ttl: 1s, heartbeat: 250ms}";

/// A deployment with an org of so many objects, whose leases are short.
async fn short_leases(objects: &str) -> Deployment {
    let deployment = Deployment::written(&["--objects", objects, "--describe-ms", "15"]).await;
    deployment.change(PLANE, "agents: agents.yaml", &format!("agents: agents.yaml\n{LEASE}"));
    deployment
}

/// How many lines of a log hold this text.
fn lines(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

/// What was logged from this byte on.
fn since(log: &str, from: usize) -> &str {
    log.get(from..).unwrap_or_default()
}
