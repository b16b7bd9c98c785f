//! What is to be said to the control plane: pure.
//!
//! It is bounded by what it is about: one answer for each definition (the session holds 1,000), one offer and one word that
//! the agent leaves, one release for each lease, and a bound for reports, which are best effort.

use std::collections::VecDeque;

use crate::session::Command;

/// Reports of runs that wait while there is no session; more are dropped.
const REPORTS: usize = 1000;

/// Commands for the session, oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    commands: VecDeque<Command>,
    reports: usize,
}

impl Outbox {
    /// Says something, in place of what it makes needless.
    pub(super) fn push(&mut self, command: Command) {
        match &command {
            Command::Report(_) if self.reports >= REPORTS => return,
            Command::Report(_) => self.reports += 1,
            Command::Tested { .. } => {}
            Command::Answer { .. }
            | Command::Offer { .. }
            | Command::Drain { .. }
            | Command::Release(_)
            | Command::Flush => {
                self.commands.retain(|old| !replaces(&command, old));
            }
        }
        self.commands.push_back(command);
    }

    pub(super) fn pop(&mut self) -> Option<Command> {
        let command = self.commands.pop_front();
        self.reports -= usize::from(matches!(command, Some(Command::Report(_))));
        command
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// A session began: what was meant for an earlier one is dropped.
    pub(super) fn keep_reports(&mut self) {
        self.commands.retain(|command| matches!(command, Command::Report(_)));
    }
}

/// Whether the newer one says all that the older one did.
fn replaces(newer: &Command, older: &Command) -> bool {
    match (newer, older) {
        (Command::Answer { pipeline, .. }, Command::Answer { pipeline: old, .. }) => pipeline == old,
        (Command::Release(release), Command::Release(old)) => release.token == old.token,
        (Command::Offer { .. }, Command::Offer { .. })
        | (Command::Drain { .. }, Command::Drain { .. })
        | (Command::Flush, Command::Flush) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use hybrid_runner_connector::Severity;

    use super::*;
    use crate::session::{LeaseId, Outcome, Reason, Release, Report, RunId, Verdict, WriteToken};

    fn token(run: u64) -> WriteToken {
        WriteToken { run_id: RunId::new(&run.to_string()), fence: 1, lease_id: LeaseId([0; 16]) }
    }

    fn all(mut outbox: Outbox) -> Vec<Command> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn only_the_last_answer_to_a_definition_and_the_last_offer_are_said() {
        let answer = |pipeline: &str, version| Command::Answer {
            pipeline: pipeline.to_owned(),
            version,
            verdict: Verdict::Accepted { unreadable: Vec::new() },
        };
        let mut outbox = Outbox::default();
        for version in 0..100 {
            outbox.push(answer("p", version));
            outbox.push(answer("q", version));
            outbox.push(Command::Offer { slots: 2 });
        }
        assert_eq!(all(outbox), [answer("p", 99), answer("q", 99), Command::Offer { slots: 2 }]);
    }

    #[test]
    fn a_release_waits_once_and_reports_wait_up_to_their_bound() {
        let release = |run| {
            let (outcome, reason) = (Outcome::HandedBack, Reason::BUSY);
            Command::Release(Release { token: token(run), outcome, reason, detail: String::new() })
        };
        let report = || {
            let (severity, text) = (Severity::Info, "text".to_owned());
            Command::Report(Report { token: token(1), severity, code: "code", text })
        };
        let mut outbox = Outbox::default();
        for _ in 0..REPORTS + 10 {
            outbox.push(report());
            outbox.push(release(1));
            outbox.push(release(2));
        }
        assert_eq!(outbox.commands.len(), REPORTS + 2);
        outbox.keep_reports();
        assert_eq!(outbox.pop(), Some(report()));
        outbox.push(report());
        assert_eq!(all(outbox).len(), REPORTS, "what was said makes room");
    }
}
