//! Choosing one login of those that a definition could mean.

use hybrid_runner_connector::{DefinitionError, Reason};
use hybrid_runner_openmetadata::strict::{FieldError, Object};

use super::super::credential::Credential;
use super::super::{ApiVersion, CONNECTION, refused};
use super::given::{Given, INSTANCE, KEY, ORGANIZATION, PASSWORD, PRIVATE_KEY, SECRET, SESSION, TOKEN, USERNAME};
use super::{Auth, Method};
use crate::host::{Host, HostPolicy};

const DOMAIN: &str = "salesforceDomain";

/// The peer's order: the first row whose fields are all given.
const ORDER: [(Method, &[&str]); 6] = [
    (Method::Soap, &[USERNAME, PASSWORD, TOKEN]),
    (Method::Session, &[SESSION, INSTANCE]),
    (Method::Soap, &[USERNAME, PASSWORD, ORGANIZATION]),
    (Method::Password, &[USERNAME, PASSWORD, KEY, SECRET]),
    (Method::Jwt, &[USERNAME, KEY, PRIVATE_KEY]),
    (Method::ClientCredentials, &[KEY, SECRET]),
];

/// Reads the fields of all logins.
pub(in crate::config) fn read(
    connection: &mut Object,
    hosts: &HostPolicy,
    without_effect: &mut Vec<String>,
) -> Result<Logins, DefinitionError> {
    let given = Given::read(connection, without_effect)?;
    let domain = connection.string(DOMAIN).map_err(refused)?;
    let host = hosts
        .login_host(domain.as_deref().unwrap_or("login"))
        .map_err(|error| refused(connection.error(DOMAIN, error.to_string())))?;
    let instance = given.instance.as_ref().map(|(key, address)| {
        hosts.address_host(address).map_err(|problem| {
            let scheme = if *key == "instance" { "" } else { "https://" };
            let detail = format!(
                "{problem}; accepted: an address such as {scheme}acme.my.salesforce.com, or a host that the agent's \
                 configuration lists (salesforce.hosts), with its port"
            );
            refused(FieldError::new(format!("{CONNECTION}.connectionArguments.{key}"), detail))
        })
    });
    Ok(Logins { given, host, instance: instance.transpose()? })
}

/// The fields of all logins, and where each of them would go.
#[derive(Debug)]
pub(in crate::config) struct Logins {
    given: Given,
    host: Host,
    instance: Option<Host>,
}

impl Logins {
    /// Chooses one, the one of `method` if there is one; the fields that it does not use go to `without_effect`.
    pub(in crate::config) fn choose(
        self,
        method: Option<Method>,
        version: ApiVersion,
        without_effect: &mut Vec<String>,
    ) -> Result<Auth, DefinitionError> {
        let given = self.given.names();
        let complete = |(of, fields): &&(Method, &'static [&'static str])| {
            method.is_none_or(|method| method == *of) && fields.iter().all(|field| given.contains(field))
        };
        let missing = || incomplete(&given, method);
        let (method, _) = ORDER.iter().find(complete).ok_or_else(missing)?;
        let auth = self.build(*method, version)?.ok_or_else(missing)?;
        let used = uses(&auth);
        without_effect
            .extend(given.iter().filter(|name| !used.contains(name)).map(|name| format!("{CONNECTION}.{name}")));
        if matches!(auth, Auth::Session { .. }) && self.host.name() != "login.salesforce.com" {
            without_effect.push(format!("{CONNECTION}.{DOMAIN}"));
        }
        Ok(auth)
    }

    /// The login of a kind; `None` if a field is missing.
    fn build(&self, method: Method, version: ApiVersion) -> Result<Option<Auth>, DefinitionError> {
        let (given, host) = (&self.given, self.host.clone());
        // An empty token is the form's way to give none.
        let organization = match given.token {
            Credential::Reference(_) => None,
            Credential::Absent | Credential::Empty if method == Method::Soap => self.organization()?,
            Credential::Absent | Credential::Empty => None,
        };
        if method == Method::ClientCredentials && host.is_shared_login() {
            let detail = "OAuth client credentials work at an org's My Domain only, not at `login` or `test`; write the \
                          part of its address before `.salesforce.com`, such as `acme.my`";
            return Err(refused(FieldError::new(format!("{CONNECTION}.{DOMAIN}"), detail)));
        }
        let (username, consumer_key) = (given.username.clone(), given.consumer_key.clone());
        let (password, consumer_secret) = (given.password.clone(), given.consumer_secret.clone());
        let token = given.token.clone().reference();
        let build = || {
            Some(match method {
                Method::Soap => {
                    Auth::Soap { host, version, username: username?, password: password?, token, organization }
                }
                Method::Password => Auth::Password {
                    host,
                    username: username?,
                    password: password?,
                    token,
                    consumer_key: consumer_key?,
                    consumer_secret: consumer_secret?,
                },
                Method::Jwt => Auth::Jwt {
                    host,
                    username: username?,
                    consumer_key: consumer_key?,
                    private_key: given.private_key.clone()?,
                },
                Method::ClientCredentials => {
                    Auth::ClientCredentials { host, consumer_key: consumer_key?, consumer_secret: consumer_secret? }
                }
                Method::Session => Auth::Session { host: self.instance.clone()?, session_id: given.session.clone()? },
            })
        };
        Ok(build())
    }

    /// `organizationId`, as it is sent.
    fn organization(&self) -> Result<Option<String>, DefinitionError> {
        let Some(id) = &self.given.organization else { return Ok(None) };
        let plain = matches!(id.len(), 15 | 18) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if plain && id.starts_with("00D") {
            return Ok(Some(id.clone()));
        }
        let detail = "is no organization id; accepted: the 15 or 18 letters and digits that Setup, Company Information \
                      shows, which begin with 00D";
        Err(refused(FieldError::new(format!("{CONNECTION}.{ORGANIZATION}"), detail)))
    }
}

/// The names of the fields that a login uses.
fn uses(auth: &Auth) -> Vec<&'static str> {
    match auth {
        Auth::Soap { organization: Some(_), .. } => vec![USERNAME, PASSWORD, TOKEN, ORGANIZATION],
        Auth::Soap { organization: None, .. } => vec![USERNAME, PASSWORD, TOKEN],
        Auth::Password { .. } => vec![USERNAME, PASSWORD, TOKEN, KEY, SECRET],
        Auth::Jwt { .. } => vec![USERNAME, KEY, PRIVATE_KEY],
        Auth::ClientCredentials { .. } => vec![KEY, SECRET],
        Auth::Session { .. } => vec![SESSION, INSTANCE],
    }
}

/// What is missing for each login that could be meant.
fn incomplete(given: &[&'static str], method: Option<Method>) -> DefinitionError {
    let missing = |fields: &[&'static str]| {
        let missing: Vec<_> = fields.iter().copied().filter(|field| !given.contains(field)).collect();
        missing.join(", ")
    };
    let rows = ORDER.iter().filter(|(of, _)| match method {
        Some(method) => method == *of,
        // An existing session is for those who ask for it.
        None => *of != Method::Session || given.contains(&SESSION) || given.contains(&INSTANCE),
    });
    let rows: Vec<_> = rows.map(|(of, fields)| format!("for {}: {}", of.name(), missing(fields))).collect();
    let given = if given.is_empty() { "nothing".to_owned() } else { given.join(", ") };
    let detail = format!("no login can be chosen: given is {given}; missing {}", rows.join("; "));
    DefinitionError { reason: Reason::BadDefinition, field: CONNECTION.to_owned(), detail }
}
