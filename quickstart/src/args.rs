//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// A first look: a control plane, an agent and a simulated Salesforce org in one process, over real gRPC and HTTPS.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo quickstart", version)]
pub(crate) struct Args {
    /// Exit after the first run, with its exit code.
    #[arg(long)]
    pub(crate) once: bool,
    /// Print the run as one JSON object, as the last line of stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// How many objects the simulated org has.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub(crate) objects: usize,
    /// The org is the same for the same seed.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
    /// Milliseconds that every call to the org takes on its way.
    #[arg(long, default_value_t = 20, value_name = "L")]
    pub(crate) latency_ms: u64,
    /// Milliseconds that the org spends on each describe.
    #[arg(long, default_value_t = 10, value_name = "D")]
    pub(crate) describe_ms: u64,
    /// Serve a folder of recorded responses instead of a generated org.
    #[arg(long, value_name = "DIR", conflicts_with = "objects")]
    pub(crate) recordings: Option<PathBuf>,
    /// Where the store, the export and the configuration go; a new directory, kept and printed, when not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Build the three programs, write all they need and the commands that start them into DIR, and exit.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["once", "json", "data_dir"])]
    pub(crate) write: Option<PathBuf>,
}
