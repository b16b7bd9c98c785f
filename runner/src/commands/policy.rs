//! `hybrid-runner policy explain`: what the local policy would permit of a workflow, and why. No store is asked.

use std::process::ExitCode;

use comfy_table::Table;
use hybrid_runner_connector::SecretUse;
use hybrid_runner_secrets::{Decision, Resolver};
use serde::Serialize;

use super::CommandError;
use super::extract::local::WorkflowArguments;
use super::terminal::Terminal;
use crate::config::Environment;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print for each secret of a workflow whether the policy permits it, why, and what to change. Reads no secret.
    Explain(Explain),
}

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    #[command(flatten)]
    local: WorkflowArguments,
    /// Print one JSON array in place of the table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    Command::Explain(arguments): &Command,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<ExitCode, CommandError> {
    let settings = arguments.local.settings(environment, terminal)?;
    let local = arguments.local.load(settings, environment)?;
    let rows: Vec<_> = local.plan.source.secrets().iter().map(|secret| Row::new(secret, &local.secrets)).collect();
    let text = if arguments.json {
        serde_json::to_string(&rows).map_err(|error| CommandError::failed_by(&error))?
    } else {
        table(&local.name, &rows)
    };
    terminal.print(&text)?;
    Ok(if rows.iter().all(|row| row.allowed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One secret as it is printed.
#[derive(Debug, Serialize)]
struct Row {
    field: String,
    reference: String,
    store: String,
    r#use: &'static str,
    host: String,
    port: u16,
    allowed: bool,
    why: String,
    /// What to change when it is not allowed.
    remedy: Option<String>,
    /// Where a session may go that is got with it.
    session_hosts: Vec<String>,
}

impl Row {
    fn new(secret: &SecretUse, resolver: &Resolver) -> Self {
        let SecretUse { field, reference, purpose } = secret;
        let decision = resolver.decide(reference, purpose);
        let session_hosts = match &decision {
            Decision::Allowed { .. } => resolver.session_hosts(reference, purpose),
            Decision::Denied(_) => Vec::new(),
        };
        Self {
            field: field.clone(),
            reference: reference.to_string(),
            store: resolver.store_of(reference).to_owned(),
            r#use: purpose.usage.as_str(),
            host: purpose.host.clone(),
            port: purpose.port,
            allowed: decision.is_allowed(),
            why: decision.to_string(),
            remedy: match &decision {
                Decision::Allowed { .. } => None,
                Decision::Denied(denial) => Some(denial.remedy()),
            },
            session_hosts: session_hosts.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A row a secret; below it why, and what follows.
fn table(pipeline: &str, rows: &[Row]) -> String {
    if rows.is_empty() {
        return format!("pipeline {pipeline}: it reads no secret");
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    for row in rows {
        let mut why = row.why.clone();
        if let Some(remedy) = &row.remedy {
            why.push_str(&format!("\n→ {remedy}"));
        } else if !row.session_hosts.is_empty() {
            why.push_str(&format!("\na session got with it may go to {}", row.session_hosts.join(", ")));
        }
        let place = format!("{} at {}:{}", row.r#use, row.host, row.port);
        let answer = if row.allowed { "allowed" } else { "denied" };
        let source = format!("{}\nstore {}", row.reference, row.store);
        table.add_row([&row.field, &source, &place, answer, &why]);
    }
    format!("pipeline {pipeline}\n{}", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hybrid_runner_secrets::{Binding, Policy, Purpose, Stores, Use};

    use super::*;

    fn row(host: &str) -> Row {
        let binding = Binding::new(
            "policy.bindings[0]",
            vec!["secret:/a".parse().unwrap()],
            vec!["*.salesforce.com".parse().unwrap()],
        );
        let resolver = Resolver::new(Arc::new(Stores::default()), Arc::new(Policy::new(vec![binding])), None);
        let purpose = Purpose { usage: Use::Soap, host: host.to_owned(), port: 443 };
        let reference = "secret:/a#k".parse().unwrap();
        Row::new(&SecretUse { field: "password".to_owned(), reference, purpose }, &resolver)
    }

    #[test]
    fn a_denied_secret_is_printed_with_what_to_change_and_no_hosts() {
        let denied = row("evil.example");
        assert!(!denied.allowed && denied.session_hosts.is_empty());
        let text = table("p", &[denied]);
        assert!(text.contains("denied") && text.contains("→ in policy.bindings[0], add evil.example:443"), "{text}");
    }

    #[test]
    fn an_allowed_secret_is_printed_with_where_its_session_may_go() {
        // There is no store: an explanation asks none.
        let allowed = row("login.salesforce.com");
        assert_eq!(allowed.session_hosts, ["*.salesforce.com:443"]);
        assert_eq!((allowed.store.as_str(), allowed.remedy.is_none()), ("default", true));
        let json = serde_json::to_value(&allowed).unwrap();
        assert_eq!((&json["use"], &json["allowed"]), (&"soap".into(), &true.into()));
        assert!(table("p", &[allowed]).contains("policy.bindings[0] permits it"));
    }
}
