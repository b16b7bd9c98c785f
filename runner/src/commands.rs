//! The program's commands, one file each.
//!
//! Exit codes: 0 complete, 1 failed, 2 refused before anything was sent, 3 written but incomplete.

mod config_schema;
mod doctor;
mod extract;
mod policy;
mod run;
mod secrets;
mod terminal;
mod test_connection;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hybrid_runner_observability::TracesError;
use hybrid_runner_secrets::Redactor;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{ConfigError, Environment, Log};
use crate::hardening;
use crate::telemetry::{self, Chain, TelemetryError};
use terminal::Terminal;

/// Salesforce metadata into OpenMetadata; credentials never leave the network.
#[derive(Debug, Parser)]
#[command(name = "hybrid-runner", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: connect to the control plane and run the pipelines that it grants.
    Run {
        /// The agent's configuration, YAML.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Extract once, without a control plane, from an OpenMetadata workflow file.
    Extract(extract::Arguments),
    /// Look whether a workflow's source can be read, step by step, and what to change when not.
    TestConnection(test_connection::Arguments),
    /// Look what is wrong between this machine and a run, and what to do about it. Disturbs no agent.
    Doctor(doctor::Arguments),
    /// About the local policy: which secret may go where.
    #[command(subcommand)]
    Policy(policy::Command),
    /// About the secrets that pipelines refer to.
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// About the configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the JSON schema of the configuration file.
    Schema {
        /// Check this file first; it is refused as `run` would refuse it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// On one line, for programs.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the program with its arguments, the program's name first.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors of clap's, too, with exit code 0. A closed stdout changes nothing.
            drop(error.print());
            return if error.use_stderr() { CommandError::REFUSED.into() } else { ExitCode::SUCCESS };
        }
    };
    let terminal = Terminal::default();
    perform(arguments.command, &terminal).unwrap_or_else(|error| {
        terminal.tell(&format!("error: {}", error.text));
        error.code.into()
    })
}

fn perform(command: Command, terminal: &Terminal) -> Result<ExitCode, CommandError> {
    hardening::apply().map_err(|error| CommandError::failed(format!("harden the process: {error}")))?;
    let environment = Environment::of_process();
    match command {
        Command::Run { config } => run::run(&config, &environment, terminal).map(|()| ExitCode::SUCCESS),
        Command::Extract(arguments) => extract::run(&arguments, &environment, terminal),
        Command::TestConnection(arguments) => test_connection::run(&arguments, &environment, terminal),
        Command::Doctor(arguments) => doctor::run(&arguments, &environment, terminal),
        Command::Secrets(command) => secrets::run(command, &environment, terminal),
        Command::Policy(command) => policy::run(&command, &environment, terminal),
        Command::Config(ConfigCommand::Schema { config, json }) => {
            config_schema::run(config.as_deref(), json, &environment, terminal).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// A command ended in error.
#[derive(Debug)]
struct CommandError {
    code: u8,
    text: String,
}

impl CommandError {
    const FAILED: u8 = 1;
    const REFUSED: u8 = 2;

    /// The input is refused; nothing was sent.
    fn refused(text: impl Into<String>) -> Self {
        Self { code: Self::REFUSED, text: text.into() }
    }

    fn failed(text: impl Into<String>) -> Self {
        Self { code: Self::FAILED, text: text.into() }
    }

    fn failed_by(error: &(dyn Error + 'static)) -> Self {
        Self::failed(Chain(error).to_string())
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::refused(Chain(&error).to_string())
    }
}

impl From<TracesError> for CommandError {
    fn from(error: TracesError) -> Self {
        Self::refused(Chain(&error).to_string())
    }
}

impl From<TelemetryError> for CommandError {
    fn from(error: TelemetryError) -> Self {
        Self::refused(Chain(&error).to_string())
    }
}

/// Threads of the runtime: one a core, but no more than a few. Most of the work is waiting for others, and each thread has
/// memory of its own, so that the agent of a large machine would be larger.
const MOST_THREADS: usize = 4;

/// Threads for what blocks: names are looked up, files read. Enough for each connection of a run to look its host up.
const BLOCKING_THREADS: usize = 16;

/// Starts the log; neither it nor the terminal shows what the redactor knows from now on.
fn start_output(terminal: &Terminal, log: &Log, redactor: &Redactor) -> Result<(), CommandError> {
    terminal.without(redactor);
    Ok(telemetry::start(log, redactor, None)?)
}

/// What a command comes to, unless somebody ends it first.
async fn interruptible<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| CommandError::failed(format!("listen for signals: {error}")))?;
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(CommandError::failed("interrupted")),
        _ = terminate.recv() => Err(CommandError::failed("interrupted")),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MOST_THREADS))
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed_by(&error))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_of_every_command_fit_together() {
        Arguments::command().debug_assert();
    }
}
