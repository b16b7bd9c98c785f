//! The log, and how errors look in it.

use std::error::Error;
use std::fmt;
use std::io::{IsTerminal as _, Write};

use hybrid_runner_observability::{SPAN_TARGET, Traces};
use hybrid_runner_secrets::Redactor;
use tracing::{Metadata, Span, info_span};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, registry};

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

/// Starts logging to stderr for the life of the process. What the redactor knows does not get there.
///
/// # Errors
/// A level that does not parse, or a second start.
pub(crate) fn start(log: &Log, redactor: &Redactor, traces: Option<&Traces>) -> Result<(), TelemetryError> {
    let stderr = Redacted { writer: std::io::stderr, redactor: redactor.clone() };
    let lines = lines(log, stderr, std::io::stderr().is_terminal())?;
    let traces = traces.map(Traces::layer);
    registry().with(lines).with(crate::runlog::layer()).with(traces).try_init().map_err(TelemetryError::Started)
}

/// Makes writers that replace the values of secrets. The layer that formats hands them whole lines, of either format.
struct Redacted<W> {
    writer: W,
    redactor: Redactor,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Redacted<W> {
    type Writer = Redacted<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Redacted { writer: self.writer.make_writer(), redactor: self.redactor.clone() }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        Redacted { writer: self.writer.make_writer_for(metadata), redactor: self.redactor.clone() }
    }
}

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.writer.write_all(&self.redactor.replace(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

/// What writes the lines of the log.
fn lines<W>(log: &Log, writer: W, ansi: bool) -> Result<impl Layer<Registry>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = EnvFilter::try_new(&log.level).map_err(TelemetryError::Level)?;
    let filter = level.or(verbose()).and(quiet());
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    Ok(match log.format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    })
}

/// What the logs of runs have of a run: INFO and above, whatever `log.level` is.
pub(crate) fn of_runs<S>() -> impl Filter<S> {
    LevelFilter::INFO.or(verbose()).and(quiet())
}

/// What verbose runs say. What other crates have to say is asked for by `log.level` only.
fn verbose<S>() -> impl Filter<S> {
    EnvFilter::new(format!("{VERBOSE}[run]=debug"))
        .and(filter_fn(|metadata| metadata.target().starts_with("hybrid_runner")))
}

/// Vault's client logs each refusal as an error, with what the store answered; ours names it where it is handled. Spans of
/// target `otel` are for traces only.
fn quiet<S>() -> impl Filter<S> {
    filter_fn(|metadata| {
        let target = metadata.target();
        target != SPAN_TARGET && !["vaultrs", "rustify"].iter().any(|name| target.starts_with(name))
    })
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

    /// What is written, shared.
    #[derive(Clone, Default)]
    struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_verbose_run_is_logged_from_debug_on_and_nothing_else_is() {
        let written = Written::default();
        let log = Log { level: "warn".to_owned(), format: LogFormat::Text, run_bytes: 0 };
        let writer = written.clone();
        let lines = lines(&log, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(registry().with(lines), || {
            let run = |is_verbose, name: &str| {
                run_span(is_verbose, "1", "crm").in_scope(|| {
                    tracing::debug!(target: "hybrid_runner_salesforce::http", "ours of the {name} one");
                    tracing::debug!(target: "h2::codec", "theirs of the {name} one");
                    tracing::trace!(target: "hybrid_runner::upload", "detail of the {name} one");
                });
            };
            run(false, "quiet");
            run(true, "verbose");
            run(false, "next");
            tracing::debug!("beside");
            tracing::warn!("as always");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("run_id=1 pipeline=crm") && lines[0].contains("ours of the verbose one"), "{text}");
        assert!(lines[1].contains("as always"), "{text}");
    }

    #[test]
    fn a_value_in_a_message_a_field_or_a_span_is_replaced_in_both_formats() {
        const PASSWORD: &str = "pWq7<&>\"'/\\+ %=é~;";
        let redactor = Redactor::default();
        let _held = redactor.watch(hybrid_runner_secrets::SecretValue::new(PASSWORD.to_owned()));
        for format in [LogFormat::Text, LogFormat::Json] {
            for ansi in [false, true] {
                let written = Written::default();
                let writer = written.clone();
                let writer = Redacted { writer: move || writer.clone(), redactor: redactor.clone() };
                let log = Log { level: "trace".to_owned(), format, run_bytes: 0 };
                let lines = lines(&log, writer, ansi).unwrap();
                tracing::subscriber::with_default(registry().with(lines), || {
                    info_span!("span", echoed = PASSWORD).in_scope(|| {
                        let (shown, debugged, error) = (PASSWORD, Some(PASSWORD), std::io::Error::other(PASSWORD));
                        tracing::info!(shown, ?debugged, %error, "it said {PASSWORD}");
                    });
                });
                let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
                // JSON shows the innermost span twice.
                let places = if matches!(format, LogFormat::Json) { 6 } else { 5 };
                assert_eq!((text.matches("[redacted]").count(), text.contains("pWq7")), (places, false), "{text}");
                assert_eq!(text.lines().count(), 1, "{text}");
            }
        }
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(Chain(&error).to_string(), "read the file: disk on fire");
        let error = Repeating(std::io::Error::other("disk on fire"));
        assert_eq!(Chain(&error).to_string(), "read the file: disk on fire");
    }
}
