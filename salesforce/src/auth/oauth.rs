//! OAuth client credentials: an External Client App with a "Run As" user, on the org's My Domain.

use hybrid_runner_connector::{Reason, SourceError};
use hybrid_runner_secrets::SecretValue;
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{Granted, MAX_ANSWER, not_an_answer, rejected};
use crate::host::Host;
use crate::http::{Call, CallError, ErrorCode, Http, Retry};

/// The body of a token request. Its memory is zeroed in the end.
pub(super) fn request(consumer_key: &str, consumer_secret: &SecretValue) -> Zeroizing<Vec<u8>> {
    // Room for everything percent-encoded: growing would leave copies behind.
    let room = 128 + 3 * (consumer_key.len() + consumer_secret.expose().len());
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(room));
    form.append_pair("grant_type", "client_credentials");
    form.append_pair("client_id", consumer_key);
    form.append_pair("client_secret", consumer_secret.expose());
    Zeroizing::new(form.finish().into_bytes())
}

/// Sends the request and reads its answer.
pub(super) async fn log_in(http: &Http, body: Zeroizing<Vec<u8>>) -> Result<Granted, SourceError> {
    let call = Call::post_secret("/services/oauth2/token", "application/x-www-form-urlencoded", body)
        .answered_by(&[200, 400, 401])
        .at_most(MAX_ANSWER);
    let answer = http.call(&call, &Retry::LOGIN).await.map_err(CallError::into_source_error)?;
    let json = Zeroizing::new(answer.body);
    if answer.status == 200 {
        parse(&json).ok_or_else(|| not_an_answer(http.host(), "has no access_token and instance_url"))
    } else {
        Err(refusal(http.host(), ErrorCode::of_body(&json)))
    }
}

/// The token of an answer. Why it cannot be read is not said: the parser's words quote what it met.
fn parse(json: &[u8]) -> Option<Granted> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
        instance_url: String,
    }
    let token: Token = serde_json::from_slice(json).ok()?;
    let access_token = SecretValue::new(token.access_token);
    (!access_token.expose().is_empty() && !token.instance_url.is_empty()).then(|| Granted {
        address: token.instance_url,
        token: access_token,
        organization: None,
    })
}

fn refusal(host: &Host, code: Option<ErrorCode>) -> SourceError {
    let Some(code) = code else { return not_an_answer(host, "is an error without a code") };
    let (reason, advice) = match code.as_str() {
        "invalid_client_id" | "invalid_client" | "invalid_client_credentials" => (
            Reason::AuthFailed,
            "consumerKey or consumerSecret is wrong, or the app is not in this org; check them, and that salesforceDomain \
             is the My Domain of the app's org",
        ),
        "invalid_grant" | "unsupported_grant_type" | "unauthorized_client" => (
            Reason::AuthFailed,
            "the app does not permit it: in its External Client App enable the Client Credentials Flow, choose an active \
             Run As user, and use the org's My Domain as salesforceDomain",
        ),
        "inactive_user" | "inactive_org" => (Reason::AuthFailed, "the app's Run As user or the org is not active"),
        "invalid_app_access" | "app_not_found" => {
            (Reason::AuthFailed, "the app is blocked or not installed for the Run As user")
        }
        "rate_limit_exceeded" => (Reason::SourceThrottled, "too many logins in a short time: run later"),
        "server_error" | "temporarily_unavailable" => {
            (Reason::SourceUnreachable, "Salesforce is not available: check status.salesforce.com")
        }
        _ => (Reason::AuthFailed, "check the app's settings and the Run As user's Login History in Setup"),
    };
    rejected(host, &code, reason, advice)
}

/// The door of a fuzz target.
#[cfg(fuzzing)]
pub(crate) fn fuzz(json: &[u8]) {
    drop(parse(json));
    drop(ErrorCode::of_body(json));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_secret_are_encoded() {
        let body = request("3MVG9+key", &SecretValue::new("s&c=ret %".to_owned()));
        let pairs: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
        let expected =
            [("grant_type", "client_credentials"), ("client_id", "3MVG9+key"), ("client_secret", "s&c=ret %")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_token_is_read_and_what_is_none_is_refused() {
        let answer = br#"{"access_token":"00D!x","instance_url":"https://acme.my.salesforce.com","id":"x","token_type":"Bearer"}"#;
        let granted = parse(answer).unwrap();
        assert_eq!((granted.token.expose(), granted.address.as_str()), ("00D!x", "https://acme.my.salesforce.com"));
        for none in
            ["", "[]", "{}", r#"{"access_token":"x"}"#, r#"{"access_token":"","instance_url":"https://x"}"#, "<html>"]
        {
            assert!(parse(none.as_bytes()).is_none(), "{none}");
        }
    }

    #[test]
    fn every_known_refusal_says_what_to_change() {
        let host = crate::host::HostPolicy::default().login_host("acme.my").unwrap();
        for (code, reason) in [
            ("invalid_client", Reason::AuthFailed),
            ("invalid_client_id", Reason::AuthFailed),
            ("invalid_grant", Reason::AuthFailed),
            ("rate_limit_exceeded", Reason::SourceThrottled),
            ("something_new", Reason::AuthFailed),
        ] {
            let error = refusal(&host, ErrorCode::parse(code));
            assert_eq!(error.reason, reason, "{code}");
            assert!(error.detail.contains(code), "{}", error.detail);
        }
        assert_eq!(refusal(&host, None).reason, Reason::SourceProtocol);
    }
}
