//! The grammar of references.

use std::fmt;
use std::str::FromStr;

/// A reference to a secret: `secret:/seg(/seg)*[#key]` for the default store, `secret://store/seg(/seg)*[#key]` for a
/// named one. It is no secret and may be printed.
///
/// A segment, a key and a store name are `[A-Za-z0-9_.@+=-]{1,128}` and neither `.` nor `..`; the whole is at most
/// [`SecretRef::MAX`] bytes. There is no percent-decoding, no query and no version: what is not in the grammar is
/// refused, so that a reference cannot reach outside the place a store was configured for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef {
    store: Option<String>,
    path: SecretPath,
}

/// The part of a [`SecretRef`] that a store sees.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretPath {
    segments: Vec<String>,
    key: Option<String>,
}

/// A text that begins like a reference, or stands where one belongs, is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedReference {
    /// It does not begin with `secret:`: a literal where a reference belongs.
    #[error("is a literal value; write a reference to a secret store, such as secret:/path/to/secret")]
    Literal,
    /// It begins with `secret:` and is not in the grammar.
    #[error(
        "is not a reference: {0}; accepted: secret:/path#key or secret://store/path#key, segments of 1 to 128 letters, digits and _.@+=-"
    )]
    Grammar(&'static str),
}

impl SecretRef {
    /// The longest reference, in bytes.
    pub const MAX: usize = 512;

    /// The name of the store; `None` for the default one.
    #[must_use]
    pub fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// What the store is asked for.
    #[must_use]
    pub fn path(&self) -> &SecretPath {
        &self.path
    }
}

impl SecretPath {
    /// The segments, at least one.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// What stands behind `#`.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl FromStr for SecretRef {
    type Err = MalformedReference;

    fn from_str(text: &str) -> Result<Self, MalformedReference> {
        use MalformedReference::{Grammar, Literal};
        let rest = text.strip_prefix("secret:").ok_or(Literal)?;
        if text.len() > Self::MAX {
            return Err(Grammar("it is longer than 512 bytes"));
        }
        let (place, key) = match rest.split_once('#') {
            Some((place, key)) => (place, Some(key)),
            None => (rest, None),
        };
        let (store, path) = match place.strip_prefix("//") {
            Some(named) => {
                let (store, path) = named.split_once('/').ok_or(Grammar("no path follows the store's name"))?;
                (Some(store), path)
            }
            None => (None, place.strip_prefix('/').ok_or(Grammar("`secret:` is not followed by `/`"))?),
        };
        let word = |word: &str| is_word(word).then(|| word.to_owned());
        Ok(Self {
            store: store.map(|name| word(name).ok_or(Grammar("the store's name is not accepted"))).transpose()?,
            path: SecretPath {
                segments: path
                    .split('/')
                    .map(|segment| word(segment).ok_or(Grammar("a segment of the path is not accepted")))
                    .collect::<Result<_, _>>()?,
                key: key.map(|key| word(key).ok_or(Grammar("the key behind `#` is not accepted"))).transpose()?,
            },
        })
    }
}

fn is_word(word: &str) -> bool {
    (1..=128).contains(&word.len())
        && word != "."
        && word != ".."
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.@+=-".contains(&byte))
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secret:")?;
        if let Some(store) = &self.store {
            write!(f, "//{store}")?;
        }
        write!(f, "{}", self.path)
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            write!(f, "/{segment}")?;
        }
        if let Some(key) = &self.key {
            write!(f, "#{key}")?;
        }
        Ok(())
    }
}

impl<'de> serde::Deserialize<'de> for SecretRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
