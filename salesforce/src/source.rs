//! One run: log in, list, describe, and what is gone.
//!
//! ```text
//! Login ── secrets read, session bound to its host        List ── describeGlobal and limits, names and filters
//!   └ newest API version                                    └ what is known from the last run, in this context
//! Extract ── describes and annotations in flight; tables emitted in the listing's order, a checkpoint with each
//! ```
//!
//! **Limits.** Some calls in flight, as many as the org bears (at most 16, fewer with `threads`); a bounded number of
//! objects and fields waits for its turn. A sink that waits stops new calls. Every call is within the definition's budget
//! and the org's reserve, or is not sent (`quota`).
//!
//! **Recovery.** What may pass is repeated below (`http`), a batch that is too much is split, an object is asked for
//! again alone; an expired session is replaced by one new login for all. What remains is a `Failure` of its object,
//! and the run is not complete. Dropping the future of `extract` aborts every call.
//!
//! **The second run** asks for describes only if they changed (`memo`); annotations are read in every run. A table of
//! which neither changed is emitted as unchanged.
//!
//! **Checkpoints** hold a digest of the run's context, how many objects are done, and which of them failed: a run that
//! goes on from one reports what the earlier attempt reported.

mod checkpoint;
mod concurrency;
mod discovery;
mod known;
mod memo;
mod reading;
mod test_connection;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use hybrid_runner_connector::{
    DefinitionError, EntitySink, Extraction, Notice, Reason, Report, SecretUse, Severity, SinkClosed, Source,
    SourceError, Stage, Step, Summary,
};
use hybrid_runner_openmetadata::entity::Kind;
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_secrets::Resolver;

use crate::auth::{self, Access, Login};
use crate::config::{Config, Scope, Selection};
use crate::listing::Listing;
use crate::local::LocalConfig;
use crate::map::Mapper;
use crate::quota::{self, Quota};
use crate::tooling::{Annotator, Wants};
use checkpoint::Place;
use reading::{Reading, Shared, Tally};

/// The most calls in flight. Salesforce counts only calls of 20 s and more (25 an org, 5 in a developer org), and a batch
/// that takes a quarter of that is halved, so this leaves room for others.
const CONCURRENCY: usize = 16;

/// One org, planned from a definition.
#[derive(Debug, Clone)]
pub struct SalesforceSource {
    config: Config,
    local: LocalConfig,
    /// `markDeletedTables`
    reports_gone: bool,
}

impl SalesforceSource {
    /// Plans an extraction, without any I/O.
    ///
    /// # Errors
    /// The first thing in the definition that is not accepted.
    pub fn plan(workflow: &Workflow, local: &LocalConfig) -> Result<Self, DefinitionError> {
        let mut config = Config::parse(workflow, &local.hosts)?;
        local.admit(&mut config)?;
        let reports_gone = workflow.source.options.mark_deleted_tables;
        Ok(Self { config, local: local.clone(), reports_gone })
    }

    fn concurrency(&self) -> usize {
        let asked = self.config.threads.map_or(CONCURRENCY, usize::from);
        asked.clamp(1, CONCURRENCY)
    }
}

#[async_trait]
impl Source for SalesforceSource {
    async fn extract(&self, extraction: Extraction, sink: &mut dyn EntitySink) -> Result<Report, SourceError> {
        for option in &self.config.without_effect {
            sink.notice(info("option_without_effect", format!("{option} has no effect on Salesforce and is ignored")));
        }
        let progress = &extraction.progress;
        progress.enter(Stage::Login);
        let quota = Arc::new(self.quota());
        let mut access = Access::open(self.login(&extraction, &quota)).await?;
        let newest = discovery::newest_version(&mut access).await?;
        let version = self.config.api_version.unwrap_or(newest);
        if version > newest {
            return Err(SourceError::new(Reason::BadDefinition, discovery::too_new(version, newest)));
        }
        sink.notice(info("login_succeeded", format!("{}, API version {version}", access.description())));

        progress.enter(Stage::List);
        let session = Arc::clone(access.session());
        let (listed, usage) = tokio::join!(discovery::list(&mut access, version), discovery::limits(&session, version));
        let (listing, today) = listed?;
        if let Some(usage) = usage {
            quota.learn(usage);
        }
        let selection = self.config.scope.select(&listing).map_err(refused_late)?;
        tell(&listing, &self.config.scope, &selection, sink);
        progress.set_total(count(selection.in_scope.len()));

        let options = &self.config.options;
        let naming = &self.config.naming;
        let session = access.session();
        let mapper = Mapper::new(naming.clone(), session.host().to_string(), &selection, self.config.tags);
        let context = known::context(&self.config, version, session.identity(), &mapper, &listing, &selection);
        let known = known::of(&extraction, naming, &selection, context, today, options.full_refresh_days);
        tell_of_quota(&quota, quota::to_read(selection.in_scope.len(), options), sink);
        let place = match &extraction.start {
            Some(start) => Place::parse(start, context, selection.in_scope.len())?,
            None => Place::start(context),
        };

        progress.enter(Stage::Extract);
        let filtered = selection.filtered;
        let wants = Wants { owners: options.field_owners, records: options.record_counts, tags: self.config.tags };
        let annotator = Annotator::new(wants, newest, &selection.in_scope, place.done);
        let shared = Shared { version, mapper, objects: selection.in_scope, context, today };
        let reading = Reading::new(shared, known, annotator, place, self.concurrency(), Arc::clone(&quota));
        let read = Box::pin(reading.run(&mut access, progress, sink)).await;
        if let Some(left) = quota.left() {
            progress.set_requests_left(left);
        }
        let tally = read?;

        progress.enter(Stage::Flush);
        self.report(&extraction, &listing, tally, filtered, &quota)
    }

    async fn test_connection(&self, secrets: Arc<Resolver>) -> Vec<Step> {
        test_connection::run(self, secrets).await
    }

    fn secrets(&self) -> Vec<SecretUse> {
        auth::secrets(&self.config.auth, &self.config.ssl, self.local.proxy.as_ref())
    }
}

impl SalesforceSource {
    pub(crate) fn login<'a>(&'a self, extraction: &'a Extraction, quota: &'a Arc<Quota>) -> Login<'a> {
        Login {
            auth: &self.config.auth,
            ssl: &self.config.ssl,
            local: &self.local,
            secrets: &extraction.secrets,
            progress: &extraction.progress,
            quota,
        }
    }

    /// What a run is held to.
    fn quota(&self) -> Quota {
        Quota::new(self.config.options.budget_calls, self.config.options.reserve_percent)
    }

    fn report(
        &self,
        extraction: &Extraction,
        listing: &Listing,
        tally: Tally,
        filtered: u64,
        quota: &Quota,
    ) -> Result<Report, SourceError> {
        let complete = tally.failures.is_empty();
        let gone = if complete && self.reports_gone { self.gone(extraction, listing)? } else { Vec::new() };
        let seen = extraction.progress.snapshot();
        let summary = Summary {
            objects: tally.objects,
            filtered,
            failed: count(tally.failures.len()),
            columns: tally.columns,
            keys: tally.keys,
            requests: seen.requests,
            bytes_received: seen.bytes_received,
            requests_left: quota.left(),
        };
        Ok(Report {
            complete,
            failures: tally.failures,
            gone,
            advice: self.config.auth.advice().map(str::to_owned).into_iter().collect(),
            summary,
        })
    }

    /// The committed tables that the definition covers and the org has no more.
    fn gone(&self, extraction: &Extraction, listing: &Listing) -> Result<Vec<String>, SourceError> {
        let listed: HashSet<_> = listing.objects.iter().map(|object| object.name.to_ascii_lowercase()).collect();
        let mut gone = Vec::new();
        for (fqn, committed) in &extraction.baseline.0 {
            if committed.kind == Kind::Table.as_str()
                && let Some(object) = self.config.naming.object_of(fqn)
                && !listed.contains(&object.to_ascii_lowercase())
                && self.config.scope.includes_name(object).map_err(refused_late)?
            {
                gone.push(fqn.clone());
            }
        }
        Ok(gone)
    }
}

/// Tells what was listed and what of it is read.
fn tell(listing: &Listing, scope: &Scope, selection: &Selection, sink: &mut dyn EntitySink) {
    let (listed, in_scope, filtered) = (listing.objects.len(), selection.in_scope.len(), selection.filtered);
    sink.notice(info("listed", format!("{listed} objects listed: {in_scope} in scope, {filtered} filtered")));
    for (given, name) in &selection.corrected {
        sink.notice(info("name_corrected", format!("sobjectNames: {given:?} is spelled {name}")));
    }
    for name in &selection.unknown_names {
        sink.notice(warning(
            "name_unknown",
            format!("sobjectNames: {name:?} is not in the org's list; check its spelling and the user's permissions"),
        ));
    }
    if selection.in_scope.is_empty() {
        let because = if scope.has_tables() {
            format!("sobjectNames, the filter patterns and connectionOptions leave none of the {listed} listed")
        } else {
            "includeTables is false".to_owned()
        };
        sink.notice(warning("nothing_in_scope", format!("no object is read: {because}")));
    }
}

/// Tells what the run is likely to need from here on, and what is permitted.
fn tell_of_quota(quota: &Quota, needed: u64, sink: &mut dyn EntitySink) {
    match quota.permitted() {
        Some(permitted) if permitted < needed => sink.notice(warning(
            "quota_short",
            format!(
                "some {needed} more requests are needed and {permitted} are permitted (apiBudgetCalls, apiReservePercent): \
                 the run may not be finished in one attempt"
            ),
        )),
        Some(permitted) => {
            sink.notice(info("quota", format!("some {needed} more requests are needed, {permitted} are permitted")));
        }
        None => {}
    }
}

fn info(code: &'static str, text: String) -> Notice {
    Notice { severity: Severity::Info, code, text }
}

fn warning(code: &'static str, text: String) -> Notice {
    Notice { severity: Severity::Warning, code, text }
}

/// A filter pattern that is refused when it meets a name.
fn refused_late(refused: DefinitionError) -> SourceError {
    SourceError::caused(refused.reason, refused.to_string(), refused)
}

fn closed(closed: SinkClosed) -> SourceError {
    SourceError::caused(Reason::SinkClosed, "the run was ended", closed)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
