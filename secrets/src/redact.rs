//! Looks for the values of secrets in whatever is about to leave the process.
//!
//! A [`Redactor`] knows every value that it watches, in each encoding that text is likely to put it in. What leaves
//! passes through [`Redactor::replace`] where it is for people (logs, errors), and through [`Redactor::scan`] where it is a
//! result: a hit there ends the run.
//!
//! **No copy is kept.** Of each form of a value the redactor has its length and digests under a random key of its own,
//! nothing that could be found in memory. So a value is still recognised when it is gone: the text of a rejected
//! login is written when the password that it may echo was zeroed already.
//!
//! **Limits.** A value (of a PEM text: a line) of less than [`Redactor::SHORTEST`] bytes is not searched: it would be found
//! everywhere. Certificates are no secrets. Of the values that are gone the last [`REMEMBERED`] are known. A part of a
//! value is not found, nor is an encoding of an encoding, JSON in JSON apart.

mod forms;
mod index;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::SecretValue;
use index::{ANCHOR, Digest, Form, Index, Keys};

/// How many values are known that are gone: those of some twenty runs. What is said about a run leaves within minutes.
const REMEMBERED: usize = 64;

/// Knows the values of secrets, without having them. Clones know the same.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    keys: Keys,
    /// The longest untouched first.
    known: Mutex<Vec<Known>>,
    /// `None`: nothing is known. Replaced as a whole when that changes, which is at logins.
    index: RwLock<Option<Arc<Index>>>,
    hits: AtomicU64,
}

struct Known {
    value: Digest,
    forms: Vec<Form>,
    /// How many have the value.
    holders: usize,
}

/// Makes the value that it is in a known one for as long as it lives, and one of the remembered ones after.
pub struct Watched {
    redactor: Redactor,
    value: Digest,
}

impl Redactor {
    /// The fewest bytes of a value that is searched.
    pub const SHORTEST: usize = ANCHOR;

    /// What stands in place of a value.
    pub const REPLACEMENT: &str = "[redacted]";

    /// Knows a value from now on.
    #[must_use]
    pub fn watch(&self, value: SecretValue) -> SecretValue {
        value.watched(|text| self.watch_text(text))
    }

    /// Whether a value of a secret is in there, in some form.
    #[must_use]
    pub fn scan(&self, bytes: &[u8]) -> bool {
        let is_hit = self.index().is_some_and(|index| index.hits(bytes).next().is_some());
        self.0.hits.fetch_add(u64::from(is_hit), Relaxed);
        is_hit
    }

    /// The same bytes with each value of a secret replaced.
    #[must_use]
    pub fn replace<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(index) = self.index() else { return Cow::Borrowed(bytes) };
        let found = merged(index.hits(bytes).collect());
        if found.is_empty() {
            return Cow::Borrowed(bytes);
        }
        self.0.hits.fetch_add(u64::try_from(found.len()).unwrap_or(u64::MAX), Relaxed);
        let mut replaced = Vec::with_capacity(bytes.len());
        let mut from = 0;
        for Range { start, end } in found {
            replaced.extend_from_slice(bytes.get(from..start).unwrap_or_default());
            replaced.extend_from_slice(Self::REPLACEMENT.as_bytes());
            from = end;
        }
        replaced.extend_from_slice(bytes.get(from..).unwrap_or_default());
        Cow::Owned(replaced)
    }

    /// The same text with each value of a secret replaced.
    #[must_use]
    pub fn replace_text(&self, text: String) -> String {
        match self.replace(text.as_bytes()) {
            Cow::Borrowed(_) => text,
            // Forms are whole characters, so that what is left is text.
            Cow::Owned(replaced) => String::from_utf8_lossy(&replaced).into_owned(),
        }
    }

    /// How often a value was met so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Relaxed)
    }

    fn index(&self) -> Option<Arc<Index>> {
        self.0.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Knows a text that somebody else holds, for as long as the answer lives. `None`: nothing of it is long enough.
    #[must_use]
    pub fn watch_text(&self, text: &str) -> Option<Watched> {
        let keys = &self.0.keys;
        let value = keys.digest(text.as_bytes());
        let mut known = self.known();
        let holders = match known.iter().position(|one| one.value == value) {
            // To the end, where those are that were touched last.
            Some(at) => {
                let Known { forms, holders, .. } = known.remove(at);
                known.push(Known { value, forms, holders: holders + 1 });
                return Some(Watched { redactor: self.clone(), value });
            }
            None => 1,
        };
        let forms: Vec<Form> = forms::of(text).iter().filter_map(|form| keys.form(form.as_bytes())).collect();
        if forms.is_empty() {
            return None;
        }
        known.push(Known { value, forms, holders });
        self.rebuild(&known);
        Some(Watched { redactor: self.clone(), value })
    }

    fn forget(&self, value: Digest) {
        let mut known = self.known();
        let Some(at) = known.iter().position(|one| one.value == value) else { return };
        let mut one = known.remove(at);
        one.holders = one.holders.saturating_sub(1);
        known.push(one);
        let is_gone = |one: &Known| one.holders == 0;
        if known.iter().filter(|one| is_gone(one)).count() > REMEMBERED
            && let Some(oldest) = known.iter().position(is_gone)
        {
            known.remove(oldest);
            self.rebuild(&known);
        }
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild(&self, known: &[Known]) {
        let index = Index::new(self.0.keys.clone(), known.iter().flat_map(|one| &one.forms));
        *self.0.index.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(index));
    }
}

/// The places in order, those that touch made one.
fn merged(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
    for range in found {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.redactor.forget(self.value);
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("hits", &self.hits()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
