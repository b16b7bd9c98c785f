//! Certificates that end, and clocks that differ.

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

use super::super::{Check, Finding};
use crate::session::Certificate;

/// A difference that a clock which nothing sets may have; above it, dates in logs mislead.
const UNUSUAL: SignedDuration = SignedDuration::from_secs(30);
/// From here on logins fail: the assertion of a JWT login lives three minutes, and AWS refuses signatures that are five
/// minutes off.
const TOO_MUCH: SignedDuration = SignedDuration::from_mins(3);
/// A certificate with less than this and less than a third of its life left was to be renewed: whoever renews by himself
/// does it at a third, and people want a week.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A certificate, in a line.
pub(super) fn shown(certificate: &Certificate) -> String {
    let Certificate { subject, issuer, names, not_before: _, not_after } = certificate;
    let names = names.join(", ");
    format!("a certificate of {subject} for {names}, signed by {issuer}, valid until {not_after}")
}

pub(super) fn ends_soon(certificate: &Certificate, now: Timestamp) -> bool {
    let left = certificate.not_after.duration_since(now);
    let life = certificate.not_after.duration_since(certificate.not_before);
    left < SOON && left < life / 3
}

/// How far this machine's clock is from the control plane's, by the header `date` of its answer.
pub(super) fn clock(date: Option<&str>, now: Timestamp) -> Finding {
    let parsed = date.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    let Some(there) = parsed else {
        return Finding::skipped(Check::Clock, "the control plane's answer has no date");
    };
    let off = now.duration_since(there);
    let side = if off.is_negative() { "behind" } else { "ahead of" };
    let seen = format!("this machine's clock is {} s {side} the control plane's", off.abs().as_secs());
    let advice = "set the clock of whichever machine is wrong (NTP, chrony)";
    match off.abs() {
        off if off >= TOO_MUCH => Finding::fail(Check::Clock, &seen, advice),
        off if off >= UNUSUAL => Finding::warn(Check::Clock, &seen, advice),
        _ => Finding::ok(Check::Clock, &seen),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Status;
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_that_is_off_by_half_a_minute_warns_and_by_three_minutes_fails_either_way() {
        for (now, status, words) in [
            ("1994-11-06T08:49:38Z", Status::Ok, "1 s ahead of"),
            ("1994-11-06T08:49:08Z", Status::Ok, "29 s behind"),
            ("1994-11-06T08:50:07Z", Status::Warn, "30 s ahead of"),
            ("1994-11-06T08:52:37Z", Status::Fail, "180 s ahead of"),
            ("1994-11-06T08:46:37Z", Status::Fail, "180 s behind"),
        ] {
            let found = clock(Some(DATE), at(now));
            assert_eq!(found.status, status, "{now}: {found:?}");
            assert!(found.seen.contains(words), "{now}: {found:?}");
        }
        for none in [None, Some("yesterday")] {
            assert_eq!(clock(none, at("1994-11-06T08:49:38Z")).status, Status::Skipped);
        }
    }

    #[test]
    fn a_certificate_ends_soon_in_its_last_week_unless_it_never_lives_longer() {
        let certificate = |not_before: &str, not_after: &str| Certificate {
            subject: "CN=a".to_owned(),
            issuer: "CN=b".to_owned(),
            names: Vec::new(),
            not_before: at(not_before),
            not_after: at(not_after),
        };
        let year = certificate("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        assert!(!ends_soon(&year, at("2026-12-20T00:00:00Z")) && ends_soon(&year, at("2026-12-26T00:00:00Z")));
        let day = certificate("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        assert!(!ends_soon(&day, at("2026-01-01T12:00:00Z")) && ends_soon(&day, at("2026-01-01T20:00:00Z")));
    }
}
