//! AC4: redirects of each kind, at each call.

use hybrid_runner_connector::Reason;

use crate::attack::{Attack, Kind, LOGINS, SESSION};
use crate::evil::{Evil, Reply};

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// The calls of a run, by a part of their path, and the login of which they are.
const CALLS: [(&str, Kind); 6] = [
    ("/services/Soap/u/", Kind::Soap),
    ("/services/oauth2/token", Kind::Oauth),
    ("/services/data ", Kind::Soap),
    ("/sobjects ", Kind::Soap),
    ("/composite ", Kind::Oauth),
    ("/tooling/", Kind::Soap),
];

fn redirect(status: u16, location: &str) -> Reply {
    Reply::Raw(format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed_at_any_call() {
    let mut cases = 0;
    for (path, kind) in CALLS {
        for status in STATUSES {
            let mut attack = Attack::new().await;
            let answer = redirect(status, &format!("https://localhost:{}/", attack.foreign.port()));
            let script = move |line: &str| if line.contains(path) { answer.clone() } else { Reply::Relayed };
            let front = Evil::before(&attack.authority, &attack.org, script).await;
            attack.listed = vec![front.port()];
            let case = format!("{status} at {path}");
            match attack.run(&attack.plan("localhost", kind).unwrap()).await {
                Err(error) => {
                    assert_eq!(error.reason, Reason::SourceProtocol, "{case} {error}");
                    assert!(error.detail.contains("redirects"), "{case} {error}");
                }
                // What annotates is best effort; what is read is not.
                Ok(report) => assert!(path == "/tooling/" || !report.complete, "{case}"),
            }
            assert!(front.was_sent(path), "{case}: the call was made");
            attack.assert_nothing_went_elsewhere(&case);
            cases += 1;
        }
    }
    println!("hosts: {cases} cases of redirects at each call");
    assert!(cases >= 30, "{cases}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed_wherever_it_leads() {
    let mut cases = 0;
    for kind in LOGINS {
        for status in STATUSES {
            let mut attack = Attack::new().await;
            let port = attack.foreign.port();
            let places = [
                format!("http://localhost:{port}/"),
                format!("//localhost:{port}/"),
                format!("https://user:password@localhost:{port}/"),
                "http://169.254.169.254/latest/meta-data/".to_owned(),
                "https://acme.my.salesforce.com/".to_owned(),
                "/services/Soap/u/1".to_owned(),
                String::new(),
            ];
            for place in places {
                let answer = redirect(status, &place);
                let front = Evil::before(&attack.authority, &attack.org, move |_| answer.clone()).await;
                attack.listed = vec![front.port()];
                let error = attack.error("localhost", kind).await;
                assert_eq!(error.reason, Reason::SourceProtocol, "{status} {place} {error}");
                assert!(!front.was_sent(SESSION));
                assert_eq!(front.connections(), 1, "{status} {place}: nothing is asked again");
                assert!(attack.names.asked.lock().unwrap().iter().all(|name| name == "localhost"), "{place}");
                attack.assert_nothing_went_elsewhere(&place);
                cases += 1;
            }
        }
    }
    println!("hosts: {cases} cases of places that a redirect names");
    assert!(cases >= 70, "{cases}");
}
