//! One run: log in, list, describe, and what is gone.
//!
//! ```text
//! Login ── secrets read, session bound to its host        List ── describeGlobal, names and filters
//!   └ newest API version, unless one is set                 └ parents emitted, checkpoint "0 done"
//! Extract ── some batches in flight; tables emitted in the listing's order, a checkpoint with each emit
//! ```
//!
//! **Limits.** Eight calls in flight (fewer with `threads`); as many batches' tables wait for their turn at most. A sink
//! that waits stops new calls.
//!
//! **Recovery.** What may pass is repeated below (`http`), a batch that is too much is split, an object is asked for
//! again alone; an expired session is replaced by one new login for all. What remains is a `Failure` of its object,
//! and the run is not complete. Dropping the future of `extract` aborts every call.
//!
//! **Checkpoints** hold a digest of the objects in scope, how many are done, and which of them failed: a run that goes
//! on from one reports what the earlier attempt reported.

mod checkpoint;
mod describing;
mod discovery;
mod test_connection;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use hybrid_runner_connector::{
    DefinitionError, EntitySink, Extraction, Notice, Reason, Report, Severity, SinkClosed, Source, SourceError, Stage,
    Step, Summary,
};
use hybrid_runner_openmetadata::entity::Kind;
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_secrets::Stores;

use crate::auth::{Access, Login};
use crate::config::{Config, Selection};
use crate::host::HostPolicy;
use crate::listing::Listing;
use crate::map::Mapper;
use checkpoint::Place;
use describing::{Described, Describing};

/// The most calls in flight. Salesforce counts only calls of 20 s and more (25 an org, 5 in a developer org), so this
/// leaves room for others even when every call is that slow, and with 50 ms a call 1,000 objects take 5 rounds.
const CONCURRENCY: usize = 8;

/// What the agent's own configuration says about Salesforce.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The hosts that requests may go to.
    pub hosts: HostPolicy,
    /// Whether `HTTPS_PROXY` and `NO_PROXY` count.
    pub use_system_proxy: bool,
    /// Whether a definition's `sslConfig.caCertificate` counts: only for one that its user wrote in a local file.
    pub allow_definition_ca: bool,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self { hosts: HostPolicy::default(), use_system_proxy: true, allow_definition_ca: false }
    }
}

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
        if !local.allow_definition_ca && config.ca.take().is_some() {
            config.without_effect.push("source.serviceConnection.config.sslConfig.caCertificate".to_owned());
        }
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
        let mut access = Access::open(self.login(&extraction)).await?;
        let version = match self.config.api_version {
            Some(version) => version,
            None => discovery::newest_version(&mut access).await?,
        };
        sink.notice(info("login_succeeded", format!("{}, API version {version}", access.description())));

        progress.enter(Stage::List);
        let listing = discovery::list(&mut access, version).await?;
        let selection = self.config.scope.select(&listing).map_err(refused_late)?;
        tell(&listing, &selection, sink);
        progress.set_total(count(selection.in_scope.len()));

        let scope = checkpoint::digest(version, &selection.in_scope);
        let host = access.session().host().to_string();
        let mapper = Mapper::new(self.config.naming.clone(), host, &selection);
        let place = match &extraction.start {
            Some(start) => Place::parse(start, scope, selection.in_scope.len())?,
            None => {
                let place = Place::start(scope);
                let parents = mapper
                    .parents(&crate::annotations::Vocabulary::default())
                    .map_err(|error| SourceError::new(error.reason(), error.to_string()))?;
                sink.emit(parents, place.checkpoint()).await.map_err(closed)?;
                place
            }
        };

        progress.enter(Stage::Extract);
        let filtered = selection.filtered;
        let describing = Describing::new(version, mapper, selection.in_scope, place, self.concurrency());
        let described = Box::pin(describing.run(&mut access, progress, sink)).await?;

        progress.enter(Stage::Flush);
        self.report(&extraction, &listing, described, filtered)
    }

    async fn test_connection(&self, secrets: Arc<Stores>) -> Vec<Step> {
        test_connection::run(self, secrets).await
    }
}

impl SalesforceSource {
    pub(crate) fn login<'a>(&'a self, extraction: &'a Extraction) -> Login<'a> {
        Login {
            auth: &self.config.auth,
            ca: self.config.ca.as_ref(),
            hosts: &self.local.hosts,
            use_system_proxy: self.local.use_system_proxy,
            secrets: &extraction.secrets,
            progress: &extraction.progress,
        }
    }

    fn report(
        &self,
        extraction: &Extraction,
        listing: &Listing,
        described: Described,
        filtered: u64,
    ) -> Result<Report, SourceError> {
        let complete = described.failures.is_empty();
        let gone = if complete && self.reports_gone { self.gone(extraction, listing)? } else { Vec::new() };
        let seen = extraction.progress.snapshot();
        let summary = Summary {
            objects: described.objects,
            filtered,
            failed: count(described.failures.len()),
            columns: described.columns,
            keys: described.keys,
            requests: seen.requests,
            bytes_received: seen.bytes_received,
            requests_left: None,
        };
        Ok(Report { complete, failures: described.failures, gone, advice: Vec::new(), summary })
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
fn tell(listing: &Listing, selection: &Selection, sink: &mut dyn EntitySink) {
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
        sink.notice(warning(
            "nothing_in_scope",
            format!("no object is read: sobjectNames and the filter patterns leave none of the {listed} listed"),
        ));
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
