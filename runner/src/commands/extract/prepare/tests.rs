use serde_json::json;

use super::*;

fn environment() -> Environment {
    [("SF_PASSWORD", "hunter2"), ("SF_USER", "ada@example.com"), ("lower", "x")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect()
}

fn run(connection: &Value, allow: bool) -> Result<(Value, Prepared), String> {
    let mut document = json!({"source": {"type": "salesforce", "serviceConnection": {"config": connection}}});
    let prepared = prepare(&mut document, &environment(), allow).map_err(|error| error.text)?;
    Ok((document["source"]["serviceConnection"]["config"].take(), prepared))
}

fn refusal(connection: &Value, allow: bool) -> String {
    run(connection, allow).map(|_| ()).unwrap_err()
}

#[test]
fn a_variable_in_a_credential_field_becomes_a_reference_and_elsewhere_its_value() {
    let connection = json!({
        "username": "${SF_USER}", "password": "${SF_PASSWORD}", "securityToken": "${lower}",
        "tableFilterPattern": {"includes": ["^${SF_USER}$", "a${", "${1}", "x{2}$"]},
    });
    let (connection, prepared) = run(&connection, false).unwrap();
    assert_eq!(
        connection,
        json!({
            "username": "ada@example.com",
            "password": "secret://variables/SF_PASSWORD",
            "securityToken": "secret://variables/lower",
            "tableFilterPattern": {"includes": ["^ada@example.com$", "a${", "${1}", "x{2}$"]},
        })
    );
    assert!(prepared.literals.is_empty() && !prepared.has_literal_secrets);
}

#[test]
fn a_variable_that_is_not_set_is_refused_with_its_field() {
    let field = "source.serviceConnection.config";
    assert_eq!(
        refusal(&json!({"password": "${NOPE}"}), false),
        format!("{field}.password: ${{NOPE}} names a variable that is not set")
    );
    assert_eq!(
        refusal(&json!({"sobjectNames": ["${NOPE}"]}), false),
        format!("{field}.sobjectNames[0]: ${{NOPE}} names a variable that is not set")
    );
}

#[test]
fn text_around_a_variable_in_a_credential_is_refused_without_being_repeated() {
    let text = refusal(&json!({"password": "hunter${SF_PASSWORD}"}), true);
    assert!(text.contains("password: mixes text") && !text.contains("hunter"), "{text}");
}

#[test]
fn references_and_empty_credentials_stay_and_literals_are_left_for_planning_to_refuse() {
    let connection = json!({"password": "secret:/a", "securityToken": "", "consumerSecret": "hunter2"});
    let (after, prepared) = run(&connection, false).unwrap();
    assert_eq!(after, connection);
    assert!(prepared.literals.is_empty());
}

#[test]
fn permitted_literals_become_references_to_a_store_of_their_own() {
    let connection = json!({"password": "hunter2", "sslConfig": {"sslKey": "key"}});
    let (connection, prepared) = run(&connection, true).unwrap();
    assert_eq!(
        connection,
        json!({"password": "secret://literals/password", "sslConfig": {"sslKey": "secret://literals/sslConfig.sslKey"}})
    );
    let expected = [("/password", "hunter2"), ("/sslConfig.sslKey", "key")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(prepared.literals, expected);
    assert!(prepared.has_literal_secrets);
    for reference in ["secret://literals/sslConfig.sslKey", "secret://variables/SF_PASSWORD"] {
        reference.parse::<hybrid_runner_secrets::SecretRef>().unwrap();
    }
}

#[test]
fn a_certificate_may_stand_in_the_file_and_a_key_may_not() {
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let ssl = json!({"sslConfig": {"caCertificate": pem, "sslKey": pem}});
    let (connection, prepared) = run(&ssl, false).unwrap();
    assert_eq!(connection["sslConfig"]["caCertificate"], "secret://literals/sslConfig.caCertificate");
    assert_eq!(connection["sslConfig"]["sslKey"], pem);
    assert!(!prepared.has_literal_secrets);
    let prose = json!({"sslConfig": {"ssl_ca": pem, "ssl_cert": pem, "ssl_key": pem}});
    let (connection, _) = run(&prose, false).unwrap();
    assert_eq!(connection["sslConfig"]["ssl_ca"], "secret://literals/sslConfig.ssl_ca");
    assert_eq!(connection["sslConfig"]["ssl_cert"], "secret://literals/sslConfig.ssl_cert");
    assert_eq!(connection["sslConfig"]["ssl_key"], pem);
}

#[test]
fn what_is_not_used_is_not_expanded() {
    let unused =
        json!({"sink": {"x": "${NOPE}"}, "workflowConfig": {"jwt": "${NOPE}"}, "ingestionPipelineFQN": "${SF_USER}"});
    let mut document = unused.clone();
    prepare(&mut document, &environment(), false).map_err(|error| error.text).unwrap();
    assert_eq!(document["sink"], unused["sink"]);
    assert_eq!(document["ingestionPipelineFQN"], "ada@example.com");
}
