//! What the wire between agent and control plane bears: old connections, slow links, floods.

mod clock;
mod floods;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use control_plane::store::RunState;
use hybrid_runner::{Agent, AgentEvent, Connectors, Identity};
use hybrid_runner_connector::{
    Checkpoint, Entity, EntitySink, Extraction, Report, SecretUse, Source, SourceError, Step, Summary,
};
use hybrid_runner_secrets::Resolver;
use hybrid_runner_tests::by_hand::{self, Session};
use hybrid_runner_tests::certificates::{Authority, Pair};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, Setup, World};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sandbox::FaultPlan;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[tokio::test]
async fn a_run_outlives_connections_that_are_told_to_go() {
    let _logs = Logs::capture().expecting("upload broke").expecting("no session with the control plane");
    let setup = Setup {
        faults: FaultPlan { latency: Duration::from_millis(800), ..FaultPlan::default() },
        max_connection_age: Some(Duration::from_millis(900)),
        ..Setup::default()
    };
    let world = World::with(setup).await;
    let mut agent = world.start_agent();
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let mut sessions = 0;
    let mut ended = Box::pin(world.plane.run_ended(run_id));
    let run = within("the run's end", async {
        loop {
            tokio::select! {
                run = &mut ended => return run.unwrap(),
                event = agent.events.recv() => {
                    sessions += u32::from(matches!(event.unwrap(), AgentEvent::Connected { .. }));
                }
            }
        }
    })
    .await;
    assert_eq!((run.state, run.attempt), (RunState::Committed, 1), "{run:?}");
    assert!(sessions >= 3, "{sessions} sessions");
    agent.kill().await;
    drop(ended);
    world.stop().await;
}

/// As much as fills the link for seconds, as fast as it is taken.
#[derive(Debug, Clone)]
struct Bulk {
    entities: u32,
}

impl Bulk {
    const SIZE: usize = 16 * 1024;

    /// Bytes that no compression makes smaller.
    fn body(seed: u32) -> Bytes {
        let mut noise = vec![0; Self::SIZE];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
        let hex: String = noise.iter().map(|byte| char::from(b'0' + byte % 64)).filter(|c| *c != '\\').collect();
        Bytes::from(format!("{{\"noise\":\"{hex}\"}}"))
    }
}

#[async_trait]
impl Source for Bulk {
    async fn extract(&self, _: Extraction, sink: &mut dyn EntitySink) -> Result<Report, SourceError> {
        for number in 0..self.entities {
            let entity = Entity::new("table", format!("crm.default.salesforce.t{number}"), Self::body(number));
            sink.emit(vec![entity], Checkpoint::default()).await.map_err(|closed| {
                SourceError::caused(hybrid_runner_connector::Reason::SinkClosed, "the upload ended", closed)
            })?;
        }
        let (failures, gone, advice) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Report { complete: true, failures, gone, advice, summary: Summary::default() })
    }

    fn secrets(&self) -> Vec<SecretUse> {
        Vec::new()
    }

    async fn test_connection(&self, _: Arc<Resolver>) -> Vec<Step> {
        Vec::new()
    }
}

/// Hands on at most so many bytes a second each way, from the agent's port to the control plane's.
fn slow_link(port: u16, bytes_a_second: usize) -> (u16, JoinSet<()>) {
    // What a router keeps for a link, not the megabytes that this machine would buffer for a slow reader. Twice what a
    // segment of the loopback has, or it would stall.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(160 * 1024).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(8).unwrap();
    let own = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut links = JoinSet::new();
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            links.spawn(drip(near_in, far_out, bytes_a_second));
            links.spawn(drip(far_in, near_out, bytes_a_second));
        }
    });
    (own, tasks)
}

async fn drip(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, bytes_a_second: usize) {
    const TICKS: usize = 50;
    let mut part = vec![0; bytes_a_second / TICKS];
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(TICKS).unwrap());
    loop {
        ticks.tick().await;
        match from.read(&mut part).await {
            Ok(read @ 1..) if to.write_all(&part[..read]).await.is_ok() => {}
            _ => return,
        }
    }
}

#[tokio::test]
async fn heartbeats_are_answered_in_time_while_a_push_fills_a_slow_link() {
    let _logs = Logs::capture();
    let lease = Some((Duration::from_secs(5), Duration::from_secs(1)));
    let world = World::with(Setup { lease, ..Setup::default() }).await;
    // What is left of 6 MiB after compression takes six seconds, in which the lease is renewed several times.
    let (port, _link) = slow_link(world.port, 768 * 1024);
    let mut config = world.agent_config("one");
    config.control_plane.port = port;
    let connectors = Connectors::new(config.salesforce.clone())
        .with("salesforce", |_| Ok(Arc::new(Bulk { entities: 400 }) as Arc<dyn Source>));
    let mut agent = RunningAgent::of(Agent::with_connectors(config, connectors));
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let begun = tokio::time::Instant::now();
    let run = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!((run.state, run.attempt), (RunState::Committed, 1), "{run:?}");
    assert!(begun.elapsed() > Duration::from_secs(5), "the link was full for longer than a lease lasts");
    while let Ok(event) = agent.events.try_recv() {
        assert!(!matches!(event, AgentEvent::Disconnected { .. }), "{event:?}");
    }
    agent.stop().await;
    world.stop().await;
}

/// Waits until the control plane shows a certificate.
async fn shown_until(world: &World, pair: &Pair) {
    let wanted = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    within("the new certificate", async {
        loop {
            ticks.tick().await;
            let stream = raw(world.port, &world.authority, &world.authority.agent("two")).await;
            if stream.get_ref().1.peer_certificates().unwrap().first() == Some(&wanted) {
                return;
            }
        }
    })
    .await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 §6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A call, its header fields without indexing, in one HEADERS frame that ends neither stream nor header block.
fn call(more: &[u8]) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    let path = "/hybrid.runner.v1.RunnerService/Session";
    let fields = [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "localhost")];
    let mut block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    block.extend_from_slice(more);
    block
}

/// A header field of 100 bytes.
fn padding() -> Vec<u8> {
    [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat()
}

/// The bare connection of an agent.
async fn raw(port: u16, authority: &Authority, pair: &Pair) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    stream
}

/// Writes until the other side ends the connection or takes nothing more; how many bytes it took.
async fn flood(stream: &mut (impl AsyncWrite + Unpin), piece: &[u8], most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        let write = tokio::time::timeout(Duration::from_millis(500), stream.write_all(piece)).await;
        if !matches!(write, Ok(Ok(()))) {
            break;
        }
        taken += piece.len();
    }
    taken
}

/// The kinds of frames that came until the connection's end.
async fn heard(stream: &mut TlsStream<TcpStream>) -> BTreeSet<u8> {
    let mut kinds = BTreeSet::new();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        kinds.insert(head[3]);
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if stream.read_exact(&mut vec![0; length]).await.is_err() {
            break;
        }
    }
    kinds
}

#[tokio::test]
async fn floods_of_one_agent_are_bounded_and_another_one_is_served_meanwhile() {
    const MOST: usize = 64 * 1024 * 1024;
    let world = World::new().await;
    let pair = world.authority.agent("two");
    let channel = by_hand::connect(world.port, &world.authority, &world.authority.agent("one")).await;
    let (mut session, _) = Session::hello(&channel).await;

    // Pings and settings whose answers nobody reads: the server stops reading.
    for piece in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])] {
        let mut stream = raw(world.port, &world.authority, &pair).await;
        let taken = flood(&mut stream, &piece.repeat(1_000), MOST).await;
        assert!(taken < MOST, "{taken} bytes were taken");
        session.beat(&[]).await;
    }

    // A list of headers that does not end.
    let mut stream = raw(world.port, &world.authority, &pair).await;
    stream.write_all(&frame(HEADERS, 0, 1, &call(&[]))).await.unwrap();
    let taken = flood(&mut stream, &frame(CONTINUATION, 0, 1, &padding().repeat(100)), MOST).await;
    assert!(taken < MOST, "{taken} bytes were taken");
    session.beat(&[]).await;

    // Streams that are opened and reset at once.
    let mut stream = raw(world.port, &world.authority, &pair).await;
    let resets = (0..2_000_u32).flat_map(|number| {
        let stream = 2 * number + 1;
        [frame(HEADERS, 4, stream, &call(&[])), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    // The server may be gone before all of it is written.
    drop(stream.write_all(&resets.collect::<Vec<u8>>()).await);
    let kinds = within("the end of that connection", heard(&mut stream)).await;
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    session.beat(&[]).await;
    drop((session, channel));
    world.stop().await;
}

#[tokio::test]
async fn floods_of_a_control_plane_are_bounded_and_the_agent_goes_to_the_next_connection() {
    const MOST: usize = 64 * 1024 * 1024;
    let _logs = Logs::capture().expecting("no session with the control plane");
    let world = World::new().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut config = world.agent_config_as(Identity::Token(Arc::new(hybrid_runner::SecretValue::new("t".repeat(32)))));
    config.control_plane.port = listener.local_addr().unwrap().port();
    let agent = RunningAgent::start(config);
    let acceptor = acceptor(&world.authority.server());
    let accept = async || {
        let (stream, _) = within("the agent", listener.accept()).await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        stream
    };
    // An answer whose headers do not end.
    let mut stream = accept().await;
    stream.write_all(&frame(HEADERS, 0, 1, &[0x88])).await.unwrap();
    let taken = flood(&mut stream, &frame(CONTINUATION, 0, 1, &padding().repeat(100)), MOST).await;
    assert!(taken < MOST, "{taken} bytes were taken");
    // Pings whose answers nobody reads.
    let mut stream = accept().await;
    let taken = flood(&mut stream, &frame(PING, 0, 0, &[0; 8]).repeat(1_000), MOST).await;
    assert!(taken < MOST, "{taken} bytes were taken");
    drop(stream);
    accept().await;
    agent.kill().await;
    world.stop().await;
}

fn acceptor(pair: &Pair) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
