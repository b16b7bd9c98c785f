//! Refused with exit code 2, before anything is sent.

use hybrid_runner_tests::extraction::{Extraction, OAUTH, SOAP, soap_at_localhost};
use hybrid_runner_tests::processes::output;

/// A value that no message repeats.
const LITERAL: &str = "hunter2-literal";

#[tokio::test]
async fn a_literal_in_a_credential_field_is_refused_by_name_and_not_repeated() {
    let one = Extraction::new().await;
    let soap = |changed: &str, line: &str| {
        soap_at_localhost().lines().filter(|old| !old.starts_with(changed)).collect::<Vec<_>>().join("\n") + "\n" + line
    };
    let oauth = format!("consumerKey: k\nconsumerSecret: {LITERAL}\nsalesforceDomain: localhost");
    let private_key = format!("connectionArguments: {{privatekey: {LITERAL}}}");
    let session = format!("connectionArguments: {{session_id: {LITERAL}}}");
    let ssl_key = format!("sslConfig: {{sslKey: {LITERAL}}}");
    let ca = format!("sslConfig: {{caCertificate: {LITERAL}}}");
    for (field, connection) in [
        ("password", soap("password", &format!("password: {LITERAL}"))),
        ("securityToken", soap("securityToken", &format!("securityToken: {LITERAL}"))),
        ("consumerSecret", oauth),
        ("connectionArguments.privatekey", soap("-", &private_key)),
        ("connectionArguments.session_id", soap("-", &session)),
        ("sslConfig.sslKey", soap("-", &ssl_key)),
        ("sslConfig.caCertificate", soap("-", &ca)),
    ] {
        one.workflow(&connection, "");
        let error = one.refused().await;
        assert!(error.contains(&format!("source.serviceConnection.config.{field}: ")), "{error}");
        assert!(error.contains("secret:/"), "it says what is accepted: {error}");
        assert!(error.contains("--allow-literal-secrets"), "it says what else can be done: {error}");
        assert!(!error.contains(LITERAL), "{error}");
    }
}

#[tokio::test]
async fn a_credential_that_is_no_text_is_refused_by_its_kind() {
    let one = Extraction::new().await;
    one.workflow("username: u\npassword: 80411337\nsecurityToken: secret:/salesforce/token\n", "");
    let error = one.refused().await;
    assert!(error.contains("source.serviceConnection.config.password: ") && !error.contains("80411337"), "{error}");
}

#[tokio::test]
async fn a_malformed_reference_is_refused_with_its_field() {
    let one = Extraction::new().await;
    let long = format!("secret:/{}", vec!["x".repeat(100); 6].join("/"));
    for reference in [
        "secret:",
        "secret:/",
        "secret:a/b",
        "secret:/a//b",
        "secret:/a/",
        "secret:/a/../b",
        "secret:/./a",
        "secret:/a b",
        "secret:/a#",
        "secret:/a#b#c",
        "secret:/a?version=2",
        "secret:/a%2fb",
        "secret://",
        "secret://vault",
        "secret:///a",
        "secret:/ü",
        &long,
    ] {
        one.workflow(
            &format!("username: u\npassword: '{reference}'\nsecurityToken: ''\nsalesforceDomain: localhost\n"),
            "",
        );
        let error = one.refused().await;
        assert!(error.contains("source.serviceConnection.config.password: "), "{reference}: {error}");
        assert!(error.contains("secret:/"), "it shows the form that is accepted; {reference}: {error}");
    }
}

#[tokio::test]
async fn a_reference_where_none_is_read_is_refused_by_name() {
    let one = Extraction::new().await;
    one.workflow(&format!("{}databaseName: secret:/salesforce/password\n", soap_at_localhost()), "");
    let error = one.refused().await;
    assert!(error.contains("source.serviceConnection.config.databaseName: "), "{error}");
    one.workflow(&soap_at_localhost(), "tableFilterPattern: {excludes: ['secret:/x']}");
    assert_eq!(one.run().await.code(), 0, "in a filter it is inert text");
}

#[tokio::test]
async fn a_missing_secret_is_named_before_anything_is_sent() {
    let one = Extraction::new().await;
    std::fs::remove_file(one.dir.path().join("secrets/salesforce/token")).unwrap();
    let error = one.refused().await;
    assert!(error.contains("SECRET_UNAVAILABLE: securityToken: secret secret:/salesforce/token not found"), "{error}");
}

#[tokio::test]
async fn a_secret_that_is_no_credential_is_named_before_anything_is_sent() {
    let one = Extraction::new().await;
    for value in ["", "\n", "two\nlines"] {
        one.secret("password", value);
        let error = one.refused().await;
        assert!(error.contains("SECRET_MALFORMED: password: secret secret:/salesforce/password"), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_named_before_anything_is_sent() {
    let one = Extraction::new().await;
    let with = |store: &str| {
        let mut command = one.bare();
        command.args(["--secrets", store, "--out", "out.jsonl", "--config", "config.yaml"]);
        command
    };
    let error = one.refusal_of(with("cupboard")).await;
    assert!(error.contains("--secrets") && error.contains("file:DIR"), "{error}");
    let error = one.refusal_of(with("vault")).await;
    assert!(error.contains("--secrets") && error.contains("VAULT_ADDR"), "{error}");
    // It may come later, as a mounted folder does: that is a failure, not bad input.
    let output = output(with("file:nowhere")).await;
    assert_eq!((output.code(), one.org.requests().total), (1, 0), "{output:?}");
    assert!(output.stderr.contains("SECRET_STORE_UNREACHABLE: password: ") && output.stderr.contains("nowhere"));
    let mut none = one.bare();
    none.args(["--out", "out.jsonl", "--config", "config.yaml"]);
    let error = one.refusal_of(none).await;
    assert!(error.contains("--secrets, such as file:DIR"), "{error}");
    one.workflow(&soap_at_localhost().replace("secret:/salesforce/password", "secret://other/salesforce/password"), "");
    let error = one.refused().await;
    assert!(error.contains("no store named `other`"), "{error}");
}

#[tokio::test]
async fn a_hostile_domain_is_refused_before_its_name_is_used() {
    let one = Extraction::new().await;
    for domain in [
        "evil.example/#",
        "evil.example/",
        "evil.example?",
        "evil.example:443",
        "a@b",
        "login?x=",
        "login#",
        "login/",
        "login\\\\evil.example",
        "169.254.169.254",
        "2852039166",
        "[::1]",
        "login.salesforce.com.evil.example",
        "login.salesforce.com",
        "acme.com",
        "com",
        "login.",
        ".login",
        "a..b",
        "",
        " login",
        "lo gin",
        "login\\n",
        "login\\0",
        "lögin",
        "xn--lgin-5qa.\\u200b",
        "-login",
        "login_x",
        "%6cogin",
        "127.0.0.1",
        "0",
    ] {
        one.workflow(&format!("{SOAP}salesforceDomain: \"{domain}\"\n"), "");
        // With a proxy, every use of a name is a CONNECT.
        let mut command = one.proxied();
        command.env("SSL_CERT_FILE", "ca.pem");
        let error = one.refusal_of(command).await;
        assert!(error.contains("source.serviceConnection.config.salesforceDomain: "), "{domain}: {error}");
        assert!(!error.contains("evil.example"), "{domain}: {error}");
    }
}

#[tokio::test]
async fn upper_case_in_a_domain_is_lowered() {
    let one = Extraction::new().await;
    one.workflow(&format!("{SOAP}salesforceDomain: LogIn\n"), "");
    let mut command = one.proxied();
    command.env("SSL_CERT_FILE", "ca.pem");
    let output = output(command).await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert_eq!(one.org.log().first().unwrap().host, "login.salesforce.com");
}

#[tokio::test]
async fn client_credentials_at_the_shared_login_host_are_refused_with_what_to_write() {
    let one = Extraction::new().await;
    one.workflow(OAUTH, "");
    let error = one.refusal_of(one.proxied()).await;
    assert!(error.contains("salesforceDomain") && error.contains("acme.my"), "{error}");
}

#[tokio::test]
async fn an_invalid_filter_pattern_is_refused_with_its_list_and_index() {
    let one = Extraction::new().await;
    for (option, field) in [
        ("tableFilterPattern: {includes: [Account, '(Con']}", "tableFilterPattern.includes[1]: "),
        ("tableFilterPattern: {excludes: ['[a-']}", "tableFilterPattern.excludes[0]: "),
        ("schemaFilterPattern: {includes: ['*']}", "schemaFilterPattern.includes[0]: "),
        ("databaseFilterPattern: {excludes: [a, b, 'x{3,2}']}", "databaseFilterPattern.excludes[2]: "),
    ] {
        one.workflow(&soap_at_localhost(), option);
        let error = one.refused().await;
        assert!(error.contains(&format!("source.sourceConfig.config.{field}")), "{option}: {error}");
    }
}

#[tokio::test]
async fn an_unknown_key_is_refused_and_the_near_one_named() {
    let one = Extraction::new().await;
    one.workflow(&soap_at_localhost().replace("username:", "usrname:"), "");
    let error = one.refused().await;
    assert!(error.contains("source.serviceConnection.config.usrname: "), "{error}");
    assert!(error.contains("did you mean `username`?"), "{error}");
    one.workflow(&soap_at_localhost(), "markDeletedTable: true");
    let error = one.refused().await;
    assert!(error.contains("source.sourceConfig.config.markDeletedTable: "), "{error}");
    assert!(error.contains("did you mean `markDeletedTables`?"), "{error}");
}

#[tokio::test]
async fn text_that_is_no_yaml_is_refused_with_line_and_column() {
    let one = Extraction::new().await;
    for (text, place) in [
        ("source:\n  type: salesforce\n serviceName: crm\n", "workflow.yaml, line 3, column "),
        ("source: [a\n", "workflow.yaml, line 1, column "),
        ("source:\n  type: \"salesforce\n", "workflow.yaml, line 2, column "),
        ("source:\n  type: a\n  type: b\n", "workflow.yaml, line 3, column 3: "),
        ("{\"source\": {\"type\": ]}}\n", "workflow.yaml, line 1, column "),
        ("{\"source\": {\"type\": \"x\"\n", "workflow.yaml, line "),
    ] {
        one.write("workflow.yaml", text);
        let error = one.refused().await;
        assert!(error.contains(place), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_workflow_is_refused() {
    let one = Extraction::new().await;
    for text in ["", "- a\n- b\n", "source: {}\n", "hello\n", "\u{0}\u{1}"] {
        one.write("workflow.yaml", text);
        one.refused().await;
    }
    std::fs::write(one.dir.path().join("workflow.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    let error = one.refused().await;
    assert!(error.contains("workflow.yaml"), "{error}");
    std::fs::remove_file(one.dir.path().join("workflow.yaml")).unwrap();
    let error = one.refused().await;
    assert!(error.contains("workflow.yaml"), "{error}");
}

#[tokio::test]
async fn a_bad_configuration_is_refused_with_its_key() {
    let one = Extraction::new().await;
    for (text, part) in [
        ("salesforce: {host: []}\n", "salesforce.host"),
        ("salesforce: {hosts: [{host: 'https://localhost', port: 1}]}\n", "salesforce.hosts[0]"),
        ("salesforce: {hosts: [{host: localhost, port: 70000}]}\n", "salesforce.hosts[0].port"),
        ("salesforce: {hosts: [{host: localhost, ca: absent.pem}]}\n", "absent.pem"),
        ("secrets: {stores: {a: {file: {}}}}\n", "secrets.stores.a.file.dir"),
        ("log: [\n", "line 1"),
    ] {
        one.write("config.yaml", text);
        let error = one.refused().await;
        assert!(error.contains(part), "{text:?}: {error}");
    }
}
