//! Finds what is logged inside of a run.

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::RunLog;
use crate::telemetry;

/// What a program's subscriber needs so that the control plane is sent the logs of runs. It must stand on tracing's
/// `Registry`; without it the agent works as well and sends none.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Collector.with_filter(telemetry::of_runs())
}

struct Collector;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(mut scope) = context.event_scope(event) else { return };
        if let Some(log) = scope.find_map(|span| span.extensions().get::<RunLog>().cloned()) {
            log.record(event);
        }
    }
}
