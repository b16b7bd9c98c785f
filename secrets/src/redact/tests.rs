use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::{REMEMBERED, Redactor};
use crate::SecretValue;

/// Each encoding writes it differently.
const PASSWORD: &str = "pWq7Zk2Lx9Vb4<&>\"'/\\+ %=é~;#?";

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.to_owned())
}

fn replaced(redactor: &Redactor, text: &str) -> String {
    redactor.replace_text(text.to_owned())
}

/// A text with the value in it, by other means than the redactor's where there are any.
fn leaks() -> Vec<String> {
    let json = serde_json::json!({ "detail": PASSWORD }).to_string();
    let mut url = url("https://localhost/");
    url.set_query(Some(PASSWORD));
    let query = url.query().unwrap().to_owned();
    url.query_pairs_mut().clear().append_pair("q", PASSWORD);
    let form = url.query().unwrap().to_owned();
    let hex: String = PASSWORD.bytes().map(|byte| format!("{byte:02x}")).collect();
    let xml = PASSWORD.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    vec![
        PASSWORD.to_owned(),
        hex.to_uppercase(),
        hex,
        STANDARD.encode(PASSWORD),
        STANDARD.encode(format!("u:{PASSWORD}")),
        STANDARD.encode(format!("u:{PASSWORD}!and more")),
        STANDARD.encode(format!("user:{PASSWORD}")),
        URL_SAFE.encode(format!("us:{PASSWORD}??")),
        form.replace('+', "%20"),
        query,
        form,
        xml.replace('"', "&quot;").replace('\'', "&apos;"),
        xml.replace('"', "&quot;").replace('\'', "&#39;"),
        xml,
        json.replace('é', "\\u00e9"),
        json.replace('/', "\\/"),
        json.replace('<', "\\u003c").replace('&', "\\u0026").replace('>', "\\u003e").replace('\'', "\\u0027"),
        serde_json::json!({ "body": json }).to_string(),
        json,
        format!("{:?}", Some(PASSWORD)),
        format!("{:?}", PASSWORD.as_bytes()),
        PASSWORD.as_bytes().escape_ascii().to_string(),
    ]
}

fn url(text: &str) -> reqwest::Url {
    reqwest::Url::parse(text).unwrap()
}

#[test]
fn a_value_is_replaced_in_each_encoding() {
    let redactor = Redactor::default();
    let _held = redactor.watch(value(PASSWORD));
    for (index, leak) in leaks().into_iter().enumerate() {
        let text = format!("INFO something: {leak} (went on)");
        assert!(redactor.scan(text.as_bytes()), "{text}");
        let clean = replaced(&redactor, &text);
        assert!(clean.starts_with("INFO something: ") && clean.ends_with(" (went on)"), "{clean}");
        assert!(clean.contains(Redactor::REPLACEMENT) && !redactor.scan(clean.as_bytes()), "{clean}");
        assert!(!clean.contains("Zk2Lx9"), "{clean}");
        // Two looks found it, the third, at the clean text, did not.
        assert_eq!(redactor.hits(), 2 * (u64::try_from(index).unwrap() + 1));
    }
    let kept = "password: secret:/salesforce/password";
    assert_eq!(replaced(&redactor, kept), kept);
}

#[test]
fn a_value_that_is_gone_is_still_recognised_until_many_others_came() {
    let redactor = Redactor::default();
    drop(redactor.watch(value(PASSWORD)));
    assert!(redactor.scan(PASSWORD.as_bytes()));
    let held = redactor.watch(value("a session that lasts"));
    for other in 0..REMEMBERED {
        assert!(redactor.scan(PASSWORD.as_bytes()), "{other}");
        drop(redactor.watch(value(&format!("another password {other}"))));
    }
    assert!(!redactor.scan(PASSWORD.as_bytes()));
    assert!(redactor.scan(held.expose().as_bytes()), "what is held is never forgotten");
}

#[test]
fn a_value_held_twice_is_held_until_both_are_gone() {
    let redactor = Redactor::default();
    let (one, other) = (redactor.watch(value(PASSWORD)), redactor.watch(value(PASSWORD)));
    drop(one);
    for turn in 0..=REMEMBERED {
        drop(redactor.watch(value(&format!("another password {turn}"))));
    }
    assert!(redactor.scan(PASSWORD.as_bytes()));
    drop(other);
}

#[test]
fn a_short_value_is_not_searched() {
    let redactor = Redactor::default();
    let _held = [redactor.watch(value("1234567")), redactor.watch(value(""))];
    assert!(!redactor.scan(b"1234567 and nothing"));
    let _longer = redactor.watch(value("12345678"));
    assert!(redactor.scan(b"12345678"));
}

#[test]
fn a_private_key_is_searched_by_its_lines_and_a_certificate_is_not() {
    let redactor = Redactor::default();
    let lines = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"];
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----\n", lines[0], lines[1]);
    let certificate = pem.replace("PRIVATE KEY", "CERTIFICATE").replace("MII", "CERT").replace("BKc", "IFIC");
    let _held = redactor.watch(value(&format!("{certificate}{pem}")));
    for shown in [pem.replace('\n', "\\n"), pem.replace('\n', "\\\\n"), pem.replace('\n', ""), format!("{pem:?}")] {
        let clean = replaced(&redactor, &shown);
        assert!(lines.iter().all(|line| !clean.contains(line)), "{clean}");
        assert!(clean.contains("-----BEGIN PRIVATE KEY-----"), "{clean}");
    }
    assert!(!redactor.scan(certificate.as_bytes()));
}

#[test]
fn values_that_overlap_are_replaced_as_one() {
    let redactor = Redactor::default();
    let _held =
        [redactor.watch(value("alpha beta")), redactor.watch(value("beta gamma")), redactor.watch(value("beta gam"))];
    assert_eq!(replaced(&redactor, "an alpha beta gamma and a beta gamma"), "an [redacted] and a [redacted]");
}

#[test]
fn without_values_nothing_is_looked_at() {
    let redactor = Redactor::default();
    assert!(!redactor.scan(PASSWORD.as_bytes()));
    assert!(matches!(redactor.replace(PASSWORD.as_bytes()), std::borrow::Cow::Borrowed(_)));
}

proptest! {
    #[test]
    fn a_value_is_found_wherever_it_stands(before in any::<Vec<u8>>(), text in "\\PC{8,40}", after in any::<Vec<u8>>()) {
        let redactor = Redactor::default();
        let _held = [redactor.watch(value(&text)), redactor.watch(value(PASSWORD))];
        let whole = [before.as_slice(), text.as_bytes(), after.as_slice()].concat();
        prop_assert!(redactor.scan(&whole));
        let clean = redactor.replace(&whole);
        prop_assert!(!redactor.scan(&clean) || redactor.scan(&before) || redactor.scan(&after));
    }

    #[test]
    fn what_holds_no_value_is_left_as_it_is(bytes in any::<Vec<u8>>()) {
        let redactor = Redactor::default();
        let _held = redactor.watch(value(PASSWORD));
        let replaced = redactor.replace(&bytes);
        prop_assert_eq!(replaced.as_ref(), bytes.as_slice());
    }
}
