//! AC5: what a name server answers.

use std::net::Ipv4Addr;

use hybrid_runner_connector::Reason;
use hybrid_runner_secrets::Network;
use tokio::net::TcpListener;

use crate::attack::{Attack, Kind, LOGINS, Names};

/// Addresses that no host of Salesforce has, and what they are called.
const V4: [(Ipv4Addr, &str); 11] = [
    (Ipv4Addr::new(169, 254, 169, 254), "a cloud's metadata"),
    (Ipv4Addr::new(169, 254, 170, 2), "a cloud's metadata"),
    (Ipv4Addr::new(169, 254, 1, 1), "a link-local"),
    (Ipv4Addr::new(127, 0, 0, 1), "a loopback"),
    (Ipv4Addr::new(127, 1, 2, 3), "a loopback"),
    (Ipv4Addr::new(0, 0, 0, 0), "an unspecified"),
    (Ipv4Addr::new(10, 0, 0, 1), "a private"),
    (Ipv4Addr::new(172, 16, 0, 1), "a private"),
    (Ipv4Addr::new(192, 168, 0, 1), "a private"),
    (Ipv4Addr::new(100, 64, 0, 1), "a shared"),
    (Ipv4Addr::new(224, 0, 0, 1), "a multicast"),
];

const V6: [(&str, &str); 6] = [
    ("fd00:ec2::254", "a cloud's metadata"),
    ("::1", "a loopback"),
    ("::", "an unspecified"),
    ("fe80::1", "a link-local"),
    ("fd12::1", "a private"),
    ("ff02::1", "a multicast"),
];

/// An IPv4 address in the forms that lead to it.
fn forms(address: Ipv4Addr) -> [String; 5] {
    let bits = address.to_bits();
    [
        address.to_string(),
        format!("::ffff:{address}"),
        format!("64:ff9b::{address}"),
        format!("2002:{:x}:{:x}::1", bits >> 16, bits & 0xffff),
        format!("2001:0:4136:e378:8000:63bf:{:x}:{:x}", !bits >> 16, !bits & 0xffff),
    ]
}

/// Listens where a request for `acme.my.salesforce.com` would come to this machine; `None` where that takes a right that
/// this process lacks, or somebody is there.
async fn at_https() -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", 443)).await.ok()
}

async fn assert_nobody_came(listener: Option<TcpListener>) {
    if let Some(listener) = listener {
        let came = tokio::time::timeout(std::time::Duration::from_millis(10), listener.accept()).await;
        assert!(came.is_err(), "somebody came to 127.0.0.1:443");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_below_salesforce_leads_into_the_customers_network() {
    let here = at_https().await;
    let mut attack = Attack::new().await;
    let v4 = V4.into_iter().flat_map(|(address, class)| forms(address).map(|form| (form, class)));
    let v6 = V6.map(|(address, class)| (address.to_owned(), class));
    let mut cases = 0;
    for (address, class) in v4.chain(v6) {
        for kind in LOGINS {
            attack.names = Names::answering(&[&[&address]]);
            let error = attack.error("acme.my", kind).await;
            assert_eq!(error.reason, Reason::PolicyDenied, "{address} {error}");
            let text = format!("acme.my.salesforce.com leads to {class}");
            assert!(error.detail.starts_with(&text), "{address} {error}");
            assert_eq!(*attack.names.asked.lock().unwrap(), ["acme.my.salesforce.com"], "it is not tried again");
            cases += 1;
        }
    }
    assert_nobody_came(here).await;
    println!("hosts: {cases} cases of addresses");
    assert!(cases >= 120, "{cases}");
}

/// The first answer is good (its network is one that the policy names, and nobody is there), the next one is not: each
/// connection goes to an address that was vetted for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_flips_between_two_tries_is_vetted_each_time() {
    let mut cases = 0;
    for bad in ["169.254.169.254", "10.0.0.1", "::1", "::ffff:10.0.0.1", "fd00:ec2::254"] {
        let mut attack = Attack::new().await;
        let networks: Vec<Network> = vec!["127.0.0.9".parse().unwrap()];
        attack.policy = Some(attack.local().policy().with_networks(networks));
        attack.names = Names::answering(&[&["127.0.0.9"], &[bad]]);
        let error = attack.error("acme.my", Kind::Soap).await;
        assert_eq!(error.reason, Reason::PolicyDenied, "{bad} {error}");
        assert_eq!(attack.names.asked.lock().unwrap().len(), 2, "{bad}");
        cases += 1;
    }
    println!("hosts: {cases} cases of answers that flip");
}

#[tokio::test]
async fn no_network_that_a_policy_names_lets_a_request_to_metadata() {
    for bad in ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "fd00:ec2::254"] {
        let mut attack = Attack::new().await;
        let networks = ["169.254.0.0/16", "fd00::/8", "::/0", "0.0.0.0/0"].map(|network| network.parse().unwrap());
        attack.policy = Some(attack.local().policy().with_networks(networks.to_vec()));
        attack.names = Names::answering(&[&[bad]]);
        let error = attack.error("acme.my", Kind::Oauth).await;
        assert!(error.reason == Reason::PolicyDenied && error.detail.contains("a cloud's metadata"), "{bad} {error}");
    }
}
