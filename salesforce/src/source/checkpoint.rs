//! Where a run is: a digest of its scope, how many objects are done, which of them failed.
//!
//! ```text
//! "sf1" │ digest (32) │ done (u32) │ { index of a failed object (u32) │ its reason (u8) }*     big-endian
//! ```
//!
//! Without the failures a run that goes on would take an object that failed before for one that was read, and call
//! itself complete.

use bytes::Bytes;
use hybrid_runner_connector::{Checkpoint, Reason, SourceError};

use crate::config::ApiVersion;
use crate::listing::ListedObject;

const MAGIC: &[u8; 3] = b"sf1";
const HEAD: usize = MAGIC.len() + 32 + 4;
const FAILED: usize = 5;

/// The reasons that an object can fail for, by their byte. Only ever append.
const REASONS: [Reason; 8] = [
    Reason::SourceProtocol,
    Reason::SourceUnreachable,
    Reason::SourceThrottled,
    Reason::SourceDenied,
    Reason::ObjectVanished,
    Reason::DescribeTooLarge,
    Reason::EntityTooLarge,
    Reason::AuthFailed,
];

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    scope: [u8; 32],
    /// Objects, in the listing's order, that are emitted or failed.
    pub(super) done: usize,
    /// Those of them that failed, by their index.
    pub(super) failed: Vec<(usize, Reason)>,
}

/// What a run reads: the objects in order, and the version that describes them.
pub(super) fn digest(version: ApiVersion, objects: &[ListedObject]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(version.to_string().as_bytes());
    for object in objects {
        // No name holds this byte, so no two lists are one text.
        hasher.update(b"\0").update(object.name.as_bytes());
    }
    hasher.finalize().into()
}

impl Place {
    /// The beginning.
    pub(super) fn start(scope: [u8; 32]) -> Self {
        Self { scope, done: 0, failed: Vec::new() }
    }

    /// The place that a checkpoint names, in a run over `objects` objects of that digest.
    pub(super) fn parse(checkpoint: &Checkpoint, scope: [u8; 32], objects: usize) -> Result<Self, SourceError> {
        let unusable =
            |problem: &str| SourceError::new(Reason::CheckpointUnusable, format!("the checkpoint {problem}"));
        let (head, failed) =
            checkpoint.0.split_at_checked(HEAD).ok_or_else(|| unusable("is not one of this source's"))?;
        let rest = head.strip_prefix(MAGIC).ok_or_else(|| unusable("is not one of this source's"))?;
        let done =
            rest.strip_prefix(&scope).ok_or_else(|| unusable("is of another set of objects: the org has changed"))?;
        let done = number(done).filter(|done| *done <= objects).ok_or_else(|| unusable("names too many objects"))?;
        let (failed, rest) = failed.as_chunks::<FAILED>();
        let failed: Option<Vec<_>> = failed
            .iter()
            .map(|[index @ .., reason]| {
                let index = number(index).filter(|index| *index < done)?;
                Some((index, *REASONS.get(usize::from(*reason))?))
            })
            .collect();
        match failed {
            Some(failed) if rest.is_empty() => Ok(Self { scope, done, failed }),
            _ => Err(unusable("cannot be read")),
        }
    }

    /// The checkpoint of this place. With more failures than fit it is one that no run can go on from, because a part of
    /// them would be lost: such a run begins at the beginning.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        if HEAD + FAILED * self.failed.len() > Checkpoint::MAX {
            return Checkpoint(Bytes::new());
        }
        let bytes_of = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = Vec::with_capacity(HEAD + FAILED * self.failed.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.scope);
        bytes.extend_from_slice(&bytes_of(self.done));
        for (index, reason) in &self.failed {
            let reason = REASONS.iter().position(|known| known == reason).unwrap_or(0);
            bytes.extend_from_slice(&bytes_of(*index));
            bytes.push(u8::try_from(reason).unwrap_or(0));
        }
        Checkpoint(bytes.into())
    }
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn objects(names: &[&str]) -> Vec<ListedObject> {
        names.iter().map(|name| ListedObject { name: (*name).to_owned(), ..ListedObject::default() }).collect()
    }

    #[test]
    fn the_digest_is_of_the_order_the_names_and_the_version() {
        let version = ApiVersion::new(64);
        let digests = [
            digest(version, &objects(&["A", "B"])),
            digest(version, &objects(&["B", "A"])),
            digest(version, &objects(&["AB"])),
            digest(version, &objects(&["A", "B", "C"])),
            digest(ApiVersion::new(65), &objects(&["A", "B"])),
        ];
        for (index, one) in digests.iter().enumerate() {
            assert!(!digests[index + 1..].contains(one), "{index}");
        }
    }

    #[test]
    fn a_checkpoint_of_another_set_of_objects_is_unusable() {
        let place = Place { scope: [1; 32], done: 3, failed: vec![(1, Reason::ObjectVanished)] };
        let error =
            |checkpoint: &Checkpoint, scope, objects| Place::parse(checkpoint, scope, objects).unwrap_err().reason;
        assert_eq!(error(&place.checkpoint(), [2; 32], 9), Reason::CheckpointUnusable);
        assert_eq!(error(&place.checkpoint(), [1; 32], 2), Reason::CheckpointUnusable);
        assert_eq!(error(&Checkpoint::default(), [1; 32], 9), Reason::CheckpointUnusable);
        let whole = place.checkpoint().0;
        for length in 0..whole.len() {
            // Cut between two failures it is another, valid one; the control plane keeps checkpoints whole.
            if length != HEAD {
                assert_eq!(error(&Checkpoint(whole.slice(..length)), [1; 32], 9), Reason::CheckpointUnusable);
            }
        }
    }

    #[test]
    fn more_failures_than_fit_make_a_checkpoint_that_is_not_used() {
        let failed = |count| (0..count).map(|index| (index, Reason::SourceDenied)).collect();
        let fits = Place { scope: [0; 32], done: 2000, failed: failed(811) };
        assert!(fits.checkpoint().0.len() <= Checkpoint::MAX);
        assert!(Place::parse(&fits.checkpoint(), [0; 32], 2000).is_ok());
        let too_many = Place { failed: failed(812), ..fits };
        assert!(Place::parse(&too_many.checkpoint(), [0; 32], 2000).is_err());
    }

    proptest! {
        #[test]
        fn a_place_survives_its_checkpoint(done in 0_usize..50_000, raw in prop::collection::vec((0_usize..50_000, 0_usize..8), 0..50)) {
            let failed: Vec<_> = raw.into_iter().filter(|(index, _)| *index < done).map(|(index, reason)| (index, REASONS[reason])).collect();
            let place = Place { scope: [7; 32], done, failed };
            prop_assert_eq!(Place::parse(&place.checkpoint(), [7; 32], 50_000).unwrap(), place);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut known = [MAGIC.as_slice(), &[7; 32]].concat();
            known.extend_from_slice(&bytes);
            let _parsed = Place::parse(&Checkpoint(bytes.into()), [7; 32], 10);
            let _parsed = Place::parse(&Checkpoint(known.into()), [7; 32], 10);
        }
    }
}
