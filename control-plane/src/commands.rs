//! The commands of the program, one file each.

mod agent;
mod cancel;
mod deletions;
mod entities;
mod export;
mod logs;
mod output;
mod pipelines;
mod run;
mod runs;
mod serve;
mod test_connection;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::store::{SqliteStore, Store, StoreError};

/// The reference control plane of Hybrid Runner.
#[derive(Debug, Parser)]
#[command(name = "control-plane", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve agents until SIGINT or SIGTERM
    Serve(Common),
    /// Show the pipelines, what agents think of them, and files that cannot be used
    Pipelines(Look),
    /// Show the runs, newest first
    Runs(runs::Arguments),
    /// Show what happened in a run: events, and the lines of its log
    Logs(logs::Arguments),
    /// Show what is committed
    Entities(entities::Arguments),
    /// Write what is committed to stdout, as JSON Lines in FQN order
    Export(export::Arguments),
    /// Ask for a run of a pipeline
    Run(run::Arguments),
    /// End a run that is queued or under way; nothing of it is committed
    Cancel(cancel::Arguments),
    /// Have an agent look whether a pipeline's source can be read, step by step
    TestConnection(test_connection::Arguments),
    /// Manage the agents that may connect
    #[command(subcommand)]
    Agent(agent::Command),
    /// Decide deletions that wait for an operator
    #[command(subcommand)]
    Deletions(deletions::Command),
}

#[derive(Debug, Args)]
struct Common {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Look {
    #[command(flatten)]
    common: Common,
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// How a command ends, if not well.
#[derive(Debug)]
enum Failure {
    /// The input is refused: exit code 2.
    Refused(anyhow::Error),
    /// It was tried and failed: exit code 1.
    Failed(anyhow::Error),
}

type Outcome = Result<(), Failure>;

/// For `map_err`: the input is refused.
fn refused(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Refused(error.into())
}

/// For `map_err`: it was tried and failed.
fn failed(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Failed(error.into())
}

/// Runs the command of the command line.
pub async fn main(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Serve(common) => serve::run(&common).await,
        Command::Pipelines(look) => pipelines::run(&look).await,
        Command::Runs(arguments) => runs::run(&arguments).await,
        Command::Logs(arguments) => logs::run(&arguments).await,
        Command::Entities(arguments) => entities::run(&arguments).await,
        Command::Export(arguments) => export::run(&arguments).await,
        Command::Run(arguments) => run::run(&arguments).await,
        Command::Cancel(arguments) => cancel::run(&arguments).await,
        Command::TestConnection(arguments) => test_connection::run(&arguments).await,
        Command::Agent(command) => agent::run(command).await,
        Command::Deletions(command) => deletions::run(command).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(error)) => output::error(&error, 2),
        Err(Failure::Failed(error)) => output::error(&error, 1),
    }
}

fn load(common: &Common) -> Result<Config, Failure> {
    Config::load(&common.config).map_err(refused)
}

/// The store of a control plane that was started before.
async fn existing_store(config: &Config) -> Result<Arc<dyn Store>, Failure> {
    if !config.store.exists() {
        let path = config.store.display();
        return Err(refused(anyhow::anyhow!("there is no store at {path}; `control-plane serve` makes it")));
    }
    let store = SqliteStore::open_existing(&config.store).await;
    Ok(Arc::new(store.map_err(|error| unopened(&config.store, error))?))
}

/// A store that cannot be opened: which, why, and what to do.
fn unopened(path: &Path, error: StoreError) -> Failure {
    let remedy = error.remedy();
    failed(anyhow::Error::new(error).context(format!("{} cannot be opened ({remedy})", path.display())))
}
