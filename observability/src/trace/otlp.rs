//! Spans on their way to a collector.
//!
//! **Limits.** Spans wait in a queue of 2,048 (`OTEL_BSP_MAX_QUEUE_SIZE`), are sent by a thread of their own, and each
//! batch has 10 s (`OTEL_EXPORTER_OTLP_TIMEOUT`). A full queue drops the newest: a collector that is slow or gone costs spans and
//! nothing else. What is left at the end has [`FAREWELL`].

mod exporter;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SamplingDecision, SdkTracerProvider, ShouldSample as _, Span as SdkSpan, SpanData,
    SpanProcessor,
};
use tokio::runtime::Runtime;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use self::exporter::Exporter;
use self::settings::Settings;
use super::{Environment, SPAN_TARGET, TraceContext, TracesError, is_asked_for};

/// How long the spans that are left at the end may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Traces on their way out. Dropped, it sends nothing more; end with [`Traces::shutdown`].
pub struct Traces {
    provider: SdkTracerProvider,
    roots: Roots,
    /// What the exporter's connections live on: one thread, so that neither waits for the other (an exporter on the
    /// program's own runtime deadlocks at the end when that has one thread).
    runtime: Runtime,
}

impl Traces {
    /// Begins to export what [`Traces::layer`] sees, as the `OTEL_*` variables say; `None` when they name no endpoint. Each
    /// text passes `scrub` before it leaves.
    ///
    /// # Errors
    /// [`TracesError`]: a variable is not accepted.
    pub fn start(
        service: &'static str,
        version: &'static str,
        environment: Environment<'_>,
        scrub: impl Fn(String) -> String + Send + Sync + 'static,
    ) -> Result<Option<Self>, TracesError> {
        if !is_asked_for(environment) {
            return Ok(None);
        }
        let settings = Settings::read(environment)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .map_err(|error| TracesError::Setup(Box::new(error)))?;
        let exporter = {
            // Connections are bound to the runtime that they are made under.
            let _entered = runtime.enter();
            Exporter::new(settings.exporter()?, runtime.handle().clone(), scrub)
        };
        let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", version));
        if environment("OTEL_SERVICE_NAME").is_none_or(|name| name.is_empty()) {
            resource = resource.with_service_name(service);
        }
        let resource = resource.build();
        let mut queue = BatchSpanProcessor::builder(exporter).build();
        queue.set_resource(&resource);
        let queue = Arc::new(queue);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Queue(Arc::clone(&queue)))
            .with_sampler(settings.sampler.clone())
            .with_resource(resource)
            .build();
        let scope = InstrumentationScope::builder(service).with_version(version).build();
        let roots = Roots(Some(Arc::new(Inner { queue, sampler: settings.sampler, scope })));
        Ok(Some(Self { provider, roots, runtime }))
    }

    /// What turns the spans of a subscriber into those of a trace: those of target [`SPAN_TARGET`], and no event.
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.provider.tracer_with_scope(InstrumentationScope::builder("tracing").build());
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == SPAN_TARGET))
    }

    /// Whoever makes the first span of a trace.
    #[must_use]
    pub fn roots(&self) -> Roots {
        self.roots.clone()
    }

    /// Sends what is left, for two seconds at most. It blocks: not to be called on a thread of a runtime.
    pub fn shutdown(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FAREWELL) {
            tracing::debug!(%error, "the last spans were not sent");
        }
        self.runtime.shutdown_background();
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces(..)")
    }
}

/// One queue for the spans of the provider and those of [`Roots`].
#[derive(Debug)]
struct Queue(Arc<BatchSpanProcessor>);

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
    // The resource was set before the queue was shared.
}

/// Makes the first spans of traces: those of runs, which begin before they are granted and end in whatever process sees
/// their end.
#[derive(Clone, Default)]
pub struct Roots(Option<Arc<Inner>>);

struct Inner {
    queue: Arc<BatchSpanProcessor>,
    sampler: Sampler,
    scope: InstrumentationScope,
}

impl Roots {
    /// The trace of something with this id; `None` while nothing is exported.
    #[must_use]
    pub fn context(&self, id: [u8; 16], name: &'static str) -> Option<TraceContext> {
        let inner = self.0.as_ref()?;
        // The same answer each time, in any process with these settings: it is made of the id.
        let trace_id = TraceId::from_bytes(id);
        let sampled = inner.sampler.should_sample(None, trace_id, name, &SpanKind::Internal, &[], &[]);
        Some(TraceContext::of_id(id, sampled.decision == SamplingDecision::RecordAndSample))
    }

    /// What has this id is over: sends its span, from its beginning to its end.
    pub fn ended(
        &self,
        id: [u8; 16],
        name: &'static str,
        times: (SystemTime, SystemTime),
        attributes: Vec<(&'static str, String)>,
        problem: Option<String>,
    ) {
        let (Some(inner), Some(context)) = (&self.0, self.context(id, name).filter(|context| context.sampled)) else {
            return;
        };
        let (start_time, end_time) = times;
        inner.queue.on_end(SpanData {
            span_context: context.to_otel(false),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time,
            end_time,
            attributes: attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: problem.map_or(Status::Ok, Status::error),
            instrumentation_scope: inner.scope.clone(),
        });
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Roots").field(&self.0.is_some()).finish()
    }
}

impl TraceContext {
    /// The context of a span of target [`SPAN_TARGET`], to hand to another process; `None` when it is not traced.
    #[must_use]
    pub fn of(span: &Span) -> Option<Self> {
        let context = span.context();
        let context = context.span().span_context().clone();
        context.is_valid().then(|| Self {
            trace_id: context.trace_id().to_bytes(),
            span_id: context.span_id().to_bytes(),
            sampled: context.is_sampled(),
        })
    }

    /// Makes a span that was just made a child of this context.
    pub fn adopt(&self, span: &Span) {
        // It fails for a span that nobody traces.
        drop(span.set_parent(Context::new().with_remote_span_context(self.to_otel(true))));
    }

    fn to_otel(self, is_remote: bool) -> SpanContext {
        let flags = if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let (trace_id, span_id) = (TraceId::from_bytes(self.trace_id), SpanId::from_bytes(self.span_id));
        SpanContext::new(trace_id, span_id, flags, is_remote, TraceState::default())
    }
}
