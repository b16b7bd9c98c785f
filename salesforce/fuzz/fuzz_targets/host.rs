//! A pattern of hosts (the first line) and a host (the second): matched as a comparison label by label says. And any text
//! as a definition's domain or a login's address: refused, or below salesforce.com on 443.
#![no_main]

use hybrid_runner_salesforce::HostPolicy;
use hybrid_runner_secrets::HostPattern;
use libfuzzer_sys::fuzz_target;

/// What a pattern without a port says of a host, by labels.
fn simple(pattern: &str, host: &str) -> bool {
    let labels = |name: &str| name.split('.').map(str::to_ascii_lowercase).collect::<Vec<_>>();
    let (pattern, host) = (labels(pattern), labels(host));
    match pattern.split_first() {
        Some((star, name)) if star == "*" => {
            host.len() > name.len() && host.ends_with(name) && host.iter().all(|label| !label.is_empty())
        }
        _ => host == pattern,
    }
}

fuzz_target!(|text: &str| {
    let (pattern, host) = text.split_once('\n').unwrap_or(("*.salesforce.com", text));
    if let Ok(parsed) = pattern.parse::<HostPattern>() {
        assert_eq!(parsed.to_string().parse(), Ok(parsed.clone()), "it prints as it is read");
        // With a port, or as an address, a pattern is no list of labels.
        if !pattern.contains(':') {
            assert_eq!(parsed.matches(host, 443), simple(pattern, host), "{pattern:?} {host:?}");
            assert!(!parsed.matches(host, 8443));
        }
    }
    let policy = HostPolicy::default();
    let below: HostPattern = "*.salesforce.com".parse().unwrap();
    for found in [policy.login_host(host).ok(), policy.session_host(host).ok()].into_iter().flatten() {
        assert!(below.matches(found.name(), found.port()) && !found.is_listed(), "{host:?} {found:?}");
        assert!(simple("*.salesforce.com", found.name()));
    }
});
