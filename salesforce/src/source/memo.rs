//! What the source wants back about a table in the next run.
//!
//! ```text
//! "m1" │ context (16) │ annotations (16) │ day │ fields │ columns │ keys (u32 each) │ Last-Modified (the rest)     big-endian
//! ```
//!
//! The stamp of a describe depends on who asks, and the table on what else is in scope, so a memo counts only in the
//! context that it was written in. A describe that has not changed since its stamp answers 304, which says nothing of
//! its fields: their number is kept, because queries for their descriptions are sized by it. Everything else in a table
//! comes from its annotations, which are read in every run and compared by digest.

use bytes::Bytes;

const MAGIC: &[u8; 2] = b"m1";

/// The longest stamp that is kept, in bytes; Salesforce's has 29.
const LONGEST_STAMP: usize = 64;

/// What was true when a table was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memo {
    /// Digest of everything that the run's tables depend on together.
    pub(super) context: [u8; 16],
    /// Digest of its annotations and of the vocabulary that they were mapped with.
    pub(super) annotations: [u8; 16],
    /// The day that its describe was read, in days since 1970, by Salesforce's clock.
    pub(super) day: u32,
    /// Fields of its describe.
    pub(super) fields: u32,
    /// Columns of the table.
    pub(super) columns: u32,
    /// Primary, unique and foreign keys of the table.
    pub(super) keys: u32,
    /// `Last-Modified` of its describe, as Salesforce wrote it.
    pub(super) stamp: String,
}

impl Memo {
    /// As it travels; nothing for a stamp that is none.
    pub(super) fn to_bytes(&self) -> Bytes {
        if !is_stamp(&self.stamp) {
            return Bytes::new();
        }
        let mut bytes = Vec::with_capacity(50 + self.stamp.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.context);
        bytes.extend_from_slice(&self.annotations);
        for figure in [self.day, self.fields, self.columns, self.keys] {
            bytes.extend_from_slice(&figure.to_be_bytes());
        }
        bytes.extend_from_slice(self.stamp.as_bytes());
        bytes.into()
    }

    /// What an earlier run left; `None` for nothing, or for what another version wrote.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (context, rest) = rest.split_first_chunk::<16>()?;
        let (annotations, rest) = rest.split_first_chunk::<16>()?;
        let (figures, stamp) = rest.split_first_chunk::<16>()?;
        let (figures, _) = figures.as_chunks::<4>();
        let [day, fields, columns, keys] = <[[u8; 4]; 4]>::try_from(figures).ok()?.map(u32::from_be_bytes);
        let stamp = str::from_utf8(stamp).ok().filter(|stamp| is_stamp(stamp))?;
        Some(Self { context: *context, annotations: *annotations, day, fields, columns, keys, stamp: stamp.to_owned() })
    }
}

/// It goes into a request as it came: printable ASCII, and not too long.
fn is_stamp(stamp: &str) -> bool {
    (1..=LONGEST_STAMP).contains(&stamp.len()) && stamp.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use hybrid_runner_connector::Entity;
    use proptest::prelude::*;

    use super::*;

    fn memo(stamp: &str) -> Memo {
        let (context, annotations) = ([1; 16], [2; 16]);
        Memo { context, annotations, day: 20_779, fields: 109, columns: 108, keys: 7, stamp: stamp.to_owned() }
    }

    #[test]
    fn a_memo_comes_back_as_it_was() {
        let memo = memo("Tue, 21 Dec 2021 17:03:22 GMT");
        assert_eq!(Memo::parse(&memo.to_bytes()), Some(memo));
    }

    #[test]
    fn what_is_no_stamp_leaves_no_memo() {
        for stamp in ["", "a\nb", "Zürich", &"x".repeat(65)] {
            assert_eq!(memo(stamp).to_bytes(), Bytes::new(), "{stamp:?}");
        }
        assert!(memo(&"x".repeat(64)).to_bytes().len() <= Entity::MAX_MEMO);
    }

    proptest! {
        #[test]
        fn whatever_comes_back_is_a_memo_that_could_have_been_written_or_none(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(memo) = Memo::parse(&bytes) {
                prop_assert_eq!(memo.to_bytes().to_vec(), bytes);
            }
        }
    }
}
