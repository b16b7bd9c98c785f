//! The control plane's host.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use control_plane::config::Config;
use control_plane::{ControlPlane, Handle};
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use super::fixtures::{PLANE, PORT};
use crate::clocks::PlaneClock;
use crate::network::Port;
use crate::store::Disk;

/// What outlives a process of the control plane.
pub(super) struct Plane {
    pub(super) dir: PathBuf,
    pub(super) clock: PlaneClock,
    disk: Disk,
    /// Whether a process runs, or shall when the host is started.
    up: AtomicBool,
    handle: Mutex<Option<Handle>>,
    /// Why it ended by itself.
    error: Mutex<Option<String>>,
}

impl Plane {
    pub(super) fn new(dir: &Path, disk: Disk, clock: PlaneClock) -> Self {
        let dir = dir.to_owned();
        Self { dir, clock, disk, up: AtomicBool::new(true), handle: Mutex::default(), error: Mutex::default() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Relaxed);
        self.handle.lock().unwrap().take();
    }

    pub(super) fn take_error(&self) -> Option<String> {
        self.error.lock().unwrap().take()
    }

    /// The agents that have a session.
    pub(super) fn sessions(&self) -> Vec<String> {
        let handle = self.handle.lock().unwrap();
        let sessions = handle.as_ref().map(Handle::sessions).unwrap_or_default();
        sessions.into_iter().map(|session| session.agent).collect()
    }

    async fn serve(&self) -> Result<(), Box<dyn std::error::Error>> {
        let config = Config::load(&self.dir.join("control-plane.yaml"))?;
        let plane = ControlPlane::new(config, self.disk.mount(), Arc::new(self.clock.clone()));
        let bound = plane.bind_to(Box::new(Port::bind(PORT).await?)).await?;
        *self.handle.lock().unwrap() = Some(bound.handle());
        bound.run(CancellationToken::new()).await?;
        Ok(())
    }
}

/// Adds the host.
pub(super) fn add(sim: &mut Sim<'static>, plane: &Arc<Plane>) {
    let plane = Arc::clone(plane);
    sim.host(PLANE, move || {
        let plane = Arc::clone(&plane);
        async move {
            // A machine without the process: it refuses connections.
            if !plane.is_up() {
                return std::future::pending().await;
            }
            let ended = plane.serve().await;
            // The process dies with its disk; whoever watches sees that.
            if !plane.disk.has_crashed() {
                let error = ended.err().map_or_else(|| "nobody asked".to_owned(), |error| error.to_string());
                plane.error.lock().unwrap().replace(error);
            }
            Ok(())
        }
    });
}
