//! Patterns of references, and the prefix of a store.

use std::fmt;
use std::str::FromStr;

use super::glob::Glob;
use crate::{SecretPath, SecretRef};

/// References: `**` for all, `secret:/path` of the default store, `secret://store/path` of a named one, with `*` and `**`
/// in the path and the key, and `*` in the store's name. Without `#key` it covers an entry with every key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePattern {
    text: String,
    store: StorePattern,
    path: Glob,
    key: Option<Glob>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum StorePattern {
    Any,
    Default,
    Named(Glob),
}

/// A text is no [`ReferencePattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; accepted: **, or a reference with `*` (within a segment) and `**` (across), such as secret:/salesforce/**"
)]
pub struct MalformedPattern(&'static str);

impl ReferencePattern {
    /// Every reference.
    #[must_use]
    pub fn all() -> Self {
        Self { text: "**".to_owned(), store: StorePattern::Any, path: Glob::all(), key: None }
    }

    /// Whether a reference is one of these. `store` is the name of the store that it is read from.
    pub(super) fn matches(&self, reference: &SecretRef, store: &str, is_default_store: bool) -> bool {
        let is_of_store = match &self.store {
            StorePattern::Any => true,
            StorePattern::Default => is_default_store,
            StorePattern::Named(name) => name.matches(store),
        };
        let path = reference.path();
        let is_of_key = match (&self.key, path.key()) {
            (None, _) => true,
            (Some(pattern), Some(key)) => pattern.matches(key),
            (Some(_), None) => false,
        };
        is_of_store && is_of_key && self.path.matches(&format!("/{}", path.segments().join("/")))
    }
}

impl FromStr for ReferencePattern {
    type Err = MalformedPattern;

    fn from_str(text: &str) -> Result<Self, MalformedPattern> {
        let glob = |part: &str, separator| Glob::new(part, separator).map_err(MalformedPattern);
        if text == "**" {
            return Ok(Self::all());
        }
        let rest = text.strip_prefix("secret:").ok_or(MalformedPattern("does not begin with `secret:`"))?;
        let (place, key) = match rest.split_once('#') {
            Some((place, key)) => (place, Some(key)),
            None => (rest, None),
        };
        let (store, path) = match place.strip_prefix("//") {
            Some(named) => {
                let at = named.find('/').ok_or(MalformedPattern("has no path behind the store's name"))?;
                let (store, path) = named.split_at(at);
                check_words(store)?;
                (StorePattern::Named(glob(store, b'/')?), path)
            }
            None => (StorePattern::Default, place),
        };
        let segments = path.strip_prefix('/').ok_or(MalformedPattern("has no `/` behind `secret:`"))?;
        segments.split('/').try_for_each(check_words)?;
        if let Some(key) = key {
            check_words(key)?;
        }
        let key = key.map(|key| glob(key, b'/')).transpose()?;
        Ok(Self { text: text.to_owned(), store, path: glob(path, b'/')?, key })
    }
}

/// A word of a reference, with stars: whatever else stands there can never be met.
fn check_words(word: &str) -> Result<(), MalformedPattern> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@+=-*".contains(&byte);
    match word {
        "" => Err(MalformedPattern("has an empty segment, key or store and can never match")),
        "." | ".." => Err(MalformedPattern("has a segment `.` or `..` and can never match")),
        _ if !word.bytes().all(is_known) => Err(MalformedPattern("has a character that no reference has")),
        _ => Ok(()),
    }
}

/// As it is written.
impl fmt::Display for ReferencePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A path of which only what lies below is read, such as `/hybrid-runner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(SecretPath);

impl Prefix {
    pub(super) fn contains(&self, path: &SecretPath) -> bool {
        let (above, segments) = (self.0.segments(), path.segments());
        segments.len() > above.len() && segments.starts_with(above)
    }
}

/// A text is no [`Prefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no path of references; accepted: segments of letters, digits and _.@+=-, such as /hybrid-runner")]
pub struct MalformedPrefix;

impl FromStr for Prefix {
    type Err = MalformedPrefix;

    fn from_str(text: &str) -> Result<Self, MalformedPrefix> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let parsed = format!("secret:/{}", text.strip_suffix('/').unwrap_or(text)).parse::<SecretRef>();
        match parsed {
            Ok(reference) if reference.path().key().is_none() => Ok(Self(reference.path().clone())),
            _ => Err(MalformedPrefix),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Prefix, ReferencePattern};
    use crate::SecretRef;

    fn fits(pattern: &str, reference: &str, store: &str, is_default: bool) -> bool {
        let reference: SecretRef = reference.parse().unwrap();
        pattern.parse::<ReferencePattern>().unwrap().matches(&reference, store, is_default)
    }

    #[test]
    fn a_store_is_the_same_by_name_and_as_the_default_one() {
        assert!(fits("secret:/a/*", "secret:/a/b", "vault", true));
        assert!(fits("secret:/a/*", "secret://vault/a/b", "vault", true));
        assert!(fits("secret://vault/a/*", "secret:/a/b", "vault", true));
        assert!(!fits("secret:/a/*", "secret://other/a/b", "other", false));
        assert!(fits("secret://*/a/*", "secret://other/a/b", "other", false));
        assert!(fits("**", "secret://other/a/b#c", "other", false));
    }

    #[test]
    fn a_key_is_looked_at_only_where_the_pattern_names_one() {
        assert!(fits("secret:/a/b", "secret:/a/b#password", "s", true));
        assert!(fits("secret:/a/b#pass*", "secret:/a/b#password", "s", true));
        assert!(!fits("secret:/a/b#pass*", "secret:/a/b#token", "s", true));
        assert!(!fits("secret:/a/b#*", "secret:/a/b", "s", true));
        assert!(!fits("secret:/a", "secret:/a/b", "s", true));
        assert!(!fits("secret:/a/*", "secret:/a.b/c", "s", true));
    }

    #[test]
    fn a_pattern_that_can_never_match_is_refused() {
        for bad in [
            "",
            "*",
            "/a",
            "secret:",
            "secret:a",
            "secret:/",
            "secret:/a//b",
            "secret:/a/../b",
            "secret:/a/.",
            "secret://v",
            "secret:///a",
            "secret:/a#",
            "secret:/a b",
            "secret:/a%2fb",
            "secret:/a#b#c",
            "secret:/***",
            "secret:/é",
        ] {
            assert!(bad.parse::<ReferencePattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment_and_lets_only_what_lies_below_through() {
        for prefix in ["/a/b", "a/b", "/a/b/"] {
            let prefix: Prefix = prefix.parse().unwrap();
            for (reference, inside) in [
                ("secret:/a/b/c", true),
                ("secret:/a/b/c/d#k", true),
                ("secret:/a/b", false),
                ("secret:/a/bc/d", false),
            ] {
                assert_eq!(prefix.contains(reference.parse::<SecretRef>().unwrap().path()), inside, "{reference}");
            }
        }
        for bad in ["", "/", "a#k", "../a", "a//b", "secret:/a"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }
}
