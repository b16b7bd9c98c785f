//! What is left of an extraction when no more requests are permitted.

use std::time::Duration;

use hybrid_runner_tests::extraction::{Extraction, soap_at_localhost};
use hybrid_runner_tests::processes::Output;
use hybrid_runner_tests::world::parse_export;
use hybrid_runner_tests::{entities_with, within};
use sandbox::{FaultPlan, Kind, OrgConfig};

/// Sees that a run that ended early kept some tables and said so: exit code 3.
fn ended_early(one: &Extraction, output: &Output) {
    let objects = one.org.org().objects().len();
    assert_eq!(output.code(), 3, "{output:?}");
    let line = output.json();
    assert_eq!((&line["state"], &line["complete"]), (&"committed".into(), &false.into()), "{line}");
    assert_eq!(line["objects"], objects, "{line}");
    let written = parse_export(&one.export());
    let tables: Vec<_> = written.iter().filter(|(kind, ..)| kind == "table").collect();
    let columns: usize = tables.iter().map(|(_, _, entity)| entity["columns"].as_array().unwrap().len()).sum();
    assert!(!tables.is_empty() && tables.len() < objects, "{output:?}");
    assert_eq!(written.len(), entities_with(tables.len()), "what tables refer to is written with them");
    assert_eq!((&line["entities"], &line["columns"]), (&written.len().into(), &columns.into()), "{line}");
    assert_eq!(line["failed"], objects - tables.len(), "{line}");
    let written = format!("{} of {objects} objects are written; run again once the quota permits", tables.len());
    for part in ["stopped early: SOURCE_THROTTLED", &written, "requests left today"] {
        assert!(output.stderr.contains(part), "{part}: {output:?}");
    }
    assert!(!output.stderr.contains("not known"), "{output:?}");
}

/// The org's limit is reached as soon as so many calls of a kind, and one more of any kind, were sent.
async fn limit_reached_after(one: &Extraction, kind: Kind, calls: usize) {
    let is_time = || {
        let log = one.org.log();
        let last = log.iter().enumerate().filter(|(_, request)| request.kind == kind).nth(calls - 1);
        last.is_some_and(|(at, _)| log.len() > at + 1)
    };
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while !is_time() {
        looks.tick().await;
    }
    one.org.faults().change(|plan| plan.limit_reached = true);
}

/// An org that takes its time for a describe, read by two calls at a time: when the third is sent, one was answered.
async fn read_two_calls_at_a_time(objects: usize) -> Extraction {
    let faults = FaultPlan { describe_time: Duration::from_millis(5), ..FaultPlan::default() };
    let one = Extraction::with(OrgConfig { objects, ..OrgConfig::default() }, faults).await;
    one.workflow(&soap_at_localhost(), "threads: 2\n");
    one
}

#[tokio::test]
async fn a_quota_that_is_used_up_in_the_middle_keeps_what_was_written_and_exits_with_3() {
    // A full call for descriptions when half of them are described, and one for the rest.
    let one = read_two_calls_at_a_time(800).await;
    let spent = limit_reached_after(&one, Kind::ToolingComposite, 1);
    let (output, ()) = tokio::join!(one.run(), within("a call after the first descriptions", spent));
    ended_early(&one, &output);
    assert!(output.stderr.contains("REQUEST_LIMIT_EXCEEDED"), "{output:?}");
}

#[tokio::test]
async fn a_budget_that_is_used_up_in_the_middle_keeps_what_was_written_and_exits_with_3() {
    let one = Extraction::with(OrgConfig { objects: 400, ..OrgConfig::default() }, FaultPlan::default()).await;
    one.workflow(&format!("{}connectionOptions: {{apiBudgetCalls: '10'}}\n", soap_at_localhost()), "");
    let output = one.run().await;
    ended_early(&one, &output);
    assert!(output.stderr.contains("apiBudgetCalls permits no more that would be of use"), "{output:?}");
    assert!(one.org.requests().api_calls <= 10, "{:?}", one.org.requests());
}

#[tokio::test]
async fn a_quota_that_is_used_up_before_any_table_was_written_fails_with_1() {
    // Their descriptions are one call, the last.
    let one = read_two_calls_at_a_time(150).await;
    let spent = limit_reached_after(&one, Kind::Composite, 2);
    let (output, ()) = tokio::join!(one.run(), within("the third call for describes", spent));
    assert_eq!(output.code(), 1, "{output:?}");
    assert_eq!(output.json()["state"], "failed", "{output:?}");
    assert!(output.stderr.contains("error: SOURCE_THROTTLED: "), "{output:?}");
    assert_eq!(one.org.requests().count(Kind::ToolingComposite), 0, "{:?}", one.org.requests());
    one.nothing_was_written();
}
