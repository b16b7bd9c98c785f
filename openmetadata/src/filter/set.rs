//! Sets of characters, `[…]`.

use super::escape::{Cursor, LETTERS_I, Names, Parsed, category, push_code};

#[derive(Debug, Clone, Copy)]
enum Member {
    Char(char),
    Category(&'static str),
}

/// Translates a set; the cursor stands behind its `[`.
pub(super) fn translate(cursor: &mut Cursor, names: Names, ignore_case: bool) -> Parsed<String> {
    const UNTERMINATED: &str = "unterminated character set";
    let mut out = if cursor.eat("^") { "[^".to_owned() } else { "[".to_owned() };
    let mut has_letter_i = false;
    let mut empty = true;
    loop {
        if !empty && cursor.eat("]") {
            break;
        }
        empty = false;
        match member(cursor, names)?.ok_or(UNTERMINATED)? {
            from if !range_follows(cursor) => match from {
                Member::Category(set) => out.push_str(set),
                Member::Char(char) => {
                    push_code(&mut out, char);
                    has_letter_i |= LETTERS_I.contains(&char);
                }
            },
            from => match (from, member(cursor, names)?.ok_or(UNTERMINATED)?) {
                (Member::Char(from), Member::Char(to)) if from <= to => {
                    push_code(&mut out, from);
                    out.push('-');
                    push_code(&mut out, to);
                    has_letter_i |= LETTERS_I.iter().any(|letter| (from..=to).contains(letter));
                }
                _ => return Err("bad character range"),
            },
        }
    }
    if ignore_case && has_letter_i {
        out.extend(LETTERS_I);
    }
    out.push(']');
    Ok(out)
}

/// Reads the `-` of a range. One that stands before the `]` is a member of its own.
fn range_follows(cursor: &mut Cursor) -> bool {
    let here = cursor.at();
    if !cursor.eat("-") {
        return false;
    }
    if cursor.peek() == Some(']') {
        cursor.go_back_to(here);
        return false;
    }
    true
}

fn member(cursor: &mut Cursor, names: Names) -> Parsed<Option<Member>> {
    let Some(char) = cursor.next() else { return Ok(None) };
    if char != '\\' {
        return Ok(Some(Member::Char(char)));
    }
    let letter = cursor.next().ok_or("bad escape")?;
    Ok(Some(match (category(letter, names), letter) {
        (Some(set), _) => Member::Category(set),
        (None, 'b') => Member::Char('\x08'),
        (None, '0'..='7') => Member::Char(cursor.octal(letter)?),
        (None, letter) => Member::Char(cursor.escaped(letter)?),
    }))
}
