//! Who an agent is.
//!
//! An agent shows a client certificate with the URI SAN `agent://NAME`, signed by the configured authority, or a bearer
//! token. Either way it must be in the list of agents; the list holds a token's BLAKE3 hash only. A token wins over a
//! certificate, so that an agent behind a load balancer with a certificate of its own is who it says. Who was let in is
//! looked at again while the streams last: [`Agents::check`].

use std::path::{Path, PathBuf};

use hybrid_runner_openmetadata::yaml;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::digest::hex;
use crate::pki::AGENT_SCHEME;

/// An agent's name, in bytes.
pub const MAX_AGENT_NAME: usize = 64;

/// One agent of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Whether its certificate is accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate: bool,
    /// BLAKE3 of its bearer token, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_blake3: Option<String>,
}

/// The list of agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agents(Vec<Agent>);

/// The list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// The file cannot be read.
    #[error("read the list of agents {}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not a list of agents.
    #[error("{}: {detail}; `control-plane agent add` writes it", path.display())]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

impl Agents {
    /// Reads the list; an absent file is an empty one.
    ///
    /// # Errors
    /// [`AgentsError`]
    pub async fn read(path: &Path) -> Result<Self, AgentsError> {
        match tokio::fs::read_to_string(path).await {
            Ok(text) => Self::parse(&text).map_err(|detail| AgentsError::Malformed { path: path.to_owned(), detail }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(AgentsError::Unreadable { path: path.to_owned(), source }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut agents: Vec<Agent> = Vec::new();
        for document in yaml::documents(text).map_err(|error| error.to_string())? {
            agents.extend(serde_json::from_value::<Vec<Agent>>(document).map_err(|error| error.to_string())?);
        }
        match agents.iter().find(|agent| !is_name(&agent.name)) {
            Some(agent) => Err(format!("{:?} is no name of an agent", agent.name)),
            None => Ok(Self(agents)),
        }
    }

    /// The list with this agent in place of one of the same name; as YAML for the file.
    ///
    /// # Errors
    /// The list does not serialize, which does not happen.
    pub fn with(mut self, agent: Agent) -> Result<String, serde_saphyr::ser::Error> {
        match self.0.iter_mut().find(|known| known.name == agent.name) {
            Some(known) => *known = agent,
            None => self.0.push(agent),
        }
        self.0.sort_by(|a, b| a.name.cmp(&b.name));
        serde_saphyr::to_string(&self.0)
    }

    /// The agent of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Agent> {
        self.0.iter().find(|agent| agent.name == name)
    }

    /// Who calls.
    ///
    /// # Errors
    /// [`IdentityError`]
    pub fn identify(
        &self,
        metadata: &MetadataMap,
        certificate: Option<&ClientCertificate>,
        now: Timestamp,
    ) -> Result<Caller, IdentityError> {
        let shown = match metadata.get("authorization") {
            Some(header) => {
                let token = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
                Shown::Token(hash_token(token.ok_or(IdentityError::NoBearer)?.trim()))
            }
            None => Shown::Certificate(certificate.ok_or(IdentityError::Absent)?.clone()),
        };
        let agent = self.named_by(&shown, now)?;
        Ok(Caller { agent, shown })
    }

    /// Whether a caller is still who it was let in as.
    ///
    /// # Errors
    /// [`IdentityError`]: it is not any more.
    pub fn check(&self, caller: &Caller, now: Timestamp) -> Result<(), IdentityError> {
        let agent = self.named_by(&caller.shown, now)?;
        if agent == caller.agent { Ok(()) } else { Err(IdentityError::UnknownToken) }
    }

    fn named_by(&self, shown: &Shown, now: Timestamp) -> Result<String, IdentityError> {
        match shown {
            Shown::Token(hash) => {
                let known = self.0.iter().find(|agent| agent.token_blake3.as_deref() == Some(hash.as_str()));
                known.map(|agent| agent.name.clone()).ok_or(IdentityError::UnknownToken)
            }
            Shown::Certificate(ClientCertificate { name, not_after, .. }) => {
                if now > *not_after {
                    return Err(IdentityError::Expired { name: name.clone(), not_after: *not_after });
                }
                let known = self.by_name(name).filter(|agent| agent.certificate);
                known.map(|agent| agent.name.clone()).ok_or_else(|| IdentityError::UnknownAgent { name: name.clone() })
            }
        }
    }
}

/// An agent that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name.
    pub agent: String,
    shown: Shown,
}

/// What it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Certificate(ClientCertificate),
    /// The hash of its token.
    Token(String),
}

impl Caller {
    /// The serial number of its certificate, in hexadecimal digits.
    #[must_use]
    pub fn serial(&self) -> Option<&str> {
        match &self.shown {
            Shown::Certificate(certificate) => Some(&certificate.serial),
            Shown::Token(_) => None,
        }
    }

    /// When what it showed runs out.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        match &self.shown {
            Shown::Certificate(certificate) => Some(certificate.not_after),
            Shown::Token(_) => None,
        }
    }
}

/// What a verified client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The agent that it names.
    pub name: String,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// The last second in which it is valid.
    pub not_after: Timestamp,
}

/// Nobody that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Neither a certificate nor a token.
    #[error("neither a client certificate with a URI SAN agent://NAME nor a bearer token was shown")]
    Absent,
    /// Another scheme of authorization.
    #[error("the authorization is not `Bearer TOKEN`")]
    NoBearer,
    /// A token that nobody has. The comparison is of hashes, so its time says nothing about tokens.
    #[error("the bearer token is not known")]
    UnknownToken,
    /// A certificate of an agent that is not in the list.
    #[error("agent {name} is not in the list of agents; `control-plane agent add {name}` adds it")]
    UnknownAgent {
        /// The name in the certificate.
        name: String,
    },
    /// A certificate that ran out.
    #[error(
        "the certificate of agent {name} was valid until {not_after}; `control-plane agent add {name}` makes another one"
    )]
    Expired {
        /// The name in the certificate.
        name: String,
        /// Its end.
        not_after: Timestamp,
    },
}

/// Whether this can be an agent's name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_AGENT_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What the list keeps of a token.
#[must_use]
pub fn hash_token(token: &str) -> String {
    hex(blake3::hash(token.as_bytes()).as_bytes())
}

impl ClientCertificate {
    /// Reads a verified certificate; none: it names no agent.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let name = names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(AGENT_SCHEME).filter(|name| is_name(name)).map(str::to_owned),
            _ => None,
        })?;
        let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self { name, serial: hex(certificate.raw_serial()), not_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents() -> Agents {
        let token = hash_token("open sesame");
        Agents::parse(&format!("- {{name: a, certificate: true}}\n- {{name: b, token_blake3: {token}}}\n")).unwrap()
    }

    fn certificate_of(name: &str) -> ClientCertificate {
        let not_after = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(60);
        ClientCertificate { name: name.to_owned(), serial: "01".to_owned(), not_after }
    }

    fn bearer(value: &'static str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().unwrap());
        metadata
    }

    #[test]
    fn an_agent_is_known_by_certificate_or_token_as_listed() {
        let none = MetadataMap::new();
        let identify = |metadata: &MetadataMap, certificate: Option<&str>| {
            let certificate = certificate.map(certificate_of);
            agents().identify(metadata, certificate.as_ref(), Timestamp::UNIX_EPOCH).map(|caller| caller.agent)
        };
        assert_eq!(identify(&none, Some("a")).as_deref(), Ok("a"));
        assert_eq!(identify(&bearer("Bearer open sesame"), None).as_deref(), Ok("b"));
        assert_eq!(identify(&none, None), Err(IdentityError::Absent));
        assert_eq!(identify(&bearer("Bearer guess"), Some("a")), Err(IdentityError::UnknownToken));
        assert_eq!(identify(&bearer("Basic x"), None), Err(IdentityError::NoBearer));
        // Listed with a token only: its certificate is not accepted.
        assert!(matches!(identify(&none, Some("b")), Err(IdentityError::UnknownAgent { .. })));
    }

    #[test]
    fn a_caller_is_known_until_its_certificate_ends_or_it_leaves_the_list_or_its_token_changes() {
        let (now, none) = (Timestamp::UNIX_EPOCH, MetadataMap::new());
        let certificate = certificate_of("a");
        let by_certificate = agents().identify(&none, Some(&certificate), now).unwrap();
        assert_eq!(agents().check(&by_certificate, certificate.not_after), Ok(()));
        let later = certificate.not_after + jiff::SignedDuration::from_secs(1);
        assert!(matches!(agents().check(&by_certificate, later), Err(IdentityError::Expired { .. })));
        assert!(matches!(Agents::default().check(&by_certificate, now), Err(IdentityError::UnknownAgent { .. })));

        let by_token = agents().identify(&bearer("Bearer open sesame"), None, now).unwrap();
        assert_eq!(agents().check(&by_token, later), Ok(()));
        let changed = format!("- {{name: b, token_blake3: {}}}\n", hash_token("another"));
        let changed = Agents::parse(&changed).unwrap();
        assert_eq!(changed.check(&by_token, now), Err(IdentityError::UnknownToken));
    }

    #[test]
    fn an_added_agent_replaces_the_one_of_its_name_and_reads_back() {
        let agent = Agent { name: "b".to_owned(), certificate: true, token_blake3: None };
        let text = agents().with(agent.clone()).unwrap();
        let read = Agents::parse(&text).unwrap();
        assert_eq!(read.by_name("b"), Some(&agent));
        assert!(read.by_name("a").is_some());
    }

    #[test]
    fn a_list_that_is_not_one_is_refused() {
        assert!(Agents::parse("- {name: 'a b'}\n").is_err());
        assert!(Agents::parse("- {name: a, token: plain}\n").is_err());
        assert_eq!(Agents::parse("").unwrap(), Agents::default());
    }
}
