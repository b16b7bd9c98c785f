//! One trace a run: from its trigger at the control plane to its commit, over both programs.
//!
//! ```text
//! run (the control plane, when the run is over; its trace id is the run's id)
//! └ grant ─▶ Grant.traceparent ─▶ run (the agent)
//!                                  ├ read secret, salesforce call …
//!                                  └ push ─▶ gRPC metadata ─▶ push (the control plane) ─ batch …, commit
//! ```
//!
//! The trace of a run needs no memory: its id and that of its first span are made of the run's id ([`TraceContext::of_id`]),
//! so that any process, before or after a restart, means the same trace, and whoever knows the run finds it.
//!
//! Spans that only a trace wants have the target [`SPAN_TARGET`]; logs leave them out. Without the feature `otlp`, or without an endpoint,
//! no such span is made.

mod context;
#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod otlp;

pub use context::TraceContext;
#[cfg(not(feature = "otlp"))]
pub use off::{Roots, Traces};
#[cfg(feature = "otlp")]
pub use otlp::{Roots, Traces};

/// The target of spans that are for traces only.
pub const SPAN_TARGET: &str = "otel";

/// Looks a variable of the environment up: whoever reads the configuration reads it, too.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Traces are asked for and cannot be exported. The texts never repeat a value.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// A variable is not accepted.
    #[error("{variable}: {detail}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is accepted.
        detail: String,
    },
    /// A file cannot be read.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE: the file cannot be read")]
    Certificate(#[source] std::io::Error),
    /// There is no client or thread.
    #[error("traces cannot be exported")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The program was built without it.
    #[error(
        "OTEL_EXPORTER_OTLP_ENDPOINT is set, but this program was built without the feature `otlp`; build it in, or take the \
         variable away"
    )]
    NotBuilt,
}

/// Whether the environment asks for traces.
fn is_asked_for(environment: Environment<'_>) -> bool {
    let has = |name: &str| environment(name).is_some_and(|value| !value.trim().is_empty());
    let is = |name: &str, word: &str| environment(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(word));
    (has("OTEL_EXPORTER_OTLP_ENDPOINT") || has("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        && !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_exported_unless_an_endpoint_is_set_and_it_is_not_switched_off() {
        let asked = |set: &[(&str, &str)]| {
            is_asked_for(&|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(!asked(&[]));
        assert!(!asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " "), ("OTEL_SERVICE_NAME", "x")]));
        assert!(asked(&[endpoint]));
        assert!(asked(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")]));
        assert!(!asked(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(!asked(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
    }
}
