//! The forms in which a value is likely to leave by mistake.

use std::fmt::Write as _;

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// The most bytes that a byte becomes in any form below, so that no text grows and leaves a copy behind.
const GROWTH: usize = 10;

type Text = Zeroizing<String>;

/// Every form of a value, each once.
pub(super) fn of(value: &str) -> Vec<Text> {
    let mut forms: Vec<Text> = pieces(value).into_iter().flat_map(of_piece).collect();
    forms.sort_by(|a, b| a.as_str().cmp(b));
    forms.dedup();
    forms
}

/// What is searched of a value: the value, and of a PEM text the lines between its marks, because encodings write line
/// ends in many ways. Certificates are left out.
fn pieces(value: &str) -> Vec<&str> {
    if !value.contains("-----BEGIN ") {
        return vec![value];
    }
    let sections = value.split("-----BEGIN ").skip(1).filter(|section| !section.starts_with("CERTIFICATE-----"));
    let bodies = sections.filter_map(|section| section.split("-----").nth(1));
    // A line end that went through a variable or a form is `\n` or a blank.
    bodies.flat_map(|body| body.split("\\n")).flat_map(str::split_whitespace).collect()
}

fn of_piece(piece: &str) -> Vec<Text> {
    let bytes = piece.as_bytes();
    let mut forms = vec![Text::from(piece.to_owned())];
    if bytes.len() < super::ANCHOR {
        return Vec::new();
    }
    forms.push(written(piece, |text| bytes.iter().try_for_each(|byte| write!(text, "{byte:02x}"))));
    forms.push(written(piece, |text| bytes.iter().try_for_each(|byte| write!(text, "{byte:02X}"))));
    for shift in 0..3 {
        forms.extend([base64(bytes, shift, &STANDARD_NO_PAD), base64(bytes, shift, &URL_SAFE_NO_PAD)]);
    }
    forms.extend(percent(piece));
    forms.extend(xml(piece));
    forms.extend(json(piece));
    forms.extend(debug(piece));
    forms
}

/// The base64 of a value behind `shift` other bytes: the characters that depend on nothing but the value. What stands
/// behind it, padding or another text, changes none of them.
fn base64(bytes: &[u8], shift: usize, engine: &impl base64::Engine) -> Text {
    let mut behind = Zeroizing::new(Vec::with_capacity(shift + bytes.len()));
    behind.resize(shift, 0);
    behind.extend_from_slice(bytes);
    let encoded = Zeroizing::new(engine.encode(&behind));
    let own = (shift * 8).div_ceil(6)..behind.len() * 8 / 6;
    Text::from(encoded.get(own).unwrap_or_default().to_owned())
}

/// URLs and forms: what each leaves as it is, blanks as `+` or not, digits in both cases.
fn percent(value: &str) -> impl Iterator<Item = Text> {
    let kept = [
        // RFC 3986, HTML forms, JavaScript's encodeURIComponent, the query of the URL standard.
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte),
        |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte),
        |byte: u8| byte.is_ascii_graphic() && !b"\"#<>'".contains(&byte),
    ];
    let ways = kept.into_iter().flat_map(|kept| [true, false].map(|plus| (kept, plus)));
    ways.flat_map(|(kept, plus)| [true, false].map(|upper| (kept, plus, upper))).map(move |(kept, plus, upper)| {
        written(value, |text| {
            value.bytes().try_for_each(|byte| match byte {
                b' ' if plus => text.write_char('+'),
                byte if kept(byte) => text.write_char(char::from(byte)),
                byte if upper => write!(text, "%{byte:02X}"),
                byte => write!(text, "%{byte:02x}"),
            })
        })
    })
}

/// XML and HTML: what stands for a quote, an apostrophe and `>`.
fn xml(value: &str) -> impl Iterator<Item = Text> {
    let quotes = ["\"", "&quot;", "&#34;", "&#x22;"];
    let ways = quotes.into_iter().flat_map(|quote| ["'", "&apos;", "&#39;", "&#x27;"].map(|other| (quote, other)));
    ways.flat_map(|(quote, other)| [">", "&gt;"].map(|angle| (quote, other, angle))).map(
        move |(quote, other, angle)| {
            written(value, |text| {
                value.chars().try_for_each(|c| match c {
                    '&' => text.write_str("&amp;"),
                    '<' => text.write_str("&lt;"),
                    '>' => text.write_str(angle),
                    '"' => text.write_str(quote),
                    '\'' => text.write_str(other),
                    c => text.write_char(c),
                })
            })
        },
    )
}

/// JSON: whether slashes are escaped, and what is harmful in HTML, and how letters beyond ASCII are; and JSON in JSON.
fn json(value: &str) -> impl Iterator<Item = Text> {
    let ways = [false, true].into_iter().flat_map(|slash| [false, true].map(|html| (slash, html)));
    let ways = ways.flat_map(|(slash, html)| [None, Some(false), Some(true)].map(|ascii| (slash, html, ascii)));
    let once = ways.map(|(slash, html, ascii)| json_text(value, slash, html, ascii));
    once.chain(std::iter::once_with(|| json_text(&json_text(value, false, false, None), false, false, None)))
}

/// `ascii`: whether letters beyond ASCII are written as numbers, in upper case or not.
fn json_text(value: &str, slash: bool, html: bool, ascii: Option<bool>) -> Text {
    let number = |text: &mut String, unit: u16| match ascii {
        Some(true) => write!(text, "\\u{unit:04X}"),
        _ => write!(text, "\\u{unit:04x}"),
    };
    written(value, |text| {
        value.chars().try_for_each(|c| match c {
            '"' => text.write_str("\\\""),
            '\\' => text.write_str("\\\\"),
            '/' if slash => text.write_str("\\/"),
            '\n' => text.write_str("\\n"),
            '\r' => text.write_str("\\r"),
            '\t' => text.write_str("\\t"),
            '\u{8}' => text.write_str("\\b"),
            '\u{c}' => text.write_str("\\f"),
            c if c < ' ' || (html && "<>&'".contains(c)) || (ascii.is_some() && !c.is_ascii()) => {
                c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| number(text, *unit))
            }
            c => text.write_char(c),
        })
    })
}

/// What Rust prints of texts and bytes.
fn debug(value: &str) -> [Text; 3] {
    let bytes = value.as_bytes();
    [
        written(value, |text| write!(text, "{}", value.escape_debug())),
        written(value, |text| write!(text, "{}", bytes.escape_ascii())),
        written(value, |text| {
            bytes.iter().enumerate().try_for_each(|(index, byte)| match index {
                0 => write!(text, "{byte}"),
                _ => write!(text, ", {byte}"),
            })
        }),
    ]
}

fn written(value: &str, write: impl FnOnce(&mut String) -> std::fmt::Result) -> Text {
    let mut text = Zeroizing::new(String::with_capacity(GROWTH * value.len()));
    // Into a String nothing fails.
    write(&mut text).unwrap_or_default();
    text
}
