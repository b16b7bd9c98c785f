//! Three control planes that break one rule each: ours, with a liar before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hybrid_runner_conformance::{Identity, Outcome, Report};
use hybrid_runner_proto::v1::{PushRequest, PushResponse, SessionRequest, SessionResponse, WriteToken};
use hybrid_runner_tests::by_hand::{Answer, Heard, Pushed, Said};
use hybrid_runner_tests::tap::{Tamper, Tap};

use super::{checked, world};

/// Checks that a liar passes as long as it breaks no rule of theirs.
const HONEST: &str = "hello_is_answered_by_welcome";

/// Runs some checks against a liar, and returns those that failed.
async fn found(liar: Arc<dyn Tamper>, only: &[&str]) -> Vec<&'static str> {
    let world = world().await;
    let tap = Tap::tampering(world.port, &world.authority, liar).await;
    let only = [&[HONEST], only].concat();
    let reports = checked(&world, tap.port, Identity::None, &only).await;
    assert_eq!(reports.len(), only.len(), "each check is run once");
    world.stop().await;
    let failed = |report: Report| match report.outcome {
        Outcome::Failed(_) => Some(report.name),
        Outcome::Ok => None,
        Outcome::NotRun(why) => panic!("{}: {why}", report.name),
    };
    reports.into_iter().filter_map(failed).collect()
}

/// Says that one record more is durable than is.
#[derive(Debug)]
struct AcksTooMuch;

impl Tamper for AcksTooMuch {
    fn answered(&self, _stream: u64, message: &mut PushResponse) {
        if let Some(Answer::Ack(ack)) = &mut message.message {
            ack.next_seq += 1;
        }
    }
}

#[tokio::test]
async fn a_control_plane_that_acknowledges_too_much_is_found_out() {
    let only = ["an_ack_names_what_was_sent", "a_broken_stream_goes_on_at_next_seq", "a_gap_is_refused"];
    assert_eq!(found(Arc::new(AcksTooMuch), &only).await, only[..2].iter().rev().copied().collect::<Vec<_>>());
}

/// Writes, renews and releases under whatever token it is given.
#[derive(Debug, Default)]
struct IgnoresTheFence(Mutex<Option<WriteToken>>);

impl IgnoresTheFence {
    fn correct(&self, token: &mut Option<WriteToken>) {
        if let Some(granted) = &*self.0.lock().unwrap() {
            *token = Some(granted.clone());
        }
    }
}

impl Tamper for IgnoresTheFence {
    fn said(&self, message: &mut SessionRequest) {
        if let Some(Said::Heartbeat(beat)) = &mut message.message {
            beat.renewals.iter_mut().for_each(|renewal| self.correct(&mut renewal.token));
        }
    }

    fn heard(&self, message: &mut SessionResponse) {
        if let Some(Heard::Grant(grant)) = &message.message {
            self.0.lock().unwrap().clone_from(&grant.token);
        }
    }

    fn pushed(&self, _stream: u64, message: &mut PushRequest) {
        match &mut message.message {
            Some(Pushed::Open(open)) => self.correct(&mut open.token),
            Some(Pushed::Batch(batch)) => self.correct(&mut batch.token),
            Some(Pushed::Eof(eof)) => self.correct(&mut eof.token),
            None => {}
        }
    }
}

#[tokio::test]
async fn a_control_plane_that_ignores_the_fence_is_found_out() {
    let only = [
        "an_open_under_a_forged_token_is_fenced",
        "a_batch_under_a_forged_token_is_fenced",
        "an_end_under_a_forged_token_is_fenced",
        "a_forged_token_renews_nothing",
        "the_writer_of_a_former_grant_is_fenced",
    ];
    assert_eq!(found(Arc::<IgnoresTheFence>::default(), &only).await, only);
}

/// Takes a batch that leaves records out for one that does not.
#[derive(Debug, Default)]
struct AcceptsAGap(Mutex<BTreeMap<u64, Stream>>);

/// What is expected next on a stream, and how far ahead of it the agent believes to be.
#[derive(Debug, Default)]
struct Stream {
    next_seq: u64,
    ahead: u64,
}

impl Tamper for AcceptsAGap {
    fn pushed(&self, stream: u64, message: &mut PushRequest) {
        let mut streams = self.0.lock().unwrap();
        let stream = streams.entry(stream).or_default();
        let Some(Pushed::Batch(batch)) = &mut message.message else { return };
        for record in &mut batch.records {
            stream.ahead = record.seq.saturating_sub(stream.next_seq).max(stream.ahead);
            record.seq -= stream.ahead;
            stream.next_seq = record.seq + 1;
        }
    }

    fn answered(&self, stream: u64, message: &mut PushResponse) {
        let mut streams = self.0.lock().unwrap();
        let stream = streams.entry(stream).or_default();
        match &mut message.message {
            Some(Answer::Opened(opened)) => stream.next_seq = opened.next_seq,
            Some(Answer::Ack(ack)) => ack.next_seq += stream.ahead,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_control_plane_that_accepts_a_gap_is_found_out() {
    let only = ["a_gap_is_refused", "a_gap_within_a_batch_is_refused", "an_ack_means_durable"];
    assert_eq!(found(Arc::<AcceptsAGap>::default(), &only).await, only[..2]);
}
