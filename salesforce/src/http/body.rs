//! Reading bodies: counted as on the wire, inflated here, capped on both sides.

use std::io::{Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use hybrid_runner_connector::Progress;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use super::error::CallError;
use crate::host::Host;

/// The largest answer, inflated, in bytes (CONTRACTS §4). Above it a batch is halved.
pub(crate) const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// As much of an error's body as is looked at, in bytes: a REST error is a few hundred, the rest are pages for people.
const MAX_ERROR: usize = 64 * 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Other,
}

impl Encoding {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        match (values.next().map(|value| value.as_bytes().to_ascii_lowercase()).as_deref(), values.next()) {
            (None | Some(b"" | b"identity"), None) => Self::Identity,
            (Some(b"gzip" | b"x-gzip"), None) => Self::Gzip,
            _ => Self::Other,
        }
    }
}

/// What is wrong with a body.
#[derive(Debug)]
pub(super) enum BodyError {
    TooLarge { cap: usize },
    Broken { source: Box<dyn std::error::Error + Send + Sync> },
    Encoding { problem: &'static str },
}

impl BodyError {
    /// The same, of a host.
    pub(super) fn at(self, host: &Host) -> CallError {
        let host = host.clone();
        match self {
            Self::TooLarge { cap } => CallError::TooLarge { host, cap },
            Self::Broken { source } => CallError::Broken { host, source },
            Self::Encoding { problem } => CallError::Protocol { host, problem },
        }
    }
}

/// The body as it comes; what is inflated is larger, so the same cap holds.
pub(super) async fn read(response: &mut Response, cap: usize, progress: &Progress) -> Result<Vec<u8>, BodyError> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if announced > cap {
        return Err(BodyError::TooLarge { cap });
    }
    let mut wire = Vec::with_capacity(announced);
    while let Some(chunk) =
        response.chunk().await.map_err(|error| BodyError::Broken { source: error.without_url().into() })?
    {
        progress.add_bytes(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if wire.len() + chunk.len() > cap {
            return Err(BodyError::TooLarge { cap });
        }
        wire.extend_from_slice(&chunk);
    }
    Ok(wire)
}

/// The start of an error's body, inflated; `None` if it cannot be read.
pub(super) async fn read_start(response: &mut Response, progress: &Progress) -> Option<Vec<u8>> {
    let encoding = Encoding::of(response.headers());
    let mut wire = Vec::new();
    while wire.len() < MAX_ERROR
        && let Some(chunk) = response.chunk().await.ok()?
    {
        progress.add_bytes(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        wire.extend_from_slice(&chunk);
    }
    wire.truncate(MAX_ERROR);
    let mut start = Vec::new();
    let limit = u64::try_from(MAX_ERROR).unwrap_or(u64::MAX);
    match encoding {
        Encoding::Identity => return Some(wire),
        // What inflates before it breaks off may hold the code already.
        Encoding::Gzip => MultiGzDecoder::new(wire.as_slice()).take(limit).read_to_end(&mut start).ok()?,
        Encoding::Other => return None,
    };
    Some(start)
}

/// A body, inflated as it is read.
pub(super) struct Inflating {
    wire: Wire,
    cap: usize,
    /// Bytes until the cap.
    left: usize,
}

enum Wire {
    Identity(Cursor<Vec<u8>>),
    Gzip(Box<MultiGzDecoder<Cursor<Vec<u8>>>>),
}

impl Inflating {
    pub(super) fn new(wire: Vec<u8>, encoding: Encoding, cap: usize) -> Result<Self, BodyError> {
        let wire = Cursor::new(wire);
        let wire = match encoding {
            Encoding::Identity => Wire::Identity(wire),
            Encoding::Gzip => Wire::Gzip(Box::new(MultiGzDecoder::new(wire))),
            Encoding::Other => return Err(BodyError::Encoding { problem: "is encoded in another way than gzip" }),
        };
        Ok(Self { wire, cap, left: cap })
    }

    /// Reads some bytes; none at the end. The cap alone holds bombs off: a limit of the ratio would refuse honest answers
    /// that repeat themselves.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, BodyError> {
        let read = match &mut self.wire {
            Wire::Identity(wire) => wire.read(into),
            Wire::Gzip(wire) => wire.read(into),
        };
        let read = read.map_err(|error| BodyError::Broken { source: error.into() })?;
        self.left = self.left.checked_sub(read).ok_or(BodyError::TooLarge { cap: self.cap })?;
        Ok(read)
    }

    /// Reads all of it.
    pub(super) fn whole(self) -> Result<Vec<u8>, BodyError> {
        let gzip = match self.wire {
            Wire::Identity(wire) => return Ok(wire.into_inner()),
            Wire::Gzip(gzip) => gzip,
        };
        let mut body = Vec::with_capacity(expected_length(gzip.get_ref().get_ref()).min(self.cap));
        let limit = u64::try_from(self.cap).unwrap_or(u64::MAX).saturating_add(1);
        match gzip.take(limit).read_to_end(&mut body) {
            Ok(_) if body.len() <= self.cap => Ok(body),
            Ok(_) => Err(BodyError::TooLarge { cap: self.cap }),
            Err(error) => Err(BodyError::Broken { source: error.into() }),
        }
    }
}

/// The length that gzip's last four bytes state: a hint for one allocation, never trusted.
fn expected_length(wire: &[u8]) -> usize {
    let stated = wire.last_chunk().map_or(0, |last| u32::from_le_bytes(*last));
    // One more, so that reading the end does not grow the buffer.
    usize::try_from(stated).unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(wire: Vec<u8>, encoding: Encoding, cap: usize) -> Result<Vec<u8>, BodyError> {
        Inflating::new(wire, encoding, cap)?.whole()
    }

    #[test]
    fn an_answer_is_inflated() {
        let text = "describe ".repeat(1000);
        assert_eq!(inflate(gzip(text.as_bytes()), Encoding::Gzip, MAX_ANSWER).unwrap(), text.as_bytes());
        assert_eq!(inflate(b"plain".to_vec(), Encoding::Identity, MAX_ANSWER).unwrap(), b"plain");
    }

    #[test]
    fn an_answer_above_the_cap_is_refused_before_it_is_inflated_whole() {
        let noise: Vec<u8> = (0..200_000).map(|_| fastrand::u8(b'a'..=b'd')).collect();
        assert!(matches!(inflate(gzip(&noise), Encoding::Gzip, 199_999), Err(BodyError::TooLarge { cap: 199_999 })));
        assert!(inflate(gzip(&noise), Encoding::Gzip, 200_000).is_ok());
    }

    #[test]
    fn a_bomb_goes_off_no_further_than_the_cap() {
        let bomb = gzip(&vec![0; 64 * 1024 * 1024]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(inflate(bomb.clone(), Encoding::Gzip, MAX_ANSWER), Err(BodyError::TooLarge { .. })));
        assert!(matches!(inflate(bomb.clone(), Encoding::Gzip, 1024), Err(BodyError::TooLarge { cap: 1024 })));
    }

    #[test]
    fn a_truncated_answer_is_broken_at_every_byte() {
        let whole = gzip(b"{\"sobjects\":[]}");
        for length in 0..whole.len() {
            let cut = inflate(whole[..length].to_vec(), Encoding::Gzip, MAX_ANSWER);
            assert!(matches!(cut, Err(BodyError::Broken { .. })), "cut to {length} bytes");
        }
    }

    #[test]
    fn only_gzip_is_understood() {
        let of = |value: &str| Encoding::of(&HeaderMap::from_iter([(CONTENT_ENCODING, value.parse().unwrap())]));
        assert_eq!(Encoding::of(&HeaderMap::new()), Encoding::Identity);
        assert_eq!(of("gzip"), Encoding::Gzip);
        assert_eq!(of("GZIP"), Encoding::Gzip);
        assert_eq!(of("br"), Encoding::Other);
        assert_eq!(of("gzip, gzip"), Encoding::Other);
        assert!(inflate(Vec::new(), Encoding::Other, 1).is_err());
    }
}
