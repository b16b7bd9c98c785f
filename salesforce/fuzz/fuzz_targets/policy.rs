//! Any text as the section `policy` of a configuration: refused, or a policy that permits only what it names.
#![no_main]

use hybrid_runner::fuzz_policy;
use hybrid_runner_secrets::{Purpose, Request, SecretRef, Use};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(policy) = fuzz_policy(text) else { return };
    for text_of_reference in ["secret:/a", "secret:/a/b#c", "secret://s/a/b"] {
        let reference: SecretRef = text_of_reference.parse().unwrap();
        for usage in Use::ALL {
            // A host with an empty label is none that anybody has.
            for (host, is_host) in [("a.example", true), ("login.salesforce.com", true), (".a..b", false), ("", false)]
            {
                let purpose = Purpose { usage, host: host.to_owned(), port: 443 };
                let request = |pipeline| Request {
                    reference: &reference,
                    store: reference.store().unwrap_or("default"),
                    is_default_store: reference.store().is_none(),
                    purpose: &purpose,
                    pipeline,
                };
                let (unknown, known) = (policy.decide(&request(None)), policy.decide(&request(Some("p.q"))));
                assert!(is_host || !known.is_allowed(), "{host:?} {known}");
                assert!(known.is_allowed() || !unknown.is_allowed(), "who is not known is permitted no more");
            }
        }
    }
});
