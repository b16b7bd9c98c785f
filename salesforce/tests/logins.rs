//! Each login from the definition to the last entity, against a simulated org over real sockets and TLS; and what
//! happens when it is refused.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hybrid_runner_connector::{
    Baseline, Checkpoint, DefinitionError, Entity, EntitySink, Extraction, Notice, Progress, Reason, Report,
    SinkClosed, Source, SourceError,
};
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_salesforce::{HostPolicy, LocalConfig, LocalHost, Proxy, SalesforceSource};
use hybrid_runner_secrets::{MemoryStore, Read, ReadError, Resolver, SecretPath, SecretStore, SecretValue, Stores};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as CertificateKey};
use sandbox::{Credentials, Kind, Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};

const OBJECTS: usize = 5;

/// Takes everything and keeps the notices.
#[derive(Default)]
struct Sink {
    tables: usize,
    notices: Vec<Notice>,
}

#[async_trait]
impl EntitySink for Sink {
    async fn emit(&mut self, entities: Vec<Entity>, _checkpoint: Checkpoint) -> Result<(), SinkClosed> {
        self.tables += entities.iter().filter(|entity| entity.kind == "table").count();
        Ok(())
    }

    fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// One org, one definition.
struct Case {
    org: SandboxHandle,
    /// Lines below `serviceConnection.config`.
    connection: String,
    /// By their path.
    secrets: Vec<(String, String)>,
    local: LocalConfig,
}

impl Case {
    async fn new(connection: &str) -> Self {
        Self::with(connection, Credentials::default(), ServerConfig::default()).await
    }

    async fn of(connection: &str, credentials: Credentials) -> Self {
        Self::with(connection, credentials, ServerConfig::default()).await
    }

    async fn with(connection: &str, credentials: Credentials, server: ServerConfig) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let _already_installed = provider.install_default();
        let config = OrgConfig { objects: OBJECTS, fields_per_object: Some(8), credentials, ..OrgConfig::default() };
        let org = Sandbox::start(Org::generate(&config), server).await.unwrap();
        let own = org.credentials();
        let secrets = [
            ("/sf/password", own.password.as_str()),
            ("/sf/token", &own.security_token),
            ("/sf/secret", &own.consumer_secret),
            ("/sf/ca", org.ca_pem()),
        ];
        let secrets = secrets.map(|(path, value)| (path.to_owned(), value.to_owned())).to_vec();
        let ca = Some(org.ca_pem().as_bytes().to_vec());
        let listed = LocalHost { host: "localhost".to_owned(), port: org.addr().port(), ca };
        let hosts = HostPolicy::new(vec![listed]).unwrap();
        let local = LocalConfig { hosts, use_system_proxy: false, ..LocalConfig::default() };
        Self { org, connection: connection.to_owned(), secrets, local }
    }

    fn secret(&mut self, path: &str, value: &str) {
        self.secrets.retain(|(known, _)| known != path);
        self.secrets.push((path.to_owned(), value.to_owned()));
    }

    fn plan(&self) -> Result<SalesforceSource, DefinitionError> {
        let connection: String = self.connection.lines().map(|line| format!("      {line}\n")).collect();
        let yaml = format!(
            "source:\n  type: salesforce\n  serviceName: sf\n  serviceConnection:\n    config:\n      type: Salesforce\n\
             {connection}  sourceConfig:\n    config:\n      type: DatabaseMetadata\n"
        );
        SalesforceSource::plan(&Workflow::from_yaml(&yaml).unwrap(), &self.local)
    }

    fn store(&self) -> MemoryStore {
        self.secrets.iter().fold(MemoryStore::default(), |store, (path, value)| {
            store.with(path.as_str(), SecretValue::new(value.clone()))
        })
    }

    async fn run(&self) -> (Result<Report, SourceError>, Sink) {
        self.run_with(Stores::default().with("memory", self.store())).await
    }

    async fn run_with(&self, stores: Stores) -> (Result<Report, SourceError>, Sink) {
        let extraction = Extraction {
            secrets: Arc::new(Resolver::new(Arc::new(stores), Arc::new(self.local.policy()), None)),
            start: None,
            baseline: Arc::new(Baseline::default()),
            full: false,
            progress: Arc::new(Progress::default()),
        };
        let mut sink = Sink::default();
        let result = self.plan().unwrap().extract(extraction, &mut sink).await;
        let said = format!("{result:?} {:?}", sink.notices);
        for (path, value) in self.secrets.iter().filter(|(path, _)| path != "/sf/ca") {
            assert!(!said.contains(value.as_str()), "the secret {path} is in {said}");
        }
        (result, sink)
    }

    /// Sees that everything is read after this many logins of this kind and no other.
    async fn succeeds(&self, logins: (u64, u64)) {
        let (report, sink) = self.run().await;
        assert!(report.unwrap().complete);
        assert_eq!(sink.tables, OBJECTS);
        assert_eq!(self.logins(), logins);
    }

    /// Logins by SOAP and at the token endpoint.
    fn logins(&self) -> (u64, u64) {
        let requests = self.org.requests();
        (requests.count(Kind::SoapLogin), requests.count(Kind::Token))
    }

    /// Sees that a login is rejected after exactly one request, with words that say what to change.
    async fn rejected(&self, reason: Reason, words: &[&str]) {
        let error = self.run().await.0.unwrap_err();
        assert_eq!(error.reason, reason, "{error}");
        for part in words {
            assert!(error.detail.contains(part), "{part:?} is not in: {error}");
        }
        assert_eq!(self.org.requests().total, 1, "{error}");
    }
}

/// An RSA key as PEM, and its public half.
fn rsa() -> (String, String) {
    let pem =
        |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()))
}

const SOAP: &str = "salesforceDomain: localhost
username: integration@example.com
password: secret:/sf/password
securityToken: secret:/sf/token";
const ORGANIZATION: &str = "salesforceDomain: localhost
username: integration@example.com
password: secret:/sf/password
organizationId: 00D5g000004XmPl";
const PASSWORD: &str = "salesforceDomain: localhost
username: integration@example.com
password: secret:/sf/password
consumerKey: sandbox-consumer-key
consumerSecret: secret:/sf/secret";
const JWT: &str = "salesforceDomain: localhost
username: integration@example.com
consumerKey: sandbox-consumer-key
connectionArguments: {privatekey: 'secret:/sf/key'}";
const CLIENT: &str = "salesforceDomain: localhost
consumerKey: sandbox-consumer-key
consumerSecret: secret:/sf/secret";

fn trusted() -> Credentials {
    Credentials { trusted_address: true, ..Credentials::default() }
}

#[tokio::test]
async fn soap_logs_in_with_a_token_or_an_organization_id_of_either_length() {
    Case::new(SOAP).await.succeeds((1, 0)).await;
    Case::new(ORGANIZATION).await.succeeds((1, 0)).await;
    Case::new(&format!("{ORGANIZATION}EAK")).await.succeeds((1, 0)).await;
}

#[tokio::test]
async fn the_username_password_flow_sends_the_bare_password_unless_a_token_is_given() {
    Case::of(PASSWORD, trusted()).await.succeeds((0, 1)).await;
    let token = "securityToken: secret:/sf/token\nconnectionOptions: {authentication: password}";
    Case::new(&format!("{PASSWORD}\n{token}")).await.succeeds((0, 1)).await;
}

#[tokio::test]
async fn client_credentials_log_in() {
    Case::new(CLIENT).await.succeeds((0, 1)).await;
}

/// A case whose app knows the key that it signs with.
async fn jwt_case(change: impl FnOnce(&mut Credentials)) -> Case {
    let (private, public) = rsa();
    let mut credentials = Credentials { jwt_certificate: public, ..Credentials::default() };
    change(&mut credentials);
    let mut case = Case::of(JWT, credentials).await;
    case.secret("/sf/key", &private);
    case
}

#[tokio::test]
async fn a_jwt_assertion_logs_in_and_a_new_one_is_made_when_the_session_ends() {
    let case = jwt_case(|_| ()).await;
    case.org.faults().change(|plan| plan.expire_sessions_after = Some(1));
    case.succeeds((0, 2)).await;
}

#[tokio::test]
async fn a_jwt_assertion_of_an_unknown_key_user_or_app_is_rejected_with_what_to_change() {
    let mut case = jwt_case(|_| ()).await;
    case.secret("/sf/key", &rsa().0);
    case.rejected(Reason::AuthFailed, &["invalid_grant", "not the key of the certificate"]).await;
    let case = jwt_case(|app| app.jwt_approved = false).await;
    case.rejected(Reason::AuthFailed, &["invalid_grant", "pre-authorized", "refresh_token, offline_access"]).await;
    let case = jwt_case(|app| app.consumer_key = "another-app".to_owned()).await;
    case.rejected(Reason::AuthFailed, &["invalid_client_id", "consumerKey"]).await;
}

#[tokio::test]
async fn a_private_key_that_is_none_is_named_before_anything_is_sent() {
    let mut case = jwt_case(|_| ()).await;
    case.secret("/sf/key", "not a key");
    let error = case.run().await.0.unwrap_err();
    assert_eq!(error.reason, Reason::SecretMalformed);
    assert!(error.detail.starts_with("connectionArguments.privatekey: secret secret:/sf/key holds no PEM"), "{error}");
    assert_eq!(case.org.requests().total, 0);
}

#[tokio::test]
async fn wrong_credentials_cost_one_request_and_say_what_to_change() {
    let wrong = |path: &'static str, connection: &'static str, credentials: Credentials| async move {
        let mut case = Case::of(connection, credentials).await;
        case.secret(path, "hunter2-hunter2");
        case
    };
    let own = Credentials::default;
    let case = wrong("/sf/password", SOAP, own()).await;
    case.rejected(Reason::AuthFailed, &["INVALID_LOGIN", "security token is wrong", "Login History"]).await;
    let case = Case::new(&ORGANIZATION.replace("00D5g000004XmPl", "00D5g000004XmPm")).await;
    case.rejected(Reason::AuthFailed, &["LOGIN_MUST_USE_SECURITY_TOKEN", "set securityToken"]).await;
    let case = wrong("/sf/password", PASSWORD, trusted()).await;
    case.rejected(Reason::AuthFailed, &["invalid_grant", "Login History"]).await;
    let case = Case::new(PASSWORD).await;
    case.rejected(Reason::AuthFailed, &["invalid_grant", "not trusted", "connectionOptions.authentication"]).await;
    let case = wrong("/sf/secret", CLIENT, own()).await;
    case.rejected(Reason::AuthFailed, &["invalid_client", "consumerKey or consumerSecret is wrong"]).await;
    let off = Credentials { soap_login: false, ..own() };
    Case::of(SOAP, off).await.rejected(Reason::SourceDenied, &["INVALID_OPERATION", "SOAP login is off", "JWT"]).await;
}

#[tokio::test]
async fn the_third_rejected_login_is_not_sent_whichever_source_asks_and_changed_credentials_are() {
    let mut case = Case::new(SOAP).await;
    case.secret("/sf/password", "wrong-password");
    for _ in 0..2 {
        assert!(case.run().await.0.unwrap_err().detail.contains("INVALID_LOGIN"));
    }
    let error = case.run().await.0.unwrap_err();
    assert_eq!(error.reason, Reason::AuthFailed);
    assert!(error.detail.contains("for 15 min") && error.detail.contains("lock"), "{error}");
    assert_eq!(case.logins(), (2, 0), "the third was not sent");
    let right = case.org.credentials().password;
    case.secret("/sf/password", &right);
    case.succeeds((3, 0)).await;
}

/// Others' values, but for one path: its first read, and all after it.
#[derive(Debug)]
struct Rotated {
    others: MemoryStore,
    path: &'static str,
    first: AtomicBool,
    values: [Option<String>; 2],
}

#[async_trait]
impl SecretStore for Rotated {
    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        if path.to_string() != self.path {
            return self.others.read(path).await;
        }
        let [first, later] = &self.values;
        let value = if self.first.swap(false, Ordering::SeqCst) { first } else { later };
        value.clone().map(|value| SecretValue::new(value).into()).ok_or(ReadError::NotFound)
    }
}

#[tokio::test]
async fn a_rejected_login_is_tried_once_more_if_what_was_read_for_it_has_changed() {
    let right = Credentials::default();
    let (password, secret) = (right.password.as_str(), right.consumer_secret.as_str());
    for (connection, path, values, logins) in [
        (SOAP, "/sf/password", [Some("old"), Some(password)], Ok(2)),
        (CLIENT, "/sf/secret", [Some("old"), Some(secret)], Ok(2)),
        (SOAP, "/sf/password", [Some("old"), Some("old")], Err(1)),
        (SOAP, "/sf/password", [Some("old"), Some("older")], Err(2)),
        // What the store says then is not why the login failed.
        (SOAP, "/sf/password", [Some("old"), None], Err(1)),
    ] {
        let case = Case::new(connection).await;
        let owned = values.map(|value| value.map(str::to_owned));
        let store = Rotated { others: case.store(), path, first: AtomicBool::new(true), values: owned };
        let (result, _) = case.run_with(Stores::default().with("memory", store)).await;
        let (soap, token) = case.logins();
        match logins {
            Ok(count) => assert_eq!((result.unwrap().complete, soap + token), (true, count), "{values:?}"),
            Err(count) => {
                assert_eq!((result.unwrap_err().reason, soap + token), (Reason::AuthFailed, count), "{values:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_existing_session_is_used_as_it_is_and_never_renewed() {
    let session = "connectionArguments: {session_id: 'secret:/sf/session', instance_url: 'https://localhost:PORT'}";
    let mut case = Case::new(session).await;
    let session = open_session(&case).await;
    case.connection = case.connection.replace("PORT", &case.org.addr().port().to_string());
    case.secret("/sf/session", &session);
    let refused = case.plan().unwrap_err();
    assert_eq!(refused.reason, Reason::PolicyDenied);
    assert!(refused.field.ends_with("connectionArguments.session_id"), "{refused}");
    assert_eq!(case.logins(), (0, 1), "the one that made the session");

    case.local.definitions_are_local = true;
    case.succeeds((0, 1)).await;
    case.org.expire_sessions();
    let error = case.run().await.0.unwrap_err();
    assert_eq!(error.reason, Reason::AuthFailed);
    assert!(error.detail.contains("cannot be renewed"), "{error}");
    assert_eq!(case.logins(), (0, 1));
}

/// A session of the org, opened by another client.
async fn open_session(case: &Case) -> String {
    let ca = reqwest::Certificate::from_pem(case.org.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let own = case.org.credentials();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &own.consumer_key),
        ("client_secret", &own.consumer_secret),
    ];
    let answer = client.post(format!("{}/services/oauth2/token", case.org.url())).form(&form).send().await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    body.get("access_token").and_then(serde_json::Value::as_str).unwrap().to_owned()
}

/// An authority for client certificates, and a certificate with its key that it signed.
fn client_certificate() -> (String, String, String) {
    let authority_key = CertificateKey::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key).unwrap().pem();
    let key = CertificateKey::generate().unwrap();
    let mut client = CertificateParams::new(Vec::new()).unwrap();
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = client.signed_by(&key, &Issuer::from_params(&authority, &authority_key)).unwrap();
    (ca, certificate.pem(), key.serialize_pem())
}

const CERTIFICATE: &str = "\nsslConfig: {sslCertificate: 'secret:/sf/certificate', ssl_key: 'secret:/sf/key'}";

#[tokio::test]
async fn an_org_that_demands_a_client_certificate_is_shown_the_one_of_a_local_definition() {
    let (ca, certificate, key) = client_certificate();
    let server = ServerConfig { client_ca: Some(ca), ..ServerConfig::default() };
    let mut case = Case::with(&format!("{CLIENT}{CERTIFICATE}"), Credentials::default(), server).await;
    case.secret("/sf/certificate", &certificate);
    case.secret("/sf/key", &key);
    let (result, sink) = case.run().await;
    let error = result.unwrap_err();
    assert!(error.detail.contains("client certificate"), "it does not count in a definition from elsewhere");
    let named: Vec<_> = sink.notices.iter().filter(|notice| notice.code == "option_without_effect").collect();
    assert_eq!(named.len(), 2, "{named:?}");
    assert_eq!(case.org.requests().total, 0);

    case.local.definitions_are_local = true;
    case.succeeds((0, 1)).await;
    let (_, other, other_key) = client_certificate();
    case.secret("/sf/certificate", &other);
    case.secret("/sf/key", &other_key);
    let error = case.run().await.0.unwrap_err();
    assert!(error.detail.contains("does not accept the one that it was shown"), "{error}");
    case.secret("/sf/key", &key);
    let error = case.run().await.0.unwrap_err();
    assert_eq!(error.reason, Reason::SecretMalformed);
    assert!(error.detail.contains("belong together"), "{error}");
    case.secret("/sf/key", "no key");
    let error = case.run().await.0.unwrap_err();
    assert_eq!(error.reason, Reason::SecretMalformed);
    assert!(error.detail.contains("sslConfig.sslKey: secret secret:/sf/key holds no PEM private key"), "{error}");
}

const DEFAULT_HOST: &str = "username: integration@example.com
password: secret:/sf/password
securityToken: secret:/sf/token
sslConfig: {caCertificate: 'secret:/sf/ca'}";

/// Salesforce's own login host, through a proxy that inspects TLS and asks for a user.
async fn behind_a_proxy(username: &str) -> Case {
    let credentials = Some(("agent".to_owned(), "proxy-password".to_owned()));
    let server = ServerConfig { proxy_credentials: credentials, ..ServerConfig::default() };
    let mut case = Case::with(DEFAULT_HOST, Credentials::default(), server).await;
    case.secret("/proxy/password", "proxy-password");
    let password = "secret:/proxy/password".parse().unwrap();
    let proxy = Proxy::new(&case.org.proxy_url(), Some((username.to_owned(), password))).unwrap();
    case.local.proxy = Some(proxy);
    case.local.definitions_are_local = true;
    case
}

#[tokio::test]
async fn the_default_host_is_read_through_a_proxy_with_credentials_that_inspects_tls() {
    let case = behind_a_proxy("agent").await;
    case.succeeds((1, 0)).await;
    let requests = case.org.requests();
    assert!(requests.tunnels > 0 && requests.tunnels_refused == 0, "{requests:?}");
    let hosts: Vec<_> = case.org.log().into_iter().map(|request| request.host).collect();
    assert_eq!(hosts.first().map(String::as_str), Some("login.salesforce.com"), "{hosts:?}");
    assert!(hosts.iter().skip(1).all(|host| host == "example-org.my.salesforce.com"), "{hosts:?}");
}

#[tokio::test]
async fn a_proxy_that_rejects_the_agent_is_asked_once_and_named() {
    let case = behind_a_proxy("somebody").await;
    let error = case.run().await.0.unwrap_err();
    assert_eq!(error.reason, Reason::SourceUnreachable);
    assert!(
        error.detail.contains("proxy asks for a user name") && error.detail.contains("salesforce.proxy"),
        "{error}"
    );
    let requests = case.org.requests();
    assert_eq!((requests.total, requests.tunnels, requests.tunnels_refused), (0, 0, 1));
}

#[tokio::test]
async fn an_authority_that_is_no_certificate_ends_the_run_before_anything_is_sent() {
    let mut case = behind_a_proxy("agent").await;
    case.secret("/sf/ca", "no certificate");
    let error = case.run().await.0.unwrap_err();
    assert_eq!(error.reason, Reason::SecretMalformed);
    assert!(error.detail.contains("sslConfig.caCertificate: secret secret:/sf/ca holds no PEM certificate"), "{error}");
    let requests = case.org.requests();
    assert_eq!((requests.total, requests.tunnels), (0, 0));
}

#[tokio::test]
async fn without_its_authority_a_proxy_that_inspects_tls_is_not_trusted() {
    let mut case = behind_a_proxy("agent").await;
    case.connection = case.connection.replace("sslConfig: {caCertificate: 'secret:/sf/ca'}", "");
    let error = case.run().await.0.unwrap_err();
    assert!(error.detail.contains("is not trusted") && error.detail.contains("sslConfig.caCertificate"), "{error}");
    assert_eq!(case.org.requests().total, 0);
}
