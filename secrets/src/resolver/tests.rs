use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::policy::Binding;
use crate::{Read, ReadError, SecretPath, SecretStore};

/// Answers everything, and counts.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<AtomicUsize>);

#[async_trait]
impl SecretStore for Counted {
    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(SecretValue::new(path.to_string()).into())
    }
}

fn binding(references: &str, host: &str, uses: &[Use]) -> Binding {
    let (references, hosts) = (vec![references.parse().unwrap()], vec![host.parse().unwrap()]);
    Binding::new("policy.bindings[0]", references, hosts).for_uses(uses.to_vec())
}

fn resolver(bindings: Vec<Binding>) -> (Resolver, Arc<AtomicUsize>) {
    let store = Counted::default();
    let asked = Arc::clone(&store.0);
    let stores = Arc::new(Stores::default().with("store", store));
    (Resolver::new(stores, Arc::new(Policy::new(bindings)), None), asked)
}

fn soap(host: &str) -> Purpose {
    Purpose { usage: Use::Soap, host: host.to_owned(), port: 443 }
}

fn reference(text: &str) -> SecretRef {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_the_policy_denies_no_store_is_asked_for() {
    let (resolver, asked) = resolver(vec![binding("secret:/a/*", "*.salesforce.com", &[Use::Soap])]);
    for (text, purpose) in [
        ("secret:/b/c", soap("login.salesforce.com")),
        ("secret:/a/c", soap("evil.example")),
        ("secret:/a/c", Purpose { usage: Use::Oauth, ..soap("login.salesforce.com") }),
        ("secret://none/a/c", soap("login.salesforce.com")),
    ] {
        let denied = resolver.read(&reference(text), &purpose).await.err();
        assert!(matches!(denied, Some(SecretError::PolicyDenied { .. })), "{text} {purpose}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert!(resolver.read(&reference("secret:/a/c"), &soap("login.salesforce.com")).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn denied_and_not_found_are_one_text_for_whoever_asked() {
    let stores = Arc::new(Stores::default().with("store", crate::MemoryStore::default()));
    let policy = Policy::new(vec![binding("secret:/a", "*.salesforce.com", &[])]);
    let resolver = Resolver::new(stores, Arc::new(policy), None);
    let public = async |text: &str| {
        let error = resolver.read(&reference(text), &soap("login.salesforce.com")).await.err().unwrap();
        (error.public_text().replace(text, "REFERENCE"), error.to_string())
    };
    let (missing, denied) = (public("secret:/a").await, public("secret:/b").await);
    assert_eq!(missing.0, denied.0);
    assert!(missing.1 != denied.1 && denied.1.contains("policy.bindings[0]"), "{denied:?}");
}

#[tokio::test]
async fn a_reference_that_occurs_twice_in_a_login_is_read_once_and_checked_twice() {
    let (resolver, asked) = resolver(vec![binding("secret:/a", "*.salesforce.com", &[Use::Soap, Use::Tls])]);
    let mut reads = resolver.begin();
    let (a, soap) = (reference("secret:/a"), soap("login.salesforce.com"));
    for usage in [Use::Soap, Use::Tls, Use::Soap] {
        assert!(reads.read(&a, &Purpose { usage, ..soap.clone() }).await.is_ok());
    }
    assert!(reads.read(&a, &Purpose { usage: Use::Oauth, ..soap.clone() }).await.is_err());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    drop(reads);
    assert!(resolver.read(&a, &soap).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_value_comes_out_for_a_host_of_its_bindings_only() {
    let (resolver, _) = resolver(vec![
        binding("secret:/a", "login.salesforce.com", &[Use::Soap]),
        binding("secret:/a", "test.salesforce.com", &[Use::Soap]),
        binding("secret:/a", "acme.my.salesforce.com", &[Use::Session]),
        binding("secret:/b", "other.salesforce.com", &[Use::Soap]),
    ]);
    let value = resolver.read(&reference("secret:/a"), &soap("login.salesforce.com")).await.ok().unwrap();
    assert_eq!(value.expose_to("login.salesforce.com", 443), Ok("/a"));
    assert_eq!(value.expose_to("test.salesforce.com", 443), Ok("/a"));
    for (host, port) in [("login.salesforce.com", 80), ("acme.my.salesforce.com", 443), ("other.salesforce.com", 443)] {
        assert_eq!(value.expose_to(host, port), Err(NotPermitted { host: host.to_owned(), port }));
    }
    let session = BoundSecret::derive(SecretValue::new("session".to_owned()), &[&value]);
    assert_eq!(session.expose_to("acme.my.salesforce.com", 443), Ok("session"));
    assert!(session.expose_to("other.salesforce.com", 443).is_err());
}

#[tokio::test]
async fn what_is_derived_may_go_where_every_parent_may_go_and_without_parents_nowhere() {
    let (resolver, _) = resolver(vec![
        binding("secret:/a", "*.salesforce.com", &[]),
        binding("secret:/b", "login.salesforce.com", &[]),
        binding("secret:/c", "test.salesforce.com", &[]),
    ]);
    let mut reads = resolver.begin();
    let a = reads.read(&reference("secret:/a"), &soap("login.salesforce.com")).await.ok().unwrap();
    let b = reads.read(&reference("secret:/b"), &soap("login.salesforce.com")).await.ok().unwrap();
    let c = reads.read(&reference("secret:/c"), &soap("test.salesforce.com")).await.ok().unwrap();
    let derive = |parents: &[&BoundSecret]| BoundSecret::derive(SecretValue::new("x".to_owned()), parents);
    assert!(derive(&[&a, &b]).expose_to("login.salesforce.com", 443).is_ok());
    assert!(derive(&[&a, &b]).expose_to("acme.my.salesforce.com", 443).is_err());
    assert!(derive(&[&derive(&[&a]), &b]).expose_to("acme.my.salesforce.com", 443).is_err());
    for host in ["login.salesforce.com", "test.salesforce.com"] {
        assert!(derive(&[&b, &c]).expose_to(host, 443).is_err());
        assert!(derive(&[]).expose_to(host, 443).is_err());
    }
}
