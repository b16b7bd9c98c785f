//! Reading large JSON whose keys may be absent, null or of another kind than documented, without failing, without a copy
//! and fast.
//!
//! A describe is a list of hundreds of fields with the same sixty keys in the same order, most of them of no use here. So
//! a [`Reader`] expects the keys that came before ([`Order`]): comparing a key with the expected one takes a tenth of
//! reading it, and reading keys was most of a run's work. Nothing depends on it: other keys in another order are only
//! read more slowly.
//!
//! There is no second idea of JSON's grammar: whatever is not simple (escapes, fractions, nested values of no use) is
//! given to serde_json, and where a reader cannot go on ([`Stuck`]) serde_json says what is wrong. One thing is taken that
//! serde_json refuses: a control character in a string. A key that an object has twice is refused.

use std::borrow::Cow;

use memchr::memchr2;
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use serde_json::Deserializer;

use crate::describe::lenient::Scalar;

/// The keys that are expected of an object; one with more is read more slowly.
const MOST_EXPECTED: usize = 128;

/// A reader cannot go on.
#[derive(Debug)]
pub(crate) struct Stuck;

/// A text, and how far it is read.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Reads the value of a key into a state.
pub(crate) type Member<'a, S> = fn(&mut S, &mut Reader<'a>) -> Result<(), Stuck>;

/// Puts what was read in its place.
pub(crate) fn set<T>(place: &mut T, read: Result<T, Stuck>) -> Result<(), Stuck> {
    *place = read?;
    Ok(())
}

/// How the objects of a list are read: the member of each key, and the keys that the last object had.
pub(crate) struct Order<'a, S> {
    member: fn(&str) -> Member<'a, S>,
    /// Keys as they were written, quotes and colon with them; no two are equal.
    expected: Vec<(&'a [u8], Member<'a, S>)>,
}

impl<'a, S> Order<'a, S> {
    pub(crate) fn new(member: fn(&str) -> Member<'a, S>) -> Self {
        Self { member, expected: Vec::new() }
    }
}

/// Reads the value that a text begins with, and its length.
pub(crate) fn first_in<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<(T, usize)> {
    let mut values = Deserializer::from_str(text).into_iter();
    match values.next() {
        Some(value) => Ok((value?, values.byte_offset())),
        None => Ok((serde_json::from_str(text)?, text.len())),
    }
}

/// Reads the value that a text begins with by a reader, and its length.
pub(crate) fn read_first_in<'a, T>(
    text: &'a str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Stuck>,
) -> serde_json::Result<(T, usize)> {
    let mut reader = Reader { text, at: 0 };
    match read(&mut reader) {
        Ok(value) => Ok((value, reader.at)),
        Err(Stuck) => match first_in::<IgnoredAny>(text) {
            Ok(_) => Err(serde_json::Error::custom("another kind of value was expected")),
            Err(error) => Err(error),
        },
    }
}

/// The same of a text that is one value.
pub(crate) fn read_all<'a, T>(
    text: &'a str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Stuck>,
) -> serde_json::Result<T> {
    let (value, length) = read_first_in(text, read)?;
    if !text.get(length..).unwrap_or_default().trim_ascii().is_empty() {
        serde_json::from_str::<IgnoredAny>(text)?;
    }
    Ok(value)
}

impl<'a> Reader<'a> {
    /// The first byte of the value, comma or bracket that comes next.
    pub(crate) fn peek(&mut self) -> Result<u8, Stuck> {
        loop {
            match self.rest().first() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(next) => return Ok(*next),
                None => return Err(Stuck),
            }
        }
    }

    /// A string; `None` for anything else.
    pub(crate) fn text(&mut self) -> Result<Option<Cow<'a, str>>, Stuck> {
        if self.peek()? == b'"' { self.string().map(Some) } else { self.skip().map(|()| None) }
    }

    /// True or false; `None` for anything else.
    pub(crate) fn flag(&mut self) -> Result<Option<bool>, Stuck> {
        match self.peek()? {
            b't' => self.pass(*b"true").map(|()| Some(true)),
            b'f' => self.pass(*b"false").map(|()| Some(false)),
            _ => self.skip().map(|()| None),
        }
    }

    /// Whether it is true.
    pub(crate) fn is_true(&mut self) -> Result<bool, Stuck> {
        Ok(self.flag()? == Some(true))
    }

    /// A count or a length, at most what OpenMetadata's 32 signed bits hold; 0 for what is none.
    pub(crate) fn count(&mut self) -> Result<u32, Stuck> {
        Ok(match self.scalar()? {
            Scalar::Unsigned(number) => i32::try_from(number).map_or(0, i32::unsigned_abs),
            _ => 0,
        })
    }

    /// A value that is not a list or an object.
    pub(crate) fn scalar(&mut self) -> Result<Scalar<'a>, Stuck> {
        match self.peek()? {
            b'"' => self.string().map(Scalar::Text),
            b't' | b'f' => Ok(self.flag()?.map_or(Scalar::Nothing, Scalar::Bool)),
            b'0'..=b'9' => match self.whole_number() {
                Some(number) => Ok(Scalar::Unsigned(number)),
                None => self.value(),
            },
            b'-' => self.value(),
            _ => self.skip().map(|()| Scalar::Nothing),
        }
    }

    /// What serde makes of a value.
    pub(crate) fn value<T: Deserialize<'a>>(&mut self) -> Result<T, Stuck> {
        let (value, length) = first_in(self.text.get(self.at..).ok_or(Stuck)?).map_err(|_stuck| Stuck)?;
        self.at += length;
        Ok(value)
    }

    /// A value, and the text that it was read from.
    pub(crate) fn with_text<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Stuck>,
    ) -> Result<(T, &'a str), Stuck> {
        let start = self.at;
        let value = read(self)?;
        Ok((value, self.text.get(start..self.at).ok_or(Stuck)?))
    }

    /// Passes a value.
    pub(crate) fn skip(&mut self) -> Result<(), Stuck> {
        match self.peek()? {
            b'n' => self.pass(*b"null"),
            b'f' => self.pass(*b"false"),
            b't' => self.pass(*b"true"),
            b'"' => self.string().map(drop),
            b'0'..=b'9' if self.whole_number().is_some() => Ok(()),
            _ => self.value().map(|IgnoredAny| ()),
        }
    }

    /// Reads the members of an object into a state. False, and nothing read, for anything else, which is passed.
    pub(crate) fn object<S>(&mut self, state: &mut S, order: &mut Order<'a, S>) -> Result<bool, Stuck> {
        let mut number = 0;
        self.each(*b"{}", |reader| {
            let member = reader.key(number, order)?;
            number += 1;
            member(state, reader)
        })
    }

    /// Reads the elements of a list. False, and nothing read, for anything else, which is passed.
    pub(crate) fn list(&mut self, element: impl FnMut(&mut Self) -> Result<(), Stuck>) -> Result<bool, Stuck> {
        self.each(*b"[]", element)
    }

    fn each(
        &mut self,
        [open, close]: [u8; 2],
        mut read: impl FnMut(&mut Self) -> Result<(), Stuck>,
    ) -> Result<bool, Stuck> {
        if self.peek()? != open {
            return self.skip().map(|()| false);
        }
        self.at += 1;
        if self.peek()? == close {
            self.at += 1;
            return Ok(true);
        }
        loop {
            read(self)?;
            let next = self.peek()?;
            self.at += 1;
            match next {
                b',' => {}
                next if next == close => return Ok(true),
                _ => return Err(Stuck),
            }
        }
    }

    /// The member of the key that comes next, which is passed with its colon.
    fn key<S>(&mut self, number: usize, order: &mut Order<'a, S>) -> Result<Member<'a, S>, Stuck> {
        if let Some((key, member)) = order.expected.get(number)
            && self.rest().starts_with(key)
        {
            self.at += key.len();
            return Ok(*member);
        }
        if self.peek()? != b'"' {
            return Err(Stuck);
        }
        let start = self.at;
        let member = (order.member)(&self.string()?);
        if self.peek()? != b':' {
            return Err(Stuck);
        }
        self.at += 1;
        let key = self.text.as_bytes().get(start..self.at).ok_or(Stuck)?;
        // From here on this object's order is another one: what is left are its own keys.
        order.expected.truncate(number);
        if order.expected.iter().any(|(earlier, _)| *earlier == key) {
            return Err(Stuck);
        }
        if number < MOST_EXPECTED {
            order.expected.push((key, member));
        }
        Ok(member)
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// A string whose quote comes next.
    fn string(&mut self) -> Result<Cow<'a, str>, Stuck> {
        let start = self.at + 1;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let end = start + memchr2(b'"', b'\\', rest).ok_or(Stuck)?;
        if self.text.as_bytes().get(end) == Some(&b'"') {
            self.at = end + 1;
            self.text.get(start..end).map(Cow::Borrowed).ok_or(Stuck)
        } else {
            self.value().map(Cow::Owned)
        }
    }

    /// A number of digits alone, which is passed; `None` for another one.
    fn whole_number(&mut self) -> Option<u64> {
        let rest = self.rest();
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let is_whole = !matches!(rest.get(digits), Some(b'.' | b'e' | b'E'));
        // No leading zeros, and nothing that is too large.
        if !is_whole || !(1..=18).contains(&digits) || (digits > 1 && rest.first() == Some(&b'0')) {
            return None;
        }
        self.at += digits;
        let digits = rest.get(..digits)?;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    /// Of a length that is known when this is compiled: such a comparison is no call of a function.
    fn pass<const LENGTH: usize>(&mut self, literal: [u8; LENGTH]) -> Result<(), Stuck> {
        if self.rest().first_chunk() != Some(&literal) {
            return Err(Stuck);
        }
        self.at += LENGTH;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// An object of three known keys, one of them a list of such objects.
    #[derive(Debug, Default, PartialEq)]
    struct Node<'a> {
        name: Option<Cow<'a, str>>,
        length: u32,
        scalar: Scalar<'a>,
        nodes: Option<Vec<Option<Self>>>,
    }

    impl<'a> Node<'a> {
        fn member(key: &str) -> Member<'a, Self> {
            match key {
                "name" => |node, reader| set(&mut node.name, reader.text()),
                "length" => |node, reader| set(&mut node.length, reader.count()),
                "scalar" => |node, reader| set(&mut node.scalar, reader.scalar()),
                "nodes" => |node, reader| set(&mut node.nodes, Self::list(reader)),
                _ => |_, reader| reader.skip(),
            }
        }

        fn list(reader: &mut Reader<'a>) -> Result<Option<Vec<Option<Self>>>, Stuck> {
            let (mut nodes, mut order) = (Vec::new(), Order::new(Self::member));
            let is_list = reader.list(|reader| {
                let mut node = Self::default();
                let is_object = reader.object(&mut node, &mut order)?;
                nodes.push(is_object.then_some(node));
                Ok(())
            })?;
            Ok(is_list.then_some(nodes))
        }

        /// What it should be.
        fn of(value: &'a Value) -> Option<Self> {
            let object = value.as_object()?;
            let length = object.get("length").and_then(Value::as_u64).and_then(|length| i32::try_from(length).ok());
            Some(Self {
                name: object.get("name").and_then(Value::as_str).map(Cow::Borrowed),
                length: length.map_or(0, i32::unsigned_abs),
                scalar: object.get("scalar").map_or(Scalar::Nothing, |scalar| Scalar::deserialize(scalar).unwrap()),
                nodes: object.get("nodes").and_then(Self::list_of),
            })
        }

        fn list_of(value: &'a Value) -> Option<Vec<Option<Self>>> {
            Some(value.as_array()?.iter().map(Self::of).collect())
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (0_u64..3_000).prop_map(Value::from),
            (-1e9_f64..1e9).prop_map(Value::from),
            ".{0,9}".prop_map(Value::from),
        ];
        let key = prop::sample::select(vec!["name", "length", "scalar", "nodes", "other", "n\u{1}\"ä"]);
        scalar.prop_recursive(5, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..6).prop_map(|members| Value::Object(
                    members.into_iter().map(|(key, v)| (key.to_owned(), v)).collect()
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_list_of_objects_is_what_serde_makes_of_it(list in prop::collection::vec(any_value(), 0..9), pretty: bool) {
            let list = Value::from(list);
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) }.unwrap();
            prop_assert_eq!(read_all(&text, Node::list).unwrap(), Node::list_of(&list), "{}", text);
            for (cut, _) in text.char_indices() {
                let begin = text.split_at(cut).0;
                let error = read_all(begin, Node::list).unwrap_err();
                // Of a number that is cut serde_json says that it is none.
                let in_number = begin.ends_with(['-', '+', '.', 'e', 'E']);
                prop_assert!(error.is_eof() || in_number, "cut to {} bytes", cut);
            }
            let (_, length) = read_first_in(&format!("{text} ,]"), Node::list).unwrap();
            prop_assert_eq!(length, text.len());
        }

        #[test]
        fn what_is_no_json_is_refused_as_serde_refuses_it(
            inside in "[\\[\\]{}:,\"\\\\a1é. -]{0,12}",
            literal in prop::sample::select(vec!["null", "true", "fals", "-", "01", "1.", "1e5", "\"", "12x", "-0", "{}", "[]"]),
        ) {
            for text in [
                format!("[{inside}]"),
                format!(r#"[{{"name":{inside}}}]"#),
                format!(r#"[{{"nodes":[{{"b":{inside}}},{{"b":{literal}}}]}}]"#),
                format!(r#"[{{"length":{literal}}}, {{"scalar":{literal}}}, {literal}]"#),
            ] {
                let expected = serde_json::from_str::<Value>(&text);
                match (read_all(&text, Node::list), &expected) {
                    (Ok(read), Ok(expected)) => prop_assert_eq!(read, Node::list_of(expected), "{}", text),
                    (Err(error), Err(expected)) => {
                        prop_assert_eq!((error.classify(), error.line()), (expected.classify(), expected.line()));
                    }
                    (read, _) => prop_assert!(false, "{text}: {read:?}, {expected:?}"),
                }
            }
        }
    }

    #[test]
    fn keys_in_another_order_than_before_are_read_as_well() {
        let list =
            json!([{"name": "a", "length": 1, "other": [1]}, {"length": 2, "name": "b"}, {"name": "c", "nodes": []}]);
        // Objects of serde_json are sorted; these are not.
        let text = r#"[{"name":"a","length":1,"other":[1]},{"length":2 ,"name" : "b"},{"na\u006de":"c","nodes":[]}]"#;
        assert_eq!(read_all(text, Node::list).unwrap(), Node::list_of(&list));
    }

    #[test]
    fn a_key_that_an_object_has_twice_is_refused() {
        for twice in [
            r#"[{"name":"a","name":"b"}]"#,
            r#"[{"name":"a","length":1},{"length":1,"length":2}]"#,
            r#"[{"name":"a","length":1},{"name":"a","length":2,"name":"b"}]"#,
        ] {
            assert!(read_all(twice, Node::list).is_err_and(|error| error.is_data()), "{twice}");
        }
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        let list = read_all(r#"[{"name":"plain"},{"name":"caf\u00e9"}]"#, Node::list).unwrap().unwrap();
        assert!(matches!(&list[0].as_ref().unwrap().name, Some(Cow::Borrowed("plain"))));
        assert!(matches!(&list[1].as_ref().unwrap().name, Some(Cow::Owned(text)) if text == "café"));
    }
}
