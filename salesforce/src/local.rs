//! What the agent's own configuration says about Salesforce. No definition can widen it.

use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_secrets::{Binding, HostPattern, Policy, ReferencePattern, Use};

use crate::auth::LoginGuard;
use crate::config::{Auth, CONNECTION, Config};
use crate::host::HostPolicy;
use crate::http::{CALL_TIMEOUT, Lookup, Proxy, SystemLookup};

/// What is local about Salesforce. Clones share the guard of their logins: a process has one of these.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The hosts that requests may go to.
    pub hosts: HostPolicy,
    /// Whether `HTTPS_PROXY` and `NO_PROXY` count.
    pub use_system_proxy: bool,
    /// The proxy to use in place of `HTTPS_PROXY`.
    pub proxy: Option<Proxy>,
    /// Whether the definitions are files of the machine's own user. Only in one of those `sslConfig` counts, and only
    /// there a session may stand that somebody else has opened.
    pub definitions_are_local: bool,
    /// How names are looked up.
    pub lookup: Arc<dyn Lookup>,
    /// Rejected logins of this process.
    pub logins: LoginGuard,
    /// How long a call may take, from sending to the last byte.
    pub call_timeout: Duration,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            hosts: HostPolicy::default(),
            use_system_proxy: true,
            proxy: None,
            definitions_are_local: false,
            lookup: Arc::new(SystemLookup),
            logins: LoginGuard::default(),
            call_timeout: CALL_TIMEOUT,
        }
    }
}

impl LocalConfig {
    /// The policy of a configuration that has none: every reference may be read for Salesforce, and go to the hosts there
    /// are; and for the proxy's password, to the proxy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::new(self.bindings())
    }

    /// The bindings of [`LocalConfig::policy`].
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let all = || vec![ReferencePattern::all()];
        let salesforce = vec![Use::Soap, Use::Oauth, Use::Jwt, Use::Tls, Use::Session];
        let salesforce = Binding::new("the default for Salesforce", all(), self.hosts.patterns()).for_uses(salesforce);
        let proxy = self.proxy.as_ref().map(|proxy| {
            let hosts = vec![HostPattern::exactly(proxy.host(), proxy.port())];
            Binding::new("the default for salesforce.proxy", all(), hosts).for_uses(vec![Use::Proxy])
        });
        std::iter::once(salesforce).chain(proxy).collect()
    }

    /// Takes out of a definition what it may not decide, or refuses it.
    ///
    /// # Errors
    /// [`Reason::PolicyDenied`]: the definition brings a session.
    pub(crate) fn admit(&self, config: &mut Config) -> Result<(), DefinitionError> {
        if self.definitions_are_local {
            return Ok(());
        }
        if matches!(config.auth, Auth::Session { .. }) {
            return Err(DefinitionError {
                reason: Reason::PolicyDenied,
                field: format!("{CONNECTION}.connectionArguments.session_id"),
                detail: "an existing session counts only in a local file that `hybrid-runner extract` reads; use OAuth \
                         client credentials (consumerKey, consumerSecret and the org's My Domain as salesforceDomain) or \
                         JWT bearer (username, consumerKey, connectionArguments.privatekey)"
                    .to_owned(),
            });
        }
        config.without_effect.extend(config.ssl.discard());
        config.without_effect.sort_unstable();
        Ok(())
    }
}
