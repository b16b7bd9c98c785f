use proptest::prelude::*;

use super::*;

fn purpose(usage: Use, host: &str) -> Purpose {
    Purpose { usage, host: host.to_owned(), port: 443 }
}

fn decide(policy: &Policy, reference: &str, purpose: &Purpose, pipeline: Option<&str>) -> Decision {
    let reference: SecretRef = reference.parse().unwrap();
    let store = reference.store().unwrap_or("vault");
    let is_default_store = store == "vault";
    policy.decide(&Request { reference: &reference, store, is_default_store, purpose, pipeline })
}

fn prod() -> Binding {
    let hosts = vec!["login.salesforce.com".parse().unwrap(), "acme.my.salesforce.com".parse().unwrap()];
    Binding::new("policy.bindings[0]", vec!["secret:/salesforce/prod/*".parse().unwrap()], hosts)
        .for_uses(vec![Use::Soap])
        .in_pipelines(vec!["salesforce_prod.*".parse().unwrap()])
}

#[test]
fn a_binding_permits_what_it_covers_in_every_part_and_nothing_else() {
    let policy = Policy::new(vec![prod()]);
    let soap = purpose(Use::Soap, "login.salesforce.com");
    let pipeline = Some("salesforce_prod.metadata");
    let allowed = Decision::Allowed { binding: "policy.bindings[0]".to_owned() };
    assert_eq!(decide(&policy, "secret:/salesforce/prod/password", &soap, pipeline), allowed);
    let lacks = |decision: Decision| match decision {
        Decision::Denied(Denial::Unbound { misses, .. }) => misses[0].lacks.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(lacks(decide(&policy, "secret:/aws/root", &soap, pipeline)), [Lack::Reference]);
    assert_eq!(lacks(decide(&policy, "secret://file/salesforce/prod/password", &soap, pipeline)), [Lack::Reference]);
    let elsewhere = purpose(Use::Soap, "evil.my.salesforce.com");
    assert_eq!(lacks(decide(&policy, "secret:/salesforce/prod/password", &elsewhere, pipeline)), [Lack::Host]);
    let oauth = purpose(Use::Oauth, "login.salesforce.com");
    assert_eq!(lacks(decide(&policy, "secret:/salesforce/prod/password", &oauth, pipeline)), [Lack::Use]);
    for other in [Some("other.metadata"), None] {
        assert_eq!(lacks(decide(&policy, "secret:/salesforce/prod/password", &soap, other)), [Lack::Pipeline]);
    }
    let port = Purpose { port: 8443, ..soap };
    assert_eq!(lacks(decide(&policy, "secret:/salesforce/prod/password", &port, pipeline)), [Lack::Host]);
}

#[test]
fn a_denial_says_what_each_binding_lacks_and_what_to_change() {
    let other = Binding::new("policy.bindings[1]", vec!["**".parse().unwrap()], vec!["proxy:3128".parse().unwrap()]);
    let policy = Policy::new(vec![prod(), other]);
    let oauth = purpose(Use::Oauth, "acme.my.salesforce.com");
    let Decision::Denied(denial) = decide(&policy, "secret:/salesforce/prod/password", &oauth, None) else {
        panic!("it was allowed");
    };
    assert_eq!(
        denial.to_string(),
        "no binding permits oauth at acme.my.salesforce.com:443: policy.bindings[0] does not cover the use and pipeline, \
         policy.bindings[1] does not cover the host"
    );
    assert_eq!(
        denial.remedy(),
        "in policy.bindings[1], add acme.my.salesforce.com:443 to its hosts; or write a binding of its own"
    );
}

#[test]
fn a_policy_without_bindings_permits_nothing() {
    let denied = decide(&Policy::default(), "secret:/a", &purpose(Use::Soap, "login.salesforce.com"), Some("p"));
    assert!(!denied.is_allowed());
}

#[test]
fn a_prefix_is_looked_at_before_the_bindings_and_is_that_of_its_store() {
    let all = Binding::new("all", vec!["**".parse().unwrap()], vec!["*.salesforce.com".parse().unwrap()]);
    let policy = Policy::new(vec![all]).with_prefix("vault", "/hybrid-runner".parse().unwrap());
    let soap = purpose(Use::Soap, "login.salesforce.com");
    assert!(decide(&policy, "secret:/hybrid-runner/a", &soap, None).is_allowed());
    assert!(decide(&policy, "secret://vault/hybrid-runner/a", &soap, None).is_allowed());
    assert!(decide(&policy, "secret://file/a", &soap, None).is_allowed());
    let Decision::Denied(denial) = decide(&policy, "secret:/a", &soap, None) else { panic!("it was allowed") };
    assert!(denial.to_string().contains("below /hybrid-runner"), "{denial}");
    assert!(denial.remedy().contains("secrets.stores.vault.prefix"), "{}", denial.remedy());
}

#[test]
fn networks_hold_addresses_of_their_own_family() {
    let policy = Policy::default().with_networks(vec!["10.20.0.0/16".parse().unwrap(), "::1".parse().unwrap()]);
    for (address, inside) in [("10.20.255.1", true), ("10.21.0.0", false), ("::1", true), ("::2", false)] {
        assert_eq!(policy.names_network_of(address.parse().unwrap()), inside, "{address}");
    }
    for bad in ["", "10.20.0.1/16", "10.20.0.0/33", "10.20", "fd00::1/8", "all"] {
        assert_eq!(bad.parse::<Network>(), Err(MalformedNetwork), "{bad}");
    }
}

proptest! {
    /// A narrower policy never permits more: what two bindings permit together, one of them permits alone.
    #[test]
    fn bindings_do_not_add_up(
        reference in "secret:/[ab]/[ab]",
        host in "[ab]\\.example",
        one in ("secret:/[ab*]/[ab*]", "[ab]\\.example"),
        two in ("secret:/[ab*]/[ab*]", "[ab]\\.example"),
    ) {
        let binding = |(references, hosts): &(String, String)| {
            Binding::new("b", vec![references.parse().unwrap()], vec![hosts.parse().unwrap()])
        };
        let purpose = purpose(Use::Soap, &host);
        let allowed = |bindings| decide(&Policy::new(bindings), &reference, &purpose, None).is_allowed();
        let (first, second) = (allowed(vec![binding(&one)]), allowed(vec![binding(&two)]));
        prop_assert_eq!(allowed(vec![binding(&one), binding(&two)]), first || second);
    }
}
