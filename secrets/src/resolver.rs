//! The one way from a reference to a value that can be sent.
//!
//! ```text
//! reference, purpose ─▶ Policy::decide ─▶ store ─▶ BoundSecret ─▶ expose_to(host, port) ─▶ bytes
//!                          │ denied: no store is asked     └ derive ─▶ BoundSecret of what a login answered
//! ```
//!
//! What a login answers is bound as its parents are: to hosts of bindings that cover every one of them for its own use or
//! as a `session`. So a binding for the password can name the login's host alone, and one for `session` the org's.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::{Decision, HostPattern, Policy, Purpose, Request, Use};
use crate::{Read, Redactor, SecretError, SecretRef, SecretValue, Stores};

/// The stores, and what may be read from them for one pipeline.
#[derive(Debug, Clone)]
pub struct Resolver {
    stores: Arc<Stores>,
    policy: Arc<Policy>,
    pipeline: Option<String>,
}

impl Resolver {
    /// A resolver for a pipeline; `None` when it is not known, which only bindings for all pipelines permit.
    #[must_use]
    pub fn new(stores: Arc<Stores>, policy: Arc<Policy>, pipeline: Option<String>) -> Self {
        Self { stores, policy, pipeline }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Knows every value that was read here.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        self.stores.redactor()
    }

    /// The pipeline that it reads for.
    #[must_use]
    pub fn pipeline(&self) -> Option<&str> {
        self.pipeline.as_deref()
    }

    /// The name of the store that a reference is read from, configured or not.
    #[must_use]
    pub fn store_of<'a>(&'a self, reference: &'a SecretRef) -> &'a str {
        self.stores.store_of(reference)
    }

    /// Whether a secret may be read for a purpose, and why. Asks no store.
    #[must_use]
    pub fn decide(&self, reference: &SecretRef, purpose: &Purpose) -> Decision {
        self.policy.decide(&self.request(reference, purpose))
    }

    /// The hosts that something may go to which is got for a secret, such as a session id. Asks no store.
    #[must_use]
    pub fn session_hosts(&self, reference: &SecretRef, purpose: &Purpose) -> Vec<HostPattern> {
        self.policy.hosts(&self.request(reference, purpose), &[purpose.usage, Use::Session])
    }

    /// Reads a secret for a purpose. The policy is asked first; what it denies, no store hears of.
    ///
    /// # Errors
    /// [`SecretError::PolicyDenied`], or why the store has no value.
    pub async fn read(&self, reference: &SecretRef, purpose: &Purpose) -> Result<BoundSecret, SecretError> {
        self.begin().read(reference, purpose).await
    }

    /// Whether a secret can be read for a purpose now. Its value is dropped at once.
    ///
    /// # Errors
    /// As [`Resolver::read`].
    pub async fn check(&self, reference: &SecretRef, purpose: &Purpose) -> Result<Readable, SecretError> {
        self.permit(&self.request(reference, purpose))?;
        let Read { value, version } = self.stores.read_with_version(reference).await?;
        Ok(Readable { version, is_short: value.expose().len() < Redactor::SHORTEST })
    }

    /// Begins the reads of one login, in which a reference that occurs twice is read once.
    #[must_use]
    pub fn begin(&self) -> Reads<'_> {
        Reads { resolver: self, seen: BTreeMap::new() }
    }

    fn permit(&self, request: &Request<'_>) -> Result<(), SecretError> {
        match self.policy.decide(request) {
            Decision::Allowed { .. } => Ok(()),
            Decision::Denied(denial) => {
                self.stores.count_denied(request.reference);
                let (reference, store) = (request.reference.clone(), request.store.to_owned());
                Err(SecretError::PolicyDenied { reference, store, why: denial.to_string() })
            }
        }
    }

    fn request<'a>(&'a self, reference: &'a SecretRef, purpose: &'a Purpose) -> Request<'a> {
        let store = self.store_of(reference);
        let is_default_store = reference.store().is_none() || self.stores.default_store() == Some(store);
        Request { reference, store, is_default_store, purpose, pipeline: self.pipeline() }
    }
}

/// What is known of a secret that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// Which version it is, for people, where the store knows one.
    pub version: Option<String>,
    /// Whether it has fewer bytes than a [`Redactor`] looks for.
    pub is_short: bool,
}

/// The reads of one login. Dropped with it: it holds the values.
#[expect(missing_debug_implementations, reason = "it holds values of secrets")]
pub struct Reads<'a> {
    resolver: &'a Resolver,
    seen: BTreeMap<SecretRef, Arc<SecretValue>>,
}

impl Reads<'_> {
    /// As [`Resolver::read`]. Each purpose is checked; the store is asked once a reference.
    ///
    /// # Errors
    /// As [`Resolver::read`].
    pub async fn read(&mut self, reference: &SecretRef, purpose: &Purpose) -> Result<BoundSecret, SecretError> {
        let request = self.resolver.request(reference, purpose);
        self.resolver.permit(&request)?;
        let permits = self.resolver.policy().hosts(&request, &[purpose.usage]);
        let inherits = self.resolver.session_hosts(reference, purpose);
        let value = match self.seen.get(reference) {
            Some(value) => Arc::clone(value),
            None => {
                let value = Arc::new(self.resolver.stores.read(reference).await?);
                self.seen.insert(reference.clone(), Arc::clone(&value));
                value
            }
        };
        Ok(BoundSecret { value, permits: Hosts(vec![permits]), inherits: Hosts(vec![inherits]) })
    }
}

/// The value of a secret, and where it may go. As [`SecretValue`], it cannot be printed, cloned, compared or serialised;
/// only this module makes one.
///
/// The text comes out for a host:
///
/// ```
/// use hybrid_runner_secrets::{BoundSecret, NotPermitted};
///
/// fn text(secret: &BoundSecret) -> Result<&str, NotPermitted> {
///     secret.expose_to("login.salesforce.com", 443)
/// }
/// ```
///
/// and without one neither by a method
///
/// ```compile_fail,E0599
/// use hybrid_runner_secrets::{BoundSecret, NotPermitted};
///
/// fn text(secret: &BoundSecret) -> Result<&str, NotPermitted> {
///     Ok(secret.expose())
/// }
/// ```
///
/// nor past them:
///
/// ```compile_fail,E0616
/// use hybrid_runner_secrets::{BoundSecret, NotPermitted};
///
/// fn text(secret: &BoundSecret) -> Result<&str, NotPermitted> {
///     Ok(secret.value.expose())
/// }
/// ```
#[expect(missing_debug_implementations, reason = "a secret that can be printed will be")]
pub struct BoundSecret {
    value: Arc<SecretValue>,
    permits: Hosts,
    inherits: Hosts,
}

#[cfg(test)]
static_assertions::assert_not_impl_any!(
    BoundSecret: std::fmt::Debug, std::fmt::Display, Clone, PartialEq, PartialEq<str>, PartialOrd, std::hash::Hash,
    std::ops::Deref, AsRef<str>, AsRef<[u8]>, std::borrow::Borrow<str>, Into<String>,
    serde::Serialize, serde::de::DeserializeOwned,
);

/// Hosts that are in each of some lists. No lists are no hosts: a value without parents may go nowhere.
#[derive(Clone)]
struct Hosts(Vec<Vec<HostPattern>>);

impl Hosts {
    fn contain(&self, host: &str, port: u16) -> bool {
        let in_list = |list: &Vec<HostPattern>| list.iter().any(|pattern| pattern.matches(host, port));
        !self.0.is_empty() && self.0.iter().all(in_list)
    }
}

/// A secret is not for a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy of the agent's configuration does not permit this credential at {host}:{port}")]
pub struct NotPermitted {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl BoundSecret {
    /// The value, for the host that it is written to. Call it there, and nowhere else.
    ///
    /// # Errors
    /// [`NotPermitted`]: the value may not go there.
    pub fn expose_to(&self, host: &str, port: u16) -> Result<&str, NotPermitted> {
        if self.permits.contain(host, port) {
            Ok(self.value.expose())
        } else {
            Err(NotPermitted { host: host.to_owned(), port })
        }
    }

    /// Binds what was got for secrets, such as a session id: it may go where each of them permits.
    #[must_use]
    pub fn derive(value: SecretValue, parents: &[&Self]) -> Self {
        let lists = parents.iter().flat_map(|parent| parent.inherits.0.iter().cloned());
        let hosts = Hosts(lists.fold(Vec::new(), |mut lists, list| {
            if !lists.contains(&list) {
                lists.push(list);
            }
            lists
        }));
        Self { value: Arc::new(value), permits: hosts.clone(), inherits: hosts }
    }
}

#[cfg(test)]
mod tests;
