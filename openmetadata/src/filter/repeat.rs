//! Repeats: `*`, `+`, `?` and `{…}`, lazy and possessive.

use super::escape::{Cursor, Parsed};

#[derive(Debug, Clone, Copy)]
pub(super) struct Repeat {
    pub(super) least: u64,
    /// None: without end.
    pub(super) most: Option<u64>,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Greedy,
    /// `?` follows.
    Lazy,
    /// `+` follows.
    Possessive,
}

impl Repeat {
    /// Reads a repeat; a `{` that begins none is a character.
    pub(super) fn read(cursor: &mut Cursor) -> Parsed<Option<Self>> {
        let Some((least, most)) = bounds(cursor)? else { return Ok(None) };
        let mode = if cursor.eat("?") {
            Mode::Lazy
        } else if cursor.eat("+") {
            Mode::Possessive
        } else {
            Mode::Greedy
        };
        Ok(Some(Self { least, most, mode }))
    }

    /// Writes it around what stands in `out` from `start`, which matches nothing but the empty text if `empty`.
    pub(super) fn write(self, out: &mut String, start: usize, empty: bool) {
        let closing = match (empty, self.mode) {
            // fancy-regex does not repeat what is empty; once is as good as often.
            (true, _) if self.least > 0 => return,
            (true, Mode::Lazy) => {
                out.insert_str(start, "(?:|");
                ")".to_owned()
            }
            (true, _) => {
                out.insert_str(start, "(?:");
                "|)".to_owned()
            }
            (false, mode) => {
                out.insert_str(start, if mode == Mode::Possessive { "(?>(?:" } else { "(?:" });
                let most = self.most.map(|most| most.to_string()).unwrap_or_default();
                let behind = match mode {
                    Mode::Greedy => "",
                    Mode::Lazy => "?",
                    Mode::Possessive => ")",
                };
                format!("){{{},{most}}}{behind}", self.least)
            }
        };
        out.push_str(&closing);
    }
}

fn bounds(cursor: &mut Cursor) -> Parsed<Option<(u64, Option<u64>)>> {
    for (sign, least, most) in [("*", 0, None), ("+", 1, None), ("?", 0, Some(1))] {
        if cursor.eat(sign) {
            return Ok(Some((least, most)));
        }
    }
    let here = cursor.at();
    if !cursor.eat("{") || cursor.peek() == Some('}') {
        cursor.go_back_to(here);
        return Ok(None);
    }
    let digits = |char: char| char.is_ascii_digit();
    let least = cursor.eat_while(usize::MAX, digits);
    let most = if cursor.eat(",") { cursor.eat_while(usize::MAX, digits) } else { least.clone() };
    if !cursor.eat("}") {
        cursor.go_back_to(here);
        return Ok(None);
    }
    let (least, most) = (count(&least)?.unwrap_or(0), count(&most)?);
    if most.is_some_and(|most| most < least) {
        return Err("min repeat greater than max repeat");
    }
    Ok(Some((least, most)))
}

fn count(digits: &str) -> Parsed<Option<u64>> {
    match digits.parse::<u32>() {
        Ok(count) => Ok(Some(u64::from(count))),
        Err(_) if digits.is_empty() => Ok(None),
        Err(_) => Err("the repetition number is too large"),
    }
}
