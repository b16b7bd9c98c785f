//! The characters of a pattern: reading them, escapes, and writing them so that they mean the same to `fancy-regex`.

use std::fmt::Write;

/// Which names a translated pattern is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Names in ASCII that do not end in a newline. For these `$` is `\z`, and `\w`, `\d` and `\s` are a few characters
    /// instead of those of all scripts, which keeps patterns small and on the engine of linear time.
    Ascii,
    /// Any name.
    Any,
}

/// Why a pattern is refused.
pub(super) type Parsed<T> = Result<T, &'static str>;

/// A place in a pattern.
pub(super) struct Cursor {
    source: Vec<char>,
    at: usize,
}

impl Cursor {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.chars().collect(), at: 0 }
    }

    /// Characters read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn go_back_to(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.source.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(index, char)| self.source.get(self.at + index) == Some(&char));
        if found {
            self.at += text.chars().count();
        }
        found
    }

    pub(super) fn eat_while(&mut self, most: usize, accepted: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(next) = self.peek().filter(|&next| text.len() < most && accepted(next)) {
            text.push(next);
            self.at += 1;
        }
        text
    }

    /// The text up to `end`, which is read too.
    pub(super) fn eat_until(&mut self, end: char, missing: &'static str) -> Parsed<String> {
        let text = self.eat_while(usize::MAX, |char| char != end);
        self.next().map(|_end| text).ok_or(missing)
    }

    /// The character that an escape stands for outside and inside of sets alike; `letter` follows the backslash.
    pub(super) fn escaped(&mut self, letter: char) -> Parsed<char> {
        Ok(match letter {
            'a' => '\x07',
            'f' => '\x0C',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0B',
            'x' => return self.hexadecimal(2),
            'u' => return self.hexadecimal(4),
            'U' => return self.hexadecimal(8),
            'N' => return Err("named characters are not supported; write the character itself"),
            letter if letter.is_ascii_alphanumeric() => return Err("bad escape"),
            other => other,
        })
    }

    fn hexadecimal(&mut self, digits: usize) -> Parsed<char> {
        let text = self.eat_while(digits, |char| char.is_ascii_hexdigit());
        if text.len() < digits {
            return Err("incomplete escape");
        }
        number(&text, 16)
    }

    /// An octal escape of up to three digits, the first of which is given.
    pub(super) fn octal(&mut self, first: char) -> Parsed<char> {
        let digits = format!("{first}{}", self.eat_while(2, |char| char.is_digit(8)));
        match number(&digits, 8) {
            Ok(char) if char <= '\u{FF}' => Ok(char),
            _ => Err("octal escape value above 0o377"),
        }
    }
}

fn number(digits: &str, radix: u32) -> Parsed<char> {
    u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).ok_or("the escape stands for no character")
}

/// Letters that Python takes for the same when case is ignored; simple case folding keeps them apart. It is the only
/// such difference (all of Unicode compared, CPython 3.11 and regex-syntax 0.8).
pub(super) const LETTERS_I: [char; 4] = ['i', 'I', 'İ', 'ı'];

/// One character as itself.
pub(super) fn push_literal(out: &mut String, char: char, ignore_case: bool) {
    if ignore_case && LETTERS_I.contains(&char) {
        out.push('[');
        out.extend(LETTERS_I);
        out.push(']');
    } else if char.is_ascii_alphanumeric() || char == '_' {
        out.push(char);
    } else {
        push_code(out, char);
    }
}

/// One character as a number, which means itself everywhere.
pub(super) fn push_code(out: &mut String, char: char) {
    let written = write!(out, "\\x{{{:X}}}", u32::from(char));
    debug_assert!(written.is_ok(), "a String takes any text");
}

/// The set that `\d`, `\D`, `\s`, `\S`, `\w` or `\W` is in Python.
pub(super) fn category(letter: char, names: Names) -> Option<&'static str> {
    Some(match (letter, names) {
        ('d', Names::Ascii) => "[0-9]",
        ('D', Names::Ascii) => "[^0-9]",
        ('d', Names::Any) => "[\\p{Nd}]",
        ('D', Names::Any) => "[^\\p{Nd}]",
        ('s', Names::Ascii) => "[\\x09-\\x0D\\x1C-\\x20]",
        ('S', Names::Ascii) => "[^\\x09-\\x0D\\x1C-\\x20]",
        ('s', Names::Any) => "[\\s\\x1C-\\x1F]",
        ('S', Names::Any) => "[^\\s\\x1C-\\x1F]",
        ('w', Names::Ascii) => "[0-9A-Za-z_]",
        ('W', Names::Ascii) => "[^0-9A-Za-z_]",
        ('w', Names::Any) => "[\\p{L}\\p{N}_]",
        ('W', Names::Any) => "[^\\p{L}\\p{N}_]",
        _ => return None,
    })
}
