//! Logins beside SOAP with a token and client credentials, and what the server demands of its clients.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use sandbox::{Credentials, Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::Client;

async fn start(credentials: Credentials) -> anyhow::Result<SandboxHandle> {
    let config = OrgConfig { objects: 3, credentials, ..OrgConfig::default() };
    Sandbox::start(Org::generate(&config), ServerConfig::default()).await
}

async fn token(sandbox: &SandboxHandle, form: &[(&str, &str)]) -> anyhow::Result<(u16, Value)> {
    let client = Client::new(sandbox)?;
    let answer = client.http.post(format!("{}/services/oauth2/token", sandbox.url())).form(form).send().await?;
    Ok((answer.status().as_u16(), serde_json::from_str(&answer.text().await?)?))
}

fn signed(key: &KeyPair, header: &Value, claims: &Value) -> anyhow::Result<String> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[tokio::test]
async fn an_assertion_is_checked_in_every_claim_and_by_its_signature() -> anyhow::Result<()> {
    let key = KeyPair::generate(KeySize::Rsa2048)?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der()?;
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(public.as_ref()));
    let sandbox = start(Credentials { jwt_certificate: pem, ..Credentials::default() }).await?;
    let (own, now) = (sandbox.credentials(), Timestamp::now().as_second());
    let good =
        json!({"iss": own.consumer_key, "sub": own.username, "aud": "https://test.salesforce.com", "exp": now + 180});
    let rs256 = json!({"alg": "RS256"});
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        signed(&key, &rs256, &claims)
    };
    let tampered = with("exp", json!(now + 180))?.replacen("eyJ", "eyK", 1);
    for (assertion, answer) in [
        (with("aud", json!("https://login.salesforce.com"))?, "granted"),
        (with("aud", json!(sandbox.url()))?, "granted"),
        (with("aud", json!("https://acme.my.salesforce.com"))?, "audience is invalid"),
        (with("iss", json!("another"))?, "client identifier invalid"),
        (with("sub", json!("bob@example.com"))?, "user hasn't approved this consumer"),
        (with("exp", json!(now - 1))?, "expired assertion"),
        (with("exp", json!(now + 3600))?, "expired assertion"),
        (signed(&KeyPair::generate(KeySize::Rsa2048)?, &rs256, &good)?, "invalid assertion"),
        (signed(&key, &json!({"alg": "none"}), &good)?, "invalid assertion"),
        (tampered, "invalid assertion"),
        (String::new(), "invalid assertion"),
    ] {
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
        let (status, body) = token(&sandbox, &form).await?;
        let said = body["error_description"].as_str().unwrap_or("granted");
        assert_eq!((said, status), (answer, if answer == "granted" { 200 } else { 400 }), "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bare_password_will_do_from_a_trusted_address_only() -> anyhow::Result<()> {
    for trusted_address in [false, true] {
        let sandbox = start(Credentials { trusted_address, ..Credentials::default() }).await?;
        let own = sandbox.credentials();
        let form = [
            ("grant_type", "password"),
            ("client_id", &own.consumer_key),
            ("client_secret", &own.consumer_secret),
            ("username", &own.username),
            ("password", &own.password),
        ];
        assert_eq!(token(&sandbox, &form).await?.0, if trusted_address { 200 } else { 400 });
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_with_credentials_opens_a_tunnel_for_those_who_have_them() -> anyhow::Result<()> {
    let credentials = Some(("agent".to_owned(), "secret".to_owned()));
    let server = ServerConfig { proxy_credentials: credentials, ..ServerConfig::default() };
    let sandbox = Sandbox::start(Org::generate(&OrgConfig { objects: 3, ..OrgConfig::default() }), server).await?;
    let basic = |text: &str| format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(text));
    for (header, status) in
        [(String::new(), "407"), (basic("agent:wrong"), "407"), (basic("agent:secret").to_lowercase(), "407")]
    {
        assert_eq!(connect(&sandbox, &header).await?, status, "{header}");
    }
    assert_eq!(connect(&sandbox, &basic("agent:secret")).await?, "200");
    assert_eq!((sandbox.requests().tunnels, sandbox.requests().tunnels_refused), (1, 3));
    Ok(())
}

/// The status that `CONNECT` with this header is answered with.
async fn connect(sandbox: &SandboxHandle, header: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(sandbox.addr()).await?;
    let head = format!("CONNECT login.salesforce.com:443 HTTP/1.1\r\n{header}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[9..]).into_owned())
}
