//! An independent judge: simple-salesforce, the library that the peer connector reads through, against the sandbox. What
//! it cannot use the sandbox for, the sandbox does not do as Salesforce does; and what it sees is what we have to see.

use std::collections::BTreeMap;

use hybrid_runner_tests::extraction::{Extraction, soap_at_localhost};
use hybrid_runner_tests::processes::{command, output};
use hybrid_runner_tests::{outside, root};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use sandbox::{Credentials, FaultPlan, Kind, OrgConfig};
use serde_json::{Value, json};

const OBJECTS: usize = 60;

/// The version that the library asks for unless told otherwise.
const VERSION: &str = "59.0";

/// An org that every login leads to, and what the library needs for them; `None`: not run.
async fn judged(case: &str, faults: FaultPlan) -> Option<Judged> {
    let python = outside::simple_salesforce(case)?;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let credentials = Credentials { jwt_certificate: certificate.pem(), ..Credentials::default() };
    let one = Extraction::with(OrgConfig { objects: OBJECTS, credentials, ..OrgConfig::default() }, faults).await;
    let own = one.org.credentials();
    let given = json!({
        "username": own.username, "password": own.password, "security_token": own.security_token,
        "consumer_key": own.consumer_key, "consumer_secret": own.consumer_secret, "private_key": key.serialize_pem(),
    });
    one.write("judge.json", &given.to_string());
    Some(Judged { python, one })
}

struct Judged {
    python: std::path::PathBuf,
    one: Extraction,
}

impl Judged {
    /// What the library makes of the org: Salesforce's own hosts, through the sandbox as proxy.
    async fn judge(&self, what: &str) -> Value {
        let mut command = command(&self.python);
        command.arg(root().join("tests/judge/judge.py")).arg(what).arg("judge.json").current_dir(self.one.dir.path());
        command.env("HTTPS_PROXY", self.one.org.proxy_url()).env("REQUESTS_CA_BUNDLE", "ca.pem");
        let output = output(command).await;
        assert_eq!(output.code(), 0, "{output:?}");
        output.json()
    }
}

#[tokio::test]
async fn an_independent_client_logs_in_in_every_way_and_sees_what_we_see() {
    let Some(judged) = judged("an_independent_client_logs_in", FaultPlan::default()).await else { return };
    let seen = judged.judge("read").await;
    assert_eq!(seen["version"], VERSION);
    let host = "example-org.my.salesforce.com";
    let login = |kind: &str| json!({"kind": kind, "host": host, "objects": OBJECTS});
    // The library calls both that send a password so.
    let logins = json!({
        "soap": login("password"), "organization": login("ipfilter"), "password": login("password"),
        "jwt": login("jwt-bearer"), "client credentials": login("client-credentials"),
    });
    assert_eq!(seen["logins"], logins);
    assert_eq!(seen["session"], login("direct"));
    let requests = judged.one.org.requests();
    assert_eq!((requests.count(Kind::SoapLogin), requests.count(Kind::Token)), (3, 3), "{requests:?}");
    assert_eq!(requests.count(Kind::Describe), u64::try_from(OBJECTS).unwrap());
    assert_eq!(seen["indented"], seen["answers"], "the library asks for X-PrettyPrint");
    // List, describes, limits, two queries: before the other logins.
    assert_eq!(seen["usage"], json!([OBJECTS + 4, seen["limit"]]));

    let first: Vec<&str> =
        seen["listed"].as_array().unwrap().iter().take(5).map(|name| name.as_str().unwrap()).collect();
    assert_eq!(seen["entities"], json!(first));
    assert_eq!(sorted(&seen["fields"]), sorted(&seen["whole"]));

    judged.one.workflow(&format!("{}salesforceApiVersion: '{VERSION}'\n", soap_at_localhost()), "");
    let extracted = judged.one.run().await;
    assert_eq!(extracted.code(), 0, "{extracted:?}");
    let ours = tables(&judged.one.export());
    let theirs: BTreeMap<String, Value> =
        seen["described"].as_object().unwrap().iter().map(|(name, fields)| (name.clone(), fields.clone())).collect();
    assert_eq!((ours.len(), theirs.len()), (OBJECTS, OBJECTS));
    for (name, fields) in &theirs {
        assert!(!fields.as_array().unwrap().is_empty(), "{name}");
        assert_eq!(ours.get(name), Some(fields), "{name}");
    }
}

fn sorted(values: &Value) -> Vec<String> {
    let mut texts: Vec<String> = values.as_array().unwrap().iter().map(Value::to_string).collect();
    texts.sort_unstable();
    texts
}

/// The columns of each table of an export: name, and Salesforce's type.
fn tables(export: &str) -> BTreeMap<String, Value> {
    let lines = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let tables = lines.filter(|line| line["kind"] == "table").map(|line| {
        let entity = &line["entity"];
        let columns = entity["columns"].as_array().unwrap().iter();
        let columns: Vec<_> = columns.map(|column| json!([column["name"], column["dataTypeDisplay"]])).collect();
        (entity["name"].as_str().unwrap().to_owned(), Value::Array(columns))
    });
    tables.collect()
}

#[tokio::test]
async fn an_independent_client_recognises_each_refusal() {
    let Some(judged) = judged("an_independent_client_recognises_each_refusal", FaultPlan::default()).await else {
        return;
    };
    let refused = judged.judge("refuse").await;
    let login = |code: &str| json!(["SalesforceAuthenticationFailed", code]);
    let expected = json!({
        "soap": login("INVALID_LOGIN"), "organization": login("LOGIN_MUST_USE_SECURITY_TOKEN"),
        "password": login("invalid_grant"), "jwt": login("invalid_client_id"),
        "client credentials": login("invalid_client"),
        "unknown object": ["SalesforceResourceNotFound", "NOT_FOUND"],
        "no session": ["SalesforceExpiredSession", "INVALID_SESSION_ID"],
        "bad query": ["SalesforceMalformedRequest", "MALFORMED_QUERY"],
    });
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn an_independent_client_meets_the_end_of_its_session_and_renews_it() {
    let faults = FaultPlan { expire_sessions_after: Some(2), ..FaultPlan::default() };
    let Some(judged) = judged("an_independent_client_meets_the_end", faults).await else { return };
    let met = judged.judge("expire").await;
    assert_eq!(met["expired"], json!(["SalesforceExpiredSession", "INVALID_SESSION_ID"]));
    assert_eq!(met["renewed"], true);
    assert!(met["limit"].as_u64().unwrap() > 0, "{met}");
    assert_eq!(judged.one.org.requests().count(Kind::SoapLogin), 2);
}
