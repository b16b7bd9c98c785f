//! What to change after an OAuth refusal.
//!
//! Salesforce gives `invalid_grant` for most causes and tells them apart only in `error_description`. Its kind is
//! recognised here and its words are never shown: it may hold what was sent.

use hybrid_runner_connector::{Reason, SourceError};
use serde::Deserialize;

use super::Flow;
use crate::auth::{not_an_answer, rejected};
use crate::host::Host;
use crate::http::ErrorCode;

/// The error of a refused token request.
pub(super) fn of(host: &Host, flow: Flow, body: &[u8]) -> SourceError {
    #[derive(Deserialize)]
    struct Refusal {
        error_description: Option<String>,
    }
    let Some(code) = ErrorCode::of_body(body) else { return not_an_answer(host, "is an error without a code") };
    let description = serde_json::from_slice::<Refusal>(body).ok().and_then(|refusal| refusal.error_description);
    let description = description.unwrap_or_default().to_ascii_lowercase();
    let (reason, advice) = by_description(flow, &description).unwrap_or_else(|| by_code(flow, code.as_str()));
    rejected(host, &code, reason, advice)
}

const NOT_APPROVED: &str = "the user is not approved for the app: in the External Client App's policies choose Admin \
                            approved users are pre-authorized and assign the user's permission set or profile, and give \
                            the app the OAuth scopes api and refresh_token, offline_access";
const NO_RUN_AS: &str = "the app does not permit it: in its External Client App enable the Client Credentials Flow, choose \
                         an active Run As user, and use the org's My Domain as salesforceDomain";
const WRONG_HOST: &str = "this host does not do it: use the org's My Domain as salesforceDomain, the part of its address \
                          before `.salesforce.com`, such as `acme.my`";
const AUDIENCE: &str = "the assertion is for another host: salesforceDomain is login for production, test for a sandbox, or \
                        the org's My Domain";
const SIGNATURE: &str = "the signature does not fit: connectionArguments.privatekey is not the key of the certificate in \
                         the External Client App (OAuth settings, JWT Bearer Flow), or that certificate has expired";
const CLOCK: &str = "the assertion counts as expired although it was just made: check the clock of the agent's machine";
const PASSWORD: &str = "user name, password or security token is wrong, the agent's address is not trusted (set \
                        securityToken and connectionOptions.authentication to password), or the org blocks OAuth \
                        username-password flows, as orgs made since Summer '23 do; the user's Login History says which. \
                        Client credentials and JWT bearer have none of this";
const SECOND_FACTOR: &str = "the user needs a second factor, which this flow cannot give: use OAuth client credentials or \
                             JWT bearer";
const RESTRICTED: &str = "the agent's address or the time is not permitted: check the app's IP relaxation, and Login IP \
                          Ranges and Login Hours of the user's profile";
const INACTIVE: &str = "the user (with client credentials, the app's Run As user) or the org is not active";
const LOCKED: &str = "the user is locked: unlock it in Setup, Users, and correct the secrets";
const EXPIRED_PASSWORD: &str = "the password has expired: set a new one in Salesforce and in the secret store";
const KEY: &str = "consumerKey or consumerSecret is wrong, or the app is not in this org; check them, and that \
                   salesforceDomain names the app's org (a new app takes some minutes to be known)";
const BLOCKED: &str = "the app is blocked or not installed for the user: look at it in Setup, External Client App Manager \
                       or Connected Apps OAuth Usage";
const RATE: &str = "too many logins in a short time: run later";

/// Advice for the kind of a description, in lower case.
fn by_description(flow: Flow, description: &str) -> Option<(Reason, &'static str)> {
    let says = |words: &[&str]| words.iter().any(|word| description.contains(word));
    let advice = if says(&["rate limit", "rate exceeded", "too many"]) {
        return Some((Reason::SourceThrottled, RATE));
    } else if says(&["approved this consumer", "admin approved", "not approved"])
        // JWT bearer goes by an approval, which ends with the refresh token that it once gave.
        || flow == Flow::Jwt && says(&["refresh token"])
    {
        NOT_APPROVED
    } else if says(&["not supported on this domain"]) {
        WRONG_HOST
    } else if says(&["client credentials user", "client credentials flow", "run as user", "run-as"]) {
        NO_RUN_AS
    } else if says(&["audience"]) {
        AUDIENCE
    } else if says(&["password expired", "password has expired", "expired password"]) {
        EXPIRED_PASSWORD
    } else if flow == Flow::Jwt && says(&["expired", "expiration"]) {
        CLOCK
    } else if says(&["invalid assertion", "signature"]) {
        SIGNATURE
    } else if says(&["inactive"]) {
        INACTIVE
    } else if says(&["lock"]) {
        LOCKED
    } else if says(&["ip restricted", "ip range", "login hours", "restricted"]) {
        RESTRICTED
    } else if says(&["two_factor", "two-factor", "multi-factor", "mfa", "second factor"]) {
        SECOND_FACTOR
    } else if says(&["client identifier", "client credentials", "consumer"]) {
        KEY
    } else if flow == Flow::Password && says(&["authentication failure", "password"]) {
        PASSWORD
    } else {
        return None;
    };
    Some((Reason::AuthFailed, advice))
}

/// Advice for a code whose description says nothing more.
fn by_code(flow: Flow, code: &str) -> (Reason, &'static str) {
    let advice = match (code, flow) {
        ("rate_limit_exceeded", _) => return (Reason::SourceThrottled, RATE),
        ("server_error" | "temporarily_unavailable", _) => {
            return (Reason::SourceUnreachable, "Salesforce is not available: check status.salesforce.com");
        }
        ("invalid_client_id" | "invalid_client" | "invalid_client_credentials", _) => KEY,
        ("invalid_grant" | "unsupported_grant_type" | "unauthorized_client", Flow::ClientCredentials) => NO_RUN_AS,
        ("unsupported_grant_type" | "unauthorized_client", Flow::Jwt) => {
            "the app does not permit it: in its External Client App enable the JWT Bearer Flow and upload the certificate"
        }
        ("invalid_grant", Flow::Jwt) => {
            "username is not a user of this org, is not approved for the app, or the key is not the one of the app's \
             certificate; the user's Login History in Setup says which"
        }
        ("invalid_grant" | "unsupported_grant_type" | "unauthorized_client", Flow::Password) => PASSWORD,
        ("inactive_user" | "inactive_org", _) => INACTIVE,
        ("invalid_app_access", _) => NOT_APPROVED,
        ("app_not_found" | "app_blocked", _) => BLOCKED,
        _ => "check the app's settings and the user's Login History in Setup",
    };
    (Reason::AuthFailed, advice)
}
