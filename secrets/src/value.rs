//! The value of a secret.

use zeroize::Zeroizing;

/// The value of a secret: valid UTF-8, 1 byte to [`SecretValue::MAX`] bytes, zeroed when dropped.
///
/// It cannot be printed, cloned, compared or serialised; `secrets/tests/compile_fail` holds the compiler to that.
#[expect(missing_debug_implementations, reason = "a secret that can be printed will be")]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// The largest accepted value, 64 KiB: the limit of AWS Secrets Manager, far above any key or certificate chain.
    pub const MAX: usize = 64 * 1024;

    /// Takes a value over.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. Call it where the bytes are written to the host that the secret is for, and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
