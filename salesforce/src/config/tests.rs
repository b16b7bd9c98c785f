use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_openmetadata::workflow::Workflow;
use serde_json::{Value, json};

use super::*;
use crate::host::{HostPolicy, LocalHost};
use crate::local::LocalConfig;

const SOAP: &[(&str, &str)] =
    &[("username", "ana@example.com"), ("password", "secret:/sf/password"), ("securityToken", "secret:/sf/token")];

fn workflow(connection: Value, options: Value) -> Workflow {
    let mut workflow = json!({
        "source": {"type": "salesforce", "serviceName": "crm.eu", "serviceConnection": {}, "sourceConfig": {}},
        "sink": {"type": "metadata-rest", "config": {}},
    });
    workflow["source"]["serviceConnection"]["config"] = connection;
    workflow["source"]["sourceConfig"]["config"] = options;
    Workflow::from_value(workflow).unwrap()
}

pub(super) fn parse(connection: Value, options: Value) -> Result<Config, DefinitionError> {
    let listed = LocalHost { host: "localhost".into(), port: 8443, ca: None };
    Config::parse(&workflow(connection, options), &HostPolicy::new(vec![listed]).unwrap())
}

/// A connection with a SOAP login and the given keys.
pub(super) fn soap(more: Value) -> Value {
    let mut connection: serde_json::Map<_, _> =
        SOAP.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let Value::Object(more) = more else { panic!("{more}") };
    connection.extend(more);
    Value::Object(connection)
}

pub(super) fn with(more: Value) -> Result<Config, DefinitionError> {
    parse(soap(more), json!({"type": "DatabaseMetadata"}))
}

pub(super) fn refusal(more: Value) -> (Reason, String, String) {
    let error = with(more).unwrap_err();
    let field = error.field.strip_prefix("source.serviceConnection.config").unwrap_or(&error.field);
    (error.reason, field.trim_start_matches('.').to_owned(), error.detail)
}

#[test]
fn a_soap_login_is_read_with_the_peers_defaults() {
    let config = with(json!({"type": "Salesforce", "salesforceApiVersion": "42.0"})).unwrap();
    let Auth::Soap { host, version, username, password, token, organization: None } = &config.auth else {
        panic!("{config:?}")
    };
    assert_eq!(host.to_string(), "login.salesforce.com");
    assert_eq!((version.to_string().as_str(), username.as_str()), ("42.0", "ana@example.com"));
    assert_eq!(password.to_string(), "secret:/sf/password");
    assert_eq!(token.as_ref().unwrap().to_string(), "secret:/sf/token");
    assert_eq!(config.api_version, Some(ApiVersion::new(42)));
    assert_eq!((config.threads, &config.ssl), (None, &Ssl::default()));
    assert_eq!(config.naming.table_fqn("Account"), "\"crm.eu\".default.salesforce.Account");
    assert_eq!(config.without_effect, Vec::<String>::new());
    assert_eq!(crate::auth::secrets(&config.auth, &config.ssl, None).len(), 2);
}

#[test]
fn an_empty_security_token_means_the_password_alone() {
    let config = with(json!({"securityToken": ""})).unwrap();
    assert!(matches!(config.auth, Auth::Soap { token: None, .. }), "{config:?}");
}

#[test]
fn the_first_complete_login_in_the_peers_order_is_chosen() {
    let oauth = json!({"consumerKey": "key", "consumerSecret": "secret:/sf/secret", "salesforceDomain": "Acme.My"});
    let config = with(oauth.clone()).unwrap();
    assert!(matches!(config.auth, Auth::Soap { .. }));
    let unused = ["consumerKey", "consumerSecret"].map(|key| format!("source.serviceConnection.config.{key}"));
    assert_eq!(config.without_effect, unused);

    let config = parse(oauth, json!({})).unwrap();
    let Auth::ClientCredentials { host, consumer_key, consumer_secret } = &config.auth else { panic!("{config:?}") };
    assert_eq!((host.to_string().as_str(), consumer_key.as_str()), ("acme.my.salesforce.com", "key"));
    assert_eq!(consumer_secret.to_string(), "secret:/sf/secret");
}

#[test]
fn client_credentials_need_the_orgs_own_domain() {
    for domain in [json!(null), json!("login"), json!("TEST")] {
        let oauth = json!({"consumerKey": "k", "consumerSecret": "secret:/s", "salesforceDomain": domain});
        let error = parse(oauth, json!({})).unwrap_err();
        assert_eq!(error.field, "source.serviceConnection.config.salesforceDomain");
        assert!(error.detail.contains("My Domain only"), "{error}");
    }
    let local = json!({"consumerKey": "k", "consumerSecret": "secret:/s", "salesforceDomain": "localhost"});
    assert_eq!(parse(local, json!({})).unwrap().auth.host().port(), 8443);
}

/// A connection of all logins' fields.
fn all_fields() -> Value {
    soap(json!({
        "organizationId": "00D000000000001", "consumerKey": "key", "consumerSecret": "secret:/sf/secret",
        "salesforceDomain": "acme.my",
        "connectionArguments": {"privatekey": "secret:/sf/key", "session_id": "secret:/sf/session",
            "instance_url": "https://acme.my.salesforce.com"},
    }))
}

fn without(mut connection: Value, fields: &[&str]) -> Value {
    for field in fields {
        match field.split_once('.') {
            Some((parent, key)) => connection[parent].as_object_mut().unwrap().remove(key),
            None => connection.as_object_mut().unwrap().remove(*field),
        };
    }
    connection
}

#[test]
fn the_peers_order_decides_among_several_complete_logins() {
    let mut connection = all_fields();
    for (then_missing, is_it) in [
        (
            "securityToken",
            (|auth| matches!(auth, Auth::Soap { token: Some(_), organization: None, .. })) as fn(&Auth) -> bool,
        ),
        ("connectionArguments.session_id", |auth| matches!(auth, Auth::Session { .. })),
        ("organizationId", |auth| matches!(auth, Auth::Soap { token: None, organization: Some(_), .. })),
        ("password", |auth| matches!(auth, Auth::Password { token: None, .. })),
        ("connectionArguments.privatekey", |auth| matches!(auth, Auth::Jwt { .. })),
        ("username", |auth| matches!(auth, Auth::ClientCredentials { .. })),
    ] {
        let auth = parse(connection.clone(), json!({})).unwrap().auth;
        assert!(is_it(&auth), "until {then_missing} is missing: {auth:?}");
        connection = without(connection, &[then_missing]);
    }
}

#[test]
fn a_login_that_is_named_wins_over_the_order() {
    for (name, is_it) in [
        ("soap", (|auth| matches!(auth, Auth::Soap { .. })) as fn(&Auth) -> bool),
        ("session", |auth| matches!(auth, Auth::Session { .. })),
        ("password", |auth| matches!(auth, Auth::Password { token: Some(_), .. })),
        ("jwt", |auth| matches!(auth, Auth::Jwt { .. })),
        ("clientCredentials", |auth| matches!(auth, Auth::ClientCredentials { .. })),
    ] {
        let mut connection = all_fields();
        connection["connectionOptions"] = json!({"authentication": name});
        let config = parse(connection, json!({})).unwrap();
        assert!(is_it(&config.auth), "{name}: {:?}", config.auth);
        assert!(!config.without_effect.iter().any(|path| path.contains("authentication")), "{config:?}");
    }
    let (_, field, detail) = refusal(json!({"connectionOptions": {"authentication": "oauth"}}));
    assert_eq!(field, "connectionOptions.authentication");
    assert!(detail.contains("accepted: soap, password, jwt, clientCredentials, session"), "{detail}");
    let (_, _, detail) = refusal(json!({"connectionOptions": {"authentication": "jwt"}}));
    assert!(
        detail.ends_with("missing for the OAuth JWT bearer flow: consumerKey, connectionArguments.privatekey"),
        "{detail}"
    );
}

#[test]
fn an_organization_id_stands_in_for_the_token_also_when_the_form_left_that_empty() {
    for id in ["00DIB000004nDEq", "00DIB000004nDEqUAM"] {
        let config = with(json!({"securityToken": "", "organizationId": id})).unwrap();
        assert!(matches!(&config.auth, Auth::Soap { token: None, organization: Some(sent), .. } if sent == id));
        assert_eq!(config.without_effect, Vec::<String>::new());
    }
    for wrong in ["00DIB000004nDE", "005IB000004nDEq", "00DIB000004<DEq", "acme"] {
        let (_, field, detail) = refusal(json!({"securityToken": "", "organizationId": wrong}));
        assert_eq!(field, "organizationId", "{wrong}");
        assert!(detail.contains("15 or 18") && !detail.contains(wrong), "{detail}");
    }
}

#[test]
fn an_existing_session_names_a_host_that_it_may_go_to() {
    let session = |instance: Value| {
        let mut arguments = json!({"session_id": "secret:/sf/session"});
        arguments.as_object_mut().unwrap().extend(instance.as_object().unwrap().clone());
        parse(json!({"connectionArguments": arguments}), json!({})).map(|config| config.auth.host().to_string())
    };
    assert_eq!(session(json!({"instance_url": "https://acme.my.salesforce.com"})).unwrap(), "acme.my.salesforce.com");
    assert_eq!(session(json!({"instance": "acme.my.salesforce.com"})).unwrap(), "acme.my.salesforce.com");
    assert_eq!(session(json!({"instance_url": "https://localhost:8443"})).unwrap(), "localhost:8443");
    for hostile in
        ["https://evil.example", "http://acme.my.salesforce.com", "https://u@acme.my.salesforce.com", "org62"]
    {
        let error = session(json!({"instance_url": hostile})).unwrap_err();
        assert!(error.field.ends_with("connectionArguments.instance_url"), "{error}");
        assert!(!error.detail.contains(hostile), "{error}");
    }
    let error = session(json!({"instance": "evil.example"})).unwrap_err();
    assert!(error.field.ends_with("connectionArguments.instance"), "{error}");
    let error = session(json!({})).unwrap_err();
    assert!(error.detail.contains("for an existing session: connectionArguments.instance_url"), "{error}");
}

#[test]
fn what_only_the_machines_own_user_may_decide_is_refused_or_named_when_it_comes_from_elsewhere() {
    let there = LocalConfig::default();
    let here = LocalConfig { definitions_are_local: true, ..LocalConfig::default() };
    let session = json!({"connectionArguments": {"session_id": "secret:/s", "instance": "acme.my.salesforce.com"}});
    let mut config = parse(session, json!({})).unwrap();
    assert!(here.admit(&mut config).is_ok());
    let error = there.admit(&mut config).unwrap_err();
    assert_eq!(error.reason, Reason::PolicyDenied);
    assert!(error.field.ends_with("connectionArguments.session_id") && error.detail.contains("JWT"), "{error}");

    let ssl = json!({"sslConfig": {"ssl_ca": "secret:/ca", "sslCertificate": "secret:/c", "ssl_key": "secret:/k"}});
    let mut config = with(ssl).unwrap();
    here.admit(&mut config).unwrap();
    assert_eq!(config.ssl.ca.as_ref().unwrap().to_string(), "secret:/ca");
    assert!(config.ssl.identity.is_some() && config.without_effect.is_empty());
    there.admit(&mut config).unwrap();
    assert_eq!(config.ssl, Ssl::default());
    let paths = ["sslCertificate", "ssl_ca", "ssl_key"].map(|key| format!("{CONNECTION}.sslConfig.{key}"));
    assert_eq!(config.without_effect, paths);
}

#[test]
fn a_client_certificate_needs_its_key_and_each_field_has_one_name() {
    for (ssl, field) in [
        (json!({"sslCertificate": "secret:/c"}), "sslConfig.sslKey"),
        (json!({"ssl_key": "secret:/k"}), "sslConfig.sslCertificate"),
        (json!({"caCertificate": "secret:/a", "ssl_ca": "secret:/b"}), "sslConfig.ssl_ca"),
    ] {
        assert_eq!(refusal(json!({"sslConfig": ssl})).1, field);
    }
}

#[test]
fn refresh_tokens_and_key_files_are_refused_with_what_to_use_instead() {
    for (key, advice) in [
        ("refresh_token", "client credentials"),
        ("refreshToken", "client credentials"),
        ("oauth_refresh_token", "JWT bearer"),
        ("privatekey_file", "connectionArguments.privatekey"),
    ] {
        for value in ["hunter2", "secret:/hunter2"] {
            let (_, field, detail) = refusal(json!({"connectionArguments": {key: value}}));
            assert_eq!(field, format!("connectionArguments.{key}"));
            assert!(detail.contains(advice) && !detail.contains("hunter2"), "{detail}");
        }
    }
}

#[test]
fn logins_that_end_are_advised_against() {
    let advice = |connection| parse(connection, json!({})).unwrap().auth.advice();
    let soap_advice = advice(soap(json!({}))).unwrap();
    for part in ["Summer '27 (June 2027)", "65.0", "client credentials", "JWT bearer"] {
        assert!(soap_advice.contains(part), "{soap_advice}");
    }
    let password = without(all_fields(), &["securityToken", "organizationId", "connectionArguments.session_id"]);
    assert!(advice(password.clone()).unwrap().contains("External Client Apps"));
    assert_eq!(advice(without(password, &["password"])), None);
}

#[test]
fn a_login_knows_its_user_where_the_definition_names_one() {
    for (method, username) in [
        ("soap", Some("ana@example.com")),
        ("password", Some("ana@example.com")),
        ("jwt", Some("ana@example.com")),
        ("clientCredentials", None),
        ("session", None),
    ] {
        let mut connection = all_fields();
        connection["connectionOptions"] = json!({"authentication": method});
        connection["username"] = json!("ana@example.com");
        assert_eq!(parse(connection, json!({})).unwrap().auth.username(), username, "{method}");
    }
}

#[test]
fn an_incomplete_login_says_what_is_there_and_what_is_missing() {
    let error = parse(json!({"username": "ana", "password": "secret:/p", "consumerKey": ""}), json!({})).unwrap_err();
    assert_eq!(
        error.detail,
        "no login can be chosen: given is username, password; missing for SOAP login: securityToken; for SOAP login: \
         organizationId; for the OAuth username-password flow: consumerKey, consumerSecret; for the OAuth JWT bearer \
         flow: consumerKey, connectionArguments.privatekey; for OAuth client credentials: consumerKey, consumerSecret"
    );
    let error = parse(json!({}), json!({})).unwrap_err();
    assert!(error.detail.contains("given is nothing"), "{error}");
}

#[test]
fn a_literal_in_any_credential_field_is_refused_without_being_repeated() {
    for path in CREDENTIAL_FIELDS {
        for literal in [json!("hunter2"), json!(4711), json!(["hunter2"])] {
            let more = match path.split_once('.') {
                Some((parent, key)) => json!({parent: {key: literal}}),
                None => json!({*path: literal}),
            };
            let (reason, field, detail) = refusal(more);
            assert_eq!((reason, field.as_str()), (Reason::LiteralSecret, *path));
            assert!(!detail.contains("hunter2") && !detail.contains("4711"), "{detail}");
            assert!(detail.contains("reference"), "{detail}");
        }
    }
}

#[test]
fn a_malformed_reference_is_refused_without_being_repeated() {
    let (reason, field, detail) = refusal(json!({"password": "secret:/sf/../hunter2"}));
    assert_eq!((reason, field.as_str()), (Reason::BadDefinition, "password"));
    assert!(!detail.contains("hunter2"), "{detail}");
}

#[test]
fn a_reference_in_any_other_field_is_refused() {
    for (more, expected) in [
        (json!({"username": "secret:/sf/user"}), "username"),
        (json!({"consumerKey": " secret:/sf/key"}), "consumerKey"),
        (json!({"salesforceDomain": "secret:/sf/domain"}), "salesforceDomain"),
        (json!({"sobjectNames": ["Account", "secret:/sf/x"]}), "sobjectNames[1]"),
        (json!({"connectionArguments": {"proxies": {"https": "secret:/p"}}}), "connectionArguments.proxies.https"),
        (json!({"connectionOptions": {"objects": "secret:/p"}}), "connectionOptions.objects"),
    ] {
        let (reason, field, detail) = refusal(more);
        assert_eq!((reason, field.as_str()), (Reason::BadDefinition, expected));
        assert!(detail.contains("only these fields take one: password, securityToken"), "{detail}");
    }
    let filter = json!({"tableFilterPattern": {"includes": ["secret:/inert"]}});
    assert!(parse(soap(filter.clone()), filter).is_ok());
}

#[test]
fn an_unknown_key_is_refused_and_the_near_one_named() {
    for (more, field, near) in [
        (json!({"salesforceDomian": "login"}), "salesforceDomian", "salesforceDomain"),
        (json!({"sObjectNames": ["Account"]}), "sObjectNames", "sobjectNames"),
        (json!({"sslConfig": {"caCertificat": "x"}}), "sslConfig.caCertificat", "caCertificate"),
        (json!({"username": null, "usrname": "u"}), "usrname", "username"),
    ] {
        let (reason, refused, detail) = refusal(more);
        assert_eq!((reason, refused.as_str()), (Reason::BadDefinition, field));
        assert!(detail.contains(near), "{detail}");
    }
}

#[test]
fn a_hostile_domain_is_refused_naming_the_field() {
    for domain in ["evil.example/#", "a@b", "login?x=", "169.254.169.254", "login.salesforce.com.evil.example", "a."] {
        let (reason, field, detail) = refusal(json!({"salesforceDomain": domain}));
        assert_eq!((reason, field.as_str()), (Reason::BadDefinition, "salesforceDomain"), "{domain}");
        assert!(!detail.contains(domain), "{detail}");
    }
}

#[test]
fn versions_are_accepted_as_people_write_them() {
    for (given, rest, login) in [
        (json!("42.0"), Some(42), 42),
        (json!("v64.0"), Some(64), 64),
        (json!(66), Some(66), 64),
        (json!(65.0), Some(65), 64),
        (json!("67"), Some(67), 64),
        (json!(""), None, 64),
        (json!(null), None, 64),
    ] {
        let config = with(json!({"salesforceApiVersion": given})).unwrap();
        assert_eq!(config.api_version, rest.map(ApiVersion::new), "{given}");
        let Auth::Soap { version, .. } = config.auth else { panic!() };
        assert_eq!(version, ApiVersion::new(login), "{given}");
    }
    for given in [json!("37.0"), json!("latest"), json!("64.1"), json!(64.5), json!("-1"), json!(true), json!("64.0/x")]
    {
        let (_, field, detail) = refusal(json!({"salesforceApiVersion": given}));
        assert_eq!(field, "salesforceApiVersion");
        assert!(detail.contains("accepted: a version from 38.0 on"), "{detail}");
    }
}

#[test]
fn options_that_change_nothing_are_named_only_when_set_to_other_than_their_default() {
    let connection = soap(json!({
        "organizationId": "00D000000000001",
        "connectionOptions": {"objects": "custom", "theirs": "x"},
        "connectionArguments": {"proxies": {"https": "http://proxy:3128"}},
        "sslConfig": {"caCertificate": "secret:/ca"},
        "tableFilterPattern": {"excludes": ["x"]},
        "schemaFilterPattern": {"excludes": []},
        "supportsMetadataExtraction": false,
    }));
    let options = json!({
        "type": "DatabaseMetadata", "includeTags": true, "includeViews": false, "markDeletedTables": false,
        "threads": 8, "useFqnForFiltering": true, "queryLogDuration": 1,
    });
    let config = parse(connection, options).unwrap();
    assert_eq!(config.threads, Some(8));
    assert_eq!(config.ssl.ca.as_ref().unwrap().to_string(), "secret:/ca");
    let connection = |key: &str| format!("source.serviceConnection.config.{key}");
    assert_eq!(
        config.without_effect,
        [
            connection("connectionArguments.proxies"),
            connection("connectionOptions.theirs"),
            connection("organizationId"),
            connection("supportsMetadataExtraction"),
            connection("tableFilterPattern"),
            "source.sourceConfig.config.includeViews".to_owned(),
        ]
    );
}

#[test]
fn another_kind_of_source_is_refused() {
    let mut workflow = workflow(soap(json!({})), json!({}));
    workflow.source.kind = "snowflake".to_owned();
    let error = Config::parse(&workflow, &HostPolicy::default()).unwrap_err();
    assert_eq!((error.reason, error.field.as_str()), (Reason::SourceUnknown, "source.type"));
}

#[test]
fn an_invalid_pattern_is_refused_before_anything_is_contacted() {
    for (filter, list) in
        [("tableFilterPattern", "includes"), ("schemaFilterPattern", "excludes"), ("databaseFilterPattern", "includes")]
    {
        let error = parse(soap(json!({})), json!({filter: {list: ["ok", "("]}})).unwrap_err();
        assert_eq!(error.field, format!("source.sourceConfig.config.{filter}.{list}[1]"));
        assert_eq!(error.reason, Reason::BadDefinition);
    }
}
