//! The conformance kit: plays the agent from the words of `hybrid/runner/v1` alone, and says what a control plane does
//! otherwise. Nothing of the runner is in it, so that it cannot agree with a fault that both of ours share.
//!
//! ```text
//! Target ─▶ connect: TLS, HTTP/2, identity ─▶ wire: a session or a push, message by message
//!                                               └▶ kit: the run that the checks stand on
//!                                                   └▶ checks: one function for one rule of docs/protocol.md
//! ```
//!
//! What it needs of the control plane: an identity for an agent; a pipeline of the source kind `salesforce` that nobody
//! else runs meanwhile (what it commits there are five tables that never existed, which it deletes again); and runs, that
//! are queued already or by an [`Operator`]. A check whose needs are not met is *not run*, which is no failure.

mod check;
mod checks;
mod connect;
mod kit;
mod operator;
mod records;
mod wire;

use std::sync::Arc;
use std::time::Duration;

pub use check::{Outcome, Report};
pub use connect::{ConnectError, Identity, Target};
pub use operator::{CannotAct, Commands, Operator};

use kit::Kit;

/// What a caller may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// The pipeline to run; the only one that is offered, when absent.
    pub pipeline: Option<String>,
    /// Only checks whose name contains one of these; all, when empty.
    pub only: Vec<String>,
    /// The longest that a check waits for a lease or a session to run out. What takes longer is not run.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { pipeline: None, only: Vec::new(), patience: Duration::from_secs(30) }
    }
}

/// Every check, as its name and the rule of docs/protocol.md that it tests, in the order in which they run.
pub fn catalogue() -> impl Iterator<Item = (&'static str, &'static str)> {
    checks::all().map(|check| (check.name, check.rule))
}

/// Runs the checks, hands on each report as it comes, and cleans up as far as the protocol allows.
///
/// # Errors
/// [`ConnectError`]: there is nothing to talk to.
pub async fn run(
    target: &Target,
    operator: Arc<dyn Operator>,
    options: &Options,
    mut report: impl FnMut(&Report),
) -> Result<(), ConnectError> {
    let link = connect::connect(target).await?;
    let mut kit = Kit::new(link, target, operator, options);
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|part| name.contains(part.as_str()));
    for check in checks::all().filter(|check| wanted(check.name)) {
        // What a check provokes counts against its own connection: a server hangs up on one that errs too often.
        kit.link = connect::connect(target).await?;
        let outcome = check.perform(&mut kit).await;
        report(&Report { name: check.name, rule: check.rule, outcome });
    }
    kit.clean_up().await;
    Ok(())
}
