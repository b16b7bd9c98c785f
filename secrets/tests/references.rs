//! The grammar of references: what is in it, and that nothing else is.

use hybrid_runner_secrets::{MalformedReference, SecretRef};
use proptest::prelude::*;

#[test]
fn references_of_the_grammar_are_read() {
    let longest = "a".repeat(128);
    for (text, store, segments, key) in [
        ("secret:/a", None, &["a"][..], None),
        ("secret:/a/b", None, &["a", "b"], None),
        ("secret:/a#k", None, &["a"], Some("k")),
        ("secret://vault/a/b#k", Some("vault"), &["a", "b"], Some("k")),
        ("secret://a/b", Some("a"), &["b"], None),
        ("secret:/A-Z_0.9@x+y=z/...", None, &["A-Z_0.9@x+y=z", "..."], None),
        ("secret:/..data/.hidden", None, &["..data", ".hidden"], None),
        ("secret:/secret", None, &["secret"], None),
        ("secret:/a#a.b", None, &["a"], Some("a.b")),
        (&format!("secret:/{longest}#{longest}"), None, &[&longest], Some(&longest)),
    ] {
        let reference: SecretRef = text.parse().unwrap();
        assert_eq!(reference.store(), store, "{text}");
        assert_eq!(reference.path().segments(), segments, "{text}");
        assert_eq!(reference.path().key(), key, "{text}");
        assert_eq!(reference.to_string(), text);
    }
}

#[test]
fn a_literal_is_told_from_a_malformed_reference() {
    for literal in [
        "",
        "hunter2",
        " secret:/a",
        "Secret:/a",
        "SECRET:/a",
        "secret",
        "secret /a",
        "/a",
        "\u{feff}secret:/a",
        "vault:/a",
    ] {
        assert_eq!(literal.parse::<SecretRef>(), Err(MalformedReference::Literal), "{literal:?}");
    }
}

/// Begins like a reference and is none.
const REFUSED: [&str; 108] = [
    // No path, or an empty part.
    "secret:",
    "secret:a",
    "secret:a/b",
    "secret:/",
    "secret://",
    "secret:///",
    "secret:///a",
    "secret:////a",
    "secret:/a/",
    "secret:/a//b",
    "secret:/a//",
    "secret://a",
    "secret://a/",
    "secret://a//",
    "secret://a//b",
    "secret://a/b/",
    "secret:#k",
    "secret:/#k",
    "secret:/a/#k",
    "secret://#k",
    "secret://a#k",
    "secret://a/#k",
    "secret:/a#",
    "secret:/a##",
    "secret:/a#k#",
    "secret:/a#k#l",
    "secret:/a##k",
    // Dots.
    "secret:/.",
    "secret:/..",
    "secret:/./a",
    "secret:/../a",
    "secret:/a/.",
    "secret:/a/..",
    "secret:/a/./b",
    "secret:/a/../b",
    "secret:/../../sys/policies",
    "secret:/../../../etc/passwd",
    "secret://./a",
    "secret://../a",
    "secret://vault/../a",
    "secret://vault/a/..",
    "secret:/a#.",
    "secret:/a#..",
    "secret:/a#../b",
    // Percent signs are not decoded.
    "secret:/%2e%2e/a",
    "secret:/%2E%2E",
    "secret:/a%2fb",
    "secret:/a%2Fb",
    "secret:/a%00",
    "secret:/%",
    "secret:/a%20b",
    "secret:/%252e%252e",
    "secret:/a#%6b",
    // Queries, versions, selectors.
    "secret:/a?version=1",
    "secret:/a?version=../",
    "secret:/a?",
    "secret:/a#k?version=1",
    "secret:/a;v=1",
    "secret:/a:1",
    "secret:/a#k:1",
    "secret:/a#k/l",
    "secret:/a#/k",
    "secret:/a#$.k",
    "secret:/a#k[0]",
    "secret:/a#*",
    "secret:/*",
    "secret:/a*",
    "secret:/[a]",
    "secret:/{a}",
    "secret:/${HOME}",
    "secret:/$HOME",
    "secret:/~",
    "secret:/a,b",
    "secret:/a|b",
    "secret:/a&b",
    "secret:/a!",
    "secret:/a\"b",
    "secret:/'a'",
    "secret:/`a`",
    "secret:/(a)",
    "secret:/<a>",
    "secret:/a^",
    // Other schemes, hosts, accounts.
    "secret:secret:/a",
    "secret:/secret:/a",
    "secret://https://example.com/a",
    "secret:https://example.com/a",
    "secret://user:pass@host/a",
    "secret://host:8200/a",
    "secret:/arn:aws:secretsmanager:eu-west-1:123456789012:secret:a",
    "secret:arn:aws:secretsmanager:eu-west-1:123456789012:secret:a",
    "secret://[::1]/a",
    "secret:\\a",
    "secret:/a\\b",
    "secret:/..\\a",
    "secret:\\\\host\\a",
    // White space and control characters.
    "secret:/a ",
    "secret: /a",
    "secret:/ a",
    "secret:/a b",
    "secret:/a\n",
    "secret:/a\r\n",
    "secret:/a\tb",
    "secret:/a\0",
    "secret:/a\x7f",
    "secret:/a#k ",
    "secret:/a# k",
    "secret:/a\u{a0}",
    "secret://a b/c",
];

/// Letters, dots and slashes that look like those of the grammar.
const LOOKALIKES: [char; 16] = [
    'é', 'а', '．', '／', '․', '…', '∕', '⁄', '＃', 'ａ', '\u{200b}', '\u{202e}', '\u{feff}', '\u{301}', '٣',
    '\u{ffff}',
];

#[test]
fn what_is_outside_the_grammar_is_refused() {
    let longest = "a".repeat(128);
    let long = [
        format!("secret:/{longest}a"),
        format!("secret:/a#{longest}a"),
        format!("secret://{longest}a/b"),
        format!("secret:{}", format!("/{longest}").repeat(4)),
        format!("secret:/{}", "a/".repeat(300) + "a"),
        format!("secret:/{}", "a".repeat(1 << 20)),
        format!("secret:{}", "/".repeat(1 << 20)),
    ];
    let lookalikes = LOOKALIKES.iter().flat_map(|char| {
        [
            format!("secret:/a{char}"),
            format!("secret:/{char}/b"),
            format!("secret://{char}/b"),
            format!("secret:/a#{char}"),
        ]
    });
    for text in REFUSED.into_iter().map(str::to_owned).chain(long).chain(lookalikes) {
        let refused = matches!(text.parse::<SecretRef>(), Err(MalformedReference::Grammar(_)));
        assert!(refused, "{:?}", text.get(..80).unwrap_or(&text));
    }
}

#[test]
fn a_reference_has_at_most_512_bytes() {
    let fill = |length: usize| format!("secret:/a/{}/{}", "b".repeat(128), "c/".repeat((length - 140) / 2) + "d");
    let longest = fill(512);
    assert_eq!((longest.len(), longest.parse::<SecretRef>().is_ok()), (512, true));
    assert!(format!("{longest}e").parse::<SecretRef>().is_err());
}

#[test]
fn an_error_does_not_repeat_the_text() {
    for text in ["hunter2", "secret:/hunter2/../x", "secret:hunter2"] {
        let error = text.parse::<SecretRef>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[test]
fn a_reference_is_read_from_a_string_only() {
    fn read(value: serde::de::value::StrDeserializer<'_, serde::de::value::Error>) -> Result<SecretRef, String> {
        serde::Deserialize::deserialize(value).map_err(|error: serde::de::value::Error| error.to_string())
    }
    use serde::de::IntoDeserializer;
    assert_eq!(read("secret:/a".into_deserializer()).unwrap().to_string(), "secret:/a");
    assert!(read("hunter2".into_deserializer()).unwrap_err().starts_with("is a literal value"));
}

/// The grammar once more, as a regular expression.
const GRAMMAR: &str = "secret:(//[A-Za-z0-9_.@+=-]{1,20})?(/[A-Za-z0-9_.@+=-]{1,20}){1,6}(#[A-Za-z0-9_.@+=-]{1,20})?";

proptest! {
    #[test]
    fn a_reference_prints_as_it_was_written(text in GRAMMAR) {
        let dots = text.split(['/', '#']).any(|word| word == "." || word == "..");
        match text.parse::<SecretRef>() {
            Ok(reference) => {
                prop_assert!(!dots);
                prop_assert_eq!(reference.to_string(), text);
            }
            Err(_) => prop_assert!(dots, "{}", text),
        }
    }

    #[test]
    fn whatever_is_read_prints_as_it_was_written(text in "secret:[/a-c.#%? :@\\\\é]{0,24}") {
        if let Ok(reference) = text.parse::<SecretRef>() {
            prop_assert_eq!(reference.to_string(), text);
            for word in reference.path().segments().iter().map(String::as_str).chain(reference.path().key()).chain(reference.store()) {
                prop_assert!(word != "." && word != ".." && (1..=128).contains(&word.len()));
                prop_assert!(word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.@+=-".contains(&byte)));
            }
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,64}") {
        let _refused_or_not = text.parse::<SecretRef>().is_ok();
    }
}
