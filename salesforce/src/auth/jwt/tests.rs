use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

use super::*;

/// PKCS#8 puts 26 bytes before the PKCS#1 form of a key of this size.
const PKCS8_HEAD: usize = 26;

fn pem(label: &str, der: &[u8], end: &str) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----{end}{}{end}-----END {label}-----{end}", lines.join(end))
}

fn claims(key: &str) -> Result<Zeroizing<String>, JwtError> {
    let now = Duration::from_secs(1_777_866_414);
    assertion(key, "key \"quoted\"", "ana@example.com", "https://login.salesforce.com", now)
}

#[test]
fn an_assertion_is_signed_by_the_key_in_every_form_that_it_is_stored_in() {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let (pkcs8, pkcs1) = (der.as_ref(), &der.as_ref()[PKCS8_HEAD..]);
    let usual = pem("PRIVATE KEY", pkcs8, "\n");
    let certificate = pem("CERTIFICATE", b"certificate", "\n");
    for stored in [
        usual.clone(),
        pem("RSA PRIVATE KEY", pkcs1, "\n"),
        pem("PRIVATE KEY", pkcs8, "\r\n"),
        pem("PRIVATE KEY", pkcs8, "\\n"),
        pem("RSA PRIVATE KEY", pkcs1, " "),
        pem("PRIVATE KEY", pkcs8, ""),
        format!("{certificate}{usual}"),
        STANDARD.encode(&usual),
        format!("{}\n", STANDARD.encode(pem("PRIVATE KEY", pkcs8, "\\n"))),
    ] {
        let assertion = claims(&stored).unwrap_or_else(|problem| panic!("{problem}"));
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let parts: Vec<Value> = signed
            .split('.')
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        let expected = json!({"iss": "key \"quoted\"", "sub": "ana@example.com",
            "aud": "https://login.salesforce.com", "exp": 1_777_866_594});
        assert_eq!(parts, [json!({"alg": "RS256"}), expected]);
    }
}

#[test]
fn what_is_no_usable_key_is_refused_by_kind() {
    let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----";
    for (stored, problem) in [
        (String::new(), JwtError::NoKey),
        ("hunter2".to_owned(), JwtError::NoKey),
        (pem("CERTIFICATE", b"x", "\n"), JwtError::NoKey),
        ("-----BEGIN PRIVATE KEY-----\nAAAA".to_owned(), JwtError::NoKey),
        (elliptic, JwtError::NotRsa),
        (pem("EC PRIVATE KEY", b"x", "\n"), JwtError::NotRsa),
        (pem("PRIVATE KEY", b"damaged", "\n"), JwtError::NotRsa),
        ("-----BEGIN PRIVATE KEY-----\n###\n-----END PRIVATE KEY-----".to_owned(), JwtError::NotRsa),
        (pem("ENCRYPTED PRIVATE KEY", b"x", "\n"), JwtError::Encrypted),
        (legacy.to_owned(), JwtError::Encrypted),
    ] {
        assert_eq!(claims(&stored).err(), Some(problem), "{stored}");
    }
}
