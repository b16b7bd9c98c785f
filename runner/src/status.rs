//! What the control plane is told about runs.

use hybrid_runner_connector::Notice;

use crate::event::RunEnd;
use crate::session::{Outcome, Reason, Release, Report, WriteToken};

/// A notice of the source, for the operator of the run.
pub(crate) fn report(token: WriteToken, notice: Notice) -> Report {
    Report { token, severity: notice.severity, code: notice.code, text: notice.text }
}

/// How a lease is given back after a run; none when the run's end took the lease with it.
pub(crate) fn release(token: WriteToken, reason: Reason, end: &RunEnd) -> Option<Release> {
    let (outcome, detail) = match end {
        RunEnd::Committed(_) | RunEnd::LeaseLost { .. } => return None,
        RunEnd::Failed { detail, .. } => (Outcome::Failed, detail.clone()),
        RunEnd::HandedBack { detail, .. } => (Outcome::HandedBack, detail.clone()),
    };
    Some(Release { token, outcome, reason, detail })
}

/// A grant that cannot be taken up.
pub(crate) fn decline(token: WriteToken, reason: Reason, detail: String) -> Release {
    // Without a plan no attempt of this agent can succeed; without a slot another agent's may.
    let is_for_others = reason == Reason::BUSY || reason == Reason::DRAINING;
    let outcome = if is_for_others { Outcome::HandedBack } else { Outcome::Failed };
    Release { token, outcome, reason, detail }
}
