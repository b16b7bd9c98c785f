//! Records and their digest, by the words of push.proto.

use hybrid_runner_proto::v1::{self, Record, WriteToken, record};

/// The digest of no records.
pub(crate) const EMPTY: [u8; 32] = [0; 32];

/// A table that no org has. Its FQN is unique for this process when the name is.
pub(crate) fn table(seq: u64, name: &str, body: &str) -> Record {
    Record {
        seq,
        kind: "table".to_owned(),
        fqn: format!("conformance.default.kit.{name}"),
        content_hash: hash(body.as_bytes()).to_vec().into(),
        content: Some(record::Content::Body(body.to_owned().into())),
        memo: bytes::Bytes::new(),
    }
}

/// BLAKE3.
pub(crate) fn hash(body: &[u8]) -> [u8; 32] {
    blake3::hash(body).into()
}

/// The record, said to be as it was committed.
pub(crate) fn unchanged(record: &Record) -> Record {
    Record { content: Some(record::Content::Unchanged(v1::Unchanged {})), ..record.clone() }
}

/// The record with another body.
pub(crate) fn with_body(record: &Record, body: &str) -> Record {
    Record {
        content_hash: hash(body.as_bytes()).to_vec().into(),
        content: Some(record::Content::Body(body.to_owned().into())),
        ..record.clone()
    }
}

/// The digest after these records.
pub(crate) fn digest(before: &[u8], records: &[Record]) -> Vec<u8> {
    records.iter().fold(before.to_vec(), |mut input, record| {
        input.extend(record.seq.to_be_bytes());
        for name in [&record.kind, &record.fqn] {
            input.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
            input.extend(name.as_bytes());
        }
        input.extend_from_slice(&record.content_hash);
        hash(&input).to_vec()
    })
}

/// Tokens that differ from the granted one in one thing each.
pub(crate) fn forgeries(token: &WriteToken) -> Vec<(&'static str, WriteToken)> {
    let lease_id = |bytes: Vec<u8>| WriteToken { lease_id: bytes.into(), ..token.clone() };
    let run_id = |run_id: String| WriteToken { run_id, ..token.clone() };
    vec![
        ("a stale fence", WriteToken { fence: token.fence.wrapping_sub(1), ..token.clone() }),
        ("a future fence", WriteToken { fence: token.fence.wrapping_add(1), ..token.clone() }),
        ("a random lease id", lease_id(uuid::Uuid::new_v4().as_bytes().to_vec())),
        ("a short lease id", lease_id(token.lease_id.iter().copied().take(15).collect())),
        ("no lease id", lease_id(Vec::new())),
        ("an unknown run", run_id(uuid::Uuid::new_v4().to_string())),
        ("no run", run_id(String::new())),
    ]
}
