//! The value of a secret.

use zeroize::Zeroizing;

use crate::redact::Watched;

/// The value of a secret: valid UTF-8, 1 byte to [`SecretValue::MAX`] bytes, zeroed when dropped.
///
/// It cannot be printed, cloned, compared or serialised. One that a [`crate::Redactor`] watches is looked for in what leaves
/// the process.
///
/// The text comes out in one way:
///
/// ```
/// fn text(value: &hybrid_runner_secrets::SecretValue) -> &str {
///     value.expose()
/// }
/// ```
///
/// and not past it:
///
/// ```compile_fail,E0616
/// fn text(value: &hybrid_runner_secrets::SecretValue) -> &str {
///     &value.text
/// }
/// ```
#[expect(missing_debug_implementations, reason = "a secret that can be printed will be")]
pub struct SecretValue {
    text: Zeroizing<String>,
    watched: Option<Watched>,
}

#[cfg(test)]
static_assertions::assert_not_impl_any!(
    SecretValue: std::fmt::Debug, std::fmt::Display, Clone, PartialEq, PartialEq<str>, PartialOrd, std::hash::Hash,
    std::ops::Deref, AsRef<str>, AsRef<[u8]>, std::borrow::Borrow<str>, Into<String>,
    serde::Serialize, serde::de::DeserializeOwned,
);

impl SecretValue {
    /// The largest accepted value, 64 KiB: the limit of AWS Secrets Manager, far above any key or certificate chain.
    pub const MAX: usize = 64 * 1024;

    /// Takes a value over.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self { text: Zeroizing::new(value), watched: None }
    }

    /// The value itself. Call it where the bytes are written to the host that the secret is for, and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// With a watch, unless it has one.
    pub(crate) fn watched(mut self, watch: impl FnOnce(&str) -> Option<Watched>) -> Self {
        if self.watched.is_none() {
            self.watched = watch(&self.text);
        }
        self
    }
}
