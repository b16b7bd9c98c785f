//! Which secrets a login reads, and what for.

use hybrid_runner_connector::SecretUse;
use hybrid_runner_secrets::{Purpose, SecretRef, Use};

use crate::config::{Auth, Ssl};
use crate::host::Host;
use crate::http::Proxy;

/// The fields of credentials, as errors name them.
pub(super) const PASSWORD: &str = "password";
pub(super) const SECURITY_TOKEN: &str = "securityToken";
pub(super) const CONSUMER_SECRET: &str = "consumerSecret";
pub(super) const PRIVATE_KEY: &str = "connectionArguments.privatekey";
pub(super) const SESSION_ID: &str = "connectionArguments.session_id";
pub(super) const CA: &str = "sslConfig.caCertificate";
pub(super) const CERTIFICATE: &str = "sslConfig.sslCertificate";
pub(super) const KEY: &str = "sslConfig.sslKey";
pub(super) const PROXY_PASSWORD: &str = "salesforce.proxy.password";

/// Every secret that a login reads, in the order of the reads.
pub(crate) fn secrets(auth: &Auth, ssl: &Ssl, proxy: Option<&Proxy>) -> Vec<SecretUse> {
    let host = auth.host();
    let tls = ssl.ca.iter().map(|reference| (CA, reference));
    let pair = ssl.identity.iter().flat_map(|(certificate, key)| [(CERTIFICATE, certificate), (KEY, key)]);
    let tls = tls.chain(pair).map(|(field, reference)| secret(field, reference, at(Use::Tls, host)));
    let proxy = proxy.and_then(|proxy| {
        let reference = proxy.password()?;
        Some(secret(PROXY_PASSWORD, reference, at_proxy(proxy)))
    });
    let login = credentials(auth).into_iter();
    let login = login.map(|(field, reference)| secret(field, reference, at(usage(auth), host)));
    tls.chain(proxy).chain(login).collect()
}

fn credentials(auth: &Auth) -> Vec<(&'static str, &SecretRef)> {
    match auth {
        Auth::Soap { password, token, .. } => {
            std::iter::once((PASSWORD, password)).chain(token.iter().map(|token| (SECURITY_TOKEN, token))).collect()
        }
        Auth::Password { password, token, consumer_secret, .. } => {
            let token = token.iter().map(|token| (SECURITY_TOKEN, token));
            let ends = std::iter::once((CONSUMER_SECRET, consumer_secret));
            std::iter::once((PASSWORD, password)).chain(token).chain(ends).collect()
        }
        Auth::Jwt { private_key, .. } => vec![(PRIVATE_KEY, private_key)],
        Auth::ClientCredentials { consumer_secret, .. } => vec![(CONSUMER_SECRET, consumer_secret)],
        Auth::Session { session_id, .. } => vec![(SESSION_ID, session_id)],
    }
}

/// What the credentials of a login are used for.
pub(super) fn usage(auth: &Auth) -> Use {
    match auth {
        Auth::Soap { .. } => Use::Soap,
        Auth::Password { .. } | Auth::ClientCredentials { .. } => Use::Oauth,
        Auth::Jwt { .. } => Use::Jwt,
        Auth::Session { .. } => Use::Session,
    }
}

pub(super) fn at(usage: Use, host: &Host) -> Purpose {
    Purpose { usage, host: host.name().to_owned(), port: host.port() }
}

pub(super) fn at_proxy(proxy: &Proxy) -> Purpose {
    Purpose { usage: Use::Proxy, host: proxy.host().to_owned(), port: proxy.port() }
}

fn secret(field: &str, reference: &SecretRef, purpose: Purpose) -> SecretUse {
    SecretUse { field: field.to_owned(), reference: reference.clone(), purpose }
}
