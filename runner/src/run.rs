//! One execution of a plan: open the upload, let the source read, commit.
//!
//! ```text
//! Open ─▶ Opened, baseline ─▶ Source::extract ══ emit ══▶ upload ══ batches ══▶ control plane
//!                                   │ report                                      │ acks
//!                                   └─────────────▶ Eof ─────────────▶ Committed ◀┘
//! ```
//!
//! The source begins where the control plane has the run: at the beginning, or where an earlier attempt left it. Source and
//! upload are two futures of one task: whichever fails ends the other. When the control plane needs a body that the source
//! did not make, or has less than it had, the source is dropped and reads again from what is durable, under the same lease.
//! Nothing durable depends on how: what was acked stays staged at the control plane and is never visible before `Committed`.

use std::sync::Arc;

use hybrid_runner_connector::{
    EntitySink as _, Extraction, Notice, Reason as SourceReason, Severity, Source, SourceError, Stage,
};
use hybrid_runner_secrets::{Redactor, Resolver};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::event::{RunEnd, RunFigures};
use crate::lease::{Grant, Reason};
use crate::telemetry::Chain;
use crate::tripwire::Tripwire;
use crate::upload::{Notices, Progressed, Reading, Receipt, Sink, Target, Upload, UploadError};

/// A run that was granted.
pub(crate) struct Run {
    pub(crate) grant: Grant,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) secrets: Arc<Resolver>,
    pub(crate) target: Target,
    pub(crate) notices: Notices,
}

/// A run that is over for this agent.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) end: RunEnd,
    pub(crate) reason: Reason,
}

impl Ended {
    pub(crate) fn failed(reason: Reason, detail: impl Into<String>) -> Self {
        Self { end: RunEnd::Failed { reason: reason.as_str(), detail: detail.into() }, reason }
    }

    pub(crate) fn handed_back(reason: Reason, detail: impl Into<String>) -> Self {
        Self { end: RunEnd::HandedBack { reason: reason.as_str(), detail: detail.into() }, reason }
    }

    pub(crate) fn lease_lost(reason: Reason) -> Self {
        Self { end: RunEnd::LeaseLost { reason: reason.as_str() }, reason }
    }
}

impl Run {
    /// Runs to the end, or to the run's own deadline.
    ///
    /// # Cancel safety
    /// Dropping the future stops source and upload at once.
    pub(crate) async fn execute(self) -> Ended {
        let limit = self.grant.run_timeout;
        info!(attempt = self.grant.attempt, full = self.grant.full, "run started");
        let result = timeout(limit, Box::pin(self.attempt())).await;
        let deadline = || Failure::Deadline { seconds: limit.as_secs() };
        let result = result.unwrap_or_else(|_elapsed| Err(deadline()));
        match result {
            Ok(receipt) => {
                let figures = figures(&receipt);
                info!(
                    complete = figures.complete,
                    entities = figures.entities,
                    sent = figures.sent,
                    unchanged = figures.unchanged,
                    deleted = figures.deleted,
                    failed = figures.summary.failed,
                    requests = figures.summary.requests,
                    "run committed"
                );
                Ended { end: RunEnd::Committed(Box::new(figures)), reason: Reason::UNSPECIFIED }
            }
            Err(failure) => {
                let ended = failure.ended();
                if matches!(ended.end, RunEnd::Failed { .. }) {
                    error!(reason = %ended.reason, error = %Chain(&failure), "run failed");
                } else if ended.reason == Reason::CANCELLED {
                    info!("the run was cancelled");
                } else {
                    warn!(reason = %ended.reason, error = %Chain(&failure), "run stopped");
                }
                ended
            }
        }
    }

    async fn attempt(self) -> Result<Receipt, Failure> {
        let progress = self.target.progress.source();
        let full = self.target.full;
        let mut upload = self.target.open(self.notices).await?;
        loop {
            let Reading { start, baseline, sink } = upload.begin();
            let (secrets, progress_of) = (Arc::clone(&self.secrets), Arc::clone(&progress));
            let extraction = Extraction { secrets, start, baseline, full, progress: progress_of };
            let extract = async {
                let report = extract(&*self.source, extraction, sink, self.secrets.redactor()).await;
                progress.enter(Stage::Flush);
                report
            };
            match join(&mut upload, extract).await? {
                Progressed::Committed(receipt) => return Ok(*receipt),
                Progressed::Behind(behind) => upload.go_back(behind).await?,
            }
            progress.begin_again();
        }
    }
}

async fn extract(
    source: &dyn Source,
    extraction: Extraction,
    mut sink: Sink,
    redactor: &Redactor,
) -> Result<(), SourceError> {
    let mut tripwire = Tripwire::before(&mut sink, redactor);
    let extracted = source.extract(extraction, &mut tripwire).await;
    let report = tripwire.passed(extracted)?;
    for advice in &report.advice {
        sink.notice(Notice { severity: Severity::Info, code: "advice", text: advice.clone() });
    }
    let closed = |closed| SourceError::caused(SourceReason::SinkClosed, "the upload ended", closed);
    sink.finish(report).await.map_err(closed)
}

/// Runs both until the upload is done or needs another reading; the source may only end it by failing.
async fn join(
    upload: &mut Upload,
    extract: impl Future<Output = Result<(), SourceError>>,
) -> Result<Progressed, Failure> {
    let mut upload = Box::pin(upload.run());
    let extracted = tokio::select! {
        biased;
        progressed = &mut upload => return Ok(progressed?),
        extracted = extract => extracted,
    };
    match extracted {
        // The upload knows why its sink was closed.
        Err(SourceError { reason: SourceReason::SinkClosed, .. }) | Ok(()) => Ok(upload.await?),
        Err(error) => Err(error.into()),
    }
}

fn figures(receipt: &Receipt) -> RunFigures {
    RunFigures {
        complete: receipt.report.complete,
        summary: receipt.report.summary,
        sent: receipt.sent,
        entities: receipt.entities,
        columns: receipt.columns,
        unchanged: receipt.unchanged,
        deleted: receipt.deleted,
        deletions: receipt.deletions,
        dangling_foreign_keys: receipt.dangling_foreign_keys,
    }
}

/// Why a run ended without a commit.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("the run took longer than the {seconds} s that its grant allows")]
    Deadline { seconds: u64 },
}

impl Failure {
    fn ended(&self) -> Ended {
        match self {
            // A clean start may do: the control plane drops what is staged and grants the run again.
            Self::Source(error) if error.reason == SourceReason::CheckpointUnusable => {
                Ended::handed_back(error.reason.into(), error.detail.clone())
            }
            // The detail is for the operator; the cause stays in the local log.
            Self::Source(error) => Ended::failed(error.reason.into(), error.detail.clone()),
            Self::Deadline { .. } => Ended::failed(Reason::RUN_DEADLINE, self.to_string()),
            Self::Upload(error) => match error {
                UploadError::Fenced(reason) => Ended::lease_lost(*reason),
                UploadError::LeaseOver => Ended::lease_lost(error.reason()),
                UploadError::Refused(_) | UploadError::Violation(_) | UploadError::NotCommitted { .. } => {
                    Ended::failed(error.reason(), error.to_string())
                }
                // What is durable stays; the control plane decides when to try again.
                UploadError::NoProgress { .. } => Ended::failed(error.reason(), error.to_string()),
                UploadError::CannotGoOn(_)
                | UploadError::Rereads(_)
                | UploadError::StartTimeout(_)
                | UploadError::AgentGone => Ended::handed_back(error.reason(), error.to_string()),
            },
        }
    }
}
