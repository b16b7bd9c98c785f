//! The log, and how errors look in it.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Span, info_span};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt as lines, registry};

use crate::config::{Log, LogFormat};

/// An error with its causes, `outer: inner: innermost`. A cause whose text an outer one has already is left out: our
/// own errors never repeat their source, those of other crates often do.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let inner = error.to_string();
            if !text.contains(&inner) {
                text = format!("{text}: {inner}");
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

/// Starts logging to stderr for the life of the process.
///
/// # Errors
/// A level that does not parse, or a second start.
pub(crate) fn start(log: &Log) -> Result<(), TelemetryError> {
    let level = EnvFilter::try_new(&log.level).map_err(TelemetryError::Level)?;
    // What other crates have to say is asked for by `log.level` only.
    let verbose = EnvFilter::new(format!("{VERBOSE}[run]=debug"))
        .and(filter_fn(|metadata| metadata.target().starts_with("hybrid_runner")));
    let filter = level.or(verbose);
    let layer = lines::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let layer = match log.format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    };
    registry().with(layer).try_init().map_err(TelemetryError::Started)
}

/// The target of the span of a run that is logged from DEBUG on.
const VERBOSE: &str = "hybrid_runner::verbose";

/// The span of a run. A verbose one is logged from DEBUG on, whatever the log's own level is, as far as it is this
/// product that speaks.
pub(crate) fn run_span(is_verbose: bool, run_id: &str, pipeline: &str) -> Span {
    if is_verbose {
        info_span!(target: VERBOSE, "run", %run_id, %pipeline)
    } else {
        info_span!("run", %run_id, %pipeline)
    }
}

/// Logging could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error(
        "log.level: is not a level (error, warn, info, debug, trace) or a filter such as `info,hybrid_runner=debug`"
    )]
    Level(#[source] tracing_subscriber::filter::ParseError),
    #[error("the log was started before")]
    Started(#[source] tracing_subscriber::util::TryInitError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read the file")]
    struct Outer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("read the file: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(Chain(&error).to_string(), "read the file: disk on fire");
        let error = Repeating(std::io::Error::other("disk on fire"));
        assert_eq!(Chain(&error).to_string(), "read the file: disk on fire");
    }
}
