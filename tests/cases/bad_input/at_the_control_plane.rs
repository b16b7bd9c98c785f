//! What an agent and its control plane tell each other about a bad definition, and about a bad identity.

use std::sync::Arc;
use std::time::Duration;

use control_plane::store::{RunState, Verdict};
use hybrid_runner::{AgentConfig, AgentEvent, Identity};
use hybrid_runner_secrets::{MemoryStore, SecretValue, Stores};
use hybrid_runner_tests::certificates::Authority;
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{PASSWORD, PIPELINE, RunningAgent, Setup, World, pem, pipeline_yaml, write};
use tokio::time::{Instant, timeout_at};

/// A pipeline that the agent rejects is said to be so, with the reason, and never granted: one that came later runs.
async fn rejected(pipeline: String, reason: &str) -> Verdict {
    let _logs = Logs::capture().expecting("definition rejected").expecting("the agent rejects a definition");
    let world = World::with(Setup { pipeline: Some(pipeline), ..Setup::default() }).await;
    let good =
        pipeline_yaml("").replace("name: crm\n", "name: good\n").replace("serviceName: crm", "serviceName: good");
    write(world.dir.path(), "pipelines/good.yaml", &good);
    let mut changes = world.plane.changes();
    within("the good pipeline is known", async {
        while !world.plane.store().definitions().await.unwrap().iter().any(|known| known.new.pipeline == "good") {
            changes.changed().await.unwrap();
        }
    })
    .await;
    let bad_run = world.plane.trigger(PIPELINE, false).await.unwrap();
    let mut agent = world.start_agent();
    let told = agent
        .until("the rejection", |event| match event {
            AgentEvent::DefinitionRejected { pipeline, reason, detail, .. } if pipeline == PIPELINE => {
                Some((reason, detail))
            }
            _ => None,
        })
        .await;
    let verdict = within("the verdict", async {
        loop {
            let verdicts = world.plane.store().verdicts().await.unwrap();
            if let Some(verdict) = verdicts.into_iter().find(|verdict| verdict.pipeline == PIPELINE) {
                return verdict;
            }
            changes.changed().await.unwrap();
        }
    })
    .await;
    assert_eq!((verdict.accepted, verdict.reason.as_deref()), (false, Some(reason)), "{verdict:?}");
    assert_eq!((told.0, Some(&told.1)), (reason, verdict.detail.as_ref()));
    let good_run = world.plane.trigger("good", false).await.unwrap();
    let good_run = within("the good run", world.plane.run_ended(good_run)).await.unwrap();
    assert_eq!(good_run.state, RunState::Committed, "{good_run:?}");
    let bad_run = world.plane.store().run(bad_run).await.unwrap().unwrap();
    assert_eq!((bad_run.state, bad_run.attempt), (RunState::Queued, 0), "{bad_run:?}");
    agent.stop().await;
    world.stop().await;
    verdict
}

#[tokio::test]
async fn a_definition_with_a_literal_password_is_rejected_and_never_granted() {
    let pipeline = pipeline_yaml("").replace(PASSWORD, "hunter2-literal");
    let verdict = rejected(pipeline, "LITERAL_SECRET").await;
    let detail = verdict.detail.unwrap();
    assert!(detail.contains("source.serviceConnection.config.password: "), "{detail}");
    assert!(!detail.contains("hunter2") && !detail.contains("--allow-literal-secrets"), "{detail}");
}

#[tokio::test]
async fn a_definition_with_a_variable_in_a_credential_is_rejected() {
    let pipeline = pipeline_yaml("").replace(PASSWORD, "${HOME}");
    let verdict = rejected(pipeline, "LITERAL_SECRET").await;
    assert!(verdict.detail.unwrap().contains("source.serviceConnection.config.password: "));
}

#[tokio::test]
async fn a_definition_with_a_hostile_domain_is_rejected_and_never_granted() {
    let pipeline = pipeline_yaml("").replace("salesforceDomain: localhost", "salesforceDomain: evil.example/#");
    let verdict = rejected(pipeline, "BAD_DEFINITION").await;
    let detail = verdict.detail.unwrap();
    assert!(detail.contains("source.serviceConnection.config.salesforceDomain: "), "{detail}");
    assert!(!detail.contains("evil.example"), "{detail}");
}

#[tokio::test]
async fn a_run_with_a_wrong_password_fails_after_one_login_and_says_why() {
    let _logs = Logs::capture().expecting("AUTH_FAILED");
    let world = World::new().await;
    let wrong = MemoryStore::default()
        .with("/salesforce/password", SecretValue::new("not-the-password".to_owned()))
        .with("/salesforce/token", SecretValue::new("not-the-token".to_owned()));
    let secrets = Arc::new(Stores::default().with("memory", wrong));
    let agent = RunningAgent::start(AgentConfig { secrets, ..world.agent_config("one") });
    let run = world.run().await;
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("AUTH_FAILED")), "{run:?}");
    assert!(run.detail.as_deref().unwrap().contains("INVALID_LOGIN"), "{run:?}");
    assert_eq!((run.attempt, world.org.requests().total), (1, 1), "it is not tried again");
    assert!(world.entities().await.is_empty());
    agent.stop().await;
    world.stop().await;
}

/// What an agent says when there is no session.
async fn problem_of(config: AgentConfig) -> String {
    let mut agent = RunningAgent::start(config);
    let problem = agent
        .until("no session", |event| match event {
            AgentEvent::Disconnected { problem } => Some(problem),
            AgentEvent::Connected { .. } => panic!("connected"),
            _ => None,
        })
        .await;
    agent.stop().await;
    problem
}

#[tokio::test]
async fn an_agent_does_not_trust_a_control_plane_of_another_authority() {
    let _logs = Logs::capture().expecting("no session with the control plane");
    let world = World::new().await;
    let mut config = world.agent_config("one");
    config.control_plane.ca = Some(pem(&Authority::new().pem));
    let problem = problem_of(config).await;
    assert!(problem.contains("its certificate is not from the CA in control_plane.ca"), "{problem}");
    assert!(world.plane.sessions().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn an_expired_client_certificate_is_refused_and_said_to_be_expired() {
    let _logs = Logs::capture().expecting("no session with the control plane");
    let world = World::new().await;
    let pair = world.authority.expired_agent("one");
    let identity = Identity::Certificate { certificate: pem(&pair.certificate), key: pem(&pair.key) };
    let problem = problem_of(world.agent_config_as(identity)).await;
    assert!(
        problem.contains("as expired, or not valid yet; make a new one with `control-plane agent add`"),
        "{problem}"
    );
    assert!(world.plane.sessions().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_refused() {
    let _logs = Logs::capture().expecting("no session with the control plane");
    let world = World::new().await;
    let pair = Authority::new().agent("one");
    let identity = Identity::Certificate { certificate: pem(&pair.certificate), key: pem(&pair.key) };
    let problem = problem_of(world.agent_config_as(identity)).await;
    assert!(problem.contains("it refused this agent's certificate (control_plane.tls)"), "{problem}");
    assert!(world.plane.sessions().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_not_on_the_list_is_refused_and_told_what_to_do() {
    let _logs = Logs::capture().expecting("no session with the control plane");
    let world = World::new().await;
    let problem = problem_of(world.agent_config("stranger")).await;
    assert!(problem.contains("control-plane agent add"), "{problem}");
    world.stop().await;
}

#[tokio::test]
async fn an_unknown_bearer_token_is_refused_told_what_to_do_and_not_tried_in_a_hot_loop() {
    /// The window that is looked at, and the most sessions tried in it: waits grow from half a second on.
    const WINDOW: Duration = Duration::from_secs(3);
    const MOST: usize = 25;
    let logs = Logs::capture().expecting("no session with the control plane");
    let world = World::new().await;
    let token = "an-unknown-token-of-at-least-32-characters";
    let identity = Identity::Token(Arc::new(SecretValue::new(token.to_owned())));
    let mut agent = RunningAgent::start(world.agent_config_as(identity));
    let end = Instant::now() + WINDOW;
    let mut problems = Vec::new();
    while let Ok(event) = timeout_at(end, agent.events.recv()).await {
        match event.unwrap() {
            AgentEvent::Disconnected { problem } => problems.push(problem),
            other => panic!("{other:?}"),
        }
    }
    assert!((2..=MOST).contains(&problems.len()), "{} sessions in {WINDOW:?}", problems.len());
    for problem in &problems {
        assert!(problem.contains("does not accept this agent's identity"), "{problem}");
        assert!(problem.contains("control-plane agent add") && !problem.contains(token), "{problem}");
    }
    let log = logs.text();
    assert_eq!(log.matches("no session with the control plane, trying again").count(), 1, "told once:\n{log}");
    assert!(world.plane.sessions().is_empty());
    agent.stop().await;
    world.stop().await;
}
