//! What a run reads, in which order, with how many calls, and what it does when something fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hybrid_runner_connector::{Checkpoint, Committed, Reason, Report, Source as _, Stage};
use sandbox::{FaultPlan, Kind};

use crate::case::{Case, Sink, chain};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_object_arrives_in_the_listings_order_parents_first() {
    let case = Case::of(130).await;
    let (report, sink) = case.report().await;
    case.assert_complete(&report, &sink);
    let mut kinds: Vec<_> = sink.entities.iter().map(|entity| entity.kind).collect();
    kinds.dedup();
    assert_eq!(kinds, ["databaseService", "database", "databaseSchema", "classification", "tag", "table"]);
    assert!(sink.has_notice("login_succeeded") && sink.has_notice("listed"));
    let seen = case.org.requests();
    assert_eq!(report.summary.requests, seen.total);
    assert_eq!(report.summary.bytes_received, seen.body_bytes);
    // Login, versions, list, and 25 objects a call.
    let expected = [
        (Kind::SoapLogin, 1),
        (Kind::Versions, 1),
        (Kind::Global, 1),
        (Kind::Limits, 1),
        (Kind::Composite, 6),
        (Kind::ToolingComposite, 1),
    ];
    assert_eq!(seen.by_kind, BTreeMap::from(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_overlap_and_are_bounded() {
    let faults = FaultPlan { latency: Duration::from_millis(50), ..FaultPlan::default() };
    let case = Case::with(400, faults).await;
    let (report, sink) = case.report().await;
    case.assert_complete(&report, &sink);
    let seen = case.org.requests();
    assert!((4..=16).contains(&seen.most_at_once), "{} at once", seen.most_at_once);
    assert_eq!(seen.count(Kind::Composite), 16);
    let mut case = Case::with(400, FaultPlan { latency: Duration::from_millis(50), ..FaultPlan::default() }).await;
    case.options = "threads: 2".to_owned();
    case.report().await;
    assert_eq!(case.org.requests().most_at_once, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_requests_are_made_than_the_objects_and_fields_take() {
    for objects in [25, 400, 1000] {
        let faults = FaultPlan { latency: Duration::from_millis(10), ..FaultPlan::default() };
        let case = Case::with(objects, faults).await;
        let (report, sink) = case.report().await;
        case.assert_complete(&report, &sink);
        // Login, list; describes; EntityDefinition and FieldDefinition, which has three rows an object more; versions,
        // limits.
        let rows = case.org.org().field_count() + 3 * objects;
        let most = 2 + objects.div_ceil(25) + (rows.div_ceil(2000) + objects.div_ceil(2000)).div_ceil(5) + 2;
        let made = case.org.requests().total;
        assert!(made <= u64::try_from(most).unwrap(), "{objects} objects: {made} requests, {most} are enough");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_credentials_log_in() {
    let mut case = Case::of(30).await;
    let key = case.org.credentials().consumer_key;
    case.connection = format!("consumerKey: {key}\nconsumerSecret: secret:/sf/secret\nsalesforceApiVersion: '60.0'");
    let (report, sink) = case.report().await;
    case.assert_complete(&report, &sink);
    let seen = case.org.requests();
    assert_eq!((seen.count(Kind::Token), seen.count(Kind::SoapLogin), seen.count(Kind::Versions)), (1, 0, 1));
    assert!(case.org.log().iter().any(|request| request.path == "/services/data/v60.0/composite"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_client_credentials_are_rejected_once() {
    let mut case = Case::of(3).await;
    case.connection = "consumerKey: 3MVG9unknown\nconsumerSecret: secret:/sf/secret".to_owned();
    let error = case.error().await;
    assert_eq!(error.reason, Reason::AuthFailed);
    assert!(error.detail.contains("consumerSecret"), "{error}");
    assert_eq!(case.org.requests().total, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_rejected_once_and_says_what_to_check() {
    let mut case = Case::of(3).await;
    case.password = "not the password".to_owned();
    let error = case.error().await;
    assert_eq!(error.reason, Reason::AuthFailed);
    assert!(error.detail.contains("INVALID_LOGIN") && error.detail.contains("security token"), "{error}");
    assert_eq!(case.org.requests().total, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_unusable_secret_ends_the_run_before_salesforce_is_contacted() {
    let mut case = Case::of(3).await;
    case.connection = case.connection.replace("secret:/sf/token", "secret:/sf/missing");
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SecretUnavailable);
    assert!(error.detail.contains("securityToken") && error.detail.contains("secret:/sf/missing"), "{error}");
    let mut case = Case::of(3).await;
    case.password.push('\n');
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SecretMalformed);
    assert!(error.detail.contains("password") && error.detail.contains("line break"), "{error}");
    assert_eq!(case.org.requests().total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_expires_is_replaced_once_for_all_calls() {
    for after in [0, 1, 2, 4] {
        let faults = FaultPlan { expire_sessions_after: Some(after), ..FaultPlan::default() };
        let case = Case::with(200, faults).await;
        let (report, sink) = case.report().await;
        case.assert_complete(&report, &sink);
        assert_eq!(case.org.requests().count(Kind::SoapLogin), 2, "expired after {after} calls");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_repeated_and_loses_nothing() {
    let plans = [
        FaultPlan { unavailable_calls: [3, 5].into(), ..FaultPlan::default() },
        FaultPlan { unavailable_next: 1, ..FaultPlan::default() },
        FaultPlan { reset_calls: [2, 4, 6].into(), ..FaultPlan::default() },
        FaultPlan { unavailable_paths: [("/composite".to_owned(), 3)].into(), ..FaultPlan::default() },
    ];
    for faults in plans {
        let case = Case::with(60, faults.clone()).await;
        let (report, sink) = case.report().await;
        case.assert_complete(&report, &sink);
        assert!(case.org.requests().total > 6, "{faults:?}");
        assert_eq!(report.summary.requests, case.org.requests().total);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_ends_early_is_read_again() {
    let case = Case::of(60).await;
    let faults = case.org.faults();
    let source = case.source();
    let mut sink = Sink::default();
    // Not the login's: that is not repeated.
    let extraction = case.extraction();
    let progress = Arc::clone(&extraction.progress);
    let run = source.extract(extraction, &mut sink);
    let truncate = async {
        while progress.snapshot().requests < 2 {
            tokio::task::yield_now().await;
        }
        faults.change(|plan| plan.truncate_next = 2);
    };
    let (result, ()) = tokio::join!(run, truncate);
    case.assert_complete(&result.unwrap(), &sink);
    assert_eq!(faults.plan().truncate_next, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_org_that_stays_unavailable_ends_the_run() {
    let faults = FaultPlan { unavailable_paths: [("/sobjects".to_owned(), u32::MAX)].into(), ..FaultPlan::default() };
    let case = Case::with(30, faults).await;
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SourceUnreachable);
    assert!(error.detail.contains("503") && error.detail.contains("status.salesforce.com"), "{error}");
    // Login, versions, limits, and the list five times.
    assert_eq!(case.org.requests().total, 3 + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_describe_that_is_html_or_too_large_fails_its_object_only() {
    let case = Case::of(60).await;
    let names: Vec<_> = case.org.org().objects().map(|object| object.entry.name.clone()).collect();
    case.org.faults().change(|plan| {
        plan.html_describes.insert(names[7].clone());
        plan.oversized_describes.insert(names[41].clone(), 10_000_000);
    });
    let (report, sink) = case.report().await;
    assert!(!report.complete);
    assert_eq!(report.gone, [""; 0]);
    let failed: Vec<_> = report.failures.iter().map(|failure| (failure.fqn.clone(), failure.reason)).collect();
    let fqn = |index: usize| format!("sf.default.salesforce.{}", names[index]);
    assert_eq!(failed, [(fqn(7), Reason::SourceProtocol), (fqn(41), Reason::DescribeTooLarge)]);
    let expected: Vec<_> = case.expected().into_iter().filter(|name| *name != fqn(7) && *name != fqn(41)).collect();
    assert_eq!(sink.tables(), expected);
    assert_eq!(report.summary.failed, 2);
    // Once more, alone.
    assert_eq!(case.org.requests().count(Kind::Composite), 3 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_above_32_mib_is_asked_for_in_smaller_batches() {
    let case = Case::of(25).await;
    let names: Vec<_> = case.org.org().objects().map(|object| object.entry.name.clone()).collect();
    case.org.faults().change(|plan| {
        plan.oversized_describes = names.iter().step_by(4).map(|name| (name.clone(), 7_000_000)).collect();
    });
    let (report, sink) = case.report().await;
    case.assert_complete(&report, &sink);
    assert_eq!(case.org.requests().count(Kind::Composite), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_vanished_since_the_listing_fails_and_is_not_gone() {
    let case = Case::with(30, FaultPlan { latency: Duration::from_millis(20), ..FaultPlan::default() }).await;
    let vanishing = case.org.org().objects().nth(20).unwrap().entry.name.clone();
    let source = case.source();
    let mut sink = Sink::default();
    let extraction = case.extraction();
    let progress = Arc::clone(&extraction.progress);
    let run = source.extract(extraction, &mut sink);
    let vanish = async {
        while progress.snapshot().stage < Stage::Extract {
            tokio::task::yield_now().await;
        }
        case.org.change_org(|org| org.remove(&vanishing)).unwrap();
    };
    let (result, ()) = tokio::join!(run, vanish);
    let report = result.unwrap();
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.failures[0].reason, Reason::ObjectVanished);
    assert!(report.failures[0].fqn.ends_with(&vanishing) && !report.complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_a_doctype_of_two_megabytes_is_a_clear_error() {
    for (size, expected) in [(2_000_000, "larger than 1048576 bytes"), (2_000, "DOCTYPE")] {
        let case = Case::with(3, FaultPlan { soap_doctype: Some(size), ..FaultPlan::default() }).await;
        let error = case.error().await;
        assert_eq!(error.reason, Reason::SourceProtocol);
        assert!(error.detail.contains(expected), "{error}");
        assert_eq!(case.org.requests().total, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed() {
    let elsewhere = Case::of(1).await;
    let faults = FaultPlan { redirect_to: Some(elsewhere.org.url()), ..FaultPlan::default() };
    let case = Case::with(3, faults).await;
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SourceProtocol);
    assert!(error.detail.contains("redirects"), "{error}");
    assert_eq!((case.org.requests().total, elsewhere.org.requests().total), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_names_another_host_ends_the_run_and_nothing_goes_there() {
    let elsewhere = Case::of(1).await;
    let other = format!("localhost:{}", elsewhere.org.addr().port());
    for host in [other.as_str(), "evil.example", "acme.my.salesforce.com.evil.example", "169.254.169.254"] {
        let faults = FaultPlan { server_host: Some(host.to_owned()), ..FaultPlan::default() };
        let case = Case::with(3, faults).await;
        let error = case.error().await;
        assert_eq!(error.reason, Reason::SourceProtocol);
        assert!(error.detail.contains("salesforce.hosts"), "{error}");
        assert_eq!(case.org.requests().total, 1);
    }
    assert_eq!(elsewhere.org.requests().total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_untrusted_certificate_is_named_and_not_tried_again() {
    let mut case = Case::of(3).await;
    let other = Case::of(1).await;
    case.ca.clone_from(&other.ca);
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SourceUnreachable);
    assert!(error.detail.contains("certificate") && error.detail.contains("salesforce.hosts"), "{error}");
    assert_eq!(case.org.requests().total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_ca_of_its_own_a_host_is_checked_against_the_systems() {
    let mut case = Case::of(1).await;
    case.ca = None;
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SourceUnreachable);
    // On a machine without any CA certificates that is what the error says.
    assert!(error.detail.contains("certificate"), "{error}");
    assert_eq!(case.org.requests().total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_is_no_certificate_is_a_clear_error() {
    let mut case = Case::of(1).await;
    for ca in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        case.ca = Some(ca.to_owned());
        let error = case.error().await;
        assert!(error.detail.contains("PEM") || error.detail.contains("TLS client"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_host_is_named() {
    let case = Case::of(1).await;
    let (source, extraction) = (case.source(), case.extraction());
    case.org.stop().await;
    let error = source.extract(extraction, &mut Sink::default()).await.unwrap_err();
    assert_eq!(error.reason, Reason::SourceUnreachable);
    assert!(error.detail.contains("localhost:") && error.detail.contains("could not be reached"), "{error}");
    assert!(!chain(&error).contains("http"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_org_is_an_error_and_an_empty_scope_is_not() {
    let case = Case::of(1).await;
    let names: Vec<_> = case.org.org().objects().map(|object| object.entry.name.clone()).collect();
    for name in names {
        case.org.change_org(|org| org.remove(&name)).unwrap();
    }
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SourceDenied);
    assert!(error.detail.contains("lists no objects"), "{error}");
    let mut case = Case::of(20).await;
    case.options = "tableFilterPattern:\n  includes: [NothingIsNamedLikeThis]".to_owned();
    let (report, sink) = case.report().await;
    assert!(report.complete && sink.has_notice("nothing_in_scope"));
    assert_eq!((report.summary.objects, report.summary.filtered), (0, 20));
    assert_eq!(case.org.requests().count(Kind::Composite), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_version_that_the_org_does_not_offer_is_named() {
    let mut case = Case::of(3).await;
    case.connection.push_str("\nsalesforceApiVersion: '99.0'");
    let error = case.error().await;
    assert_eq!(error.reason, Reason::BadDefinition);
    assert!(
        error.detail.contains("salesforceApiVersion is 99.0") && error.detail.contains("67.0 and older"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_from_each_of_its_checkpoints() {
    let mut case = Case::of(110).await;
    let third = case.org.org().objects().nth(2).unwrap().entry.name.clone();
    case.org.faults().change(|plan| plan.html_describes.insert(third.clone()));
    let (whole, sink) = case.report().await;
    assert_eq!(sink.emits.len(), 1 + sink.tables().len(), "what tables refer to, and each table");
    // Some of each kind: the first, those around the failed object, and the last.
    for (emitted, checkpoint) in
        sink.emits.iter().take(4).chain(sink.emits.iter().skip(4).step_by(29)).chain(sink.emits.last())
    {
        assert!(checkpoint.0.len() <= Checkpoint::MAX);
        case.start = Some(checkpoint.clone());
        let (report, rest) = case.report().await;
        assert_eq!(rest.entities, sink.entities[*emitted..]);
        assert_eq!(report.complete, whole.complete);
        let failed = |report: &Report| report.failures.iter().map(|f| (f.fqn.clone(), f.reason)).collect::<Vec<_>>();
        assert_eq!(failed(&report), failed(&whole));
    }
    case.org.change_org(|org| org.remove(&third)).unwrap();
    assert_eq!(case.error().await.reason, Reason::CheckpointUnusable);
    case.start = Some(Checkpoint(b"not ours".as_slice().into()));
    let (result, sink) = case.run().await;
    assert_eq!(result.unwrap_err().reason, Reason::CheckpointUnusable);
    assert_eq!(sink.emits.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_committed_tables_in_scope_that_a_complete_listing_lacks_are_gone() {
    let mut case = Case::of(30).await;
    let listed = case.org.org().objects().next().unwrap().entry.name.clone();
    let committed = |kind: &str| Committed { kind: kind.to_owned(), content_hash: [0; 32], memo: Bytes::new() };
    case.baseline.0 = BTreeMap::from([
        (format!("sf.default.salesforce.{listed}"), committed("table")),
        ("sf.default.salesforce.Old__c".to_owned(), committed("table")),
        ("sf.default.salesforce.Kept_Out__c".to_owned(), committed("table")),
        ("sf.default.other.Old__c".to_owned(), committed("table")),
        ("sf".to_owned(), committed("databaseService")),
        ("sf.default".to_owned(), committed("database")),
        ("sf.default.salesforce".to_owned(), committed("databaseSchema")),
    ]);
    case.options = "tableFilterPattern:\n  excludes: [Kept_Out__c]".to_owned();
    assert_eq!(case.report().await.0.gone, ["sf.default.salesforce.Old__c"]);
    case.options.push_str("\nmarkDeletedTables: false");
    assert_eq!(case.report().await.0.gone, [""; 0]);
    case.options = String::new();
    case.org.faults().change(|plan| plan.html_describes.insert(listed.clone()));
    assert_eq!(case.report().await.0.gone, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_waits_stops_extraction_and_a_closed_one_ends_it() {
    let case = Case::of(1500).await;
    let mut sink = Sink { stalls_after: Some(2), ..Sink::default() };
    let source = case.source();
    let run = source.extract(case.extraction(), &mut sink);
    assert!(tokio::time::timeout(Duration::from_secs(1), run).await.is_err());
    // Parents and one table were taken over, and no more than a thousand objects beyond them were asked for.
    let asked = case.org.requests().count(Kind::Composite);
    assert!((2..=42).contains(&asked), "{asked} calls");
    // Dropping the run ended it: nothing is asked for any more.
    let mut sink = Sink { closes_after: Some(2), ..Sink::default() };
    let error = source.extract(case.extraction(), &mut sink).await.unwrap_err();
    assert_eq!(error.reason, Reason::SinkClosed);
    assert!(case.org.requests().count(Kind::Composite) <= asked + 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_corrected_and_unknown_ones_told() {
    let mut case = Case::of(40).await;
    let name = case.org.org().objects().nth(5).unwrap().entry.name.clone();
    case.connection.push_str(&format!("\nsobjectNames: [{}, Nowhere__c]", name.to_lowercase()));
    let (report, sink) = case.report().await;
    assert_eq!(sink.tables(), [format!("sf.default.salesforce.{name}")]);
    assert!(report.complete && sink.has_notice("name_unknown") && sink.has_notice("name_corrected"));
}
