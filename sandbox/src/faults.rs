//! What goes wrong, by switch, while clients are connected.

mod disturbance;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use disturbance::{Disturbance, Target, Wrong};

use crate::log::Kind;

/// Everything that can be made to go wrong. The default is a healthy org that answers at once.
///
/// A *call* is one HTTPS request, of whatever kind, numbered from 1 since the server started; a sub-request of a composite
/// is not a call. Counters (`…_next`) count down as they are used up.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// Waited once per call before it is answered.
    pub latency: Duration,
    /// Waited for every describe that is answered with a body, one after the other inside a composite.
    pub describe_time: Duration,
    /// So many of the next calls are answered 503.
    pub unavailable_next: u32,
    /// Calls with these numbers are answered 503.
    pub unavailable_calls: BTreeSet<u64>,
    /// For each part of a path: so many calls whose path contains it are answered 503 (`u32::MAX` for always).
    pub unavailable_paths: BTreeMap<String, u32>,
    /// Seconds in the `Retry-After` header of a 503, if any.
    pub retry_after: Option<u32>,
    /// The connection is reset under so many of the next calls.
    pub reset_next: u32,
    /// The connection is reset under calls with these numbers.
    pub reset_calls: BTreeSet<u64>,
    /// After so many more calls with a session, every session that exists then is dead (once).
    pub expire_sessions_after: Option<u64>,
    /// Every call with a session is answered 403 REQUEST_LIMIT_EXCEEDED.
    pub limit_reached: bool,
    /// Calls that the org has already spent today, shown in `Sforce-Limit-Info`.
    pub calls_used: u64,
    /// Bodies arrive in small pieces.
    pub slow_body: Option<SlowBody>,
    /// The bodies of so many of the next calls end in the middle.
    pub truncate_next: u32,
    /// The describes of these objects are an HTML page with status 200 (inside a composite: a JSON string holding it).
    pub html_describes: BTreeSet<String>,
    /// The describes of these objects are padded to at least this many bytes.
    pub oversized_describes: BTreeMap<String, usize>,
    /// The answer to a SOAP login is a document with a DOCTYPE, of about this many bytes.
    pub soap_doctype: Option<usize>,
    /// Every call is answered 302 to this URL.
    pub redirect_to: Option<String>,
    /// Host (and port) named by `serverUrl` and `instance_url` instead of the one that the client used.
    pub server_host: Option<String>,
    /// The user lacks View Setup and Configuration: EntityDefinition, FieldDefinition and recordCount are refused.
    pub no_view_setup: bool,
    /// Sub-requests of a composite that are answered with an error; the first that fits counts.
    pub parts: Vec<PartFault>,
    /// Faults that are aimed at calls or sub-requests of one kind; the first that fits counts.
    pub disturbances: Vec<Disturbance>,
    /// Sub-requests with a URL of more bytes are answered 414.
    pub longest_part_url: Option<usize>,
    /// FieldDefinition has so many rows more for each object: fields that the user's describe lacks.
    pub hidden_fields: usize,
}

/// An error that sub-requests of a composite are answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFault {
    /// Those whose URL contains this, as it is sent.
    pub url: String,
    /// The status.
    pub status: u16,
    /// The `errorCode`.
    pub code: String,
    /// So many of them (`u32::MAX` for all).
    pub times: u32,
}

/// How slowly a body arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowBody {
    /// Bytes a piece.
    pub chunk: usize,
    /// Waited before each piece.
    pub pause: Duration,
}

/// The switchboard: a cheap handle to the [`FaultPlan`] in force.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<FaultPlan>>);

impl Faults {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self(Arc::new(Mutex::new(plan)))
    }

    /// Changes the plan; calls that are under way keep what they already met.
    pub fn change<T>(&self, change: impl FnOnce(&mut FaultPlan) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The plan in force, with the counters as they stand.
    #[must_use]
    pub fn plan(&self) -> FaultPlan {
        self.change(|plan| plan.clone())
    }

    /// Back to a healthy org.
    pub fn clear(&self) {
        self.change(|plan| *plan = FaultPlan::default());
    }

    /// Uses up what meets the call with this number, before it is answered.
    pub(crate) fn meet(&self, call: u64, path: &str) -> Met {
        self.change(|plan| {
            let fate = fate(plan, call, path);
            let truncated = fate == Fate::Answered && take(&mut plan.truncate_next);
            Met { fate, truncated, latency: plan.latency, slow_body: plan.slow_body }
        })
    }

    /// The status and the code that a sub-request with this URL is made to fail with.
    pub(crate) fn meet_part(&self, url: &str) -> Option<(u16, String)> {
        self.change(|plan| {
            let fault = plan.parts.iter_mut().find(|fault| fault.times > 0 && url.contains(&fault.url))?;
            take(&mut fault.times).then(|| (fault.status, fault.code.clone()))
        })
    }

    /// What happens to a call that is to be answered.
    pub(crate) fn disturb_call(&self, kind: Kind, body: &[u8]) -> Option<Wrong> {
        self.disturb(|target| target.is_call(kind, body))
    }

    /// What happens to a sub-request.
    pub(crate) fn disturb_part(&self, url: &str) -> Option<Wrong> {
        self.disturb(|target| target.is_part(url))
    }

    fn disturb(&self, fits: impl Fn(&Target) -> bool) -> Option<Wrong> {
        self.change(|plan| {
            plan.disturbances.iter_mut().filter(|disturbance| fits(&disturbance.target)).find_map(Disturbance::meet)
        })
    }

    /// Whether the sessions that exist now die with this call.
    pub(crate) fn sessions_expire(&self) -> bool {
        self.change(|plan| match plan.expire_sessions_after {
            Some(0) => {
                plan.expire_sessions_after = None;
                true
            }
            Some(left) => {
                plan.expire_sessions_after = Some(left - 1);
                false
            }
            None => false,
        })
    }
}

/// What meets one call.
pub(crate) struct Met {
    pub(crate) fate: Fate,
    pub(crate) truncated: bool,
    pub(crate) latency: Duration,
    pub(crate) slow_body: Option<SlowBody>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    Reset,
    Unavailable { retry_after: Option<u32> },
    Redirected { to: String },
}

fn fate(plan: &mut FaultPlan, call: u64, path: &str) -> Fate {
    if plan.reset_calls.remove(&call) || take(&mut plan.reset_next) {
        return Fate::Reset;
    }
    let by_path =
        plan.unavailable_paths.iter_mut().find(|(part, _)| path.contains(part.as_str())).is_some_and(|(_, n)| take(n));
    if by_path || plan.unavailable_calls.remove(&call) || take(&mut plan.unavailable_next) {
        return Fate::Unavailable { retry_after: plan.retry_after };
    }
    match &plan.redirect_to {
        Some(to) => Fate::Redirected { to: to.clone() },
        None => Fate::Answered,
    }
}

fn take(count: &mut u32) -> bool {
    let some = *count > 0;
    if *count != u32::MAX {
        *count = count.saturating_sub(1);
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_used_up_and_a_constant_one_is_not() {
        let faults = Faults::default();
        faults.change(|plan| {
            plan.unavailable_next = 1;
            plan.unavailable_paths.insert("/describe".into(), u32::MAX);
        });
        assert_ne!(faults.meet(1, "/x").fate, Fate::Answered);
        assert_eq!(faults.meet(2, "/x").fate, Fate::Answered);
        for call in 3..9 {
            assert_ne!(faults.meet(call, "/a/describe").fate, Fate::Answered);
        }
    }
}
