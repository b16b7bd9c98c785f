//! Leases: renewed, lost, given back, taken up again.

use std::time::Duration;

use hybrid_runner_proto::v1::{self, Outcome, Reason};

use super::handshake::positive;
use crate::check::{Checked, Stop, checks, ensure, failed, not_run};
use crate::kit::{Holder, Kit, wait_for};
use crate::records::forgeries;
use crate::wire::{Heard, Push, QUIET, Session, batch, granted, hello};

/// What a control plane may add to a TTL before it grants again, and what a busy one may take for it.
const GRACE: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(5);

/// How soon a cancelled run's agent is told on a live session: a second, and what a busy machine takes.
const TOLD: Duration = Duration::from_secs(3);

checks! {
    a_heartbeat_renews_what_it_lists: "`HeartbeatAck` names the leases that were renewed: those that the heartbeat listed and that are still the agent's.";
    a_forged_token_renews_nothing: "A heartbeat renews nothing under another token than the current grant's.";
    a_forged_token_releases_nothing: "A `Release` under another token than the current grant's is answered and ends nothing.";
    the_end_of_a_session_ends_no_lease: "The end of a session ends no lease: the agent names what it holds in the next `Hello`, and `Welcome` says what is still its own.";
    an_event_under_a_lost_lease_is_ignored: "An event under a lease that is lost is ignored.";
    a_pipeline_runs_once_at_a_time: "No other run of a pipeline is granted while one is granted or running.";
    a_run_that_is_handed_back_is_granted_at_once: "A run that is handed back is granted again at once, to whoever has a free slot.";
    a_grant_has_a_higher_fence_and_another_lease_id: "The fence grows with each grant of a pipeline, and each grant has a lease id of its own.";
    the_writer_of_a_former_grant_is_fenced: "The writer of a former grant is fenced: on its open stream when the lease ends or at its next message, and when it opens another.";
    a_release_may_come_again: "A `Release` may come again until `Released` was heard, also in a later session.";
    a_resumed_run_begins_at_its_checkpoint: "Where both sides list `resume`, the next grant of a run names the checkpoint of its last durable batch, and `Opened` the same.";
    an_unusable_checkpoint_is_dropped: "A run that is handed back with `CHECKPOINT_UNUSABLE` is granted again at once, with nothing of what was staged.";
    a_session_without_heartbeats_is_closed: "A session without a heartbeat for three intervals is closed by the control plane, and its leases live on.";
    a_lease_that_is_not_renewed_is_granted_again: "A lease that is not renewed for the TTL is granted again after it, not before, and its former writer is fenced.";
    a_cancelled_run_is_revoked: "A cancelled run is told to its agent by `Revoke` (`CANCELLED`) within a second, and its writer is fenced.";
}

async fn a_heartbeat_renews_what_it_lists(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let holder = kit.holder()?;
    let renewed = holder.session.beat(std::slice::from_ref(&token)).await?;
    ensure(renewed == [token.run_id.clone()], || format!("listed was {}, renewed {renewed:?}", token.run_id))?;
    let renewed = holder.session.beat(&[]).await?;
    ensure(renewed.is_empty(), || format!("no lease was listed, renewed {renewed:?}"))
}

/// The run is still held under this token.
async fn held(holder: &Holder, what: &str) -> Checked {
    let renewed = holder.session.beat(std::slice::from_ref(&holder.token)).await?;
    ensure(renewed.contains(&holder.token.run_id), || format!("{what} ended the lease"))
}

async fn a_forged_token_renews_nothing(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let holder = kit.holder()?;
    for (what, forged) in forgeries(&token) {
        let renewed = holder.session.beat(&[forged]).await?;
        ensure(renewed.is_empty(), || format!("a heartbeat with {what} renewed {renewed:?}"))?;
    }
    held(holder, "a heartbeat under a forged token").await
}

async fn a_forged_token_releases_nothing(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    for (what, forged) in forgeries(&token) {
        // From another session, so that ours goes on renewing what it holds.
        let (mut session, _) = Session::hello(&kit.link, hello()).await?;
        session.release(&forged, Outcome::Failed, Reason::Internal).await?;
        held(kit.holder()?, &format!("a release with {what}")).await?;
    }
    Ok(())
}

async fn the_end_of_a_session_ends_no_lease(kit: &mut Kit) -> Checked {
    let holder = kit.take_holder().await?;
    let Holder { session, grant, token } = holder;
    drop(session);
    let forged = forgeries(&token).into_iter().map(|(_, forged)| forged);
    let held = std::iter::once(token.clone()).chain(forged);
    let lease = |token| v1::HeldLease { token: Some(token), pipeline: grant.pipeline.clone() };
    let capabilities = vec!["memos".to_owned(), "resume".to_owned(), "zstd".to_owned()];
    let again = v1::Hello { held: held.map(lease).collect(), capabilities, ..hello() };
    let (session, welcome) = Session::hello(&kit.link, again).await?;
    ensure(welcome.resumed_run_ids == [token.run_id.clone()], || {
        format!("held was {} (and forgeries of it), resumed {:?}", token.run_id, welcome.resumed_run_ids)
    })?;
    kit.keep(session, grant).map(drop)
}

async fn an_event_under_a_lost_lease_is_ignored(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let holder = kit.holder()?;
    for (_, forged) in forgeries(&token) {
        let event = v1::RunEvent { token: Some(forged), code: "kit".to_owned(), ..Default::default() };
        holder.session.say(crate::wire::Said::RunEvent(event)).await;
    }
    held(holder, "an event under a forged token").await
}

async fn a_pipeline_runs_once_at_a_time(kit: &mut Kit) -> Checked {
    kit.hold().await?;
    kit.trigger().await?;
    let mut other = kit.ready(&[]).await?;
    other.ask(1).await;
    let second = other.never(granted).await?;
    kit.expect_queued();
    match second {
        None => Ok(()),
        Some(_) => failed("a second run of the pipeline was granted"),
    }
}

async fn a_run_that_is_handed_back_is_granted_at_once(kit: &mut Kit) -> Checked {
    let mut holder = kit.take_holder().await?;
    let mut other = kit.ready(&["memos", "resume", "zstd"]).await?;
    other.ask(1).await;
    holder.session.release(&holder.token, Outcome::HandedBack, Reason::Draining).await?;
    kit.expect_queued();
    // Without waiting for a TTL: `grant` takes ten seconds at most.
    let grant = other.grant().await?;
    let token = kit.keep(other, grant)?;
    ensure(token.run_id == holder.token.run_id, || "it is another run".to_owned())
}

async fn a_grant_has_a_higher_fence_and_another_lease_id(kit: &mut Kit) -> Checked {
    let former = {
        kit.hold().await?;
        kit.hand_back(Reason::Draining).await?
    };
    let token = kit.hold().await?;
    ensure(token.fence > former.fence, || format!("the fence is {} after {}", token.fence, former.fence))?;
    ensure(token.lease_id != former.lease_id, || "the lease id is the former one".to_owned())
}

async fn the_writer_of_a_former_grant_is_fenced(kit: &mut Kit) -> Checked {
    let former = kit.hold().await?;
    let (mut open, opening) = Push::open(&kit.link, &former).await?;
    kit.hand_back(Reason::Draining).await?;
    kit.hold().await?;
    let before = kit.standing().await?;
    let late = kit.tables(opening.opened.next_seq, 1);
    open.say(batch(&former, &late)).await;
    open.fenced().await?;
    let mut again = Push::knock(&kit.link, &former).await?;
    again.fenced().await?;
    let after = kit.standing().await?;
    ensure(after == before, || "a record of the former writer was applied".to_owned())
}

async fn a_release_may_come_again(kit: &mut Kit) -> Checked {
    let mut holder = kit.take_holder().await?;
    kit.expect_queued();
    for _ in 0..2 {
        holder.session.release(&holder.token, Outcome::HandedBack, Reason::Draining).await?;
    }
    let (mut later, _) = Session::hello(&kit.link, hello()).await?;
    later.release(&holder.token, Outcome::HandedBack, Reason::Draining).await
}

async fn a_resumed_run_begins_at_its_checkpoint(kit: &mut Kit) -> Checked {
    kit.needs("resume").await?;
    let (token, mut push, opening) = kit.fresh().await?;
    let records = kit.tables(0, 3);
    let source_position = bytes::Bytes::from_static(b"where the source is");
    let message = v1::Batch { token: Some(token), records: records.clone(), source_position: source_position.clone() };
    push.say(crate::wire::Pushed::Batch(message)).await;
    push.acknowledged(3).await?;
    drop(push);
    kit.hand_back(Reason::Draining).await?;
    let token = kit.hold().await?;
    let digest = crate::records::digest(&opening.opened.digest, &records);
    let Some(checkpoint) = kit.holder()?.grant.checkpoint.clone() else {
        return failed("three records are durable, and the grant has no checkpoint");
    };
    let expected = v1::Checkpoint { source_position, next_seq: 3, digest: digest.into() };
    ensure(checkpoint == expected, || "the grant's checkpoint is not that of the last durable batch".to_owned())?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let v1::Opened { next_seq, digest, source_position, .. } = opening.opened;
    ensure(checkpoint == (v1::Checkpoint { source_position, next_seq, digest }), || {
        "Opened and the grant's checkpoint differ".to_owned()
    })?;
    let more = kit.tables(3, 1);
    push.durable(&token, &more).await
}

async fn an_unusable_checkpoint_is_dropped(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let records = kit.tables(opening.opened.next_seq, 2);
    push.durable(&token, &records).await?;
    drop(push);
    let mut holder = kit.take_holder().await?;
    let mut other = kit.ready(&["memos", "resume", "zstd"]).await?;
    other.ask(1).await;
    holder.session.release(&token, Outcome::HandedBack, Reason::CheckpointUnusable).await?;
    kit.expect_queued();
    let grant = other.grant().await?;
    ensure(grant.checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.next_seq == 0), || {
        "the grant still has a checkpoint".to_owned()
    })?;
    let again = kit.keep(other, grant)?;
    ensure(again.run_id == token.run_id, || "it is another run".to_owned())?;
    let (next_seq, _) = kit.standing().await?;
    ensure(next_seq == 0, || format!("{next_seq} records are still staged"))
}

/// Interval and TTL, if a check may wait for so many of them.
async fn times(kit: &Kit, longest: impl FnOnce(Duration, Duration) -> Duration) -> Checked<(Duration, Duration)> {
    let (_session, welcome) = Session::hello(&kit.link, hello()).await?;
    let interval = positive("Welcome.heartbeat_interval", welcome.heartbeat_interval)?;
    let ttl = positive("Welcome.lease_ttl", welcome.lease_ttl)?;
    let (longest, patience) = (longest(interval, ttl), kit.options.patience);
    if longest > patience {
        let (longest, patience) = (longest.as_secs_f32(), patience.as_secs());
        return not_run(format!("it takes {longest:.0} s, and --patience is {patience} s"));
    }
    Ok((interval, ttl))
}

async fn a_session_without_heartbeats_is_closed(kit: &mut Kit) -> Checked {
    let (interval, _) = times(kit, |interval, _| 3 * interval + SLACK).await?;
    kit.hold().await?;
    let mut silent = Session::start(&kit.link, Some(crate::wire::Said::Hello(hello()))).await?;
    let closed = async { while silent.hear().await.is_ok() {} };
    wait_for("the end of a session without heartbeats", 3 * interval + SLACK, closed).await?;
    held(kit.holder()?, "the end of another session").await
}

async fn a_lease_that_is_not_renewed_is_granted_again(kit: &mut Kit) -> Checked {
    let (_, ttl) = times(kit, |_, ttl| ttl + GRACE.min(ttl) + SLACK).await?;
    // A control plane may count what a run was through already, and give it up.
    let former = kit.another_run().await?;
    let (mut open, opening) = Push::open(&kit.link, &former).await?;
    let mut other = kit.ready(&["memos", "resume", "zstd"]).await?;
    other.ask(1).await;
    let holder = kit.take_holder().await?;
    kit.expect_queued();
    // The session stays: what ends is the lease.
    let _silent = holder.session.fall_silent().await;
    let began = tokio::time::Instant::now();
    let grant = wait_for("the next grant of the run", ttl + GRACE.min(ttl) + SLACK, next_grant(&mut other)).await??;
    let (waited, least) = (began.elapsed(), ttl.saturating_sub(QUIET));
    ensure(waited >= least, || format!("it was granted again after {waited:?}, and the TTL is {ttl:?}"))?;
    let token = kit.keep(other, grant)?;
    ensure(token.run_id == former.run_id && token.fence > former.fence, || {
        format!(
            "it is run {} with fence {}; lost was {} with {}",
            token.run_id, token.fence, former.run_id, former.fence
        )
    })?;
    let late = kit.tables(opening.opened.next_seq, 1);
    open.say(batch(&former, &late)).await;
    open.fenced().await?;
    Push::knock(&kit.link, &former).await?.fenced().await.map(drop)
}

/// The next grant, however long it takes.
async fn next_grant(session: &mut Session) -> Checked<v1::Grant> {
    loop {
        if let Some(grant) = session.never(granted).await? {
            return Ok(grant);
        }
    }
}

async fn a_cancelled_run_is_revoked(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    kit.operator.cancel(&token.run_id).await.map_err(|why| Stop::NotRun(why.to_string()))?;
    let began = tokio::time::Instant::now();
    let revoked = |heard| match heard {
        Heard::Revoke(revoke) if revoke.run_id == token.run_id => Some(revoke.reason()),
        _ => None,
    };
    let reason = kit.holder()?.session.until("Revoke", revoked).await?;
    let waited = began.elapsed();
    ensure(reason == Reason::Cancelled, || format!("Revoke.reason is {}", reason.as_str_name()))?;
    ensure(waited <= TOLD, || format!("Revoke came after {waited:?}"))?;
    let late = kit.tables(opening.opened.next_seq, 1);
    push.say(batch(&token, &late)).await;
    let fenced = push.fenced().await?.reason();
    ensure(fenced == Reason::Cancelled, || format!("Fenced.reason is {}", fenced.as_str_name()))?;
    let mut again = Push::knock(&kit.link, &token).await?;
    again.fenced().await?;
    let renewed = kit.holder()?.session.beat(std::slice::from_ref(&token)).await?;
    ensure(renewed.is_empty(), || "the lease of a cancelled run was renewed".to_owned())?;
    kit.let_go(false);
    Ok(())
}
