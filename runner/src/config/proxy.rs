//! The proxy between the agent and its control plane.

use std::fmt;
use std::sync::Arc;

use hybrid_runner_secrets::{Binding, HostPattern, Purpose, ReferencePattern, SecretRef, SecretValue, Use};

/// A proxy that opens a tunnel (`CONNECT`).
#[derive(Clone)]
pub struct Proxy {
    /// Whether it speaks TLS itself.
    pub is_tls: bool,
    /// Its name or address; an IPv6 address in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who the agent is there.
    pub login: Option<ProxyLogin>,
    /// The setting that it comes from, for people.
    pub setting: &'static str,
}

/// Who the agent is at a proxy.
#[derive(Clone)]
pub enum ProxyLogin {
    /// A name, and a password that is read for each connection.
    Reference {
        /// The name.
        username: String,
        /// The password's reference.
        password: SecretRef,
    },
    /// `NAME:PASSWORD`, from the environment.
    Basic(Arc<SecretValue>),
}

impl Proxy {
    /// What its password may be read for.
    pub(crate) fn purpose(&self) -> Purpose {
        Purpose { usage: Use::Proxy, host: self.host.clone(), port: self.port }
    }

    /// The binding of a configuration that has none: the password may go to the proxy.
    pub(super) fn binding(&self) -> Option<Binding> {
        matches!(self.login, Some(ProxyLogin::Reference { .. })).then(|| {
            let hosts = vec![HostPattern::exactly(&self.host, self.port)];
            Binding::new("the default for control_plane.proxy", vec![ReferencePattern::all()], hosts)
                .for_uses(vec![Use::Proxy])
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.to_string()).field("login", &self.login).finish_non_exhaustive()
    }
}

impl fmt::Debug for ProxyLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference { password, .. } => {
                f.debug_struct("Reference").field("password", password).finish_non_exhaustive()
            }
            Self::Basic(_) => f.write_str("Basic(..)"),
        }
    }
}
