//! What is wrong between this machine and a run, one check at a time.
//!
//! ```text
//! memory · descriptors                                                       this process
//! configuration ─▶ tls          dns ─▶ tcp ─▶ proxy ─▶ tls ─▶ http2 ─▶ clock, identity ─▶ protocol ─▶ definitions
//! stores ─▶ references ◀─ definitions                                        references ─▶ salesforce
//! ```
//!
//! A check that needs what a failed one would have brought is skipped, so that one fault fails one check. The control
//! plane is asked in a session that only looks: no slot, no lease, no run, and no agent hears of it. No secret is read but
//! those that definitions name, and none is kept. Salesforce is asked only when somebody says so.

mod machine;
mod salesforce;
mod secrets;
mod way;

use std::time::Duration;

use clap::ValueEnum as _;
use serde::Serialize;
use tokio::time::Instant;

use crate::config::AgentConfig;
use crate::plan::Connectors;
use crate::session::Welcome;
use secrets::StoreFindings;
use way::Walked;

/// All of it ends within this: what is not done by then is told as such. A pod that tests a release is not waited for
/// much longer.
const LIMIT: Duration = Duration::from_secs(58);
/// What is kept of [`LIMIT`] for the secrets of definitions: the time of one read.
const FOR_SECRETS: Duration = Duration::from_secs(12);

/// One thing that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Check {
    /// The files that the configuration names can be used.
    Configuration,
    /// The cgroup's memory limit has room for the runs.
    Memory,
    /// The process may open enough files and connections.
    Descriptors,
    /// The first host on the way has an address.
    Dns,
    /// It takes a connection.
    Tcp,
    /// The proxy, if there is one, opens a tunnel.
    Proxy,
    /// The control plane's certificate is trusted, and stays valid for a while.
    Tls,
    /// HTTP/2 goes through.
    Http2,
    /// This machine's clock agrees with the control plane's.
    Clock,
    /// The control plane accepts the agent's certificate or token, which stays valid for a while.
    Identity,
    /// Both sides speak the same protocol.
    Protocol,
    /// Each secret store can be reached and lets the agent in.
    Stores,
    /// Each definition of the control plane can be run.
    Definitions,
    /// Each secret that a definition names can be read.
    References,
    /// Login, permissions and quota at Salesforce; only when it is named.
    Salesforce,
}

impl Check {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::Clock => "clock",
            Self::Identity => "identity",
            Self::Protocol => "protocol",
            Self::Stores => "stores",
            Self::Definitions => "definitions",
            Self::References => "references",
            Self::Salesforce => "salesforce",
        }
    }

    /// Where it is explained.
    pub(crate) fn docs(self) -> String {
        format!("docs/operations.md#doctor-{}", self.name())
    }

    /// What must not have failed before it.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Configuration | Self::Memory | Self::Descriptors | Self::Dns | Self::Stores => &[],
            Self::Tcp => &[Self::Dns],
            Self::Proxy => &[Self::Tcp],
            Self::Tls => &[Self::Configuration, Self::Proxy],
            Self::Http2 => &[Self::Tls],
            Self::Clock | Self::Identity => &[Self::Http2],
            Self::Protocol => &[Self::Identity],
            Self::Definitions => &[Self::Protocol],
            Self::References => &[Self::Definitions, Self::Stores],
            Self::Salesforce => &[Self::References],
        }
    }

    /// Whether it needs the other one, or something that does.
    fn comes_after(self, other: Self) -> bool {
        self.needs().iter().any(|needed| *needed == other || needed.comes_after(other))
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It cannot be told: something that it needs failed, or nobody asked for it.
    Skipped,
    Ok,
    /// It works, and somebody should look.
    Warn,
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) check: Check,
    /// Which of several: a store, a pipeline, a field of it.
    pub(crate) subject: Option<String>,
    pub(crate) status: Status,
    pub(crate) seen: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
}

impl Finding {
    fn new(check: Check, status: Status, seen: &str, advice: Option<&str>) -> Self {
        Self { check, subject: None, status, seen: one_line(seen), advice: advice.map(one_line) }
    }

    fn ok(check: Check, seen: &str) -> Self {
        Self::new(check, Status::Ok, seen, None)
    }

    fn warn(check: Check, seen: &str, advice: &str) -> Self {
        Self::new(check, Status::Warn, seen, Some(advice))
    }

    fn fail(check: Check, seen: &str, advice: &str) -> Self {
        Self::new(check, Status::Fail, seen, Some(advice))
    }

    fn skipped(check: Check, why: &str) -> Self {
        Self::new(check, Status::Skipped, why, None)
    }

    fn of(self, subject: &str) -> Self {
        Self { subject: Some(one_line(subject)), ..self }
    }
}

/// Others' words are among what is shown: names of pipelines, certificates, answers.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// All that was found.
#[derive(Debug)]
pub(crate) struct Examination {
    /// In the order of the checks.
    pub(crate) findings: Vec<Finding>,
    /// Who the control plane says it is, if it was heard.
    pub(crate) welcome: Option<Welcome>,
}

impl Examination {
    /// The worst that was found.
    pub(crate) fn status(&self) -> Status {
        let worst = self.findings.iter().map(|finding| finding.status).max();
        worst.unwrap_or(Status::Ok).max(Status::Ok)
    }
}

/// Takes the checks of `only`, all but Salesforce when it is empty, and those that they need. What of these fails is told
/// too.
///
/// # Cancel safety
/// Dropping the future ends all of it.
pub(crate) async fn examine(config: &AgentConfig, only: &[Check]) -> Examination {
    let ends = Instant::now() + LIMIT;
    let wanted = Wanted(only.to_vec());
    let connectors = Connectors::new(config.salesforce.clone());
    let walk = async {
        match wanted.end_of_the_way() {
            Some(last) => way::walk(config, &connectors.kinds(), last, ends - FOR_SECRETS).await,
            None => Walked::default(),
        }
    };
    let looks = async {
        match wanted.needs(Check::Stores) {
            true => config.secrets.look().await,
            false => Vec::new(),
        }
    };
    let (Walked { mut findings, welcome, definitions, proxy_store }, seen) = tokio::join!(walk, looks);
    let mut stores = StoreFindings::new(seen);
    way::blame_store(&mut findings, proxy_store.as_deref(), &stores);
    findings.extend(machine::look(config.slots));
    if let Some(looked) = definitions {
        findings.extend(looked.iter().map(|looked| salesforce::last_run(&looked.definition.pipeline, looked.last_run)));
        let definitions = looked.into_iter().map(|looked| looked.definition).collect();
        let (pipelines, planned) = secrets::plan(config, &connectors, definitions);
        findings.extend(planned);
        if wanted.needs(Check::References) {
            let (pipelines, read) = secrets::read(pipelines, &mut stores, ends).await;
            findings.extend(read);
            if wanted.needs(Check::Salesforce) {
                // They say more than how the last run ended.
                findings.retain(|finding| finding.check != Check::Salesforce);
                findings.extend(salesforce::log_in(pipelines, ends).await);
            }
        }
    }
    findings.extend(stores.into_findings());
    Examination { findings: wanted.of(findings), welcome }
}

/// The checks that are asked for; none: all that spend no login.
struct Wanted(Vec<Check>);

impl Wanted {
    fn asks_for(&self, check: Check) -> bool {
        if self.0.is_empty() { check != Check::Salesforce } else { self.0.contains(&check) }
    }

    /// Whether it is asked for, or something that needs it.
    fn needs(&self, check: Check) -> bool {
        let all = Check::value_variants().iter();
        all.filter(|other| self.asks_for(**other)).any(|other| *other == check || other.comes_after(check))
    }

    /// The last step on the way to the control plane that is needed.
    fn end_of_the_way(&self) -> Option<Check> {
        way::ORDER.into_iter().rfind(|check| self.needs(*check))
    }

    /// What was asked for, and what failed of that which it needs, in the order of the checks. A check that nothing is
    /// known of is skipped.
    fn of(&self, mut findings: Vec<Finding>) -> Vec<Finding> {
        let is_shown = |finding: &Finding| {
            self.asks_for(finding.check)
                || finding.status == Status::Fail && self.needs(finding.check)
                // How the last runs ended costs nothing; who asks for logins is shown these.
                || finding.check == Check::Salesforce && self.0.is_empty()
        };
        findings.retain(is_shown);
        let known = |check: Check| findings.iter().any(|finding| finding.check == check);
        let absent = Check::value_variants().iter().copied().filter(|check| self.asks_for(*check) && !known(*check));
        let mut skipped: Vec<_> = absent.map(|check| Finding::skipped(check, &why_absent(check, &findings))).collect();
        if self.0.is_empty() && !known(Check::Salesforce) {
            skipped.push(Finding::skipped(Check::Salesforce, "no login is spent; `--only salesforce` logs in"));
        }
        findings.extend(skipped);
        findings.sort_by_key(|finding| finding.check);
        findings
    }
}

fn why_absent(check: Check, findings: &[Finding]) -> String {
    let failed = |finding: &&Finding| finding.status == Status::Fail && check.comes_after(finding.check);
    match findings.iter().rfind(failed) {
        Some(culprit) => format!("{} failed", culprit.check.name()),
        None => "there is nothing to look at".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_shown_with_what_failed_before_it_and_nothing_else() {
        let failed = |check| Finding::fail(check, "seen", "advice");
        let shown = |only: &[Check], findings: Vec<Finding>| -> Vec<(Check, Status)> {
            let shown = Wanted(only.to_vec()).of(findings);
            shown.iter().map(|finding| (finding.check, finding.status)).collect()
        };
        let found = || vec![failed(Check::Identity), failed(Check::Memory), Finding::ok(Check::Dns, "seen")];
        assert_eq!(shown(&[Check::Dns], found()), [(Check::Dns, Status::Ok)]);
        let references = [(Check::Identity, Status::Fail), (Check::References, Status::Skipped)];
        assert_eq!(shown(&[Check::References], found()), references);
        let all = shown(&[], found());
        assert_eq!(all.len(), Check::value_variants().len());
        assert_eq!(all.iter().filter(|(_, status)| *status == Status::Fail).count(), 2);
    }

    #[test]
    fn the_way_is_gone_as_far_as_it_is_needed() {
        let end = |only: &[Check]| Wanted(only.to_vec()).end_of_the_way();
        assert_eq!(end(&[Check::Memory, Check::Stores]), None);
        assert_eq!(end(&[Check::Dns]), Some(Check::Dns));
        assert_eq!(end(&[Check::Tls, Check::Dns]), Some(Check::Tls));
        assert_eq!(end(&[Check::References]), Some(Check::Definitions));
        assert_eq!(end(&[]), Some(Check::Definitions));
    }

    #[test]
    fn others_words_are_one_line() {
        let found = Finding::ok(Check::Tls, "a\nb\u{1b}[31m").of("c\td");
        assert_eq!((found.seen.as_str(), found.subject.as_deref()), ("a b [31m", Some("c d")));
    }
}
