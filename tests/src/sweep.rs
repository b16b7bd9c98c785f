//! Looks for planted secret values, in every form that one is likely to leak in.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Values that must be found nowhere, with all their forms.
#[derive(Debug)]
pub struct Planted(Vec<Value>);

#[derive(Debug)]
struct Value {
    name: String,
    forms: Vec<(&'static str, String)>,
}

/// A run of letters and digits of this length in a value is looked for on its own: no encoding of text changes it, and
/// nothing else holds it by chance.
const PIECE: usize = 10;

impl Planted {
    /// The values to look for, by name.
    #[must_use]
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(values.into_iter().map(|(name, value)| Value { name: name.to_owned(), forms: forms(value) }).collect())
    }

    /// The names of all forms.
    #[must_use]
    pub fn forms(&self) -> BTreeSet<&'static str> {
        self.0.iter().flat_map(|value| value.forms.iter().map(|(name, _)| *name)).collect()
    }

    /// What is found in a text, as `NAME as FORM`.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> BTreeSet<String> {
        let text = String::from_utf8_lossy(bytes);
        let forms = self.0.iter().flat_map(|value| value.forms.iter().map(move |form| (&value.name, form)));
        forms
            .filter(|(_, (_, form))| text.contains(form.as_str()))
            .map(|(name, (form, _))| format!("{name} as {form}"))
            .collect()
    }

    /// What is found in bytes of which most are no text, such as a process's memory, as `NAME as FORM`.
    #[must_use]
    pub fn found_in_memory(&self, bytes: &[u8]) -> BTreeSet<String> {
        let forms = self.0.iter().flat_map(|value| value.forms.iter().map(move |form| (&value.name, form)));
        forms
            .filter(|(_, (_, form))| memchr::memmem::find(bytes, form.as_bytes()).is_some())
            .map(|(name, (form, _))| format!("{name} as {form}"))
            .collect()
    }

    /// Fails when a value is found.
    pub fn absent_from(&self, place: &str, bytes: impl AsRef<[u8]>) {
        let found = self.found_in(bytes.as_ref());
        assert!(found.is_empty(), "in {place}: {found:?}");
    }

    /// Fails when a value is found in a file, or a file's name, below a folder. Names in `except`, relative to the folder,
    /// are left out with all that is below them. Returns how many files were looked at.
    pub fn absent_below(&self, folder: &Path, except: &[&str]) -> usize {
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if except.contains(&name.as_str()) {
                continue;
            }
            self.absent_from("a file's name", &name);
            if path.is_dir() {
                seen += self.absent_below(&path, &[]);
            } else {
                self.absent_from(&path.display().to_string(), std::fs::read(&path).unwrap());
                seen += 1;
            }
        }
        seen
    }
}

/// All forms of a value.
fn forms(value: &str) -> Vec<(&'static str, String)> {
    let json = serde_json::to_string(value).unwrap();
    let json = json.trim_matches('"').to_owned();
    let bytes = value.as_bytes();
    let mut forms = vec![
        ("the value", value.to_owned()),
        ("hex", hex(bytes)),
        ("upper-case hex", hex(bytes).to_uppercase()),
        ("percent-encoding", percent(value, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))),
        (
            "form encoding",
            percent(value, |byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte)).replace("%20", "+"),
        ),
        ("percent-encoding of a query", percent(value, |byte| byte.is_ascii_graphic() && !b"\"#<>'".contains(&byte))),
        ("XML with five entities", xml(value).replace('"', "&quot;").replace('\'', "&apos;")),
        ("XML with numbers for quotes", xml(value).replace('"', "&#34;").replace('\'', "&#39;")),
        ("XML with three entities", xml(value)),
        ("JSON", json.clone()),
        ("JSON in ASCII", ascii_json(&json)),
        ("JSON with escaped slashes", json.replace('/', "\\/")),
        ("JSON in JSON", serde_json::to_string(&json).unwrap().trim_matches('"').to_owned()),
        ("Rust's Debug", format!("{value:?}").trim_matches('"').to_owned()),
        ("Rust's Debug of bytes", format!("{bytes:?}").trim_matches(['[', ']']).to_owned()),
        ("escaped bytes", bytes.escape_ascii().to_string()),
    ];
    let lower = forms.iter().filter(|(name, _)| name.contains("percent") || name.contains("form"));
    let lower: Vec<_> = lower.map(|(_, form)| ("lower-case percent-encoding", lower_percent(form))).collect();
    forms.extend(lower);
    for shift in 0..3 {
        forms.push(("base64", base64(bytes, shift, &STANDARD_NO_PAD)));
        forms.push(("base64 for URLs", base64(bytes, shift, &URL_SAFE_NO_PAD)));
    }
    let pieces = value.split(|c: char| !c.is_ascii_alphanumeric()).filter(|piece| piece.len() >= PIECE);
    forms.extend(pieces.map(|piece| ("a piece of it", piece.to_owned())));
    forms
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn percent(value: &str, kept: impl Fn(u8) -> bool) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        if kept(byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").unwrap();
        }
        text
    })
}

fn lower_percent(text: &str) -> String {
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (digits, rest) = part.split_at(part.len().min(2));
        text + "%" + &digits.to_lowercase() + rest
    })
}

fn xml(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn ascii_json(json: &str) -> String {
    let mut units = [0; 2];
    json.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                write!(text, "\\u{unit:04x}").unwrap();
            }
        }
        text
    })
}

/// The base64 of a value that stands behind `shift` other bytes: the characters that depend on nothing but the value.
fn base64(bytes: &[u8], shift: usize, engine: &impl base64::Engine) -> String {
    let behind: Vec<u8> = std::iter::repeat_n(0, shift).chain(bytes.iter().copied()).collect();
    let encoded = engine.encode(&behind);
    let (first, last) = ((shift * 8).div_ceil(6), behind.len() * 8 / 6);
    encoded.get(first..last).unwrap().to_owned()
}
