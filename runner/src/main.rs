//! The program `hybrid-runner`.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// What is freed is zeroed, so that no secret outlives its use: neither in a core dump nor in memory that is given out
/// again. Libraries that copy a secret (TLS, HTTP, JSON) do not zero their copies themselves.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // The one crypto provider of the process. It fails only if there is one already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    hybrid_runner::commands::main(std::env::args_os())
}
