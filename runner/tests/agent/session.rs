use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hybrid_runner::{Agent, AgentEvent, Identity, RunEnd};
use hybrid_runner_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::control_plane::{Authority, Reply, Said, Server, WORKFLOW, grant, pem, token};
use crate::source::{Fake, entity};
use crate::{bearer, config, launch, ready, ready_with, start};

#[tokio::test]
async fn the_agent_introduces_itself_with_what_it_can_do_and_no_more() {
    let mut server = Server::start().await;
    let _agent = start(&server, Fake::new(Vec::new()));
    let mut session = server.session().await;
    assert_eq!(session.authorization.as_deref(), Some("Bearer a-token"));
    let hello = session.hello().await;
    assert_eq!((hello.protocol_min, hello.protocol_max), (1, 1));
    assert_eq!(
        hello.capabilities,
        ["zstd", "memos", "test_connection", "secret_preflight", "resume", "drain", "logs", "traceparent"]
    );
    assert_eq!(hello.sources, ["salesforce"]);
    assert_eq!(hello.instance_id.len(), 16);
    assert!(hello.held.is_empty());
    assert!(hello.agent_version.starts_with("hybrid-runner/"));
}

#[tokio::test]
async fn a_definition_with_a_literal_password_is_rejected_with_its_field_and_without_the_password() {
    let mut server = Server::start().await;
    let _agent = launch(Agent::new(config(server.address(bearer("t")))));
    let mut session = server.session().await;
    session.welcome(5_000, 60_000).await;
    session.slots().await;
    let workflow_json = r#"{"source": {"type": "salesforce", "serviceName": "sf",
        "serviceConnection": {"config": {"type": "Salesforce", "username": "a", "password": "hunter2"}},
        "sourceConfig": {"config": {"type": "DatabaseMetadata"}}}}"#;
    let mut definition = v1::Definition {
        pipeline: "p".to_owned(),
        version: 3,
        workflow_json: workflow_json.to_owned(),
        last_run: None,
    };
    session.reply(Reply::Definition(definition.clone())).await;
    let status = session.status().await;
    assert_eq!((status.pipeline.as_str(), status.version, status.accepted), ("p", 3, false));
    assert_eq!(status.reason(), v1::Reason::LiteralSecret);
    assert!(status.detail.starts_with("source.serviceConnection.config.password: "), "{}", status.detail);
    assert!(!status.detail.contains("hunter2"));
    definition.workflow_json = r#"{"source": {}}"#.to_owned();
    session.reply(Reply::Definition(definition.clone())).await;
    assert_eq!(session.status().await.reason(), v1::Reason::BadDefinition);
    definition.workflow_json = "{".to_owned();
    session.reply(Reply::Definition(definition)).await;
    assert_eq!(session.status().await.reason(), v1::Reason::BadDefinition);
}

#[tokio::test]
async fn a_message_of_an_unlisted_capability_ends_the_session_and_is_named() {
    let (mut server, mut agent, session) = ready(Fake::new(Vec::new())).await;
    session.reply(Reply::DefinitionsSent(v1::DefinitionsSent {})).await;
    let problem = agent.problem().await;
    assert!(problem.contains("DefinitionsSent of capability `diagnostic`"), "{problem}");
    server.session().await.hello().await;
}

#[tokio::test]
async fn a_connection_is_tested_with_the_definition_that_came_and_each_step_is_answered() {
    let fake = Fake { fails: Some(hybrid_runner_connector::Reason::AuthFailed), ..Fake::new(Vec::new()) };
    let (_server, _agent, mut session) = ready(fake).await;
    session.test("t", WORKFLOW, 60_000).await;
    let result = session.tested().await;
    assert_eq!(result.request_id, "t");
    let [first, second] = &result.steps[..] else { panic!("{result:?}") };
    assert_eq!(
        (first.name.as_str(), first.passed, first.skipped, first.mandatory),
        ("CheckAccess", false, false, true)
    );
    assert_eq!((first.reason(), first.message.as_str()), (v1::Reason::AuthFailed, "looked"));
    assert_eq!(first.remediation, "change it");
    assert_eq!((second.passed, second.skipped, second.reason()), (false, true, v1::Reason::Unspecified));
}

#[tokio::test]
async fn a_definition_that_is_refused_is_one_failed_step_with_its_field() {
    let mut server = Server::start().await;
    let _agent = launch(Agent::new(config(server.address(bearer("t")))));
    let mut session = server.session().await;
    session.welcome(5_000, 60_000).await;
    let literal = r#"{"source": {"type": "salesforce", "serviceName": "sf",
        "serviceConnection": {"config": {"type": "Salesforce", "username": "a", "password": "hunter2"}},
        "sourceConfig": {"config": {"type": "DatabaseMetadata"}}}}"#;
    session.test("t", literal, 60_000).await;
    let result = session.tested().await;
    let [step] = &result.steps[..] else { panic!("{result:?}") };
    assert_eq!((step.name.as_str(), step.reason()), ("Definition", v1::Reason::LiteralSecret));
    assert!(step.message.contains("config.password") && !step.message.contains("hunter2"), "{}", step.message);
    assert!(step.mandatory && !step.passed && !step.remediation.is_empty());
}

#[tokio::test]
async fn an_agent_tests_two_connections_at_once_and_answers_a_third_that_it_is_busy() {
    let (fake, steps) = Fake::stepped(Vec::new());
    let (_server, _agent, mut session) = ready(fake).await;
    for id in ["a", "b", "c"] {
        session.test(id, WORKFLOW, 60_000).await;
    }
    let busy = session.tested().await;
    assert_eq!((busy.request_id.as_str(), busy.steps[0].reason()), ("c", v1::Reason::Busy));
    steps.add_permits(2);
    let mut answered = [session.tested().await.request_id, session.tested().await.request_id];
    answered.sort();
    assert_eq!(answered, ["a", "b"]);
    session.test("d", WORKFLOW, 60_000).await;
    steps.add_permits(1);
    assert!(session.tested().await.steps[0].passed);
}

#[tokio::test]
async fn a_test_ends_when_its_time_is_over_and_one_whose_task_fails_is_answered() {
    let (fake, _steps) = Fake::stepped(Vec::new());
    let (_server, _agent, mut session) = ready(fake).await;
    session.test("t", WORKFLOW, 20).await;
    let late = session.tested().await;
    assert_eq!((late.steps[0].name.as_str(), late.steps[0].reason()), ("Agent", v1::Reason::SourceUnreachable));
    let (_server, _agent, mut session) = ready(Fake { panics: true, ..Fake::new(Vec::new()) }).await;
    session.test("t", WORKFLOW, 60_000).await;
    assert_eq!(session.tested().await.steps[0].reason(), v1::Reason::Internal);
}

#[tokio::test]
async fn the_answer_to_a_test_of_an_earlier_session_is_not_sent_in_the_next() {
    let (fake, steps) = Fake::stepped(Vec::new());
    let (mut server, _agent, mut session) = ready(fake).await;
    session.test("old", WORKFLOW, 60_000).await;
    // The answer to an unusable one shows that the agent has begun the first.
    session.test("seen", "{", 60_000).await;
    assert_eq!(session.tested().await.request_id, "seen");
    session.refuse(Status::unavailable("restarting")).await;
    let mut session = server.session().await;
    session.welcome(5_000, 60_000).await;
    steps.add_permits(2);
    session.test("new", WORKFLOW, 60_000).await;
    assert_eq!(session.tested().await.request_id, "new");
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_session() {
    let (_server, mut agent, session) = ready(Fake::new(Vec::new())).await;
    session
        .reply(Reply::Definition(v1::Definition {
            pipeline: "p".to_owned(),
            version: 2,
            workflow_json: " ".repeat(300 * 1024),
            last_run: None,
        }))
        .await;
    let problem = agent.problem().await;
    assert!(problem.contains("more than 256 KiB"), "{problem}");
}

#[tokio::test]
async fn a_lease_survives_its_session_and_is_listed_in_the_next_hello() {
    let (source, steps) = Fake::stepped(vec![entity("a", 100), entity("b", 100)]);
    let (mut server, mut agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 8 << 20, Vec::new()).await;
    steps.add_permits(1);
    push.batch().await;
    session.refuse(Status::unavailable("restarting")).await;
    let mut session = server.session().await;
    let hello = session.welcome(5_000, 60_000).await;
    assert_eq!(hello.held, [v1::HeldLease { token: Some(token("r")), pipeline: "p".to_owned() }]);
    push.ack(1).await;
    steps.add_permits(1);
    let (_, eof) = push.take_all(1).await;
    assert_eq!(eof.count, 2);
    assert!(matches!(agent.run_end().await, RunEnd::Committed(_)));
}

#[tokio::test]
async fn a_lease_that_the_next_welcome_does_not_name_is_lost() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 100)]);
    let (mut server, mut agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 8 << 20, Vec::new()).await;
    session.refuse(Status::unavailable("restarting")).await;
    let mut session = server.session().await;
    session.hello().await;
    session
        .reply(Reply::Welcome(v1::Welcome {
            protocol: 1,
            heartbeat_interval: crate::control_plane::milliseconds(5_000),
            lease_ttl: crate::control_plane::milliseconds(60_000),
            ..v1::Welcome::default()
        }))
        .await;
    assert!(matches!(agent.run_end().await, RunEnd::LeaseLost { reason: "LEASE_EXPIRED" }));
    assert!(push.next().await.is_none(), "nothing more is written");
}

#[tokio::test]
async fn a_revoked_lease_stops_the_run_before_its_next_batch() {
    let (source, steps) = Fake::stepped(vec![entity("a", 100), entity("b", 100)]);
    let (mut server, mut agent, session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 8 << 20, Vec::new()).await;
    steps.add_permits(1);
    push.batch().await;
    let reason = v1::Reason::LeaseRevoked.into();
    session.reply(Reply::Revoke(v1::Revoke { run_id: "r".to_owned(), reason })).await;
    assert!(matches!(agent.run_end().await, RunEnd::LeaseLost { reason: "LEASE_REVOKED" }));
    steps.add_permits(1);
    assert!(push.next().await.is_none());
}

#[tokio::test]
async fn a_heartbeat_answer_that_leaves_a_lease_out_stops_its_run() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 100)]);
    let (mut server, mut agent, session) = ready_with(source, 100, 60_000).await;
    session.renews.store(false, Relaxed);
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 8 << 20, Vec::new()).await;
    assert!(matches!(agent.run_end().await, RunEnd::LeaseLost { reason: "LEASE_EXPIRED" }));
    assert!(push.next().await.is_none());
}

#[tokio::test]
async fn an_agent_whose_heartbeats_are_not_answered_stops_the_run_by_itself() {
    let (source, steps) = Fake::stepped(vec![entity("a", 100)]);
    let (mut server, mut agent, session) = ready_with(source, 200, 1_000).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 8 << 20, Vec::new()).await;
    session.answers.store(false, Relaxed);
    assert!(matches!(agent.run_end().await, RunEnd::LeaseLost { reason: "LEASE_EXPIRED" }));
    steps.add_permits(1);
    assert!(push.next().await.is_none(), "the lease was over before the next batch");
}

#[tokio::test]
async fn a_pipeline_runs_once_at_a_time_and_runs_have_as_many_slots_as_were_offered() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 100)]);
    let (_server, _agent, mut session) = ready(source).await;
    session.define("q").await;
    session.define("s").await;
    session.grant("1", "p").await;
    session.grant("2", "p").await;
    let release = session.release().await;
    assert_eq!(release.token.as_ref().unwrap().run_id, "2");
    assert_eq!((release.outcome(), release.reason()), (v1::Outcome::HandedBack, v1::Reason::Busy));
    session.reply(Reply::Released(v1::Released { run_id: "2".to_owned() })).await;
    session.grant("3", "q").await;
    session.grant("4", "s").await;
    let release = session.release().await;
    assert_eq!((release.token.as_ref().unwrap().run_id.as_str(), release.reason()), ("4", v1::Reason::Busy));
}

#[tokio::test]
async fn a_grant_of_a_definition_that_was_not_sent_ends_the_session() {
    let (_server, mut agent, session) = ready(Fake::new(Vec::new())).await;
    session.reply(Reply::Grant(grant("r", "other"))).await;
    assert!(agent.problem().await.contains("a Grant of a definition that was not sent"));
}

#[tokio::test]
async fn a_stopping_agent_does_not_wait_for_a_control_plane_that_is_silent() {
    let (source, _steps) = Fake::stepped(vec![entity("a", 100)]);
    let (_server, mut agent, session) = ready(source).await;
    session.grant("r", "p").await;
    agent.event(|event| matches!(event, AgentEvent::Granted { .. }).then_some(())).await;
    agent.stop.cancel();
    let left = tokio::time::timeout(Duration::from_secs(5), agent.task.join_next()).await;
    left.expect("two seconds at most").unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_control_plane_of_another_ca_is_refused_with_what_to_do() {
    let server = Server::start().await;
    let mut address = server.address(bearer("t"));
    address.ca = Some(pem(&Authority::new("another").pem()));
    let problem = launch(Agent::new(config(address))).problem().await;
    assert!(problem.contains("control_plane.ca"), "{problem}");
    let mut address = server.address(bearer("t"));
    address.host = "127.0.0.1".to_owned();
    let problem = launch(Agent::new(config(address))).problem().await;
    assert!(problem.contains("another host name"), "{problem}");
}

#[tokio::test]
async fn an_unknown_token_is_named_as_such_and_tried_again() {
    let server = Server::start().await;
    let mut agent = launch(Agent::new(config(server.address(bearer("unknown")))));
    for _ in 0..2 {
        let problem = agent.problem().await;
        assert!(problem.contains("does not accept this agent's identity"), "{problem}");
        assert!(problem.contains("control-plane agent add") && !problem.contains("Bearer"), "{problem}");
    }
}

#[tokio::test]
async fn an_expired_client_certificate_is_named_and_a_valid_one_connects() {
    let clients = Authority::new("agents");
    let mut server = Server::with(Authority::new("control plane"), Some(&clients)).await;
    let identity = |authority: &Authority, is_expired| {
        let (certificate, key) = authority.sign(&["agent"], is_expired);
        Identity::Certificate { certificate: pem(&certificate), key: pem(&key) }
    };
    let problem = launch(Agent::new(config(server.address(identity(&clients, true))))).problem().await;
    assert!(problem.contains("as expired"), "{problem}");
    let foreign = Authority::new("strangers");
    let problem = launch(Agent::new(config(server.address(identity(&foreign, false))))).problem().await;
    assert!(problem.contains("not from a CA") || problem.contains("refused this agent's certificate"), "{problem}");
    let problem = launch(Agent::new(config(server.address(bearer("t"))))).problem().await;
    assert!(problem.contains("it wants a client certificate") || problem.contains("broke"), "{problem}");
    let _agent = launch(Agent::new(config(server.address(identity(&clients, false)))));
    server.session().await.hello().await;
}

#[tokio::test]
async fn a_control_plane_that_is_not_there_is_named_with_its_address() {
    let server = Server::start().await;
    let mut address = server.address(bearer("t"));
    address.port = 1;
    let problem = launch(Agent::new(config(address))).problem().await;
    assert!(problem.contains("connect to localhost:1"), "{problem}");
}

#[tokio::test]
async fn a_refusal_with_a_pause_is_waited_for() {
    let (mut server, mut agent, session) = ready(Fake::new(Vec::new())).await;
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1_500)));
    let before = tokio::time::Instant::now();
    session.refuse(Status::with_error_details(Code::Unavailable, "later", details)).await;
    agent.problem().await;
    server.session().await;
    assert!(before.elapsed() >= Duration::from_millis(1_500));
}

#[tokio::test]
async fn a_release_is_sent_again_in_the_next_session_until_it_is_answered() {
    let mut source = Fake::new(vec![entity("a", 100)]);
    source.fails = Some(hybrid_runner_connector::Reason::AuthFailed);
    let (mut server, _agent, mut session) = ready(source).await;
    session.grant("r", "p").await;
    let mut push = server.push().await;
    push.open(0, [0; 32], 8 << 20, Vec::new()).await;
    session.release().await;
    session.refuse(Status::unavailable("restarting")).await;
    let mut session = server.session().await;
    let hello = session.welcome(5_000, 60_000).await;
    assert!(hello.held.is_empty(), "its run is over");
    let release = session.release().await;
    assert_eq!(release.token.unwrap().run_id, "r");
    assert_eq!(release.detail, "wrong password", "the cause stays in the local log");
    session.reply(Reply::Released(v1::Released { run_id: "r".to_owned() })).await;
    session.reply(Reply::Definition(v1::Definition { pipeline: "q".to_owned(), ..v1::Definition::default() })).await;
    loop {
        match session.next().await {
            Said::DefinitionStatus(_) => break,
            Said::Release(release) => panic!("{release:?}"),
            _ => {}
        }
    }
}
