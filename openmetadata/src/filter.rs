//! Include and exclude patterns with the semantics that the users of OpenMetadata's workflows know.
//!
//! A pattern is a regular expression of Python, matched as `re.match(pattern, name, re.IGNORECASE)` does: from the start
//! of the name, open at its end (`account` keeps `AccountHistory`; `.*__c$` keeps what ends in `__c`). It is translated
//! for `fancy-regex`, and refused where Python refuses it, or where the two would differ.

mod escape;
mod python;
mod repeat;
mod set;

use std::sync::OnceLock;

use fancy_regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use self::escape::Names;

/// `includes` and `excludes` as a workflow writes them. An empty list is the same as none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterPattern {
    /// Keep what any of these matches; nothing given: keep all.
    #[serde(default)]
    pub includes: Option<Vec<String>>,
    /// Drop what any of these matches; wins over `includes`.
    #[serde(default)]
    pub excludes: Option<Vec<String>>,
}

impl FilterPattern {
    /// Whether it lets everything through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.includes, &self.excludes].into_iter().flatten().all(Vec::is_empty)
    }
}

/// A compiled [`FilterPattern`].
#[derive(Debug, Clone, Default)]
pub struct Filter {
    includes: Vec<Pattern>,
    excludes: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    source: String,
    /// For names in ASCII, nearly all: smaller and faster.
    ascii: Regex,
    /// For the others, when the first one comes.
    any: OnceLock<Result<Regex, String>>,
}

/// A pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{list}[{index}]: {detail}")]
pub struct PatternError {
    /// `includes` or `excludes`.
    pub list: &'static str,
    /// Which one, from 0.
    pub index: usize,
    /// Why, and what is accepted.
    pub detail: String,
}

impl Filter {
    /// The most patterns in one list. More is refused: each is tried on every name.
    pub const MAX_PATTERNS: usize = 1_000;

    /// The longest pattern, in bytes; the longest name has 256 characters. A longer one is refused.
    pub const MAX_PATTERN: usize = 256;

    /// Steps that one pattern may take on one name, some ten milliseconds. Only patterns with look-around, references to
    /// groups, atomic groups or possessive repeats count steps; the others take time linear in the name's length.
    const MAX_STEPS: usize = 100_000;

    /// Bytes of one compiled pattern; what repeats a large set hundreds of times takes more and is refused.
    const MAX_COMPILED: usize = 1024 * 1024;

    /// Compiles the patterns; all of them, so that a bad one is found before anything is contacted.
    ///
    /// # Errors
    /// The first pattern that Python's `re` would refuse too, or that is outside what is supported.
    pub fn new(pattern: &FilterPattern) -> Result<Self, PatternError> {
        Ok(Self {
            includes: compile_all("includes", pattern.includes.as_deref().unwrap_or_default())?,
            excludes: compile_all("excludes", pattern.excludes.as_deref().unwrap_or_default())?,
        })
    }

    /// Whether a name passes: matched from its start, ignoring case, excludes win. An empty name does not pass.
    ///
    /// # Errors
    /// A pattern that takes too many steps on this name: whether it matches is not known, so the name is neither kept
    /// nor dropped.
    pub fn keeps(&self, name: &str) -> Result<bool, PatternError> {
        Ok(!name.is_empty()
            && !any_matches("excludes", &self.excludes, name)?
            && (self.includes.is_empty() || any_matches("includes", &self.includes, name)?))
    }
}

fn compile_all(list: &'static str, patterns: &[String]) -> Result<Vec<Pattern>, PatternError> {
    if patterns.len() > Filter::MAX_PATTERNS {
        let detail = format!("more than {} patterns", Filter::MAX_PATTERNS);
        return Err(PatternError { list, index: Filter::MAX_PATTERNS, detail });
    }
    patterns
        .iter()
        .enumerate()
        .map(|(index, source)| {
            compile(source, Names::Ascii)
                .map(|ascii| Pattern { source: source.clone(), ascii, any: OnceLock::new() })
                .map_err(|detail| PatternError { list, index, detail })
        })
        .collect()
}

fn compile(source: &str, names: Names) -> Result<Regex, String> {
    if source.len() > Filter::MAX_PATTERN {
        return Err(format!("the pattern is longer than {} bytes", Filter::MAX_PATTERN));
    }
    RegexBuilder::new(&python::translate(source, names)?)
        .backtrack_limit(Filter::MAX_STEPS)
        .delegate_size_limit(Filter::MAX_COMPILED)
        .max_prog_size(Filter::MAX_STEPS)
        .build()
        .map_err(|_reason| "the pattern is too large or is not supported; write it more simply".to_owned())
}

fn any_matches(list: &'static str, patterns: &[Pattern], name: &str) -> Result<bool, PatternError> {
    for (index, pattern) in patterns.iter().enumerate() {
        if matches(pattern, name).map_err(|detail| PatternError { list, index, detail })? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn matches(pattern: &Pattern, name: &str) -> Result<bool, String> {
    let compiled = if name.is_ascii() && !name.ends_with('\n') {
        &pattern.ascii
    } else {
        pattern.any.get_or_init(|| compile(&pattern.source, Names::Any)).as_ref().map_err(Clone::clone)?
    };
    compiled.is_match(name).map_err(|_limit| {
        let steps = Filter::MAX_STEPS;
        format!("the pattern takes more than {steps} steps on a name; avoid repeats within repeats")
    })
}

#[cfg(test)]
mod tests;
