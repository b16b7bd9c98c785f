//! The fields of all logins, as a definition gives them.

use hybrid_runner_connector::DefinitionError;
use hybrid_runner_openmetadata::strict::{FieldError, Object};
use hybrid_runner_secrets::SecretRef;
use serde_json::{Map, Value};

use super::super::credential::{self, Credential};
use super::super::{CONNECTION, refused};

/// The fields that a login is chosen by, under the names that a message gives them.
pub(super) const USERNAME: &str = "username";
pub(super) const PASSWORD: &str = "password";
pub(super) const TOKEN: &str = "securityToken";
pub(super) const ORGANIZATION: &str = "organizationId";
pub(super) const KEY: &str = "consumerKey";
pub(super) const SECRET: &str = "consumerSecret";
pub(super) const SESSION: &str = "connectionArguments.session_id";
pub(super) const INSTANCE: &str = "connectionArguments.instance_url";
pub(super) const PRIVATE_KEY: &str = "connectionArguments.privatekey";

/// What a definition gives; an empty string counts as not given, but for the token.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretRef>,
    pub(super) token: Credential,
    pub(super) organization: Option<String>,
    pub(super) consumer_key: Option<String>,
    pub(super) consumer_secret: Option<SecretRef>,
    pub(super) session: Option<SecretRef>,
    /// The key that the address stands under, and the address with its scheme.
    pub(super) instance: Option<(&'static str, String)>,
    pub(super) private_key: Option<SecretRef>,
}

impl Given {
    pub(super) fn read(connection: &mut Object, without_effect: &mut Vec<String>) -> Result<Self, DefinitionError> {
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
        // Of the two the peer's library takes the address.
        let instance = match take_text(&mut arguments, "instance_url")? {
            Some(address) => Some(("instance_url", address)),
            None => take_text(&mut arguments, "instance")?.map(|host| ("instance", format!("https://{host}"))),
        };
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
            private_key,
        })
    }

    /// The names of the fields that are given.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let given = [
            (USERNAME, self.username.is_some()),
            (PASSWORD, self.password.is_some()),
            (TOKEN, self.token != Credential::Absent),
            (ORGANIZATION, self.organization.is_some()),
            (KEY, self.consumer_key.is_some()),
            (SECRET, self.consumer_secret.is_some()),
            (SESSION, self.session.is_some()),
            (INSTANCE, self.instance.is_some()),
            (PRIVATE_KEY, self.private_key.is_some()),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }
}

/// Refuses what the peer's client library would take and this connector never will.
pub(in crate::config) fn refuse_arguments(connection: &Map<String, Value>) -> Result<(), DefinitionError> {
    for (key, value) in connection.get("connectionArguments").and_then(Value::as_object).into_iter().flatten() {
        let plain: String = key.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        let detail = match plain.as_str() {
            _ if matches!(value, Value::Null) => continue,
            "privatekeyfile" => {
                "names a file, which a definition cannot read: put the key into a secret store and its reference into \
                 connectionArguments.privatekey"
            }
            _ if plain.contains("refreshtoken") => {
                "is not accepted: a refresh token may be good for one use only, and the agent keeps nothing; use OAuth \
                 client credentials (consumerKey, consumerSecret and the org's My Domain as salesforceDomain) or JWT \
                 bearer (username, consumerKey, connectionArguments.privatekey)"
            }
            _ => continue,
        };
        return Err(refused(FieldError::new(format!("{CONNECTION}.connectionArguments.{key}"), detail)));
    }
    Ok(())
}

/// Takes a text out of `connectionArguments`.
fn take_text(arguments: &mut Map<String, Value>, key: &str) -> Result<Option<String>, DefinitionError> {
    match arguments.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => {
            let field = format!("{CONNECTION}.connectionArguments.{key}");
            Err(refused(FieldError::new(field, "found another kind of value; accepted: a string")))
        }
    }
}
