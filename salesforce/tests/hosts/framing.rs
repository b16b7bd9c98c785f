//! AC22: answers that are no HTTP, or lie about where they end.

use std::time::Duration;

use hybrid_runner_connector::Reason;
use tokio::time::Instant;

use crate::attack::{Attack, LOGINS};
use crate::evil::{Evil, Reply};

/// Longer than any of these takes, and far below the deadline of a call.
const SOON: Duration = Duration::from_secs(10);

/// What is answered, and what it is.
fn answers() -> Vec<(&'static str, String)> {
    let ok = "HTTP/1.1 200 OK\r\n";
    vec![
        ("a header without end", format!("{ok}x: {}", "a".repeat(4 << 20))),
        ("a million headers", format!("{ok}{}\r\n", "x: y\r\n".repeat(1_000_000))),
        ("a flood of 1xx", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(200_000)),
        (
            "switching protocols",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(),
        ),
        ("two lengths", format!("{ok}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}x")),
        ("a negative length", format!("{ok}content-length: -1\r\n\r\n{{}}")),
        ("a length beyond all numbers", format!("{ok}content-length: 99999999999999999999\r\n\r\n{{}}")),
        (
            "length and chunks",
            format!("{ok}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{{}}"),
        ),
        ("a chunk without a size", format!("{ok}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n")),
        (
            "a chunk of a size beyond all numbers",
            format!("{ok}transfer-encoding: chunked\r\n\r\nffffffffffffffffffff\r\n"),
        ),
        ("an unknown transfer encoding", format!("{ok}transfer-encoding: gzip\r\n\r\n{{}}")),
        ("no status", "HTTP/1.1\r\n\r\n".to_owned()),
        ("another version", "HTTP/9.9 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned()),
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n".to_owned()),
        ("a NUL in a header", format!("{ok}x: \0\r\ncontent-length: 2\r\n\r\n{{}}")),
        ("no gzip", format!("{ok}content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{{}}")),
        ("an unknown encoding", format!("{ok}content-encoding: br\r\ncontent-length: 2\r\n\r\n{{}}")),
        ("an empty body", format!("{ok}content-length: 0\r\n\r\n")),
        ("a body without end", format!("{ok}\r\n{}", " ".repeat(3 << 20))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_no_http_ends_the_login_at_once_and_is_not_asked_for_again() {
    let mut cases = 0;
    for kind in LOGINS {
        let mut attack = Attack::new().await;
        for (case, answer) in answers() {
            let front = Evil::before(&attack.authority, &attack.org, move |_| Reply::Raw(answer.clone())).await;
            attack.listed = vec![front.port()];
            let begun = Instant::now();
            let error = attack.error("localhost", kind).await;
            assert!(begun.elapsed() < SOON, "{case}: {:?}", begun.elapsed());
            assert!(matches!(error.reason, Reason::SourceProtocol | Reason::SourceUnreachable), "{case} {error}");
            assert_eq!(front.connections(), 1, "{case}: a password is sent once");
            attack.assert_nothing_went_elsewhere(case);
            cases += 1;
        }
    }
    println!("hosts: {cases} cases of answers that are no HTTP");
    assert!(cases >= 38, "{cases}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_trickles_ends_the_login_at_the_deadline_of_the_call() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let begins = [
        ("a status", "HTTP/1.1 200".to_owned()),
        ("a header", format!("{ok}x:")),
        ("a body of a length", format!("{ok}content-length: 1000000\r\n\r\n{{")),
        ("a body without a length", format!("{ok}\r\n<")),
    ];
    for kind in LOGINS {
        let mut attack = Attack::new().await;
        attack.call_timeout = Duration::from_secs(1);
        for (case, begin) in begins.clone() {
            let front = Evil::before(&attack.authority, &attack.org, move |_| Reply::Trickle(begin.clone())).await;
            attack.listed = vec![front.port()];
            let begun = Instant::now();
            let error = attack.error("localhost", kind).await;
            assert!((attack.call_timeout..SOON).contains(&begun.elapsed()), "{case}: {:?}", begun.elapsed());
            assert_eq!(error.reason, Reason::SourceUnreachable, "{case} {error}");
            assert!(error.to_string().contains("within 1 s"), "{case} {error}");
            assert_eq!(front.connections(), 1, "{case}: a password is sent once");
            attack.assert_nothing_went_elsewhere(case);
        }
    }
}
