//! The spans of this side of a run's trace.

use hybrid_runner_observability::{Environment, TraceContext, Traces, TracesError};
use tonic::metadata::MetadataMap;
use tracing::{Span, info_span};

use crate::shared::Shared;
use crate::store::RunId;

/// The first span of a run's trace: from its trigger to its end.
pub(crate) const RUN: &str = "run";

/// Begins to export spans, if the environment says where to.
///
/// # Errors
/// [`TracesError`]
pub(crate) fn start(environment: Environment<'_>) -> Result<Option<Traces>, TracesError> {
    // There is no secret here that could be in a span.
    Traces::start("control-plane", env!("CARGO_PKG_VERSION"), environment, |text| text)
}

/// The span of a grant, in the trace of its run.
pub(crate) fn grant_span(shared: &Shared, run_id: RunId) -> Span {
    let span = info_span!(target: "otel", "grant", %run_id);
    if let Some(context) = shared.metrics.roots.context(run_id.to_bytes(), RUN) {
        context.adopt(&span);
    }
    span
}

/// `Grant.traceparent`: empty when nothing is traced.
pub(crate) fn traceparent(span: &Span) -> String {
    TraceContext::of(span).map(|context| context.to_string()).unwrap_or_default()
}

/// The span of a push, in the trace that its agent names. A header that is none is as good as none.
pub(crate) fn push_span(metadata: &MetadataMap) -> Span {
    let span = info_span!(target: "otel", "push", otel.kind = "server");
    let header = metadata.get(TraceContext::HEADER).and_then(|header| header.to_str().ok());
    if let Some(context) = header.and_then(|header| header.parse::<TraceContext>().ok()) {
        context.adopt(&span);
    }
    span
}
