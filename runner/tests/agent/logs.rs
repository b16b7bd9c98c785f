//! The log of a run on its way to the control plane.

use hybrid_runner_connector::Reason;
use hybrid_runner_proto::v1;
use tonic::Status;

use crate::control_plane::{Said, SessionSide};
use crate::ready_at;
use crate::source::{Fake, entity};

const LISTED: [&str; 3] = ["zstd", "memos", "logs"];

/// The next lines, whatever else comes before.
async fn lines(session: &mut SessionSide) -> v1::LogLines {
    loop {
        if let Said::LogLines(lines) = session.next().await {
            return lines;
        }
    }
}

fn messages(lines: &[String]) -> Vec<String> {
    let message = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["message"].as_str().unwrap().to_owned()
    };
    lines.iter().map(message).collect()
}

#[tokio::test]
async fn what_a_lost_session_may_have_lost_is_sent_again() {
    let (source, steps) = Fake::stepped(vec![entity("a", 10)]);
    let (mut server, _agent, mut session) = ready_at(source, &LISTED, 5_000, 60_000).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 1 << 20, Vec::new()).await;
    let lost = lines(&mut session).await;
    assert_eq!((lost.first_line, messages(&lost.lines)), (0, vec!["run started".to_owned()]));
    assert_eq!(lost.token.unwrap().run_id, "r");
    // No heartbeat was answered after it.
    session.refuse(Status::unavailable("restarting")).await;
    let mut session = server.session().await;
    session.welcome_with(&LISTED, 100, 60_000).await;
    let again = lines(&mut session).await;
    assert_eq!((again.first_line, &again.lines[0]), (0, &lost.lines[0]));
    let mut next = again.first_line + again.lines.len() as u64;
    steps.add_permits(1);
    push.take_all(0).await;
    // Heartbeats were answered meanwhile: nothing comes twice, and nothing is left out.
    loop {
        let more = lines(&mut session).await;
        assert_eq!(more.first_line, next);
        next += more.lines.len() as u64;
        if messages(&more.lines).contains(&"run committed".to_owned()) {
            break;
        }
    }
}

#[tokio::test]
async fn the_last_lines_of_a_run_leave_before_its_release() {
    let source = Fake { fails: Some(Reason::AuthFailed), ..Fake::new(Vec::new()) };
    let (mut server, _agent, mut session) = ready_at(source, &LISTED, 5_000, 60_000).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 1 << 20, Vec::new()).await;
    let mut seen = Vec::new();
    loop {
        match session.next().await {
            Said::LogLines(lines) => seen.extend(messages(&lines.lines)),
            Said::Release(_) => break,
            _ => {}
        }
    }
    assert_eq!((seen.first().unwrap().as_str(), seen.last().unwrap().as_str()), ("run started", "run failed"));
}

#[tokio::test]
async fn a_control_plane_that_does_not_list_logs_is_sent_none() {
    let source = Fake { fails: Some(Reason::AuthFailed), ..Fake::new(Vec::new()) };
    let (mut server, _agent, mut session) = ready_at(source, &["zstd", "memos"], 5_000, 60_000).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 1 << 20, Vec::new()).await;
    loop {
        match session.next().await {
            Said::LogLines(lines) => panic!("{lines:?}"),
            Said::Release(_) => break,
            _ => {}
        }
    }
}
