//! Patterns of hosts.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

const HTTPS: u16 = 443;

/// Hosts that a secret may be sent to: `name`, `*.name` (every host below `name`, not `name` itself) or an IP address,
/// each with `:port` or on 443. Names are compared label by label, in ASCII, without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    /// Lower-case ASCII; an IPv6 address in brackets.
    name: String,
    below: bool,
    port: u16,
}

/// A text is no [`HostPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}; accepted: name, *.name or an IP address (IPv6 in brackets), with :port for another one than 443")]
pub struct MalformedHost(&'static str);

impl HostPattern {
    /// Exactly this host.
    #[must_use]
    pub fn exactly(name: &str, port: u16) -> Self {
        Self { name: name.to_ascii_lowercase(), below: false, port }
    }

    /// Every host below a name.
    #[must_use]
    pub fn below(name: &str, port: u16) -> Self {
        Self { name: name.to_ascii_lowercase(), below: true, port }
    }

    /// Whether a host is one of these. An IPv6 address stands in brackets.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        if port != self.port {
            return false;
        }
        if !self.below {
            return host.eq_ignore_ascii_case(&self.name);
        }
        let Some(at) = host.len().checked_sub(self.name.len()) else { return false };
        let Some((above, name)) = host.split_at_checked(at) else { return false };
        let is_boundary =
            above.strip_suffix('.').is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()));
        is_boundary && name.eq_ignore_ascii_case(&self.name)
    }
}

impl FromStr for HostPattern {
    type Err = MalformedHost;

    fn from_str(text: &str) -> Result<Self, MalformedHost> {
        let (name, port) = split_port(text)?;
        let (name, below) = match name.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (name, false),
        };
        check_name(name, below).map_err(MalformedHost)?;
        Ok(Self { name: name.to_ascii_lowercase(), below, port })
    }
}

fn split_port(text: &str) -> Result<(&str, u16), MalformedHost> {
    // The colons of an IPv6 address stand before its bracket.
    let behind = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let (address, rest) = text.split_at(behind);
    let (name, port) = match rest.split_once(':') {
        Some((name, port)) => {
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| is_number && *port != 0);
            (name, port.ok_or(MalformedHost("has a port that is no number from 1 to 65535"))?)
        }
        None => (rest, HTTPS),
    };
    match (address.is_empty(), name.is_empty()) {
        (true, _) => Ok((name, port)),
        (false, true) => Ok((address, port)),
        (false, false) => Err(MalformedHost("has text behind its bracket")),
    }
}

fn check_name(name: &str, below: bool) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let plain = inner.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == inner.to_ascii_lowercase());
        return if plain && !below { Ok(()) } else { Err("is not the plain spelling of an IPv6 address in brackets") };
    }
    if name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()) {
        return if below { Err("has `*.` before an address") } else { Ok(()) };
    }
    if name.len() > 253 {
        return Err("is longer than 253 characters");
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    for label in name.split('.') {
        if label.is_empty() {
            return Err("has an empty part (`.` at an end, or two in a row)");
        }
        if label == "*" {
            return Err("has `*` elsewhere than as `*.` before a name");
        }
        if label.len() > 63 || !label.bytes().all(is_letter) {
            return Err("has a part that no host name has");
        }
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x") {
        // A URL reads it as an address and writes that, so that this spelling never comes.
        return Err("is not the plain spelling of an address and can never match");
    }
    Ok(())
}

/// As it is written, the port always.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", if self.below { "*." } else { "" }, self.name, self.port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::HostPattern;

    /// The same by labels.
    fn simple(pattern: &str, host: &str) -> bool {
        let labels = |name: &str| name.to_ascii_lowercase().split('.').map(str::to_owned).collect::<Vec<_>>();
        let (pattern, host) = (labels(pattern), labels(host));
        if host.iter().any(String::is_empty) {
            return false;
        }
        match pattern.split_first() {
            Some((star, rest)) if star == "*" => host.len() > rest.len() && host.ends_with(rest),
            _ => host == pattern,
        }
    }

    #[test]
    fn a_name_ends_at_a_label() {
        let below: HostPattern = "*.salesforce.com".parse().unwrap();
        for good in ["login.salesforce.com", "acme.my.salesforce.com", "LOGIN.Salesforce.COM"] {
            assert!(below.matches(good, 443), "{good}");
        }
        for bad in [
            "salesforce.com",
            ".salesforce.com",
            "evilsalesforce.com",
            "login.salesforce.com.",
            "login.salesforce.com.evil.example",
            "a..salesforce.com",
            "login.salesforce.com:443",
            "ſ.salesforce.com.x",
            "",
        ] {
            assert!(!below.matches(bad, 443), "{bad}");
        }
        assert!(!below.matches("login.salesforce.com", 8443));
    }

    #[test]
    fn a_pattern_prints_as_it_is_read() {
        for (text, shown) in [
            ("login.salesforce.com", "login.salesforce.com:443"),
            ("*.My.Example:8443", "*.my.example:8443"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("[::1]", "[::1]:443"),
            ("[fd00::1]:8443", "[fd00::1]:8443"),
            ("localhost:9", "localhost:9"),
        ] {
            let pattern: HostPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), shown);
            assert_eq!(shown.parse(), Ok(pattern));
        }
    }

    #[test]
    fn what_is_no_host_or_can_never_be_met_is_refused() {
        for bad in [
            "",
            "*",
            "*.",
            "**.a",
            "a.*",
            "*.*.a",
            "a:0",
            "a:",
            "a:+1",
            "a:65536",
            "a:b",
            "::1",
            "[::1",
            "[::01]",
            "[::1]x",
            "*.10.0.0.1",
            "*.[::1]",
            "a..b",
            "a.",
            ".a",
            "http://a",
            "a/b",
            "a b",
            "u@a",
            "0x7f.1",
            "1.2.3",
            "1.2.3.4.5",
            "a.0x1",
            "é.example",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_a_comparison_of_labels(
            pattern in "(\\*\\.)?([ab]{1,2}\\.){0,2}[ab]{1,2}",
            host in "([abA.]{0,3}\\.){0,3}[abA]{0,2}",
        ) {
            let parsed: HostPattern = pattern.parse().unwrap();
            prop_assert_eq!(parsed.matches(&host, 443), simple(&pattern, &host));
        }
    }
}
