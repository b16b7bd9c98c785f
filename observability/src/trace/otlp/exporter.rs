//! The last step of a span: its texts are scrubbed, then it goes to the collector.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::Value;
use opentelemetry::trace::Status;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;
use tracing::{info, warn};

/// Sends spans without what is secret in them.
pub(super) struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    /// Whose thread does the network's work: the queue's own thread has no runtime.
    runtime: Handle,
    scrub: Box<dyn Fn(String) -> String + Send + Sync>,
    is_failing: AtomicBool,
}

impl Exporter {
    pub(super) fn new(
        inner: opentelemetry_otlp::SpanExporter,
        runtime: Handle,
        scrub: impl Fn(String) -> String + Send + Sync + 'static,
    ) -> Self {
        Self { inner, runtime, scrub: Box::new(scrub), is_failing: AtomicBool::new(false) }
    }

    fn scrubbed(&self, mut span: SpanData) -> SpanData {
        // Names and keys are constants of ours.
        for attribute in &mut span.attributes {
            if let Value::String(text) = &attribute.value {
                attribute.value = Value::from((self.scrub)(text.as_str().to_owned()));
            }
        }
        if let Status::Error { description } = &span.status {
            span.status = Status::error((self.scrub)(description.to_string()));
        }
        span
    }

    /// The same trouble again and again is one line in the log.
    fn report(&self, sent: &OTelSdkResult) {
        match sent {
            Ok(()) => {
                if self.is_failing.swap(false, Relaxed) {
                    info!("traces are exported again");
                }
            }
            Err(error) => {
                if !self.is_failing.swap(true, Relaxed) {
                    let error = (self.scrub)(error.to_string());
                    warn!(
                        error,
                        "traces cannot be exported, spans are dropped; look at OTEL_EXPORTER_OTLP_ENDPOINT and at the collector"
                    );
                }
            }
        }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let batch = batch.into_iter().map(|span| self.scrubbed(span)).collect();
        let sent = TokioContext::new(self.inner.export(batch), self.runtime.clone()).await;
        self.report(&sent);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(..)")
    }
}
