//! Any text as a filter pattern (its first line) and a name (the rest): refused, or decided in few steps, alike each time.
#![no_main]

use hybrid_runner_openmetadata::filter::{Filter, FilterPattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (pattern, name) = text.split_once('\n').unwrap_or((text, "Account"));
    let pattern = FilterPattern { includes: Some(vec![pattern.to_owned()]), excludes: None };
    let Ok(filter) = Filter::new(&pattern) else { return };
    // The longest name that OpenMetadata stores.
    let name: String = name.chars().take(256).collect();
    assert_eq!(filter.keeps(&name), filter.keeps(&name));
});
