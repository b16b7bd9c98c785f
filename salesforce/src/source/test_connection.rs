//! Whether a run would work, step by step.

use std::sync::Arc;

use hybrid_runner_connector::Step;
use hybrid_runner_secrets::Stores;

use super::SalesforceSource;

/// Takes the steps.
pub(super) async fn run(_source: &SalesforceSource, _secrets: Arc<Stores>) -> Vec<Step> {
    Vec::new()
}
