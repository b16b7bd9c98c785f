//! Bodies as they lie in the file: each a zstd frame of its own, so that one can be read or deleted alone.
//!
//! A body is written twice, to the write-ahead log and from there to the file, and both cost more than compressing it: a
//! table of Salesforce fits in an eighth of its bytes. Frames begin with four bytes that no JSON begins with
//! (<https://www.rfc-editor.org/rfc/rfc8878>, 3.1.1), and bodies that an older version wrote are JSON: both are read.

use bytes::Bytes;
use zstd::bulk::{Compressor, decompress};
use zstd::zstd_safe::{MAGICNUMBER, get_frame_content_size};

use crate::store::{Record, StoreError};

/// Level 3 makes a body 2 % smaller, and takes a tenth longer.
const LEVEL: i32 = 1;

/// The most bytes that a body of an agent may have, and some more: what says more of itself is broken.
const MOST: u64 = 4 * 1024 * 1024;

const BROKEN: StoreError = StoreError::Corrupt { what: "body" };

/// The bodies of records, in their order, `None` for a record without one.
pub(super) fn pack(records: &[Record]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    let failed = |source| StoreError::Database { action: "compress a body", source: Box::new(source) };
    let mut compressor = Compressor::new(LEVEL).map_err(failed)?;
    let bodies = records.iter().map(|record| record.content.as_ref().map(|content| &content.body));
    bodies.map(|body| body.map(|body| compressor.compress(body)).transpose().map_err(failed)).collect()
}

/// A body as it came.
pub(super) fn unpack(stored: Vec<u8>) -> Result<Bytes, StoreError> {
    if !stored.starts_with(&MAGICNUMBER.to_le_bytes()) {
        return Ok(stored.into());
    }
    let Ok(Some(length)) = get_frame_content_size(&stored) else { return Err(BROKEN) };
    let length = usize::try_from(length.min(MOST)).or(Err(BROKEN))?;
    decompress(&stored, length).map(Bytes::from).or(Err(BROKEN))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest;
    use crate::store::Content;

    fn record(body: Option<Vec<u8>>) -> Record {
        let content = body.map(|body| Content { body: body.into(), columns: 0, foreign_keys: Vec::new() });
        Record {
            seq: 0,
            kind: "table".to_owned(),
            fqn: "t".to_owned(),
            content_hash: digest::EMPTY,
            memo: Bytes::new(),
            content,
        }
    }

    fn packed(body: &[u8]) -> Vec<u8> {
        pack(&[record(Some(body.to_vec()))]).unwrap().remove(0).unwrap()
    }

    #[test]
    fn a_record_without_a_body_keeps_its_place() {
        let records = [record(Some(b"{}".to_vec())), record(None), record(Some(b"[]".to_vec()))];
        let stored = pack(&records).unwrap();
        let bodies: Vec<_> = stored.into_iter().map(|stored| stored.map(|stored| unpack(stored).unwrap())).collect();
        assert_eq!(bodies, [Some(Bytes::from_static(b"{}")), None, Some(Bytes::from_static(b"[]"))]);
    }

    #[test]
    fn what_repeats_itself_takes_less_room() {
        let columns: String = (0..100).map(|n| format!(r#"{{"name":"Field{n}__c","dataType":"VARCHAR"}},"#)).collect();
        assert!(packed(columns.as_bytes()).len() < columns.len() / 8);
    }

    #[test]
    fn a_body_of_an_older_version_is_read_as_it_is() {
        assert_eq!(unpack(b"{\"name\":\"t\"}".to_vec()).unwrap(), "{\"name\":\"t\"}");
    }

    #[test]
    fn a_frame_that_is_cut_or_longer_than_a_body_may_be_is_an_error() {
        let stored = packed(&[b'x'; 5_000]);
        let cut = stored.split_last().unwrap().1.to_vec();
        for broken in [cut, stored.get(..4).unwrap().to_vec(), packed(&vec![b'x'; 5 << 20])] {
            assert!(matches!(unpack(broken), Err(StoreError::Corrupt { what: "body" })));
        }
    }

    proptest! {
        #[test]
        fn a_body_is_read_as_it_was_written(body in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            prop_assert_eq!(unpack(packed(&body)).unwrap(), body);
        }
    }
}
