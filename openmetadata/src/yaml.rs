//! Reading YAML (and so JSON) that someone else wrote.

use serde_json::Value;
use serde_saphyr::Error;

/// The longest text that is read, in bytes. A definition travels in one control message of 256 KiB; comments and
/// indentation may take the rest. Longer is refused before it is parsed.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Aliases and merge keys may not make more of a document than this many nodes; the longest real workflow has a few
/// hundred. Beyond it the text is refused.
const MAX_NODES: usize = 100_000;

/// Levels of nesting; a workflow has seven.
const MAX_DEPTH: usize = 64;

/// The text is not acceptable YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {detail}")]
pub struct SyntaxError {
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
    /// What is wrong; never a value from the text.
    pub detail: String,
}

/// The documents of a YAML text, without the empty ones. A key that stands twice in one mapping is refused.
///
/// # Errors
/// Where and why it is not YAML, or more than a definition can need.
pub fn documents(text: &str) -> Result<Vec<Value>, SyntaxError> {
    if text.len() > MAX_BYTES {
        let detail = format!("the text is longer than {} KiB", MAX_BYTES / 1024);
        return Err(SyntaxError { line: 1, column: 1, detail });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            max_total_scalar_bytes: MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| located(&error))
}

fn located(error: &Error) -> SyntaxError {
    let (line, column) = error.location().map_or((1, 1), |location| (location.line(), location.column()));
    SyntaxError { line, column, detail: detail(error.without_snippet()) }
}

/// The parser's own texts may quote the document, where a credential may stand: only those that cannot are passed on.
fn detail(error: &Error) -> String {
    match error {
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("the key `{}` stands here a second time", crate::strict::shown(key)),
            None => "a key stands here a second time".to_owned(),
        },
        Error::ExternalMessage { msg, .. } => msg.clone(),
        Error::Eof { .. } => "the text ends too early".to_owned(),
        Error::UnknownAnchor { .. } => "an alias names an anchor that does not exist".to_owned(),
        Error::NonFiniteFloat { .. } => "infinity and not-a-number are not accepted".to_owned(),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "the document is nested too deeply or is too large with its aliases expanded".to_owned()
        }
        Error::AliasError { error, .. } => detail(error.without_snippet()),
        _ => "this is not YAML that is accepted here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{MAX_BYTES, documents};

    #[test]
    fn scalars_have_the_types_that_a_python_reader_sees() {
        let text = "a: true\nb: yes\nc: off\nd: 1\ne: 1.5\nf: '1'\ng: ~\nh: login\ni: \"true\"\nj: [x, 2]\n";
        let expected = json!([{
            "a": true, "b": true, "c": false, "d": 1, "e": 1.5, "f": "1", "g": null, "h": "login", "i": "true",
            "j": ["x", 2],
        }]);
        assert_eq!(json!(documents(text).unwrap()), expected);
    }

    #[test]
    fn files_from_windows_are_read() {
        assert_eq!(json!(documents("\u{feff}a: 1\r\nb:\r\n  - x\r\n").unwrap()), json!([{"a": 1, "b": ["x"]}]));
    }

    #[test]
    fn anchors_and_merge_keys_are_expanded() {
        let text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\n";
        let expected = json!([{"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}}]);
        assert_eq!(json!(documents(text).unwrap()), expected);
    }

    #[test]
    fn empty_documents_do_not_count() {
        for text in ["", "\n# nothing\n", "---\n", "---\n---\n..."] {
            assert_eq!(documents(text).unwrap().len(), 0, "{text:?}");
        }
        assert_eq!(documents("a: 1\n---\nb: 2\n---\n").unwrap().len(), 2);
    }

    #[test]
    fn an_error_says_where_and_quotes_no_value() {
        for (text, line, column, part) in [
            ("a:\n  b: 1\n c: hunter2\n", 3, 2, ""),
            ("a: [hunter2\n", 1, 4, ""),
            ("a: \"hunter2\n", 1, 4, ""),
            ("a: hunter2\na: hunter2\n", 2, 1, "the key `a` stands here a second time"),
            ("a: *hunter2\n", 1, 4, ""),
            ("a: .inf\n", 1, 4, "infinity"),
            ("a: @hunter2\n", 1, 4, ""),
        ] {
            let error = documents(text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
            assert!(error.detail.contains(part), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let before = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(documents(&text).unwrap_err().detail.contains("too large"));
    }

    #[test]
    fn deep_nesting_and_long_texts_are_refused() {
        assert!(documents(&"[".repeat(100_000)).is_err());
        assert!(documents(&format!("a: {}", "x".repeat(MAX_BYTES))).unwrap_err().detail.contains("1024 KiB"));
    }
}
