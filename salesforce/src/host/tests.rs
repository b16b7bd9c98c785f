use proptest::prelude::*;

use super::*;

fn policy() -> HostPolicy {
    let listed = |host: &str, port, ca: Option<&str>| LocalHost {
        host: host.to_owned(),
        port,
        ca: ca.map(|pem| pem.as_bytes().to_vec()),
    };
    HostPolicy::new(vec![
        listed("localhost", 8443, Some("ca of localhost")),
        listed("127.0.0.1", 9443, None),
        listed("Org.Example", 443, None),
        listed("localhost", 8444, None),
    ])
    .unwrap()
}

fn login(domain: &str) -> Result<String, HostError> {
    policy().login_host(domain).map(|host| host.to_string())
}

fn session(address: &str) -> Result<String, HostError> {
    policy().session_host(address).map(|host| host.to_string())
}

/// Domains that must never become a host.
#[rustfmt::skip]
const HOSTILE: &[&str] = &[
    // nothing, or not quite
    "", " ", ".", "..", "...", "-", "--", "login ", " login", "\tlogin", "login\n", "login\r\nHost: evil.example",
    "\0", "login\0",
    // dots where no label is
    ".login", "login.", "acme..my", "..acme.my", "acme.my..", "login.salesforce.com.", "acme.my.",
    // another place after the name
    "evil.example/#", "evil.example/", "evil.example#", "evil.example?", "login/", "login/../x", "login#",
    "login?x=", "login?", "login;x", "login&x", "login\\", "\\\\evil.example\\x", "evil.example\\@login",
    "login/@evil.example",
    // user names and ports
    "a@b", "user:password@evil.example", "@evil.example", "login@", ":", "login:443", "login:8443",
    "evil.example:443", "a:b@c",
    // schemes
    "https://evil.example", "http://evil.example/", "//evil.example", "https:evil.example", "file:///etc/passwd",
    "javascript:x", "https://evil.example/login.salesforce.com", "https://user@acme.my.salesforce.com",
    "https://acme.my.salesforce.com:8443",
    // whole names
    "login.salesforce.com", "acme.my.salesforce.com", "login.salesforce.com.evil.example", "evil.com", "com",
    "com.evil", "a.com.b", "salesforce.com", "www.evil.com", "login.salesforce.com.login", "LOGIN.SALESFORCE.COM",
    // figures
    "169.254.169.254", "127.0.0.2", "10.0.0.1", "0", "1", "2130706433", "017700000001", "1.2.3", "0.0.0.0", "1.1",
    "0.1-2", "[::1]", "::1", "[fd00:ec2::254]", "fd00:ec2::254", "[::ffff:127.0.0.1]", "0x7f000001x!",
    // encodings
    "%6cogin", "login%2f", "login%00", "login%2e", "%", "a%40b", "login+", "a_b", "login*", "*", "$(id)", "`id`",
    "${HOST}", "a,b", "a|b", "a<b", "a'b", "a\"b", "(a)", "a=b", "a~b", "a!b", "{a}",
    // letters that only look like it
    "lоgin", "ｌｏｇｉｎ", "login。evil", "login．evil", "acmé.my", "ß", "İ", "ﬁ", "login\u{200b}", "\u{202e}nigol",
    "login\u{ad}", "ᴌogin",
    // hyphens and punycode
    "-login", "login-", "acme.-my", "acme-.my", "a.-.b", "xn--", "xn--.my", "acme.xn--a",
    // references
    "secret:/a/b", "secret://vault/a#b",
];

#[test]
fn a_hostile_domain_is_refused() {
    assert!(HOSTILE.len() >= 120, "{} strings", HOSTILE.len());
    for domain in HOSTILE {
        let Err(error) = login(domain) else { panic!("{domain:?} becomes a host") };
        assert!(matches!(error, HostError::Domain { .. }), "{domain:?}");
    }
    let label = "a".repeat(64);
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(46)].join(".");
    for domain in [label.clone(), format!("acme.{label}.my"), format!("{long}d"), "a".repeat(1_000_000)] {
        assert!(login(&domain).is_err(), "{} characters", domain.len());
    }
    assert_eq!(login(&long).unwrap().len(), MAX_NAME);
}

#[test]
fn a_refusal_says_what_is_accepted_and_never_repeats_what_was_given() {
    for domain in HOSTILE.iter().filter(|domain| domain.len() > 9) {
        let error = login(domain).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`acme.my`"), "{text}");
        if matches!(error, HostError::Domain { instead: None, .. }) {
            let said_anyway = "before `.salesforce.com`".contains(domain);
            assert!(said_anyway || !text.contains(domain.trim()), "{text}");
        }
    }
}

#[test]
fn a_domain_becomes_a_host_below_salesforce_on_443() {
    for (domain, host) in [
        ("login", "login.salesforce.com"),
        ("test", "test.salesforce.com"),
        ("acme.my", "acme.my.salesforce.com"),
        ("acme--dev.sandbox.my", "acme--dev.sandbox.my.salesforce.com"),
        ("ACME.My", "acme.my.salesforce.com"),
        ("na1", "na1.salesforce.com"),
        ("1st.my", "1st.my.salesforce.com"),
        ("evil.example", "evil.example.salesforce.com"),
        ("org.example.my", "org.example.my.salesforce.com"),
        ("localhost2", "localhost2.salesforce.com"),
    ] {
        assert_eq!(login(domain).unwrap(), host);
        let host = policy().login_host(domain).unwrap();
        assert_eq!((host.port(), host.is_listed()), (443, false));
    }
}

#[test]
fn only_the_exact_name_of_a_listed_host_is_that_host() {
    assert_eq!(login("localhost").unwrap(), "localhost:8443");
    assert_eq!(login("LOCALHOST").unwrap(), "localhost:8443");
    assert_eq!(login("127.0.0.1").unwrap(), "127.0.0.1:9443");
    assert_eq!(login("org.example").unwrap(), "org.example");
    assert!(policy().login_host("org.example").unwrap().is_listed());
    for near in ["localhost.", "localhost:8443", "127.0.0.1.", "127.1", "127.000.000.001", "localhost/"] {
        assert!(login(near).is_err(), "{near}");
    }
    assert_eq!(HostPolicy::default().login_host("localhost").unwrap().to_string(), "localhost.salesforce.com");
}

#[test]
fn a_full_name_or_address_is_answered_with_the_corrected_value() {
    for (given, instead) in [
        ("https://acme.my.salesforce.com", "acme.my"),
        ("https://acme.my.salesforce.com/", "acme.my"),
        ("HTTPS://Acme.my.salesforce.com/services/Soap", "acme.my"),
        ("http://login.salesforce.com", "login"),
        ("acme.my.salesforce.com", "acme.my"),
        ("acme.my.salesforce.com:443", "acme.my"),
        ("test.salesforce.com", "test"),
        (" login ", "login"),
        ("https://acme.lightning.force.com/lightning/page/home", "acme.my"),
    ] {
        let HostError::Domain { instead: found, .. } = login(given).unwrap_err() else { panic!("{given}") };
        assert_eq!(found.as_deref(), Some(instead), "{given}");
        assert!(login(instead).is_ok());
    }
    for none in [
        "https://user:password@acme.my.salesforce.com",
        "evil.com",
        "evil.example/#",
        "https://evil.example",
        "https://169.254.169.254/",
        "a/b@c",
    ] {
        let HostError::Domain { instead, .. } = login(none).unwrap_err() else { panic!("{none}") };
        assert_eq!(instead, None, "{none}");
    }
}

#[test]
fn a_session_goes_below_salesforce_or_to_a_listed_host() {
    for (address, host) in [
        ("https://acme.my.salesforce.com/services/Soap/u/64.0/00D", "acme.my.salesforce.com"),
        ("https://acme.my.salesforce.com:443/", "acme.my.salesforce.com"),
        ("https://ACME.my.Salesforce.com", "acme.my.salesforce.com"),
        ("https://na1-api.salesforce.com/services", "na1.salesforce.com"),
        ("https://acme-api.my.salesforce.com/", "acme-api.my.salesforce.com"),
        ("https://localhost:8443/services/Soap/u/64.0", "localhost:8443"),
        ("https://localhost:8444/", "localhost:8444"),
        ("https://127.0.0.1:9443", "127.0.0.1:9443"),
        ("https://org.example/x", "org.example"),
    ] {
        assert_eq!(session(address).unwrap(), host, "{address}");
    }
}

/// Addresses that must never get a session.
#[rustfmt::skip]
const NOT_FOR_SESSIONS: &[&str] = &[
    "", "acme.my.salesforce.com", "//acme.my.salesforce.com", "http://acme.my.salesforce.com/",
    "ftp://acme.my.salesforce.com", "https://", "https:///x", "https://evil.example",
    "https://evil.example/acme.my.salesforce.com", "https://salesforce.com", "https://evilsalesforce.com",
    "https://acme.my.salesforce.com.evil.example", "https://acme.my.salesforce.com@evil.example",
    "https://evil.example#.salesforce.com", "https://evil.example?.salesforce.com",
    "https://evil.example\\.salesforce.com", "https://user@acme.my.salesforce.com",
    "https://:password@acme.my.salesforce.com", "https://acme.my.salesforce.com:8443",
    "https://acme.my.salesforce.com:80", "https://acme.my.salesforce.com.", "https://.salesforce.com",
    "https://a..salesforce.com", "https://169.254.169.254/", "https://[::1]/", "https://[fd00:ec2::254]/",
    "https://0x7f.1:9444/", "https://2130706433/", "https://localhost", "https://localhost:443",
    "https://localhost:8445", "http://localhost:8443", "https://127.0.0.1", "https://a_b.salesforce.com",
    "https://xn--.salesforce.com", "https://-.salesforce.com", "https://com.salesforce.com",
    "https://1.2.3.4.salesforce.com", "https://%00.salesforce.com", "https://acme.my.salesforce.com%2eevil.example",
    "https://lоgin.salesforce.com.", "file:///etc/passwd", "data:text/plain,x", "https://org.example:444/",
];

#[test]
fn a_session_goes_nowhere_else() {
    for address in NOT_FOR_SESSIONS {
        let Err(error) = session(address) else { panic!("{address:?} becomes a host") };
        assert!(matches!(error, HostError::Session { .. }), "{address:?}");
        assert!(address.len() < 9 || !error.to_string().contains(address), "{error}");
    }
}

#[test]
fn a_listed_host_is_a_plain_name_or_address() {
    let listed = |host: &str, port| HostPolicy::new(vec![LocalHost { host: host.to_owned(), port, ca: None }]);
    for accepted in ["localhost", "Sandbox.Example", "127.0.0.1", "[::1]", "10.1.2.3"] {
        assert!(listed(accepted, 8443).is_ok(), "{accepted}");
    }
    for refused in [
        "",
        " ",
        "a b",
        "https://x",
        "x:443",
        "x/y",
        "a@b",
        "x.",
        "0x7f.1",
        "127.1",
        "::1",
        "%61",
        "ß",
        "[::0:1]",
        "x?y",
        "x#y",
    ] {
        assert!(matches!(listed(refused, 8443), Err(HostError::Listed { index: 0, .. })), "{refused}");
    }
    assert!(listed("localhost", 0).is_err());
}

#[test]
fn certificates_belong_to_their_host_only() {
    let policy = policy();
    let ca = |domain| policy.ca(&policy.login_host(domain).unwrap()).map(<[u8]>::to_vec);
    assert_eq!(ca("localhost").unwrap(), b"ca of localhost");
    assert_eq!(ca("127.0.0.1"), None);
    assert_eq!(ca("login"), None);
    assert_eq!(policy.ca(&policy.session_host("https://localhost:8444").unwrap()), None);
}

#[test]
fn a_path_cannot_move_the_host() {
    let host = policy().login_host("acme.my").unwrap();
    assert_eq!(host.url("/services/data").unwrap().as_str(), "https://acme.my.salesforce.com/services/data");
    for path in ["@evil.example/", ".evil.example/", ":8443/", ":x@evil.example/", "evil.example"] {
        assert_eq!(host.url(path), Err(HostError::Unaddressable), "{path}");
    }
}

proptest! {
    #[test]
    fn whatever_a_definition_says_the_host_is_below_salesforce(domain in any::<String>()) {
        if let Ok(host) = HostPolicy::default().login_host(&domain) {
            prop_assert!(host.name().ends_with(".salesforce.com"));
            prop_assert_eq!(host.port(), 443);
            let url = host.url("/x").unwrap();
            prop_assert_eq!(url.host_str(), Some(host.name()));
        }
    }

    #[test]
    fn whatever_looks_like_a_domain_stays_one(domain in "[a-zA-Z0-9.@:/?#%\\\\-]{0,80}") {
        if let Ok(host) = HostPolicy::default().login_host(&domain) {
            prop_assert_eq!(host.name(), format!("{}.salesforce.com", domain.to_ascii_lowercase()));
        }
    }

    #[test]
    fn whatever_a_login_answers_the_session_stays_below_salesforce(
        prefix in "(https?://)?[a-z@:.]{0,20}",
        middle in "(salesforce\\.com|evil\\.example|[\\\\/@#?:.])*",
        suffix in "[a-z/:0-9.]{0,20}",
    ) {
        if let Ok(host) = HostPolicy::default().session_host(&format!("{prefix}{middle}{suffix}")) {
            prop_assert!(host.name().ends_with(".salesforce.com"));
            prop_assert_eq!(host.port(), 443);
        }
    }
}
