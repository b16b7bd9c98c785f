//! Translates regular expressions of Python's `re` (3.11, of `str`, with IGNORECASE) for `fancy-regex`.
//!
//! Everything is written in a form that means the same in any context: characters as code points, `.`, `^` and `$` with
//! their flags, categories as sets. What Python refuses is refused; so are the few things that have no equal here:
//! `\N{…}`, conditional groups, and the flags `a`, `L` and `x`. One difference is left: a set with `\w` in it also takes
//! the combining iota U+0345, because its upper case is a letter.

use super::escape::{Cursor, Names, Parsed, category, push_literal};
use super::repeat::Repeat;
use super::set;

/// The pattern for `fancy-regex` that is found in a name exactly if `re.match` finds `pattern` in it.
pub(super) fn translate(pattern: &str, names: Names) -> Result<String, String> {
    let mut translator = Translator {
        cursor: Cursor::new(pattern),
        names,
        out: "(?i)\\A(?:".to_owned(),
        groups: Vec::new(),
        depth: 0,
        look_behind: None,
    };
    let flags = Flags { ignore_case: true, multi_line: false, dot_all: false };
    translator
        .alternatives(flags)
        .and_then(|_width| if translator.cursor.peek().is_some() { Err("unbalanced parenthesis") } else { Ok(()) })
        .map_err(|problem| format!("{problem}, at character {} of the pattern", translator.cursor.at()))?;
    translator.out.push(')');
    Ok(translator.out)
}

/// Groups within groups; this parser recurses. Deeper is refused.
const MAX_DEPTH: usize = 50;

struct Translator {
    cursor: Cursor,
    names: Names,
    out: String,
    groups: Vec<Group>,
    depth: usize,
    /// Within a look-behind: how many groups there were before it.
    look_behind: Option<usize>,
}

struct Group {
    name: Option<String>,
    /// None while it is open.
    width: Option<Width>,
}

#[derive(Debug, Clone, Copy)]
struct Flags {
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
}

/// Characters that something matches, at least and at most; in a look-behind both must be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    least: u64,
    most: u64,
}

impl Width {
    const ZERO: Self = Self { least: 0, most: 0 };
    const ONE: Self = Self { least: 1, most: 1 };

    fn then(self, next: Self) -> Self {
        Self { least: self.least.saturating_add(next.least), most: self.most.saturating_add(next.most) }
    }

    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

/// What a repeat would apply to.
#[derive(Debug, Clone, Copy)]
struct Item {
    /// Where its translation begins.
    start: usize,
    width: Width,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `^`, `$`, `\b` and their like, or nothing at all: it cannot be repeated.
    Position,
    /// Repeated already.
    Repeated,
    Other,
}

/// Flags for the whole pattern, or a group with flags of its own.
enum Flagged {
    All(Flags),
    Group(Width),
}

impl Translator {
    fn alternatives(&mut self, mut flags: Flags) -> Parsed<Width> {
        let mut width = self.sequence(&mut flags, self.depth == 0)?;
        while self.cursor.eat("|") {
            self.out.push('|');
            width = width.or(self.sequence(&mut flags, false)?);
        }
        Ok(width)
    }

    /// One alternative. Flags for the whole pattern may stand only at its very start.
    fn sequence(&mut self, flags: &mut Flags, mut at_start: bool) -> Parsed<Width> {
        let mut before = Width::ZERO;
        let mut last = Item { start: self.out.len(), width: Width::ZERO, kind: Kind::Position };
        while !matches!(self.cursor.peek(), None | Some('|' | ')')) {
            if self.cursor.eat("(?#") {
                self.comment()?;
                continue;
            }
            if let Some(repeat) = Repeat::read(&mut self.cursor)? {
                last = self.repeated(last, repeat)?;
                continue;
            }
            let start = self.out.len();
            let (kind, width) = match self.flagged(*flags, at_start)? {
                Some(Flagged::All(all)) => {
                    *flags = all;
                    continue;
                }
                Some(Flagged::Group(width)) => (Kind::Other, width),
                None => self.item(*flags)?,
            };
            before = before.then(last.width);
            last = Item { start, width, kind };
            at_start = false;
        }
        Ok(before.then(last.width))
    }

    /// Skips a comment; its `(?#` is read. An escaped `)` does not end it.
    fn comment(&mut self) -> Parsed<()> {
        loop {
            match self.cursor.next() {
                Some(')') => return Ok(()),
                Some('\\') => {
                    self.cursor.next();
                }
                Some(_) => {}
                None => return Err("missing ), unterminated comment"),
            }
        }
    }

    fn item(&mut self, flags: Flags) -> Parsed<(Kind, Width)> {
        let Some(char) = self.cursor.next() else { return Ok((Kind::Other, Width::ZERO)) };
        match char {
            '^' => self.out.push_str(if flags.multi_line { "(?m:^)" } else { "\\A" }),
            '$' => self.out.push_str(match (flags.multi_line, self.names) {
                (true, _) => "(?m:$)",
                (false, Names::Ascii) => "\\z",
                (false, Names::Any) => "(?=\\n?\\z)",
            }),
            '.' => {
                self.out.push_str(if flags.dot_all { "(?s:.)" } else { "[^\\n]" });
                return Ok((Kind::Other, Width::ONE));
            }
            '[' => {
                let set = set::translate(&mut self.cursor, self.names, flags.ignore_case)?;
                self.out.push_str(&set);
                return Ok((Kind::Other, Width::ONE));
            }
            '(' => return Ok((Kind::Other, self.group(flags)?)),
            '\\' => return self.escape(flags),
            char => {
                push_literal(&mut self.out, char, flags.ignore_case);
                return Ok((Kind::Other, Width::ONE));
            }
        }
        Ok((Kind::Position, Width::ZERO))
    }

    fn escape(&mut self, flags: Flags) -> Parsed<(Kind, Width)> {
        let letter = self.cursor.next().ok_or("bad escape, end of pattern")?;
        let position = match (letter, self.names) {
            ('A', _) => "\\A",
            ('Z', _) => "\\z",
            ('b', Names::Ascii) => "\\b",
            ('B', Names::Ascii) => "\\B",
            ('b', Names::Any) => {
                "(?-i:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))"
            }
            ('B', Names::Any) => {
                "(?-i:(?<=[\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_]))"
            }
            _ => "",
        };
        if !position.is_empty() {
            self.out.push_str(position);
            return Ok((Kind::Position, Width::ZERO));
        }
        if let Some(set) = category(letter, self.names) {
            // With case ignored, \w would also take the combining iota, which folds to a letter.
            self.out.push_str("(?-i:");
            self.out.push_str(set);
            self.out.push(')');
            return Ok((Kind::Other, Width::ONE));
        }
        let char = match letter {
            '0' => self.cursor.octal(letter)?,
            '1'..='9' => match self.octal_of_three(letter)? {
                Some(char) => char,
                None => return self.reference(letter).map(|width| (Kind::Other, width)),
            },
            letter => self.cursor.escaped(letter)?,
        };
        push_literal(&mut self.out, char, flags.ignore_case);
        Ok((Kind::Other, Width::ONE))
    }

    /// Three octal digits are a character, fewer refer to a group.
    fn octal_of_three(&mut self, first: char) -> Parsed<Option<char>> {
        let here = self.cursor.at();
        let more = self.cursor.eat_while(2, |char| char.is_digit(8));
        self.cursor.go_back_to(here);
        if first.is_digit(8) && more.len() == 2 { self.cursor.octal(first).map(Some) } else { Ok(None) }
    }

    /// A reference by number: one digit or two.
    fn reference(&mut self, first: char) -> Parsed<Width> {
        let second = self.cursor.eat_while(1, |char| char.is_ascii_digit());
        let number = format!("{first}{second}").parse().unwrap_or(usize::MAX);
        self.refer_to(number)
    }

    fn refer_to(&mut self, number: usize) -> Parsed<Width> {
        let group = number.checked_sub(1).and_then(|index| self.groups.get(index)).ok_or("invalid group reference")?;
        let width = group.width.ok_or("cannot refer to an open group")?;
        if self.look_behind.is_some_and(|groups_before| number > groups_before) {
            return Err("cannot refer to group defined in the same lookbehind subpattern");
        }
        self.out.push_str(&format!("(?:\\{number})"));
        Ok(width)
    }

    /// A group; its `(` is read.
    fn group(&mut self, flags: Flags) -> Parsed<Width> {
        if !self.cursor.eat("?") {
            return self.capture(None, flags);
        }
        if self.cursor.eat(":") {
            return self.enclosed("(?:", flags);
        }
        if self.cursor.eat(">") {
            return self.enclosed("(?>", flags);
        }
        for look_ahead in ["=", "!"] {
            if self.cursor.eat(look_ahead) {
                return self.enclosed(&format!("(?{look_ahead}"), flags).map(|_width| Width::ZERO);
            }
        }
        for look_behind in ["<=", "<!"] {
            if self.cursor.eat(look_behind) {
                return self.look_behind(&format!("(?{look_behind}"), flags);
            }
        }
        if self.cursor.eat("P<") {
            let name = self.name('>')?;
            return self.capture(Some(name), flags);
        }
        if self.cursor.eat("P=") {
            let name = self.name(')')?;
            let index = self.groups.iter().position(|group| group.name.as_deref() == Some(&name));
            return self.refer_to(index.ok_or("unknown group name")? + 1);
        }
        Err(if self.cursor.eat("(") { "conditional groups are not supported" } else { "unknown extension" })
    }

    fn name(&mut self, end: char) -> Parsed<String> {
        let name = self.cursor.eat_until(end, "missing end of the group's name")?;
        let mut chars = name.chars();
        let begins = chars.next().is_some_and(|first| first.is_alphabetic() || first == '_');
        if begins && chars.all(|char| char.is_alphanumeric() || char == '_') {
            Ok(name)
        } else {
            Err("bad character in group name")
        }
    }

    fn capture(&mut self, name: Option<String>, flags: Flags) -> Parsed<Width> {
        if name.is_some() && self.groups.iter().any(|group| group.name == name) {
            return Err("redefinition of group name");
        }
        let index = self.groups.len();
        self.groups.push(Group { name, width: None });
        let width = self.enclosed("(", flags)?;
        if let Some(group) = self.groups.get_mut(index) {
            group.width = Some(width);
        }
        Ok(width)
    }

    fn look_behind(&mut self, opening: &str, flags: Flags) -> Parsed<Width> {
        let outer = self.look_behind;
        self.look_behind = outer.or(Some(self.groups.len()));
        let width = self.enclosed(opening, flags)?;
        self.look_behind = outer;
        if width.least == width.most { Ok(Width::ZERO) } else { Err("look-behind requires fixed-width pattern") }
    }

    fn enclosed(&mut self, opening: &str, flags: Flags) -> Parsed<Width> {
        if self.depth == MAX_DEPTH {
            return Err("groups are nested too deeply");
        }
        self.depth += 1;
        self.out.push_str(opening);
        let width = self.alternatives(flags)?;
        self.depth -= 1;
        if !self.cursor.eat(")") {
            return Err("missing ), unterminated subpattern");
        }
        self.out.push(')');
        Ok(width)
    }

    /// `(?ims)` at the start of the pattern, or a group `(?ims-ims:…)` with flags of its own.
    fn flagged(&mut self, outer: Flags, at_start: bool) -> Parsed<Option<Flagged>> {
        let here = self.cursor.at();
        let is_flag = |char: char| "aiLmsux".contains(char);
        if !self.cursor.eat("(?") || !self.cursor.peek().is_some_and(|char| is_flag(char) || char == '-') {
            self.cursor.go_back_to(here);
            return Ok(None);
        }
        let on = self.cursor.eat_while(usize::MAX, is_flag);
        let minus = self.cursor.eat("-");
        let off = if minus { self.cursor.eat_while(usize::MAX, is_flag) } else { String::new() };
        let mut flags = outer;
        for (letter, value) in on.chars().map(|letter| (letter, true)).chain(off.chars().map(|letter| (letter, false)))
        {
            match letter {
                'i' => flags.ignore_case = value,
                'm' => flags.multi_line = value,
                's' => flags.dot_all = value,
                'u' if value => {}
                'u' => return Err("bad inline flags: cannot turn off flag `u`"),
                _ => return Err("the flags `a`, `L` and `x` are not supported"),
            }
        }
        if minus && off.is_empty() {
            return Err("missing flag");
        }
        if on.chars().any(|letter| off.contains(letter)) {
            return Err("bad inline flags: flag turned on and off");
        }
        if !minus && self.cursor.eat(")") {
            return if at_start {
                Ok(Some(Flagged::All(flags)))
            } else {
                Err("global flags not at the start of the expression")
            };
        }
        if !self.cursor.eat(":") {
            return Err("unknown flag, or missing :");
        }
        let opening = if flags.ignore_case { "(?i:" } else { "(?-i:" };
        self.enclosed(opening, flags).map(|width| Some(Flagged::Group(width)))
    }

    /// Applies a repeat to what was read last.
    fn repeated(&mut self, item: Item, repeat: Repeat) -> Parsed<Item> {
        match item.kind {
            Kind::Position => return Err("nothing to repeat"),
            Kind::Repeated => return Err("multiple repeat"),
            Kind::Other => {}
        }
        repeat.write(&mut self.out, item.start, item.width.most == 0);
        let width = Width {
            least: item.width.least.saturating_mul(repeat.least),
            most: item.width.most.saturating_mul(repeat.most.unwrap_or(u64::MAX)),
        };
        Ok(Item { width, kind: Kind::Repeated, ..item })
    }
}
