//! The answers to definitions that are accepted: each waits for the preflight of its secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use hybrid_runner_connector::Reason;
use hybrid_runner_secrets::Resolver;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::{error, warn};

use crate::plan::Plan;
use crate::preflight::{self, Checked};
use crate::session::{Command, UnreadableSecret, Verdict};
use crate::telemetry::Chain;

/// A preflight's task that ended.
pub(super) type PreflightJoined = Result<(Id, Vec<UnreadableSecret>), JoinError>;

/// The preflights under way: at most one for each definition. The stores bound their reads.
#[derive(Default)]
pub(super) struct Preflights {
    pub(super) running: JoinSet<Vec<UnreadableSecret>>,
    definitions: BTreeMap<Id, Definition>,
}

struct Definition {
    pipeline: String,
    version: u64,
    task: AbortHandle,
}

impl Preflights {
    /// Begins the preflight of a definition's plan, in place of that of an earlier version.
    pub(super) fn begin(&mut self, pipeline: String, version: u64, plan: Arc<Plan>, secrets: Resolver) {
        self.forget(&pipeline);
        let name = pipeline.clone();
        let look = async move {
            let checked = preflight::check(plan.source.as_ref(), &secrets).await;
            checked.into_iter().filter_map(|checked| unreadable(&name, checked)).collect()
        };
        let task = self.running.spawn(look);
        self.definitions.insert(task.id(), Definition { pipeline, version, task });
    }

    /// Nobody waits for the answer to this definition any more.
    pub(super) fn forget(&mut self, pipeline: &str) {
        self.definitions.values().filter(|old| old.pipeline == pipeline).for_each(|old| old.task.abort());
    }

    /// The answer to the definition whose preflight ended; `None` when nobody waits for it.
    pub(super) fn ended(&mut self, joined: PreflightJoined) -> Option<Command> {
        let (task, unreadable) = match joined {
            Ok(ended) => ended,
            Err(failed) if failed.is_cancelled() => {
                self.definitions.remove(&failed.id());
                return None;
            }
            Err(failed) => {
                error!(error = %failed, "a preflight's task failed");
                (failed.id(), Vec::new())
            }
        };
        let Definition { pipeline, version, .. } = self.definitions.remove(&task)?;
        Some(Command::Answer { pipeline, version, verdict: Verdict::Accepted { unreadable } })
    }

    /// The session that the definitions came in is over.
    pub(super) fn abandon(&mut self) {
        self.running.abort_all();
    }
}

/// What the control plane is told of a secret, if it cannot be read; all of it goes to the log.
fn unreadable(pipeline: &str, checked: Checked) -> Option<UnreadableSecret> {
    let Checked { secret, found } = checked;
    let error = found.err()?;
    let field = secret.field;
    warn!(%pipeline, field, error = %Chain(&error), "a secret cannot be read");
    Some(UnreadableSecret {
        field,
        reference: secret.reference.to_string(),
        reason: Reason::from(&error).into(),
        detail: error.public_text(),
    })
}
