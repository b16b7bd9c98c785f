//! The assertion of the JWT bearer flow, checked as Salesforce does.

use anyhow::{Context as _, bail};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;

use crate::org::Credentials;

/// The farthest end of an assertion that is accepted, in seconds.
const LONGEST: i64 = 300;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: Seconds,
}

/// Seconds as a number, or as text: simple-salesforce sends `exp` in quotes, and Salesforce takes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(i64),
    Text(String),
}

/// Checks an assertion that came to `host`; otherwise the error and its description.
pub(super) fn check(own: &Credentials, host: &str, assertion: &str) -> Result<(), (&'static str, &'static str)> {
    let invalid = ("invalid_grant", "invalid assertion");
    let (signed, signature) = assertion.rsplit_once('.').ok_or(invalid)?;
    let (header, claims) = signed.split_once('.').ok_or(invalid)?;
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_not_base64| invalid);
    let header: serde_json::Value = serde_json::from_slice(&part(header)?).map_err(|_no_json| invalid)?;
    let claims: Claims = serde_json::from_slice(&part(claims)?).map_err(|_no_claims| invalid)?;
    if claims.iss != own.consumer_key {
        return Err(("invalid_client_id", "client identifier invalid"));
    }
    let key = public_key(&own.jwt_certificate).map_err(|_no_key| invalid)?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
    if header.get("alg").and_then(serde_json::Value::as_str) != Some("RS256")
        || key.verify(signed.as_bytes(), &part(signature)?).is_err()
    {
        return Err(invalid);
    }
    let audiences = ["https://login.salesforce.com", "https://test.salesforce.com"];
    if !audiences.contains(&claims.aud.as_str()) && claims.aud.strip_prefix("https://") != Some(host) {
        return Err(("invalid_grant", "audience is invalid"));
    }
    let end = match claims.exp {
        Seconds::Number(seconds) => seconds,
        Seconds::Text(seconds) => seconds.parse().map_err(|_no_number| invalid)?,
    };
    let left = end.saturating_sub(Timestamp::now().as_second());
    if !(1..=LONGEST).contains(&left) {
        return Err(("invalid_grant", "expired assertion"));
    }
    if claims.sub != own.username || !own.jwt_approved {
        return Err(("invalid_grant", "user hasn't approved this consumer"));
    }
    Ok(())
}

/// The key in a PEM certificate, or in a PEM public key.
fn public_key(pem: &str) -> anyhow::Result<Vec<u8>> {
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()) {
        return Ok(key.to_vec());
    }
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).context("neither certificate nor public key")?;
    let (rest, certificate) = x509_parser::parse_x509_certificate(&certificate).context("a damaged certificate")?;
    if !rest.is_empty() {
        bail!("something stands behind the certificate");
    }
    Ok(certificate.public_key().raw.to_vec())
}
