//! The dates of conditional requests: `Last-Modified`, and the `ETag` that is a function of it alone.

use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};

/// A date as Salesforce writes it (`Tue, 28 Jun 2022 03:46:54 GMT`).
pub(crate) fn http_date(stamp: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&stamp).unwrap_or_default()
}

/// Reads a date from a request; what cannot be read sets no condition, as in HTTP.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

/// Equal stamps have equal tags, whatever the object: so the recordings show it.
pub(crate) fn etag(stamp: Timestamp) -> String {
    // FNV-1a: any spread over 32 bits does.
    let hash = stamp
        .as_second()
        .to_be_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("\"{hash:08x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_goes_out_and_comes_back() {
        let stamp: Timestamp = "2022-06-28T03:46:54Z".parse().unwrap();
        assert_eq!(http_date(stamp), "Tue, 28 Jun 2022 03:46:54 GMT");
        assert_eq!(parse(&http_date(stamp)), Some(stamp));
        assert_eq!(parse("Sat, 1 Jan 2000 00:00:01 GMT"), Some("2000-01-01T00:00:01Z".parse().unwrap()));
        assert_eq!(parse("yesterday"), None);
    }
}
