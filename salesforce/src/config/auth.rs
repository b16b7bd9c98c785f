//! Which login a definition means.
//!
//! The peer connector takes the first login whose fields are all given, in a fixed order; the same file must choose the
//! same one here. `connectionOptions.authentication` names one instead ([`Method`]).

mod choice;
mod given;

use hybrid_runner_secrets::SecretRef;

use super::ApiVersion;
use crate::host::Host;

pub(super) use choice::read;
pub(super) use given::refuse_arguments;

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// SOAP `login()`.
    Soap {
        /// Where.
        host: Host,
        /// At most [`ApiVersion::LAST_SOAP`].
        version: ApiVersion,
        /// The user's name.
        username: String,
        /// The user's password.
        password: SecretRef,
        /// The security token, which is appended to the password; `None` when the agent's address is trusted.
        token: Option<SecretRef>,
        /// The organization that the login is for, 15 or 18 characters.
        organization: Option<String>,
    },
    /// The OAuth username-password flow.
    Password {
        /// Where.
        host: Host,
        /// The user's name.
        username: String,
        /// The user's password.
        password: SecretRef,
        /// The security token, which is appended to the password; `None` when the agent's address is trusted.
        token: Option<SecretRef>,
        /// The client id.
        consumer_key: String,
        /// The client secret.
        consumer_secret: SecretRef,
    },
    /// The OAuth JWT bearer flow.
    Jwt {
        /// Where; the assertion's audience, too.
        host: Host,
        /// The user's name.
        username: String,
        /// The client id.
        consumer_key: String,
        /// The RSA key whose certificate the app has, as PEM.
        private_key: SecretRef,
    },
    /// The OAuth client credentials flow.
    ClientCredentials {
        /// The org's My Domain, or a host of the local configuration.
        host: Host,
        /// The client id.
        consumer_key: String,
        /// The client secret.
        consumer_secret: SecretRef,
    },
    /// A session that somebody else has opened. Only a definition of the machine's own user may bring one.
    Session {
        /// The host that it is for.
        host: Host,
        /// The session id or access token.
        session_id: SecretRef,
    },
}

impl Auth {
    /// Where the login goes; of a session, the host that it is for.
    #[must_use]
    pub fn host(&self) -> &Host {
        match self {
            Self::Soap { host, .. }
            | Self::Password { host, .. }
            | Self::Jwt { host, .. }
            | Self::ClientCredentials { host, .. }
            | Self::Session { host, .. } => host,
        }
    }

    /// Who logs in, where the definition says it: client credentials run as the app's own user, a session is somebody's.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Soap { username, .. } | Self::Password { username, .. } | Self::Jwt { username, .. } => {
                Some(username)
            }
            Self::ClientCredentials { .. } | Self::Session { .. } => None,
        }
    }

    /// What the operator should change before this login stops working; to be said once a run.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            // help.salesforce.com, 005132110, 30 April 2026; the day is from the notification of 21 April 2026.
            Self::Soap { .. } => Some(
                "this pipeline logs in by SOAP, which Salesforce retires with Summer '27 (June 2027) and which API 65.0 \
                 and later do not have: switch to OAuth client credentials (consumerKey, consumerSecret and the org's My \
                 Domain as salesforceDomain) or JWT bearer (username, consumerKey, connectionArguments.privatekey)",
            ),
            Self::Password { .. } => Some(
                "this pipeline logs in by the OAuth username-password flow, which Salesforce blocks in orgs made since \
                 Summer '23 and which External Client Apps do not have: switch to OAuth client credentials (consumerKey, \
                 consumerSecret and the org's My Domain as salesforceDomain, without username and password) or JWT bearer",
            ),
            Self::Jwt { .. } | Self::ClientCredentials { .. } | Self::Session { .. } => None,
        }
    }
}

/// A kind of login, as `connectionOptions.authentication` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Soap,
    Password,
    Jwt,
    ClientCredentials,
    Session,
}

impl Method {
    /// The option's key.
    pub(super) const KEY: &str = "authentication";

    /// What the option accepts.
    pub(super) const ACCEPTED: &str = "soap, password, jwt, clientCredentials, session";

    pub(super) fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "soap" => Self::Soap,
            "password" => Self::Password,
            "jwt" => Self::Jwt,
            "clientCredentials" => Self::ClientCredentials,
            "session" => Self::Session,
            _ => return None,
        })
    }

    /// In the words of a message.
    fn name(self) -> &'static str {
        match self {
            Self::Soap => "SOAP login",
            Self::Password => "the OAuth username-password flow",
            Self::Jwt => "the OAuth JWT bearer flow",
            Self::ClientCredentials => "OAuth client credentials",
            Self::Session => "an existing session",
        }
    }
}
