//! What a case logged. A WARN or ERROR that it did not expect fails it.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, registry};

/// Captures everything that this thread logs from DEBUG on, until dropped. Use it with the current-thread runtime of
/// `#[tokio::test]`, where all tasks of a case are on one thread.
#[derive(Debug)]
pub struct Logs {
    lines: Lines,
    expected: Vec<String>,
    _guard: DefaultGuard,
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Begins to capture.
    #[must_use]
    pub fn capture() -> Self {
        // The last two are off in the program, too: they log each refusal as an error.
        Self::with_filter("debug,h2=info,hyper=info,hyper_util=info,tower=info,rustls=info,vaultrs=off,rustify=off")
    }

    /// Begins to capture everything, down to what libraries say at TRACE.
    #[must_use]
    pub fn capture_all() -> Self {
        Self::with_filter("trace")
    }

    fn with_filter(filter: &str) -> Self {
        let lines = Lines::default();
        let captured = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines.clone());
        let captured = captured.with_filter(EnvFilter::new(filter));
        let subscriber = registry().with(captured).with(hybrid_runner::run_log_layer());
        Self { lines, expected: Vec::new(), _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// A WARN or ERROR that holds this text is part of the case.
    #[must_use]
    pub fn expecting(mut self, text: &str) -> Self {
        self.expected.push(text.to_owned());
        self
    }

    /// All lines so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lines.0.lock().unwrap()).into_owned()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let unexpected = unexpected(&self.text(), &self.expected);
        assert!(unexpected.is_empty(), "unexpected in the log:\n{}", unexpected.join("\n"));
    }
}

/// The lines of WARN and ERROR in a log that hold none of the expected texts.
#[must_use]
pub fn unexpected(log: &str, expected: &[String]) -> Vec<String> {
    log.lines()
        .filter(|line| [" WARN ", " ERROR ", "panicked at"].iter().any(|mark| line.contains(mark)))
        .filter(|line| !expected.iter().any(|text| line.contains(text)))
        .map(str::to_owned)
        .collect()
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
