//! A strict collector: it takes OTLP over gRPC and fails when a span is not as it should be.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A span, as far as the cases look at it; ids in hex, times in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty: the first one of its trace.
    pub(super) parent: String,
    pub(super) start: u64,
    pub(super) end: u64,
    attributes: Vec<(String, String)>,
}

impl Span {
    pub(super) fn attribute(&self, key: &str) -> &str {
        let found = self.attributes.iter().find(|(name, _)| name == key);
        found.map_or_else(|| panic!("{key} is not an attribute of {self:?}"), |(_, value)| value)
    }
}

type Taken = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

struct Service(Taken);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector that runs.
pub(super) struct Collector {
    port: u16,
    taken: Taken,
    _task: JoinSet<()>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, taken) = (listener.local_addr().unwrap().port(), Taken::default());
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Service(taken.clone())));
        let mut task = JoinSet::new();
        task.spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        Self { port, taken, _task: task }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was taken so far, checked.
    pub(super) fn spans(&self) -> Vec<Span> {
        let taken = self.taken.lock().unwrap();
        let of_resource = taken.iter().flat_map(|request| &request.resource_spans);
        let mut spans = Vec::new();
        for of_resource in of_resource {
            let resource = of_resource.resource.as_ref().expect("a resource");
            let service = text(&resource.attributes).into_iter().find(|(key, _)| key == "service.name");
            let (_, service) = service.expect("a service's name");
            for span in of_resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8), "{span:?}");
                assert!(span.trace_id.iter().any(|byte| *byte != 0) && span.span_id.iter().any(|byte| *byte != 0));
                assert!(matches!(span.parent_span_id.len(), 0 | 8), "{span:?}");
                assert!(!span.name.is_empty() && span.kind != 0, "{span:?}");
                assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
                assert!(span.events.is_empty(), "lines of the log are no part of a span: {span:?}");
                spans.push(Span {
                    service: service.clone(),
                    name: span.name.clone(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    attributes: text(&span.attributes),
                });
            }
        }
        spans
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let value = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), value(&attribute.value))).collect()
}
