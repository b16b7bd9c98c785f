//! The program `hybrid-runner`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The one crypto provider of the process. It fails only if there is one already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    hybrid_runner::commands::main(std::env::args_os())
}
