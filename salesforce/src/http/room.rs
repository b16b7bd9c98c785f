//! Room for a few inflated answers at a time, and the memory that they are inflated into.
//!
//! Answers have megabytes, one like the other: memory that is given back and asked for again for each of them costs
//! pages, and what the allocator keeps in between is half as much again.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest buffer that is kept, in bytes: an answer that is larger is an exception.
const LARGEST_KEPT: usize = 8 * 1024 * 1024;

/// Places for inflated answers.
#[derive(Debug)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    /// Empty ones; never more than places.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// A place, with a buffer of its own.
pub(super) struct Place {
    room: Arc<Room>,
    pub(super) buffer: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

/// An inflated body, in its place. Not to be printed: it may hold a session.
pub(crate) struct Body {
    bytes: Vec<u8>,
    /// Gone when the body was taken out of it.
    place: Option<Place>,
}

impl Room {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(places)), buffers: Mutex::default() })
    }

    /// Waits for a place.
    pub(super) async fn enter(self: &Arc<Self>) -> Option<Place> {
        // Never closed: the semaphore lives as long as self.
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let buffer = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Some(Place { room: Arc::clone(self), buffer, _permit: permit })
    }
}

impl Body {
    pub(super) fn new(bytes: Vec<u8>, place: Place) -> Self {
        Self { bytes, place: Some(place) }
    }

    /// Takes the bytes out: their memory is the caller's alone.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.place = None;
        std::mem::take(&mut self.bytes)
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(place) = &self.place
            && self.bytes.capacity() <= LARGEST_KEPT
        {
            let mut buffer = std::mem::take(&mut self.bytes);
            buffer.clear();
            place.room.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_is_used_again_and_what_was_taken_out_is_not() {
        let room = Room::new(1);
        let mut place = room.enter().await.unwrap();
        assert_eq!(place.buffer.capacity(), 0);
        place.buffer.extend_from_slice(b"describe");
        let bytes = std::mem::take(&mut place.buffer);
        let address = bytes.as_ptr();
        drop(Body::new(bytes, place));

        let mut place = room.enter().await.unwrap();
        assert!(place.buffer.is_empty());
        assert_eq!(place.buffer.as_ptr(), address);
        let bytes = std::mem::take(&mut place.buffer);
        drop(Body::new(bytes, place).into_bytes());
        assert_eq!(room.enter().await.unwrap().buffer.capacity(), 0);
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
