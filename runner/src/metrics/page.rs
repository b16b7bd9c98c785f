//! The page of metrics.

use hybrid_runner_observability::Exposition;

use super::Metrics;
use super::pulse::SessionState;

/// Stands before each name.
const PREFIX: &str = "hybrid_runner";

impl Metrics {
    /// The metrics, as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut page = Exposition::new(PREFIX);
        page.info("build", "The program", vec![("version", env!("CARGO_PKG_VERSION").to_owned())]);
        self.session(&mut page);
        self.runs(&mut page);
        let reads =
            self.stores.counts().into_iter().map(|((store, outcome), reads)| {
                ([("store", store.to_owned()), ("outcome", outcome.to_owned())], reads)
            });
        page.counter("secret_reads", "Secrets asked for, by kind of store and outcome", reads);
        let found = self.stores.redactor().hits();
        page.counter("redactions", "Values of secrets found in what was about to leave, and taken out", [([], found)]);
        page.text()
    }

    fn session(&self, page: &mut Exposition) {
        let beat = self.pulse.look();
        let states = SessionState::ALL.map(|state| {
            let is = if state == beat.state { 1.0 } else { 0.0 };
            ([("state", state.as_str().to_owned())], is)
        });
        page.gauge("session_state", "1 for the state that the session with the control plane is in", states);
        let age = beat.age().as_secs_f64();
        page.gauge("session_age_seconds", "How long the session is in its state", [([], age)]);
        let problem = (!beat.reason.is_empty()).then(|| ([("reason", beat.reason.to_owned())], 1.0));
        page.gauge("session_problem", "1 for what ended the last session or attempt, while there is none", problem);
        let by = |word: &'static str, name: &'static str, count: u64| ([(name, word.to_owned())], count);
        let connects = beat.connects.iter().map(|(outcome, count)| by(outcome, "outcome", *count));
        page.counter("connects", "Attempts to begin a session, by outcome", connects);
        let ended = beat.ended.iter().map(|(reason, count)| by(reason, "reason", *count));
        page.counter("sessions_ended", "Sessions that had begun and ended, by reason", ended);
    }

    fn runs(&self, page: &mut Exposition) {
        let (ended, entities, totals, active, unacked, left) = self.with(|runs| {
            let (mut totals, mut unacked) = (runs.past, 0_u64);
            let mut left = None;
            for (_began, progress) in runs.live.values() {
                let seen = totals.add(progress);
                unacked += seen.window_bytes;
                left = left.into_iter().chain(seen.source.requests_left).min();
            }
            let left = left.or(runs.requests_left);
            (runs.ended.clone(), runs.entities.clone(), totals, runs.live.len(), unacked, left)
        });
        let ended = ended
            .into_iter()
            .map(|((end, reason), count)| ([("end", end.to_owned()), ("reason", reason.to_owned())], count));
        page.counter("runs", "Runs that ended for this agent, by end and reason", ended);
        page.histogram("run_duration_seconds", "How long runs took at this agent", &self.durations);
        page.gauge("runs_active", "Runs under way", [([], whole(u64::try_from(active).unwrap_or(u64::MAX)))]);
        let entities = entities.into_iter().map(|(outcome, entities)| ([("outcome", outcome.to_owned())], entities));
        page.counter("entities", "Entities of committed runs, by outcome", entities);
        for (name, help, count) in [
            ("source_requests", "Requests to the source, logins and repeated ones included", totals.requests),
            ("source_requests_repeated", "Requests to the source that were repeated after a failure", totals.repeated),
            ("source_throttled", "Answers of the source that asked for fewer requests", totals.throttled),
            ("source_bytes", "Bytes received from the source, as on the wire", totals.bytes_received),
            ("upload_bytes", "Bytes of records handed to the network, those sent again included", totals.bytes_sent),
            ("upload_acks", "Acknowledgements of the control plane", totals.acks),
            ("upload_acked_records", "Records that the control plane acknowledged", totals.acked_records),
            ("upload_reopened", "Uploads that broke and were opened again", totals.reopened),
        ] {
            page.counter(name, help, [([], count)]);
        }
        let unacked = [([], whole(unacked))];
        page.gauge("upload_unacked_bytes", "Bytes of records that wait to be acknowledged", unacked);
        let left = left.map(|left| ([], whole(left)));
        let help =
            "Requests that the source still permits today: the least of the runs under way, else of the last one";
        page.gauge("source_requests_left", help, left);
    }
}

/// As a gauge shows it: exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; none of these counts comes near 2^53")]
fn whole(count: u64) -> f64 {
    count as f64
}
