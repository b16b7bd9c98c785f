//! The org's daily limit: what a run may use of it, and how it ends when that is used up.

use hybrid_runner_connector::Reason;
use sandbox::{FaultPlan, Kind};

use crate::case::{Case, Sink};
use hybrid_runner_connector::Source as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_never_exceeded_and_what_was_emitted_can_be_gone_on_from() {
    let mut case = Case::of(400).await;
    let (report, whole) = case.report().await;
    assert!(report.complete);
    case.connection.push_str("\nconnectionOptions: {apiBudgetCalls: '8'}");
    let before = case.org.requests().api_calls;
    let mut emitted = Vec::new();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut sink = Sink::default();
        let result = case.source().extract(case.extraction(), &mut sink).await;
        emitted.extend(sink.entities.iter().map(|entity| (entity.fqn.clone(), entity.content_hash())));
        let Err(error) = result else { break };
        assert_eq!(error.reason, Reason::SourceThrottled);
        assert!(error.detail.contains("apiBudgetCalls"), "{error}");
        assert!(case.org.requests().api_calls - before <= 8 * attempts);
        assert!(sink.has_notice("quota_short"));
        let (_, checkpoint) = sink.emits.last().expect("an attempt gets somewhere").clone();
        case.start = Some(checkpoint);
        assert!(attempts < 20);
    }
    assert!(attempts > 2);
    let expected: Vec<_> = whole.entities.iter().map(|entity| (entity.fqn.clone(), entity.content_hash())).collect();
    assert_eq!(emitted, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_of_others_is_not_touched() {
    // Of 100,000 a day 20 % are reserved, and ten are left.
    let faults = FaultPlan { calls_used: 79_990, ..FaultPlan::default() };
    let mut case = Case::with(400, faults).await;
    let (result, sink) = case.run().await;
    let error = result.unwrap_err();
    assert_eq!(error.reason, Reason::SourceThrottled);
    assert!(error.detail.contains("apiReservePercent") && error.detail.contains("100000"), "{error}");
    assert!(sink.has_notice("quota_short"));
    assert!(case.org.requests().api_calls <= 10);
    // With another share the run goes through, and says what is left.
    case.connection.push_str("\nconnectionOptions: {apiReservePercent: '5'}");
    let (report, sink) = case.report().await;
    assert!(report.complete);
    assert!(!sink.has_notice("quota_short"));
    let left = report.summary.requests_left.unwrap();
    assert_eq!(left, 100_000 - 79_990 - case.org.requests().api_calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_just_enough_is_not_warned_of() {
    let mut case = Case::of(30).await;
    let before = case.org.requests().api_calls;
    assert!(case.report().await.0.complete);
    let needed = case.org.requests().api_calls - before;
    case.connection.push_str(&format!("\nconnectionOptions: {{apiBudgetCalls: '{}'}}", needed + 1));
    let (report, sink) = case.report().await;
    assert!(report.complete && !sink.has_notice("quota_short"), "{:?}", sink.notices);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_limit_ends_the_run_at_once() {
    let case = Case::with(30, FaultPlan { limit_reached: true, ..FaultPlan::default() }).await;
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SourceThrottled);
    assert!(error.detail.contains("24 hours"), "{error}");
    assert!(case.org.requests().total <= 4);
    assert_eq!(case.org.requests().count(Kind::Composite), 0);
}
