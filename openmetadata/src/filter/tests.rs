use serde::Deserialize;

use super::{Filter, FilterPattern};

/// Made by `tests/data/python_re.py`.
#[derive(Deserialize)]
struct Table {
    names: Vec<String>,
    patterns: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    pattern: String,
    /// Indices into the names; none: Python refuses the pattern.
    matches: Option<Vec<usize>>,
}

/// Python takes these, and this crate says that it does not: see the documentation of `python`.
const UNSUPPORTED: [&str; 9] = [
    "(?a)a",
    "(?a:a)",
    "(?x) a",
    "(?x: a )",
    r"\N{DIGIT ONE}",
    r"\N{LATIN SMALL LETTER A}",
    r"[\N{DIGIT ONE}]",
    "(a)(?(1)b|c)",
    "(?P<n>a)(?(n)b)",
];

fn including(patterns: &[&str]) -> FilterPattern {
    FilterPattern { includes: Some(patterns.iter().map(|&pattern| pattern.to_owned()).collect()), excludes: None }
}

fn excluding(patterns: &[&str]) -> FilterPattern {
    FilterPattern { includes: None, excludes: including(patterns).includes }
}

fn keeps(pattern: &FilterPattern, name: &str) -> bool {
    Filter::new(pattern).unwrap().keeps(name).unwrap()
}

/// Where the table and this crate differ.
fn differences(table: &Table) -> Vec<String> {
    let mut differences = Vec::new();
    for Row { pattern, matches } in &table.patterns {
        match (Filter::new(&including(&[pattern])), matches) {
            (Err(_), None) => {}
            (Err(error), Some(_)) => differences.push(format!("{pattern:?}: Python accepts; {error}")),
            (Ok(_), None) => differences.push(format!("{pattern:?}: Python refuses")),
            (Ok(filter), Some(matches)) => {
                for (index, name) in table.names.iter().enumerate() {
                    if filter.keeps(name) != Ok(matches.contains(&index)) {
                        differences.push(format!("{pattern:?} on {name:?}: {:?}", filter.keeps(name)));
                    }
                }
            }
        }
    }
    differences
}

#[test]
fn names_match_as_in_python() {
    let mut table: Table = serde_json::from_str(include_str!("../../tests/data/python_re.json")).unwrap();
    table.patterns.retain(|row| !UNSUPPORTED.contains(&row.pattern.as_str()));
    assert!(table.patterns.len() > 1_500);
    assert_eq!(differences(&table), Vec::<String>::new());
}

#[test]
fn what_is_not_supported_is_refused_with_the_reason() {
    for pattern in UNSUPPORTED {
        let error = Filter::new(&including(&["a", pattern])).unwrap_err();
        assert_eq!((error.list, error.index), ("includes", 1), "{pattern}");
        assert!(error.detail.contains("not supported"), "{pattern}: {error}");
    }
}

#[test]
fn an_invalid_pattern_is_named_with_its_list_and_place() {
    let error = Filter::new(&excluding(&["fine", "*.c"])).unwrap_err();
    assert_eq!(error.to_string(), "excludes[1]: nothing to repeat, at character 1 of the pattern");
}

#[test]
fn an_exclude_wins_and_an_empty_list_is_none() {
    let both = FilterPattern { excludes: excluding(&[".*History$"]).excludes, ..including(&["account"]) };
    for (name, kept) in [("Account", true), ("AccountShare", true), ("AccountHistory", false), ("Case", false)] {
        assert_eq!(keeps(&both, name), kept, "{name}");
    }
    for none in [FilterPattern::default(), including(&[]), excluding(&[])] {
        assert!(none.is_empty());
        assert!(keeps(&none, "Account"));
        assert!(!keeps(&none, ""), "an empty name is dropped");
    }
}

#[test]
fn more_or_longer_patterns_than_allowed_are_refused() {
    let pattern = ["a"; Filter::MAX_PATTERNS];
    assert!(Filter::new(&including(&pattern)).is_ok());
    let error = Filter::new(&including(&[&pattern[..], &["a"]].concat())).unwrap_err();
    assert_eq!(error.to_string(), "includes[1000]: more than 1000 patterns");

    let longest = "a".repeat(Filter::MAX_PATTERN);
    assert!(Filter::new(&including(&[&longest])).is_ok());
    let error = Filter::new(&including(&[&(longest + "a")])).unwrap_err();
    assert_eq!(error.to_string(), "includes[0]: the pattern is longer than 256 bytes");
}

#[test]
fn a_pattern_that_takes_too_many_steps_is_an_error_and_not_a_mismatch() {
    let filter = Filter::new(&excluding(&["b", "(a|aa)+(?!a)c"])).unwrap();
    assert_eq!(filter.keeps("aac"), Ok(false));
    let error = filter.keeps(&"a".repeat(45)).unwrap_err();
    assert_eq!((error.list, error.index), ("excludes", 1));
    assert!(error.detail.contains("100000 steps"), "{error}");
}

#[test]
fn huge_patterns_are_refused_and_large_ones_work() {
    for pattern in ["(?:a{1000}){1000}", "((a{100}){100}){100}", "a{4294967295}"] {
        let error = Filter::new(&including(&[pattern])).unwrap_err();
        assert!(error.detail.contains("too large"), "{pattern}: {error}");
    }
    let deep = |groups| "(".repeat(groups) + &")".repeat(groups);
    assert!(Filter::new(&including(&[&deep(50)])).is_ok());
    assert!(Filter::new(&including(&[&deep(51)])).unwrap_err().detail.starts_with("groups are nested too deeply"));
    assert!(keeps(&including(&[r"\w{3,40}$"]), "Compte_privé__c"));
}
