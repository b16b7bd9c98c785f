//! The HTTP client below the SDK: one TLS stack, the proxy of the environment, and no plain HTTP off this machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_sdk_secretsmanager::config::http::HttpRequest;
use aws_sdk_secretsmanager::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_secretsmanager::error::ConnectorError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use url::{Host, Url};

use crate::ReadError;

/// Where AWS hands out credentials by plain HTTP, on links that do not leave the host: instance metadata, ECS, EKS Pod
/// Identity. (Their addresses in AWS's documentation, 2026.)
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// A client that takes `HTTPS_PROXY` and `NO_PROXY` from the environment. Blocks: it reads the system's certificates.
pub(super) fn client() -> Result<SharedHttpClient, ReadError> {
    // Without any, the SDK would fail each connection with a text that does not say why.
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        let none = "this system has no CA certificates; install ca-certificates or give SSL_CERT_FILE";
        return Err(ReadError::Unreachable(none.into()));
    }
    let connect = |proxy: fn() -> ProxyConfig| {
        Builder::new().build_with_connector_fn(move |settings, components| connector(settings, components, proxy()))
    };
    Ok(SharedHttpClient::new(Routes { https: connect(ProxyConfig::from_env), http: connect(ProxyConfig::disabled) }))
}

/// Whether requests to this address would be sent.
pub(super) fn may_be_endpoint(address: &str) -> bool {
    Route::of(address) != Route::Refused
}

fn connector(
    settings: Option<&HttpConnectorSettings>,
    components: Option<&RuntimeComponents>,
    proxy: ProxyConfig,
) -> Connector {
    let mut builder = Connector::builder().proxy_config(proxy).tls_provider(Provider::Rustls(CryptoMode::AwsLc));
    builder.set_connector_settings(settings.cloned());
    builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
    builder.build()
}

/// What is plain HTTP never goes through a proxy: instance metadata behind one would be another machine's.
#[derive(Debug)]
struct Routes<T> {
    https: T,
    http: T,
}

impl HttpClient for Routes<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Routes {
            https: self.https.http_connector(settings, components),
            http: self.http.http_connector(settings, components),
        })
    }
}

impl HttpConnector for Routes<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match Route::of(request.uri()) {
            Route::Https => self.https.call(request),
            Route::Http => self.http.call(request),
            Route::Refused => HttpConnectorFuture::ready(Err(ConnectorError::user(Box::new(PlainHttp)))),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Route {
    Https,
    Http,
    Refused,
}

impl Route {
    fn of(uri: &str) -> Self {
        let Ok(url) = Url::parse(uri) else { return Self::Refused };
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        let is_near = url.host_str() == Some("localhost")
            || address.is_some_and(|address| address.is_loopback() || METADATA.contains(&address));
        match url.scheme() {
            "https" => Self::Https,
            "http" if is_near => Self::Http,
            _ => Self::Refused,
        }
    }
}

/// A request would have left this machine without TLS.
#[derive(Debug)]
struct PlainHttp;

impl fmt::Display for PlainHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the endpoint is not https://; plain HTTP is accepted to this machine only")
    }
}

impl std::error::Error for PlainHttp {}

#[cfg(test)]
mod tests {
    use super::Route;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (uri, route) in [
            ("https://secretsmanager.eu-central-1.amazonaws.com/", Route::Https),
            ("https://127.0.0.1:8443/", Route::Https),
            ("http://127.0.0.1:5000/", Route::Http),
            ("http://localhost:5000/", Route::Http),
            ("http://[::1]:5000/", Route::Http),
            ("http://169.254.169.254/latest/meta-data/", Route::Http),
            ("http://169.254.170.23/v1/credentials", Route::Http),
            ("http://[fd00:ec2::23]/v1/credentials", Route::Http),
            ("http://secretsmanager.eu-central-1.amazonaws.com/", Route::Refused),
            ("http://10.0.0.1/", Route::Refused),
            ("http://localhost.example.com/", Route::Refused),
            ("http://127.0.0.1.example.com/", Route::Refused),
            ("http://localhost@example.com/", Route::Refused),
            ("ftp://127.0.0.1/", Route::Refused),
            ("/relative", Route::Refused),
            ("", Route::Refused),
        ] {
            assert_eq!(Route::of(uri), route, "{uri}");
        }
    }
}
