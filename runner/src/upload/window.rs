//! The records that are not durable yet: pure.
//!
//! ```text
//!   base ───────────── cursor ─────────── end
//!    │ sent, not acked  │ not sent yet     │
//! ```
//!
//! - Records enter at `end`, get their seq and hash there, and keep their body until they are acked, also those that
//!   travel as unchanged: the control plane may ask for the body. One whose source made no body has none to keep.
//! - What is held counts with its body, so that the window bounds memory and, a fortiori, what is unacked on the wire.
//! - A batch is cut from `cursor`. An ack moves `base` and rolls the digest over what it covers. When a body is asked
//!   for, or the stream was opened again, `cursor` goes back and what follows is sent again.
//! - What the source emitted at once enters at once, and a batch ends where an emission ends: then the control plane always
//!   knows a place at which the source can begin again. Only an emission that is itself larger than a batch is cut.
//! - A source position is the seq at which it holds (8 bytes, big-endian) and the source's own checkpoint. It is empty where
//!   the source cannot begin: inside of an emission, or when the source said so.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

/// The most encoded bytes of a batch of several records, with its envelope and checkpoint (4 KiB + tokens) half of what the
/// contract permits: a batch that is sent is in memory encoded and compressed as well.
const BATCH: usize = 512 * 1024 - 8 * 1024;
/// The most records of a batch.
const BATCH_RECORDS: usize = 1000;
/// A batch waits until it has this much, unless nothing is under way: small runs are not held up, large ones need few
/// messages.
const WORTH_SENDING: usize = 256 * 1024;
/// Seq, hash, tags and lengths of one record, rounded up.
const RECORD_OVERHEAD: usize = 96;

/// One entity on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) kind: &'static str,
    pub(super) fqn: String,
    pub(super) content_hash: [u8; 32],
    /// None: the source made none, and it is unchanged.
    pub(super) body: Option<Bytes>,
    pub(super) memo: Bytes,
    /// Sent without its body.
    pub(super) is_unchanged: bool,
}

impl Record {
    fn held_bytes(&self) -> usize {
        held_bytes(self.kind, &self.fqn, self.body.as_ref(), &self.memo)
    }

    pub(super) fn wire_bytes(&self) -> usize {
        let body = self.body.as_ref().filter(|_| !self.is_unchanged).map_or(0, Bytes::len);
        RECORD_OVERHEAD + self.kind.len() + self.fqn.len() + self.memo.len() + body
    }
}

/// What a record takes in the window.
pub(super) fn held_bytes(kind: &str, fqn: &str, body: Option<&Bytes>, memo: &Bytes) -> usize {
    RECORD_OVERHEAD + kind.len() + fqn.len() + memo.len() + body.map_or(0, Bytes::len)
}

/// What the source position of the records before `seq` is, when the source is at this checkpoint then.
pub(super) fn position_at(seq: u64, checkpoint: &[u8]) -> Bytes {
    if checkpoint.is_empty() {
        return Bytes::new();
    }
    let mut position = BytesMut::with_capacity(8 + checkpoint.len());
    position.put_u64(seq);
    position.put_slice(checkpoint);
    position.freeze()
}

/// The source's checkpoint in a position that holds at `seq`; none: nobody can begin there.
pub(super) fn checkpoint_at(seq: u64, position: &Bytes) -> Option<Bytes> {
    let (holds_at, checkpoint) = position.split_first_chunk()?;
    (u64::from_be_bytes(*holds_at) == seq && !checkpoint.is_empty()).then(|| position.slice(8..))
}

/// Records to send together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    pub(super) source_position: Bytes,
}

/// The rolling digest over records in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(pub(super) [u8; 32]);

impl Digest {
    pub(super) const EMPTY: Self = Self([0; 32]);

    fn roll(&mut self, record: &Record) {
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&self.0)
            .update(&record.seq.to_be_bytes())
            .update(&length(record.kind))
            .update(record.kind.as_bytes())
            .update(&length(&record.fqn))
            .update(record.fqn.as_bytes())
            .update(&record.content_hash);
        self.0 = hasher.finalize().into();
    }
}

/// What the control plane said cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WindowError {
    #[error("Ack.next_seq {next_seq} is outside of what was sent and is not acknowledged ({base} to {cursor})")]
    Ack { next_seq: u64, base: u64, cursor: u64 },
    #[error("BodyNeeded names seq {seq}, which is not an unchanged record that was sent and is not acknowledged")]
    BodyNeeded { seq: u64 },
    #[error("BodyNeeded names no record")]
    NoBodyNeeded,
}

/// The control plane goes on where this agent cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReopenError {
    #[error("the control plane goes on at record {next_seq}; this agent holds {base} to {end}")]
    NotHeld { next_seq: u64, base: u64, end: u64 },
    #[error("the control plane's digest of the first {next_seq} records is not this agent's")]
    Digest { next_seq: u64 },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    base: u64,
    digest: Digest,
    records: VecDeque<Held>,
    held: usize,
    /// How many of `records` were sent.
    sent: usize,
    unsent_wire_bytes: usize,
    /// Lengths of the batches that were sent and are not acked, oldest first.
    in_flight: VecDeque<usize>,
    /// How many records below `base` had to travel with their bodies.
    bodies: u64,
}

#[derive(Debug)]
struct Held {
    record: Record,
    /// The source position after this record; none inside of what was emitted at once.
    end: Option<Bytes>,
}

impl Window {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            base: 0,
            digest: Digest::EMPTY,
            records: VecDeque::new(),
            held: 0,
            sent: 0,
            unsent_wire_bytes: 0,
            in_flight: VecDeque::new(),
            bodies: 0,
        }
    }

    /// The first record that is not durable.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The seq of the next record to enter.
    pub(super) fn end(&self) -> u64 {
        self.seq_at(self.records.len())
    }

    /// The digest of all records below [`Window::base`].
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// How many durable records were not taken as unchanged.
    pub(super) fn bodies(&self) -> u64 {
        self.bodies
    }

    /// Whether every record is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether anything was sent that is not acked.
    pub(super) fn is_waiting(&self) -> bool {
        self.sent > 0
    }

    /// Bytes of records that are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether an emission of this size may enter. One always may.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.records.is_empty() || self.held.saturating_add(bytes) <= self.limit
    }

    /// The control plane may want less than the agent's own limit.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes over what the source emitted at once, and its checkpoint after it; each `seq` is given here.
    pub(super) fn push(&mut self, emission: Vec<Record>, checkpoint: &[u8]) {
        for mut record in emission {
            record.seq = self.end();
            self.held += record.held_bytes();
            self.unsent_wire_bytes += record.wire_bytes();
            self.records.push_back(Held { record, end: None });
        }
        let end = position_at(self.end(), checkpoint);
        if let Some(last) = self.records.back_mut() {
            last.end = Some(end);
        }
    }

    /// Whether there is a batch worth sending; with `flush`, whether there is one at all.
    pub(super) fn has_batch(&self, flush: bool) -> bool {
        let unsent = self.records.len() - self.sent;
        unsent > 0 && (flush || self.sent == 0 || self.unsent_wire_bytes >= WORTH_SENDING || unsent >= BATCH_RECORDS)
    }

    /// Cuts the next batch, at the end of an emission if one fits; it counts as sent from here on. None when all is sent.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let (mut fitting, mut at_an_end, mut bytes) = (0, 0, 0);
        for held in self.records.iter().skip(self.sent) {
            bytes += held.record.wire_bytes();
            if fitting > 0 && (bytes > BATCH || fitting >= BATCH_RECORDS) {
                break;
            }
            fitting += 1;
            if held.end.is_some() {
                at_an_end = fitting;
            }
        }
        let length = if at_an_end > 0 { at_an_end } else { fitting };
        if length == 0 {
            return None;
        }
        let batch = self.records.iter().skip(self.sent).take(length);
        let source_position = batch.clone().next_back().and_then(|last| last.end.clone()).unwrap_or_default();
        let records: Vec<_> = batch.map(|held| held.record.clone()).collect();
        self.sent += length;
        self.in_flight.push_back(length);
        self.unsent_wire_bytes -= records.iter().map(Record::wire_bytes).sum::<usize>();
        Some(Batch { records, source_position })
    }

    /// All records below `next_seq` are durable.
    pub(super) fn ack(&mut self, next_seq: u64) -> Result<(), WindowError> {
        let cursor = self.seq_at(self.sent);
        if !(self.base..=cursor).contains(&next_seq) {
            return Err(WindowError::Ack { next_seq, base: self.base, cursor });
        }
        self.forget_below(next_seq);
        Ok(())
    }

    /// Some records cannot be accepted without their bodies: sends again from the batch that holds the first of them.
    /// Returns the names of those that have none; then nothing is sent again, as only the source can help.
    pub(super) fn body_needed(&mut self, seqs: &[u64]) -> Result<Vec<String>, WindowError> {
        let mut first = usize::MAX;
        let mut missing = Vec::new();
        for &seq in seqs {
            let index = seq.checked_sub(self.base).and_then(|index| usize::try_from(index).ok());
            let held = index.filter(|index| *index < self.sent).and_then(|index| self.records.get_mut(index));
            match (index, held) {
                (Some(index), Some(held)) if held.record.is_unchanged => {
                    match held.record.body {
                        Some(_) => held.record.is_unchanged = false,
                        None => missing.push(held.record.fqn.clone()),
                    }
                    first = first.min(index);
                }
                _ => return Err(WindowError::BodyNeeded { seq }),
            }
        }
        if first == usize::MAX {
            return Err(WindowError::NoBodyNeeded);
        }
        if !missing.is_empty() {
            return Ok(missing);
        }
        let mut begin = 0;
        let mut kept = 0;
        for batch in &self.in_flight {
            if begin + batch > first {
                break;
            }
            begin += batch;
            kept += 1;
        }
        self.in_flight.truncate(kept);
        self.go_back(begin);
        Ok(missing)
    }

    /// A new stream goes on at `next_seq`.
    pub(super) fn reopen(&mut self, next_seq: u64, digest: Digest) -> Result<(), ReopenError> {
        if !(self.base..=self.end()).contains(&next_seq) {
            return Err(ReopenError::NotHeld { next_seq, base: self.base, end: self.end() });
        }
        let mut rolled = self.digest;
        self.records.iter().take_while(|held| held.record.seq < next_seq).for_each(|held| rolled.roll(&held.record));
        if rolled != digest {
            return Err(ReopenError::Digest { next_seq });
        }
        self.forget_below(next_seq);
        self.in_flight.clear();
        self.go_back(0);
        Ok(())
    }

    /// Forgets every record: what follows is what the source reads from here on.
    pub(super) fn restart(&mut self, next_seq: u64, digest: Digest) {
        self.records.clear();
        self.in_flight.clear();
        self.held = 0;
        self.go_back(0);
        self.base = next_seq;
        self.digest = digest;
    }

    fn seq_at(&self, index: usize) -> u64 {
        self.base + u64::try_from(index).unwrap_or(u64::MAX)
    }

    fn forget_below(&mut self, next_seq: u64) {
        while self.base < next_seq {
            let Some(held) = self.records.pop_front() else { return };
            self.digest.roll(&held.record);
            self.held -= held.record.held_bytes();
            self.base += 1;
            if self.sent > 0 {
                self.sent -= 1;
                self.shorten_first_batch();
            } else {
                // It was sent on the stream before this one.
                self.unsent_wire_bytes -= held.record.wire_bytes();
            }
            self.bodies += u64::from(!held.record.is_unchanged);
        }
    }

    fn shorten_first_batch(&mut self) {
        if let Some(batch) = self.in_flight.front_mut() {
            *batch -= 1;
            if *batch == 0 {
                self.in_flight.pop_front();
            }
        }
    }

    /// The next batch begins at this index again.
    fn go_back(&mut self, index: usize) {
        self.sent = index;
        self.unsent_wire_bytes = self.records.iter().skip(index).map(|held| held.record.wire_bytes()).sum();
    }
}

#[cfg(test)]
mod tests;
