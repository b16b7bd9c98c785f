//! Logging in: SOAP `login()` and the OAuth token endpoint; the sessions that come of it.

mod jwt;
mod soap;

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::AUTHORIZATION;
use serde_json::json;

use crate::describe::MY_DOMAIN;
use crate::org::Credentials;
use crate::rest::{Answer, Call};
use crate::server::World;

pub(crate) use soap::soap;

/// Ids of the org and of the integration user, invented.
pub(crate) const ORGANIZATION: &str = "00D5g000004XmPlEAK";
pub(crate) const USER: &str = "0055g00000ExMpLAAV";

/// Tokens that are good at the moment.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: HashSet<String>,
    made: u64,
}

impl Sessions {
    pub(crate) fn contains(&self, token: &str) -> bool {
        self.live.contains(token)
    }

    /// All of them.
    pub(crate) fn live(&self) -> Vec<String> {
        self.live.iter().cloned().collect()
    }

    pub(crate) fn expire(&mut self) {
        self.live.clear();
    }

    /// A new token: of the shape that Salesforce's have, good for this process only.
    fn open(&mut self) -> String {
        self.made += 1;
        let secret: String = (0..64).map(|_| fastrand::alphanumeric()).collect();
        let token = format!("{}!AQEA.{:04}{secret}", ORGANIZATION.get(..15).unwrap_or(ORGANIZATION), self.made);
        self.live.insert(token.clone());
        token
    }
}

/// The host that a login names for the calls that follow: the one that the client used, except that the login hosts of
/// Salesforce lead to the org's own domain.
fn instance(world: &World, call: &Call<'_>) -> String {
    if let Some(host) = world.faults.plan().server_host {
        return host;
    }
    let host = call.host.trim_end_matches(":443");
    if matches!(host, "login.salesforce.com" | "test.salesforce.com") { MY_DOMAIN.into() } else { host.into() }
}

/// `/services/oauth2/token`: client credentials, JWT bearer and username-password.
pub(crate) fn token(world: &World, call: &Call<'_>) -> Answer {
    if call.method != hyper::Method::POST {
        return refused("unsupported_grant_type", "grant type not supported");
    }
    let form: Vec<(String, String)> = url::form_urlencoded::parse(call.body).into_owned().collect();
    let given = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let basic = basic(call);
    let (id, secret) = match &basic {
        Some((id, secret)) => (Some(id.as_str()), Some(secret.as_str())),
        None => (given("client_id"), given("client_secret")),
    };
    let org = world.org();
    let own = &org.credentials;
    let at_login_host = call.host.starts_with("login.salesforce.com") || call.host.starts_with("test.salesforce.com");
    match given("grant_type") {
        Some("client_credentials") if at_login_host => refused("invalid_grant", "request not supported on this domain"),
        Some("client_credentials" | "password") if id != Some(&own.consumer_key) => {
            refused("invalid_client_id", "client identifier invalid")
        }
        Some("client_credentials" | "password") if secret != Some(&own.consumer_secret) => {
            refused("invalid_client", "invalid client credentials")
        }
        Some("password") if !password_fits(own, given("username"), given("password")) => {
            refused("invalid_grant", "authentication failure")
        }
        Some("client_credentials" | "password") => granted(world, call),
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
            let host = call.host.trim_end_matches(":443");
            match jwt::check(own, host, given("assertion").unwrap_or_default()) {
                Ok(()) => granted(world, call),
                Err((error, description)) => refused(error, description),
            }
        }
        Some("refresh_token") => refused("invalid_grant", "expired access/refresh token"),
        _ => refused("unsupported_grant_type", "grant type not supported"),
    }
}

fn granted(world: &World, call: &Call<'_>) -> Answer {
    let instance = instance(world, call);
    let token = world.sessions(Sessions::open);
    Answer::json(&json!({
        "access_token": token,
        "signature": STANDARD.encode([0x5a; 32]),
        "scope": "api",
        "instance_url": format!("https://{instance}"),
        "id": format!("https://{instance}/id/{ORGANIZATION}/{USER}"),
        "token_type": "Bearer",
        "issued_at": "1777866414000",
    }))
}

/// OAuth errors are one object, not an array as those of REST.
fn refused(error: &str, description: &str) -> Answer {
    Answer::json(&json!({ "error": error, "error_description": description })).status(400)
}

fn basic(call: &Call<'_>) -> Option<(String, String)> {
    let encoded = call.headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.into(), secret.into()))
}

/// User name and password with the security token behind it; from a trusted address the password alone will do.
fn password_fits(own: &Credentials, username: Option<&str>, password: Option<&str>) -> bool {
    let with_token = || password == Some(&format!("{}{}", own.password, own.security_token));
    let alone = || own.trusted_address && password == Some(&own.password);
    username == Some(&own.username) && (with_token() || alone())
}
