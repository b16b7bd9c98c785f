//! What the control plane answers to probes.

use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_observability::{Health, Pages};
use tokio::time::Instant;

use crate::metrics;
use crate::shared::Shared;

/// The store is looked at twice a second; one that could not be read for so long is not there.
const UNREADABLE: Duration = Duration::from_secs(10);

/// Whoever looks at the store twice a second hangs when it did not even try for so long.
const STUCK: Duration = Duration::from_secs(5 * 60);

/// The pages of a control plane that listens.
#[derive(Debug)]
pub(crate) struct PlanePages {
    shared: Arc<Shared>,
    began: Instant,
}

impl PlanePages {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, began: Instant::now() }
    }

    fn health(&self, reasons: impl IntoIterator<Item = Option<String>>) -> Health {
        Health::new(reasons.into_iter().flatten().collect()).with("sessions", self.shared.sessions().len().into())
    }

    /// Why the store counts as not there.
    fn unreadable(&self) -> Option<String> {
        let read = self.shared.metrics.looks().read;
        let since = read.unwrap_or(self.began).elapsed();
        (since >= UNREADABLE)
            .then(|| format!("the store could not be read for {} s; the log says why", since.as_secs()))
    }
}

impl Pages for PlanePages {
    fn startup(&self) -> Health {
        let read = self.shared.metrics.looks().read.is_some();
        self.health([(!read).then(|| "the store was not read yet".to_owned())])
    }

    /// A store that is away fails no live probe: a restart would not bring it back.
    fn live(&self) -> Health {
        let tried = self.shared.metrics.looks().tried.unwrap_or(self.began);
        let stuck = tried.elapsed() >= STUCK;
        self.health([stuck.then(|| format!("the store was not looked at for {} s", tried.elapsed().as_secs()))])
    }

    fn ready(&self) -> Health {
        let draining = self.shared.drain.is_cancelled();
        let draining = draining.then(|| "the control plane is stopping".to_owned());
        self.health([draining, self.unreadable()])
    }

    fn metrics(&self) -> String {
        metrics::text(&self.shared)
    }
}
