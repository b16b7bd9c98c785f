//! A tap on the wire: stands between an agent and the control plane, hands every message on and keeps what it heard, both
//! ways, as it was before compression and encryption. It may change what it hands on.

use std::future::ready;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt as _};
use hybrid_runner_proto::v1::runner_service_client::RunnerServiceClient;
use hybrid_runner_proto::v1::runner_service_server::{RunnerService, RunnerServiceServer};
use hybrid_runner_proto::v1::{PushRequest, PushResponse, SessionRequest, SessionResponse};
use prost::Message;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::by_hand;
use crate::certificates::{Authority, Pair};

/// The contract's limit for a message.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// A tap that listens.
#[derive(Debug)]
pub struct Tap {
    /// The port that stands for the control plane's.
    pub port: u16,
    heard: Heard,
    _tasks: JoinSet<()>,
}

/// Changes messages on their way. Streams of pushes have numbers.
pub trait Tamper: std::fmt::Debug + Send + Sync {
    /// What the agent says on a session.
    fn said(&self, _message: &mut SessionRequest) {}
    /// What it hears there.
    fn heard(&self, _message: &mut SessionResponse) {}
    /// What the agent says on a push.
    fn pushed(&self, _stream: u64, _message: &mut PushRequest) {}
    /// What it hears there.
    fn answered(&self, _stream: u64, _message: &mut PushResponse) {}
    /// Until when that, and all behind it, is held back; at once when absent.
    fn held_until(&self, _stream: u64, _message: &PushResponse) -> Option<Instant> {
        None
    }
}

/// Changes nothing.
#[derive(Debug)]
struct Faithful;

impl Tamper for Faithful {}

/// One of the four ways to change a message.
struct Change<T> {
    tamper: Arc<dyn Tamper>,
    stream: u64,
    how: fn(&dyn Tamper, u64, &mut T),
}

#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Tap {
    /// Before the control plane on this port, where it passes for the agent `one`. Agents need no certificate here.
    pub async fn before(port: u16, authority: &Authority) -> Self {
        Self::tampering(port, authority, Arc::new(Faithful)).await
    }

    /// As [`Tap::before`], and what it hands on is changed.
    pub async fn tampering(port: u16, authority: &Authority, tamper: Arc<dyn Tamper>) -> Self {
        let upstream = by_hand::connect(port, authority, &authority.agent("one")).await;
        let heard = Heard::default();
        let service =
            RunnerServiceServer::new(Service { upstream, heard: heard.clone(), tamper, streams: AtomicU64::new(0) })
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE)
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Zstd);
        let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let inner_port = inner.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(inner)).await.unwrap();
        });
        let outer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let outer_port = outer.local_addr().unwrap().port();
        let acceptor = acceptor(&authority.server());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = outer.accept().await.unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(mut outer) = acceptor.accept(stream).await else { return };
                    let mut inner = TcpStream::connect((Ipv4Addr::LOCALHOST, inner_port)).await.unwrap();
                    // One side hangs up.
                    drop(tokio::io::copy_bidirectional(&mut outer, &mut inner).await);
                });
            }
        });
        Self { port: outer_port, heard, _tasks: tasks }
    }

    /// Every message so far, both ways, as it is encoded, and the ends of streams in words.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        self.heard.0.lock().unwrap().clone()
    }
}

fn acceptor(pair: &Pair) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

impl Heard {
    fn note(&self, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap();
        heard.extend_from_slice(bytes);
        // A value does not come together from two messages.
        heard.push(b'\n');
    }

    fn said<T: Message + 'static>(
        &self,
        messages: Streaming<T>,
        change: Change<T>,
    ) -> impl Stream<Item = T> + Send + 'static {
        let heard = self.clone();
        let said = messages.take_while(|message| ready(message.is_ok())).filter_map(|message| ready(message.ok()));
        said.map(move |mut said| {
            heard.note(&said.encode_to_vec());
            (change.how)(&*change.tamper, change.stream, &mut said);
            said
        })
    }

    fn answered<T: Message + 'static>(&self, messages: Streaming<T>, change: Change<T>) -> Answers<T> {
        let heard = self.clone();
        Box::pin(messages.map(move |mut answer| {
            match &mut answer {
                Ok(message) => {
                    heard.note(&message.encode_to_vec());
                    (change.how)(&*change.tamper, change.stream, message);
                }
                Err(status) => heard.note(format!("{status:?}").as_bytes()),
            }
            answer
        }))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug)]
struct Service {
    upstream: Channel,
    heard: Heard,
    tamper: Arc<dyn Tamper>,
    streams: AtomicU64,
}

impl Service {
    fn change<T>(&self, stream: u64, how: fn(&dyn Tamper, u64, &mut T)) -> Change<T> {
        Change { tamper: Arc::clone(&self.tamper), stream, how }
    }

    fn client(&self) -> RunnerServiceClient<Channel> {
        RunnerServiceClient::new(self.upstream.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

#[tonic::async_trait]
impl RunnerService for Service {
    type SessionStream = Answers<SessionResponse>;
    type PushStream = Answers<PushResponse>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let said = self.heard.said(request.into_inner(), self.change(0, |tamper, _, message| tamper.said(message)));
        let answers = self.client().session(said).await?.into_inner();
        Ok(Response::new(self.heard.answered(answers, self.change(0, |tamper, _, message| tamper.heard(message)))))
    }

    async fn push(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        let change = self.change(stream, |tamper, stream, message| tamper.pushed(stream, message));
        let pushed = self.heard.said(request.into_inner(), change);
        let answers = self.client().push(pushed).await?.into_inner();
        let change = self.change(stream, |tamper, stream, message| tamper.answered(stream, message));
        let tamper = Arc::clone(&self.tamper);
        let held = self.heard.answered(answers, change).then(move |answer| {
            let until = answer.as_ref().ok().and_then(|message| tamper.held_until(stream, message));
            async move {
                if let Some(until) = until {
                    sleep_until(until).await;
                }
                answer
            }
        });
        Ok(Response::new(Box::pin(held)))
    }
}
