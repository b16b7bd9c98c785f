//! The org's daily limit of API requests: how much of it a run may use, and what is left.
//!
//! The org says what it counted on each answer (`Sforce-Limit-Info: api-usage=695/15000`), some seconds late and not in
//! order, so a run adds its own requests to what was used when it began and believes whichever is more. Two bounds hold,
//! both checked before a request is sent: the definition's `apiBudgetCalls`, and `apiReservePercent` of the daily limit,
//! which is for others. At a bound the run ends; what it has emitted keeps its checkpoint.
//!
//! It also counts the answers that ask for fewer requests at a time ([`Quota::pressure`]).

use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderMap;
use serde::Deserialize;

use crate::config::Options;

/// Where Salesforce says what the org has used.
const LIMIT_INFO: &str = "sforce-limit-info";

/// Counts the requests of a run.
#[derive(Debug)]
pub(crate) struct Quota {
    budget: Option<u64>,
    reserve_percent: u32,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Of this run, as Salesforce counts.
    calls: u64,
    usage: Option<Usage>,
    /// Calls of this run that `usage.used` certainly includes none of.
    calls_at_first_usage: u64,
    pressure: u64,
}

/// What the org has used of its daily limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) used: u64,
    pub(crate) max: u64,
}

/// No request may be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Spent {
    /// `apiBudgetCalls`
    #[error(
        "the run has made {calls} requests, and apiBudgetCalls permits no more that would be of use; raise it \
         (connectionOptions), or read fewer objects"
    )]
    Budget { calls: u64 },
    /// `apiReservePercent`
    #[error(
        "the org has used {used} of its {max} API requests of 24 hours, and apiReservePercent leaves {percent} % to others; \
         run later, or lower it (connectionOptions)"
    )]
    Reserve { used: u64, max: u64, percent: u32 },
}

impl Quota {
    /// For one run.
    pub(crate) fn new(budget: Option<u64>, reserve_percent: u32) -> Self {
        Self { budget, reserve_percent, state: Mutex::default() }
    }

    /// Counts a request that is about to be sent, unless it would go beyond a bound.
    pub(crate) fn admit(&self) -> Result<(), Spent> {
        self.with(|state| {
            if let Some(budget) = self.budget.filter(|budget| state.calls >= *budget) {
                return Err(Spent::Budget { calls: budget });
            }
            if let Some(Usage { used, max }) = state.estimate()
                && max.saturating_sub(used + 1) < self.reserve(max)
            {
                return Err(Spent::Reserve { used, max, percent: self.reserve_percent });
            }
            state.calls += 1;
            Ok(())
        })
    }

    /// Reads what an answer says about the limit.
    pub(crate) fn observe(&self, headers: &HeaderMap) {
        if let Some(usage) = headers.get(LIMIT_INFO).and_then(|value| value.to_str().ok()).and_then(Usage::of_header) {
            self.learn(usage);
        }
    }

    /// The org says what it has used.
    pub(crate) fn learn(&self, usage: Usage) {
        self.with(|state| match &mut state.usage {
            None => {
                state.calls_at_first_usage = state.calls;
                state.usage = Some(usage);
            }
            // Late answers say less than early ones; a limit that was raised counts at once.
            Some(known) => {
                known.max = usage.max;
                if usage.used > known.used + (state.calls - state.calls_at_first_usage) {
                    *known = usage;
                    state.calls_at_first_usage = state.calls;
                }
            }
        });
    }

    /// An answer asked for fewer requests at a time.
    pub(crate) fn press(&self) {
        self.with(|state| state.pressure += 1);
    }

    /// How often that was.
    pub(crate) fn pressure(&self) -> u64 {
        self.with(|state| state.pressure)
    }

    /// Requests that the org permits today beyond those made; `None` when it did not say.
    pub(crate) fn left(&self) -> Option<u64> {
        self.with(|state| state.estimate()).map(|usage| usage.max.saturating_sub(usage.used))
    }

    /// Requests that this run may still make.
    pub(crate) fn permitted(&self) -> Option<u64> {
        let (calls, usage) = self.with(|state| (state.calls, state.estimate()));
        let by_budget = self.budget.map(|budget| budget.saturating_sub(calls));
        let by_reserve =
            usage.map(|usage| usage.max.saturating_sub(usage.used).saturating_sub(self.reserve(usage.max)));
        by_budget.into_iter().chain(by_reserve).min()
    }

    /// The bound that is nearest.
    pub(crate) fn bound(&self) -> Spent {
        let (calls, usage) = self.with(|state| (state.calls, state.estimate()));
        match (self.budget, usage) {
            (Some(budget), _) if self.permitted() == Some(budget.saturating_sub(calls)) => Spent::Budget { calls },
            (_, Some(Usage { used, max })) => Spent::Reserve { used, max, percent: self.reserve_percent },
            (_, None) => Spent::Budget { calls },
        }
    }

    fn reserve(&self, max: u64) -> u64 {
        max.saturating_mul(self.reserve_percent.into()) / 100
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Fields that an object has on average, to tell beforehand how many requests a run needs: between the 30 of a bare org
/// and the 110 of one with many of its own, and three that FieldDefinition has beside those of a describe.
const FIELDS_AN_OBJECT: u64 = 60 + 3;

/// Requests before the first object is read: list and limits. Login and versions do not count towards the daily limit.
const BEFORE: u64 = 2;

/// About how many requests that count a run over so many objects needs.
pub(crate) fn needed(objects: usize, options: &Options) -> u64 {
    BEFORE + to_read(objects, options)
}

/// About how many of them read the objects: 25 describes a call; rows of FieldDefinition and EntityDefinition, 2,000 a
/// query, five queries a call. With `fieldOwners`, each of these may bring owners who are asked for in a call of their own;
/// `recordCounts` are one call.
pub(crate) fn to_read(objects: usize, options: &Options) -> u64 {
    let objects = u64::try_from(objects).unwrap_or(u64::MAX);
    let queries = objects.saturating_mul(FIELDS_AN_OBJECT).div_ceil(2_000) + objects.div_ceil(2_000);
    let annotations = queries.div_ceil(5);
    let owners = if options.field_owners { annotations } else { 0 };
    let counts = u64::from(options.record_counts && objects > 0);
    objects.div_ceil(25) + annotations + owners + counts
}

impl State {
    fn estimate(&self) -> Option<Usage> {
        let usage = self.usage?;
        Some(Usage { used: usage.used + (self.calls - self.calls_at_first_usage), ..usage })
    }
}

impl Usage {
    /// `api-usage=695/15000`, possibly with other figures behind it.
    fn of_header(value: &str) -> Option<Self> {
        let figures = value.split([',', ';']).find_map(|part| part.trim().strip_prefix("api-usage="))?;
        let (used, max) = figures.split_once('/')?;
        Some(Self { used: used.parse().ok()?, max: max.parse().ok()? })
    }

    /// The answer of `/limits`.
    pub(crate) fn of_limits(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Limits {
            daily_api_requests: Limit,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Limit {
            max: u64,
            remaining: u64,
        }
        let limits: Limits = serde_json::from_slice(answer).ok()?;
        let Limit { max, remaining } = limits.daily_api_requests;
        Some(Self { used: max.saturating_sub(remaining), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(used: u64, max: u64) -> Usage {
        Usage { used, max }
    }

    fn admitted(quota: &Quota) -> u64 {
        (0..).find(|_| quota.admit().is_err()).unwrap()
    }

    #[test]
    fn the_header_is_read_and_nothing_else_taken_for_it() {
        assert_eq!(Usage::of_header("api-usage=695/15000"), Some(usage(695, 15_000)));
        assert_eq!(Usage::of_header("api-usage=1/2, per-app-api-usage=17/250(appName=x)"), Some(usage(1, 2)));
        for none in ["", "api-usage=", "api-usage=1", "api-usage=-1/2", "per-app-api-usage=17/250", "api-usage=a/b"] {
            assert_eq!(Usage::of_header(none), None, "{none}");
        }
        assert_eq!(Usage::of_limits(br#"{"DailyApiRequests":{"Max":100,"Remaining":30},"X":1}"#), Some(usage(70, 100)));
        assert_eq!(Usage::of_limits(b"{}"), None);
    }

    #[test]
    fn a_budget_is_never_exceeded() {
        let quota = Quota::new(Some(7), 0);
        assert_eq!(quota.permitted(), Some(7));
        assert_eq!(admitted(&quota), 7);
        assert_eq!(quota.admit(), Err(Spent::Budget { calls: 7 }));
        assert_eq!(quota.permitted(), Some(0));
    }

    #[test]
    fn the_reserve_is_left_to_others() {
        let quota = Quota::new(None, 20);
        assert_eq!((quota.permitted(), quota.left()), (None, None));
        quota.learn(usage(70, 100));
        assert_eq!((quota.permitted(), quota.left()), (Some(10), Some(30)));
        assert_eq!(admitted(&quota), 10);
        assert_eq!(quota.left(), Some(20));
        assert_eq!(quota.admit(), Err(Spent::Reserve { used: 80, max: 100, percent: 20 }));
    }

    #[test]
    fn an_answer_that_comes_late_does_not_give_requests_back() {
        let quota = Quota::new(None, 0);
        quota.learn(usage(10, 100));
        for _ in 0..5 {
            quota.admit().unwrap();
        }
        quota.learn(usage(9, 100));
        assert_eq!(quota.left(), Some(85));
        // Others use the org as well.
        quota.learn(usage(40, 100));
        assert_eq!(quota.left(), Some(60));
        quota.learn(usage(40, 200));
        assert_eq!(quota.left(), Some(160));
    }

    #[test]
    fn what_a_run_needs_grows_with_its_objects() {
        let plain = &Options::default();
        assert_eq!([0, 1, 25].map(|objects| needed(objects, plain)), [2, 2 + 1 + 1, 2 + 1 + 1]);
        // 63,000 fields are 32 queries, and one of objects: seven calls.
        assert_eq!((needed(1_000, plain), to_read(1_000, plain)), (2 + 40 + 7, 40 + 7));
    }

    #[test]
    fn owners_and_record_counts_have_calls_of_their_own() {
        let (mut owners, mut counts) = (Options::default(), Options::default());
        owners.field_owners = true;
        counts.record_counts = true;
        assert_eq!([0, 1, 1_000].map(|objects| to_read(objects, &owners)), [0, 1 + 1 + 1, 40 + 7 + 7]);
        assert_eq!([0, 1, 1_000].map(|objects| to_read(objects, &counts)), [0, 1 + 1 + 1, 40 + 7 + 1]);
    }

    #[test]
    fn without_a_word_of_the_org_only_the_budget_holds() {
        let quota = Quota::new(None, 20);
        for _ in 0..1000 {
            quota.admit().unwrap();
        }
        assert_eq!(quota.permitted(), None);
    }
}
