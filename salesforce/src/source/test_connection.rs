//! Whether a run would work, step by step.
//!
//! ```text
//! CheckAccess    the sum of the next three: this login lists the org's objects     mandatory
//! Login          secrets resolve, Salesforce accepts them                          mandatory
//! ApiVersion     what the org offers, what is used                                 mandatory
//! ListObjects    how many objects, how many in scope                               mandatory
//! DescribeObject the first object in scope is described and mapped                 mandatory
//! ToolingAccess  EntityDefinition and FieldDefinition can be read
//! ApiLimits      requests left today, beside what a run needs
//! NamedObjects   each of `sobjectNames` is there; only when it is set
//! ```
//!
//! A step that needs what a failed one would have found is skipped. Six requests on a healthy org, one of them the
//! login: a rejected one is not repeated. A step ends after [`STEP_TIMEOUT`], the test after [`TEST_TIMEOUT`].

use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::{Baseline, Extraction, Progress, Reason, SourceError, Step, StepOutcome};
use hybrid_runner_secrets::Resolver;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::discovery::{self, Refused};
use super::{SalesforceSource, refused_late};
use crate::auth::Access;
use crate::composite::is_api_name;
use crate::config::{ApiVersion, Selection};
use crate::describe::Describe;
use crate::http::{CallError, InBrackets};
use crate::listing::ListedObject;
use crate::map::Mapper;
use crate::quota::{self, Quota, Usage};

/// A step may take so long: more than a slow org needs, less than a person waits.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// All steps may take so long together: OpenMetadata's form gives up after two minutes.
const TEST_TIMEOUT: Duration = Duration::from_secs(100);

/// Names that a message lists; more are counted.
const LISTED: usize = 20;

/// A step before it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    mandatory: bool,
}

const CHECK_ACCESS: Kind = Kind { name: "CheckAccess", mandatory: true };
const LOGIN: Kind = Kind { name: "Login", mandatory: true };
const API_VERSION: Kind = Kind { name: "ApiVersion", mandatory: true };
const LIST_OBJECTS: Kind = Kind { name: "ListObjects", mandatory: true };
const DESCRIBE_OBJECT: Kind = Kind { name: "DescribeObject", mandatory: true };
const TOOLING_ACCESS: Kind = Kind { name: "ToolingAccess", mandatory: false };
const API_LIMITS: Kind = Kind { name: "ApiLimits", mandatory: false };
const NAMED_OBJECTS: Kind = Kind { name: "NamedObjects", mandatory: false };

/// The steps in their order, behind [`CHECK_ACCESS`].
const ORDER: [Kind; 7] = [LOGIN, API_VERSION, LIST_OBJECTS, DESCRIBE_OBJECT, TOOLING_ACCESS, API_LIMITS, NAMED_OBJECTS];

/// Takes the steps.
pub(super) async fn run(source: &SalesforceSource, secrets: Arc<Resolver>) -> Vec<Step> {
    let extraction = Extraction {
        secrets,
        start: None,
        baseline: Arc::new(Baseline::default()),
        full: false,
        progress: Arc::new(Progress::default()),
    };
    let mut taken = Taken { steps: Vec::new(), until: Instant::now() + TEST_TIMEOUT };
    // A test is not held back by what a run is permitted: six requests show what is left.
    let quota = Arc::new(Quota::new(None, 0));
    let listed = Box::pin(walk(source, &extraction, &quota, &mut taken)).await.is_some();
    in_order(taken.steps, listed, source.config.scope.has_names())
}

/// What was found, or why it is not as it should be.
type Finding = Result<String, Trouble>;

/// A failed step.
#[derive(Debug)]
struct Trouble {
    reason: Reason,
    message: String,
    remediation: String,
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        // The message travels to whoever asked for the test; the cause is for the agent's own operator.
        if let Some(cause) = &error.cause {
            info!(reason = %error.reason, %cause, "a step of a connection test failed: {}", error.detail);
        }
        Self { reason: error.reason, message: error.detail, remediation: next_step(error.reason).to_owned() }
    }
}

/// The steps that were taken.
struct Taken {
    steps: Vec<Step>,
    until: Instant,
}

impl Taken {
    /// Takes a step. `None`: nothing came of it that others could use.
    async fn step<T>(&mut self, kind: Kind, work: impl Future<Output = Result<(T, Finding), Trouble>>) -> Option<T> {
        let begun = Instant::now();
        let deadline = self.until.min(begun + STEP_TIMEOUT);
        let (found, finding) = match timeout_at(deadline, work).await {
            Ok(Ok((found, finding))) => (Some(found), finding),
            Ok(Err(trouble)) => (None, Err(trouble)),
            Err(_elapsed) => (None, Err(slow(deadline.duration_since(begun)))),
        };
        self.steps.push(done(kind, finding));
        found
    }
}

fn done(kind: Kind, finding: Finding) -> Step {
    let Kind { name, mandatory } = kind;
    match finding {
        Ok(message) => Step { name, mandatory, outcome: StepOutcome::Passed, message, remediation: None },
        Err(Trouble { reason, message, remediation }) => {
            Step { name, mandatory, outcome: StepOutcome::Failed(reason), message, remediation: Some(remediation) }
        }
    }
}

fn slow(limit: Duration) -> Trouble {
    Trouble {
        reason: Reason::SourceUnreachable,
        message: format!("was given up after {} s: a step may take 30 s, the test 100 s", limit.as_secs()),
        remediation: "Look at status.salesforce.com and at the network, proxies included, between here and Salesforce."
            .to_owned(),
    }
}

/// Takes the steps behind `CheckAccess`, as far as they go. `None`: not even the list could be read.
async fn walk(source: &SalesforceSource, extraction: &Extraction, quota: &Arc<Quota>, taken: &mut Taken) -> Option<()> {
    let mut access = taken.step(LOGIN, log_in(source, extraction, quota)).await?;
    let version = taken.step(API_VERSION, choose(source, &mut access)).await?;
    let selection = taken.step(LIST_OBJECTS, list(source, &mut access, version)).await?;
    let example = selection.in_scope.iter().find(|object| is_api_name(&object.name));
    if let Some(object) = example {
        taken.step(DESCRIBE_OBJECT, describe(source, &mut access, version, &selection, object)).await;
    }
    let object = example.map_or("Account", |object| object.name.as_str());
    taken.step(TOOLING_ACCESS, read_tooling(&mut access, version, object)).await;
    taken.step(API_LIMITS, read_limits(source, &mut access, version, &selection)).await;
    if source.config.scope.has_names() {
        taken.steps.push(done(NAMED_OBJECTS, named(&selection)));
    }
    Some(())
}

/// The steps that were taken and those that were not, behind their sum.
fn in_order(taken: Vec<Step>, listed: bool, has_names: bool) -> Vec<Step> {
    let failed = taken.iter().find(|step| step.mandatory && matches!(step.outcome, StepOutcome::Failed(_)));
    let culprit = failed.map(|step| (step.name, step.outcome));
    let access = match culprit.filter(|_| !listed) {
        Some((name, StepOutcome::Failed(reason))) => Err(Trouble {
            reason,
            message: format!("the org's objects cannot be listed: {name} failed"),
            remediation: format!("Do what {name} says and test again."),
        }),
        _ => Ok("the org's objects can be listed with this login".to_owned()),
    };
    let mut steps = vec![done(CHECK_ACCESS, access)];
    let mut taken = taken.into_iter().peekable();
    for kind in ORDER.into_iter().filter(|kind| has_names || *kind != NAMED_OBJECTS) {
        let because = culprit.map_or_else(|| "nothing to look at".to_owned(), |(name, _)| format!("{name} failed"));
        steps.push(taken.next_if(|step| step.name == kind.name).unwrap_or_else(|| Step {
            name: kind.name,
            mandatory: kind.mandatory,
            outcome: StepOutcome::Skipped,
            message: format!("not taken: {because}"),
            remediation: None,
        }));
    }
    steps
}

async fn log_in<'a>(
    source: &'a SalesforceSource,
    extraction: &'a Extraction,
    quota: &'a Arc<Quota>,
) -> Result<(Access<'a>, Finding), Trouble> {
    let access = Access::open(source.login(extraction, quota)).await?;
    let mut message = access.description();
    if let Some(username) = source.config.auth.username() {
        message.push_str(&format!(" as {username}"));
    }
    if let Some(advice) = source.config.auth.advice() {
        message.push_str(&format!("; {advice}"));
    }
    Ok((access, Ok(message)))
}

async fn choose(source: &SalesforceSource, access: &mut Access<'_>) -> Result<(ApiVersion, Finding), Trouble> {
    let newest = discovery::newest_version(access).await?;
    match source.config.api_version {
        Some(version) if version > newest => Err(Trouble {
            reason: Reason::BadDefinition,
            message: format!("salesforceApiVersion is {version}; the org offers {newest} and older"),
            remediation: format!("Set salesforceApiVersion to {newest}, or leave it out to use the newest."),
        }),
        Some(version) => Ok((version, Ok(format!("{version} is used; the org's newest is {newest}")))),
        None => Ok((newest, Ok(format!("{newest} is used, the org's newest")))),
    }
}

async fn list(
    source: &SalesforceSource,
    access: &mut Access<'_>,
    version: ApiVersion,
) -> Result<(Selection, Finding), Trouble> {
    let (listing, _today) = discovery::list(access, version).await?;
    let selection = source.config.scope.select(&listing).map_err(refused_late)?;
    let scope = &source.config.scope;
    let (listed, in_scope) = (listing.objects.len(), selection.in_scope.len());
    let mut counts = format!("{listed} objects listed: {in_scope} in scope, {} filtered", selection.filtered);
    if scope.has_names() {
        counts.push_str(&format!(", {} of sobjectNames unknown", selection.unknown_names.len()));
    }
    let finding = if selection.in_scope.is_empty() {
        let remediation = if scope.has_tables() {
            "Loosen the filter patterns and connectionOptions, or correct sobjectNames: they leave nothing to read."
        } else {
            "Set includeTables to true, or leave it out: without tables there is nothing to read."
        };
        Err(Trouble { reason: Reason::BadDefinition, message: counts, remediation: remediation.to_owned() })
    } else {
        Ok(counts)
    };
    Ok((selection, finding))
}

async fn describe(
    source: &SalesforceSource,
    access: &mut Access<'_>,
    version: ApiVersion,
    selection: &Selection,
    object: &ListedObject,
) -> Result<((), Finding), Trouble> {
    let name = &object.name;
    let path = format!("/services/data/v{version}/sobjects/{name}/describe");
    let answer = discovery::get(access, &path).await.map_err(Refused::into_source_error)?;
    let unusable = |problem: &dyn std::fmt::Display| {
        let detail = format!("the describe of {name} cannot be used: {problem}");
        Trouble::from(SourceError::new(Reason::SourceProtocol, detail))
    };
    let describe = Describe::parse(&answer.body).map_err(|error| unusable(&error))?;
    let mapper = Mapper::new(source.config.naming.clone(), access.session().host().to_string(), selection, false);
    let draft = mapper.draft(object, &describe).map_err(|error| unusable(&error))?;
    Ok(((), Ok(format!("{name} is described: {} fields", draft.fields()))))
}

/// Both entities need the same permission, and a row of the one is found through the other: one query shows both.
async fn read_tooling(access: &mut Access<'_>, version: ApiVersion, object: &str) -> Result<((), Finding), Trouble> {
    #[derive(Deserialize)]
    struct Rows {
        #[serde(rename = "records")]
        _records: Vec<serde::de::IgnoredAny>,
    }
    let path = format!(
        "/services/data/v{version}/tooling/query?q=SELECT+QualifiedApiName+FROM+FieldDefinition+WHERE+\
         EntityDefinition.QualifiedApiName=%27{object}%27+LIMIT+1"
    );
    let answer = discovery::get(access, &path).await.map_err(|refused| match refused {
        Refused::Call(CallError::Status { status: 400 | 403 | 404, code, .. }) => Trouble {
            reason: Reason::SourceDenied,
            message: format!("EntityDefinition and FieldDefinition cannot be read{}", InBrackets(&code)),
            remediation: "Give the user the permission View Setup and Configuration; without it tables and columns \
                          have no descriptions and no tags."
                .to_owned(),
        },
        refused => refused.into_source_error().into(),
    })?;
    serde_json::from_slice::<Rows>(&answer.body).map_err(|error| {
        SourceError::caused(Reason::SourceProtocol, "the answer of Tooling is no list of rows", error)
    })?;
    Ok(((), Ok("EntityDefinition and FieldDefinition can be read".to_owned())))
}

/// A run is held to its own bounds, which are narrower than the org's.
async fn read_limits(
    source: &SalesforceSource,
    access: &mut Access<'_>,
    version: ApiVersion,
    selection: &Selection,
) -> Result<((), Finding), Trouble> {
    let path = format!("/services/data/v{version}/limits");
    let answer = discovery::get(access, &path).await.map_err(Refused::into_source_error)?;
    let usage = Usage::of_limits(&answer.body)
        .ok_or_else(|| SourceError::new(Reason::SourceProtocol, "the answer has no DailyApiRequests"))?;
    let needed = quota::needed(selection.in_scope.len(), &source.config.options);
    let run = source.quota();
    run.learn(usage);
    let permitted = run.permitted().unwrap_or(u64::MAX);
    let Usage { used, max } = usage;
    let left = max.saturating_sub(used);
    let mut message = format!("{left} of {max} requests are left today; a run needs about {needed}");
    let finding = if permitted < needed {
        message.push_str(&format!(" and may make {permitted} (apiBudgetCalls, apiReservePercent)"));
        Err(Trouble {
            reason: Reason::SourceThrottled,
            message,
            remediation:
                "Run later, narrow the filters, change these options, or raise the org's limit (Setup, Company \
                          Information)."
                    .to_owned(),
        })
    } else {
        Ok(message)
    };
    Ok(((), finding))
}

fn named(selection: &Selection) -> Finding {
    let corrected = selection.corrected.iter().map(|(given, name)| format!("{given:?} is spelled {name}"));
    if selection.unknown_names.is_empty() {
        let corrected: Vec<_> = corrected.take(LISTED).collect();
        let mut message = "each of sobjectNames is in the org's list".to_owned();
        if !corrected.is_empty() {
            message = format!("{message}; {}", corrected.join(", "));
        }
        return Ok(message);
    }
    let unknown: Vec<_> = selection.unknown_names.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
    let more = match selection.unknown_names.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Trouble {
        reason: Reason::BadDefinition,
        message: format!("not in the org's list: {}{more}", unknown.join(", ")),
        remediation: "Check the spelling (API names, such as Invoice__c) and that the user may read these objects."
            .to_owned(),
    })
}

/// What to do next. The message says what is wrong and what to change, so that this does not.
fn next_step(reason: Reason) -> &'static str {
    match reason {
        Reason::BadDefinition | Reason::LiteralSecret | Reason::SourceUnknown => {
            "Correct the definition and test again."
        }
        Reason::PolicyDenied => "Change the local configuration or the definition, and test again.",
        Reason::SecretUnavailable => {
            "Store the secret under this reference, or correct the reference; nothing was sent to Salesforce."
        }
        Reason::SecretStoreUnreachable => {
            "See that the secret store answers, and test again; nothing was sent to Salesforce."
        }
        Reason::SecretMalformed => {
            "Store the value again, in the form that the message asks for; nothing was sent to Salesforce."
        }
        Reason::AuthFailed => {
            "Correct the credentials before the next try: each rejected login counts towards a lock-out of the user."
        }
        Reason::SourceThrottled => "Test again later: the org's quota is a rolling one of 24 hours.",
        Reason::SourceDenied => "Let the Salesforce administrator grant it to the user, and test again.",
        Reason::SourceUnreachable => "Test again once the network, or Salesforce, is back.",
        Reason::SourceProtocol
        | Reason::EntityTooLarge
        | Reason::DescribeTooLarge
        | Reason::ObjectVanished
        | Reason::CheckpointUnusable
        | Reason::SecretInOutput
        | Reason::SinkClosed => "Test again; if it stays, report it with this message.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: Kind) -> Step {
        done(kind, Err(SourceError::new(Reason::AuthFailed, "no").into()))
    }

    fn names(steps: &[Step]) -> Vec<&str> {
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn what_needs_a_failed_step_is_skipped_and_the_sum_names_it() {
        let steps = in_order(vec![failed(LOGIN)], false, true);
        let expected = ["CheckAccess", "Login", "ApiVersion", "ListObjects", "DescribeObject", "ToolingAccess"];
        assert_eq!(names(&steps)[..6], expected);
        assert_eq!(names(&steps)[6..], ["ApiLimits", "NamedObjects"]);
        assert_eq!(steps[0].outcome, StepOutcome::Failed(Reason::AuthFailed));
        assert!(steps[0].message.contains("Login failed"), "{:?}", steps[0]);
        assert!(steps[2..].iter().all(|step| step.outcome == StepOutcome::Skipped && step.remediation.is_none()));
        assert_eq!(steps[2].message, "not taken: Login failed");
    }

    #[test]
    fn an_empty_scope_is_no_lack_of_access() {
        let passed = |kind| done(kind, Ok(String::new()));
        let taken =
            vec![passed(LOGIN), passed(API_VERSION), failed(LIST_OBJECTS), passed(TOOLING_ACCESS), passed(API_LIMITS)];
        let steps = in_order(taken, true, false);
        assert_eq!(steps[0].outcome, StepOutcome::Passed);
        assert_eq!(steps[4].name, "DescribeObject");
        assert_eq!((steps[4].outcome, steps[5].outcome), (StepOutcome::Skipped, StepOutcome::Passed));
        assert_eq!(names(&steps).last(), Some(&"ApiLimits"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_and_the_test_as_a_whole_end_in_time() {
        let mut taken = Taken { steps: Vec::new(), until: Instant::now() + TEST_TIMEOUT };
        let begun = Instant::now();
        for kind in ORDER {
            assert!(taken.step(kind, std::future::pending::<Result<((), Finding), Trouble>>()).await.is_none());
        }
        assert_eq!(begun.elapsed(), TEST_TIMEOUT);
        assert!(taken.steps.iter().all(|step| step.outcome == StepOutcome::Failed(Reason::SourceUnreachable)));
        assert!(taken.steps.iter().all(|step| step.remediation.is_some()));
    }
}
