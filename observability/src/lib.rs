//! What both programs show of themselves: health and metrics on one port, traces by OTLP.
//!
//! - [`serve`]: a small HTTP server for probes and scrapes; what it shows is a [`Pages`].
//! - [`Exposition`]: a page of metrics in OpenMetrics.
//! - [`TraceContext`], [`Traces`], [`Roots`]: one trace from the trigger of a run to its commit.
//!
//! A crate of its own, because both programs need it and neither may use the other; it knows none of our crates.

mod exposition;
mod health;
mod server;
mod trace;

pub use exposition::Exposition;
pub use health::{Health, Pages};
pub use server::serve;
pub use trace::{Environment, Roots, SPAN_TARGET, TraceContext, Traces, TracesError};

// The metric types that a program keeps between two scrapes.
pub use prometheus_client::metrics::histogram::Histogram;
