//! The program `hybrid-runner-conformance`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hybrid_runner_conformance::{Commands, Identity, Options, Outcome, Report, Target, catalogue, run};
use serde_json::{Value, json};

/// Plays an agent against a control plane and says where it does otherwise than docs/protocol.md says.
///
/// It needs an agent's identity, a pipeline of the source kind `salesforce` that nobody else runs meanwhile, and runs of
/// it: some that are queued, or --trigger. What it commits are four tables that it deletes again. Exit code 0: nothing
/// failed; 1: something did; 2: what was given is not accepted.
#[derive(Debug, Parser)]
#[command(name = "hybrid-runner-conformance", version)]
struct Cli {
    /// Where the control plane is: https://HOST:PORT.
    #[arg(long, value_name = "URL", required_unless_present = "list")]
    endpoint: Option<String>,
    /// What signed the control plane's certificate, PEM; the system's trust when absent.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The agent's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "token_file")]
    cert: Option<PathBuf>,
    /// The certificate's key, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A file with the agent's bearer token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The pipeline to run; needed when several are offered.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Only checks whose name contains this. May be given several times.
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// A shell command that queues a run of the pipeline $PIPELINE.
    #[arg(long, value_name = "COMMAND")]
    trigger: Option<String>,
    /// A shell command that cancels the run $RUN_ID.
    #[arg(long, value_name = "COMMAND")]
    cancel: Option<String>,
    /// The longest to wait for a lease to run out, in seconds; checks that take longer are not run.
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    patience: u64,
    /// Prints one JSON array in place of lines.
    #[arg(long)]
    json: bool,
    /// Prints the names of the checks and what they test, and does nothing.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // A reader that has seen enough (`| head`) is no error.
    let print = |line: &str| drop(writeln!(io::stdout(), "{line}"));
    let cli = Cli::parse();
    if cli.list {
        catalogue().for_each(|(name, rule)| print(&format!("{name}: {rule}")));
        return ExitCode::SUCCESS;
    }
    match perform(&cli, print).await {
        Ok(code) => code,
        Err(refusal) => {
            drop(writeln!(io::stderr(), "error: {refusal}"));
            ExitCode::from(2)
        }
    }
}

async fn perform(cli: &Cli, print: impl Fn(&str)) -> Result<ExitCode, String> {
    let target = target(cli)?;
    let known = |part: &String| catalogue().any(|(name, _)| name.contains(part.as_str()));
    if let Some(unknown) = cli.only.iter().find(|part| !known(part)) {
        return Err(format!("--only: no check is called {unknown:?}; --list names them"));
    }
    let operator = Arc::new(Commands { trigger: cli.trigger.clone(), cancel: cli.cancel.clone() });
    let patience = Duration::from_secs(cli.patience);
    let options = Options { pipeline: cli.pipeline.clone(), only: cli.only.clone(), patience };
    let mut reports = Vec::new();
    let report = |report: &Report| {
        if !cli.json {
            print(&line(report));
        }
        reports.push(report.clone());
    };
    run(&target, operator, &options, report).await.map_err(|error| chain(&error))?;
    let count = |wanted: fn(&Outcome) -> bool| reports.iter().filter(|report| wanted(&report.outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    if cli.json {
        print(&reports.iter().map(value).collect::<Value>().to_string());
    } else {
        let (ok, not_run) = (count(|o| *o == Outcome::Ok), count(|o| matches!(o, Outcome::NotRun(_))));
        print(&format!("\n{ok} ok, {failed} failed, {not_run} not run"));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn target(cli: &Cli) -> Result<Target, String> {
    let read = |option: &str, path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{option}: read {}: {error}", path.display()))
    };
    let identity = match (&cli.cert, &cli.key, &cli.token_file) {
        (Some(cert), Some(key), None) => {
            Identity::Certificate { chain: read("--cert", cert)?, key: read("--key", key)? }
        }
        (None, None, Some(token)) => Identity::Token(read("--token-file", token)?.trim().to_owned()),
        _ => return Err("give --cert and --key, or --token-file: who the agent is".to_owned()),
    };
    let ca = cli.ca.as_deref().map(|ca| read("--ca", ca)).transpose()?;
    Target::new(cli.endpoint.as_deref().unwrap_or_default(), ca, identity)
        .map_err(|error| format!("--endpoint: {error}"))
}

/// `ok`, `FAIL` or `not run`, the check, its rule, and why.
fn line(report: &Report) -> String {
    let Report { name, rule, outcome } = report;
    match outcome {
        Outcome::Ok => format!("ok       {name}: {rule}"),
        Outcome::Failed(why) => format!("FAIL     {name}: {rule} -- {why}"),
        Outcome::NotRun(why) => format!("not run  {name}: {rule} -- {why}"),
    }
}

fn value(report: &Report) -> Value {
    let (result, detail) = match &report.outcome {
        Outcome::Ok => ("ok", None),
        Outcome::Failed(why) => ("failed", Some(why)),
        Outcome::NotRun(why) => ("not_run", Some(why)),
    };
    json!({"check": report.name, "rule": report.rule, "result": result, "detail": detail})
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_it_ended_and_why() {
        let report = |outcome| Report { name: "a_check", rule: "A rule.", outcome };
        let failed = report(Outcome::Failed("it was not refused".to_owned()));
        assert_eq!(line(&report(Outcome::Ok)), "ok       a_check: A rule.");
        assert_eq!(line(&failed), "FAIL     a_check: A rule. -- it was not refused");
        assert_eq!(line(&report(Outcome::NotRun("why".to_owned()))), "not run  a_check: A rule. -- why");
        let expected =
            json!({"check": "a_check", "rule": "A rule.", "result": "failed", "detail": "it was not refused"});
        assert_eq!(value(&failed), expected);
    }
}
