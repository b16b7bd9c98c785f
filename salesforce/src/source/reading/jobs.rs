//! What is done beside the loop: calls, and the making of tables.

use std::ops::Range;
use std::sync::Arc;

use tokio::time::sleep;

use super::parts::{Finished, Unfinished};
use super::{Mapping, Shared};
use crate::auth::Session;
use crate::composite::{self, Ask, ObjectFailure, Outcome};
use crate::http::Retry;
use crate::tooling::{self, ToolingCall, ToolingOutcome};

/// A range of objects to ask for in one call.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) objects: Range<usize>,
    /// Calls that were made for it already; more than none only for an object alone.
    pub(super) tries: u32,
}

/// What a job gives back.
pub(super) enum Done {
    Described { batch: Batch, session: Arc<Session>, outcome: Outcome },
    Annotated { call: ToolingCall, session: Arc<Session>, outcome: ToolingOutcome },
    Finished(Vec<(usize, Result<Finished, ObjectFailure>)>),
}

pub(super) async fn describe(
    shared: Arc<Shared>,
    session: Arc<Session>,
    batch: Batch,
    stamps: Vec<Option<String>>,
) -> Done {
    if batch.tries > 0 {
        sleep(Retry::READ.backoff(batch.tries, fastrand::f64())).await;
    }
    let objects = shared.objects.get(batch.objects.clone()).unwrap_or_default();
    let asks: Vec<_> =
        objects.iter().zip(&stamps).map(|(object, stamp)| Ask { object, stamp: stamp.as_deref() }).collect();
    let outcome = composite::describe(&session, shared.version, &shared.mapper, &asks).await;
    Done::Described { batch, session, outcome }
}

pub(super) async fn annotate(session: Arc<Session>, call: ToolingCall) -> Done {
    let outcome = tooling::perform(&session, &call).await;
    Done::Annotated { call, session, outcome }
}

pub(super) async fn finish(shared: Arc<Shared>, mapping: Arc<Mapping>, drafts: Vec<Unfinished>) -> Done {
    let mut finished = Vec::with_capacity(drafts.len());
    for draft in drafts {
        finished.push((draft.index, draft.finish(&shared, &mapping)));
        // Some work each: let the thread look after its sockets in between.
        tokio::task::yield_now().await;
    }
    Done::Finished(finished)
}
