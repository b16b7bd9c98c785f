//! Which login a definition means.
//!
//! The peer connector takes the first login whose fields are all given, in a fixed order; the same file must choose the
//! same one here, so logins that this connector does not have yet are recognised and refused by name.

use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_openmetadata::strict::{FieldError, Object};
use hybrid_runner_secrets::SecretRef;
use serde_json::{Map, Value};

use super::credential::{self, Credential};
use super::{ApiVersion, CONNECTION, refused};
use crate::host::{Host, HostPolicy};

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
        /// The security token, which is appended to the password; `None` when it was given as empty.
        token: Option<SecretRef>,
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
}

impl Auth {
    /// Where the login goes.
    #[must_use]
    pub fn host(&self) -> &Host {
        match self {
            Self::Soap { host, .. } | Self::ClientCredentials { host, .. } => host,
        }
    }

    /// The secrets that the login reads.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Soap { password, token, .. } => std::iter::once(password).chain(token).collect(),
            Self::ClientCredentials { consumer_secret, .. } => vec![consumer_secret],
        }
    }
}

/// The fields that a login is chosen by, under the names that a message gives them.
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
const TOKEN: &str = "securityToken";
const ORGANIZATION: &str = "organizationId";
const KEY: &str = "consumerKey";
const SECRET: &str = "consumerSecret";
const SESSION: &str = "connectionArguments.session_id";
const INSTANCE: &str = "connectionArguments.instance_url";
const PRIVATE_KEY: &str = "connectionArguments.privatekey";

/// Reads the fields of all logins.
pub(super) fn read(
    connection: &mut Object,
    hosts: &HostPolicy,
    without_effect: &mut Vec<String>,
) -> Result<Logins, DefinitionError> {
    let given = Given::read(connection, without_effect)?;
    let domain = connection.string("salesforceDomain").map_err(refused)?;
    let host = hosts
        .login_host(domain.as_deref().unwrap_or("login"))
        .map_err(|error| refused(connection.error("salesforceDomain", error.to_string())))?;
    Ok(Logins { given, host })
}

/// The fields of all logins, and where each of them would go.
#[derive(Debug)]
pub(super) struct Logins {
    given: Given,
    host: Host,
}

impl Logins {
    /// Chooses one; the fields that it does not use go to `without_effect`.
    pub(super) fn choose(self, version: ApiVersion, without_effect: &mut Vec<String>) -> Result<Auth, DefinitionError> {
        let (auth, used) = self.given.choose(self.host, version)?;
        let unused = self.given.names().into_iter().filter(|name| !used.contains(name));
        without_effect.extend(unused.map(|name| format!("{CONNECTION}.{name}")));
        Ok(auth)
    }
}

/// What a definition gives; an empty string counts as not given, but for the token.
#[derive(Debug)]
struct Given {
    username: Option<String>,
    password: Option<SecretRef>,
    token: Credential,
    organization: Option<String>,
    consumer_key: Option<String>,
    consumer_secret: Option<SecretRef>,
    session: Option<SecretRef>,
    instance: bool,
    private_key: bool,
}

impl Given {
    fn read(connection: &mut Object, without_effect: &mut Vec<String>) -> Result<Self, DefinitionError> {
        let mut text = |key| connection.string(key).map(|text| text.filter(|text| !text.is_empty())).map_err(refused);
        let (username, organization, consumer_key) = (text(USERNAME)?, text(ORGANIZATION)?, text(KEY)?);
        let password = credential::read(connection, PASSWORD)?.reference();
        let token = credential::read(connection, TOKEN)?;
        let consumer_secret = credential::read(connection, SECRET)?.reference();

        // The peer hands these to a client library: which keys there are is not written down, so none is unknown.
        let mut arguments = connection.map("connectionArguments").map_err(refused)?.unwrap_or_default();
        let mut take = |path: &'static str| {
            let value = path.split_once('.').and_then(|(_, key)| arguments.remove(key));
            credential::parse(value, || format!("{CONNECTION}.{path}"))
        };
        let (session, private_key) = (take(SESSION)?.reference(), take(PRIVATE_KEY)?.reference());
        let instance = take_texts(&mut arguments, &["instance_url", "instance"])?;
        let key_file = take_texts(&mut arguments, &["privatekey_file"])?;
        without_effect.extend(arguments.keys().map(|key| connection.path_of(&format!("connectionArguments.{key}"))));
        Ok(Self {
            username,
            password,
            token,
            organization,
            consumer_key,
            consumer_secret,
            session,
            instance,
            private_key: private_key.is_some() || key_file,
        })
    }

    /// The first login in the peer's order whose fields are all given, and the names of those fields.
    fn choose(&self, host: Host, version: ApiVersion) -> Result<(Auth, Vec<&'static str>), DefinitionError> {
        let has = |name| self.names().contains(&name);
        if let (Some(username), Some(password), true) =
            (&self.username, &self.password, self.token != Credential::Absent)
        {
            let (username, password, token) = (username.clone(), password.clone(), self.token.clone().reference());
            return Ok((Auth::Soap { host, version, username, password, token }, vec![USERNAME, PASSWORD, TOKEN]));
        }
        for (fields, name) in LATER {
            if fields.iter().all(|field| has(field)) {
                let detail = format!("{name} ({}) is not supported yet; {SUPPORTED}", fields.join(", "));
                return Err(refused(FieldError::new(CONNECTION, detail)));
            }
        }
        if let (Some(key), Some(secret)) = (&self.consumer_key, &self.consumer_secret) {
            if host.is_shared_login() {
                let detail = "OAuth client credentials work at an org's My Domain only, not at `login` or `test`; write \
                              the part of its address before `.salesforce.com`, such as `acme.my`";
                return Err(refused(FieldError::new(format!("{CONNECTION}.salesforceDomain"), detail)));
            }
            let (consumer_key, consumer_secret) = (key.clone(), secret.clone());
            return Ok((Auth::ClientCredentials { host, consumer_key, consumer_secret }, vec![KEY, SECRET]));
        }
        Err(self.incomplete())
    }

    fn incomplete(&self) -> DefinitionError {
        let names = self.names();
        let missing = |fields: &[&'static str]| {
            let missing: Vec<_> = fields.iter().copied().filter(|field| !names.contains(field)).collect();
            missing.join(", ")
        };
        let given = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let detail = format!(
            "no login can be chosen: given is {given}; missing for a SOAP login: {}; missing for OAuth client \
             credentials: {}",
            missing(&[USERNAME, PASSWORD, TOKEN]),
            missing(&[KEY, SECRET]),
        );
        DefinitionError { reason: Reason::BadDefinition, field: CONNECTION.to_owned(), detail }
    }

    /// The names of the fields that are given.
    fn names(&self) -> Vec<&'static str> {
        let given = [
            (USERNAME, self.username.is_some()),
            (PASSWORD, self.password.is_some()),
            (TOKEN, self.token != Credential::Absent),
            (ORGANIZATION, self.organization.is_some()),
            (KEY, self.consumer_key.is_some()),
            (SECRET, self.consumer_secret.is_some()),
            (SESSION, self.session.is_some()),
            (INSTANCE, self.instance),
            (PRIVATE_KEY, self.private_key),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }
}

/// The logins between SOAP with a token and client credentials in the peer's order.
const LATER: [(&[&str], &str); 4] = [
    (&[SESSION, INSTANCE], "an existing session"),
    (&[USERNAME, PASSWORD, ORGANIZATION], "SOAP login with an organization id"),
    (&[USERNAME, PASSWORD, KEY, SECRET], "the OAuth username-password flow"),
    (&[USERNAME, KEY, PRIVATE_KEY], "the OAuth JWT bearer flow"),
];

const SUPPORTED: &str = "use SOAP login (username, password, securityToken) or OAuth client credentials (consumerKey, \
                         consumerSecret and nothing of another login)";

/// Takes texts out of `connectionArguments`; whether one is given.
fn take_texts(arguments: &mut Map<String, Value>, keys: &[&str]) -> Result<bool, DefinitionError> {
    let mut given = false;
    for key in keys {
        match arguments.remove(*key) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => given |= !text.is_empty(),
            Some(_) => {
                let field = format!("{CONNECTION}.connectionArguments.{key}");
                return Err(refused(FieldError::new(field, "found another kind of value; accepted: a string")));
            }
        }
    }
    Ok(given)
}
