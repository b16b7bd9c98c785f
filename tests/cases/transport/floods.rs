//! A control plane that floods a session which has begun, in frames that its agent has to answer, and reads the answers:
//! nothing is too large and nothing waits, so no limit of HTTP/2 is met.

use std::net::Ipv4Addr;
use std::time::Duration;

use hybrid_runner_proto::v1::{self, SessionResponse, session_response};
use hybrid_runner_tests::agent_files::AgentFiles;
use hybrid_runner_tests::bench::mebibytes;
use hybrid_runner_tests::processes::program;
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::World;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use super::{HEADERS, PING, PREFACE, SETTINGS, acceptor, frame};

const DATA: u8 = 0;

/// Flags of HEADERS and of an answer to PING or SETTINGS.
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The agent waits a third of the time to live for the answer to a heartbeat.
const TTL: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_millis(300);

/// What a flood may cost the agent, in MiB: less than one of its windows.
const MOST: f64 = 8.0;

/// Answers of an agent that was flooded for a second; an undisturbed session has one or two.
const FLOODED: u64 = 1_000;

#[tokio::test]
async fn an_agent_that_is_flooded_with_what_it_must_answer_ends_the_session_and_its_memory_stays() {
    let program = program("hybrid-runner");
    let world = World::new().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let files = AgentFiles::of(&world, "one", listener.local_addr().unwrap().port());
    let mut agent = files.start_as(&program, &[]);
    let acceptor = acceptor(&world.authority.server());
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[0, 4, 0, 1, 0, 0])] {
        let (stream, _) = within("the agent", listener.accept()).await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        within("the agent's call", welcome(&mut stream)).await;
        let before = mebibytes(agent.id(), "VmHWM");
        let seen = agent.log().len();
        let answers = within("the agent to hang up", flood(stream, kind, payload)).await;
        assert!(answers > FLOODED, "{answers} answers to frames of kind {kind}");
        let ended = |log: &str| log[seen..].contains("no answer to a heartbeat in time").then_some(());
        agent.until("the reason", ended).await;
        let more = mebibytes(agent.id(), "VmHWM") - before;
        assert!(more < MOST, "{answers} answers to frames of kind {kind} took {more} MiB");
    }

    // It comes again, and this time it is served.
    let (mut near, _) = within("the agent", listener.accept()).await.unwrap();
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, world.port)).await.unwrap();
    let served = async {
        agent.until("the definition", |log| log.contains("definition accepted").then_some(())).await;
        assert_eq!(agent.log().matches("trying again").count(), 2, "{}", agent.log());
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => panic!("the agent hung up:\n{}", agent.log()),
        () = served => {}
    }
    agent.kill().await;
    world.stop().await;
}

/// Plays the control plane until the session has begun.
async fn welcome(stream: &mut TlsStream<TcpStream>) {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.unwrap();
    assert_eq!(preface, PREFACE);
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    while next(stream).await.unwrap().0 != HEADERS {}
    // `:status: 200`, and `content-type` from the static table (RFC 7541, 31), without indexing.
    let headers = [&[0x88, 0x0f, 0x10, 16][..], b"application/grpc"].concat();
    let duration = |time: Duration| Some(time.try_into().unwrap());
    let welcome = v1::Welcome {
        protocol: 1,
        control_plane_version: "flooding/1".to_owned(),
        heartbeat_interval: duration(HEARTBEAT),
        lease_ttl: duration(TTL),
        ..v1::Welcome::default()
    };
    let message = SessionResponse { message: Some(session_response::Message::Welcome(welcome)) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let data = [&[0][..], &length, &message].concat();
    let answer = [frame(HEADERS, END_HEADERS, 1, &headers), frame(DATA, 0, 1, &data)].concat();
    stream.write_all(&answer).await.unwrap();
}

/// Floods until the other side hangs up; how many answers it gave.
async fn flood(stream: TlsStream<TcpStream>, kind: u8, payload: &[u8]) -> u64 {
    let piece = frame(kind, 0, 0, payload).repeat(100);
    let (mut reading, mut writing) = split(stream);
    let write = async { while writing.write_all(&piece).await.is_ok() {} };
    let read = async {
        let mut answers = 0;
        while let Some((heard, flags)) = next(&mut reading).await {
            answers += u64::from(heard == kind && flags & ACK != 0);
        }
        answers
    };
    futures_util::future::join(write, read).await.1
}

/// Kind and flags of the next frame; none at the end.
async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u8)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    Some((head[3], head[4]))
}
