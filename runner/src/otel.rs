//! The spans of this side of a run's trace, and their way out.
//!
//! Customers choose where an agent's spans go, by the `OTEL_*` variables; none leaves unless they name an endpoint. What the
//! redactor knows is taken out of each text, the values of `OTEL_EXPORTER_OTLP_HEADERS` among it.

use hybrid_runner_observability::{TraceContext, Traces, TracesError};
use hybrid_runner_secrets::{Redactor, Watched};
use tonic::metadata::MetadataMap;
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::config::Environment;
use crate::event::RunEnd;

/// Variables that may hold a credential of the collector's.
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"];
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Begins to export spans, if the environment says where to.
///
/// # Errors
/// [`TracesError`]
pub(crate) fn start(environment: &Environment, redactor: &Redactor) -> Result<Option<Traces>, TracesError> {
    let watched = watch(environment, redactor);
    let redactor = redactor.clone();
    let scrub = move |text| {
        // They are known for as long as anything is exported.
        let _held = &watched;
        redactor.replace_text(text)
    };
    let look_up = |name: &str| environment.var(name).map(str::to_owned);
    Traces::start("hybrid-runner", env!("CARGO_PKG_VERSION"), &look_up, scrub)
}

/// What the collector is shown is a secret, too: `name=value,name=Bearer%20value`, or a password in the address.
fn watch(environment: &Environment, redactor: &Redactor) -> Vec<Watched> {
    let headers = HEADERS.iter().filter_map(|name| environment.var(name)).flat_map(|headers| headers.split(','));
    let values = headers.filter_map(|header| header.split_once('=')).flat_map(|(_name, value)| value.split("%20"));
    let endpoints = ENDPOINTS.iter().filter_map(|name| environment.var(name));
    let credentials = endpoints.filter_map(|endpoint| {
        let (_scheme, rest) = endpoint.split_once("://")?;
        let (credentials, _host) = rest.split('/').next()?.rsplit_once('@')?;
        Some(credentials.split_once(':').map_or(credentials, |(_user, password)| password))
    });
    values.flat_map(str::split_whitespace).chain(credentials).filter_map(|text| redactor.watch_text(text)).collect()
}

/// The span of a run at this agent, in the trace that its grant names.
pub(crate) fn run_span(run_id: &str, pipeline: &str, attempt: u32, traceparent: Option<TraceContext>) -> Span {
    let span = info_span!(
        target: "otel", "run", run_id, pipeline, attempt, end = Empty, reason = Empty, otel.status_code = Empty
    );
    if let Some(context) = traceparent {
        context.adopt(&span);
    }
    span
}

/// How the run of a span ended; `None`: it was stopped.
pub(crate) fn run_ended(span: &Span, end: Option<&RunEnd>) {
    let (end, reason, is_error) = match end {
        Some(RunEnd::Committed(_)) => ("committed", "", false),
        Some(RunEnd::Failed { reason, .. }) => ("failed", *reason, true),
        Some(RunEnd::HandedBack { reason, .. }) => ("handed_back", *reason, false),
        Some(RunEnd::LeaseLost { reason }) => ("lease_lost", *reason, false),
        None => ("stopped", "", false),
    };
    span.record("end", end).record("reason", reason);
    if is_error {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of a stream of a run's upload; the control plane's part of it is a child.
pub(crate) fn push_span(metadata: &mut MetadataMap) -> Span {
    let span = info_span!(target: "otel", "open push", otel.kind = "client");
    let context = TraceContext::of(&span).and_then(|context| context.to_string().parse().ok());
    if let Some(context) = context {
        metadata.insert(TraceContext::HEADER, context);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_collector_is_shown_is_watched() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a-long-api-key,authorization=Bearer%20a-long-token"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://agent:a-long-password@collector.example:4318/x@y"),
        ];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let redactor = Redactor::default();
        let _held = watch(&environment, &redactor);
        for secret in ["a-long-api-key", "a-long-token", "a-long-password"] {
            assert_eq!(redactor.replace_text(format!("it said {secret}!")), "it said [redacted]!");
        }
        for shown in ["collector.example", "api-key", "authorization", "Bearer"] {
            assert_eq!(redactor.replace_text(shown.to_owned()), shown);
        }
    }
}
