//! Bodies glued from pieces that were compressed beforehand.
//!
//! A [`Fragment`] is a run of raw deflate blocks that refers to nothing before it and ends on a byte boundary (a sync
//! flush). Such runs may follow each other in one deflate stream, so the gzip body of a composite of 25 describes is made
//! by copying, with the small text between them as stored blocks; its checksum is combined from those of the fragments.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress};

/// The final block: stored, empty.
const END: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// The most bytes of one stored block (its length has 16 bits).
const STORED: usize = 0xffff;

/// Text up to this size is stored, longer text compressed; below it the flush costs more than is saved.
const SMALL: usize = 512;

/// A piece of text, compressed.
#[derive(Debug)]
pub(crate) struct Fragment {
    deflated: Bytes,
    crc: Crc,
    length: usize,
}

impl Fragment {
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(text);
        // Kept for the life of the org: without spare capacity.
        Self { deflated: deflate(text).into_boxed_slice().into(), crc, length: text.len() }
    }

    /// Bytes before compression.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn inflate(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.length);
        // Reading from memory what was compressed here cannot fail; a short text would show at the client.
        drop(DeflateDecoder::new(self.deflated.chain_end()).read_to_end(&mut text));
        text
    }
}

trait ChainEnd {
    fn chain_end(&self) -> impl std::io::Read;
}

impl ChainEnd for Bytes {
    fn chain_end(&self) -> impl std::io::Read {
        std::io::Read::chain(self.as_ref(), END.as_slice())
    }
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(4), false);
    let mut out = Vec::with_capacity(text.len() / 8 + 256);
    loop {
        let done = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        out.reserve(4096);
        let room = out.capacity() - out.len();
        let before = compress.total_out();
        let rest = text.get(done..).unwrap_or_default();
        drop(compress.compress_vec(rest, &mut out, FlushCompress::Sync));
        let all_in = usize::try_from(compress.total_in()).is_ok_and(|total| total >= text.len());
        let written = usize::try_from(compress.total_out() - before).unwrap_or(usize::MAX);
        if all_in && written < room {
            return out;
        }
    }
}

/// A body.
#[derive(Debug, Default)]
pub(crate) struct Payload(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Packed(Arc<Fragment>),
}

impl Payload {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self(vec![Piece::Text(text.into())])
    }

    pub(crate) fn packed(fragment: Arc<Fragment>) -> Self {
        Self(vec![Piece::Packed(fragment)])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.0.push(Piece::Text(text.into())),
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        for piece in other.0 {
            match piece {
                Piece::Text(text) => self.push(&text),
                Piece::Packed(_) => self.0.push(piece),
            }
        }
    }

    pub(crate) fn plain(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => all.extend_from_slice(text.as_bytes()),
                Piece::Packed(fragment) => all.extend_from_slice(&fragment.inflate()),
            }
        }
        all
    }

    pub(crate) fn gzip(&self) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        let mut crc = Crc::new();
        let mut length = 0_usize;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) if text.len() <= SMALL => {
                    store(&mut out, text.as_bytes());
                    combine(&mut crc, text.as_bytes());
                    length += text.len();
                }
                Piece::Text(text) => {
                    let fragment = Fragment::new(text.as_bytes());
                    out.extend_from_slice(&fragment.deflated);
                    crc.combine(&fragment.crc);
                    length += fragment.length;
                }
                Piece::Packed(fragment) => {
                    out.extend_from_slice(&fragment.deflated);
                    crc.combine(&fragment.crc);
                    length += fragment.length;
                }
            }
        }
        out.extend_from_slice(&END);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        // ISIZE is the length modulo 2^32.
        out.extend_from_slice(&u32::try_from(length & 0xffff_ffff).unwrap_or_default().to_le_bytes());
        out
    }
}

fn store(out: &mut Vec<u8>, text: &[u8]) {
    for block in text.chunks(STORED) {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

fn combine(crc: &mut Crc, text: &[u8]) {
    let mut more = Crc::new();
    more.update(text);
    crc.combine(&more);
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn glued_pieces_inflate_to_their_texts() {
        for size in [0_usize, 1, 511, 513, 70_000, 3_000_000] {
            let long: String = (0..size).map(|i| char::from(b'a' + u8::try_from(i * i % 23).unwrap())).collect();
            let mut payload = Payload::default();
            payload.push("{\"a\":");
            payload.append(Payload::packed(Arc::new(Fragment::new(long.as_bytes()))));
            payload.push(",\"b\":");
            payload.append(Payload::packed(Arc::new(Fragment::new(long.as_bytes()))));
            payload.append(Payload::text(long.clone()));
            let expected = format!("{{\"a\":{long},\"b\":{long}{long}");
            assert_eq!(payload.plain(), expected.as_bytes());
            let mut text = String::new();
            GzDecoder::new(payload.gzip().as_slice()).read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
    }
}
