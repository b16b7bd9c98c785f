//! An agent that says what a test tells it to.

use std::sync::Arc;

use hybrid_runner_proto::v1::runner_service_client::RunnerServiceClient;
use hybrid_runner_proto::v1::{
    self, PushRequest, PushResponse, SessionRequest, SessionResponse, push_request, push_response, record,
    session_request, session_response,
};
use hybrid_runner_proto::{ERROR_DOMAIN, reason_of_name};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::plane::{PIPELINE, Plane, TOKEN, soon};

type Intercept = Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>;
pub(crate) type Client = RunnerServiceClient<InterceptedService<Channel, Intercept>>;

/// Who the agent says it is.
pub(crate) enum Shown<'a> {
    Nothing,
    Token(&'a str),
    /// Certificate and key.
    Certificate(&'a str, &'a str),
}

pub(crate) async fn channel(plane: &Plane, shown: &Shown<'_>) -> Result<Channel, tonic::transport::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(plane.server_ca.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Shown::Certificate(certificate, key) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
        Shown::Nothing | Shown::Token(_) => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, address) = (TlsConnector::from(Arc::new(config)), plane.address);
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The connector makes TLS; tonic would refuse to be given `https` without its own.
    let endpoint = Endpoint::from_static("http://localhost").origin("https://localhost".parse().unwrap());
    endpoint.connect_with_connector(connect).await
}

pub(crate) async fn client(plane: &Plane, shown: Shown<'_>) -> Client {
    let channel = channel(plane, &shown).await.unwrap();
    let header = match shown {
        Shown::Token(token) => Some(MetadataValue::try_from(format!("Bearer {token}")).unwrap()),
        Shown::Nothing | Shown::Certificate(..) => None,
    };
    let intercept: Intercept = Box::new(move |mut request| {
        if let Some(header) = &header {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    });
    RunnerServiceClient::with_interceptor(channel, intercept).max_encoding_message_size(16 * 1024 * 1024)
}

/// The agent `west`.
pub(crate) async fn west(plane: &Plane) -> Client {
    client(plane, Shown::Token(TOKEN)).await
}

/// The reason in a status, which must be of this protocol.
pub(crate) fn reason(status: &Status) -> v1::Reason {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, ERROR_DOMAIN);
    reason_of_name(&info.reason).unwrap()
}

/// One session.
pub(crate) struct Session {
    requests: mpsc::Sender<SessionRequest>,
    responses: Streaming<SessionResponse>,
}

impl Session {
    pub(crate) async fn open(client: &mut Client) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let responses = client.session(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    /// One that has said Hello.
    pub(crate) async fn hello(client: &mut Client) -> (Self, v1::Welcome) {
        Self::hello_with(client, hello()).await
    }

    pub(crate) async fn hello_with(client: &mut Client, hello: v1::Hello) -> (Self, v1::Welcome) {
        let mut session = Self::open(client).await.unwrap();
        session.say(session_request::Message::Hello(hello)).await;
        match session.hear().await {
            session_response::Message::Welcome(welcome) => (session, welcome),
            other => panic!("expected Welcome, got {other:?}"),
        }
    }

    /// One that has accepted the pipeline and asked for so many runs.
    pub(crate) async fn ready(client: &mut Client, slots: u32) -> Self {
        Self::ready_as(client, hello(), slots).await
    }

    pub(crate) async fn ready_as(client: &mut Client, hello: v1::Hello, slots: u32) -> Self {
        let (mut session, _) = Self::hello_with(client, hello).await;
        let definition = session.definition().await;
        session.accept(&definition).await;
        session.ask(slots).await;
        session
    }

    pub(crate) async fn say(&self, message: session_request::Message) {
        self.requests.send(SessionRequest { message: Some(message) }).await.unwrap();
    }

    /// As [`Session::say`]; whether anybody listens.
    pub(crate) async fn says(&self, message: session_request::Message) -> bool {
        self.requests.send(SessionRequest { message: Some(message) }).await.is_ok()
    }

    pub(crate) async fn hear(&mut self) -> session_response::Message {
        let response = soon("a message of the session", self.responses.message()).await;
        response.unwrap().expect("the session ended").message.unwrap()
    }

    /// How the session ends; what is said before does not matter.
    pub(crate) async fn end(&mut self) -> Status {
        let wait = async {
            loop {
                match self.responses.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the session ended well"),
                    Err(status) => return status,
                }
            }
        };
        soon("the end of the session", wait).await
    }

    pub(crate) async fn definition(&mut self) -> v1::Definition {
        match self.hear().await {
            session_response::Message::Definition(definition) => definition,
            other => panic!("expected Definition, got {other:?}"),
        }
    }

    pub(crate) async fn grant(&mut self) -> v1::Grant {
        match self.hear().await {
            session_response::Message::Grant(grant) => grant,
            other => panic!("expected Grant, got {other:?}"),
        }
    }

    pub(crate) async fn accept(&self, definition: &v1::Definition) {
        self.say(session_request::Message::DefinitionStatus(v1::DefinitionStatus {
            pipeline: definition.pipeline.clone(),
            version: definition.version,
            accepted: true,
            ..Default::default()
        }))
        .await;
    }

    pub(crate) async fn ask(&self, slots: u32) {
        self.say(session_request::Message::LeaseRequest(v1::LeaseRequest { slots })).await;
    }

    /// Ends its part of a run, and is told that this is done.
    pub(crate) async fn release(&mut self, token: &v1::WriteToken, outcome: v1::Outcome, reason: v1::Reason) {
        self.say(session_request::Message::Release(v1::Release {
            token: Some(token.clone()),
            outcome: outcome.into(),
            reason: reason.into(),
            detail: "why".to_owned(),
        }))
        .await;
        match self.hear().await {
            session_response::Message::Released(released) => assert_eq!(released.run_id, token.run_id),
            other => panic!("expected Released, got {other:?}"),
        }
    }

    /// A heartbeat for these leases; the runs that were renewed.
    pub(crate) async fn beat(&mut self, id: u64, tokens: &[v1::WriteToken]) -> Vec<String> {
        let renewal = |token: &v1::WriteToken| v1::LeaseRenewal { token: Some(token.clone()), progress: None };
        let renewals = tokens.iter().map(renewal).collect();
        self.say(session_request::Message::Heartbeat(v1::Heartbeat { id, renewals })).await;
        match self.hear().await {
            session_response::Message::HeartbeatAck(ack) => {
                assert_eq!(ack.id, id);
                ack.renewed_run_ids
            }
            other => panic!("expected HeartbeatAck, got {other:?}"),
        }
    }
}

impl Session {
    /// A heartbeat for this lease: that it was renewed, or how the session ended instead.
    pub(crate) async fn try_beat(&mut self, id: u64, token: &v1::WriteToken) -> Result<(), Status> {
        let renewals = vec![v1::LeaseRenewal { token: Some(token.clone()), progress: None }];
        if !self.says(session_request::Message::Heartbeat(v1::Heartbeat { id, renewals })).await {
            return Err(self.end().await);
        }
        match soon("an answer", self.responses.message()).await?.and_then(|response| response.message) {
            Some(session_response::Message::HeartbeatAck(ack)) => {
                assert_eq!(ack.renewed_run_ids, [token.run_id.as_str()]);
                Ok(())
            }
            other => panic!("expected HeartbeatAck, got {other:?}"),
        }
    }
}

pub(crate) fn hello() -> v1::Hello {
    v1::Hello {
        protocol_min: 1,
        protocol_max: 1,
        agent_version: "test/1".to_owned(),
        instance_id: vec![7; 16].into(),
        // One that no control plane knows does no harm.
        capabilities: vec!["memos".to_owned(), "resume".to_owned(), "telepathy".to_owned()],
        sources: vec!["salesforce".to_owned()],
        held: Vec::new(),
        diagnostic: false,
    }
}

/// One push.
pub(crate) struct Push {
    requests: mpsc::Sender<PushRequest>,
    responses: Streaming<PushResponse>,
}

impl Push {
    pub(crate) async fn connect(client: &mut Client) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(16);
        let responses = client.push(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    /// One that was opened.
    pub(crate) async fn open(client: &mut Client, token: &v1::WriteToken) -> (Self, v1::Opened) {
        Self::try_open(client, token).await.unwrap()
    }

    pub(crate) async fn try_open(client: &mut Client, token: &v1::WriteToken) -> Result<(Self, v1::Opened), Status> {
        let mut push = Self::connect(client).await?;
        push.say(push_request::Message::Open(v1::Open { token: Some(token.clone()) })).await;
        match push.answer().await? {
            push_response::Message::Opened(opened) => Ok((push, opened)),
            other => panic!("expected Opened, got {other:?}"),
        }
    }

    /// The next message, or how the push ended.
    pub(crate) async fn answer(&mut self) -> Result<push_response::Message, Status> {
        let response = soon("a message of the push", self.responses.message()).await?;
        Ok(response.expect("the push ended").message.unwrap())
    }

    pub(crate) async fn say(&self, message: push_request::Message) {
        self.requests.send(PushRequest { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> push_response::Message {
        let response = soon("a message of the push", self.responses.message()).await;
        response.unwrap().expect("the push ended").message.unwrap()
    }

    /// Nothing more comes, and no error.
    pub(crate) async fn ends_well(&mut self) {
        assert_eq!(soon("the end of the push", self.responses.message()).await.unwrap(), None);
    }

    pub(crate) async fn end(&mut self) -> Status {
        soon("the end of the push", self.responses.message()).await.expect_err("the push goes on")
    }

    pub(crate) async fn batch(&self, token: &v1::WriteToken, records: &[v1::Record]) {
        self.say(push_request::Message::Batch(v1::Batch {
            token: Some(token.clone()),
            records: records.to_vec(),
            source_position: bytes::Bytes::from_static(b"here"),
        }))
        .await;
    }

    pub(crate) async fn ack(&mut self) -> u64 {
        match self.hear().await {
            push_response::Message::Ack(ack) => ack.next_seq,
            other => panic!("expected Ack, got {other:?}"),
        }
    }

    pub(crate) async fn fenced(&mut self) -> v1::Reason {
        match self.hear().await {
            push_response::Message::Fenced(fenced) => {
                self.ends_well().await;
                fenced.reason()
            }
            other => panic!("expected Fenced, got {other:?}"),
        }
    }

    /// The whole baseline.
    pub(crate) async fn baseline(&mut self) -> Vec<v1::BaselineEntry> {
        let mut all = Vec::new();
        loop {
            match self.hear().await {
                push_response::Message::Baseline(page) => {
                    all.extend(page.entries);
                    if page.last {
                        return all;
                    }
                }
                other => panic!("expected Baseline, got {other:?}"),
            }
        }
    }
}

/// A table as a record.
pub(crate) fn table(seq: u64, name: &str, body: &str) -> v1::Record {
    v1::Record {
        seq,
        kind: "table".to_owned(),
        fqn: format!("crm.default.salesforce.{name}"),
        content_hash: blake3::hash(body.as_bytes()).as_bytes().to_vec().into(),
        content: Some(record::Content::Body(body.to_owned().into())),
        memo: bytes::Bytes::new(),
    }
}

pub(crate) fn tables(count: u64) -> Vec<v1::Record> {
    (0..count)
        .map(|seq| table(seq, &format!("T{seq}"), &format!("{{\"columns\":[{{}}],\"name\":\"T{seq}\"}}")))
        .collect()
}

/// The end of a run of these records; the digest by the words of push.proto.
pub(crate) fn eof(token: &v1::WriteToken, records: &[v1::Record]) -> push_request::Message {
    let digest = records.iter().fold([0; 32], |digest: [u8; 32], record| {
        let mut input = digest.to_vec();
        input.extend(record.seq.to_be_bytes());
        for name in [&record.kind, &record.fqn] {
            input.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
            input.extend(name.as_bytes());
        }
        input.extend(&record.content_hash);
        blake3::hash(&input).into()
    });
    push_request::Message::Eof(v1::Eof {
        token: Some(token.clone()),
        count: u64::try_from(records.len()).unwrap(),
        digest: digest.to_vec().into(),
        complete: true,
        ..Default::default()
    })
}

/// A run of the pipeline, granted to the agent `west`.
pub(crate) async fn granted(plane: &Plane, client: &mut Client) -> (Session, v1::WriteToken) {
    let mut session = Session::ready(client, 1).await;
    plane.trigger().await;
    let grant = session.grant().await;
    assert_eq!(grant.pipeline, PIPELINE);
    (session, grant.token.unwrap())
}
