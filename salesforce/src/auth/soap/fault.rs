//! What to change after a SOAP fault.

use hybrid_runner_connector::{Reason, SourceError};

use crate::auth::{not_an_answer, rejected};
use crate::config::ApiVersion;
use crate::host::Host;
use crate::http::ErrorCode;

/// The other logins, for whoever cannot use SOAP.
macro_rules! instead {
    ($before:literal) => {
        concat!(
            $before,
            "OAuth client credentials (consumerKey, consumerSecret and the org's My Domain as salesforceDomain, without \
             username and password) or JWT bearer (username, consumerKey, connectionArguments.privatekey)"
        )
    };
}

/// The error of a fault.
pub(super) fn refusal(host: &Host, code: Option<&ErrorCode>, version: ApiVersion) -> SourceError {
    let Some(code) = code else { return not_an_answer(host, "is a fault without a code") };
    if matches!(code.as_str(), "UNSUPPORTED_API_VERSION" | "INVALID_VERSION") {
        let advice = format!(
            "it has no SOAP login at API version {version}; SOAP login is in 31.0 to 64.0 and ends with Summer '27 (June \
             2027): set connectionOptions.loginApiVersion to 64.0 while it lasts, or use {}",
            instead!("")
        );
        return rejected(host, code, Reason::BadDefinition, &advice);
    }
    let (reason, advice) = advice(code.as_str());
    rejected(host, code, reason, advice)
}

fn advice(code: &str) -> (Reason, &'static str) {
    match code {
        "INVALID_LOGIN" => (
            Reason::AuthFailed,
            "user name, password or security token is wrong, or the user is locked or inactive; check the secrets, that \
             salesforceDomain is right (test or a My Domain for a sandbox), and the user's Login History",
        ),
        "LOGIN_MUST_USE_SECURITY_TOKEN" => (
            Reason::AuthFailed,
            "the agent's address is not trusted by the org: set securityToken (a new password comes with a new token), or \
             add the address to the org's trusted IP ranges (Setup, Network Access)",
        ),
        "PASSWORD_LOCKOUT" => (
            Reason::AuthFailed,
            "the user is locked out after too many wrong passwords: unlock it in Setup, Users, and correct the secret",
        ),
        "ORG_LOCKED" => (Reason::AuthFailed, "the org is locked: contact Salesforce"),
        "INVALID_OPERATION_WITH_EXPIRED_PASSWORD" | "PASSWORD_EXPIRED" => {
            (Reason::AuthFailed, "the password has expired: set a new one in Salesforce and in the secret store")
        }
        "LOGIN_DURING_RESTRICTED_TIME" | "LOGIN_DURING_RESTRICTED_DOMAIN" | "RESTRICTED_PROFILE" => (
            Reason::AuthFailed,
            "the user's profile does not permit logins at this time or from this address (Login Hours, Login IP Ranges)",
        ),
        "TWO_FACTOR_REQUIRED" | "MFA_REQUIRED" => {
            (Reason::AuthFailed, instead!("the user needs a second factor, which SOAP login cannot give: use "))
        }
        "INSUFFICIENT_ACCESS" | "INSUFFICIENT_ACCESS_OR_READONLY" => (
            Reason::SourceDenied,
            "the user may not use the API: give it the permissions API Enabled and, in orgs that ask for it, Use Any API \
             Auth",
        ),
        "API_DISABLED_FOR_ORG" => {
            (Reason::SourceDenied, "the org's edition has no API access, or it is off: contact Salesforce")
        }
        "API_CURRENTLY_DISABLED" => (
            Reason::SourceDenied,
            instead!("the API is off for this user or org: give the user API Enabled and Use Any API Auth, or use "),
        ),
        // "SOAP API login() is disabled by default in this org", jsforce/jsforce#1771, November 2025.
        "INVALID_OPERATION" => (
            Reason::SourceDenied,
            instead!(
                "SOAP login is off in this org, as it is by default in new ones and everywhere from Summer '27 on: use "
            ),
        ),
        "INVALID_SSO_GATEWAY_URL" | "SSO_SERVICE_DOWN" => {
            (Reason::AuthFailed, instead!("the user logs in through single sign-on, which SOAP login cannot: use "))
        }
        "LOGIN_RATE_EXCEEDED" | "REQUEST_LIMIT_EXCEEDED" => {
            (Reason::SourceThrottled, "too many logins or requests in a short time: run later")
        }
        "SERVER_UNAVAILABLE" | "UNKNOWN_EXCEPTION" => {
            (Reason::SourceUnreachable, "Salesforce is not available: check status.salesforce.com")
        }
        _ => (Reason::AuthFailed, "check the user's Login History in Setup"),
    }
}
