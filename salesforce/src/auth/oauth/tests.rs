use hybrid_runner_connector::Reason;
use serde_json::json;

use super::*;

#[test]
fn parameters_are_encoded() {
    let body = Flow::ClientCredentials.request(&[("client_id", "3MVG9+key"), ("client_secret", "s&c=ret %")]);
    let pairs: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
    let expected = [("grant_type", "client_credentials"), ("client_id", "3MVG9+key"), ("client_secret", "s&c=ret %")];
    assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_request_is_written_without_growing_so_that_no_copy_of_a_secret_is_left() {
    let secret = "%".repeat(1000);
    let body = Flow::Password.request(&[("password", &secret)]);
    assert!(body.len() > 3000 && body.capacity() <= 128 + 2 + 8 + 3 * 1000, "{}", body.capacity());
}

#[test]
fn a_token_is_read_and_what_is_none_is_refused() {
    let answer = br#"{"access_token":"00D!x","instance_url":"https://acme.my.salesforce.com","token_type":"Bearer",
        "id":"https://login.salesforce.com/id/00D0x0000000001EAA/0050x0000000001AAA"}"#;
    let granted = parse(answer).unwrap();
    assert_eq!((granted.token.expose(), granted.address.as_str()), ("00D!x", "https://acme.my.salesforce.com"));
    assert_eq!(granted.organization_id.as_deref(), Some("00D0x0000000001EAA"));
    assert_eq!(granted.user_id.as_deref(), Some("0050x0000000001AAA"));
    for none in
        ["", "[]", "{}", r#"{"access_token":"x"}"#, r#"{"access_token":"","instance_url":"https://x"}"#, "<html>"]
    {
        assert!(parse(none.as_bytes()).is_none(), "{none}");
    }
}

#[test]
fn an_identity_of_another_shape_is_no_identity() {
    for identity in ["", "x", "https://a/id", "https://a/id/00D/005", "https://a/x/00D0x0000000001/0050x0000000001"] {
        assert_eq!(ids(identity), None, "{identity}");
    }
}

fn refused(flow: Flow, code: &str, description: &str) -> SourceError {
    let host = crate::host::HostPolicy::default().login_host("acme.my").unwrap();
    refusal::of(&host, flow, json!({"error": code, "error_description": description}).to_string().as_bytes())
}

#[test]
fn every_known_refusal_says_what_to_change_and_never_repeats_the_answer() {
    use Flow::{ClientCredentials, Jwt, Password};
    for (flow, code, description, advice) in [
        (ClientCredentials, "invalid_client", "invalid client credentials", "consumerKey or consumerSecret is wrong"),
        (ClientCredentials, "invalid_client_id", "client identifier invalid", "consumerKey or consumerSecret is wrong"),
        (ClientCredentials, "invalid_grant", "request not supported on this domain", "My Domain"),
        (ClientCredentials, "invalid_grant", "no client credentials user enabled", "Run As user"),
        (ClientCredentials, "invalid_grant", "", "Run As user"),
        (Jwt, "invalid_grant", "user hasn't approved this consumer", "pre-authorized"),
        (Jwt, "invalid_app_access", "user is not admin approved to access this app", "pre-authorized"),
        (Jwt, "invalid_grant", "audience is invalid", "salesforceDomain is login"),
        (Jwt, "invalid_grant", "invalid assertion", "not the key of the certificate"),
        (Jwt, "invalid_grant", "assertion expired", "clock"),
        (Jwt, "invalid_grant", "expired access/refresh token", "pre-authorized"),
        (Jwt, "invalid_grant", "", "Login History"),
        (Password, "invalid_grant", "authentication failure", "Login History"),
        (Password, "invalid_grant", "authentication failure - Invalid Password", "password or security token is wrong"),
        (Password, "invalid_grant", "expired password", "set a new one"),
        (Password, "invalid_grant", "user is locked", "unlock it"),
        (Password, "invalid_grant", "TWO_FACTOR_REQUIRED", "second factor"),
        (ClientCredentials, "invalid_grant", "ip restricted", "IP relaxation"),
        (Password, "inactive_user", "user is inactive", "not active"),
        (Jwt, "something_new", "who knows", "Login History"),
    ] {
        let error = refused(flow, code, &format!("{description} hunter2"));
        assert_eq!(error.reason, Reason::AuthFailed, "{code} {description}");
        assert!(error.detail.contains(code) && error.detail.contains(advice), "{description}: {}", error.detail);
        assert!(!error.detail.contains("hunter2"), "{}", error.detail);
    }
    assert_eq!(refused(Jwt, "invalid_grant", "login rate exceeded").reason, Reason::SourceThrottled);
    assert_eq!(refused(Jwt, "rate_limit_exceeded", "").reason, Reason::SourceThrottled);
    assert_eq!(refused(Jwt, "server_error", "").reason, Reason::SourceUnreachable);
    assert_eq!(refused(Jwt, "no code at all", "").reason, Reason::SourceProtocol);
}

#[test]
fn the_recorded_refusals_of_orgs_are_understood() {
    let Some(recorded) = crate::auth::recorded::recorded("error_bodies.json") else { return };
    let bodies = recorded["response"]["body"].as_array().unwrap();
    let oauth: Vec<_> = bodies.iter().map(|entry| &entry["body"]).filter(|body| body.is_object()).collect();
    assert_eq!(oauth.len(), 2);
    for body in oauth {
        let description = body["error_description"].as_str().unwrap();
        let error = refused(Flow::Password, body["error"].as_str().unwrap(), description);
        assert_eq!(error.reason, Reason::AuthFailed);
        assert!(error.detail.contains("invalid_grant") && !error.detail.contains(description), "{}", error.detail);
    }
}
