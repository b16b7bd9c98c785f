//! Looking names up: which addresses a host that a definition or a login names may have.
//!
//! A host below `salesforce.com` lies in the public internet. A name server that says otherwise, today or from one moment
//! to the next, must not lead a request into the customer's network: each answer is vetted here and reqwest connects to
//! what is left of it, so that there is no second answer between the look and the connection. Hosts of the local
//! configuration and proxies are exempt: they are private by nature. Through a proxy it is the proxy that looks a host's
//! name up, and only the name was checked.

mod class;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use hybrid_runner_secrets::Policy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::host::HostPolicy;
use class::Class;

/// Where names are looked up.
#[async_trait]
pub trait Lookup: fmt::Debug + Send + Sync {
    /// The addresses of a name.
    ///
    /// # Errors
    /// There are none, or nobody answers.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the system looks names up.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Looks names up and vets the answers.
#[derive(Debug, Clone)]
pub(crate) struct Vetting {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) hosts: HostPolicy,
    pub(crate) policy: Arc<Policy>,
}

/// A name leads where it must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} leads to {class} address")]
pub(crate) struct Unvetted {
    name: String,
    class: Class,
}

impl Vetting {
    /// The addresses of a name that may be connected to.
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found = self.lookup.addresses(name).await?;
        if !self.hosts.is_vetted(name) {
            return Ok(found);
        }
        let (mut good, mut refused) = (Vec::new(), None);
        for address in found {
            match Class::of(address) {
                Some(Class::Metadata) => refused = Some(Class::Metadata),
                Some(class) if !self.policy.names_network_of(address) => refused = refused.or(Some(class)),
                Some(_) | None => good.push(address),
            }
        }
        match refused {
            Some(class) if good.is_empty() => Err(Unvetted { name: name.to_owned(), class }.into()),
            _ => Ok(good),
        }
    }
}

impl Resolve for Vetting {
    fn resolve(&self, name: Name) -> Resolving {
        let vetting = self.clone();
        Box::pin(async move {
            let addresses = vetting.addresses(name.as_str()).await?;
            // Port 0 is replaced by that of the request.
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::host::LocalHost;

    /// Gives each answer once, the last one again and again.
    #[derive(Debug)]
    struct Answers(Mutex<Vec<Vec<IpAddr>>>);

    #[async_trait]
    impl Lookup for Answers {
        async fn addresses(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            let mut answers = self.0.lock().unwrap();
            if answers.len() > 1 { Ok(answers.remove(0)) } else { Ok(answers[0].clone()) }
        }
    }

    fn vetting(answers: &[&[&str]], networks: &[&str]) -> Vetting {
        let addresses = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let listed = LocalHost { host: "sandbox.salesforce.com".to_owned(), port: 8443, ca: None };
        Vetting {
            lookup: Arc::new(Answers(Mutex::new(answers.iter().map(addresses).collect()))),
            hosts: HostPolicy::new(vec![listed]).unwrap(),
            policy: Arc::new(Policy::default().with_networks(networks)),
        }
    }

    fn shown(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    const LOGIN: &str = "login.salesforce.com";

    #[tokio::test]
    async fn an_answer_is_cut_down_to_the_public_internet_and_refused_when_nothing_is_left() {
        let mixed = vetting(&[&["10.0.0.1", "96.43.144.26", "::1", "2606:4700::1"]], &[]);
        assert_eq!(shown(&mixed.addresses(LOGIN).await.unwrap()), ["96.43.144.26", "2606:4700::1"]);
        for (address, text) in [
            ("10.0.0.1", "login.salesforce.com leads to a private address"),
            ("::ffff:127.0.0.1", "login.salesforce.com leads to a loopback address"),
            ("64:ff9b::169.254.169.254", "login.salesforce.com leads to a cloud's metadata address"),
        ] {
            assert_eq!(vetting(&[&[address]], &[]).addresses(LOGIN).await.unwrap_err().to_string(), text);
        }
    }

    #[tokio::test]
    async fn an_answer_that_flips_is_vetted_each_time() {
        let flips = vetting(&[&["96.43.144.26"], &["169.254.169.254"], &["96.43.144.27"], &["192.168.0.1"]], &[]);
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(flips.addresses(LOGIN).await.map(|found| shown(&found)).is_ok());
        }
        assert_eq!(seen, [true, false, true, false, false]);
    }

    #[tokio::test]
    async fn a_network_that_the_policy_names_is_permitted_and_metadata_never() {
        let named = |address| vetting(&[&[address]], &["10.20.0.0/16", "169.254.0.0/16", "fd00::/8", "::ffff:0:0/96"]);
        assert_eq!(shown(&named("10.20.1.1").addresses(LOGIN).await.unwrap()), ["10.20.1.1"]);
        for address in ["10.21.1.1", "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "::ffff:169.254.169.254"] {
            assert!(named(address).addresses(LOGIN).await.is_err(), "{address}");
        }
    }

    #[tokio::test]
    async fn a_listed_host_and_a_proxy_are_exempt() {
        let local = vetting(&[&["127.0.0.1"]], &[]);
        for name in ["sandbox.salesforce.com", "proxy.corp.example", "localhost"] {
            assert_eq!(shown(&local.addresses(name).await.unwrap()), ["127.0.0.1"]);
        }
        for name in ["Login.Salesforce.COM", "a.sandbox.salesforce.com", "salesforce.com", "login.salesforce.com."] {
            assert!(local.addresses(name).await.is_err(), "{name}");
        }
    }
}
