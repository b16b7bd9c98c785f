//! Who gets in.

use hybrid_runner_proto::v1::Reason;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::agent::{Push, Session, Shown, channel, client, reason};
use crate::plane::{Plane, TOKEN};
use control_plane::pki::Authority;
use jiff::{Timestamp, ToSpan as _};

#[tokio::test]
async fn a_listed_certificate_and_a_listed_token_get_in() {
    let plane = Plane::start().await;
    let issued = plane.agents.issue_agent("east", Timestamp::now()).unwrap();
    let mut east = client(&plane, Shown::Certificate(&issued.certificate, &issued.key)).await;
    let (_session, _) = Session::hello(&mut east).await;
    let mut west = client(&plane, Shown::Token(TOKEN)).await;
    let (_other, _) = Session::hello(&mut west).await;
    let agents: Vec<String> = plane.handle.sessions().into_iter().map(|session| session.agent).collect();
    assert_eq!(agents, ["east", "west"]);
}

#[tokio::test]
async fn nobody_and_an_unknown_token_are_refused_on_both_streams() {
    let plane = Plane::start().await;
    for shown in [Shown::Nothing, Shown::Token("guess"), Shown::Token("")] {
        let mut client = client(&plane, shown).await;
        let session = Session::open(&mut client).await.err().unwrap();
        let push = Push::connect(&mut client).await.err().unwrap();
        for status in [session, push] {
            assert_eq!((status.code(), reason(&status)), (Code::Unauthenticated, Reason::IdentityUnknown));
        }
    }
}

#[tokio::test]
async fn a_certificate_of_an_agent_that_is_not_listed_is_refused() {
    let plane = Plane::start().await;
    for name in ["stranger", "west"] {
        let issued = plane.agents.issue_agent(name, Timestamp::now()).unwrap();
        let mut client = client(&plane, Shown::Certificate(&issued.certificate, &issued.key)).await;
        let status = Session::open(&mut client).await.err().unwrap();
        assert_eq!((status.code(), reason(&status)), (Code::Unauthenticated, Reason::IdentityUnknown));
    }
}

#[tokio::test]
async fn an_expired_certificate_and_one_of_another_authority_do_not_connect() {
    let plane = Plane::start().await;
    let long_ago = Timestamp::now().checked_sub((24 * 800).hours()).unwrap();
    let expired = plane.agents.issue_agent("east", long_ago).unwrap();
    let other = Authority::generate("agents", Timestamp::now()).unwrap().issue_agent("east", Timestamp::now()).unwrap();
    for issued in [expired, other] {
        let shown = Shown::Certificate(&issued.certificate, &issued.key);
        // With TLS 1.3 the refusal may come after the client believes to be connected.
        if let Ok(_connected) = channel(&plane, &shown).await {
            let mut client = client(&plane, shown).await;
            assert!(Session::open(&mut client).await.is_err());
        }
    }
}

#[tokio::test]
async fn health_and_reflection_need_no_identity() {
    let plane = Plane::start().await;
    let channel = channel(&plane, &Shown::Nothing).await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let answer = health.check(tonic_health::pb::HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
            assert!(names.contains(&"hybrid.runner.v1.RunnerService".to_owned()), "{names:?}");
        }
        other => panic!("expected a list, got {other:?}"),
    }
}
