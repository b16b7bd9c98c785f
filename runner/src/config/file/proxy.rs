//! `salesforce.proxy`, `control_plane.proxy` and the proxy of the environment.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hybrid_runner_salesforce::Proxy as Configured;
use hybrid_runner_secrets::{SecretRef, SecretValue};
use hyper_util::client::proxy::matcher::Matcher;
use schemars::JsonSchema;
use serde::Deserialize;
use tonic::transport::Uri;

use super::super::{ConfigError, Environment, Proxy, ProxyLogin, schema};

/// The setting that a proxy of the environment comes from. `ALL_PROXY` and lower case count as well, as in curl.
const VARIABLE: &str = "HTTPS_PROXY";

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProxyFile {
    /// `http://host:port`, or `https://host:port` of a proxy that speaks TLS itself.
    url: Option<String>,
    /// The name of its user.
    username: Option<String>,
    /// Reference to the password, such as `secret:/proxy/password`.
    password: Option<String>,
}

impl ProxyFile {
    pub(super) fn parse(self, path: &str) -> Result<Option<Configured>, ConfigError> {
        let missing = |key: &str| ConfigError::field(schema::join(path, key), "is missing");
        let credentials = match (self.username, self.password) {
            (Some(username), Some(password)) => {
                let reference = password
                    .parse::<SecretRef>()
                    .map_err(|error| ConfigError::field(schema::join(path, "password"), error.to_string()))?;
                Some((username, reference))
            }
            (None, None) => None,
            (Some(_), None) => return Err(missing("password")),
            (None, Some(_)) => return Err(missing("username")),
        };
        let Some(url) = self.url else {
            return if credentials.is_some() { Err(missing("url")) } else { Ok(None) };
        };
        Configured::new(&url, credentials).map(Some).map_err(|problem| {
            ConfigError::field(schema::join(path, "url"), format!("{problem}; accepted: http://host:port"))
        })
    }
}

/// The proxy to the control plane: the configured one, else that of the environment, unless `NO_PROXY` has the host.
/// Without an environment neither of its variables counts.
pub(super) fn on_the_way_to(
    host: &str,
    port: u16,
    configured: Option<Configured>,
    environment: Option<&Environment>,
) -> Result<Option<Proxy>, ConfigError> {
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| environment?.var(name)).unwrap_or_default();
    let proxies = match &configured {
        Some(proxy) => Matcher::builder().all(proxy.url().as_str()),
        None => Matcher::builder().all(first(["ALL_PROXY", "all_proxy"])).https(first(["HTTPS_PROXY", "https_proxy"])),
    };
    let Ok(uri) = format!("https://{host}:{port}").parse::<Uri>() else { return Ok(None) };
    let Some(found) = proxies.no(first(["NO_PROXY", "no_proxy"])).build().intercept(&uri) else { return Ok(None) };
    if let Some(proxy) = configured {
        let login = proxy.username().zip(proxy.password()).map(|(username, password)| ProxyLogin::Reference {
            username: username.to_owned(),
            password: password.clone(),
        });
        let is_tls = proxy.url().scheme() == "https";
        let setting = "control_plane.proxy";
        return Ok(Some(Proxy { is_tls, host: proxy.host().to_owned(), port: proxy.port(), login, setting }));
    }
    let refused = |problem: &str| {
        ConfigError::field(
            VARIABLE,
            format!(
                "{problem}; accepted for the control plane: http://host:port (or set control_plane.use_system_proxy to false)"
            ),
        )
    };
    let is_tls = match found.uri().scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(refused("is not the address of an HTTP proxy")),
    };
    let host = found.uri().host().filter(|host| !host.is_empty()).ok_or_else(|| refused("has no host"))?.to_owned();
    let port = found.uri().port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let login = found.basic_auth().and_then(|header| {
        let text = STANDARD.decode(header.to_str().ok()?.strip_prefix("Basic ")?).ok()?;
        Some(ProxyLogin::Basic(Arc::new(SecretValue::new(String::from_utf8(text).ok()?))))
    });
    Ok(Some(Proxy { is_tls, host, port, login, setting: VARIABLE }))
}
