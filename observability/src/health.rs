//! What a probe is answered.

use serde::Serialize;
use serde_json::{Map, Value};

/// The answer to one probe, as JSON: `{"ok":true,"reasons":[],…}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether the probe passes.
    pub ok: bool,
    /// Why not; empty when it passes.
    pub reasons: Vec<String>,
    /// What else is worth knowing, whether it passes or not.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl Health {
    /// It passes when there is no reason against it.
    #[must_use]
    pub fn new(reasons: Vec<String>) -> Self {
        Self { ok: reasons.is_empty(), reasons, details: Map::new() }
    }

    /// With something else that is worth knowing.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }
}

/// What a program shows to probes and scrapes. Each answer is made from what is known in memory, at once.
pub trait Pages: Send + Sync + 'static {
    /// Whether the program began its work; asked until it did.
    fn startup(&self) -> Health;

    /// Whether the program still moves. One that does not is restarted, so nothing counts here that a restart does not mend.
    fn live(&self) -> Health;

    /// Whether the program takes work.
    fn ready(&self) -> Health;

    /// The metrics, as OpenMetrics text.
    fn metrics(&self) -> String;
}
