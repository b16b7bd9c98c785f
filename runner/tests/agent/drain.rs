//! An agent that is asked to leave.

use std::time::Duration;

use hybrid_runner::{AgentEvent, RunEnd};
use hybrid_runner_proto::v1;

use crate::control_plane::{Reply, Server, SessionSide, grant, within};
use crate::run::{NOTHING, WINDOW};
use crate::source::{Fake, entity};
use crate::{AgentConfig, Running, bearer, config, ready, start_with};

fn released() -> Reply {
    Reply::Released(v1::Released { run_id: "r".to_owned() })
}

async fn leaving(source: Fake, drain_timeout: Duration) -> (Server, Running, SessionSide) {
    let mut server = Server::start().await;
    let config = AgentConfig { drain_timeout, ..config(server.address(bearer("t"))) };
    let agent = start_with(config, source);
    let mut session = server.session().await;
    session.welcome_with(&["drain"], 5_000, 60_000).await;
    assert_eq!(session.slots().await, 2);
    session.define("p").await;
    (server, agent, session)
}

#[tokio::test]
async fn a_leaving_agent_says_so_takes_nothing_new_and_lets_its_run_end() {
    let (source, steps) = Fake::stepped(vec![entity("a", 100), entity("b", 100)]);
    let (mut server, mut agent, mut session) = leaving(source, Duration::from_secs(3600)).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    steps.add_permits(1);
    push.batch().await;
    agent.stop.cancel();
    let draining = session.draining().await;
    let within_s = draining.deadline.unwrap().seconds;
    assert!((3590..=3602).contains(&within_s), "{within_s}");
    assert_eq!(session.slots().await, 0);
    session.reply(Reply::Grant(grant("another", "p"))).await;
    let declined = session.release().await;
    assert_eq!((declined.outcome(), declined.reason()), (v1::Outcome::HandedBack, v1::Reason::Draining));
    session.reply(Reply::Released(v1::Released { run_id: "another".to_owned() })).await;
    push.ack(1).await;
    steps.add_permits(1);
    push.take_all(1).await;
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
    within(agent.task.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_is_left_when_the_time_is_over_is_handed_back_and_the_agent_leaves_once_that_was_noted() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 100)]);
    let (mut server, mut agent, mut session) = leaving(source, Duration::from_millis(300)).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    agent.stop.cancel();
    session.draining().await;
    let release = session.release().await;
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::Draining));
    session.reply(released()).await;
    within(agent.task.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn an_agent_that_leaves_while_it_has_no_run_is_gone_at_once() {
    let (_server, mut agent, _session) = leaving(Fake::new(Vec::new()), Duration::from_secs(3600)).await;
    agent.stop.cancel();
    within(agent.task.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_control_plane_that_does_not_list_drain_is_not_told_and_gets_the_run_back() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 100)]);
    let (mut server, mut agent, mut session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, NOTHING, WINDOW, Vec::new()).await;
    agent.stop.cancel();
    loop {
        match session.next().await {
            v1::session_request::Message::Draining(draining) => panic!("{draining:?}"),
            v1::session_request::Message::Release(release) => {
                assert_eq!(release.reason(), v1::Reason::Draining);
                break;
            }
            _ => {}
        }
    }
    session.reply(released()).await;
    within(agent.task.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_leaving_agent_says_so_again_in_the_next_session() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 100)]);
    let (mut server, mut agent, mut session) = leaving(source, Duration::from_secs(3600)).await;
    session.grant("r", "p").await;
    agent.event(|event| matches!(event, AgentEvent::Granted { .. }).then_some(())).await;
    agent.stop.cancel();
    session.draining().await;
    session.refuse(tonic::Status::unavailable("restarting")).await;
    let mut session = server.session().await;
    let hello = session.welcome_with(&["drain"], 5_000, 60_000).await;
    assert_eq!(hello.held.len(), 1, "it goes on");
    session.draining().await;
}
