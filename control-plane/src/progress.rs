//! How far a run is, from what its agent says in heartbeats: rate, and the time left once it means something.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::shared::{KindProgress, Progress};

/// A rate over less than this says more about the first batch than about the run.
const MEANINGFUL: Duration = Duration::from_secs(2);

/// Nor does one over fewer objects: an emission of a source is about as many.
const MEANINGFUL_OBJECTS: u64 = 10;

/// How far a run is. Kept for whoever looks; it decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// When its agent said so.
    pub at: Timestamp,
    /// `login`, `list`, `extract` or `flush`; empty when the agent did not say.
    pub stage: String,
    /// Objects in scope; 0 until it is known.
    pub objects_total: u64,
    /// Objects read and mapped.
    pub objects_done: u64,
    /// Objects that could not be read.
    pub objects_failed: u64,
    /// Requests made to the source.
    pub source_requests: u64,
    /// Bytes received from the source.
    pub source_bytes: u64,
    /// Records that are durable here.
    pub records_acked: u64,
    /// The same by kind, as far as the agent knows.
    #[serde(default)]
    pub kinds: Vec<KindProgress>,
    /// The grant that it is about.
    fence: u64,
    /// Where the rate is counted from: the first heartbeat of this grant in which objects were read.
    since: Option<Since>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Since {
    at: Timestamp,
    objects: u64,
}

impl RunProgress {
    /// What the agent says now, under this grant, after what it said before.
    #[must_use]
    pub fn next(before: Option<&Self>, fence: u64, now: Timestamp, said: &Progress) -> Self {
        let objects = said.objects_done.saturating_add(said.objects_failed);
        // Whoever reads again, or another agent, begins anew.
        let since = before.filter(|before| before.fence == fence).and_then(|before| before.since);
        let since = since.filter(|since| since.objects <= objects);
        let begins = (said.stage == "extract").then_some(Since { at: now, objects });
        Self {
            at: now,
            stage: said.stage.to_owned(),
            objects_total: said.objects_total,
            objects_done: said.objects_done,
            objects_failed: said.objects_failed,
            source_requests: said.source_requests,
            source_bytes: said.source_bytes,
            records_acked: said.records_acked,
            kinds: said.kinds.clone(),
            fence,
            since: since.or(begins),
        }
    }

    /// Objects a second, once that means something.
    #[must_use]
    pub fn objects_per_second(&self) -> Option<f64> {
        let since = self.since?;
        let took = Duration::try_from(self.at.duration_since(since.at)).ok()?;
        let objects = self.objects().checked_sub(since.objects)?;
        let means = took >= MEANINGFUL && objects >= MEANINGFUL_OBJECTS;
        // Neither comes near the 2^53 from where on a float rounds.
        let objects = u32::try_from(objects).ok().map(f64::from)?;
        means.then(|| objects / took.as_secs_f64())
    }

    /// How long the rest of the objects takes at that rate; not before the listing is known, nor when all is read.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let left =
            self.objects_total.checked_sub(self.objects()).filter(|left| *left > 0 && self.stage == "extract")?;
        let left = u32::try_from(left).ok().map(f64::from)?;
        Duration::try_from_secs_f64(left / self.objects_per_second()?).ok()
    }

    fn objects(&self) -> u64 {
        self.objects_done.saturating_add(self.objects_failed)
    }

    /// For people: `extract 120 of 240 objects, 121 records durable (1 of 1 databaseService, 120 of 240 table), 12.5 objects a
    /// second, about 10 s left`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = if self.stage.is_empty() { "starting".to_owned() } else { self.stage.clone() };
        if self.objects_total > 0 {
            text.push_str(&format!(" {} of {} objects", self.objects(), self.objects_total));
        }
        if self.objects_failed > 0 {
            text.push_str(&format!(", {} failed", self.objects_failed));
        }
        if self.records_acked > 0 {
            text.push_str(&format!(", {} records durable", self.records_acked));
        }
        let of_kind = |kind: &KindProgress| format!("{} of {} {}", kind.acked, kind.expected, kind.kind);
        let kinds: Vec<String> = self.kinds.iter().map(of_kind).collect();
        if !kinds.is_empty() {
            text.push_str(&format!(" ({})", kinds.join(", ")));
        }
        if let Some(rate) = self.objects_per_second() {
            text.push_str(&format!(", {rate:.1} objects a second"));
        }
        if let Some(left) = self.time_left() {
            text.push_str(&format!(", about {} left", roughly(left)));
        }
        text
    }

    /// For programs. `seconds_left` and `objects_per_second` are null until they mean something.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "text": self.sentence(),
            "at": self.at.to_string(),
            "stage": self.stage,
            "objects_total": self.objects_total,
            "objects_done": self.objects_done,
            "objects_failed": self.objects_failed,
            "records_acked": self.records_acked,
            "kinds": self.kinds,
            "source_requests": self.source_requests,
            "source_bytes": self.source_bytes,
            "objects_per_second": self.objects_per_second().map(|rate| (rate * 10.0).round() / 10.0),
            "seconds_left": self.time_left().map(|left| left.as_secs()),
        })
    }
}

fn roughly(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{} s", seconds.max(1)),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stage: &'static str, total: u64, done: u64, failed: u64) -> Progress {
        Progress { stage, objects_total: total, objects_done: done, objects_failed: failed, ..Progress::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Heartbeats of one grant.
    fn after(beats: &[(i64, Progress)]) -> RunProgress {
        let next = |before: Option<RunProgress>, (second, said): &(i64, Progress)| {
            Some(RunProgress::next(before.as_ref(), 1, at(*second), said))
        };
        beats.iter().fold(None, next).unwrap()
    }

    #[test]
    fn the_time_left_is_counted_from_the_first_heartbeat_that_read_objects() {
        let progress = after(&[
            (0, said("login", 0, 0, 0)),
            (60, said("extract", 1_000, 100, 0)),
            (70, said("extract", 1_000, 280, 20)),
        ]);
        assert_eq!(progress.objects_per_second(), Some(20.0));
        assert_eq!(progress.time_left(), Some(Duration::from_secs(35)));
        assert_eq!(
            progress.sentence(),
            "extract 300 of 1000 objects, 20 failed, 20.0 objects a second, about 35 s left"
        );
        assert_eq!((&progress.json()["seconds_left"], &progress.json()["stage"]), (&35.into(), &"extract".into()));
    }

    #[test]
    fn there_is_no_time_left_before_it_means_something() {
        for beats in [
            vec![(0, said("extract", 100, 50, 0))],
            vec![(0, said("extract", 100, 0, 0)), (1, said("extract", 100, 50, 0))],
            vec![(0, said("extract", 100, 0, 0)), (60, said("extract", 100, 9, 0))],
            vec![(0, said("extract", 0, 0, 0)), (60, said("extract", 0, 50, 0))],
            vec![(0, said("extract", 100, 0, 0)), (60, said("flush", 100, 100, 0))],
            vec![(0, said("list", 0, 0, 0)), (60, said("list", 100, 0, 0))],
        ] {
            let progress = after(&beats);
            assert_eq!(progress.time_left(), None, "{progress:?}");
            assert_eq!(progress.json()["seconds_left"], serde_json::Value::Null);
        }
    }

    #[test]
    fn who_reads_again_and_another_grant_begin_anew() {
        let first = after(&[(0, said("extract", 100, 10, 0)), (10, said("extract", 100, 60, 0))]);
        assert!(first.time_left().is_some());
        let again = RunProgress::next(Some(&first), 1, at(20), &said("extract", 100, 5, 0));
        assert_eq!(again.time_left(), None);
        let other = RunProgress::next(Some(&first), 2, at(20), &said("extract", 100, 90, 0));
        assert_eq!(other.time_left(), None);
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<RunProgress>(&text).unwrap(), first);
    }
}
