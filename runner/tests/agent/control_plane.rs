//! A control plane that does what a test tells it: real gRPC over real TLS, written from the proto alone.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hybrid_runner::{ControlPlane, Identity, Pem};
use hybrid_runner_proto::v1;
use hybrid_runner_proto::v1::runner_service_server::{RunnerService, RunnerServiceServer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use v1::push_request::Message as Pushed;
pub(crate) use v1::push_response::Message as Answer;
pub(crate) use v1::session_request::Message as Said;
pub(crate) use v1::session_response::Message as Reply;

/// No step of a test takes longer; only a broken one waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate authority, and what it signed.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key.
    pub(crate) fn sign(&self, names: &[&str], is_expired: bool) -> (String, String) {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        if is_expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A running control plane. Its streams go to the test.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) authority: Authority,
    sessions: mpsc::Receiver<SessionSide>,
    pushes: mpsc::Receiver<PushSide>,
    _tasks: JoinSet<()>,
}

struct Service {
    sessions: mpsc::Sender<SessionSide>,
    pushes: mpsc::Sender<PushSide>,
}

/// A session, from the control plane's side. Heartbeats are answered by themselves.
pub(crate) struct SessionSide {
    pub(crate) authorization: Option<String>,
    said: mpsc::Receiver<Said>,
    replies: mpsc::Sender<Result<v1::SessionResponse, Status>>,
    /// Whether heartbeats are answered at all, and whether they renew.
    pub(crate) answers: Arc<AtomicBool>,
    pub(crate) renews: Arc<AtomicBool>,
    _reader: JoinSet<()>,
}

/// A push stream, from the control plane's side.
pub(crate) struct PushSide {
    pub(crate) encoding: Option<String>,
    pushed: Streaming<v1::PushRequest>,
    answers: mpsc::Sender<Result<v1::PushResponse, Status>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Authority::new("control plane"), None).await
    }

    /// With `clients`, only agents with a certificate of that authority.
    pub(crate) async fn with(authority: Authority, clients: Option<&Authority>) -> Self {
        let (certificate, key) = authority.sign(&["localhost"], false);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
                )
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sessions_out, sessions) = mpsc::channel(8);
        let (pushes_out, pushes) = mpsc::channel(8);
        let service = RunnerServiceServer::new(Service { sessions: sessions_out, pushes: pushes_out })
            .max_decoding_message_size(4 << 20)
            .accept_compressed(CompressionEncoding::Zstd);
        let (streams, incoming) = mpsc::channel(8);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), streams));
        tasks.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(ReceiverStream::new(incoming))
                .await
                .unwrap();
        });
        Self { port, authority, sessions, pushes, _tasks: tasks }
    }

    /// How an agent reaches it.
    pub(crate) fn address(&self, identity: Identity) -> ControlPlane {
        let ca = Some(pem(&self.authority.pem()));
        ControlPlane { host: "localhost".to_owned(), port: self.port, ca, identity, proxy: None }
    }

    pub(crate) async fn session(&mut self) -> SessionSide {
        within(self.sessions.recv()).await.unwrap()
    }

    pub(crate) async fn push(&mut self) -> PushSide {
        within(self.pushes.recv()).await.unwrap()
    }
}

pub(crate) fn pem(text: &str) -> Pem {
    Pem::Inline(Arc::from(text.as_bytes()))
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("the agent does the next step")
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, streams: mpsc::Sender<std::io::Result<Tls>>) {
    let mut handshakes = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let (acceptor, streams) = (acceptor.clone(), streams.clone());
        handshakes.spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(streams.send(Ok(Tls(stream))).await);
            }
        });
    }
}

#[tonic::async_trait]
impl RunnerService for Service {
    type SessionStream = ReceiverStream<Result<v1::SessionResponse, Status>>;
    type PushStream = ReceiverStream<Result<v1::PushResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let header = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        if header.as_deref() == Some("Bearer unknown") {
            return Err(Status::unauthenticated("no such token"));
        }
        let (replies, responses) = mpsc::channel(64);
        let (out, said) = mpsc::channel(64);
        let (answers, renews) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let mut reader = JoinSet::new();
        reader.spawn(read(request.into_inner(), out, replies.clone(), answers.clone(), renews.clone()));
        let side = SessionSide { authorization: header, said, replies, answers, renews, _reader: reader };
        self.sessions.send(side).await.map_err(|_over| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn push(&self, request: Request<Streaming<v1::PushRequest>>) -> Result<Response<Self::PushStream>, Status> {
        let encoding = request.metadata().get("grpc-encoding").map(|value| value.to_str().unwrap().to_owned());
        let (answers, responses) = mpsc::channel(64);
        let side = PushSide { encoding, pushed: request.into_inner(), answers };
        self.pushes.send(side).await.map_err(|_over| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

async fn read(
    mut stream: Streaming<v1::SessionRequest>,
    out: mpsc::Sender<Said>,
    replies: mpsc::Sender<Result<v1::SessionResponse, Status>>,
    answers: Arc<AtomicBool>,
    renews: Arc<AtomicBool>,
) {
    while let Ok(Some(message)) = stream.message().await {
        match message.message.expect("a message has content") {
            Said::Heartbeat(beat) => {
                if answers.load(Relaxed) {
                    let runs = beat.renewals.into_iter().map(|renewal| renewal.token.unwrap().run_id);
                    let renewed_run_ids = if renews.load(Relaxed) { runs.collect() } else { Vec::new() };
                    let ack = Reply::HeartbeatAck(v1::HeartbeatAck { id: beat.id, renewed_run_ids });
                    drop(replies.send(Ok(v1::SessionResponse { message: Some(ack) })).await);
                }
            }
            other => drop(out.send(other).await),
        }
    }
}

impl SessionSide {
    /// The next message that is no heartbeat.
    pub(crate) async fn next(&mut self) -> Said {
        within(self.said.recv()).await.expect("the session lives")
    }

    pub(crate) async fn reply(&self, message: Reply) {
        self.replies.send(Ok(v1::SessionResponse { message: Some(message) })).await.unwrap();
    }

    /// False: the agent has left.
    pub(crate) async fn try_reply(&self, message: Reply) -> bool {
        within(self.replies.send(Ok(v1::SessionResponse { message: Some(message) }))).await.is_ok()
    }

    /// Ends the stream with a status.
    pub(crate) async fn refuse(self, status: Status) {
        self.replies.send(Err(status)).await.unwrap();
    }

    pub(crate) async fn hello(&mut self) -> v1::Hello {
        match self.next().await {
            Said::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn status(&mut self) -> v1::DefinitionStatus {
        match self.next().await {
            Said::DefinitionStatus(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a connection test.
    pub(crate) async fn test(&self, request_id: &str, workflow_json: &str, timeout_ms: u64) {
        self.reply(Reply::TestConnection(v1::TestConnection {
            request_id: request_id.to_owned(),
            workflow_json: workflow_json.to_owned(),
            timeout: milliseconds(timeout_ms),
        }))
        .await;
    }

    /// The next answer to a connection test, whatever else comes before.
    pub(crate) async fn tested(&mut self) -> v1::TestConnectionResult {
        loop {
            if let Said::TestConnectionResult(result) = self.next().await {
                return result;
            }
        }
    }

    /// The next release, whatever else comes before.
    pub(crate) async fn release(&mut self) -> v1::Release {
        loop {
            if let Said::Release(release) = self.next().await {
                return release;
            }
        }
    }

    /// The next request for slots, whatever else comes before.
    pub(crate) async fn slots(&mut self) -> u32 {
        loop {
            if let Said::LeaseRequest(request) = self.next().await {
                return request.slots;
            }
        }
    }

    /// Hello, Welcome.
    pub(crate) async fn welcome(&mut self, interval_ms: u64, ttl_ms: u64) -> v1::Hello {
        self.welcome_with(&["zstd", "memos"], interval_ms, ttl_ms).await
    }

    pub(crate) async fn welcome_with(&mut self, listed: &[&str], interval_ms: u64, ttl_ms: u64) -> v1::Hello {
        let hello = self.hello().await;
        self.reply(Reply::Welcome(v1::Welcome {
            protocol: 1,
            control_plane_version: "scripted/1".to_owned(),
            capabilities: listed.iter().map(|name| (*name).to_owned()).collect(),
            heartbeat_interval: milliseconds(interval_ms),
            lease_ttl: milliseconds(ttl_ms),
            resumed_run_ids: hello.held.iter().map(|held| held.token.clone().unwrap().run_id).collect(),
        }))
        .await;
        hello
    }

    /// Definition, its acceptance, and the slots asked for.
    pub(crate) async fn define(&mut self, pipeline: &str) {
        self.reply(Reply::Definition(v1::Definition {
            pipeline: pipeline.to_owned(),
            version: 1,
            workflow_json: WORKFLOW.to_owned(),
            last_run: None,
        }))
        .await;
        loop {
            if let Said::DefinitionStatus(status) = self.next().await {
                assert!(status.accepted, "{status:?}");
                return;
            }
        }
    }

    /// The next word that the agent leaves, whatever else comes before.
    pub(crate) async fn draining(&mut self) -> v1::Draining {
        loop {
            if let Said::Draining(draining) = self.next().await {
                return draining;
            }
        }
    }

    pub(crate) async fn grant(&self, run: &str, pipeline: &str) {
        self.reply(Reply::Grant(grant(run, pipeline))).await;
    }
}

/// A workflow that every version of OpenMetadata would take.
pub(crate) const WORKFLOW: &str = r#"{"source": {"type": "salesforce", "serviceName": "sf",
    "serviceConnection": {"config": {"type": "Salesforce"}},
    "sourceConfig": {"config": {"type": "DatabaseMetadata"}}}}"#;

pub(crate) fn grant(run: &str, pipeline: &str) -> v1::Grant {
    v1::Grant {
        token: Some(token(run)),
        pipeline: pipeline.to_owned(),
        definition_version: 1,
        attempt: 1,
        start_timeout: milliseconds(20_000),
        run_timeout: milliseconds(60_000),
        full: false,
        checkpoint: None,
        traceparent: String::new(),
    }
}

pub(crate) fn token(run: &str) -> v1::WriteToken {
    v1::WriteToken { run_id: run.to_owned(), fence: 7, lease_id: vec![9; 16].into() }
}

/// The position of a source that is at this checkpoint before record `seq`, by the words of session.proto.
pub(crate) fn position(seq: u64, checkpoint: &str) -> bytes::Bytes {
    [&seq.to_be_bytes(), checkpoint.as_bytes()].concat().into()
}

pub(crate) fn milliseconds(ms: u64) -> Option<prost_types::Duration> {
    Some(Duration::from_millis(ms).try_into().unwrap())
}

impl PushSide {
    pub(crate) async fn next(&mut self) -> Option<Pushed> {
        within(self.pushed.message()).await.ok().flatten().map(|request| request.message.unwrap())
    }

    /// The next batch, with the token checked.
    pub(crate) async fn batch(&mut self) -> v1::Batch {
        match self.next().await {
            Some(Pushed::Batch(batch)) => {
                assert_eq!(batch.token.as_ref().unwrap().fence, 7);
                batch
            }
            other => panic!("{other:?}"),
        }
    }

    /// A batch, if one comes before this long.
    pub(crate) async fn batch_within(&mut self, wait: Duration) -> Option<v1::Batch> {
        let message = timeout(wait, self.pushed.message()).await.ok()?.unwrap()?;
        match message.message {
            Some(Pushed::Batch(batch)) => Some(batch),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn eof(&mut self) -> v1::Eof {
        match self.next().await {
            Some(Pushed::Eof(eof)) => eof,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn answer(&self, message: Answer) {
        self.answers.send(Ok(v1::PushResponse { message: Some(message) })).await.unwrap();
    }

    /// False: the agent has left.
    pub(crate) async fn try_answer(&self, message: Answer) -> bool {
        within(self.answers.send(Ok(v1::PushResponse { message: Some(message) }))).await.is_ok()
    }

    /// Open, Opened, and a baseline that the test goes on with.
    pub(crate) async fn opened_with_baseline(&mut self) {
        assert!(matches!(self.next().await, Some(Pushed::Open(_))));
        self.answer(Answer::Opened(v1::Opened {
            digest: vec![0; 32].into(),
            max_unacked_bytes: 8 << 20,
            baseline_follows: true,
            ..v1::Opened::default()
        }))
        .await;
    }

    pub(crate) async fn ack(&self, next_seq: u64) {
        self.answer(Answer::Ack(v1::Ack { next_seq })).await;
    }

    pub(crate) async fn break_off(self) {
        self.refuse(Status::unavailable("restarting")).await;
    }

    pub(crate) async fn refuse(self, status: Status) {
        self.answers.send(Err(status)).await.unwrap();
    }

    /// Open, Opened, baseline.
    pub(crate) async fn open(&mut self, next_seq: u64, digest: [u8; 32], limit: u32, baseline: Vec<v1::BaselineEntry>) {
        self.open_at(next_seq, digest, bytes::Bytes::new(), limit, baseline).await;
    }

    /// As [`PushSide::open`], with the source position of the last durable batch.
    pub(crate) async fn open_at(
        &mut self,
        next_seq: u64,
        digest: [u8; 32],
        source_position: bytes::Bytes,
        limit: u32,
        baseline: Vec<v1::BaselineEntry>,
    ) {
        match self.next().await {
            Some(Pushed::Open(open)) => assert_eq!(open.token.unwrap().lease_id.as_ref(), [9; 16]),
            other => panic!("{other:?}"),
        }
        self.answer(Answer::Opened(v1::Opened {
            next_seq,
            digest: digest.to_vec().into(),
            source_position,
            max_unacked_bytes: limit,
            baseline_follows: !baseline.is_empty(),
        }))
        .await;
        // A page for each, to see that the agent waits for the last one.
        let pages = baseline.len();
        for (index, entry) in baseline.into_iter().enumerate() {
            self.answer(Answer::Baseline(v1::Baseline { entries: vec![entry], last: index + 1 == pages })).await;
        }
    }

    /// Takes batches, each acked, until `Eof`; commits it. The records in order, and the `Eof`.
    pub(crate) async fn take_all(&mut self, mut next_seq: u64) -> (Vec<v1::Record>, v1::Eof) {
        let mut records = Vec::new();
        loop {
            match self.next().await.expect("the stream lives until it is committed") {
                Pushed::Batch(batch) => {
                    assert_eq!(batch.records[0].seq, next_seq);
                    next_seq += batch.records.len() as u64;
                    records.extend(batch.records);
                    self.ack(next_seq).await;
                }
                Pushed::Eof(eof) => {
                    self.commit(&eof).await;
                    return (records, eof);
                }
                Pushed::Open(open) => panic!("{open:?}"),
            }
        }
    }

    pub(crate) async fn commit(&self, eof: &v1::Eof) {
        self.answer(Answer::Committed(v1::Committed {
            count: eof.count,
            digest: eof.digest.clone(),
            entities: eof.count,
            columns: 42,
            changed: eof.count,
            unchanged: 0,
            deleted: 0,
            deletions: v1::Deletions::None.into(),
            dangling_foreign_keys: 0,
        }))
        .await;
    }
}

/// The digest of the contract, computed here independently.
pub(crate) fn digest<'a>(records: impl IntoIterator<Item = &'a v1::Record>) -> [u8; 32] {
    records.into_iter().fold([0; 32], |digest, record| {
        let mut bytes = digest.to_vec();
        bytes.extend(record.seq.to_be_bytes());
        bytes.extend(u32::try_from(record.kind.len()).unwrap().to_be_bytes());
        bytes.extend(record.kind.as_bytes());
        bytes.extend(u32::try_from(record.fqn.len()).unwrap().to_be_bytes());
        bytes.extend(record.fqn.as_bytes());
        bytes.extend(record.content_hash.as_ref());
        blake3::hash(&bytes).into()
    })
}

/// tonic wants to know what a connection is; a test does not.
struct Tls(TlsStream<TcpStream>);

impl Connected for Tls {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Tls {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
