//! The assertion of the OAuth JWT bearer flow: who asks for whom, signed with the key whose certificate the app has.
//!
//! The key's text and its decoded form are zeroed here; the parsed key is AWS-LC's, which cleanses what it frees.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use zeroize::Zeroizing;

/// How long an assertion is good for. Salesforce takes at most 5 minutes; less would leave clocks that differ no room.
const LIFETIME: Duration = Duration::from_secs(180);

/// Why there is no assertion. The texts hold nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwtError {
    #[error("holds no PEM private key; store the key with its lines `-----BEGIN PRIVATE KEY-----` and `-----END …`")]
    NoKey,
    #[error("holds a key that is encrypted; store it without a passphrase (openssl pkey -in key.pem -out plain.pem)")]
    Encrypted,
    #[error("holds a key that is damaged or no RSA key of 2048 to 8192 bits; Salesforce takes RS256 only")]
    NotRsa,
    #[error("holds a key that does not sign")]
    Signing,
}

/// The assertion for a user and an app at an audience. `now` is the time since 1970.
pub(super) fn assertion(
    key: &str,
    consumer_key: &str,
    username: &str,
    audience: &str,
    now: Duration,
) -> Result<Zeroizing<String>, JwtError> {
    let key = private_key(key)?;
    let claims = json!({"iss": consumer_key, "sub": username, "aud": audience, "exp": (now + LIFETIME).as_secs()});
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let signed = format!("{}.{}", encode(br#"{"alg":"RS256"}"#), encode(claims.to_string().as_bytes()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_unspecified| JwtError::Signing)?;
    // Good for as long as a password until it expires.
    let signature = encode(&signature);
    let mut assertion = Zeroizing::new(String::with_capacity(signed.len() + 1 + signature.len()));
    assertion.push_str(&signed);
    assertion.push('.');
    assertion.push_str(&signature);
    Ok(assertion)
}

/// The RSA key in a PEM text: PKCS#8 or PKCS#1, its lines as they are, or run together as variables and forms make them
/// (`\n` for a line end, blanks, none at all); or such a text in base64 as a whole.
fn private_key(text: &str) -> Result<KeyPair, JwtError> {
    if text.contains("-----BEGIN ") {
        return key_in(text);
    }
    let wrapped = decode(text)?;
    str::from_utf8(&wrapped).map_err(|_invalid| JwtError::NoKey).and_then(key_in)
}

fn key_in(text: &str) -> Result<KeyPair, JwtError> {
    for section in text.split("-----BEGIN ").skip(1) {
        let Some((label, rest)) = section.split_once("-----") else { continue };
        let Some((body, _)) = rest.split_once("-----END ") else { continue };
        let parse = match label {
            "PRIVATE KEY" => KeyPair::from_pkcs8,
            "RSA PRIVATE KEY" => KeyPair::from_der,
            "ENCRYPTED PRIVATE KEY" => return Err(JwtError::Encrypted),
            "EC PRIVATE KEY" => return Err(JwtError::NotRsa),
            _ => continue,
        };
        // PKCS#1's way to say it.
        if body.contains("ENCRYPTED") {
            return Err(JwtError::Encrypted);
        }
        let der = decode(body).map_err(|_no_base64| JwtError::NotRsa)?;
        return parse(&der).map_err(|_rejected| JwtError::NotRsa);
    }
    Err(JwtError::NoKey)
}

/// Base64, whatever stands between its characters for line ends.
fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, JwtError> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    for piece in text.split("\\n").flat_map(|line| line.split("\\r")).flat_map(str::split_whitespace) {
        plain.push_str(piece);
    }
    // Room for everything: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(plain.len()));
    STANDARD.decode_vec(plain.as_bytes(), &mut bytes).map_err(|_invalid| JwtError::NoKey)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
