//! The stores, the definitions, and what they refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use hybrid_runner_connector::Source;
use hybrid_runner_secrets::{Resolver, SecretError, Seen, StoreError};
use tokio::time::{Instant, timeout_at};

use super::{Check, Finding, Status};
use crate::config::AgentConfig;
use crate::plan::Connectors;
use crate::preflight::{self, Checked};
use crate::session::Definition;
use crate::telemetry::Chain;

/// What is known of each store, by name.
#[derive(Debug, Default)]
pub(super) struct StoreFindings(BTreeMap<String, Finding>);

impl StoreFindings {
    pub(super) fn new(seen: Vec<Seen>) -> Self {
        Self(seen.into_iter().map(|seen| (seen.store.clone(), of_store(&seen))).collect())
    }

    pub(super) fn has_failed(&self, store: &str) -> bool {
        self.0.get(store).is_some_and(|finding| finding.status == Status::Fail)
    }

    /// A read shows what a look did not.
    fn fail(&mut self, store: &str, error: &SecretError) {
        let failed = Finding::fail(Check::Stores, &Chain(error).to_string(), preflight::remedy(error)).of(store);
        self.0.insert(store.to_owned(), failed);
    }

    pub(super) fn into_findings(self) -> impl Iterator<Item = Finding> {
        self.0.into_values()
    }
}

fn of_store(Seen { store, kind, found }: &Seen) -> Finding {
    let finding = match found {
        Ok(seen) => Finding::ok(Check::Stores, &format!("{kind}: {seen}")),
        Err(error) => {
            let advice = match error {
                StoreError::Denied { .. } => {
                    "give the agent that credential or permission, or correct the store's `auth`"
                }
                StoreError::Sealed => "unseal it",
                StoreError::Throttled => "try again later, or raise the store's limit",
                StoreError::Unusable(_) => "correct the store's settings below `secrets.stores`",
                StoreError::Unreachable { .. } => "check its address, name resolution, certificates and network policy",
            };
            Finding::fail(Check::Stores, &format!("{kind}: {}", Chain(error)), advice)
        }
    };
    finding.of(store)
}

/// A pipeline that can be run.
pub(super) struct Pipeline {
    pub(super) name: String,
    pub(super) source: Arc<dyn Source>,
    pub(super) secrets: Arc<Resolver>,
}

/// Plans each definition.
pub(super) fn plan(
    config: &AgentConfig,
    connectors: &Connectors,
    definitions: Vec<Definition>,
) -> (Vec<Pipeline>, Vec<Finding>) {
    if definitions.is_empty() {
        let advice = "define a pipeline at the control plane, or look whether it is disabled or for other agents";
        return (Vec::new(), vec![Finding::warn(Check::Definitions, "there are none for this agent", advice)]);
    }
    let (mut pipelines, mut findings, policy) = (Vec::new(), Vec::new(), config.policy());
    for Definition { pipeline: name, version, workflow_json } in definitions {
        let finding = match connectors.plan_json(&workflow_json) {
            Ok(plan) => {
                let (stores, policy) = (Arc::clone(&config.secrets), Arc::clone(&policy));
                let secrets = Arc::new(Resolver::new(stores, policy, Some(name.clone())));
                let seen = format!("version {version} can be run; it names {} secrets", plan.source.secrets().len());
                let finding = Finding::ok(Check::Definitions, &seen).of(&name);
                pipelines.push(Pipeline { name, source: plan.source, secrets });
                finding
            }
            Err(refused) => {
                let seen = format!("{}: {refused}", refused.reason);
                Finding::fail(Check::Definitions, &seen, "correct the field in the pipeline's definition").of(&name)
            }
        };
        findings.push(finding);
    }
    (pipelines, findings)
}

/// Reads each secret that they name, and keeps none; which pipelines have all of theirs.
pub(super) async fn read(
    pipelines: Vec<Pipeline>,
    stores: &mut StoreFindings,
    ends: Instant,
) -> (Vec<Pipeline>, Vec<Finding>) {
    let (mut ready, mut findings) = (Vec::new(), Vec::new());
    for pipeline in pipelines {
        let found = match timeout_at(ends, read_one(&pipeline, stores)).await {
            Ok(found) => found,
            Err(_elapsed) => {
                let advice = "`hybrid-runner secrets check --config FILE` takes the time it needs";
                vec![Finding::warn(Check::References, "not read: the time is over", advice).of(&pipeline.name)]
            }
        };
        if found.iter().all(|finding| finding.status == Status::Ok) {
            ready.push(pipeline);
        }
        findings.extend(found);
    }
    (ready, findings)
}

async fn read_one(pipeline: &Pipeline, stores: &mut StoreFindings) -> Vec<Finding> {
    let Pipeline { name, source, secrets } = pipeline;
    let subject = |field: &str| format!("{name}: {field}");
    let (blocked, readable): (Vec<_>, Vec<_>) =
        source.secrets().into_iter().partition(|secret| stores.has_failed(secrets.store_of(&secret.reference)));
    let blocked = blocked.into_iter().map(|secret| {
        let why = format!("store `{}` failed", secrets.store_of(&secret.reference));
        Finding::skipped(Check::References, &why).of(&subject(&secret.field))
    });
    let mut findings: Vec<_> = blocked.collect();
    for Checked { secret, found } in preflight::check_all(readable, secrets).await {
        let (reference, store) = (&secret.reference, secrets.store_of(&secret.reference));
        let finding = match found {
            Ok(readable) => {
                let version = readable.version.map_or_else(String::new, |version| format!(", {version}"));
                Finding::ok(Check::References, &format!("{reference} is read from store `{store}`{version}"))
            }
            // No fault of the reference.
            Err(
                error @ (SecretError::Unreachable { .. } | SecretError::Sealed { .. } | SecretError::Throttled { .. }),
            ) => {
                if !stores.has_failed(store) {
                    stores.fail(store, &error);
                }
                Finding::skipped(Check::References, &format!("store `{store}` failed"))
            }
            Err(error) => Finding::fail(Check::References, &Chain(&error).to_string(), preflight::remedy(&error)),
        };
        findings.push(finding.of(&subject(&secret.field)));
    }
    findings
}
