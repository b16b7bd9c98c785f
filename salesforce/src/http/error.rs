//! Why a request failed, and what follows from it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use hybrid_runner_connector::{Reason, SourceError};
use hybrid_runner_secrets::NotPermitted;
use serde::Deserialize;

use super::resolve::Unvetted;
use crate::describe::lenient::{ObjectOrList, text};
use crate::host::Host;
use crate::quota::Spent;

/// A request failed. The texts hold no URL and nothing of a body but a code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{problem}")]
    NoClient {
        reason: Reason,
        problem: &'static str,
        #[source]
        source: Option<reqwest::Error>,
    },
    #[error("the address does not belong to the host that the credentials are for")]
    WrongHost,
    #[error("connect to {host}")]
    Connect {
        host: Host,
        #[source]
        source: reqwest::Error,
    },
    #[error("{unvetted}, which the agent's policy does not permit for a host that is not listed locally")]
    Unvetted { unvetted: Unvetted },
    #[error("the certificate of {host} is not trusted")]
    Untrusted {
        host: Host,
        #[source]
        source: reqwest::Error,
    },
    #[error("{host} asks for a client certificate, or does not accept the one that it was shown")]
    Unidentified {
        host: Host,
        #[source]
        source: reqwest::Error,
    },
    #[error("the proxy asks for a user name and a password")]
    ProxyLogin {
        host: Host,
        #[source]
        source: reqwest::Error,
    },
    #[error("no answer from {host} within {} s", .after.as_secs())]
    Timeout { host: Host, after: Duration },
    #[error("the connection to {host} broke off")]
    Broken {
        host: Host,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{host} redirects (HTTP {status})")]
    Redirected { host: Host, status: u16 },
    #[error("{host} answers HTTP {status}{}", InBrackets(.code))]
    Status { host: Host, status: u16, code: Option<ErrorCode>, retry_after: Option<Duration> },
    #[error("the answer of {host} is larger than {cap} bytes")]
    TooLarge { host: Host, cap: usize },
    #[error("the answer of {host} {problem}")]
    Protocol { host: Host, problem: &'static str },
    #[error(transparent)]
    NotPermitted {
        #[from]
        refused: NotPermitted,
    },
    #[error(transparent)]
    Spent {
        #[from]
        spent: Spent,
    },
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It may pass.
    Passing,
    /// It may pass after that time.
    PassingAfter(Duration),
    /// The session is not accepted any more.
    Session,
    /// It will not pass.
    Final,
}

/// A code of Salesforce's, such as `REQUEST_LIMIT_EXCEEDED`: the only thing of an error's body that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorCode(String);

impl ErrorCode {
    /// The org's requests of 24 hours are used up.
    pub(crate) const LIMIT: &str = "REQUEST_LIMIT_EXCEEDED";
    /// Too many long requests at a time. Ours: Salesforce gives both limits one code.
    const CONCURRENCY: &str = "CONCURRENT_REQUEST_LIMIT_EXCEEDED";

    fn is_concurrency(&self) -> bool {
        self.0 == Self::CONCURRENCY
    }

    /// A text that has the shape of a code: 1 to 64 letters of one case and `_`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let code = text.strip_prefix("sf:").unwrap_or(text);
        let upper = code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let lower = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        ((1..=64).contains(&code.len()) && (upper || lower)).then(|| Self(code.to_owned()))
    }

    /// The code of an error's body: REST answers `[{"errorCode": …}]`, OAuth `{"error": …}`. Anything else, such as a
    /// page for people, has none.
    pub(crate) fn of_body(body: &[u8]) -> Option<Self> {
        match serde_json::from_slice::<ObjectOrList<OAuthError<'_>, RestError<'_>>>(body).ok()? {
            ObjectOrList::Object(error) => Self::parse(&error.error?),
            ObjectOrList::List(first) => first?.code(),
            ObjectOrList::Other => None,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// An error as REST gives it, in a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RestError<'a> {
    #[serde(borrow, deserialize_with = "text")]
    error_code: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    message: Option<Cow<'a, str>>,
}

impl RestError<'_> {
    /// Two limits share one code: the day's, and that of long requests at a time ("ConcurrentPerOrgLongTxn Limit
    /// exceeded."), which passes.
    pub(crate) fn code(self) -> Option<ErrorCode> {
        let code = ErrorCode::parse(&self.error_code?)?;
        let concurrent = self.message.is_some_and(|message| message.starts_with("Concurrent"));
        let passes = concurrent && code.as_str() == ErrorCode::LIMIT;
        Some(if passes { ErrorCode(ErrorCode::CONCURRENCY.to_owned()) } else { code })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OAuthError<'a> {
    #[serde(borrow, deserialize_with = "text")]
    error: Option<Cow<'a, str>>,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// ` (CODE)`, or nothing.
#[derive(Debug)]
pub(crate) struct InBrackets<'a>(pub(crate) &'a Option<ErrorCode>);

impl fmt::Display for InBrackets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}

impl CallError {
    /// The error of sending a request.
    pub(super) fn sending(host: &Host, error: reqwest::Error) -> Self {
        let (host, source) = (host.clone(), error.without_url());
        if let Some(unvetted) = cause::<Unvetted>(&source) {
            return Self::Unvetted { unvetted: unvetted.clone() };
        }
        let tls = cause::<rustls::Error>(&source);
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            Self::Untrusted { host, source }
        } else if tls.is_some_and(is_about_us) {
            Self::Unidentified { host, source }
        } else if wants_proxy_login(&source) {
            Self::ProxyLogin { host, source }
        } else if source.is_connect() {
            Self::Connect { host, source }
        } else {
            Self::Broken { host, source: source.into() }
        }
    }

    /// What follows.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. } => Class::Passing,
            Self::Status { status, code, retry_after, .. } => match classify(*status, code.as_ref()) {
                Class::Passing => retry_after.map_or(Class::Passing, Class::PassingAfter),
                other => other,
            },
            Self::NoClient { .. }
            | Self::WrongHost
            | Self::NotPermitted { .. }
            | Self::Unvetted { .. }
            | Self::Untrusted { .. }
            | Self::Unidentified { .. }
            | Self::ProxyLogin { .. }
            | Self::Redirected { .. }
            | Self::TooLarge { .. }
            | Self::Protocol { .. }
            | Self::Spent { .. } => Class::Final,
        }
    }

    /// Whether the server has certainly not acted upon the request: it was not sent, or turned away at the door.
    pub(crate) fn is_not_acted_upon(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Status { status: 420 | 429 | 503, .. })
    }

    /// Whether it asks for fewer requests at a time.
    pub(crate) fn asks_for_less(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Status { status, code, .. } => {
                matches!(status, 420 | 429 | 503) || code.as_ref().is_some_and(ErrorCode::is_concurrency)
            }
            _ => false,
        }
    }

    /// Whether a smaller request may succeed where this one failed.
    pub(crate) fn is_size(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::TooLarge { .. } | Self::Protocol { .. } | Self::Status { status: 413, .. }
        )
    }

    /// The reason in the catalogue.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::NoClient { reason, .. } => *reason,
            Self::NotPermitted { .. } | Self::Unvetted { .. } => Reason::PolicyDenied,
            Self::Connect { .. }
            | Self::Untrusted { .. }
            | Self::Unidentified { .. }
            | Self::ProxyLogin { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. } => Reason::SourceUnreachable,
            Self::WrongHost | Self::Redirected { .. } | Self::TooLarge { .. } | Self::Protocol { .. } => {
                Reason::SourceProtocol
            }
            Self::Spent { .. } => Reason::SourceThrottled,
            // Of a call, not of an object: the path is one that every org of that version has.
            Self::Status { status: 404, .. } => Reason::SourceProtocol,
            Self::Status { status, code, .. } => reason_for(*status, code.as_ref()),
        }
    }

    /// The error that ends the run.
    pub(crate) fn into_source_error(self) -> SourceError {
        let detail = self.sentence();
        SourceError::caused(self.reason(), detail, self)
    }

    /// A sentence that says what to change.
    pub(crate) fn sentence(&self) -> String {
        let advice = match self {
            Self::NoClient { .. } | Self::Spent { .. } => return self.to_string(),
            Self::Connect { host, .. } => return sentence_for_host(host),
            Self::Untrusted { host, .. } if host.is_listed() => {
                "check the certificates in salesforce.hosts of the agent's configuration (ca)"
            }
            Self::Untrusted { .. } => {
                "if a proxy of your network inspects TLS, add its CA certificate to the agent's trusted certificates \
                 (SSL_CERT_FILE), or, for `hybrid-runner extract`, as sslConfig.caCertificate to the workflow file"
            }
            Self::Unidentified { .. } => {
                "give sslConfig.sslCertificate and sslConfig.sslKey, which count in the workflow file of \
                 `hybrid-runner extract`, and check that the org knows the certificate's authority"
            }
            Self::ProxyLogin { .. } => {
                "check username and password of salesforce.proxy in the agent's configuration, or the ones in HTTPS_PROXY"
            }
            Self::NotPermitted { .. } => {
                "if it is to be permitted there, add the host to the hosts of the credential's binding (policy.bindings)"
            }
            Self::Unvetted { .. } => {
                "check what DNS answers for it; if it is to lie there, name its network in policy.networks of the agent's \
                 configuration"
            }
            Self::WrongHost => "this is a fault of the agent: please report it",
            Self::Redirected { .. } => {
                "redirects are not followed, because credentials would go along; check salesforceDomain (a My Domain \
                 that was renamed redirects) and that no proxy answers in Salesforce's place"
            }
            Self::Timeout { .. } | Self::Broken { .. } => {
                "check status.salesforce.com and the network between the agent and Salesforce"
            }
            Self::TooLarge { .. } | Self::Protocol { .. } => "check that no proxy answers in Salesforce's place",
            Self::Status { status, code, .. } => advice_for(*status, code.as_ref()),
        };
        format!("{self}; {advice}")
    }
}

/// What to check when a host cannot be reached.
fn sentence_for_host(host: &Host) -> String {
    let name = if host.is_listed() { "salesforce.hosts of the agent's configuration" } else { "salesforceDomain" };
    format!(
        "{host} could not be reached: check {name}, DNS, and that the agent's network permits HTTPS to it (directly, or \
         through HTTPS_PROXY)"
    )
}

/// What follows from a status and a code, of a call or of a part of a composite one.
pub(crate) fn classify(status: u16, code: Option<&ErrorCode>) -> Class {
    match (status, code.map(ErrorCode::as_str)) {
        (401, _) => Class::Session,
        (403, Some(ErrorCode::CONCURRENCY)) => Class::Passing,
        (420 | 429 | 502 | 503 | 504, _) => Class::Passing,
        (500, None | Some("UNKNOWN_EXCEPTION" | "UNABLE_TO_LOCK_ROW" | "QUERY_TIMEOUT" | "SERVER_UNAVAILABLE")) => {
            Class::Passing
        }
        _ => Class::Final,
    }
}

/// The catalogue's reason for a status and a code.
pub(crate) fn reason_for(status: u16, code: Option<&ErrorCode>) -> Reason {
    match (status, code.map(ErrorCode::as_str)) {
        (_, Some(ErrorCode::LIMIT | ErrorCode::CONCURRENCY | "TXN_SECURITY_METERING_ERROR")) | (420 | 429, _) => {
            Reason::SourceThrottled
        }
        (401, _) => Reason::AuthFailed,
        (403, _) => Reason::SourceDenied,
        (404, _) => Reason::ObjectVanished,
        (502..=504, _) => Reason::SourceUnreachable,
        _ => Reason::SourceProtocol,
    }
}

fn advice_for(status: u16, code: Option<&ErrorCode>) -> &'static str {
    match (status, code.map(ErrorCode::as_str)) {
        (_, Some(ErrorCode::CONCURRENCY)) => "too many long requests run in the org at a time; run later",
        (_, Some(ErrorCode::LIMIT)) => {
            "the org's API requests of the last 24 hours are used up; run later, less often, or raise the limit \
             (Setup, Company Information)"
        }
        (_, Some("TXN_SECURITY_METERING_ERROR")) => "give the user the permission Exempt from Transaction Security",
        (_, Some("API_DISABLED_FOR_ORG" | "API_CURRENTLY_DISABLED")) => {
            "the user or the org has no API access; give the user the permission API Enabled"
        }
        (401, _) => "the session is not accepted",
        (403, _) => "the user is not permitted to read it; check the permissions API Enabled and read on the objects",
        (404, _) => "check salesforceApiVersion: the org may not offer it",
        (410, _) => "the API version is retired; set salesforceApiVersion to a newer one",
        (420 | 429, _) => "Salesforce asks for fewer requests; run later",
        (500, _) => "Salesforce failed; run again, and check status.salesforce.com",
        (502..=504, _) => "Salesforce is not available; check status.salesforce.com",
        _ => "check that no proxy answers in Salesforce's place",
    }
}

/// A cause of a kind, such as what TLS says is wrong. hyper hides it in an I/O error, whose `source` is the cause's, not the cause.
fn cause<T: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = error.downcast_ref::<T>().or_else(|| inner.and_then(|inner| inner.downcast_ref::<T>()));
        if found.is_some() {
            return found;
        }
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Whether the other side complains of our certificate, or of its absence.
fn is_about_us(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                // The signature on our certificate is not the authority's of that name.
                | Alert::DecryptError
        )
    )
}

/// Whether a proxy answered 407. Repeating that could lock somebody's account out. The error's type is private to
/// hyper-util, so its words have to do; a test holds them.
fn wants_proxy_login(error: &reqwest::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if error.to_string().ends_with("proxy authorization required") {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_code_is_found_in_each_kind_of_body_and_nothing_else_is() {
        let found = |body: &str| ErrorCode::of_body(body.as_bytes()).map(|code| code.to_string());
        assert_eq!(found(r#"[{"message":"secret","errorCode":"INVALID_SESSION_ID"}]"#).unwrap(), "INVALID_SESSION_ID");
        assert_eq!(found(r#"[{"errorCode":"A"},{"errorCode":"B"}]"#).unwrap(), "A");
        assert_eq!(found(r#"{"error":"invalid_grant","error_description":"x"}"#).unwrap(), "invalid_grant");
        for none in [
            "",
            "[]",
            "{}",
            "null",
            "<html>ERROR</html>",
            "\u{0}",
            "[1]",
            r#"{"errorCode":"X"}"#,
            r#"[{"errorCode":1}]"#,
            r#"[{"errorCode":""}]"#,
            r#"[{"errorCode":"HAS SPACE"}]"#,
            r#"[{"errorCode":"Mixed"}]"#,
            r#"{"error":"a-b"}"#,
            r#"[{"errorCode":"INVALID<script>"}]"#,
            r#"[{"errorCode":"DIGIT1"}]"#,
        ] {
            assert_eq!(found(none), None, "{none}");
        }
        assert_eq!(found(&format!(r#"[{{"errorCode":"{}"}}]"#, "A".repeat(65))), None);
    }

    #[test]
    fn each_status_has_its_reason() {
        let code = |text| ErrorCode::parse(text);
        let table = [
            (403, code("REQUEST_LIMIT_EXCEEDED"), Class::Final, Reason::SourceThrottled),
            (403, code("INSUFFICIENT_ACCESS"), Class::Final, Reason::SourceDenied),
            (403, None, Class::Final, Reason::SourceDenied),
            (401, code("INVALID_SESSION_ID"), Class::Session, Reason::AuthFailed),
            (404, code("NOT_FOUND"), Class::Final, Reason::ObjectVanished),
            (400, code("INVALID_TYPE"), Class::Final, Reason::SourceProtocol),
            (410, code("GONE"), Class::Final, Reason::SourceProtocol),
            (420, None, Class::Passing, Reason::SourceThrottled),
            (429, None, Class::Passing, Reason::SourceThrottled),
            (500, code("UNKNOWN_EXCEPTION"), Class::Passing, Reason::SourceProtocol),
            (500, code("INVALID_FIELD"), Class::Final, Reason::SourceProtocol),
            (500, None, Class::Passing, Reason::SourceProtocol),
            (503, code("SERVER_UNAVAILABLE"), Class::Passing, Reason::SourceUnreachable),
        ];
        for (status, code, class, reason) in table {
            assert_eq!(classify(status, code.as_ref()), class, "{status} {code:?}");
            assert_eq!(reason_for(status, code.as_ref()), reason, "{status} {code:?}");
        }
    }
}
