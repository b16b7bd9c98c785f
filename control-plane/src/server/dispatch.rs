//! Looks at the open runs and connection tests, ends lost leases and fires schedules.
//!
//! It looks when something changed in this process, and twice a second for what other processes wrote. Sessions are
//! told by the watch of open runs; they ask the store for grants themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_proto::reason_name;
use hybrid_runner_proto::v1::Reason;
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::{ServeError, connection_tests};
use crate::lease::{LeaseWatch, Verdict};
use crate::metrics;
use crate::schedule::Schedule;
use crate::shared::Shared;
use crate::store::{Definition, Ending, Run, ScheduleText, StoreError, ready_runs};

/// How often the store is looked at for what other processes wrote. Half of the second within which they are promised
/// that their requests are acted on.
const POLL: Duration = Duration::from_millis(500);

/// Runs until the control plane stops.
pub(super) async fn run(shared: Arc<Shared>) -> Result<&'static str, ServeError> {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = shared.changes.subscribe();
    let mut dispatch =
        Dispatch { leases: LeaseWatch::new(shared.lease.ttl), ticks: BTreeMap::new(), failing: false, shared };
    loop {
        tokio::select! {
            () = dispatch.shared.drain.cancelled() => return Ok("dispatch"),
            _ = ticks.tick() => {}
            // The sender lives in `shared`.
            _ = changes.changed() => {}
        }
        changes.mark_unchanged();
        let looked = dispatch.look().await;
        dispatch.report(looked);
    }
}

struct Dispatch {
    shared: Arc<Shared>,
    leases: LeaseWatch,
    /// The next tick of each scheduled pipeline, and what it was reckoned from.
    ticks: BTreeMap<String, (ScheduleText, Timestamp, Option<Timestamp>)>,
    failing: bool,
}

impl Dispatch {
    /// What can be read is told even when nothing can be written.
    async fn look(&mut self) -> Result<(), StoreError> {
        let scheduled = self.fire_schedules().await;
        let published = self.publish_runs().await;
        let tested = connection_tests::look(&self.shared).await;
        scheduled.and(published).and(tested)
    }

    async fn publish_runs(&mut self) -> Result<(), StoreError> {
        let runs = Arc::new(self.shared.store.open_runs().await?);
        let changed = self.shared.open_runs.send_if_modified(|known| {
            let changed = !same(known, &runs);
            *known = Arc::clone(&runs);
            changed
        });
        if changed {
            self.shared.changed();
        }
        let holds = self.shared.store.holds().await?;
        let ready = ready_runs(&runs, &holds, self.shared.clock.now());
        self.shared.ready_runs.send_if_modified(|known| {
            let changed = **known != ready;
            if changed {
                *known = Arc::new(ready);
            }
            changed
        });
        self.end_lost_leases(&runs).await?;
        metrics::look(&self.shared, &runs).await
    }

    async fn end_lost_leases(&mut self, runs: &[Run]) -> Result<(), StoreError> {
        for (run_id, lease, verdict) in self.leases.observe(self.shared.clock.elapsed(), runs) {
            let (ending, reason) = match verdict {
                Verdict::Expired | Verdict::NotStarted => (Ending::Lost, Reason::AgentLost),
                Verdict::TooLong => (Ending::Failed(self.shared.pace()), Reason::RunDeadline),
            };
            let now = self.shared.clock.now();
            if self.shared.store.expire(run_id, &lease, ending, reason_name(reason), now).await? {
                self.shared.metrics.lease_lost(verdict);
                warn!(%run_id, fence = lease.fence, ?verdict, "the lease of a run was ended");
                self.shared.changed();
            }
        }
        Ok(())
    }

    async fn fire_schedules(&mut self) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        let definitions = self.shared.definitions.borrow().clone();
        let mut fired = false;
        for definition in definitions.iter().filter(|definition| definition.new.enabled) {
            if self.next_tick(definition).is_none_or(|tick| tick > now) {
                continue;
            }
            let pipeline = &definition.new.pipeline;
            let seen = definition.scheduled_at;
            if let Some(run_id) = self.shared.store.enqueue_scheduled(pipeline, seen, now).await? {
                info!(pipeline, %run_id, "a scheduled run is queued");
            }
            fired = true;
        }
        if fired {
            // With them comes the tick that was handled.
            let definitions = Arc::new(self.shared.store.definitions().await?);
            self.shared.definitions.send_replace(definitions);
        }
        Ok(())
    }

    fn next_tick(&mut self, definition: &Definition) -> Option<Timestamp> {
        let text = definition.new.schedule.as_ref()?;
        let last = definition.scheduled_at;
        let pipeline = &definition.new.pipeline;
        if let Some((known, from, next)) = self.ticks.get(pipeline)
            && (known, *from) == (text, last)
        {
            return *next;
        }
        // It parsed when the file was read; one that never happens again has no tick.
        let next = Schedule::parse(text, last).ok().and_then(|schedule| schedule.next_after(last));
        self.ticks.insert(pipeline.clone(), (text.clone(), last, next));
        next
    }

    fn report(&mut self, looked: Result<(), StoreError>) {
        self.shared.metrics.looked(&looked);
        match looked {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.shared.failed(&error);
                self.failing = true;
            }
            Err(_) => {}
        }
    }
}

/// Whether nothing changed that a session or a person waits for. Renewals do not count: there is one every few seconds.
fn same(known: &[Run], now: &[Run]) -> bool {
    known.len() == now.len()
        && known.iter().zip(now).all(|(a, b)| {
            let fence = |run: &Run| run.lease.as_ref().map(|lease| lease.fence);
            let seen = |run: &Run| (run.run_id, run.state, fence(run), run.full, run.attempt, run.not_before);
            seen(a) == seen(b)
        })
}
