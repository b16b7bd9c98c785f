//! Connection tests: who is asked, and what comes of it.

use std::time::Duration;

use control_plane::store::{TestAnswer, TestId, TestStatus};
use hybrid_runner_proto::v1::{self, Reason, session_request, session_response};
use jiff::SignedDuration;

use crate::agent::{Session, Shown, client, hello, reason, west};
use crate::plane::{PIPELINE, Plane};

async fn ask(plane: &Plane, seconds: i64) -> TestId {
    use control_plane::clock::Clock as _;
    let now = plane.clock.now();
    let expires_at = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    plane.handle.store().ask_test(PIPELINE, expires_at, now).await.unwrap()
}

/// The answer, which somebody must give.
async fn answer(plane: &Plane, id: TestId) -> TestAnswer {
    let look = || async { plane.handle.store().test(id).await.unwrap().unwrap().answer };
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let wait = async {
        loop {
            ticks.tick().await;
            if let Some(answer) = look().await {
                return answer;
            }
        }
    };
    crate::plane::soon("the answer", wait).await
}

fn why(answer: TestAnswer) -> String {
    match answer {
        TestAnswer::Failed(why) => why,
        TestAnswer::Steps(steps) => panic!("{steps:?}"),
    }
}

fn able() -> v1::Hello {
    v1::Hello { capabilities: vec!["test_connection".to_owned()], ..hello() }
}

async fn asked(session: &mut Session) -> v1::TestConnection {
    loop {
        match session.hear().await {
            session_response::Message::TestConnection(test) => return test,
            session_response::Message::Definition(_) => {}
            other => panic!("expected TestConnection, got {other:?}"),
        }
    }
}

fn step(name: &str, passed: bool, skipped: bool) -> v1::TestConnectionStep {
    let reason = if passed || skipped { Reason::Unspecified } else { Reason::AuthFailed };
    v1::TestConnectionStep {
        name: name.to_owned(),
        mandatory: true,
        passed,
        message: "found".to_owned(),
        reason: reason.into(),
        remediation: String::new(),
        skipped,
    }
}

fn result(request_id: &str, steps: Vec<v1::TestConnectionStep>) -> session_request::Message {
    let request_id = request_id.to_owned();
    session_request::Message::TestConnectionResult(v1::TestConnectionResult { request_id, steps })
}

#[tokio::test]
async fn a_test_goes_to_an_agent_that_can_and_its_steps_come_back() {
    let plane = Plane::start().await;
    let (mut unable, _) = Session::hello(&mut client(&plane, Shown::Token("another-token")).await).await;
    unable.definition().await;
    let (mut session, _) = Session::hello_with(&mut west(&plane).await, able()).await;
    let id = ask(&plane, 60).await;
    let test = asked(&mut session).await;
    assert_eq!(test.request_id, id.to_string());
    // Times are stored in milliseconds.
    assert!((59..=60).contains(&test.timeout.unwrap().seconds));
    assert!(test.workflow_json.contains("secret:/a"));
    session.say(result("another", vec![step("Wrong", true, false)])).await;
    let steps = vec![step("CheckAccess", false, false), step("ListObjects", false, true), step("Last", true, false)];
    session.say(result(&test.request_id, steps)).await;
    let TestAnswer::Steps(steps) = answer(&plane, id).await else { panic!("no steps") };
    let statuses: Vec<_> = steps.iter().map(|step| step.status).collect();
    assert_eq!(statuses, [TestStatus::Failed, TestStatus::Skipped, TestStatus::Passed]);
    assert_eq!((steps[0].name.as_str(), steps[0].reason.as_deref()), ("CheckAccess", Some("AUTH_FAILED")));
    assert_eq!((&steps[1].reason, &steps[2].reason, &steps[0].remediation), (&None, &None, &None));
    // The agent that cannot heard nothing of it: the next thing is the answer to its heartbeat.
    assert_eq!(unable.beat(1, &[]).await, Vec::<String>::new());
}

#[tokio::test]
async fn without_an_agent_that_can_a_test_is_answered_at_once() {
    let plane = Plane::start().await;
    let (_unable, _) = Session::hello(&mut west(&plane).await).await;
    let id = ask(&plane, 60).await;
    let why = why(answer(&plane, id).await);
    assert!(why.contains("no agent is connected that can test a salesforce connection"), "{why}");
}

#[tokio::test]
async fn a_test_whose_agent_leaves_is_given_up() {
    let plane = Plane::start().await;
    let (mut session, _) = Session::hello_with(&mut west(&plane).await, able()).await;
    let id = ask(&plane, 60).await;
    asked(&mut session).await;
    drop(session);
    let why = why(answer(&plane, id).await);
    assert!(why.contains("agent west was asked and its session ended"), "{why}");
}

#[tokio::test]
async fn a_test_that_is_not_answered_in_time_is_given_up_and_a_late_answer_ignored() {
    let plane = Plane::start().await;
    let (mut session, _) = Session::hello_with(&mut west(&plane).await, able()).await;
    session.definition().await;
    let id = ask(&plane, 60).await;
    asked(&mut session).await;
    plane.clock.advance(Duration::from_secs(62));
    let given_up = answer(&plane, id).await;
    session.say(result(&id.to_string(), vec![step("CheckAccess", true, false)])).await;
    session.beat(1, &[]).await;
    assert_eq!(answer(&plane, id).await, given_up);
    assert!(why(given_up).contains("agent west did not answer in time"));
}

#[tokio::test]
async fn an_answer_with_too_many_steps_ends_the_session() {
    let plane = Plane::start().await;
    let (mut session, _) = Session::hello_with(&mut west(&plane).await, able()).await;
    session.say(result("x", vec![v1::TestConnectionStep::default(); 65])).await;
    assert_eq!(reason(&session.end().await), Reason::LimitExceeded);
}
