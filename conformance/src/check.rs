//! What a check is, and how it ends.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::kit::Kit;

/// No check takes longer, but for those that wait for time to pass: a control plane that never answers ends the kit, too.
const LONGEST: Duration = Duration::from_secs(60);

/// A rule and the function that tests it.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) test: for<'a> fn(&'a mut Kit) -> Testing<'a>,
}

/// A check under way.
pub(crate) type Testing<'a> = Pin<Box<dyn Future<Output = Checked> + 'a>>;

/// What a step of a check comes to.
pub(crate) type Checked<T = ()> = Result<T, Stop>;

/// Why a check goes no further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The control plane does otherwise.
    Failed(String),
    /// It could not be tested.
    NotRun(String),
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The rule is kept.
    Ok,
    /// It is not: what came in place of what should.
    Failed(String),
    /// It could not be tested, and why.
    NotRun(String),
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The check.
    pub name: &'static str,
    /// The sentence of docs/protocol.md that it tests.
    pub rule: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

impl Check {
    pub(crate) async fn perform(&self, kit: &mut Kit) -> Outcome {
        let longest = LONGEST + 2 * kit.options.patience;
        match tokio::time::timeout(longest, (self.test)(kit)).await {
            Ok(Ok(())) => Outcome::Ok,
            Ok(Err(Stop::Failed(why))) => Outcome::Failed(why),
            Ok(Err(Stop::NotRun(why))) => Outcome::NotRun(why),
            Err(_elapsed) => Outcome::Failed(format!("did not end within {} s", longest.as_secs())),
        }
    }
}

/// The rule is broken.
pub(crate) fn failed<T>(why: impl Into<String>) -> Checked<T> {
    Err(Stop::Failed(why.into()))
}

/// The rule cannot be tested here.
pub(crate) fn not_run<T>(why: impl Into<String>) -> Checked<T> {
    Err(Stop::NotRun(why.into()))
}

/// The rule is broken unless this holds.
pub(crate) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { failed(why()) }
}

/// A table of checks: the function, and the rule in the words of docs/protocol.md.
macro_rules! checks {
    ($($function:ident: $rule:literal;)*) => {
        pub(super) const CHECKS: &[$crate::check::Check] = &[$($crate::check::Check {
            name: stringify!($function),
            rule: $rule,
            test: |kit| Box::pin($function(kit)),
        }),*];
    };
}
pub(crate) use checks;
