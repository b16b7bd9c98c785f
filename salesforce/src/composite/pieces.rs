//! A composite answer, read part by part while it is inflated.
//!
//! An answer has megabytes and a part some hundred kilobytes, and that is what is in memory, and in the processor's
//! cache, at a time. Where a part ends is found by reading it: there is no second idea of JSON's grammar here. So that a
//! part is seldom read before all of it is there, it is first read when the key that ends it has come along. Where the
//! same text stands elsewhere, reading comes to the end of what is there, and begins anew with twice as much: a hostile
//! answer is read at most three times.

use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;
use serde::de::IgnoredAny;

use super::MAX_PARTS;
use crate::http::{CallError, Stream};
use crate::json::first_in;

/// Inflated at a time, in bytes: the rest of one part, and not much of the next one's beginning, which is moved.
const STEP: usize = 64 * 1024;

/// The list of parts.
const LIST: &str = "compositeResponse";

/// The last key of a part, which comes nowhere else in a describe or the answer to a query.
static LAST_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"referenceId\""));

/// An answer that is being read.
pub(super) struct Pieces {
    stream: Stream,
    /// See [`STEP`].
    step: usize,
    /// What is inflated and not read stands in the stream's buffer from here to there.
    begin: usize,
    end: usize,
    /// Parts that were read; `None` before the list.
    parts: Option<usize>,
}

/// Why an answer cannot be read further.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// There is none, or it broke off.
    Call(CallError),
    /// It is something else.
    Malformed(&'static str),
}

impl Unreadable {
    const NOT_JSON: Self = Self::Malformed("is not JSON, or was cut short");
    const OTHER_JSON: Self = Self::Malformed("is JSON, but no composite answer");
}

impl From<CallError> for Unreadable {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl Pieces {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, step: STEP, begin: 0, end: 0, parts: None }
    }

    /// Reads the next part with `take`, which is given a text that begins with it and returns its length, see
    /// [`first_in`]; again, with more, when it comes to the text's end. False at the end of the answer.
    pub(super) fn next(&mut self, mut take: impl FnMut(&str) -> serde_json::Result<usize>) -> Result<bool, Unreadable> {
        let parts = match self.parts {
            None => {
                self.open()?;
                0
            }
            Some(parts) => parts,
        };
        match (self.peek()?, parts) {
            (Some(b']'), _) => {
                self.begin += 1;
                self.close()?;
                return Ok(false);
            }
            // An answer of tiny parts would be larger in memory than on the wire.
            (_, MAX_PARTS) => return Err(Unreadable::OTHER_JSON),
            (_, 0) => {}
            (_, _) => self.expect(b',')?,
        }
        self.peek()?;
        self.value(Some(&LAST_KEY), |text| take(text).map(|length| ((), length)))?;
        self.parts = Some(parts + 1);
        Ok(true)
    }

    /// Reads up to the first part.
    fn open(&mut self) -> Result<(), Unreadable> {
        if self.peek()? == Some(b'<') {
            return Err(Unreadable::Malformed("is HTML, not JSON"));
        }
        self.expect(b'{')?;
        if self.peek()? == Some(b'}') || !self.find_list()? {
            return Err(Unreadable::OTHER_JSON);
        }
        self.expect(b'[')
    }

    /// Reads what follows the list.
    fn close(&mut self) -> Result<(), Unreadable> {
        if self.peek()? == Some(b',') {
            self.begin += 1;
            if self.find_list()? {
                return Err(Unreadable::OTHER_JSON);
            }
        } else {
            self.expect(b'}')?;
        }
        if self.peek()?.is_none() { Ok(()) } else { Err(Unreadable::NOT_JSON) }
    }

    /// Reads members up to the list. False: there is none, and this was the answer's end.
    fn find_list(&mut self) -> Result<bool, Unreadable> {
        loop {
            self.peek()?;
            let key: String = self.value(None, |text| first_in(text))?;
            self.expect(b':')?;
            self.peek()?;
            if key == LIST {
                return Ok(true);
            }
            self.value(None, |text| first_in::<IgnoredAny>(text))?;
            if self.peek()? == Some(b'}') {
                self.begin += 1;
                return Ok(false);
            }
            self.expect(b',')?;
        }
    }

    /// Reads the value that comes next. With its last key known, nothing is tried before that has come along.
    fn value<T>(
        &mut self,
        last_key: Option<&Finder<'_>>,
        mut read: impl FnMut(&str) -> serde_json::Result<(T, usize)>,
    ) -> Result<T, Unreadable> {
        let mut least = 1;
        loop {
            let (length, is_all) = self.wait_for(last_key, least)?;
            let bytes = self.unread().get(..length).unwrap_or_default();
            let goes_on = match str::from_utf8(bytes) {
                Ok(text) => match read(text) {
                    // Without a last key it may be a number, and its next digit not there yet.
                    Ok((_, used)) if used == length && last_key.is_none() && !is_all => true,
                    Ok((value, used)) => {
                        self.begin += used;
                        return Ok(value);
                    }
                    Err(error) if error.is_data() => return Err(Unreadable::OTHER_JSON),
                    // A number that is cut is no number to serde_json, and not one that ends too early.
                    Err(error) => error.is_eof() || text.ends_with(['-', '+', '.', 'e', 'E']),
                },
                Err(invalid) if invalid.error_len().is_some() => return Err(Unreadable::Malformed("is not UTF-8")),
                Err(_cut) => true,
            };
            if !goes_on || is_all {
                return Err(Unreadable::NOT_JSON);
            }
            least = length.saturating_mul(2);
        }
    }

    /// Inflates at least so many bytes, and on to the end of an object with that last key; the length, and whether that is
    /// all there is.
    fn wait_for(&mut self, last_key: Option<&Finder<'_>>, least: usize) -> Result<(usize, bool), Unreadable> {
        let mut from = least;
        loop {
            let unread = self.unread();
            let rest = unread.get(from..);
            match (last_key, rest) {
                (None, Some(_)) => return Ok((unread.len(), false)),
                (Some(key), Some(rest)) => match key.find(rest) {
                    Some(at) => {
                        from += at;
                        if let Some(brace) = unread.get(from..).and_then(|rest| memchr(b'}', rest)) {
                            return Ok((from + brace + 1, false));
                        }
                    }
                    None => from += rest.len().saturating_sub(key.needle().len()),
                },
                (_, None) => {}
            }
            if !self.more()? {
                return Ok((self.unread().len(), true));
            }
        }
    }

    /// The next byte that is no white space, which is skipped.
    fn peek(&mut self) -> Result<Option<u8>, Unreadable> {
        loop {
            let next = self.unread().iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
            self.begin = next.map_or(self.end, |next| self.begin + next);
            if next.is_some() || !self.more()? {
                return Ok(self.unread().first().copied());
            }
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        match self.peek()? {
            Some(next) if next == byte => {
                self.begin += 1;
                Ok(())
            }
            Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => Err(Unreadable::OTHER_JSON),
            Some(_) | None => Err(Unreadable::NOT_JSON),
        }
    }

    fn unread(&self) -> &[u8] {
        self.stream.buffer().get(self.begin..self.end).unwrap_or_default()
    }

    /// Inflates more. False at the end.
    fn more(&mut self) -> Result<bool, Unreadable> {
        self.stream.keep(self.begin..self.end);
        self.end -= self.begin;
        self.begin = 0;
        let read = self.stream.read(self.end, self.step)?;
        self.end += read;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    type Part<'a> = BTreeMap<Cow<'a, str>, Value>;

    /// The parts of an answer that is inflated so many bytes at a time, and how often one was begun.
    fn read(answer: &[u8], step: usize) -> Result<(Vec<String>, usize), &'static str> {
        let mut pieces = Pieces { step, ..Pieces::new(Stream::of(answer)) };
        let (mut parts, mut begun) = (Vec::new(), 0);
        let mut take = |text: &str| {
            begun += 1;
            let (part, length) = first_in::<Part<'_>>(text)?;
            parts.push(serde_json::to_string(&part)?);
            Ok(length)
        };
        loop {
            match pieces.next(&mut take) {
                Ok(true) => {}
                Ok(false) => return Ok((parts, begun)),
                Err(Unreadable::Malformed(problem)) => return Err(problem),
                Err(Unreadable::Call(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn parts_are_the_same_however_they_come() {
        let text = r#""Zürich 😀 \" } \"referenceId\" \\""#;
        let part =
            |number| format!(r#"{{"body":{{"a":[{text},{{"referenceId":{text}}}]}},"referenceId":"o{number}"}}"#);
        // The last key comes first here.
        let odd = format!(r#"{{"referenceId":"o2", "n":-12.5e3,"body":[[],{{}},{text}]}}"#);
        let answer = format!(
            " {{\"hasErrors\" : [1, {{\"compositeResponse\":[]}}],\"n\":-12.5e-3,\r\n\"compositeResponse\":\t[{} ,\n{},{odd}] , \"x\":null}}\n",
            part(0),
            part(1)
        );
        let whole: Value = serde_json::from_str(&answer).unwrap();
        let expected: Vec<Value> = whole["compositeResponse"].as_array().unwrap().clone();
        for step in 1..=answer.len() {
            let (parts, _) = read(answer.as_bytes(), step).unwrap();
            let parts: Vec<Value> = parts.iter().map(|part| serde_json::from_str(part).unwrap()).collect();
            assert_eq!(parts, expected, "{step} bytes at a time");
        }
        assert_eq!(read(b"{\"compositeResponse\":[]}", 1).unwrap().0, Vec::<String>::new());
    }

    #[test]
    fn a_part_is_read_once_and_a_hostile_one_some_times() {
        let part = format!(r#"{{"body":"{}","referenceId":"o0"}}"#, "x".repeat(300_000));
        let answer = |part: &str| format!(r#"{{"compositeResponse":[{part},{part},{part}]}}"#);
        assert_eq!(read(answer(&part).as_bytes(), STEP).unwrap().1, 3);
        let hostile =
            format!(r#"{{"body":{{{}"z":1}},"referenceId":"o0"}}"#, r#""referenceId":{"a":1},"#.repeat(20_000));
        let (parts, begun) = read(answer(&hostile).as_bytes(), STEP).unwrap();
        assert_eq!(parts.len(), 3);
        assert!(begun <= 60, "{begun}");
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_refused_at_every_byte() {
        let answer =
            r#"{"a":1,"compositeResponse":[{"referenceId":"é","body":7},{"body":{},"referenceId":""}],"z":[2]}"#;
        for step in [1, 7, 1000] {
            assert!(read(answer.as_bytes(), step).is_ok());
            for length in 0..answer.len() {
                assert!(read(&answer.as_bytes()[..length], step).is_err(), "cut to {length} bytes");
            }
            for more in ["x", "{}", ",", "]"] {
                assert!(read(format!("{answer}{more}").as_bytes(), step).is_err(), "followed by {more}");
            }
        }
        for (odd, problem) in [
            (r#"{"compositeResponse":[{"referenceId":"o0"}"#, "is not JSON, or was cut short"),
            (r#"{"compositeResponse":[{"referenceId":"o0"} {}]}"#, "is JSON, but no composite answer"),
            (r#"{"compositeResponse":[],"compositeResponse":[]}"#, "is JSON, but no composite answer"),
            (r#"{"compositeResponse":[{]}"#, "is not JSON, or was cut short"),
            ("{}", "is JSON, but no composite answer"),
        ] {
            assert_eq!(read(odd.as_bytes(), STEP), Err(problem), "{odd}");
        }
        assert_eq!(
            read(b"{\"compositeResponse\":[{\"a\":\"\xff\xff\",\"referenceId\":\"\"}]}", 5),
            Err("is not UTF-8")
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_read_as_it_would_be_as_a_whole(
            bodies in prop::collection::vec("[\\[\\]{}:,\"\\\\a1é ]{0,30}", 0..4),
            step in 1_usize..90,
        ) {
            let list: Vec<String> = bodies.iter().map(|body| format!(r#"{{"body":{body},"referenceId":"o"}}"#)).collect();
            let answer = format!(r#"{{"compositeResponse":[{}]}}"#, list.join(","));
            let whole: Result<BTreeMap<String, Vec<Part<'_>>>, _> = serde_json::from_str(&answer);
            match (read(answer.as_bytes(), step), whole) {
                (Ok((parts, _)), Ok(whole)) => {
                    let expected: Vec<_> = whole[LIST].iter().map(|part| serde_json::to_string(part).unwrap()).collect();
                    prop_assert_eq!(parts, expected);
                }
                (parts, whole) => prop_assert!(parts.is_err() && whole.is_err(), "{answer}"),
            }
        }
    }
}
