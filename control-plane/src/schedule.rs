//! When a pipeline runs.
//!
//! A schedule is five fields of cron, or `@hourly` and its like, in a time zone. Daylight saving: a time that does not
//! exist fires when the clock has jumped, one that exists twice fires once. Ticks that were missed, for example while
//! the control plane was down, fire once.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, tz::TimeZone};

use crate::store::ScheduleText;

/// A schedule that was parsed.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    timezone: TimeZone,
}

/// A schedule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The pattern does not parse.
    #[error(
        "schedule.cron: {detail}; accepted: five fields such as `30 2 * * *`, or @hourly, @daily, @weekly, @monthly"
    )]
    Cron {
        /// What the parser met.
        detail: String,
    },
    /// It never happens.
    #[error("schedule.cron: never happens, for example because the day does not exist in that month")]
    Never,
    /// No such time zone.
    #[error("schedule.timezone: is not a time zone; accepted: an IANA name such as Europe/Berlin")]
    Timezone,
}

impl Schedule {
    /// Parses a schedule and makes sure that it happens after `now`.
    ///
    /// # Errors
    /// [`ScheduleError`]
    pub fn parse(text: &ScheduleText, now: Timestamp) -> Result<Self, ScheduleError> {
        let timezone = TimeZone::get(&text.timezone).or(Err(ScheduleError::Timezone))?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&text.cron).map_err(|error| ScheduleError::Cron { detail: error.to_string() })?;
        let schedule = Self { cron, timezone };
        schedule.next_after(now).map(|_| schedule).ok_or(ScheduleError::Never)
    }

    /// The first tick after this time.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&time.to_zoned(self.timezone.clone()), false).ok()?;
        Some(next.timestamp())
    }

    /// Whether a tick fell between `last` and `now`.
    #[must_use]
    pub fn is_due(&self, last: Timestamp, now: Timestamp) -> bool {
        self.next_after(last).is_some_and(|next| next <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, timezone: &str) -> Result<Schedule, ScheduleError> {
        let text = ScheduleText { cron: cron.to_owned(), timezone: timezone.to_owned() };
        Schedule::parse(&text, at("2026-01-01T00:00:00Z"))
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn six_fields_unknown_zones_and_impossible_days_are_refused() {
        assert!(matches!(schedule("0 0 0 * * *", "UTC"), Err(ScheduleError::Cron { .. })));
        assert!(matches!(schedule("soon", "UTC"), Err(ScheduleError::Cron { .. })));
        assert!(matches!(schedule("0 0 * * *", "Mars/Olympus"), Err(ScheduleError::Timezone)));
        assert!(matches!(schedule("0 0 31 2 *", "UTC"), Err(ScheduleError::Never)));
    }

    #[test]
    fn ticks_follow_the_time_zone_over_both_changes_of_the_clock() {
        let berlin = schedule("30 2 * * *", "Europe/Berlin").unwrap();
        // 02:30 does not exist on 29 March 2026: the clock jumps from 02:00 to 03:00.
        assert_eq!(berlin.next_after(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
        // 02:30 exists twice on 25 October 2026 and fires once.
        let first = berlin.next_after(at("2026-10-24T12:00:00Z")).unwrap();
        assert_eq!(berlin.next_after(first), Some(at("2026-10-26T01:30:00Z")));
    }

    #[test]
    fn missed_ticks_are_due_once() {
        let hourly = schedule("@hourly", "UTC").unwrap();
        let last = at("2026-05-01T00:00:00Z");
        assert!(!hourly.is_due(last, at("2026-05-01T00:59:59Z")));
        assert!(hourly.is_due(last, at("2026-05-01T07:10:00Z")));
        assert!(!hourly.is_due(at("2026-05-01T07:10:00Z"), at("2026-05-01T07:59:59Z")));
    }
}
