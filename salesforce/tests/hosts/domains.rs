//! AC2: what a definition writes as `salesforceDomain`.

use hybrid_runner_connector::{Reason, Source as _};

use crate::attack::{Attack, LOGINS};

/// Where an attacker wants the request, as a host or an address in each of its forms.
fn targets(port: u16) -> Vec<String> {
    let mut targets = vec![format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    targets.extend(
        [
            "evil.example",
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "[::ffff:127.0.0.1]",
            "169.254.169.254",
        ]
        .map(str::to_owned),
    );
    targets
}

/// Ways to write a target into a domain.
const FORMS: [&str; 25] = [
    "@",
    "@/",
    "@/#",
    "@#",
    "@?",
    "@?x=",
    "@\\",
    "@/.login",
    "@%2f",
    "@%23",
    "@;",
    "@\t",
    "@\r\nHost: login",
    "@。",
    "@\u{0}",
    "login@@",
    "login:x@@",
    "https://@",
    "https://login@@/",
    "//@/login",
    "\\\\@\\login",
    "@/login.salesforce.com",
    "login.salesforce.com.@",
    "login/../@",
    "@.",
];

/// Others that need no target.
const PLAIN: [&str; 12] = [
    "",
    ".",
    "..",
    "login.",
    ".login",
    "lo gin",
    "lоgin",
    "ｌｏｇｉｎ",
    "xn--lgin-tqa/",
    "acme.my.salesforce.com",
    "login.salesforce.com",
    "-login",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_domain_leads_away_from_salesforce() {
    let mut attack = Attack::new().await;
    // A listed host is no way round: it is meant by its exact name only.
    attack.listed = vec![attack.org.addr().port()];
    let too_long = "a.".repeat(200) + "my";
    let forms = |target: String| FORMS.map(|form| form.replacen('@', &target, 1 + form.matches("@@").count()));
    let mut domains: Vec<String> = targets(attack.foreign.port()).into_iter().flat_map(forms).collect();
    domains.extend(PLAIN.map(str::to_owned));
    domains.push(too_long);
    let (mut refused, mut contained) = (0, 0);
    for domain in &domains {
        for kind in LOGINS {
            match attack.plan(domain, kind) {
                Err(error) => {
                    assert_eq!(error.reason, Reason::BadDefinition, "{domain:?}");
                    assert!(error.field.ends_with("salesforceDomain"), "{domain:?} {error}");
                    refused += 1;
                }
                // A name that nobody has, below salesforce.com; here it leads to this machine.
                Ok(source) => {
                    for secret in source.secrets() {
                        assert!(secret.purpose.host.ends_with(".salesforce.com"), "{domain:?} {secret:?}");
                        assert_eq!(secret.purpose.port, 443);
                    }
                    let error = attack.run(&source).await.err().unwrap();
                    assert_eq!(error.reason, Reason::PolicyDenied, "{domain:?} {error}");
                    contained += 1;
                }
            }
        }
    }
    attack.assert_nothing_went_elsewhere("domains");
    assert_eq!(attack.org.requests().total, 0);
    assert!(attack.names.asked.lock().unwrap().iter().all(|name| name.ends_with(".salesforce.com")));
    let cases = refused + contained;
    println!("hosts: {cases} cases of salesforceDomain, {refused} refused, {contained} kept below salesforce.com");
    assert!(domains.len() >= 250 && refused >= 400, "{} {refused} {contained}", domains.len());
}
