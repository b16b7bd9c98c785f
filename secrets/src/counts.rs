//! How often secrets were asked for, and how it went.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::SecretError;

/// Counts by the kind of store and the outcome, both of them words of this crate. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<(&'static str, &'static str), u64>>>);

impl Counts {
    pub(crate) fn add(&self, kind: &'static str, outcome: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((kind, outcome)).or_default() += 1;
    }

    pub(crate) fn so_far(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl SecretError {
    /// What happened, in a word.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::PolicyDenied { .. } => "policy_denied",
            Self::UnknownStore { .. } => "unknown_store",
            Self::NotFound { .. } | Self::KeyMissing { .. } => "not_found",
            Self::Denied { .. } => "denied",
            Self::Empty { .. } | Self::TooLarge { .. } | Self::NotText { .. } | Self::Unusable { .. } => "malformed",
            Self::Sealed { .. } => "sealed",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}
