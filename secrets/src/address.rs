//! The address of a store behind HTTP.

use url::{Host, Url};

/// The address of a store, such as `https://host:port`; plain HTTP to this machine only.
pub(crate) fn parse_address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok().ok_or("is not an address; accepted: https://host:port")?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("has no host; accepted: https://host:port"),
    };
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    match url.scheme() {
        _ if !is_bare => Err("has more than a host and a port; accepted: https://host:port"),
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err("is plain HTTP to another machine, which would show the token; accepted: https://host:port"),
        _ => Err("does not begin with https://; accepted: https://host:port"),
    }
}
