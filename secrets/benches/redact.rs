//! What it costs to look for secrets: `cargo bench -p hybrid-runner-secrets --bench redact`.
//!
//! The text is that of entities as the Salesforce connector makes them; four values are known, as during a run: password,
//! security token, session id and the agent's bearer token.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a bench prints and measures time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use hybrid_runner_secrets::{Redactor, SecretValue};

const VALUES: [&str; 4] = [
    "pWq7Zk2Lx9Vb4<&>\"'/\\+ %=",
    "tKn3Hs8Rd5Yc1Zz8Qe2Ub6Wp",
    "00D5g000004XmPl!AQEA.0001Zk2Lx9Vb4Hs8Rd5Yc1tKn3Jf0Gu7Ma2QwErTyUiOpAsDfGhJkLzXcVbNm",
    "a-bearer-token-of-at-least-32-characters",
];
/// Long enough that a clock's steps do not count.
const LASTS: Duration = Duration::from_secs(2);

fn main() {
    let entities: Vec<String> = (0..200).map(entity).collect();
    let bytes: usize = entities.iter().map(String::len).sum();
    for known in [0, 1, 4] {
        let redactor = Redactor::default();
        let held: Vec<_> =
            VALUES.iter().take(known).map(|&text| redactor.watch(SecretValue::new(text.into()))).collect();
        let begun = Instant::now();
        let mut rounds = 0_u32;
        while begun.elapsed() < LASTS {
            for entity in &entities {
                assert!(!redactor.scan(black_box(entity.as_bytes())), "nothing is in there");
            }
            rounds += 1;
        }
        let seconds = begun.elapsed().as_secs_f64() / f64::from(rounds);
        let megabytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1e6;
        println!("{} values known: {:.0} MB/s", held.len(), megabytes / seconds);
    }
    let begun = Instant::now();
    let redactor = Redactor::default();
    for turn in 0..100 {
        drop(redactor.watch(SecretValue::new(format!("{}{turn}", VALUES[2]))));
    }
    println!("a value more: {:.0} µs", begun.elapsed().as_secs_f64() * 1e4);
}

/// About 20 kB.
fn entity(number: usize) -> String {
    let mut text = format!("{{\"name\":\"Object{number}__c\",\"displayName\":\"An object\",\"columns\":[");
    for column in 0..109 {
        let comma = if column == 0 { "" } else { "," };
        text.push_str(&format!(
            "{comma}{{\"name\":\"Field_{column}__c\",\"displayName\":\"Field {column}\",\"dataType\":\"VARCHAR\",\"dataLength\":255,\
             \"dataTypeDisplay\":\"string(255)\",\"description\":\"What the field {column} of object {number} is for\",\
             \"constraint\":\"NULL\"}}"
        ));
    }
    text + "]}"
}
