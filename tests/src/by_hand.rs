//! An agent by hand: the generated client and the words of the .proto files, nothing of the runner. It says whatever a
//! case wants, also what no agent should.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hybrid_runner_proto::v1::runner_service_client::RunnerServiceClient;
use hybrid_runner_proto::v1::{
    self, PushRequest, PushResponse, SessionRequest, SessionResponse, WriteToken, push_request, push_response, record,
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
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

use crate::certificates::{Authority, Pair};
use crate::{install_crypto, within};

/// What an agent says on a session.
pub type Said = session_request::Message;
/// What it hears there.
pub type Heard = session_response::Message;
/// What it says on a push.
pub type Pushed = push_request::Message;
/// What it hears there.
pub type Answer = push_response::Message;

/// Messages that a case may be ahead of the connection.
const AHEAD: usize = 16;

/// A connection to the control plane on this port, with mutual TLS.
pub async fn connect(port: u16, authority: &Authority, pair: &Pair) -> Channel {
    install_crypto();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The connector makes TLS; tonic would refuse to be given `https` without its own.
    let endpoint = Endpoint::from_static("http://localhost").origin("https://localhost".parse().unwrap());
    within("the connection", endpoint.connect_with_connector(connect)).await.unwrap()
}

/// The reason in a status, which must be one of the catalogue.
#[must_use]
pub fn reason(status: &Status) -> v1::Reason {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, ERROR_DOMAIN);
    reason_of_name(&info.reason).unwrap_or_else(|| panic!("{} is not in the catalogue", info.reason))
}

/// One session.
#[derive(Debug)]
pub struct Session {
    requests: mpsc::Sender<SessionRequest>,
    responses: Streaming<SessionResponse>,
    beats: u64,
}

impl Session {
    /// One on which nothing was said.
    pub async fn open(channel: &Channel) -> Self {
        let (requests, receiver) = mpsc::channel(AHEAD);
        let mut client = RunnerServiceClient::new(channel.clone());
        let responses = within("a session", client.session(ReceiverStream::new(receiver))).await.unwrap().into_inner();
        Self { requests, responses, beats: 0 }
    }

    /// One that was welcomed.
    pub async fn hello(channel: &Channel) -> (Self, v1::Welcome) {
        let mut session = Self::open(channel).await;
        session.say(Said::Hello(hello())).await;
        match session.hear().await {
            Heard::Welcome(welcome) => (session, welcome),
            other => panic!("expected Welcome, got {other:?}"),
        }
    }

    /// One that accepted so many definitions and asked for as many runs.
    pub async fn ready(channel: &Channel, pipelines: u32) -> Self {
        let (mut session, _) = Self::hello(channel).await;
        for _ in 0..pipelines {
            let definition = session.until("a definition", |heard| match heard {
                Heard::Definition(definition) => Some(definition),
                _ => None,
            });
            let v1::Definition { pipeline, version, .. } = definition.await;
            let status = v1::DefinitionStatus { pipeline, version, accepted: true, ..Default::default() };
            session.say(Said::DefinitionStatus(status)).await;
        }
        session.ask(pipelines).await;
        session
    }

    /// Says something.
    pub async fn say(&self, message: Said) {
        self.requests.send(SessionRequest { message: Some(message) }).await.unwrap();
    }

    /// Sends a message without content.
    pub async fn say_nothing(&self) {
        self.requests.send(SessionRequest { message: None }).await.unwrap();
    }

    /// Asks for so many runs.
    pub async fn ask(&self, slots: u32) {
        self.say(Said::LeaseRequest(v1::LeaseRequest { slots })).await;
    }

    /// The next message.
    pub async fn hear(&mut self) -> Heard {
        let response = within("a message of the session", self.responses.message()).await;
        response.unwrap().expect("the session goes on").message.unwrap()
    }

    /// The next message that is wanted; what comes before it does not matter.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Heard) -> Option<T>) -> T {
        within(what, async {
            loop {
                if let Some(found) = wanted(self.hear().await) {
                    return found;
                }
            }
        })
        .await
    }

    /// The next grant.
    pub async fn grant(&mut self) -> v1::Grant {
        let grant = |heard| match heard {
            Heard::Grant(grant) => Some(grant),
            _ => None,
        };
        self.until("a grant", grant).await
    }

    /// Sends a heartbeat for these leases and returns the runs that were renewed.
    pub async fn beat(&mut self, tokens: &[WriteToken]) -> Vec<String> {
        self.beats += 1;
        let id = self.beats;
        let renewal = |token: &WriteToken| v1::LeaseRenewal { token: Some(token.clone()), progress: None };
        let renewals = tokens.iter().map(renewal).collect();
        self.say(Said::Heartbeat(v1::Heartbeat { id, renewals })).await;
        let ack = |heard| match heard {
            Heard::HeartbeatAck(ack) if ack.id == id => Some(ack.renewed_run_ids),
            _ => None,
        };
        self.until("the answer to a heartbeat", ack).await
    }

    /// Gives a lease back as failed and waits for the answer.
    pub async fn release(&mut self, token: &WriteToken) {
        let release =
            v1::Release { token: Some(token.clone()), outcome: v1::Outcome::Failed.into(), ..Default::default() };
        self.say(Said::Release(release)).await;
        let released = |heard| match heard {
            Heard::Released(released) if released.run_id == token.run_id => Some(()),
            _ => None,
        };
        self.until("the answer to a release", released).await;
    }

    /// The status that the session ends with; what is said before does not matter.
    pub async fn end(&mut self) -> Status {
        let wait = async {
            loop {
                match self.responses.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the session ended well"),
                    Err(status) => return status,
                }
            }
        };
        within("the end of the session", wait).await
    }
}

/// The first words of an agent.
#[must_use]
pub fn hello() -> v1::Hello {
    v1::Hello {
        protocol_min: 1,
        protocol_max: 1,
        agent_version: "by-hand/1".to_owned(),
        instance_id: vec![7; 16].into(),
        capabilities: Vec::new(),
        sources: vec!["salesforce".to_owned()],
        held: Vec::new(),
        diagnostic: false,
    }
}

/// One push.
#[derive(Debug)]
pub struct Push {
    requests: mpsc::Sender<PushRequest>,
    responses: Streaming<PushResponse>,
}

impl Push {
    /// One on which nothing was said.
    pub async fn connect(channel: &Channel) -> Self {
        let (requests, receiver) = mpsc::channel(AHEAD);
        let mut client = RunnerServiceClient::new(channel.clone());
        let responses = within("a push", client.push(ReceiverStream::new(receiver))).await.unwrap().into_inner();
        Self { requests, responses }
    }

    /// One that was opened; its baseline was read.
    pub async fn open(channel: &Channel, token: &WriteToken) -> (Self, v1::Opened, Vec<v1::BaselineEntry>) {
        let mut push = Self::connect(channel).await;
        push.say(Pushed::Open(v1::Open { token: Some(token.clone()) })).await;
        let opened = match push.hear().await {
            Answer::Opened(opened) => opened,
            other => panic!("expected Opened, got {other:?}"),
        };
        let mut baseline = Vec::new();
        let mut more = opened.baseline_follows;
        while more {
            match push.hear().await {
                Answer::Baseline(page) => {
                    baseline.extend(page.entries);
                    more = !page.last;
                }
                other => panic!("expected Baseline, got {other:?}"),
            }
        }
        (push, opened, baseline)
    }

    /// Says something.
    pub async fn say(&self, message: Pushed) {
        self.requests.send(PushRequest { message: Some(message) }).await.unwrap();
    }

    /// Sends a message without content.
    pub async fn say_nothing(&self) {
        self.requests.send(PushRequest { message: None }).await.unwrap();
    }

    /// Sends records.
    pub async fn batch(&self, token: &WriteToken, records: &[v1::Record]) {
        self.say(batch(token, records)).await;
    }

    /// Sends records and waits until they are durable.
    pub async fn durable(&mut self, token: &WriteToken, records: &[v1::Record]) {
        self.batch(token, records).await;
        let next = records.last().unwrap().seq + 1;
        match self.hear().await {
            Answer::Ack(ack) => assert_eq!(ack.next_seq, next),
            other => panic!("expected Ack, got {other:?}"),
        }
    }

    /// Ends the run of these records and waits for the commit.
    pub async fn commit(&mut self, token: &WriteToken, records: &[v1::Record]) -> v1::Committed {
        self.say(Pushed::Eof(eof(token, records))).await;
        match self.hear().await {
            Answer::Committed(committed) => committed,
            other => panic!("expected Committed, got {other:?}"),
        }
    }

    /// The next message.
    pub async fn hear(&mut self) -> Answer {
        let response = within("a message of the push", self.responses.message()).await;
        response.unwrap().expect("the push goes on").message.unwrap()
    }

    /// The stream says `Fenced` and ends.
    pub async fn fenced(&mut self) -> v1::Fenced {
        match self.hear().await {
            Answer::Fenced(fenced) => {
                let end = within("the end of the push", self.responses.message()).await;
                assert_eq!(end.unwrap(), None);
                fenced
            }
            other => panic!("expected Fenced, got {other:?}"),
        }
    }

    /// The status that the stream ends with next.
    pub async fn end(&mut self) -> Status {
        within("the end of the push", self.responses.message()).await.expect_err("the push goes on")
    }
}

/// A batch of these records.
#[must_use]
pub fn batch(token: &WriteToken, records: &[v1::Record]) -> Pushed {
    Pushed::Batch(v1::Batch { token: Some(token.clone()), records: records.to_vec(), ..Default::default() })
}

/// A table as a record of the world's pipeline.
#[must_use]
pub fn table(seq: u64, name: &str, body: &str) -> v1::Record {
    v1::Record {
        seq,
        kind: "table".to_owned(),
        fqn: format!("crm.default.salesforce.{name}"),
        content_hash: blake3::hash(body.as_bytes()).as_bytes().to_vec().into(),
        content: Some(record::Content::Body(body.to_owned().into())),
        memo: bytes::Bytes::new(),
    }
}

/// So many tables of one column, `T0` and so on.
#[must_use]
pub fn tables(count: u64) -> Vec<v1::Record> {
    (0..count).map(|seq| table(seq, &format!("T{seq}"), &format!(r#"{{"name":"T{seq}","columns":[{{}}]}}"#))).collect()
}

/// The record, said to be as it was committed.
#[must_use]
pub fn unchanged(record: &v1::Record) -> v1::Record {
    v1::Record { content: Some(record::Content::Unchanged(v1::Unchanged {})), ..record.clone() }
}

/// The end of a complete run of these records.
#[must_use]
pub fn eof(token: &WriteToken, records: &[v1::Record]) -> v1::Eof {
    v1::Eof {
        token: Some(token.clone()),
        count: u64::try_from(records.len()).unwrap(),
        digest: digest(records).to_vec().into(),
        complete: true,
        ..Default::default()
    }
}

/// The digest of records in their order, by the words of push.proto.
#[must_use]
pub fn digest<'a>(records: impl IntoIterator<Item = &'a v1::Record>) -> [u8; 32] {
    records.into_iter().fold([0; 32], |digest: [u8; 32], record| {
        let mut input = digest.to_vec();
        input.extend(record.seq.to_be_bytes());
        for name in [&record.kind, &record.fqn] {
            input.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
            input.extend(name.as_bytes());
        }
        input.extend(&record.content_hash);
        blake3::hash(&input).into()
    })
}
