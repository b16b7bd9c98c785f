//! The way to the control plane, and what it answers.

mod dates;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_secrets::Resolver;
use jiff::Timestamp;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout, timeout_at};

use super::secrets::StoreFindings;
use super::{Check, Finding, Status};
use crate::config::{AgentConfig, ControlPlane, Identity, ProxyLogin};
use crate::dial::{Dial as _, Tcp};
use crate::session::{
    self, Certificate, ConnectError, Connector, Link, Look, Looked, ProxyError, Reason, SessionError, TlsError,
    Welcome, bare,
};
use crate::telemetry::Chain;

/// Resolvers answer in milliseconds, and try each of their servers for some seconds.
const NAME: Duration = Duration::from_secs(10);
/// As for any connection to the control plane.
const TCP: Duration = Duration::from_secs(10);
/// Addresses of a name that are shown.
const SHOWN: usize = 4;

/// The steps in their order. What is not reached of them is skipped for the one that failed.
pub(super) const ORDER: [Check; 10] = [
    Check::Configuration,
    Check::Dns,
    Check::Tcp,
    Check::Proxy,
    Check::Tls,
    Check::Http2,
    Check::Clock,
    Check::Identity,
    Check::Protocol,
    Check::Definitions,
];

/// How far the way went.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) findings: Vec<Finding>,
    pub(super) welcome: Option<Welcome>,
    pub(super) definitions: Option<Vec<Looked>>,
    /// The store that the proxy's password could not be read from.
    pub(super) proxy_store: Option<String>,
}

/// Goes the way, step by step, to the last one that is wanted, until then at the latest.
pub(super) async fn walk(config: &AgentConfig, kinds: &[String], last: Check, ends: Instant) -> Walked {
    let secrets = Resolver::new(Arc::clone(&config.secrets), config.policy(), None);
    let connector = Connector::new(config.control_plane.clone(), Arc::new(Tcp), secrets);
    let (plane, walked) = (&config.control_plane, Walked::default());
    let mut walker = Walker { config, plane, connector, kinds, last, walked };
    let in_time = timeout_at(ends, walker.walk()).await.is_ok();
    let mut walked = walker.walked;
    let late = unreached(&walked).next().filter(|_| !in_time && culprit(&walked).is_none());
    if let Some(check) = late {
        let advice = "look at what is slow: names, the network, the proxy, or the control plane";
        walked.findings.push(Finding::fail(check, "not done when the time was over", advice));
    }
    let culprit = culprit(&walked);
    let why = culprit.map_or_else(
        || "the control plane has no sessions that only look".to_owned(),
        |culprit| format!("{} failed", culprit.name()),
    );
    // Definitions that came are looked at elsewhere.
    let came = walked.definitions.is_some();
    let skipped = unreached(&walked).filter(|check| *check <= last && !(came && *check == Check::Definitions));
    let skipped: Vec<_> = skipped.collect();
    walked.findings.extend(skipped.into_iter().map(|check| Finding::skipped(check, &why)));
    walked
}

/// The step that failed.
fn culprit(walked: &Walked) -> Option<Check> {
    walked.findings.iter().rfind(|finding| finding.status == Status::Fail).map(|finding| finding.check)
}

fn unreached(walked: &Walked) -> impl Iterator<Item = Check> {
    ORDER.into_iter().filter(|check| walked.findings.iter().all(|finding| finding.check != *check))
}

/// A proxy whose password is in a store that failed is not at fault.
pub(super) fn blame_store(findings: &mut [Finding], proxy_store: Option<&str>, stores: &StoreFindings) {
    let Some(store) = proxy_store.filter(|store| stores.has_failed(store)) else { return };
    for finding in findings.iter_mut().filter(|finding| finding.check == Check::Proxy) {
        *finding = Finding::skipped(Check::Proxy, &format!("store `{store}` failed"));
    }
}

struct Walker<'a> {
    config: &'a AgentConfig,
    plane: &'a ControlPlane,
    connector: Connector,
    kinds: &'a [String],
    last: Check,
    walked: Walked,
}

impl Walker<'_> {
    /// `None`: a step failed or was the last one, and the rest is skipped.
    async fn walk(&mut self) -> Option<()> {
        let own = self.configuration().await;
        self.goes_on_to(Check::Dns)?;
        self.dns().await?;
        self.goes_on_to(Check::Tcp)?;
        self.tcp().await?;
        self.goes_on_to(Check::Proxy)?;
        self.proxy().await?;
        let own = own?;
        self.goes_on_to(Check::Tls)?;
        self.tls().await?;
        self.goes_on_to(Check::Http2)?;
        let link = self.http2().await?;
        self.goes_on_to(Check::Clock)?;
        let answer = session::look(link, self.kinds).await;
        self.tell(dates::clock(answer.date.as_deref(), Timestamp::now()));
        let look = self.identity(answer.opened, own.as_ref())?;
        self.walked.welcome = Some(look.welcome.clone());
        self.goes_on_to(Check::Definitions)?;
        match look.definitions().await {
            Ok(definitions) => self.walked.definitions = Some(definitions),
            Err(error) => {
                let advice = "look at the control plane's log";
                self.tell(Finding::fail(Check::Definitions, &Chain(&error).to_string(), advice));
            }
        }
        Some(())
    }

    fn goes_on_to(&self, step: Check) -> Option<()> {
        (step <= self.last).then_some(())
    }

    fn tell(&mut self, finding: Finding) {
        self.walked.findings.push(finding);
    }

    fn fail<T>(&mut self, check: Check, error: &(dyn std::error::Error + 'static), advice: &str) -> Option<T> {
        self.tell(Finding::fail(check, &Chain(error).to_string(), advice));
        None
    }

    /// The agent's certificate, if that is its identity.
    async fn configuration(&mut self) -> Option<Option<Certificate>> {
        match self.connector.inspect_files().await {
            Ok(own) => {
                let identity = match &self.plane.identity {
                    Identity::Certificate { .. } => "a client certificate",
                    Identity::TokenFile(_) | Identity::Token(_) => "a bearer token",
                };
                let seen = format!("{} by {identity}; the files that it names can be used", self.plane.address());
                self.tell(Finding::ok(Check::Configuration, &seen));
                Some(own)
            }
            Err(error) => self.fail(Check::Configuration, &error, "correct the file, or the setting that names it"),
        }
    }

    /// The first host on the way, its port, and the setting that names it.
    fn first_host(&self) -> (String, u16, &'static str) {
        match &self.plane.proxy {
            Some(proxy) => (bare(&proxy.host), proxy.port, proxy.setting),
            None => (bare(&self.plane.host), self.plane.port, "control_plane.endpoint"),
        }
    }

    async fn dns(&mut self) -> Option<()> {
        let (host, port, setting) = self.first_host();
        if host.parse::<IpAddr>().is_ok() {
            self.tell(Finding::ok(Check::Dns, &format!("{host} is an address")));
            return Some(());
        }
        let advice = format!(
            "correct {setting}, or what resolves names here (/etc/resolv.conf, the cluster's DNS, a network policy)"
        );
        let found = match timeout(NAME, lookup_host((host.as_str(), port))).await {
            Ok(Ok(found)) => found.map(|address: SocketAddr| address.ip().to_string()).collect::<Vec<_>>(),
            Ok(Err(error)) => {
                self.tell(Finding::fail(Check::Dns, &format!("{host} is not found: {error}"), &advice));
                return None;
            }
            Err(_elapsed) => {
                self.tell(Finding::fail(Check::Dns, &format!("no answer about {host} within 10 s"), &advice));
                return None;
            }
        };
        let shown = found.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        self.tell(Finding::ok(Check::Dns, &format!("{host} is {shown}")));
        Some(())
    }

    async fn tcp(&mut self) -> Option<()> {
        let (host, port, setting) = self.first_host();
        let begun = Instant::now();
        let advice = format!("check {setting}, firewalls, and that it runs and listens there");
        let problem = match timeout(TCP, Tcp.dial(&host, port)).await {
            Ok(Ok(_connection)) => {
                let took = begun.elapsed().as_millis();
                self.tell(Finding::ok(Check::Tcp, &format!("{host}:{port} takes a connection within {took} ms")));
                return Some(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "no answer within 10 s".to_owned(),
        };
        self.tell(Finding::fail(Check::Tcp, &format!("connect to {host}:{port}: {problem}"), &advice));
        None
    }

    async fn proxy(&mut self) -> Option<()> {
        let Some(proxy) = &self.plane.proxy else {
            self.tell(Finding::skipped(Check::Proxy, "none is configured for this host"));
            return Some(());
        };
        match self.connector.inspect_way().await {
            Ok(()) => {
                let seen = format!("{proxy} ({}) opens a tunnel to {}", proxy.setting, self.plane.address());
                self.tell(Finding::ok(Check::Proxy, &seen));
                Some(())
            }
            Err(error) => {
                if let ConnectError::Proxy { source, .. } = &error
                    && let ProxyError::Password { .. } = &**source
                    && let Some(ProxyLogin::Reference { password, .. }) = &proxy.login
                {
                    let secrets = Resolver::new(Arc::clone(&self.config.secrets), self.config.policy(), None);
                    self.walked.proxy_store = Some(secrets.store_of(password).to_owned());
                }
                let advice = format!("look at {}, and at the proxy's log", proxy.setting);
                self.fail(Check::Proxy, &error, &advice)
            }
        }
    }

    async fn tls(&mut self) -> Option<()> {
        let (certificate, made) = self.connector.inspect_tls().await;
        let shown = certificate.as_ref().map(dates::shown);
        if let Err(error) = made {
            let of = shown.map(|shown| format!("; it showed {shown}")).unwrap_or_default();
            let advice = "give the CA that signed it (control_plane.ca), or have the control plane, or what ends TLS before it, show \
                          a certificate that is valid for this host";
            self.tell(Finding::fail(Check::Tls, &format!("{}{of}", Chain(&error)), advice));
            return None;
        }
        let seen = format!("TLS 1.3, by {}", shown.as_deref().unwrap_or("a certificate that cannot be shown"));
        let ends = certificate.filter(|certificate| dates::ends_soon(certificate, Timestamp::now()));
        self.tell(match ends {
            Some(_) => Finding::warn(Check::Tls, &seen, "renew the control plane's certificate"),
            None => Finding::ok(Check::Tls, &seen),
        });
        Some(())
    }

    async fn http2(&mut self) -> Option<Link> {
        const AGREED: &str = "both sides agreed on HTTP/2";
        match self.connector.connect().await {
            Ok(link) => {
                self.tell(Finding::ok(Check::Http2, AGREED));
                Some(link)
            }
            // HTTP/2 was agreed on before the certificate was looked at.
            Err(error) if refuses_identity(&error) => {
                self.tell(Finding::ok(Check::Http2, AGREED));
                self.fail(Check::Identity, &error, RENEW)
            }
            Err(error) => {
                let advice = "let HTTP/2 through to the control plane's gRPC port: a load balancer that ends TLS must offer `h2`";
                self.fail(Check::Http2, &error, advice)
            }
        }
    }

    /// What the control plane said to who the agent is, and which protocol it speaks.
    fn identity(&mut self, opened: Result<Look, SessionError>, own: Option<&Certificate>) -> Option<Look> {
        let error = match opened {
            Ok(look) => {
                self.tell(accepted(own));
                self.tell(protocol(&look.welcome));
                return Some(look);
            }
            Err(error) => error,
        };
        match &error {
            SessionError::Tls { .. } => self.fail(Check::Identity, &error, RENEW),
            SessionError::Refused(refusal)
                if matches!(refusal.reason, Some(Reason::IDENTITY_UNKNOWN | Reason::IDENTITY_DENIED)) =>
            {
                self.fail(Check::Identity, &error, RENEW)
            }
            SessionError::NoDiagnostics => {
                self.tell(accepted(own));
                let advice = "update the control plane; until then `hybrid-runner secrets check -c WORKFLOW` checks single files";
                self.tell(Finding::warn(Check::Protocol, &error.to_string(), advice));
                None
            }
            _ => {
                self.tell(accepted(own));
                let advice = "look at the control plane's log, at both versions, and whether control_plane.endpoint is its gRPC port";
                self.fail(Check::Protocol, &error, advice)
            }
        }
    }
}

const RENEW: &str = "make an identity with `control-plane agent add`, and put its files where control_plane names them";

fn refuses_identity(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Tls { source, .. } if TlsError::is_about_identity(source))
}

fn accepted(own: Option<&Certificate>) -> Finding {
    let Some(own) = own else {
        return Finding::ok(Check::Identity, "the bearer token is accepted; it ends when the control plane ends it");
    };
    let seen = format!("accepted: {}", dates::shown(own));
    match dates::ends_soon(own, Timestamp::now()) {
        true => Finding::warn(Check::Identity, &seen, RENEW),
        false => Finding::ok(Check::Identity, &seen),
    }
}

fn protocol(welcome: &Welcome) -> Finding {
    let Welcome { control_plane, protocol, missing } = welcome;
    let seen = format!("{control_plane} speaks protocol {protocol}");
    if missing.is_empty() {
        return Finding::ok(Check::Protocol, &format!("{seen}, with everything that this agent can do"));
    }
    let seen = format!("{seen}, and does not list {}", missing.join(", "));
    Finding::warn(Check::Protocol, &seen, "update the control plane to use these; runs work without them")
}
