//! The rolling digest of a run's records.
//!
//! `d₀` is 32 zero bytes; `dₙ = BLAKE3(dₙ₋₁ ‖ seq ‖ len(kind) ‖ kind ‖ len(fqn) ‖ fqn ‖ content_hash)` with `seq` as u64,
//! lengths as u32, all big-endian. Both ends of the wire compute it on their own and compare it at the end of a run.

/// A digest or content hash.
pub type Hash = [u8; 32];

/// The digest of no records.
pub const EMPTY: Hash = [0; 32];

/// The digest after one more record.
///
/// The lengths of names are bounded far below `u32::MAX` before they get here; longer ones count as `u32::MAX`.
#[must_use]
pub fn next(digest: &Hash, seq: u64, kind: &str, fqn: &str, content_hash: &Hash) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(digest).update(&seq.to_be_bytes());
    for name in [kind, fqn] {
        hasher.update(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes()).update(name.as_bytes());
    }
    hasher.update(content_hash).finalize().into()
}

/// The content hash of a body as sent.
#[must_use]
pub fn of_body(body: &[u8]) -> Hash {
    blake3::hash(body).into()
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of docs/protocol.md, reckoned by another implementation (Python's blake3).
    #[test]
    fn the_digest_is_that_of_the_protocol() {
        let first =
            next(&EMPTY, 0, "databaseService", "crm", &of_body(br#"{"name":"crm","serviceType":"Salesforce"}"#));
        let second = next(&first, 1, "table", "crm.default.salesforce.Account", &of_body(b"{}"));
        let third = next(&second, u64::MAX, "table", "crm.\"a.b\".s.Gr\u{f6}\u{df}e", &[0xff; 32]);
        for (digest, vector) in [
            (first, "a78738d33c9843b23eb342ca01787b2f5146a1656b1e012e75e6fd842d03052a"),
            (second, "69dda9e040a80ed37a6d4b4959a833de2e833eecae3e44eb818bb514a620d246"),
            (third, "4098a1892cb300ed8faaea7d03388898ae3455e1dfef88f9a770a6f93b14c1c1"),
        ] {
            assert_eq!(hex(&digest), vector);
        }
    }
}
