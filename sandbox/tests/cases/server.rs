//! The org over real sockets and TLS, seen by an independent HTTP client.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use anyhow::Context as _;
use sandbox::{FieldType, Kind, ObjectKind, Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};
use serde_json::{Value, json};

use crate::client::{self, Client};

async fn start(objects: usize) -> anyhow::Result<SandboxHandle> {
    Sandbox::start(Org::generate(&OrgConfig { objects, ..OrgConfig::default() }), ServerConfig::default()).await
}

fn composite(names: &[&str], since: Option<&str>) -> Value {
    let one = |(at, name): (usize, &&str)| {
        let headers = since.map(|since| json!({ "If-Modified-Since": since })).unwrap_or_else(|| json!({}));
        json!({ "method": "GET", "url": format!("/services/data/v59.0/sobjects/{name}/describe"),
            "referenceId": format!("ref{at}"), "httpHeaders": headers })
    };
    json!({ "allOrNone": false, "compositeRequest": names.iter().enumerate().map(one).collect::<Vec<_>>() })
}

fn envelope(username: &str, password: &str, header: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\" ?><env:Envelope xmlns:env=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:urn=\"urn:partner.soap.sforce.com\"><env:Header>{header}</env:Header><env:Body>\
         <n1:login xmlns:n1=\"urn:partner.soap.sforce.com\"><n1:username>{username}</n1:username>\
         <n1:password>{password}</n1:password></n1:login></env:Body></env:Envelope>"
    )
}

async fn soap(client: &Client, base: &str, version: &str, body: String) -> anyhow::Result<(u16, String)> {
    let request = client.http.post(format!("{base}/services/Soap/u/{version}")).header("SOAPAction", "login");
    let answer = request.header("content-type", "text/xml; charset=UTF-8").body(body).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

fn between<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(value, _)| value)
}

#[test]
fn equal_seeds_give_equal_orgs_and_relations_stay_within_them() {
    let config = |objects, seed| OrgConfig { objects, seed, ..OrgConfig::default() };
    let print = |org: &Org| format!("{:?}", org.objects().collect::<Vec<_>>());
    let org = Org::generate(&config(300, 4));
    assert_eq!(print(&org), print(&Org::generate(&config(300, 4))));
    assert_ne!(print(&org), print(&Org::generate(&config(300, 5))));
    for objects in [0, 1, 7, 40, 300] {
        let org = Org::generate(&config(objects, 4));
        assert_eq!(org.objects().len(), objects);
        for object in org.objects() {
            let mut names = HashSet::new();
            for field in &object.fields {
                assert!(names.insert(&field.name), "{}.{}", object.entry.name, field.name);
                assert!(field.reference_to.iter().all(|target| org.object(target).is_some()), "{}", field.name);
            }
        }
    }
}

#[test]
fn a_small_org_has_every_type_and_every_kind() {
    let org = Org::generate(&OrgConfig { objects: 40, ..OrgConfig::default() });
    let types: BTreeSet<FieldType> = org.objects().flat_map(|object| &object.fields).map(|field| field.kind).collect();
    let missing: Vec<_> = FieldType::ALL.iter().filter(|kind| !types.contains(kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let kinds: BTreeSet<ObjectKind> = org.objects().map(|object| object.entry.kind()).collect();
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

#[test]
fn the_mean_number_of_fields_is_the_one_asked_for() {
    for mean in [60, 109] {
        let config = OrgConfig { objects: 200, fields_per_object: Some(mean), ..OrgConfig::default() };
        assert_eq!(Org::generate(&config).field_count(), 200 * mean);
    }
}

#[tokio::test]
async fn soap_login_opens_a_session_and_its_faults_are_salesforces() -> anyhow::Result<()> {
    let sandbox = start(5).await?;
    let mut client = Client::new(&sandbox)?;
    let (own, base) = (sandbox.credentials(), sandbox.url());
    let good = format!("{}{}", own.password, own.security_token);

    let (status, text) = soap(&client, &base, "59.0", envelope(&own.username, &good, "")).await?;
    assert_eq!(status, 200);
    let server = between(&text, "serverUrl").context("no serverUrl")?;
    assert!(server.starts_with(&format!("{base}/services/Soap/u/59.0/00D")), "{server}");
    client.token = between(&text, "sessionId").context("no sessionId")?.into();
    assert_eq!(client.get("/services/data/v59.0/sobjects").await?.status(), 200);

    let refused = [
        (envelope(&own.username, "wrong", ""), "59.0", "INVALID_LOGIN"),
        (envelope(&own.username, &own.password, ""), "59.0", "LOGIN_MUST_USE_SECURITY_TOKEN"),
        (envelope(&own.username, &good, ""), "65.0", "UNSUPPORTED_API_VERSION"),
        (envelope(&own.username, &good, ""), "30.0", "UNSUPPORTED_API_VERSION"),
    ];
    for (body, version, code) in refused {
        let (status, text) = soap(&client, &base, version, body).await?;
        assert_eq!((status, between(&text, "sf:exceptionCode")), (500, Some(code)), "{text}");
    }
    let scope = "<urn:LoginScopeHeader><urn:organizationId>00D5g000004XmPl</urn:organizationId></urn:LoginScopeHeader>";
    let (status, _) = soap(&client, &base, "59.0", envelope(&own.username, &own.password, scope)).await?;
    assert_eq!(status, 200, "a trusted address needs no token");

    sandbox.faults().change(|plan| plan.soap_doctype = Some(2_000_000));
    let (_, text) = soap(&client, &base, "59.0", envelope(&own.username, &good, "")).await?;
    assert!(text.contains("<!DOCTYPE") && text.len() > 2_000_000);
    Ok(())
}

#[tokio::test]
async fn the_token_endpoint_answers_as_oauth_does() -> anyhow::Result<()> {
    let sandbox = start(5).await?;
    let client = Client::logged_in(&sandbox).await?;
    let url = format!("{}/services/oauth2/token", sandbox.url());
    let own = sandbox.credentials();
    let basic = client.http.post(&url).basic_auth(&own.consumer_key, Some(&own.consumer_secret));
    let answer = basic.form(&[("grant_type", "client_credentials")]).send().await?;
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    assert_eq!(body["instance_url"], sandbox.url());
    assert_eq!(body["token_type"], "Bearer");

    let password = format!("{}{}", own.password, own.security_token);
    let form = |secret: &str, password: &str, grant: &str| {
        [
            ("grant_type", grant.to_owned()),
            ("client_id", own.consumer_key.clone()),
            ("client_secret", secret.to_owned()),
            ("username", own.username.clone()),
            ("password", password.to_owned()),
        ]
    };
    let cases = [
        (form(&own.consumer_secret, &password, "password"), 200, Value::Null),
        (form(&own.consumer_secret, "wrong", "password"), 400, json!("invalid_grant")),
        (form("wrong", &password, "password"), 400, json!("invalid_client")),
        (form("wrong", &password, "client_credentials"), 400, json!("invalid_client")),
        (form(&own.consumer_secret, &password, "magic"), 400, json!("unsupported_grant_type")),
    ];
    for (form, status, error) in cases {
        let answer = client.http.post(&url).form(&form).send().await?;
        assert_eq!(answer.status(), status);
        let body: Value = serde_json::from_str(&answer.text().await?)?;
        assert_eq!(body["error"], error);
    }
    Ok(())
}

#[tokio::test]
async fn versions_need_no_session_and_retired_ones_are_gone() -> anyhow::Result<()> {
    let sandbox = start(5).await?;
    let mut client = Client::new(&sandbox)?;
    let answer = client.get("/services/data").await?;
    assert!(answer.headers().get("sforce-limit-info").is_none());
    let versions: Value = serde_json::from_str(&answer.text().await?)?;
    let of = |label: &str| versions.as_array()?.iter().find(|v| v["label"] == label).map(|v| v["version"].clone());
    assert_eq!(of("Spring '18"), Some(json!("42.0")));
    assert_eq!(of("Winter '26"), Some(json!("65.0")));
    assert_eq!(of("Summer '26"), Some(json!("67.0")));

    let answer = client.get("/services/data/v59.0/sobjects").await?;
    assert_eq!(answer.status(), 401);
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    assert_eq!(body, json!([{ "message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID" }]));

    client.log_in(&sandbox).await?;
    assert_eq!(client.get("/services/data/v30.0/sobjects").await?.status(), 410);
    assert_eq!(client.get("/services/data/v68.0/sobjects").await?.status(), 404);
    let answer = client.get("/services/data/v59.0/sobjects/Nothing/describe").await?;
    assert_eq!(answer.status(), 404);
    assert!(answer.headers().contains_key("sforce-limit-info"));
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    assert_eq!(body, json!([{ "message": "The requested resource does not exist", "errorCode": "NOT_FOUND" }]));
    Ok(())
}

#[tokio::test]
async fn a_describe_is_conditional_and_a_change_is_seen() -> anyhow::Result<()> {
    let sandbox = start(20).await?;
    let client = Client::logged_in(&sandbox).await?;
    let path = "/services/data/v59.0/sobjects/Account/describe/";
    let first = client.get(path).await?;
    let header = |answer: &reqwest::Response, name: &str| {
        answer.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
    };
    let (tag, stamp) = (header(&first, "etag"), header(&first, "last-modified").context("no stamp")?);
    let conditional = |path: &str| {
        let request = client.http.get(format!("{}{path}", client.base)).bearer_auth(&client.token);
        request.header("If-Modified-Since", &stamp)
    };
    let again = conditional(path).send().await?;
    assert_eq!((again.status().as_u16(), header(&again, "etag")), (304, tag));
    assert_eq!(again.text().await?, "");

    sandbox.change_org(|org| org.add_field("Account", "Fresh__c"))?;
    let changed = conditional(path).send().await?;
    assert_eq!(changed.status(), 200);
    assert!(changed.text().await?.contains("Fresh__c"));
    assert_eq!(conditional("/services/data/v59.0/sobjects").send().await?.status(), 200);
    sandbox.change_org(|org| org.remove("Contact"))?;
    assert_eq!(client.get("/services/data/v59.0/sobjects/Contact/describe").await?.status(), 404);
    Ok(())
}

#[tokio::test]
async fn a_composite_takes_25_and_answers_each_on_its_own() -> anyhow::Result<()> {
    let sandbox = start(60).await?;
    let client = Client::logged_in(&sandbox).await?;
    let names: Vec<String> = sandbox.org().objects().map(|object| object.entry.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let path = "/services/data/v59.0/composite";

    let (status, body) = client.post(path, &composite(&names[..25], None)).await?;
    assert_eq!(status, 200);
    let answers = body["compositeResponse"].as_array().context("no answers")?;
    assert_eq!(answers.len(), 25);
    for (answer, name) in answers.iter().zip(&names) {
        assert_eq!((&answer["httpStatusCode"], &answer["body"]["name"]), (&json!(200), &json!(name)));
        assert!(answer["httpHeaders"]["Last-Modified"].is_string());
    }
    assert_eq!(sandbox.requests().api_calls, 1, "a composite is one call");

    let (_, body) =
        client.post(path, &composite(&["Account", "Nothing"], Some("Fri, 01 Jan 2100 00:00:00 GMT"))).await?;
    let statuses: Vec<_> =
        body["compositeResponse"].as_array().into_iter().flatten().map(|a| &a["httpStatusCode"]).collect();
    assert_eq!(statuses, [304, 404]);
    assert_eq!(body["compositeResponse"][0]["body"], Value::Null);

    let (status, body) = client.post(path, &composite(&names[..26], None)).await?;
    assert_eq!((status, &body[0]["errorCode"]), (400, &json!("LIMIT_EXCEEDED")));
    let same = json!({ "compositeRequest": [
        { "method": "GET", "url": "/services/data/v59.0/limits", "referenceId": "a" },
        { "method": "GET", "url": "/services/data/v59.0/limits", "referenceId": "a" },
    ] });
    assert_eq!(client.post(path, &same).await?.0, 400);
    Ok(())
}

#[tokio::test]
async fn a_batch_counts_each_of_its_requests() -> anyhow::Result<()> {
    let sandbox = start(20).await?;
    let client = Client::logged_in(&sandbox).await?;
    let requests = json!({ "batchRequests": [
        { "method": "GET", "url": "v42.0/sobjects/Account/describe" },
        { "method": "GET", "url": "v59.0/sobjects/Nothing/describe" },
        { "method": "GET", "url": "v60.0/sobjects/Account/describe" },
    ] });
    let (status, body) = client.post("/services/data/v59.0/composite/batch", &requests).await?;
    assert_eq!((status, &body["hasErrors"]), (200, &json!(true)));
    let statuses: Vec<_> =
        body["results"].as_array().into_iter().flatten().map(|result| &result["statusCode"]).collect();
    assert_eq!(statuses, [200, 404, 400]);
    assert!(body["results"][0]["result"].get("deepCloneable").is_none(), "version 42.0 has no such member");
    assert_eq!(sandbox.requests().api_calls, 3);
    Ok(())
}

#[tokio::test]
async fn tooling_queries_have_their_limits() -> anyhow::Result<()> {
    let config = OrgConfig { objects: 2_100, ..OrgConfig::default() };
    let sandbox = Sandbox::start(Org::generate(&config), ServerConfig::default()).await?;
    let client = Client::logged_in(&sandbox).await?;
    let mut last = "000000000000000".to_owned();
    let mut names = HashSet::new();
    for expected in [2_000, 100] {
        let query = format!(
            "SELECT DurableId, QualifiedApiName, Description FROM EntityDefinition WHERE DurableId > '{last}' \
             ORDER BY DurableId LIMIT 2000"
        );
        let page = client.query("59.0", &query).await?;
        let records = page["records"].as_array().context("no records")?;
        assert_eq!(records.len(), expected);
        names.extend(records.iter().filter_map(|row| row["QualifiedApiName"].as_str().map(ToOwned::to_owned)));
        last = records.last().and_then(|row| row["DurableId"].as_str()).context("no last row")?.to_owned();
    }
    assert_eq!(names.len(), 2_100);

    let described = client.json("/services/data/v59.0/sobjects/Service_Visit__c/describe").await?;
    let query = "SELECT QualifiedApiName, DataType, Description, SecurityClassification FROM FieldDefinition \
        WHERE EntityDefinition.QualifiedApiName IN ('Service_Visit__c')";
    let rows = client.query("59.0", query).await?;
    let rows: HashSet<&str> =
        rows["records"].as_array().into_iter().flatten().filter_map(|r| r["QualifiedApiName"].as_str()).collect();
    assert!(rows.contains("UserRecordAccessId"), "rows that a describe lacks");
    let parts = |name: &str| name.ends_with("__s");
    for field in described["fields"].as_array().into_iter().flatten().filter_map(|field| field["name"].as_str()) {
        assert!(rows.contains(field) || parts(field), "{field}");
    }

    let code = |body: &Value| body[0]["errorCode"].clone();
    let unfiltered = client.query("59.0", "SELECT DurableId FROM FieldDefinition").await?;
    assert_eq!(code(&unfiltered), "EXTERNAL_OBJECT_UNSUPPORTED_EXCEPTION");
    assert_eq!(code(&client.query("59.0", "SELECT Nothing FROM EntityDefinition").await?), "INVALID_FIELD");
    assert_eq!(code(&client.query("59.0", "SELECT Id FROM").await?), "MALFORMED_QUERY");
    sandbox.faults().change(|plan| plan.no_view_setup = true);
    assert_eq!(code(&client.query("59.0", "SELECT DurableId FROM EntityDefinition").await?), "INVALID_TYPE");
    Ok(())
}

#[tokio::test]
async fn a_tooling_composite_takes_five_queries() -> anyhow::Result<()> {
    let sandbox = start(20).await?;
    let client = Client::logged_in(&sandbox).await?;
    let queries = |count: usize| {
        let url = "/services/data/v59.0/tooling/query?q=SELECT+QualifiedApiName+FROM+EntityDefinition+WHERE+QualifiedApiName='Account'";
        let one = |at| json!({ "method": "GET", "url": url, "referenceId": format!("q{at}") });
        json!({ "compositeRequest": (0..count).map(one).collect::<Vec<_>>() })
    };
    let (status, body) = client.post("/services/data/v59.0/tooling/composite", &queries(5)).await?;
    assert_eq!(status, 200);
    assert_eq!(body["compositeResponse"][4]["body"]["records"][0]["QualifiedApiName"], "Account");
    assert_eq!(client.post("/services/data/v59.0/tooling/composite", &queries(6)).await?.0, 400);
    Ok(())
}

#[tokio::test]
async fn limits_counts_and_the_organization_are_answered() -> anyhow::Result<()> {
    let sandbox = start(40).await?;
    let client = Client::logged_in(&sandbox).await?;
    let limits = client.json("/services/data/v59.0/limits").await?;
    assert_eq!(limits["DailyApiRequests"], json!({ "Max": 100_000, "Remaining": 99_999 }));
    let counts = client.json("/services/data/v59.0/limits/recordCount?sObjects=Account,AccountHistory,Nothing").await?;
    assert_eq!(counts["sObjects"].as_array().map(Vec::len), Some(1));
    let row = client.json("/services/data/v59.0/query?q=SELECT+Id,IsSandbox,InstanceName+FROM+Organization").await?;
    assert_eq!((&row["totalSize"], &row["records"][0]["IsSandbox"]), (&json!(1), &json!(false)));
    let count = client.json("/services/data/v59.0/query/?q=select count() from Account").await?;
    assert!(count["totalSize"].is_u64());
    Ok(())
}

#[tokio::test]
async fn bodies_come_compressed_only_when_asked_for_and_are_the_same() -> anyhow::Result<()> {
    let sandbox = start(40).await?;
    let client = Client::logged_in(&sandbox).await?;
    let plain = Client { http: client::builder(&sandbox)?.no_gzip().build()?, ..Client::logged_in(&sandbox).await? };
    for path in ["/services/data/v59.0/sobjects", "/services/data/v59.0/sobjects/Account/describe", "/services/data"] {
        let answer = plain.get(path).await?;
        assert!(answer.headers().get("content-encoding").is_none());
        let text = answer.text().await?;
        assert_eq!(text, client.get(path).await?.text().await?);
        let raw =
            plain.http.get(format!("{}{path}", plain.base)).bearer_auth(&plain.token).header("accept-encoding", "gzip");
        let answer = raw.send().await?;
        assert_eq!(answer.headers().get("content-encoding").context("not compressed")?, "gzip");
        assert!(text.len() < 10_000 || answer.bytes().await?.len() < text.len() / 5);
    }
    Ok(())
}

#[tokio::test]
async fn salesforces_own_hosts_are_reached_through_connect_and_no_others() -> anyhow::Result<()> {
    let sandbox = start(5).await?;
    let own = sandbox.credentials();
    let mut client = Client::new(&sandbox)?;
    client.http = client::builder(&sandbox)?.proxy(reqwest::Proxy::https(sandbox.proxy_url())?).build()?;
    let body = envelope(&own.username, &format!("{}{}", own.password, own.security_token), "");
    let (status, text) = soap(&client, "https://login.salesforce.com", "59.0", body).await?;
    assert_eq!(status, 200);
    let server = between(&text, "serverUrl").context("no serverUrl")?;
    assert!(server.starts_with("https://example-org.my.salesforce.com/services/Soap/u/59.0/"), "{server}");
    client.token = between(&text, "sessionId").context("no sessionId")?.into();
    for base in ["https://example-org.my.salesforce.com", "https://acme--dev.sandbox.my.salesforce.com"] {
        client.base = base.into();
        assert_eq!(client.get("/services/data/v59.0/sobjects").await?.status(), 200);
    }
    assert_eq!(sandbox.requests().tunnels, 3);
    for host in ["example.com", "login.salesforce.com.example.com"] {
        assert!(client.http.get(format!("https://{host}/")).send().await.is_err());
    }
    assert_eq!(sandbox.requests().tunnels_refused, 2);
    Ok(())
}

#[tokio::test]
async fn faults_come_and_go_while_the_server_runs() -> anyhow::Result<()> {
    let sandbox = start(20).await?;
    let mut client = Client::logged_in(&sandbox).await?;
    let faults = sandbox.faults();
    let describe = "/services/data/v59.0/sobjects/Account/describe";

    faults.change(|plan| (plan.unavailable_next, plan.retry_after) = (1, Some(7)));
    let answer = client.get(describe).await?;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers().get("retry-after").context("no Retry-After")?, "7");
    assert_eq!(client.get(describe).await?.status(), 200);

    faults.change(|plan| plan.reset_next = 1);
    assert!(client.get(describe).await.is_err());
    faults.change(|plan| plan.truncate_next = 1);
    assert!(client.get(describe).await?.text().await.is_err());

    faults.change(|plan| plan.expire_sessions_after = Some(1));
    assert_eq!(client.get(describe).await?.status(), 200);
    assert_eq!(client.get(describe).await?.status(), 401);
    client.log_in(&sandbox).await?;
    assert_eq!(client.get(describe).await?.status(), 200);

    faults.change(|plan| plan.limit_reached = true);
    let answer = client.get(describe).await?;
    assert_eq!(answer.status(), 403);
    assert!(answer.text().await?.contains("REQUEST_LIMIT_EXCEEDED"));
    faults.clear();

    faults.change(|plan| {
        plan.html_describes.insert("Account".into());
        plan.oversized_describes.insert("Contact".into(), 10_000_000);
    });
    assert!(client.get(describe).await?.text().await?.starts_with("<!DOCTYPE html>"));
    let (status, body) =
        client.post("/services/data/v59.0/composite", &composite(&["Account", "Contact", "Lead"], None)).await?;
    assert_eq!(status, 200);
    assert!(body["compositeResponse"][0]["body"].is_string());
    assert!(body["compositeResponse"][1]["body"]["padding"].as_str().is_some_and(|filler| filler.len() > 9_000_000));
    assert_eq!(body["compositeResponse"][2]["body"]["name"], "Lead");

    faults.change(|plan| plan.redirect_to = Some("https://evil.example/".into()));
    assert_eq!(client.get(describe).await?.status(), 302);
    faults.clear();
    faults.change(|plan| plan.server_host = Some("evil.example".into()));
    let own = sandbox.credentials();
    let body = envelope(&own.username, &format!("{}{}", own.password, own.security_token), "");
    let (_, text) = soap(&client, &sandbox.url(), "59.0", body).await?;
    assert!(text.contains("<serverUrl>https://evil.example/services/Soap/u/59.0/"));
    Ok(())
}

#[tokio::test]
async fn the_server_works_on_each_describe_of_a_composite_one_after_the_other() -> anyhow::Result<()> {
    let sandbox = start(20).await?;
    let client = Client::logged_in(&sandbox).await?;
    sandbox.faults().change(|plan| plan.describe_time = Duration::from_millis(20));
    let began = tokio::time::Instant::now();
    client
        .post("/services/data/v59.0/composite", &composite(&["Account", "Contact", "Lead", "Case", "User"], None))
        .await?;
    assert!(began.elapsed() >= Duration::from_millis(100));
    sandbox.faults().change(|plan| plan.latency = Duration::from_millis(50));
    let began = tokio::time::Instant::now();
    client.get("/services/data").await?;
    assert!(began.elapsed() >= Duration::from_millis(50));
    Ok(())
}

#[tokio::test]
async fn requests_are_counted_by_kind() -> anyhow::Result<()> {
    let sandbox = start(20).await?;
    let client = Client::logged_in(&sandbox).await?;
    client.json("/services/data/v59.0/sobjects").await?;
    client.post("/services/data/v59.0/composite", &composite(&["Account", "Lead"], None)).await?;
    let requests = sandbox.requests();
    let count = [Kind::Token, Kind::Global, Kind::Composite, Kind::Describe].map(|kind| requests.count(kind));
    assert_eq!((requests.total, count, requests.describes), (3, [1, 1, 1, 0], 2));
    let log = sandbox.log();
    assert_eq!(log.iter().map(|request| request.status).collect::<Vec<_>>(), [200, 200, 200]);
    assert_eq!(log[1].path, "/services/data/v59.0/sobjects");
    sandbox.stop().await;
    assert!(client.get("/services/data").await.is_err());
    Ok(())
}
