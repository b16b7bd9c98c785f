//! What happened, in a line each and in a hash.

use std::fmt::Write as _;
use std::time::Duration;

/// What happened. No id is in it: they are random.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    /// Whether the lines are kept.
    is_loud: bool,
    /// Simulated time, for what happens between two steps.
    pub(crate) now: Duration,
    /// The lines, for a person.
    pub(crate) text: String,
}

impl Trace {
    pub(super) fn new(is_loud: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), is_loud, now: Duration::ZERO, text: String::new() }
    }

    /// Adds a line, stamped with simulated time.
    pub(crate) fn write(&mut self, what: &str, of: &str, number: u64) {
        let now = turmoil::sim_elapsed().unwrap_or(self.now).as_secs_f64();
        let line = format!("{now:>9.3} {what} {of} {number}\n");
        self.hasher.update(line.as_bytes());
        if self.is_loud {
            self.text.write_str(&line).unwrap();
        }
    }

    /// The hash of all of it.
    #[must_use]
    pub(crate) fn hash(&self) -> [u8; 32] {
        self.hasher.finalize().into()
    }
}
