//! A proxy of the agent's own configuration, for Salesforce and for the control plane.

use hybrid_runner_secrets::SecretRef;
use url::Url;

/// A proxy that connections go through, by `CONNECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    credentials: Option<(String, SecretRef)>,
}

impl Proxy {
    /// A proxy at `http://host:port` or `https://host:port`, with the name of its user and the password's reference.
    ///
    /// # Errors
    /// What is wrong with the address; the text does not repeat it.
    pub fn new(url: &str, credentials: Option<(String, SecretRef)>) -> Result<Self, &'static str> {
        let url = Url::parse(url).map_err(|_invalid| "is not an address")?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err("is not the address of an HTTP proxy");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user name or password; write them as username and password (a reference) beside url");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("has more than a host and a port");
        }
        Ok(Self { url, credentials })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Its host, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        // `new` has refused a URL without one.
        self.url.host_str().unwrap_or_default()
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// The reference of its password.
    #[must_use]
    pub fn password(&self) -> Option<&SecretRef> {
        self.credentials.as_ref().map(|(_, password)| password)
    }

    /// The name of its user.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.credentials.as_ref().map(|(username, _)| username.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port_and_holds_no_password() {
        for good in ["http://proxy:3128", "https://proxy.example", "http://10.0.0.1:80/", "http://[::1]:3128"] {
            assert!(Proxy::new(good, None).is_ok(), "{good}");
        }
        for bad in ["", "proxy:3128", "socks5://proxy", "http://ana:hunter2@proxy", "http://proxy/x", "http://p?q"] {
            let problem = Proxy::new(bad, None).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
