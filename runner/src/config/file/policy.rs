//! `policy`: which secret may go where.

use std::fmt::Display;
use std::str::FromStr;

use hybrid_runner_secrets::{Binding, Policy, Prefix, Use};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{ConfigError, schema};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PolicyFile {
    /// Which secret may go where; nothing else is permitted. When absent, every reference may be read for Salesforce, at
    /// `*.salesforce.com` and the hosts of `salesforce.hosts`, and for `salesforce.proxy` and `control_plane.proxy`.
    bindings: Option<Vec<BindingFile>>,
    /// Networks, such as 10.20.0.0/16, in which hosts below salesforce.com may lie though they are private.
    networks: Vec<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct BindingFile {
    /// References with `*` (within a segment) and `**` (across), such as `secret:/salesforce/**`; `**` for all.
    references: Vec<String>,
    /// Hosts: `name`, `*.name` or an address, with `:port` for another one than 443.
    hosts: Vec<String>,
    /// What for; everything when absent.
    uses: Option<Vec<UseFile>>,
    /// Pipelines by name, with `*` (within a part between two `.`) and `**` (across); all when absent.
    pipelines: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum UseFile {
    Soap,
    Oauth,
    Jwt,
    Tls,
    Session,
    Proxy,
}

const PATH: &str = "policy";

impl PolicyFile {
    pub(super) fn parse(self, default: Vec<Binding>, prefixes: Vec<(String, Prefix)>) -> Result<Policy, ConfigError> {
        let bindings = match self.bindings {
            None => default,
            Some(none) if none.is_empty() => {
                let detail = "is empty and would permit nothing; leave it out for the default, or write a binding";
                return Err(ConfigError::field(schema::join(PATH, "bindings"), detail));
            }
            Some(bindings) => bindings
                .into_iter()
                .enumerate()
                .map(|(index, binding)| binding.parse(format!("{PATH}.bindings[{index}]")))
                .collect::<Result<_, _>>()?,
        };
        let policy = Policy::new(bindings).with_networks(parse_each(&self.networks, &schema::join(PATH, "networks"))?);
        Ok(prefixes.into_iter().fold(policy, |policy, (store, prefix)| policy.with_prefix(store, prefix)))
    }
}

impl BindingFile {
    fn parse(self, path: String) -> Result<Binding, ConfigError> {
        let key = |key: &str| schema::join(&path, key);
        let never = |key: &str, all: &str| {
            let detail = format!("is empty, so that the binding can never match; write at least one{all}");
            ConfigError::field(schema::join(&path, key), detail)
        };
        for (name, is_empty) in [("references", self.references.is_empty()), ("hosts", self.hosts.is_empty())] {
            if is_empty {
                return Err(never(name, ""));
            }
        }
        for (name, is_empty) in [
            ("uses", self.uses.as_ref().is_some_and(Vec::is_empty)),
            ("pipelines", self.pipelines.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if is_empty {
                return Err(never(name, ", or leave it out for all"));
            }
        }
        let references = parse_each(&self.references, &key("references"))?;
        let hosts = parse_each(&self.hosts, &key("hosts"))?;
        let pipelines = parse_each(&self.pipelines.unwrap_or_default(), &key("pipelines"))?;
        let uses = self.uses.unwrap_or_default().into_iter().map(Use::from).collect();
        Ok(Binding::new(path, references, hosts).for_uses(uses).in_pipelines(pipelines))
    }
}

fn parse_each<T: FromStr<Err: Display>>(texts: &[String], path: &str) -> Result<Vec<T>, ConfigError> {
    let parse = |(index, text): (usize, &String)| {
        text.parse().map_err(|error| ConfigError::field(format!("{path}[{index}]"), format!("{error}")))
    };
    texts.iter().enumerate().map(parse).collect()
}

impl From<UseFile> for Use {
    fn from(usage: UseFile) -> Self {
        match usage {
            UseFile::Soap => Self::Soap,
            UseFile::Oauth => Self::Oauth,
            UseFile::Jwt => Self::Jwt,
            UseFile::Tls => Self::Tls,
            UseFile::Session => Self::Session,
            UseFile::Proxy => Self::Proxy,
        }
    }
}
