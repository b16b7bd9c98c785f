//! What the checks stand on: one run that the kit holds, granted when a check first needs it and renewed meanwhile.

use std::sync::Arc;

use hybrid_runner_proto::v1::{self, Outcome, Reason, Record, WriteToken};

use crate::Options;
use crate::check::{Checked, Stop, ensure, failed, not_run};
use crate::connect::{Link, Target};
use crate::operator::Operator;
use crate::records;
use crate::wire::{Heard, Push, Said, Session, eof, granted, hello};

/// What the kit can do as an agent, beyond the base.
const CAPABILITIES: [&str; 3] = ["memos", "resume", "zstd"];

/// Tables that the kit ever has committed at once. So many may be deleted without a confirmation, so that it can clean up.
pub(crate) const TABLES: u64 = 4;

/// Queued runs that are cancelled at the end, at most.
const LEFT_OVER: usize = 8;

/// See the module.
pub(crate) struct Kit {
    pub(crate) link: Link,
    pub(crate) target: Target,
    pub(crate) options: Options,
    pub(crate) operator: Arc<dyn Operator>,
    /// What the control plane can do, once it was asked.
    capabilities: Option<Vec<String>>,
    pipeline: Option<String>,
    holder: Option<Holder>,
    /// Whether a run of the pipeline may be queued: at the beginning, and after one was handed back.
    may_be_queued: bool,
    /// What the kit has committed and not deleted.
    pub(crate) committed: Vec<Record>,
    named: u64,
}

/// A run that the kit holds.
pub(crate) struct Holder {
    pub(crate) session: Session,
    pub(crate) grant: v1::Grant,
    pub(crate) token: WriteToken,
}

impl Kit {
    pub(crate) fn new(link: Link, target: &Target, operator: Arc<dyn Operator>, options: &Options) -> Self {
        Self {
            link,
            target: target.clone(),
            options: options.clone(),
            operator,
            capabilities: None,
            pipeline: options.pipeline.clone(),
            holder: None,
            may_be_queued: true,
            committed: Vec::new(),
            named: 0,
        }
    }

    /// Whether the control plane lists a capability.
    pub(crate) async fn lists(&mut self, capability: &str) -> Checked<bool> {
        if self.capabilities.is_none() {
            let (_session, welcome) = Session::hello(&self.link, hello()).await?;
            self.capabilities = Some(welcome.capabilities);
        }
        Ok(self.capabilities.iter().flatten().any(|listed| listed == capability))
    }

    /// Not run unless the control plane lists a capability.
    pub(crate) async fn needs(&mut self, capability: &str) -> Checked {
        if self.lists(capability).await? {
            return Ok(());
        }
        not_run(format!("the control plane does not list the capability `{capability}`"))
    }

    /// So many tables with names that the kit has not used yet, from this seq on.
    pub(crate) fn tables(&mut self, first: u64, count: u64) -> Vec<Record> {
        let mut table = |seq| {
            self.named += 1;
            let name = format!("T{:05}", self.named);
            records::table(seq, &name, &format!(r#"{{"name":"{name}","columns":[]}}"#))
        };
        (first..first + count).map(&mut table).collect()
    }

    /// A welcomed session that was sent the pipeline's definition and has not answered it.
    pub(crate) async fn offered(&mut self, capabilities: &[&str]) -> Checked<(Session, v1::Definition)> {
        let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
        let (mut session, _) = Session::hello(&self.link, v1::Hello { capabilities, ..hello() }).await?;
        let definition = self.definition(&mut session).await?;
        Ok((session, definition))
    }

    async fn definition(&mut self, session: &mut Session) -> Checked<v1::Definition> {
        let definition = |heard| match heard {
            Heard::Definition(definition) => Some(definition),
            _ => None,
        };
        if let Some(wanted) = &self.pipeline {
            let mine = |heard| definition(heard).filter(|definition| definition.pipeline == *wanted);
            return session.until(&format!("the definition of `{wanted}`"), mine).await;
        }
        let first = session.until("a definition of the source kind `salesforce`", definition).await?;
        if let Some(second) = session.never(definition).await? {
            let (first, second) = (first.pipeline, second.pipeline);
            return not_run(format!("there are several pipelines ({first}, {second}); choose one by --pipeline NAME"));
        }
        self.pipeline = Some(first.pipeline.clone());
        Ok(first)
    }

    /// A session that accepted the definition and has no free slot.
    pub(crate) async fn ready(&mut self, capabilities: &[&str]) -> Checked<Session> {
        let (session, definition) = self.offered(capabilities).await?;
        session.say(verdict(&definition, true)).await;
        Ok(session)
    }

    /// The run that the kit holds; one is granted now if there is none.
    pub(crate) async fn hold(&mut self) -> Checked<WriteToken> {
        if let Some(holder) = &self.holder {
            let renewed = holder.session.beat(std::slice::from_ref(&holder.token)).await;
            if renewed.is_ok_and(|renewed| renewed.contains(&holder.token.run_id)) {
                return Ok(holder.token.clone());
            }
        }
        self.holder = None;
        let session = self.ready(&CAPABILITIES).await?;
        self.take(session).await
    }

    /// The next run of the pipeline, on this session, which has accepted it.
    pub(crate) async fn take(&mut self, mut session: Session) -> Checked<WriteToken> {
        session.ask(1).await;
        let mut grant = None;
        if std::mem::take(&mut self.may_be_queued) {
            grant = session.never(granted).await?;
        }
        let grant = match grant {
            Some(grant) => grant,
            None => {
                self.trigger().await?;
                session.grant().await?
            }
        };
        self.keep(session, grant)
    }

    /// From now on this is the run that the kit holds.
    pub(crate) fn keep(&mut self, session: Session, grant: v1::Grant) -> Checked<WriteToken> {
        let Some(token) = grant.token.clone() else { return failed("a Grant without a token") };
        session.renew(std::slice::from_ref(&token));
        self.holder = Some(Holder { session, grant, token: token.clone() });
        self.may_be_queued = false;
        Ok(token)
    }

    /// What the kit holds, for a check that goes on without it.
    pub(crate) async fn take_holder(&mut self) -> Checked<Holder> {
        self.hold().await?;
        self.holder.take().ok_or_else(|| Stop::Failed("the run that was granted is gone".to_owned()))
    }

    /// What the kit holds.
    pub(crate) fn holder(&mut self) -> Checked<&mut Holder> {
        self.holder.as_mut().ok_or_else(|| Stop::Failed("the run that was granted is gone".to_owned()))
    }

    /// The kit holds nothing any more: the run ended, or is on its way to somebody else.
    pub(crate) fn let_go(&mut self, may_be_queued: bool) -> Option<Holder> {
        self.may_be_queued = may_be_queued;
        self.holder.take()
    }

    /// Gives the run back so that it is queued again, and leaves.
    pub(crate) async fn hand_back(&mut self, reason: Reason) -> Checked<WriteToken> {
        let mut holder = self.take_holder().await?;
        holder.session.release(&holder.token, Outcome::HandedBack, reason).await?;
        self.may_be_queued = true;
        Ok(holder.token)
    }

    /// A run that nobody held before.
    pub(crate) async fn another_run(&mut self) -> Checked<WriteToken> {
        let mut holder = self.take_holder().await?;
        holder.session.release(&holder.token, Outcome::Cancelled, Reason::Cancelled).await?;
        self.may_be_queued = true;
        self.hold().await
    }

    /// A run of which nothing is staged, with a push that was opened.
    pub(crate) async fn fresh(&mut self) -> Checked<(WriteToken, Push, crate::wire::Opening)> {
        let token = self.hold().await?;
        let (push, opening) = Push::open(&self.link, &token).await?;
        if opening.opened.next_seq == 0 {
            return Ok((token, push, opening));
        }
        drop(push);
        self.hand_back(Reason::CheckpointUnusable).await?;
        let token = self.hold().await?;
        let (push, opening) = Push::open(&self.link, &token).await?;
        let next_seq = opening.opened.next_seq;
        ensure(next_seq == 0, || {
            format!("a run that was handed back with CHECKPOINT_UNUSABLE begins at {next_seq}, not at 0")
        })?;
        Ok((token, push, opening))
    }

    /// A run of the kit's tables is committed: now, if none was. Returns them as they are committed.
    pub(crate) async fn commit(&mut self) -> Checked<Vec<Record>> {
        if self.committed.is_empty() {
            let (token, mut push, opening) = self.fresh().await?;
            let records = self.tables(0, TABLES);
            push.durable(&token, &records).await?;
            push.commit(eof(&token, &opening.opened, &records)).await?;
            self.let_go(false);
            self.committed = records;
        }
        Ok(self.committed.clone())
    }

    /// Queues a run.
    pub(crate) async fn trigger(&mut self) -> Checked {
        let Some(pipeline) = &self.pipeline else { return not_run("no pipeline is known yet") };
        self.operator.trigger(pipeline).await.map_err(|why| Stop::NotRun(why.to_string()))
    }

    /// There may be a run that somebody queued.
    pub(crate) fn expect_queued(&mut self) {
        self.may_be_queued = true;
    }

    /// Where the run stands for whoever opens it now: next seq and digest.
    pub(crate) async fn standing(&mut self) -> Checked<(u64, bytes::Bytes)> {
        let token = self.hold().await?;
        let (_push, opening) = Push::open(&self.link, &token).await?;
        Ok((opening.opened.next_seq, opening.opened.digest))
    }

    /// Deletes what was committed, gives back what is held, cancels what was queued for the kit. What does not succeed
    /// was reported by a check already.
    pub(crate) async fn clean_up(&mut self) {
        if !self.committed.is_empty() {
            drop(self.delete_all().await);
        }
        for _ in 0..LEFT_OVER {
            if self.holder.is_none() && (!self.may_be_queued || self.take_queued().await.is_none()) {
                return;
            }
            let Some(mut holder) = self.let_go(true) else { return };
            drop(holder.session.release(&holder.token, Outcome::Cancelled, Reason::Cancelled).await);
        }
    }

    async fn take_queued(&mut self) -> Option<WriteToken> {
        let mut session = self.ready(&CAPABILITIES).await.ok()?;
        session.ask(1).await;
        let grant = session.never(granted).await.ok()??;
        self.keep(session, grant).ok()
    }

    /// A complete run in which all that the kit committed is gone.
    pub(crate) async fn delete_all(&mut self) -> Checked<v1::Committed> {
        let (token, mut push, opening) = self.fresh().await?;
        let gone = self.committed.iter().map(|record| record.fqn.clone()).collect();
        let committed = push.commit(v1::Eof { gone, ..eof(&token, &opening.opened, &[]) }).await?;
        self.let_go(false);
        self.committed.clear();
        Ok(committed)
    }
}

/// The answer to a definition.
pub(crate) fn verdict(definition: &v1::Definition, accepted: bool) -> Said {
    let reason = if accepted { Reason::Unspecified } else { Reason::BadDefinition };
    let detail = if accepted { String::new() } else { "rejected by the conformance kit".to_owned() };
    Said::DefinitionStatus(v1::DefinitionStatus {
        pipeline: definition.pipeline.clone(),
        version: definition.version,
        accepted,
        reason: reason.into(),
        detail,
        ..Default::default()
    })
}

/// Waits until a lease that nobody renews has run out, and a while.
pub(crate) async fn wait_for<T>(
    what: &str,
    longest: std::time::Duration,
    future: impl Future<Output = T>,
) -> Checked<T> {
    let answer = tokio::time::timeout(longest, future).await;
    answer.map_err(|_elapsed| Stop::Failed(format!("{what} did not come within {:.1} s", longest.as_secs_f32())))
}
