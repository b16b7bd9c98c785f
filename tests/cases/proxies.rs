//! `hybrid-runner extract` behind a proxy that asks for credentials and inspects TLS: Salesforce's own hosts, nothing
//! changed in the workflow but the proxy's authority where the system does not know it.

use hybrid_runner_tests::extraction::{Extraction, SOAP, soap_at_localhost};
use hybrid_runner_tests::install_crypto;
use hybrid_runner_tests::processes::{Output, output};
use sandbox::{Org, OrgConfig, Sandbox, ServerConfig};
use tempfile::TempDir;
use tokio::process::Command;

const USER: &str = "agent";
const PASSWORD: &str = "pRx4Kq9Zt7Wm";

/// An org behind a proxy with credentials; the proxy's authority stands in the workflow.
async fn behind_a_proxy() -> Extraction {
    install_crypto();
    let org = Org::new(&OrgConfig { objects: 10, ..OrgConfig::default() }).unwrap();
    let server =
        ServerConfig { proxy_credentials: Some((USER.to_owned(), PASSWORD.to_owned())), ..ServerConfig::default() };
    let one = Extraction { dir: TempDir::new().unwrap(), org: Sandbox::start(org, server).await.unwrap() };
    let login = one.org.credentials();
    one.secret("password", &login.password);
    one.secret("token", &login.security_token);
    one.secret("proxy", PASSWORD);
    one.write("ca.pem", one.org.ca_pem());
    let indented: String = one.org.ca_pem().lines().map(|line| format!("    {line}\n")).collect();
    one.workflow(&format!("{SOAP}sslConfig:\n  caCertificate: |\n{indented}"), "");
    one
}

/// Lists the proxy in the configuration.
fn configure(one: &Extraction, username: &str) {
    let (url, port) = (one.org.proxy_url(), one.org.addr().port());
    let proxy = format!("{{url: '{url}', username: {username}, password: 'secret:/salesforce/proxy'}}");
    let hosts = format!("[{{host: localhost, port: {port}, ca: ca.pem}}]");
    one.write("config.yaml", &format!("salesforce:\n  proxy: {proxy}\n  hosts: {hosts}\n"));
}

/// Everything that a program could say.
async fn traced(mut command: Command) -> Output {
    command.env("HYBRID_RUNNER_LOG__LEVEL", "trace").env("RUST_BACKTRACE", "full");
    let output = output(command).await;
    assert!(!format!("{output:?}").contains(PASSWORD), "{output:?}");
    output
}

#[tokio::test]
async fn the_password_of_a_configured_proxy_is_a_secret() {
    let one = behind_a_proxy().await;
    configure(&one, USER);
    let output = traced(one.command()).await;
    assert_eq!(output.code(), 0, "{output:?}");
    let requests = one.org.requests();
    assert!(requests.tunnels > 0 && requests.tunnels_refused == 0, "{requests:?}");
    assert_eq!(one.org.log().first().unwrap().host, "login.salesforce.com");
}

#[tokio::test]
async fn the_credentials_in_https_proxy_are_used_and_not_shown() {
    let one = behind_a_proxy().await;
    let mut command = one.to_file();
    command.env("HTTPS_PROXY", format!("http://{USER}:{PASSWORD}@{}", one.org.addr()));
    let output = traced(command).await;
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(one.org.requests().tunnels > 0);
}

#[tokio::test]
async fn a_proxy_that_rejects_its_credentials_is_named_and_asked_once() {
    let one = behind_a_proxy().await;
    configure(&one, "somebody");
    let output = traced(one.command()).await;
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains("check username and password of salesforce.proxy"), "{output:?}");
    let requests = one.org.requests();
    assert_eq!((requests.total, requests.tunnels, requests.tunnels_refused), (0, 0, 1), "{output:?}");
}

#[tokio::test]
async fn hosts_of_no_proxy_are_reached_past_a_configured_proxy() {
    let one = behind_a_proxy().await;
    configure(&one, USER);
    one.workflow(&soap_at_localhost(), "");
    let mut command = one.command();
    command.env("NO_PROXY", "localhost");
    let output = traced(command).await;
    assert_eq!(output.code(), 0, "{output:?}");
    let requests = one.org.requests();
    assert_eq!((requests.tunnels, requests.tunnels_refused), (0, 0), "{requests:?}");
}
