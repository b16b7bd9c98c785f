//! AC1 and AC3: what a login's answer names as the org's address, and what the local policy says to it.

use hybrid_runner_connector::Reason;
use hybrid_runner_secrets::{Binding, HostPattern, Policy, ReferencePattern, Use};

use crate::attack::{Attack, Kind, LOGINS, SESSION};
use crate::evil::{Evil, Reply};

/// Addresses that lead to the foreign server, or would.
fn addresses(port: u16) -> Vec<String> {
    let here = format!("localhost:{port}");
    let mut addresses: Vec<String> = [
        "https://HERE",
        "https://HERE/services/Soap/u/64.0/00D",
        "http://HERE",
        "HERE",
        "//HERE",
        "ftp://HERE",
        "wss://HERE",
        "https://user@HERE",
        "https://user:password@HERE",
        "https://login.salesforce.com@HERE",
        "https://login.salesforce.com:443@HERE",
        "https://HERE#.salesforce.com",
        "https://HERE?.salesforce.com",
        "https://HERE/.salesforce.com",
        "https://HERE\\.salesforce.com",
        "https:\\\\HERE",
        "https:/HERE",
        "https:HERE",
        "https://HERE%23.salesforce.com",
        " https://HERE",
        "https://\tHERE",
        "https://HERE\n",
    ]
    .map(|form| form.replace("HERE", &here))
    .to_vec();
    addresses.extend([
        format!("https://127.0.0.1:{port}"),
        format!("https://[::1]:{port}"),
        format!("https://0x7f.1:{port}"),
    ]);
    addresses.extend(
        [
            "https://na1.salesforce.com.evil.example",
            "https://evilsalesforce.com",
            "https://salesforce.com",
            "https://na1.salesforce.com:8443",
            "https://na1.salesforce.com:80",
            "https://na1.salesforce.com.",
            "https://.salesforce.com",
            "https://na1..salesforce.com",
            "https://169.254.169.254",
            "https://[fd00:ec2::254]",
            "https://127.0.0.1.salesforce.com",
            "https://evil.com.salesforce.com",
            "https://na1.ſalesforce.com.evil.example",
            "https://na1.salesforce.com%2eevil.example",
            "",
            "x",
            "null",
            "https://",
        ]
        .map(str::to_owned),
    );
    addresses
}

/// The answer to a login that names an address.
fn granted(kind: Kind, address: &str) -> Reply {
    let body = match kind {
        Kind::Soap => {
            let escaped = address.replace('&', "&amp;").replace('<', "&lt;");
            format!(
                "<?xml version=\"1.0\"?><e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\" \
                 xmlns=\"urn:partner.soap.sforce.com\"><e:Body><loginResponse><result><passwordExpired>false\
                 </passwordExpired><serverUrl>{escaped}</serverUrl><sessionId>00D{SESSION}x</sessionId></result>\
                 </loginResponse></e:Body></e:Envelope>"
            )
        }
        Kind::Oauth => {
            serde_json::json!({"access_token": format!("00D{SESSION}x"), "instance_url": address}).to_string()
        }
    };
    Reply::Raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_of_a_login_moves_the_session_elsewhere() {
    let mut cases = 0;
    for kind in LOGINS {
        let mut attack = Attack::new().await;
        for address in addresses(attack.foreign.port()) {
            let (answer, org) = (granted(kind, &address), &attack.org);
            let login = Evil::before(&attack.authority, org, move |_| answer.clone()).await;
            attack.listed = vec![login.port()];
            let error = attack.error("localhost", kind).await;
            assert!(matches!(error.reason, Reason::SourceProtocol | Reason::PolicyDenied), "{address:?} {error}");
            assert_eq!(login.connections(), 1, "{address:?}");
            assert!(!login.was_sent(SESSION), "{address:?}");
            attack.assert_nothing_went_elsewhere(&address);
            cases += 1;
        }
    }
    println!("hosts: {cases} cases of serverUrl and instance_url");
    assert!(cases >= 80, "{cases}");
}

/// A host below salesforce.com is one that a session may go to; where it leads is vetted all the same.
#[tokio::test]
async fn an_answer_that_names_salesforce_is_still_vetted_at_the_name_server() {
    for kind in LOGINS {
        let mut attack = Attack::new().await;
        let answer = granted(kind, "https://acme.my.salesforce.com");
        let login = Evil::before(&attack.authority, &attack.org, move |_| answer.clone()).await;
        attack.listed = vec![login.port()];
        let error = attack.error("localhost", kind).await;
        assert_eq!(error.reason, Reason::PolicyDenied, "{error}");
        assert!(error.detail.contains("acme.my.salesforce.com leads to a loopback address"), "{error}");
    }
}

/// A host that is listed, and so could be spoken to, is still none that the binding of the password permits.
#[tokio::test]
async fn a_session_goes_only_to_hosts_of_the_binding_of_what_it_was_got_for() {
    let mut cases = 0;
    for kind in LOGINS {
        for is_permitted in [false, true] {
            let mut attack = Attack::new().await;
            let (other, org) = (attack.foreign.port(), &attack.org);
            let answer = granted(kind, &format!("https://localhost:{other}"));
            let login = Evil::before(&attack.authority, org, move |_| answer.clone()).await;
            attack.listed = vec![login.port(), other];
            let here = HostPattern::exactly("localhost", login.port());
            let there = HostPattern::exactly("localhost", other);
            let binding = |name: &str, hosts| Binding::new(name, vec![ReferencePattern::all()], hosts);
            let mut bindings = vec![binding("policy.bindings[0]", vec![here])];
            if is_permitted {
                bindings.push(binding("policy.bindings[1]", vec![there]).for_uses(vec![Use::Session, Use::Tls]));
            }
            attack.policy = Some(Policy::new(bindings));
            let error = attack.error("localhost", kind).await;
            let own = attack.org.credentials();
            if is_permitted {
                assert_eq!(error.reason, Reason::SourceUnreachable, "it answers nothing: {error}");
                assert!(attack.foreign.was_sent(SESSION));
            } else {
                assert_eq!(error.reason, Reason::PolicyDenied, "{error}");
                assert!(error.detail.contains(&format!("localhost:{other}")), "{error}");
                attack.assert_nothing_went_elsewhere("a listed host");
            }
            for secret in [own.password, own.security_token, own.consumer_secret] {
                assert!(!attack.foreign.was_sent(&secret));
            }
            cases += 1;
        }
    }
    println!("hosts: {cases} cases of bindings");
}
