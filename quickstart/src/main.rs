//! `cargo quickstart`: a control plane, an agent and a simulated Salesforce org in one process, joined by the real wire.
//!
//! Nothing here is a short cut: the agent dials the control plane over gRPC with mutual TLS on loopback, is granted the
//! pipeline, resolves its references, logs in to the org over HTTPS, and its entities are committed into a SQLite file.

mod args;
mod deployment;
mod first_look;
mod report;
mod show;
mod write;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    // Warnings and errors only: the screen belongs to the first look.
    let filter = tracing_subscriber::EnvFilter::new("warn");
    let screen = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(screen).with(hybrid_runner::run_log_layer()).init();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        show::refuse("another crypto provider is installed already");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            show::refuse(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match &args.write {
            Some(dir) => write::write(&args, dir).await.map(|()| show::written(dir)),
            None => first_look::run(&args).await,
        }
    });
    done.unwrap_or_else(|error| {
        show::refuse(&format!("{error:#}"));
        ExitCode::from(2)
    })
}
