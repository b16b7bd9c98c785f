//! Digests of lists of texts, to tell whether two of them are equal.

/// Takes texts and figures in order. 128 bits are enough to tell two apart.
#[derive(Debug, Default)]
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    /// Bytes of a fixed number.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// A text, its length first, so that no two lists of texts are one.
    pub(crate) fn text(&mut self, text: &str) {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.0.update(&length.to_be_bytes()).update(text.as_bytes());
    }

    pub(crate) fn finish(&self) -> [u8; 16] {
        self.0.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
    }
}
