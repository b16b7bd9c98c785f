//! Where a run is: what it reads, how many objects are done, which of them failed.
//!
//! ```text
//! "sf2" │ context (16) │ mapping (16) │ done (u32) │ { index of a failed object (u32) │ its reason (u8) }*     big-endian
//! ```
//!
//! Context and mapping are digests: of what all tables of the run depend on, the objects in scope among it, and of what
//! annotations become, the tags among it that were emitted before the first table.
//!
//! Without the failures a run that goes on would take an object that failed before for one that was read, and call
//! itself complete.

use bytes::Bytes;
use hybrid_runner_connector::{Checkpoint, Reason, SourceError};

const MAGIC: &[u8; 3] = b"sf2";
const HEAD: usize = MAGIC.len() + 16 + 16 + 4;
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
    context: [u8; 16],
    /// `None` before anything was emitted.
    mapping: Option<[u8; 16]>,
    /// Objects, in the listing's order, that are emitted or failed.
    pub(super) done: usize,
    /// Those of them that failed, by their index.
    pub(super) failed: Vec<(usize, Reason)>,
}

impl Place {
    /// The beginning.
    pub(super) fn start(context: [u8; 16]) -> Self {
        Self { context, mapping: None, done: 0, failed: Vec::new() }
    }

    /// Whether what tables refer to was emitted.
    pub(super) fn has_begun(&self) -> bool {
        self.mapping.is_some()
    }

    /// The mapping of this attempt is known. True when what tables refer to is still to be emitted.
    pub(super) fn meet(&mut self, mapping: [u8; 16]) -> Result<bool, SourceError> {
        match self.mapping.replace(mapping) {
            None => Ok(true),
            Some(emitted) if emitted == mapping => Ok(false),
            Some(_) => Err(unusable("is of another mapping: the org's classification of fields has changed")),
        }
    }

    /// The place that a checkpoint names, in a run over `objects` objects in that context.
    pub(super) fn parse(checkpoint: &Checkpoint, context: [u8; 16], objects: usize) -> Result<Self, SourceError> {
        let (head, failed) =
            checkpoint.0.split_at_checked(HEAD).ok_or_else(|| unusable("is not one of this source's"))?;
        let rest = head.strip_prefix(MAGIC).ok_or_else(|| unusable("is not one of this source's"))?;
        let rest = rest.strip_prefix(&context).ok_or_else(|| unusable("is of another run: the org has changed"))?;
        let (mapping, done) = rest.split_first_chunk().ok_or_else(|| unusable("cannot be read"))?;
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
            Some(failed) if rest.is_empty() => Ok(Self { context, mapping: Some(*mapping), done, failed }),
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
        bytes.extend_from_slice(&self.context);
        bytes.extend_from_slice(&self.mapping.unwrap_or_default());
        bytes.extend_from_slice(&bytes_of(self.done));
        for (index, reason) in &self.failed {
            let reason = REASONS.iter().position(|known| known == reason).unwrap_or(0);
            bytes.extend_from_slice(&bytes_of(*index));
            bytes.push(u8::try_from(reason).unwrap_or(0));
        }
        Checkpoint(bytes.into())
    }
}

fn unusable(problem: &str) -> SourceError {
    SourceError::new(Reason::CheckpointUnusable, format!("the checkpoint {problem}"))
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(done: usize, failed: Vec<(usize, Reason)>) -> Place {
        Place { context: [1; 16], mapping: Some([2; 16]), done, failed }
    }

    #[test]
    fn what_tables_refer_to_is_emitted_once_and_never_changes() {
        let mut fresh = Place::start([1; 16]);
        assert!(fresh.meet([2; 16]).unwrap());
        assert!(!fresh.meet([2; 16]).unwrap());
        let mut later = Place::parse(&fresh.checkpoint(), [1; 16], 9).unwrap();
        assert!(!later.clone().meet([2; 16]).unwrap());
        assert_eq!(later.meet([3; 16]).unwrap_err().reason, Reason::CheckpointUnusable);
    }

    #[test]
    fn a_checkpoint_of_another_set_of_objects_is_unusable() {
        let place = place(3, vec![(1, Reason::ObjectVanished)]);
        let error =
            |checkpoint: &Checkpoint, context, objects| Place::parse(checkpoint, context, objects).unwrap_err().reason;
        assert_eq!(error(&place.checkpoint(), [2; 16], 9), Reason::CheckpointUnusable);
        assert_eq!(error(&place.checkpoint(), [1; 16], 2), Reason::CheckpointUnusable);
        assert_eq!(error(&Checkpoint::default(), [1; 16], 9), Reason::CheckpointUnusable);
        let whole = place.checkpoint().0;
        for length in 0..whole.len() {
            // Cut between two failures it is another, valid one; the control plane keeps checkpoints whole.
            if length != HEAD {
                assert_eq!(error(&Checkpoint(whole.slice(..length)), [1; 16], 9), Reason::CheckpointUnusable);
            }
        }
    }

    #[test]
    fn more_failures_than_fit_make_a_checkpoint_that_is_not_used() {
        let failed = |count| (0..count).map(|index| (index, Reason::SourceDenied)).collect();
        let fits = place(2000, failed(809));
        assert!(fits.checkpoint().0.len() <= Checkpoint::MAX);
        assert!(Place::parse(&fits.checkpoint(), [1; 16], 2000).is_ok());
        let too_many = Place { failed: failed(810), ..fits };
        assert!(Place::parse(&too_many.checkpoint(), [1; 16], 2000).is_err());
    }

    proptest! {
        #[test]
        fn a_place_survives_its_checkpoint(done in 0_usize..50_000, raw in prop::collection::vec((0_usize..50_000, 0_usize..8), 0..50)) {
            let failed: Vec<_> = raw.into_iter().filter(|(index, _)| *index < done).map(|(index, reason)| (index, REASONS[reason])).collect();
            let place = place(done, failed);
            prop_assert_eq!(Place::parse(&place.checkpoint(), [1; 16], 50_000).unwrap(), place);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut known = [MAGIC.as_slice(), &[1; 16]].concat();
            known.extend_from_slice(&bytes);
            let _parsed = Place::parse(&Checkpoint(bytes.into()), [1; 16], 10);
            let _parsed = Place::parse(&Checkpoint(known.into()), [1; 16], 10);
        }
    }
}
