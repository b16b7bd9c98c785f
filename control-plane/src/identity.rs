//! Who an agent is.
//!
//! An agent shows a client certificate with the URI SAN `agent://NAME`, signed by the configured authority, or a bearer
//! token. Either way it must be in the list of agents; the list holds a token's BLAKE3 hash only. A token wins over a
//! certificate, so that an agent behind a load balancer with a certificate of its own is who it says.

use std::path::{Path, PathBuf};

use hybrid_runner_openmetadata::yaml;
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
    pub fn identify(&self, metadata: &MetadataMap, certificate: Option<&str>) -> Result<String, IdentityError> {
        if let Some(header) = metadata.get("authorization") {
            let token = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
            let hash = hash_token(token.ok_or(IdentityError::NoBearer)?.trim());
            let known = self.0.iter().find(|agent| agent.token_blake3.as_deref() == Some(hash.as_str()));
            return known.map(|agent| agent.name.clone()).ok_or(IdentityError::UnknownToken);
        }
        let name = certificate.ok_or(IdentityError::Absent)?;
        let known = self.by_name(name).filter(|agent| agent.certificate);
        known.map(|agent| agent.name.clone()).ok_or_else(|| IdentityError::UnknownAgent { name: name.to_owned() })
    }
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

/// The agent that a verified certificate names.
#[must_use]
pub fn name_in_certificate(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(AGENT_SCHEME).filter(|name| is_name(name)).map(str::to_owned),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents() -> Agents {
        let token = hash_token("open sesame");
        Agents::parse(&format!("- {{name: a, certificate: true}}\n- {{name: b, token_blake3: {token}}}\n")).unwrap()
    }

    fn bearer(value: &'static str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().unwrap());
        metadata
    }

    #[test]
    fn an_agent_is_known_by_certificate_or_token_as_listed() {
        let none = MetadataMap::new();
        assert_eq!(agents().identify(&none, Some("a")).as_deref(), Ok("a"));
        assert_eq!(agents().identify(&bearer("Bearer open sesame"), None).as_deref(), Ok("b"));
        assert_eq!(agents().identify(&none, None), Err(IdentityError::Absent));
        assert_eq!(agents().identify(&bearer("Bearer guess"), Some("a")), Err(IdentityError::UnknownToken));
        assert_eq!(agents().identify(&bearer("Basic x"), None), Err(IdentityError::NoBearer));
        // Listed with a token only: its certificate is not accepted.
        assert!(matches!(agents().identify(&none, Some("b")), Err(IdentityError::UnknownAgent { .. })));
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
