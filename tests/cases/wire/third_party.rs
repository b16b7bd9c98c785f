//! A control plane that somebody else wrote from the .proto files alone.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt as _, stream};
use hybrid_runner_proto::v1::runner_service_server::{RunnerService, RunnerServiceServer};
use hybrid_runner_proto::v1::{self, PushRequest, PushResponse, SessionRequest, SessionResponse};
use hybrid_runner_tests::by_hand::{Answer, Heard, Pushed, Said};
use hybrid_runner_tests::certificates::Authority;
use hybrid_runner_tests::world::PIPELINE;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// A control plane with one run, for the first agent that comes.
#[derive(Debug, Clone)]
pub(super) struct ThirdParty {
    /// What it offers.
    pub(super) definition: v1::Definition,
    /// What it grants.
    pub(super) token: v1::WriteToken,
    /// What became of it.
    pub(super) state: Arc<Mutex<State>>,
}

/// What became of the one run.
#[derive(Debug, Default)]
pub(super) struct State {
    accepted: bool,
    slots: u32,
    granted: bool,
    /// What came on all pushes.
    pub(super) pushed: Vec<Pushed>,
}

impl ThirdParty {
    /// One that offers this workflow.
    pub(super) fn new(workflow_json: String) -> Self {
        Self {
            definition: v1::Definition { pipeline: PIPELINE.to_owned(), version: 7, workflow_json, last_run: None },
            token: v1::WriteToken {
                run_id: "any text that names a run".to_owned(),
                fence: u64::MAX,
                lease_id: vec![9; 16].into(),
            },
            state: Arc::default(),
        }
    }

    fn answer_session(&self, said: Said) -> Vec<Heard> {
        let mut state = self.state.lock().unwrap();
        let mut answers = Vec::new();
        match said {
            Said::Hello(hello) => {
                assert!((hello.protocol_min..=hello.protocol_max).contains(&1));
                assert_eq!(hello.instance_id.len(), 16);
                answers.push(Heard::Welcome(v1::Welcome {
                    protocol: 1,
                    heartbeat_interval: Some(seconds(15)),
                    lease_ttl: Some(seconds(60)),
                    ..Default::default()
                }));
                answers.push(Heard::Definition(self.definition.clone()));
            }
            Said::DefinitionStatus(status) => {
                assert_eq!((status.pipeline.as_str(), status.version), (PIPELINE, self.definition.version));
                state.accepted = status.accepted;
            }
            Said::LeaseRequest(request) => state.slots = request.slots,
            Said::Heartbeat(beat) => {
                let run = |renewal: v1::LeaseRenewal| renewal.token.unwrap().run_id;
                let renewed_run_ids = beat.renewals.into_iter().map(run).collect();
                answers.push(Heard::HeartbeatAck(v1::HeartbeatAck { id: beat.id, renewed_run_ids }));
            }
            Said::RunEvent(event) => assert_eq!(event.token.as_ref(), Some(&self.token)),
            other => panic!("nobody listed a capability, nobody failed: {other:?}"),
        }
        if state.accepted && state.slots > 0 && !state.granted {
            state.granted = true;
            answers.push(Heard::Grant(v1::Grant {
                token: Some(self.token.clone()),
                pipeline: PIPELINE.to_owned(),
                definition_version: self.definition.version,
                attempt: 1,
                start_timeout: Some(seconds(60)),
                run_timeout: Some(seconds(600)),
                ..Default::default()
            }));
        }
        answers
    }

    fn answer_push(&self, pushed: Pushed) -> Answer {
        let answer = match &pushed {
            Pushed::Open(_) => Answer::Opened(v1::Opened {
                digest: vec![0; 32].into(),
                max_unacked_bytes: 64 * 1024,
                ..Default::default()
            }),
            Pushed::Batch(batch) => Answer::Ack(v1::Ack { next_seq: batch.records.last().unwrap().seq + 1 }),
            Pushed::Eof(eof) => {
                Answer::Committed(v1::Committed { count: eof.count, digest: eof.digest.clone(), ..Default::default() })
            }
        };
        self.state.lock().unwrap().pushed.push(pushed);
        answer
    }

    /// Serves on a port of its own, until the tasks are dropped.
    pub(super) async fn serve(self, authority: &Authority) -> (u16, JoinSet<()>) {
        let pair = authority.server();
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, accepted) = mpsc::channel(8);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut copies = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = acceptor.accept(stream).await.unwrap();
                // tonic takes a stream that is decrypted already.
                let (mut near, far) = tokio::io::duplex(64 * 1024);
                drop(connections.send(Ok::<_, std::io::Error>(far)).await);
                copies.spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut near).await });
            }
        });
        let server = tonic::transport::Server::builder().add_service(RunnerServiceServer::new(self));
        tasks.spawn(async move { server.serve_with_incoming(ReceiverStream::new(accepted)).await.unwrap() });
        (port, tasks)
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RunnerService for ThirdParty {
    type SessionStream = Responses<SessionResponse>;
    type PushStream = Responses<PushResponse>;

    async fn session(&self, said: Request<Streaming<SessionRequest>>) -> Result<Response<Self::SessionStream>, Status> {
        let me = self.clone();
        let answers = said.into_inner().take_while(|said| std::future::ready(said.is_ok())).flat_map(move |said| {
            let answers = me.answer_session(said.unwrap().message.unwrap());
            stream::iter(answers.into_iter().map(|heard| Ok(SessionResponse { message: Some(heard) })))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn push(&self, pushed: Request<Streaming<PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        let me = self.clone();
        let answers = pushed.into_inner().take_while(|pushed| std::future::ready(pushed.is_ok())).map(move |pushed| {
            let answer = me.answer_push(pushed.unwrap().message.unwrap());
            Ok(PushResponse { message: Some(answer) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
