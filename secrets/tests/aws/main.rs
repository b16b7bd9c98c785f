//! The AWS store against a real moto server, and against prepared answers where moto does not fail as AWS does.
#![cfg(feature = "aws")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "`./test` counts what was not run by this line")]

mod moto;
mod stub;

use std::net::TcpListener;
use std::process::Command;

use aws_config::BehaviorVersion;
use aws_sdk_secretsmanager::primitives::Blob;
use hybrid_runner_secrets::{AwsSettings, AwsStore, SecretError, SecretRef, SecretValue, Stores, open_store};

use moto::{Moto, loader};
use stub::Stub;

/// As a definition's reader gets it, through [`Stores`].
async fn read(store: AwsStore, reference: &str) -> Result<String, SecretError> {
    read_from(&Stores::default().with("aws", store), reference).await
}

async fn read_from(stores: &Stores, reference: &str) -> Result<String, SecretError> {
    let reference: SecretRef = reference.parse().unwrap();
    stores.read(&reference).await.map(|value| value.expose().to_owned())
}

fn needs(result: Result<String, SecretError>) -> String {
    match result {
        Err(SecretError::Denied { needs, .. }) => needs,
        other => panic!("expected Denied, found {other:?}"),
    }
}

fn problem(result: Result<String, SecretError>) -> &'static str {
    match result {
        Err(SecretError::Unusable { problem, .. }) => problem,
        other => panic!("expected Unusable, found {other:?}"),
    }
}

fn cause(result: Result<String, SecretError>) -> String {
    match result {
        Err(SecretError::Unreachable { cause, .. }) => cause.to_string(),
        other => panic!("expected Unreachable, found {other:?}"),
    }
}

const FOUND: &str = r#"{"Name":"/a/b","SecretString":"from the stub"}"#;

#[tokio::test]
async fn a_name_has_its_leading_slash_its_prefix_or_neither() {
    let Some(moto) = Moto::start("a_name_has_its_leading_slash_its_prefix_or_neither") else { return };
    for name in ["/a/b", "a/b", "/prod/a/b"] {
        moto.put(name, name);
    }
    let prefixed = AwsSettings { name_prefix: Some("/prod".to_owned()), ..moto.settings() };
    let stripped = AwsSettings { strip_leading_slash: true, ..moto.settings() };
    for (settings, name) in [(moto.settings(), "/a/b"), (stripped, "a/b"), (prefixed, "/prod/a/b")] {
        assert_eq!(read(moto.store(settings), "secret:/a/b").await.unwrap(), name);
    }
}

#[tokio::test]
async fn a_key_reads_into_json_and_each_way_to_miss_it_is_told_apart() {
    let Some(moto) = Moto::start("a_key_reads_into_json_and_each_way_to_miss_it_is_told_apart") else { return };
    moto.put("/json", r#"{"password": "p\"w", "port": 443, "empty": ""}"#);
    moto.put("/text", "no json");
    let stores = Stores::default().with("aws", moto.store(moto.settings()));
    assert_eq!(read_from(&stores, "secret:/json#password").await.unwrap(), "p\"w");
    assert!(read_from(&stores, "secret:/json").await.unwrap().starts_with('{'));
    let missing = read_from(&stores, "secret:/json#user").await;
    assert!(matches!(missing, Err(SecretError::KeyMissing { .. })), "{missing:?}");
    let absent = read_from(&stores, "secret:/absent#password").await;
    assert!(matches!(absent, Err(SecretError::NotFound { .. })), "{absent:?}");
    assert!(problem(read_from(&stores, "secret:/json#port").await).contains("other than a string"));
    assert!(problem(read_from(&stores, "secret:/text#password").await).contains("not a JSON object"));
    let empty = read_from(&stores, "secret:/json#empty").await;
    assert!(matches!(empty, Err(SecretError::Empty { .. })), "{empty:?}");
}

#[tokio::test]
async fn binary_deleted_and_too_large_secrets_are_refused_with_their_reason() {
    let Some(moto) = Moto::start("binary_deleted_and_too_large_secrets_are_refused_with_their_reason") else { return };
    moto.writer().create_secret().name("/binary").secret_binary(Blob::new([0, 255])).send().await.unwrap();
    moto.put("/gone", "value");
    moto.writer().delete_secret().secret_id("/gone").send().await.unwrap();
    moto.put("/large", &"x".repeat(SecretValue::MAX));
    let stores = Stores::default().with("aws", moto.store(moto.settings()));
    assert!(problem(read_from(&stores, "secret:/binary").await).contains("SecretBinary"));
    assert!(problem(read_from(&stores, "secret:/gone").await).contains("scheduled for deletion"));
    assert_eq!(read_from(&stores, "secret:/large").await.unwrap().len(), SecretValue::MAX);

    let body = format!(r#"{{"SecretString":"{}"}}"#, "x".repeat(SecretValue::MAX + 1));
    let larger = Stub::answering([(200, body.as_str())]);
    let larger = read(larger.store(), "secret:/a/b").await;
    assert!(matches!(larger, Err(SecretError::TooLarge { .. })), "{larger:?}");
}

#[tokio::test]
async fn a_rotated_value_is_read_at_once() {
    let Some(moto) = Moto::start("a_rotated_value_is_read_at_once") else { return };
    moto.put("/rotated", "old");
    let stores = Stores::default().with("aws", moto.store(moto.settings()));
    assert_eq!(read_from(&stores, "secret:/rotated").await.unwrap(), "old");
    moto.writer().put_secret_value().secret_id("/rotated").secret_string("new").send().await.unwrap();
    assert_eq!(read_from(&stores, "secret:/rotated").await.unwrap(), "new");
    let pending = moto.writer().put_secret_value().secret_id("/rotated").secret_string("pending");
    pending.version_stages("AWSPENDING").send().await.unwrap();
    assert_eq!(read_from(&stores, "secret:/rotated").await.unwrap(), "new");
}

#[tokio::test]
async fn a_user_without_the_permission_is_denied_by_real_policies() {
    let Some(moto) = Moto::start("a_user_without_the_permission_is_denied_by_real_policies") else { return };
    moto.put("/a/b", "value");
    moto.enforce_policies();
    let nobody = moto.nobody.clone();
    let store = AwsStore::with_loader(moto.settings(), move || loader(&nobody.0, &nobody.1));
    // moto refuses in XML, which is no reason to a client of this service; AWS's own form is below.
    let needs = needs(read(store, "secret:/a/b").await);
    assert!(needs.starts_with("secretsmanager:GetSecretValue on /a/b, or leave of a proxy"), "{needs}");
}

#[tokio::test]
async fn credentials_come_from_a_profile_and_from_a_web_identity() {
    let Some(moto) = Moto::start("credentials_come_from_a_profile_and_from_a_web_identity") else { return };
    moto.put("/a/b", "value");
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "a.web.token").unwrap();
    let endpoint = &moto.endpoint;
    let web = format!(
        "role_arn = arn:aws:iam::123456789012:role/agent\nweb_identity_token_file = {}\nrole_session_name = test",
        token.path().display()
    );
    for credentials in ["aws_access_key_id = any\naws_secret_access_key = any", &web] {
        let profile = format!("[profile case]\nregion = eu-central-1\nendpoint_url = {endpoint}\n{credentials}\n");
        let store = AwsStore::with_loader(AwsSettings::default(), move || of_profile(&profile));
        assert_eq!(read(store, "secret:/a/b").await.unwrap(), "value");
    }
}

/// The default chain, over this profile and no other file.
#[expect(deprecated, reason = "the new path is in a crate that nothing else of ours needs")]
fn of_profile(text: &str) -> aws_config::ConfigLoader {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    let files = ProfileFiles::builder().with_contents(ProfileFileKind::Config, text).build();
    aws_config::defaults(BehaviorVersion::latest()).profile_files(files).profile_name("case")
}

/// This case in a process of its own, where it has an environment of its own.
#[tokio::test]
async fn the_store_of_a_command_line_is_set_by_the_variables_of_aws() {
    let case = "the_store_of_a_command_line_is_set_by_the_variables_of_aws";
    if std::env::var_os("IS_CHILD").is_some() {
        let stores = Stores::default().with("aws", open_store("aws").unwrap());
        assert_eq!(read_from(&stores, "secret:/a/b").await.unwrap(), "value");
        return;
    }
    let Some(moto) = Moto::start(case) else { return };
    moto.put("/a/b", "value");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", case])
        .env("IS_CHILD", "yes")
        .env("AWS_ENDPOINT_URL", &moto.endpoint)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "any")
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
}

const ROLE: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>AKIDROLE</AccessKeyId>\
                    <SecretAccessKey>role-secret-key</SecretAccessKey><SessionToken>role-session-token</SessionToken>\
                    <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

#[tokio::test]
async fn a_role_is_assumed_with_its_external_id_and_then_used() {
    let stub = Stub::answering([(200, ROLE), (200, FOUND), (200, FOUND)]);
    let stores = Stores::default().with("aws", with_role(&stub));
    for _ in 0..2 {
        assert_eq!(read_from(&stores, "secret:/a/b").await.unwrap(), "from the stub");
    }
    let requests = stub.requests();
    assert!(requests[0].contains("Action=AssumeRole") && requests[0].contains("Credential=AKIDCHAIN/"));
    assert!(requests[0].contains("ExternalId=ext-1") && requests[0].contains("RoleSessionName=hybrid-runner"));
    assert!(requests[1..].iter().all(|request| request.contains("Credential=AKIDROLE/")));
}

#[tokio::test]
async fn the_credentials_of_the_chain_and_of_the_role_are_watched() {
    let stub = Stub::answering([(200, ROLE), (200, FOUND)]);
    let stores = Stores::default().with("aws", with_role(&stub));
    let credentials = ["chain-secret-key", "role-secret-key", "role-session-token"];
    let known = || credentials.map(|credential| stores.redactor().scan(credential.as_bytes()));
    assert_eq!(known(), [false; 3]);
    assert_eq!(read_from(&stores, "secret:/a/b").await.unwrap(), "from the stub");
    assert_eq!(known(), [true; 3]);
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_is_named() {
    let refusal = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                   <Message>CANARY</Message></Error></ErrorResponse>";
    let stub = Stub::answering([(403, refusal)]);
    let result = read(with_role(&stub), "secret:/a/b").await;
    assert!(needs(result).starts_with("sts:AssumeRole on arn:aws:iam::123456789012:role/reader"));
}

fn with_role(stub: &Stub) -> AwsStore {
    let settings = AwsSettings {
        role_arn: Some("arn:aws:iam::123456789012:role/reader".to_owned()),
        external_id: Some("ext-1".to_owned()),
        ..stub.settings()
    };
    let sts = stub.endpoint.clone();
    AwsStore::with_loader(settings, move || loader("AKIDCHAIN", "chain-secret-key").endpoint_url(&sts))
}

#[tokio::test]
async fn refusals_name_what_is_missing_and_repeat_nothing_of_the_answer() {
    for (answer, expected) in [
        (r#"{"__type":"AccessDeniedException","Message":"CANARY"}"#, "secretsmanager:GetSecretValue on /a/b"),
        (
            r#"{"__type":"AccessDeniedException","Message":"Access to KMS is not allowed CANARY"}"#,
            "kms:Decrypt on the KMS key of /a/b",
        ),
        (
            r#"{"__type":"DecryptionFailure","Message":"CANARY"}"#,
            "kms:Decrypt on the KMS key of /a/b, and that the key is enabled",
        ),
        (
            r#"{"__type":"UnrecognizedClientException","Message":"CANARY"}"#,
            "credentials that AWS accepts (UnrecognizedClientException)",
        ),
        (r#"{"__type":"ExpiredTokenException"}"#, "credentials that AWS accepts (ExpiredTokenException)"),
    ] {
        let stub = Stub::answering([(400, answer)]);
        let error = read(stub.store(), "secret:/a/b").await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
        assert_eq!(needs(Err(error)), expected);
        // A refusal is final: one request.
        assert_eq!(stub.requests().len(), 1);
    }
}

const THROTTLED: (u16, &str) = (400, r#"{"__type":"ThrottlingException","Message":"Rate exceeded"}"#);

#[tokio::test]
async fn throttling_is_waited_out_and_reported_after_the_third_time() {
    let relented = Stub::answering([THROTTLED, THROTTLED, (200, FOUND)]);
    assert_eq!(read(relented.store(), "secret:/a/b").await.unwrap(), "from the stub");
    let lasting = Stub::answering([THROTTLED, THROTTLED, THROTTLED, (200, FOUND)]);
    let result = read(lasting.store(), "secret:/a/b").await;
    assert!(matches!(result, Err(SecretError::Throttled { .. })), "{result:?}");
    assert_eq!(lasting.requests().len(), 3);
}

#[tokio::test]
async fn a_broken_answer_with_the_value_in_it_is_not_repeated() {
    let stub = Stub::answering([(200, r#"{"SecretString":"CANARY","#); 3]);
    let error = read(stub.store(), "secret:/a/b").await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
    assert_eq!(cause(Err(error)), "the answer of AWS could not be read (HTTP status 200)");
}

#[tokio::test]
async fn an_endpoint_that_nobody_listens_on_is_unreachable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = AwsSettings {
        region: Some("eu-central-1".to_owned()),
        endpoint: Some(format!("http://{address}")),
        ..AwsSettings::default()
    };
    let result = read(AwsStore::with_loader(settings, || loader("any", "any")), "secret:/a/b").await;
    let cause = cause(result);
    assert!(cause.to_lowercase().contains("connection refused"), "{cause}");
}

#[tokio::test]
async fn plain_http_to_another_machine_is_refused_before_a_connection() {
    // 192.0.2.0/24 is for documentation: a connection would time out, with another text.
    let settings = AwsSettings {
        region: Some("eu-central-1".to_owned()),
        endpoint: Some("http://192.0.2.1".to_owned()),
        ..AwsSettings::default()
    };
    let result = read(AwsStore::with_loader(settings, || loader("any", "any")), "secret:/a/b").await;
    let cause = cause(result);
    assert!(cause.contains("plain HTTP is accepted to this machine only"), "{cause}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_by_the_store_itself() {
    // Connections are accepted by the system and nothing more.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let settings = AwsSettings {
        region: Some("eu-central-1".to_owned()),
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        ..AwsSettings::default()
    };
    let result = read(AwsStore::with_loader(settings, || loader("any", "any")), "secret:/a/b").await;
    assert_eq!(cause(result), "no answer of AWS in time");
}

#[test]
fn debug_shows_no_credentials() {
    let shown = format!("{:?}", AwsStore::with_loader(AwsSettings::default(), || loader("AKIDCANARY", "CANARY")));
    assert!(shown.starts_with("AwsStore { settings: ") && !shown.contains("CANARY"), "{shown}");
}

#[tokio::test]
async fn a_look_tells_whether_there_are_credentials_and_reads_no_secret() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let settings = AwsSettings {
        region: Some("eu-central-1".to_owned()),
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        ..AwsSettings::default()
    };
    let stores = Stores::default().with("aws", AwsStore::with_loader(settings.clone(), || loader("any", "any")));
    let seen = stores.look().await.remove(0);
    assert_eq!((seen.store.as_str(), seen.kind), ("aws", "aws"));
    assert!(seen.found.unwrap().starts_with("there are credentials"));
    let nobody = AwsStore::with_loader(settings, || {
        let none = "[profile case]\ncredential_process = false\n";
        of_profile(none).region(aws_config::Region::new("eu-central-1"))
    });
    let seen = Stores::default().with("aws", nobody).look().await.remove(0);
    assert!(seen.found.is_err(), "{seen:?}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "Secrets Manager is not asked");
}
