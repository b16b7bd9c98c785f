//! Fully qualified names.
//!
//! OpenMetadata joins the parts of a name with `.` and quotes a part that contains one. A part with a `"` cannot be
//! quoted, so its clients first rewrite what is reserved in every name but a service's (`openmetadata-ingestion` 2.0.7,
//! names as the server stores them); without the same rewriting the FQNs of an entity would differ by client.

use std::borrow::Cow;

/// What [`reserve`] rewrites, in the order it is applied.
const RESERVED: [(&str, &str); 6] = [
    ("::", "__reserved__colon__"),
    (">", "__reserved__arrow__"),
    ("\"", "__reserved__quote__"),
    ("\n", "__reserved__newline__"),
    ("\r", "__reserved__carriage_return__"),
    ("\t", "__reserved__tab__"),
];

/// The longest FQN that the server stores, in characters (`type/basic.json`).
pub const MAX_FQN: usize = 3072;

/// The longest name of one entity, in characters (`type/basic.json`).
pub const MAX_NAME: usize = 256;

/// A name as it is stored: reserved characters rewritten. Not for service names.
///
/// ```
/// use hybrid_runner_openmetadata::fqn;
///
/// assert_eq!(fqn::reserve("a::b"), "a__reserved__colon__b");
/// assert_eq!(fqn::reserve("Account"), "Account");
/// ```
#[must_use]
pub fn reserve(name: &str) -> String {
    reserved(name).into_owned()
}

/// As [`reserve`], without a copy of a name that holds none of them, as almost none does.
#[must_use]
pub fn reserved(name: &str) -> Cow<'_, str> {
    if !name.contains([':', '>', '"', '\n', '\r', '\t']) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(RESERVED.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to)))
}

/// One part of an FQN, quoted when it contains a `.`.
#[must_use]
pub fn quote(part: &str) -> String {
    if part.contains('.') { format!("\"{part}\"") } else { part.to_owned() }
}

/// The FQN of `name` below `parent`, which is an FQN already.
///
/// ```
/// use hybrid_runner_openmetadata::fqn;
///
/// let schema = fqn::child(&fqn::child("svc", "crm.eu"), "salesforce");
/// assert_eq!(fqn::child(&schema, "Account"), r#"svc."crm.eu".salesforce.Account"#);
/// ```
#[must_use]
pub fn child(parent: &str, name: &str) -> String {
    format!("{parent}.{}", quote(name))
}

/// The parts of an FQN without their quotes; `None` when it is not one.
///
/// ```
/// use hybrid_runner_openmetadata::fqn;
///
/// let parts = fqn::split(r#"svc."crm.eu".salesforce"#).unwrap_or_default();
/// assert_eq!(parts, ["svc", "crm.eu", "salesforce"]);
/// ```
#[must_use]
pub fn split(fqn: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = fqn;
    loop {
        let (part, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if part.is_empty() || part.contains('"') {
            return None;
        }
        parts.push(part.to_owned());
        match behind.strip_prefix('.') {
            Some(next) => rest = next,
            None => return behind.is_empty().then_some(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{child, quote, reserve, split};

    #[test]
    fn reserved_characters_are_rewritten() {
        for (name, stored) in [
            ("a::b", "a__reserved__colon__b"),
            ("a:b", "a:b"),
            ("a:::b", "a__reserved__colon__:b"),
            ("a>b", "a__reserved__arrow__b"),
            ("\"a\"", "__reserved__quote__a__reserved__quote__"),
            ("a\nb\rc\td", "a__reserved__newline__b__reserved__carriage_return__c__reserved__tab__d"),
            ("Konto (Größe)", "Konto (Größe)"),
            ("", ""),
        ] {
            assert_eq!(reserve(name), stored);
        }
    }

    #[test]
    fn a_part_with_a_dot_is_quoted() {
        assert_eq!(quote("salesforce"), "salesforce");
        assert_eq!(quote("crm.eu"), "\"crm.eu\"");
        assert_eq!(child(&child(&quote("my.svc"), "crm.eu"), "salesforce"), "\"my.svc\".\"crm.eu\".salesforce");
    }

    #[test]
    fn what_is_no_fqn_is_not_split() {
        for text in ["", ".", "a.", ".a", "a..b", "\"a", "\"a\"b", "a\"b", "\"\"", "a.\"b\"c.d", "a.\"b.c"] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn split_gives_back_what_was_joined(
            names in prop::collection::vec("[a-z.\":> é]{1,6}", 1..5)
        ) {
            let names: Vec<String> = names.iter().map(|name| reserve(name)).collect();
            let (first, rest) = names.split_first().unwrap();
            let fqn = rest.iter().fold(quote(first), |parent, name| child(&parent, name));
            prop_assert_eq!(split(&fqn), Some(names));
        }

        #[test]
        fn any_text_can_be_split_or_refused(text in "[a.\"]{0,12}") {
            if let Some(parts) = split(&text) {
                prop_assert!(parts.iter().all(|part| !part.is_empty() && !part.contains('"')));
            }
        }
    }
}
