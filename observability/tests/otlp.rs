//! Spans on their way to collectors that take them, refuse them, hang, or are not there.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hybrid_runner_observability::{TraceContext, Traces};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt as _;

/// Exports taken by a collector, each with the credential that it was shown.
type Taken = mpsc::Receiver<(ExportTraceServiceRequest, String)>;

struct Grpc(mpsc::Sender<(ExportTraceServiceRequest, String)>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send((request.into_inner(), String::new())).await.unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn grpc(tasks: &mut JoinSet<()>) -> (SocketAddr, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, taken) = mpsc::channel(16);
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Grpc(sender)));
    tasks.spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
    (address, taken)
}

/// Takes one POST of protobuf a connection.
async fn http(tasks: &mut JoinSet<()>) -> (SocketAddr, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, taken) = mpsc::channel(16);
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            let (head, body) = loop {
                assert!(stream.read_buf(&mut received).await.unwrap() > 0, "the request breaks off");
                let text = String::from_utf8_lossy(&received).into_owned();
                let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
                let head = head.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                let length: usize = length.parse().unwrap();
                if let Some(body) = received.get(head.len() + 4..head.len() + 4 + length) {
                    break (head, body.to_vec());
                }
            };
            assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
            assert!(head.contains("content-type: application/x-protobuf"), "{head}");
            let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            sender.send((request, head)).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        }
    });
    (address, taken)
}

fn start(address: SocketAddr, protocol: &str) -> Traces {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (endpoint, protocol) = (format!("http://{address}"), protocol.to_owned());
    let environment = move |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.clone()),
        _ => None,
    };
    let scrub = |text: String| text.replace("hunter2", "[redacted]");
    Traces::start("of-the-test", "1.2.3", &environment, scrub).unwrap().unwrap()
}

async fn shut_down(traces: Traces) {
    tokio::task::spawn_blocking(move || traces.shutdown()).await.unwrap();
}

fn text(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_trace_arrives_over_both_transports_with_its_parents_and_without_what_is_secret() {
    for protocol in ["grpc", "http/protobuf"] {
        let mut tasks = JoinSet::new();
        let (address, mut taken) = if protocol == "grpc" { grpc(&mut tasks).await } else { http(&mut tasks).await };
        let traces = start(address, protocol);
        let roots = traces.roots();
        let id = 0x0192_f0a1_b2c3_7d4e_8f50_6172_8394_a5b6_u128.to_be_bytes();
        let root = roots.context(id, "root").unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(traces.layer()), || {
            let child = info_span!(target: "otel", "child", said = "it said hunter2");
            root.adopt(&child);
            let handed_on: TraceContext = TraceContext::of(&child).unwrap().to_string().parse().unwrap();
            child.in_scope(|| drop(info_span!(target: "elsewhere", "not traced")));
            let grandchild = info_span!(target: "otel", "grandchild");
            handed_on.adopt(&grandchild);
        });
        let (from, to) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(5));
        roots.ended(id, "root", (from, to), vec![("reason", "hunter2".to_owned())], Some("hunter2!".to_owned()));
        shut_down(traces).await;
        let (request, _head) = timeout(Duration::from_secs(20), taken.recv()).await.unwrap().unwrap();
        let of_resource = &request.resource_spans[0];
        let resource = of_resource.resource.as_ref().unwrap();
        assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("of-the-test"));
        let spans: Vec<&Span> = of_resource.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
        let named = |name: &str| *spans.iter().find(|span| span.name == name).expect(name);
        let (root, child, grandchild) = (named("root"), named("child"), named("grandchild"));
        assert_eq!(spans.len(), 3, "{spans:?}");
        assert!(spans.iter().all(|span| span.trace_id == id), "{spans:?}");
        assert_eq!((root.parent_span_id.as_slice(), root.span_id.as_slice()), (&[][..], &id[8..]));
        assert_eq!((&child.parent_span_id, &grandchild.parent_span_id), (&root.span_id, &child.span_id));
        assert_eq!(root.end_time_unix_nano - root.start_time_unix_nano, 5_000_000_000);
        assert_eq!(text(&child.attributes, "said").as_deref(), Some("it said [redacted]"));
        assert_eq!(root.status.as_ref().unwrap().message, "[redacted]!");
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_hangs_costs_spans_and_no_time() {
    // It accepts, in the kernel, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for protocol in ["grpc", "http/protobuf"] {
        let traces = start(listener.local_addr().unwrap(), protocol);
        let began = Instant::now();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(traces.layer()), || {
            // Ten times what may wait.
            (0..20_480).for_each(|number| drop(info_span!(target: "otel", "one of many", number)));
        });
        // Microseconds each; waiting for the collector once would take its whole time-out of 10 s.
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let began = Instant::now();
        shut_down(traces).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_is_not_there_is_named_once_in_the_log() {
    let address = {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gone.local_addr().unwrap()
    };
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // For all threads: the exporter has one of its own.
    tracing::subscriber::set_global_default(log).unwrap();
    let traces = start(address, "http/protobuf");
    let roots = traces.roots();
    for id in 1..=1_200_u128 {
        let times = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        roots.ended(id.to_be_bytes(), "root", times, Vec::new(), None);
    }
    shut_down(traces).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("traces cannot be exported").count(), 1, "{text}");
}

/// What is logged, shared.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
