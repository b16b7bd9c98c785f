//! What the cases stand on: a world of sandbox org, control plane and agents, in this process or as programs of their own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "a harness fails loudly"
)]

pub mod agent_files;
pub mod bench;
pub mod by_hand;
pub mod certificates;
pub mod deployment;
pub mod extraction;
pub mod logs;
pub mod memory;
pub mod outside;
pub mod processes;
pub mod relay;
#[path = "../../openmetadata/tests/support/schemas.rs"]
pub mod schemas;
pub mod sweep;
pub mod tap;
pub mod world;

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use hybrid_runner_openmetadata::entity::Kind;

/// How long a case waits for something that takes milliseconds on a quiet machine. Only a failing case waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a case waits for a program: [`PATIENCE`], or ten minutes with `HYBRID_LONG`, which keeps a machine busy for
/// hours and must not fail after one of them because something else ran there.
#[must_use]
pub fn patience() -> Duration {
    if is_long() { Duration::from_secs(600) } else { PATIENCE }
}

/// Whether `./test --long` runs the cases.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("HYBRID_LONG").is_some()
}

/// The keys of `--json`, in their order.
pub const RESULT_KEYS: [&str; 17] = [
    "pipeline",
    "run_id",
    "state",
    "complete",
    "objects",
    "entities",
    "columns",
    "sent",
    "unchanged",
    "filtered",
    "failed",
    "deleted",
    "deletions",
    "salesforce_requests",
    "bytes_received",
    "wall_seconds",
    "export",
];

/// What is emitted beside tables for a generated org, of each kind: where the tables stand, the four classifications, and
/// as tags the eleven marks of a describe and the org's own values of sensitivity, compliance and status.
pub const BESIDE_TABLES: [(Kind, usize); 5] = [
    (Kind::DatabaseService, 1),
    (Kind::Database, 1),
    (Kind::DatabaseSchema, 1),
    (Kind::Classification, 4),
    (Kind::Tag, 29),
];

/// How many entities a generated org with so many tables has.
#[must_use]
pub fn entities_with(tables: usize) -> usize {
    BESIDE_TABLES.iter().map(|(_, entities)| entities).sum::<usize>() + tables
}

/// The workspace's folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Installs the one crypto provider, once a process.
pub fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no other provider");
    });
}

/// Waits for a future within [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long for: {what}"))
}
