//! JSON as `X-PrettyPrint: 1` asks for it: members on lines of their own, arrays inline, ` : ` behind a key, as in the
//! examples of Salesforce's REST guide.

/// Indents a JSON text. Only white space between tokens changes: order, numbers and escapes stay.
pub(crate) fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    // What is open at the moment: `{` or `[`.
    let mut open = Vec::new();
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => string(&mut rest, &mut out),
            '{' | '[' => {
                out.push(c);
                open.push(c);
                separate(&mut out, &open);
            }
            '}' | ']' => {
                let was = open.pop();
                out.truncate(out.trim_end().len());
                let empty = out.ends_with(['{', '[']);
                if was == Some('{') && !empty {
                    line(&mut out, &open);
                } else {
                    out.push(' ');
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                separate(&mut out, &open);
            }
            ':' => out.push_str(" : "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

/// The rest of a string whose first quote was read.
fn string(rest: &mut impl Iterator<Item = char>, out: &mut String) {
    out.push('"');
    let mut escaped = false;
    for c in rest {
        out.push(c);
        match c {
            '"' if !escaped => return,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
}

/// What stands before a member or an element.
fn separate(out: &mut String, open: &[char]) {
    if open.last() == Some(&'{') { line(out, open) } else { out.push(' ') }
}

fn line(out: &mut String, open: &[char]) {
    out.push('\n');
    let depth = open.iter().filter(|open| **open == '{').count();
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_on_lines_and_arrays_do_not() {
        let compact = r#"[{"a":1.50,"b":[],"c":{},"d":["x",{"e":null}]}]"#;
        let pretty =
            "[ {\n  \"a\" : 1.50,\n  \"b\" : [ ],\n  \"c\" : { },\n  \"d\" : [ \"x\", {\n    \"e\" : null\n  } ]\n} ]";
        assert_eq!(indent(compact), pretty);
        assert_eq!(indent(pretty), pretty);
    }

    #[test]
    fn strings_stay_as_they_are() {
        for text in [r#""a,b:{ [c] ""#, r#""\"{\\""#, r#""\\\",x""#] {
            assert_eq!(indent(text), text);
            assert_eq!(indent(&format!("[{text},{text}]")), format!("[ {text}, {text} ]"));
        }
    }
}
