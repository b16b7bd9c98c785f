use super::super::with_token;
use super::*;

fn envelope(body: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="{ENVELOPE}" xmlns="{PARTNER}"><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"#
    )
}

fn granted(result: &str) -> Granted {
    match parse(envelope(&format!("<loginResponse><result>{result}</result></loginResponse>")).as_bytes()) {
        Ok(Parsed::Granted { granted, .. }) => granted,
        Ok(Parsed::Fault(_)) => panic!("a fault"),
        Err(problem) => panic!("{problem}"),
    }
}

fn problem(xml: impl AsRef<[u8]>) -> Malformed {
    parse(xml.as_ref()).err().expect("an error")
}

const URL: &str = "<serverUrl>https://acme.my.salesforce.com/services/Soap/u/64.0/00D</serverUrl>";

/// The texts of the elements of that name, read by the library.
fn texts(xml: &[u8], name: &str) -> String {
    let mut reader = Reader::from_str(str::from_utf8(xml).unwrap());
    let (mut inside, mut found) = (false, String::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => inside = start.local_name().into_inner() == name,
            Event::End(_) => inside = false,
            Event::Text(text) if inside => found.push_str(&text),
            Event::GeneralRef(reference) if inside => found.push_str(&resolve(&reference).unwrap()),
            Event::Eof => return found,
            _ => {}
        }
    }
}

#[test]
fn user_password_and_token_are_escaped_and_password_and_token_joined() {
    let body = request("a&b@example.com", &with_token("p<&>\"'w", Some("t&</password>")), None).unwrap();
    assert_eq!(texts(&body, "username"), "a&b@example.com");
    assert_eq!(texts(&body, "password"), "p<&>\"'wt&</password>");
    assert!(!str::from_utf8(&body).unwrap().contains("t&<"));
}

#[test]
fn a_login_without_a_token_sends_the_bare_password() {
    let body = request("user", "password", None).unwrap();
    assert_eq!(texts(&body, "password"), "password");
}

#[test]
fn an_organization_id_goes_into_the_header_and_only_when_there_is_one() {
    let body = request("user", "password", Some("00DIB000004nDEq")).unwrap();
    assert_eq!(texts(&body, "organizationId"), "00DIB000004nDEq");
    assert_eq!(texts(&body, "password"), "password");
    let (header, login) = (b"<p:LoginScopeHeader ", b"<e:Body>");
    let at = |part: &[u8]| body.windows(part.len()).position(|found| found == part);
    assert!(at(header).unwrap() < at(login).unwrap());
    let without = request("user", "password", None).unwrap();
    assert!(!str::from_utf8(&without).unwrap().contains("Header"));
}

#[test]
fn the_request_has_room_for_the_worst_escaping() {
    let password = "\"".repeat(4096);
    let body = request("&", &with_token(&password, Some("&")), None).unwrap();
    assert!(body.len() < 512 + 6 * (4096 + 2));
    assert_eq!(texts(&body, "password"), format!("{password}&"));
}

#[test]
fn a_session_is_read() {
    let answer = granted(&format!(
        "<passwordExpired>false</passwordExpired>{URL}<sessionId>00D!AQ.abc</sessionId>\
         <userInfo><organizationId>00D1</organizationId><userId>0051</userId><userLanguage>de</userLanguage>\
         <organizationName>Smith &amp; S&#246;hne <![CDATA[<AG>]]></organizationName></userInfo>"
    ));
    assert_eq!(answer.organization_id.as_deref(), Some("00D1"));
    assert_eq!((answer.user_id.as_deref(), answer.language.as_deref()), (Some("0051"), Some("de")));
    assert_eq!(answer.address, "https://acme.my.salesforce.com/services/Soap/u/64.0/00D");
    assert_eq!(answer.token.expose(), "00D!AQ.abc");
    assert_eq!(answer.organization.unwrap(), "Smith & Söhne <AG>");
}

#[test]
fn the_recorded_answer_of_an_org_is_read() {
    let Some(recorded) = crate::auth::recorded::recorded("soap_login_success_v42.json") else { return };
    let xml = recorded["response"]["body"].as_str().unwrap();
    let Ok(Parsed::Granted { granted, password_expired: false }) = parse(xml.as_bytes()) else { panic!("no session") };
    assert!(granted.address.starts_with("https://example-org.my.salesforce.com/services/Soap/u/42.0/"));
    assert!(granted.token.expose().starts_with("00D") && granted.token.expose().contains('!'));
    let told = [granted.organization, granted.organization_id, granted.user_id, granted.language].map(Option::unwrap);
    assert_eq!(told, ["Example Org", "00D0x00000EXAMPLE1", "0050x00000EXAMPLE1", "en_US"]);
}

#[test]
fn an_expired_password_is_seen() {
    let xml = envelope(&format!(
        "<loginResponse><result><passwordExpired>true</passwordExpired>{URL}<sessionId>x</sessionId></result></loginResponse>"
    ));
    assert!(matches!(parse(xml.as_bytes()), Ok(Parsed::Granted { password_expired: true, .. })));
}

#[test]
fn a_fault_is_read_with_its_code() {
    let coded = |body: &str| match parse(envelope(body).as_bytes()) {
        Ok(Parsed::Fault(code)) => code.map(|code| code.as_str().to_owned()),
        _ => panic!("no fault"),
    };
    let full = "<soapenv:Fault><faultcode>sf:INVALID_LOGIN</faultcode><faultstring>INVALID_LOGIN: no</faultstring><detail>\
                <sf:LoginFault xmlns:sf=\"urn:fault.partner.soap.sforce.com\"><sf:exceptionCode>INVALID_LOGIN</sf:exceptionCode>\
                <sf:exceptionMessage>no</sf:exceptionMessage></sf:LoginFault></detail></soapenv:Fault>";
    assert_eq!(coded(full).unwrap(), "INVALID_LOGIN");
    assert_eq!(coded("<Fault><faultcode>sf:ORG_LOCKED</faultcode></Fault>").unwrap(), "ORG_LOCKED");
    assert_eq!(coded("<Fault><faultcode>soapenv:Client</faultcode></Fault>"), None);
    assert_eq!(coded("<Fault></Fault>"), None);
}

#[test]
fn every_known_fault_says_what_to_change_and_which_reason_it_is() {
    let host = crate::host::HostPolicy::default().login_host("acme.my").unwrap();
    let of = |code: &str| fault::refusal(&host, ErrorCode::parse(code).as_ref(), ApiVersion::new(65));
    for (code, reason, advice) in [
        ("INVALID_LOGIN", Reason::AuthFailed, "security token"),
        ("LOGIN_MUST_USE_SECURITY_TOKEN", Reason::AuthFailed, "securityToken"),
        ("PASSWORD_LOCKOUT", Reason::AuthFailed, "unlock"),
        ("ORG_LOCKED", Reason::AuthFailed, "locked"),
        ("INVALID_OPERATION_WITH_EXPIRED_PASSWORD", Reason::AuthFailed, "expired"),
        ("API_DISABLED_FOR_ORG", Reason::SourceDenied, "API access"),
        ("API_CURRENTLY_DISABLED", Reason::SourceDenied, "Use Any API Auth"),
        ("UNSUPPORTED_API_VERSION", Reason::BadDefinition, "no SOAP login at API version 65.0"),
        ("INVALID_OPERATION", Reason::SourceDenied, "SOAP login is off in this org"),
        ("INSUFFICIENT_ACCESS", Reason::SourceDenied, "API Enabled"),
        ("TWO_FACTOR_REQUIRED", Reason::AuthFailed, "JWT bearer"),
        ("RESTRICTED_PROFILE", Reason::AuthFailed, "Login IP Ranges"),
        ("LOGIN_RATE_EXCEEDED", Reason::SourceThrottled, "run later"),
        ("SERVER_UNAVAILABLE", Reason::SourceUnreachable, "status.salesforce.com"),
        ("SOMETHING_NEW", Reason::AuthFailed, "Login History"),
    ] {
        let error = of(code);
        assert_eq!(error.reason, reason, "{code}");
        assert!(error.detail.contains(advice) && error.detail.contains(code), "{}", error.detail);
    }
    assert_eq!(fault::refusal(&host, None, ApiVersion::LAST_SOAP).reason, Reason::SourceProtocol);
}

#[test]
fn a_doctype_is_refused_at_first_sight() {
    let laughs = r#"<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>"#;
    let external = r#"<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>"#;
    for xml in [laughs, external, "<!DOCTYPE x>", "<!doctype x []><x/>"] {
        assert_eq!(problem(xml), Malformed::DocType, "{xml}");
    }
    for html in ["<!DOCTYPE html><html></html>", "<!doctype HTML PUBLIC \"-//W3C//DTD\"><html/>"] {
        assert_eq!(problem(html), Malformed::Html, "{html}");
    }
}

#[test]
fn hostile_xml_is_refused() {
    assert_eq!(problem(b"\xff\xfe<\0x\0"), Malformed::Utf8);
    assert_eq!(problem("<a>".repeat(65)), Malformed::Depth);
    assert!(matches!(problem("<a>".repeat(64)), Malformed::Syntax(_)));
    assert_eq!(problem(envelope("&unknown;")), Malformed::Entity);
    assert_eq!(problem(envelope("&#0;")), Malformed::Entity);
    for cut in ["<", "<a", "<a><b></a>", "</a>", "<a>&", "<a>&amp", "<a", "<![CDATA[", "<!--", "<?xml"] {
        assert!(matches!(problem(cut), Malformed::Syntax(_)), "{cut}");
    }
    for incomplete in ["", " ", "text", "<a/>", &envelope(""), &envelope("<loginResponse/>")] {
        assert_eq!(problem(incomplete), Malformed::Incomplete, "{incomplete}");
    }
    // A session id elsewhere is none.
    assert_eq!(problem(envelope(&format!("{URL}<sessionId>x</sessionId>"))), Malformed::Incomplete);
}

#[test]
fn an_answer_cut_at_any_byte_is_refused() {
    let whole = envelope(&format!("<loginResponse><result>{URL}<sessionId>x</sessionId></result></loginResponse>"));
    for length in 0..whole.len() {
        assert!(parse(&whole.as_bytes()[..length]).is_err(), "cut to {length} bytes");
    }
    assert!(parse(whole.as_bytes()).is_ok());
}
