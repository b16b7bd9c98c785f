//! An answer that is inflated as it is read: of megabytes, only what is looked at is in memory.

use super::CallError;
use super::body::Inflating;
use super::room::Place;
use crate::host::Host;

/// An answer, inflated as it is read, and the buffer that it is read into. Not to be printed. Drop it before waiting for
/// another one.
pub(crate) struct Stream {
    body: Inflating,
    host: Host,
    place: Place,
}

impl Stream {
    pub(super) fn new(body: Inflating, host: Host, place: Place) -> Self {
        Self { body, host, place }
    }

    /// The buffer. What was not read into it is left from other answers.
    pub(crate) fn buffer(&self) -> &[u8] {
        &self.place.buffer
    }

    /// Moves a range of the buffer to its beginning.
    pub(crate) fn keep(&mut self, range: std::ops::Range<usize>) {
        self.place.buffer.copy_within(range, 0);
    }

    /// Reads at most so many bytes into the buffer, behind `at`, and returns how many; none at the end.
    ///
    /// # Errors
    /// [`CallError::Broken`], [`CallError::TooLarge`]
    pub(crate) fn read(&mut self, at: usize, most: usize) -> Result<usize, CallError> {
        let buffer = &mut self.place.buffer;
        if buffer.len() < at + most {
            buffer.resize(at + most, 0);
        }
        let into = buffer.get_mut(at..at + most).unwrap_or_default();
        self.body.read(into).map_err(|error| error.at(&self.host))
    }
}

#[cfg(test)]
impl Stream {
    /// An answer that nobody sent.
    pub(crate) fn of(answer: &[u8]) -> Self {
        use super::body::{Encoding, MAX_ANSWER};
        use super::room::Room;
        use crate::host::HostPolicy;

        let place = Room::new(1).enter_now().unwrap();
        let body = Inflating::new(answer.to_vec(), Encoding::Identity, MAX_ANSWER).ok().unwrap();
        Self::new(body, HostPolicy::default().login_host("login").unwrap(), place)
    }
}
