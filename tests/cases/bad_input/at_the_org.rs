//! What only the org, or the way to it, can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hybrid_runner_tests::certificates::Authority;
use hybrid_runner_tests::entities_with;
use hybrid_runner_tests::extraction::{Extraction, OAUTH, SOAP};
use hybrid_runner_tests::processes::{Output, output};
use hybrid_runner_tests::world::parse_export;
use sandbox::{FaultPlan, Kind, OrgConfig};
use tokio::net::TcpSocket;
use tokio::time::Instant;

/// Fails with exit code 1 and leaves nothing behind.
async fn failure(one: &Extraction) -> Output {
    let output = one.run().await;
    assert_eq!(output.code(), 1, "{output:?}");
    assert_eq!(output.json()["state"], "failed", "{output:?}");
    assert_eq!(output.json()["export"], serde_json::Value::Null, "{output:?}");
    one.nothing_was_written();
    output
}

async fn with_faults(faults: FaultPlan) -> Extraction {
    Extraction::with(OrgConfig { objects: 30, ..OrgConfig::default() }, faults).await
}

#[tokio::test]
async fn a_wrong_password_fails_after_exactly_one_login() {
    let one = Extraction::new().await;
    one.secret("password", "not-the-password");
    let output = failure(&one).await;
    assert!(output.stderr.contains("error: AUTH_FAILED: localhost"), "{output:?}");
    assert!(output.stderr.contains("(INVALID_LOGIN): user name, password or security token is wrong"), "{output:?}");
    let requests = one.org.requests();
    assert_eq!((requests.count(Kind::SoapLogin), requests.total), (1, 1), "{requests:?}");
    assert_eq!(output.json()["salesforce_requests"], 1);
}

#[tokio::test]
async fn a_missing_security_token_fails_after_exactly_one_login_and_says_so() {
    let one = Extraction::new().await;
    let connection = "username: integration@example.com\npassword: secret:/salesforce/password\nsecurityToken: ''\nsalesforceDomain: localhost\n";
    one.workflow(connection, "");
    let output = failure(&one).await;
    assert!(output.stderr.contains("AUTH_FAILED") && output.stderr.contains("set securityToken"), "{output:?}");
    assert_eq!(one.org.requests().total, 1);
}

#[tokio::test]
async fn a_wrong_consumer_secret_fails_after_exactly_one_login() {
    let one = Extraction::new().await;
    one.secret("consumer-secret", "not-the-secret");
    one.workflow(&format!("{OAUTH}salesforceDomain: localhost\n"), "");
    let output = failure(&one).await;
    assert!(output.stderr.contains("AUTH_FAILED") && output.stderr.contains("consumerSecret is wrong"), "{output:?}");
    let requests = one.org.requests();
    assert_eq!((requests.count(Kind::Token), requests.total), (1, 1), "{requests:?}");
}

#[tokio::test]
async fn an_unreachable_host_fails_in_bounded_time_and_is_named() {
    let one = Extraction::new().await;
    // Bound and not listening: the port is ours and refuses.
    let refusing = TcpSocket::new_v4().unwrap();
    refusing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = refusing.local_addr().unwrap().port();
    one.hosts(port);
    let begun = Instant::now();
    let output = failure(&one).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    let expected = format!("SOURCE_UNREACHABLE: localhost:{port} could not be reached: check salesforce.hosts");
    assert!(output.stderr.contains(&expected), "{output:?}");
}

#[tokio::test]
async fn an_org_without_objects_fails_and_says_what_to_check() {
    let one = Extraction::with(OrgConfig { objects: 0, ..OrgConfig::default() }, FaultPlan::default()).await;
    let output = failure(&one).await;
    assert!(output.stderr.contains("SOURCE_DENIED: the org lists no objects: check"), "{output:?}");
}

#[tokio::test]
async fn an_object_whose_describe_is_html_fails_alone() {
    let one = Extraction::new().await;
    let name = one.org.org().objects().nth(7).unwrap().entry.name.clone();
    one.org.faults().change(|plan| plan.html_describes = BTreeSet::from([name.clone()]));
    one_object_fails(&one, &name, "SOURCE_PROTOCOL").await;
}

#[tokio::test]
async fn an_object_whose_describe_has_ten_megabytes_fails_alone() {
    let one = Extraction::new().await;
    let name = one.org.org().objects().nth(11).unwrap().entry.name.clone();
    one.org.faults().change(|plan| plan.oversized_describes = BTreeMap::from([(name.clone(), 10 << 20)]));
    one_object_fails(&one, &name, "DESCRIBE_TOO_LARGE").await;
}

/// One object fails with its reason, all others arrive, and the result says that it is incomplete.
async fn one_object_fails(one: &Extraction, name: &str, reason: &str) {
    let output = one.run().await;
    assert_eq!(output.code(), 3, "{output:?}");
    let line = output.json();
    assert_eq!((&line["state"], &line["complete"]), (&"committed".into(), &false.into()), "{line}");
    let entities = entities_with(29).into();
    assert_eq!((&line["objects"], &line["failed"], &line["entities"]), (&30.into(), &1.into(), &entities), "{line}");
    let expected = format!("warning: crm.default.salesforce.{name} was not read: {reason}: ");
    assert!(output.stderr.contains(&expected), "{expected}\n{output:?}");
    let written: BTreeSet<String> = parse_export(&one.export())
        .into_iter()
        .filter(|(kind, ..)| kind == "table")
        .map(|(_, fqn, _)| fqn.rsplit('.').next().unwrap().to_owned())
        .collect();
    let org = one.org.org();
    let expected: BTreeSet<String> =
        org.objects().map(|object| object.entry.name.clone()).filter(|other| other != name).collect();
    assert_eq!(written, expected);
}

#[tokio::test]
async fn a_login_answer_with_a_doctype_is_refused_whatever_its_size() {
    for (bytes, part) in [(2_000_000, "larger than 1048576 bytes"), (1_000, "has a DOCTYPE, which SOAP forbids")] {
        let one = with_faults(FaultPlan { soap_doctype: Some(bytes), ..FaultPlan::default() }).await;
        let output = failure(&one).await;
        assert!(output.stderr.contains("SOURCE_PROTOCOL: ") && output.stderr.contains(part), "{output:?}");
        assert!(output.stderr.len() < 1_000, "nothing of the answer is shown");
        assert_eq!(one.org.requests().total, 1, "a login is not repeated");
    }
}

#[tokio::test]
async fn a_host_with_a_certificate_of_another_authority_is_not_trusted() {
    let one = Extraction::new().await;
    one.write("ca.pem", &Authority::new().pem);
    let output = failure(&one).await;
    let part = "SOURCE_UNREACHABLE: the certificate of localhost:";
    assert!(output.stderr.contains(part) && output.stderr.contains("salesforce.hosts"), "{output:?}");
    assert_eq!(one.org.requests().total, 0, "nothing is sent to a host that is not trusted");
}

#[tokio::test]
async fn a_proxy_that_inspects_tls_is_not_trusted_without_its_authority() {
    let one = Extraction::new().await;
    one.workflow(SOAP, "");
    let output = output(one.proxied()).await;
    assert_eq!(output.code(), 1, "{output:?}");
    let part = "SOURCE_UNREACHABLE: the certificate of login.salesforce.com is not trusted; if a proxy of your network";
    assert!(output.stderr.contains(part), "{output:?}");
    assert_eq!(one.org.requests().total, 0, "nothing is sent to a host that is not trusted");
}
