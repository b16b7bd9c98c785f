//! What is kept of a log until the control plane has it: no I/O, no clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;

/// Lines that may come at once, before [`LINES_PER_SECOND`] counts: a run begins and ends with more than it says between.
const BURST: u64 = 500;

/// Lines that may come in the long run. A person reads fewer; a source that says something of each of its objects, at
/// debug, is cut here instead of at the control plane's disk.
const LINES_PER_SECOND: u64 = 100;

/// Why lines are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// They came too fast.
    TooMany,
    /// The log became too long.
    TooLong,
}

/// A line that says how many are not there.
pub(super) type Say = fn(LeftOut, u64) -> String;

#[derive(Debug)]
pub(super) struct Buffer {
    /// Of each of the two parts, in bytes; 0: nothing is kept.
    half: usize,
    say: Say,
    rate: Rate,
    /// Lines that came too fast since the last one that did not.
    skipped: u64,
    /// Bytes that the first part has room for; none: it is closed.
    head_room: Option<usize>,
    /// Lines that are ready to leave, or left and were not confirmed.
    ready: VecDeque<String>,
    /// The number of the first of them.
    first: u64,
    /// How many of them left in this session.
    taken: usize,
    /// A heartbeat, and the number after the last line that left before it.
    mark: Option<(u64, u64)>,
    tail: VecDeque<Kept>,
    tail_bytes: usize,
    /// Lines that fell out of the tail.
    left_out: u64,
    is_finished: bool,
}

/// A line of the tail.
#[derive(Debug)]
struct Kept {
    line: String,
    /// How many lines are lost when it is: those that it speaks of, too.
    stands_for: u64,
}

impl Buffer {
    pub(super) fn new(max_bytes: usize, now: Moment, say: Say) -> Self {
        let half = max_bytes / 2;
        Self {
            half,
            say,
            rate: Rate { left: BURST, since: now },
            skipped: 0,
            head_room: Some(half),
            ready: VecDeque::new(),
            first: 0,
            taken: 0,
            mark: None,
            tail: VecDeque::new(),
            tail_bytes: 0,
            left_out: 0,
            is_finished: false,
        }
    }

    /// Whether a line may come now; one that may not is counted.
    pub(super) fn admit(&mut self, now: Moment) -> bool {
        if self.half == 0 || self.is_finished {
            return false;
        }
        let may = self.rate.take(now);
        self.skipped += u64::from(!may);
        may
    }

    pub(super) fn push(&mut self, line: String) {
        if self.is_finished {
            return;
        }
        self.say_skipped();
        self.append(Kept { line, stands_for: 1 });
    }

    pub(super) fn finish(&mut self) {
        if self.is_finished {
            return;
        }
        self.say_skipped();
        self.is_finished = true;
        if self.left_out > 0 {
            self.ready.push_back((self.say)(LeftOut::TooLong, self.left_out));
        }
        self.tail_bytes = 0;
        self.ready.extend(self.tail.drain(..).map(|kept| kept.line));
    }

    fn say_skipped(&mut self) {
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 {
            let line = (self.say)(LeftOut::TooMany, skipped);
            self.append(Kept { line, stands_for: skipped });
        }
    }

    fn append(&mut self, kept: Kept) {
        let bytes = kept.line.len();
        self.head_room = self.head_room.and_then(|room| room.checked_sub(bytes));
        if self.head_room.is_some() {
            self.ready.push_back(kept.line);
            return;
        }
        self.tail_bytes += bytes;
        self.tail.push_back(kept);
        while self.tail_bytes > self.half {
            let Some(oldest) = self.tail.pop_front() else { return };
            self.tail_bytes -= oldest.line.len();
            self.left_out += oldest.stands_for;
        }
    }

    pub(super) fn take(&mut self, max_bytes: usize) -> Option<(u64, Vec<String>)> {
        let first = self.next();
        let mut bytes = 0;
        let mut lines = Vec::new();
        for line in self.ready.range(self.taken..) {
            bytes += line.len();
            if bytes > max_bytes && !lines.is_empty() {
                break;
            }
            lines.push(line.clone());
        }
        self.taken += lines.len();
        (!lines.is_empty()).then_some((first, lines))
    }

    /// The number of the next line that leaves.
    fn next(&self) -> u64 {
        self.first + u64::try_from(self.taken).unwrap_or(u64::MAX)
    }

    pub(super) fn has_more(&self) -> bool {
        self.taken < self.ready.len()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_finished && self.ready.is_empty()
    }

    pub(super) fn mark(&mut self, heartbeat: u64) {
        if self.mark.is_none() && self.taken > 0 {
            self.mark = Some((heartbeat, self.next()));
        }
    }

    pub(super) fn confirm(&mut self, heartbeat: u64) {
        if let Some((_, next)) = self.mark.take_if(|(marked, _)| *marked <= heartbeat) {
            while self.first < next && self.ready.pop_front().is_some() {
                self.first += 1;
                self.taken -= 1;
            }
        }
    }

    pub(super) fn rewind(&mut self) {
        self.taken = 0;
        self.mark = None;
    }
}

/// How many lines may still come.
#[derive(Debug)]
struct Rate {
    left: u64,
    since: Moment,
}

impl Rate {
    fn take(&mut self, now: Moment) -> bool {
        let earned = now.since(self.since).as_millis() * u128::from(LINES_PER_SECOND) / 1000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        if self.left.saturating_add(earned) >= BURST {
            self.left = BURST;
            self.since = now;
        } else if earned > 0 {
            self.left += earned;
            // What is less than a line is not lost.
            self.since = self.since + Duration::from_millis(earned * 1000 / LINES_PER_SECOND);
        }
        let may = self.left > 0;
        self.left -= u64::from(may);
        may
    }
}

#[cfg(test)]
mod tests;
