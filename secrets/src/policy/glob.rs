//! Patterns of text in segments.

/// The longest pattern, in bytes: that of a reference, which is the longest text a pattern is for.
const MAX: usize = 512;

/// A pattern over the whole of a text: `*` is any part of one segment, `**` any text, everything else itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    tokens: Vec<Token>,
    separator: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `*`
    Within,
    /// `**`
    Across,
}

impl Glob {
    /// Fits every text.
    pub(super) fn all() -> Self {
        Self { tokens: vec![Token::Across], separator: b'/' }
    }

    pub(super) fn new(pattern: &str, separator: u8) -> Result<Self, &'static str> {
        if pattern.is_empty() {
            return Err("is empty and can never match");
        }
        if pattern.len() > MAX {
            return Err("is longer than 512 bytes");
        }
        let mut tokens: Vec<Token> = Vec::with_capacity(pattern.len());
        for byte in pattern.bytes() {
            let token = match (byte, tokens.last()) {
                (b'*', Some(Token::Within)) => {
                    tokens.pop();
                    Token::Across
                }
                (b'*', Some(Token::Across)) => return Err("has three `*` in a row; write `**`"),
                (b'*', _) => Token::Within,
                _ => Token::Byte(byte),
            };
            tokens.push(token);
        }
        Ok(Self { tokens, separator })
    }

    /// Whether the whole text fits. All places in the pattern are followed at once, so that no pattern takes longer than
    /// its length times that of the text.
    pub(super) fn matches(&self, text: &str) -> bool {
        // `reached[i]`: what was read so far fits the first `i` tokens.
        let mut reached = vec![false; self.tokens.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        self.skip_stars(&mut reached);
        for byte in text.bytes() {
            let mut next = vec![false; reached.len()];
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| reached.get(*at) == Some(&true)) {
                let to = match token {
                    Token::Byte(expected) => (*expected == byte).then_some(at + 1),
                    Token::Within => (byte != self.separator).then_some(at),
                    Token::Across => Some(at),
                };
                if let Some(place) = to.and_then(|to| next.get_mut(to)) {
                    *place = true;
                }
            }
            reached = next;
            self.skip_stars(&mut reached);
        }
        reached.last() == Some(&true)
    }

    /// A star may stand for nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if !matches!(token, Token::Byte(_))
                && reached.get(at) == Some(&true)
                && let Some(behind) = reached.get_mut(at + 1)
            {
                *behind = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Glob;

    /// What the words of [`Glob`] say, by recursion.
    fn simple(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|skipped| simple(rest, &text[skipped..])),
            [b'*', rest @ ..] => {
                let segment = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
                (0..=segment).any(|skipped| simple(rest, &text[skipped..]))
            }
            [byte, rest @ ..] => text.first() == Some(byte) && simple(rest, &text[1..]),
        }
    }

    #[test]
    fn one_star_stays_in_its_segment_and_two_do_not() {
        for (pattern, text, fits) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/a/**", "/ab/c", false),
            ("/*/password", "/a/password", true),
            ("/*/password", "/a/b/password", false),
            ("/**/password", "/a/b/password", true),
            ("/a-*-c/d", "/a-b-c/d", true),
            ("/a", "/A", false),
            ("/a", "/a/", false),
            ("**", "", true),
        ] {
            assert_eq!(Glob::new(pattern, b'/').unwrap().matches(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_that_would_take_a_search_long_takes_no_time() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!Glob::new(&pattern, b'/').unwrap().matches(&"a".repeat(500)));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "a***", &"a".repeat(513)] {
            assert!(Glob::new(bad, b'/').is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_its_words_say(pattern in "[ab/*]{1,8}", text in "[ab/]{0,8}") {
            if let Ok(glob) = Glob::new(&pattern, b'/') {
                prop_assert_eq!(glob.matches(&text), simple(pattern.as_bytes(), text.as_bytes()));
            }
        }
    }
}
