//! Room for a few inflated answers at a time, and the memory that they are read in.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest buffer that is kept, in bytes: a describe that is larger is an exception.
const LARGEST_KEPT: usize = 1024 * 1024;

/// Places for inflated answers.
#[derive(Debug)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    /// Of those who left; never more than places.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// A place, with a buffer for whoever wants one: what it holds is left from before.
pub(super) struct Place {
    room: Arc<Room>,
    pub(super) buffer: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

/// An inflated body, in its place. Not to be printed: it may hold a session.
pub(crate) struct Body {
    bytes: Vec<u8>,
    _place: Place,
}

impl Room {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(places)), buffers: Mutex::default() })
    }

    /// Waits for a place.
    pub(super) async fn enter(self: &Arc<Self>) -> Option<Place> {
        // Never closed: the semaphore lives as long as self.
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        Some(self.place(permit))
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let buffer = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Place { room: Arc::clone(self), buffer, _permit: permit }
    }

    #[cfg(test)]
    pub(super) fn enter_now(self: &Arc<Self>) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|permit| self.place(permit))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if (1..=LARGEST_KEPT).contains(&self.buffer.len()) {
            let buffer = std::mem::take(&mut self.buffer);
            self.room.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

impl Body {
    pub(super) fn new(bytes: Vec<u8>, place: Place) -> Self {
        Self { bytes, _place: place }
    }

    /// Takes the bytes out: their memory is the caller's alone.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_is_used_again_unless_it_became_too_large() {
        let room = Room::new(1);
        let mut place = room.enter().await.unwrap();
        assert!(place.buffer.is_empty());
        place.buffer.resize(LARGEST_KEPT, 0);
        let address = place.buffer.as_ptr();
        drop(place);

        let mut place = room.enter().await.unwrap();
        assert_eq!(place.buffer.as_ptr(), address);
        place.buffer.push(0);
        drop(place);
        assert!(room.enter().await.unwrap().buffer.is_empty());
    }

    #[tokio::test]
    async fn there_are_no_more_places_than_said() {
        let room = Room::new(1);
        let place = room.enter().await.unwrap();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, room.enter()).await.is_err());
        drop(Body::new(Vec::new(), place));
        assert!(room.enter().await.is_some());
    }
}
