//! Any text as a reference to a secret: refused, or exactly what is read back from it, and nowhere outside its store.
#![no_main]

use hybrid_runner_secrets::{Binding, HostPattern, Policy, Prefix, Purpose, ReferencePattern, Request, SecretRef, Use};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Patterns and prefixes have the same words, and stars.
    drop(text.parse::<Prefix>());
    let pattern = text.parse::<ReferencePattern>();
    let Ok(reference) = text.parse::<SecretRef>() else { return };
    assert_eq!(reference.to_string(), text, "one spelling a reference");
    assert!(text.len() <= SecretRef::MAX);
    let word = |word: &String| {
        (1..=128).contains(&word.len())
            && !matches!(word.as_str(), "." | "..")
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "_.@+=-".contains(c))
    };
    assert!(!reference.path().segments().is_empty() && reference.path().segments().iter().all(word));
    // A reference is a pattern that covers itself.
    let hosts = vec![HostPattern::below("salesforce.com", 443)];
    let policy = Policy::new(vec![Binding::new("itself", vec![pattern.unwrap()], hosts)]);
    let purpose = Purpose { usage: Use::Soap, host: "login.salesforce.com".to_owned(), port: 443 };
    let (store, is_default_store) = (reference.store().unwrap_or("default"), reference.store().is_none());
    let request = Request { reference: &reference, store, is_default_store, purpose: &purpose, pipeline: None };
    assert!(policy.decide(&request).is_allowed());
});
