//! The program `control-plane`.

use std::process::ExitCode;

use clap::Parser as _;
use control_plane::commands::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    // Fails only when one is installed already, and then that one serves.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    commands::main(Cli::parse()).await
}
