//! What the last committed run knew of the objects in scope, as far as it still holds.

use hybrid_runner_connector::{Baseline, Extraction};
use hybrid_runner_openmetadata::entity::Kind;

use super::memo::Memo;
use crate::annotations::Vocabulary;
use crate::config::{ApiVersion, Config, Selection};
use crate::digest::Digest;
use crate::listing::Listing;
use crate::map::Mapper;
use crate::naming::Naming;

/// A table that may be what it was.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Of the committed body.
    pub(super) content_hash: [u8; 32],
    pub(super) memo: Memo,
}

/// Everything that all tables of a run depend on together: a memo of another context says nothing.
///
/// - who asks, and where: a describe shows what the user may see;
/// - the language, which no login tells: the labels of Salesforce's own objects are in it;
/// - the version, the mapping, the options that change tables;
/// - the names in scope, because foreign keys point to no others, in order, because checkpoints count them.
pub(super) fn context(
    config: &Config,
    version: ApiVersion,
    identity: &str,
    mapper: &Mapper,
    listing: &Listing,
    selection: &Selection,
) -> [u8; 16] {
    let mut digest = Digest::default();
    let options = &config.options;
    digest.text(&format!("{version} {} {}", options.field_owners, options.record_counts));
    digest.text(identity);
    for object in listing.objects.iter().filter(|object| !object.custom) {
        digest.text(object.label.as_deref().unwrap_or_default());
    }
    digest.text("in scope");
    selection.in_scope.iter().for_each(|object| digest.text(&object.name));
    // The vocabulary is not known yet; what depends on it is compared with the annotations.
    digest.bytes(&mapper.digest(&Vocabulary::default()));
    digest.finish()
}

/// What is known of each object in scope, in order.
pub(super) fn of(
    extraction: &Extraction,
    naming: &Naming,
    selection: &Selection,
    context: [u8; 16],
    today: Option<u32>,
    refresh_days: u32,
) -> Vec<Option<Known>> {
    let Some(today) = today.filter(|_| !extraction.full) else { return vec![None; selection.in_scope.len()] };
    let is_recent = |memo: &Memo| today.checked_sub(memo.day).is_some_and(|age| age < refresh_days);
    let known = |fqn: &str| {
        let committed = table(&extraction.baseline, fqn)?;
        let memo = Memo::parse(&committed.memo).filter(|memo| memo.context == context && is_recent(memo))?;
        Some(Known { content_hash: committed.content_hash, memo })
    };
    selection.in_scope.iter().map(|object| known(&naming.table_fqn(&object.name))).collect()
}

fn table<'a>(baseline: &'a Baseline, fqn: &str) -> Option<&'a hybrid_runner_connector::Committed> {
    baseline.0.get(fqn).filter(|committed| committed.kind == Kind::Table.as_str())
}
