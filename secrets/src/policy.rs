//! Which secret may go where: the local policy.
//!
//! A policy is the customer's own file, and nothing that arrives from elsewhere widens it. It is pure: a [`Request`] says
//! which reference, for what and for which host, and [`Policy::decide`] answers from the policy alone, before any store is
//! asked. What is not permitted by a [`Binding`] is denied; a policy without bindings permits nothing.

mod decision;
mod glob;
mod host;
mod reference;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::SecretRef;
use glob::Glob;

pub use decision::{Decision, Denial, Lack, Miss};
pub use host::{HostPattern, MalformedHost};
pub use reference::{MalformedPattern, MalformedPrefix, Prefix, ReferencePattern};

/// What may be done with which secrets, and which networks hosts from elsewhere may lie in.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    bindings: Vec<Binding>,
    networks: Vec<Network>,
    prefixes: BTreeMap<String, Prefix>,
}

/// Secrets, and where they may go.
#[derive(Debug, Clone)]
pub struct Binding {
    name: String,
    references: Vec<ReferencePattern>,
    hosts: Vec<HostPattern>,
    /// All when empty.
    uses: Vec<Use>,
    /// All when empty.
    pipelines: Vec<PipelinePattern>,
}

/// What a secret is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// A password and a security token, sent by SOAP `login()`.
    Soap,
    /// A password or a client secret, sent to an OAuth token endpoint.
    Oauth,
    /// The key that signs an assertion for an OAuth token endpoint. It is not sent.
    Jwt,
    /// A certificate or a key of TLS.
    Tls,
    /// A session id or an access token, sent with each request.
    Session,
    /// The password of a proxy's user.
    Proxy,
}

/// What a secret is read for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purpose {
    /// What it is used for.
    pub usage: Use,
    /// Where it goes: a name in ASCII, or an IP address (IPv6 in brackets).
    pub host: String,
    /// The port there.
    pub port: u16,
}

/// A question to the policy.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The secret.
    pub reference: &'a SecretRef,
    /// The name of the store that it is read from.
    pub store: &'a str,
    /// Whether that is the store of references without a store's name.
    pub is_default_store: bool,
    /// What it is read for.
    pub purpose: &'a Purpose,
    /// The pipeline that needs it; `None` when it is not known, which only bindings for all pipelines permit.
    pub pipeline: Option<&'a str>,
}

impl Policy {
    /// A policy with these bindings.
    #[must_use]
    pub fn new(bindings: Vec<Binding>) -> Self {
        Self { bindings, ..Self::default() }
    }

    /// Lets hosts from elsewhere lie in these networks, though they are private.
    #[must_use]
    pub fn with_networks(mut self, networks: Vec<Network>) -> Self {
        self.networks = networks;
        self
    }

    /// Lets only references below a path be read from a store.
    #[must_use]
    pub fn with_prefix(mut self, store: impl Into<String>, prefix: Prefix) -> Self {
        self.prefixes.insert(store.into(), prefix);
        self
    }

    /// Whether an address lies in a network that the policy names.
    #[must_use]
    pub fn names_network_of(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.0.contains(&address))
    }

    /// Whether a secret may be read for a purpose, and why.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        if let Some(prefix) = self.prefixes.get(request.store).filter(|it| !it.contains(request.reference.path())) {
            return Decision::Denied(Denial::OutsidePrefix { store: request.store.to_owned(), prefix: prefix.clone() });
        }
        let mut misses = Vec::new();
        for binding in &self.bindings {
            let lacks = binding.lacks(request);
            if lacks.is_empty() {
                return Decision::Allowed { binding: binding.name.clone() };
            }
            misses.push(Miss { binding: binding.name.clone(), lacks });
        }
        Decision::Denied(Denial::Unbound { purpose: request.purpose.clone(), misses })
    }

    /// The hosts that a secret may go to which is read for this: those of every binding that covers it for one of these
    /// uses.
    pub(crate) fn hosts(&self, request: &Request<'_>, uses: &[Use]) -> Vec<HostPattern> {
        let covers = |binding: &&Binding| {
            binding.covers_reference(request)
                && binding.covers_pipeline(request)
                && uses.iter().any(|usage| binding.covers_use(*usage))
        };
        self.bindings.iter().filter(covers).flat_map(|binding| binding.hosts.iter().cloned()).collect()
    }
}

impl Binding {
    /// Secrets that may go to hosts, for every use and in every pipeline. `name` is what a decision calls it.
    #[must_use]
    pub fn new(name: impl Into<String>, references: Vec<ReferencePattern>, hosts: Vec<HostPattern>) -> Self {
        Self { name: name.into(), references, hosts, uses: Vec::new(), pipelines: Vec::new() }
    }

    /// For these uses only; none for all.
    #[must_use]
    pub fn for_uses(mut self, uses: Vec<Use>) -> Self {
        self.uses = uses;
        self
    }

    /// In these pipelines only; none for all.
    #[must_use]
    pub fn in_pipelines(mut self, pipelines: Vec<PipelinePattern>) -> Self {
        self.pipelines = pipelines;
        self
    }

    fn lacks(&self, request: &Request<'_>) -> Vec<Lack> {
        let Purpose { usage, host, port } = request.purpose;
        let covered = [
            (Lack::Reference, self.covers_reference(request)),
            (Lack::Host, self.hosts.iter().any(|pattern| pattern.matches(host, *port))),
            (Lack::Use, self.covers_use(*usage)),
            (Lack::Pipeline, self.covers_pipeline(request)),
        ];
        covered.into_iter().filter_map(|(lack, is_covered)| (!is_covered).then_some(lack)).collect()
    }

    fn covers_reference(&self, request: &Request<'_>) -> bool {
        let Request { reference, store, is_default_store, .. } = *request;
        self.references.iter().any(|pattern| pattern.matches(reference, store, is_default_store))
    }

    fn covers_use(&self, usage: Use) -> bool {
        self.uses.is_empty() || self.uses.contains(&usage)
    }

    fn covers_pipeline(&self, request: &Request<'_>) -> bool {
        let named = |name: &str| self.pipelines.iter().any(|pattern| pattern.0.matches(name));
        self.pipelines.is_empty() || request.pipeline.is_some_and(named)
    }
}

impl Use {
    /// Every use.
    pub const ALL: [Self; 6] = [Self::Soap, Self::Oauth, Self::Jwt, Self::Tls, Self::Session, Self::Proxy];

    /// The word that a policy file has for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Soap => "soap",
            Self::Oauth => "oauth",
            Self::Jwt => "jwt",
            Self::Tls => "tls",
            Self::Session => "session",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { usage, host, port } = self;
        write!(f, "{usage} at {host}:{port}")
    }
}

/// Names of pipelines, with `*` within a part between two `.` and `**` across.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelinePattern(Glob);

impl FromStr for PipelinePattern {
    type Err = MalformedPipeline;

    fn from_str(text: &str) -> Result<Self, MalformedPipeline> {
        Glob::new(text, b'.').map(Self).map_err(MalformedPipeline)
    }
}

/// A text is no [`PipelinePattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}; accepted: the name of a pipeline with `*` (within a part) and `**` (across), such as salesforce_prod.*")]
pub struct MalformedPipeline(&'static str);

/// A network, as `10.20.0.0/16`; an address alone is the network of that address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text is no [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no network; accepted: 10.20.0.0/16 or fd00:1::/32, without bits behind the prefix, or one address")]
pub struct MalformedNetwork;

impl FromStr for Network {
    type Err = MalformedNetwork;

    fn from_str(text: &str) -> Result<Self, MalformedNetwork> {
        let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        // Bits behind the prefix are a slip of whoever wrote it, and what was meant is not known.
        parsed.filter(|network| network.trunc() == *network).map(Self).ok_or(MalformedNetwork)
    }
}

#[cfg(test)]
mod tests;
