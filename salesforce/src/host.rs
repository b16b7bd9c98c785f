//! Host names as a type: where a login, and the session that it answers, can go.
//!
//! A definition comes from outside the customer's network and is not trusted, so it never holds a host, only the part
//! before `.salesforce.com`. What does not pass [`HostPolicy::login_host`] is refused before any name is looked up.
//! What a login answers passes [`HostPolicy::session_host`], so that not even a forged answer moves a session id
//! elsewhere. Other hosts exist only when the agent's own configuration lists them (`salesforce.hosts`).

use std::fmt;

use hybrid_runner_secrets::HostPattern;
use url::Url;

/// The parent of every host that a definition can name.
const PARENT: &str = "salesforce.com";

/// The port of every host below [`PARENT`].
const HTTPS: u16 = 443;

/// The longest host name and the longest label, in bytes (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A host that requests may go to: below `salesforce.com` on 443, or listed in the local configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// Lower-case ASCII; an IPv6 address (listed hosts only) in brackets.
    name: String,
    port: u16,
    listed: bool,
}

impl Host {
    /// The name, lower-case ASCII.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it comes from the local configuration.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether it is `login.salesforce.com` or `test.salesforce.com`, where OAuth client credentials do not work.
    #[must_use]
    pub fn is_shared_login(&self) -> bool {
        !self.listed && matches!(self.name.as_str(), "login.salesforce.com" | "test.salesforce.com")
    }

    /// The address of a path on this host.
    ///
    /// # Errors
    /// [`HostError::Unaddressable`]: a name that no URL can hold, or a path that would move the host.
    pub(crate) fn url(&self, path: &str) -> Result<Url, HostError> {
        let url = Url::parse(&format!("https://{self}{path}")).map_err(|_invalid| HostError::Unaddressable)?;
        let same = url.host_str() == Some(&self.name)
            && url.port_or_known_default() == Some(self.port)
            && url.username().is_empty()
            && url.password().is_none();
        if same { Ok(url) } else { Err(HostError::Unaddressable) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port == HTTPS { f.write_str(&self.name) } else { write!(f, "{}:{}", self.name, self.port) }
    }
}

/// A host of the agent's local configuration: a sandbox, a test server, a cloud outside `salesforce.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalHost {
    /// A DNS name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Certificates that are trusted for this host in addition to the system's, as PEM.
    pub ca: Option<Vec<u8>>,
}

/// Which hosts there are: everything below `salesforce.com`, and what the local configuration lists.
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    listed: Vec<(Host, Option<Vec<u8>>)>,
}

/// A host is refused. The texts never repeat what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// A domain that is not accepted.
    #[error(
        "the value {problem}; accepted is the part of the org's host name before `.salesforce.com`, such as `login`, \
         `test` or `acme.my`: letters, digits, `-` and `.`{}",
        Suggestion(.instead)
    )]
    Domain {
        /// What is wrong with it.
        problem: &'static str,
        /// What was probably meant.
        instead: Option<String>,
    },
    /// The address in a login's answer is not accepted.
    #[error(
        "the login's answer names an address that {problem}; accepted are https addresses below salesforce.com on port \
         443 and the hosts that the agent's configuration lists (salesforce.hosts)"
    )]
    Session {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A host of the local configuration is not accepted.
    #[error("salesforce.hosts[{index}]: {problem}; accepted are a DNS name or an IP address, and a port")]
    Listed {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No URL can be built.
    #[error("the host name cannot be part of an address")]
    Unaddressable,
}

struct Suggestion<'a>(&'a Option<String>);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(instead) => write!(f, "; write `{instead}`"),
            None => Ok(()),
        }
    }
}

impl HostPolicy {
    /// The policy with the hosts of the local configuration.
    ///
    /// # Errors
    /// [`HostError::Listed`]
    pub fn new(local: Vec<LocalHost>) -> Result<Self, HostError> {
        let listed = local.into_iter().enumerate().map(|(index, local)| {
            let refused = |problem| HostError::Listed { index, problem };
            let name = local.host.to_ascii_lowercase();
            let parsed = url::Host::parse(&name).map_err(|_invalid| refused("is not a host name"))?;
            // Other spellings of an address (`0x7f.1`) would be two names for one host.
            if parsed.to_string() != name || name.ends_with('.') {
                return Err(refused("is not the plain spelling of a host name"));
            }
            if local.port == 0 {
                return Err(refused("has the port 0"));
            }
            Ok((Host { name, port: local.port, listed: true }, local.ca))
        });
        Ok(Self { listed: listed.collect::<Result<_, _>>()? })
    }

    /// The host that a definition's `salesforceDomain` means: `login` is `login.salesforce.com`, `acme.my` is
    /// `acme.my.salesforce.com`, upper case is lowered. The exact name of a listed host is that host, with the port of
    /// the first entry of that name.
    ///
    /// # Errors
    /// [`HostError::Domain`]
    pub fn login_host(&self, domain: &str) -> Result<Host, HostError> {
        let domain = domain.to_ascii_lowercase();
        if let Some((host, _)) = self.listed.iter().find(|(host, _)| host.name == domain) {
            return Ok(host.clone());
        }
        below_parent(&domain).map_err(|problem| HostError::Domain { problem, instead: correction(&domain) })
    }

    /// The host of the `serverUrl` or `instance_url` that a login answered.
    ///
    /// As in the peer connector, `-api` at the end of an instance's name is cut (`na1-api.salesforce.com` serves SOAP,
    /// `na1.salesforce.com` REST), but only directly below `salesforce.com`: a My Domain may end in `-api`, and without
    /// it is another org's host.
    ///
    /// # Errors
    /// [`HostError::Session`]
    pub fn session_host(&self, address: &str) -> Result<Host, HostError> {
        self.address_host(address).map_err(|problem| HostError::Session { problem })
    }

    /// The host of an address, or what is wrong with it.
    pub(crate) fn address_host(&self, address: &str) -> Result<Host, &'static str> {
        let url = Url::parse(address).map_err(|_invalid| "is not a URL")?;
        if url.scheme() != "https" {
            return Err("is not https");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user name or password");
        }
        let (Some(name), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err("has no host");
        };
        if let Some((host, _)) = self.listed.iter().find(|(host, _)| host.name == name && host.port == port) {
            return Ok(host.clone());
        }
        if port != HTTPS {
            return Err("has a port other than 443");
        }
        let Some(domain) = name.strip_suffix(PARENT).and_then(|name| name.strip_suffix('.')) else {
            return Err("is not below salesforce.com");
        };
        let instance = match domain.strip_suffix("-api") {
            Some(instance) if !instance.contains('.') => instance,
            _ => domain,
        };
        below_parent(instance).map_err(|_problem| "is not a host name of Salesforce")
    }

    /// Every host there is: what a credential for Salesforce may be sent to unless the local policy says otherwise.
    #[must_use]
    pub fn patterns(&self) -> Vec<HostPattern> {
        let listed = self.listed.iter().map(|(host, _)| HostPattern::exactly(&host.name, host.port));
        std::iter::once(HostPattern::below(PARENT, HTTPS)).chain(listed).collect()
    }

    /// Whether the addresses of a name are vetted: it, or what it is below, is not the operator's own word.
    pub(crate) fn is_vetted(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let plain = name.strip_suffix('.').unwrap_or(&name);
        let is_below = plain.strip_suffix(PARENT).is_some_and(|above| above.is_empty() || above.ends_with('.'));
        is_below && !self.listed.iter().any(|(host, _)| host.name == name)
    }

    /// The certificates that the local configuration adds for a host, as PEM.
    #[must_use]
    pub fn ca(&self, host: &Host) -> Option<&[u8]> {
        self.listed.iter().find(|(listed, _)| listed == host).and_then(|(_, ca)| ca.as_deref())
    }
}

/// The host `domain.salesforce.com`, or what is wrong with `domain` (already lower case).
fn below_parent(domain: &str) -> Result<Host, &'static str> {
    if domain.is_empty() {
        return Err("is empty");
    }
    if !domain.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)) {
        return Err("has a character that is not accepted");
    }
    if domain.starts_with('.') || domain.ends_with('.') {
        return Err("begins or ends with a `.`");
    }
    for label in domain.split('.') {
        match label {
            "" => return Err("has two `.` in a row"),
            "com" => return Err("holds a whole host name (`com`)"),
            _ if label.len() > MAX_LABEL => return Err("has a part of more than 63 characters"),
            _ if label.starts_with('-') || label.ends_with('-') => {
                return Err("has a part that begins or ends with `-`");
            }
            _ => {}
        }
    }
    if !domain.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err("has no letter; an address in figures is not accepted");
    }
    let name = format!("{domain}.{PARENT}");
    if name.len() > MAX_NAME {
        return Err("is too long");
    }
    let host = Host { name, port: HTTPS, listed: false };
    match host.url("/") {
        Ok(_addressable) => Ok(host),
        Err(_unaddressable) => Err("is not a valid host name"),
    }
}

/// What was probably meant by a full URL or a full host name of Salesforce's, or by blanks around a name; only if that
/// would be accepted. Of another host nothing is suggested: below `salesforce.com` its name is nobody's.
fn correction(domain: &str) -> Option<String> {
    let given = domain.trim();
    let rest = given.strip_prefix("https://").or_else(|| given.strip_prefix("http://"));
    let host = rest.unwrap_or(given).split('/').next()?;
    let host = host.strip_suffix(":443").unwrap_or(host);
    let below = host.strip_suffix(PARENT).and_then(|host| host.strip_suffix('.')).map(str::to_owned);
    // The tail of a Lightning address names the same org.
    let lightning = || host.strip_suffix(".lightning.force.com").map(|org| format!("{org}.my"));
    let instead = below.or_else(lightning).or_else(|| (host == given).then(|| given.to_owned()))?;
    (instead != domain && below_parent(&instead).is_ok()).then_some(instead)
}

#[cfg(test)]
mod tests;
