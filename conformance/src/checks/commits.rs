//! The end of a run, and what the next one finds.

use hybrid_runner_proto::v1::{self, Outcome, Reason, Record};

use crate::check::{Checked, checks, ensure, failed, not_run};
use crate::kit::{Kit, TABLES};
use crate::records::{unchanged, with_body};
use crate::wire::{Answer, Opening, Push, Pushed, batch, eof};

checks! {
    a_run_with_another_digest_is_refused: "A run commits only when count and digest agree; else `Eof` is refused as `DIGEST_MISMATCH`, and nothing is committed.";
    nothing_staged_is_visible: "Nothing staged is visible before the commit.";
    a_run_that_ends_otherwise_commits_nothing: "A run that is released as cancelled ends, and nothing of it is committed.";
    committed_repeats_count_and_digest: "`Committed` repeats count and digest, and says how many records differed from what was committed.";
    a_committed_run_has_no_lease: "`Committed` ended the lease: nothing renews it any more, and the run needs no `Release`.";
    a_committed_run_is_not_written_to: "A batch after the commit is refused, also on a new stream.";
    an_end_may_come_again: "`Eof` may be sent again after a lost answer; a committed run answers the same `Committed`.";
    what_is_committed_is_the_next_baseline: "The next run's baseline is what is committed: kind, FQN and content hash of each entity.";
    an_unchanged_record_counts_with_the_committed_hash: "A record without a body is accepted when the committed entity has exactly its kind and hash, and counts as unchanged.";
    an_unchanged_record_with_another_hash_needs_its_body: "A record without a body and with another hash than the committed one is answered by `BodyNeeded`.";
    a_memo_comes_back_in_the_next_run: "A memo comes back in the next run's baseline; the memo of an unchanged record replaces it, and none leaves none.";
    an_agent_without_memos_is_sent_none: "To an agent that did not list `memos` the baseline comes without them.";
    an_incomplete_run_deletes_nothing: "A run that is not complete deletes nothing.";
    what_is_neither_sent_nor_gone_stays: "An entity that is neither sent nor gone stays as it is.";
    what_is_gone_is_deleted: "What a complete run names as gone is deleted with its commit, when it is within the guard.";
}

async fn a_run_with_another_digest_is_refused(kit: &mut Kit) -> Checked {
    let (token, mut push, opening) = kit.fresh().await?;
    let records = kit.tables(0, 2);
    push.durable(&token, &records).await?;
    drop(push);
    let right = eof(&token, &opening.opened, &records);
    let wrong = [
        ("another digest", v1::Eof { digest: vec![1; 32].into(), ..right.clone() }),
        ("one record more", v1::Eof { count: right.count + 1, ..right.clone() }),
        ("one record less", v1::Eof { count: right.count - 1, ..right.clone() }),
        ("nothing", eof(&token, &opening.opened, &[])),
    ];
    for (what, end) in wrong {
        let (mut push, _) = Push::open(&kit.link, &token).await?;
        push.say(Pushed::Eof(end)).await;
        if let Err(crate::check::Stop::Failed(why)) = push.refused(Reason::DigestMismatch).await {
            return failed(format!("an end with {what}: {why}"));
        }
        let renewed = kit.holder()?.session.beat(std::slice::from_ref(&token)).await?;
        ensure(renewed.len() == 1, || format!("an end with {what} ended the run"))?;
    }
    Ok(())
}

/// FQN and hash of those entities of a baseline that are the kit's.
fn mine(opening: &Opening) -> Vec<(String, bytes::Bytes)> {
    let mine = opening.baseline().filter(|entry| entry.fqn.starts_with("conformance.default.kit."));
    mine.map(|entry| (entry.fqn.clone(), entry.content_hash.clone())).collect()
}

async fn nothing_staged_is_visible(kit: &mut Kit) -> Checked {
    let (token, mut push, before) = kit.fresh().await?;
    let records = kit.tables(0, 2);
    push.durable(&token, &records).await?;
    let (_push, after) = Push::open(&kit.link, &token).await?;
    ensure(mine(&before) == mine(&after), || "the baseline shows what the run has staged".to_owned())
}

async fn a_run_that_ends_otherwise_commits_nothing(kit: &mut Kit) -> Checked {
    let (token, mut push, before) = kit.fresh().await?;
    let records = kit.tables(0, 2);
    push.durable(&token, &records).await?;
    let mut holder = kit.take_holder().await?;
    holder.session.release(&token, Outcome::Cancelled, Reason::Cancelled).await?;
    let renewed = holder.session.beat(std::slice::from_ref(&token)).await?;
    ensure(renewed.is_empty(), || "the lease of a released run was renewed".to_owned())?;
    kit.let_go(true);
    let (_token, _push, after) = kit.fresh().await?;
    ensure(mine(&before) == mine(&after), || "what the cancelled run had staged is committed".to_owned())
}

async fn committed_repeats_count_and_digest(kit: &mut Kit) -> Checked {
    let before = kit.commit().await?;
    let (token, mut push, opening) = kit.fresh().await?;
    let bodies = (0_u64..).zip(&before).map(|(seq, record)| {
        let record = Record { seq, ..record.clone() };
        if seq == 0 { with_body(&record, r#"{"name":"changed","columns":[]}"#) } else { record }
    });
    let records: Vec<Record> = bodies.collect();
    push.durable(&token, &records).await?;
    let end = eof(&token, &opening.opened, &records);
    let committed = push.commit(end.clone()).await?;
    kit.let_go(false);
    kit.committed = records;
    ensure((committed.count, &committed.digest) == (end.count, &end.digest), || "count or digest differ".to_owned())?;
    let (changed, unchanged) = (committed.changed, committed.unchanged);
    ensure((changed, unchanged) == (1, TABLES - 1), || {
        format!("one of {TABLES} records differed; changed is {changed}, unchanged {unchanged}")
    })?;
    ensure(committed.deleted == 0, || format!("nothing was gone, and {} are deleted", committed.deleted))
}

/// A run that was committed just now, with its end: the holder's session is still open.
async fn just_committed(kit: &mut Kit) -> Checked<(crate::kit::Holder, v1::Eof, v1::Committed)> {
    kit.commit().await?;
    let (token, mut push, opening) = kit.fresh().await?;
    let end = eof(&token, &opening.opened, &[]);
    let committed = push.commit(end.clone()).await?;
    let Some(holder) = kit.let_go(false) else { return failed("the run that was granted is gone") };
    Ok((holder, end, committed))
}

async fn a_committed_run_has_no_lease(kit: &mut Kit) -> Checked {
    let (mut holder, _, _) = just_committed(kit).await?;
    let renewed = holder.session.beat(std::slice::from_ref(&holder.token)).await?;
    ensure(renewed.is_empty(), || "the lease of a committed run was renewed".to_owned())?;
    // Given back all the same, it stays committed and is answered.
    holder.session.release(&holder.token, Outcome::Failed, Reason::Internal).await
}

async fn a_committed_run_is_not_written_to(kit: &mut Kit) -> Checked {
    let (holder, _, _) = just_committed(kit).await?;
    let mut push = Push::knock(&kit.link, &holder.token).await?;
    let next_seq = match push.hear().await {
        // It may be opened, for its end to be said again.
        Ok(Answer::Opened(opened)) => opened.next_seq,
        Ok(Answer::Fenced(_)) => return Ok(()),
        Ok(_) => return failed("Open was answered by neither Opened nor Fenced"),
        Err(_refused) => return Ok(()),
    };
    let records = kit.tables(next_seq, 1);
    push.say(batch(&holder.token, &records)).await;
    loop {
        match push.next().await? {
            Some(Ok(Answer::Baseline(_))) => {}
            Some(Ok(Answer::Fenced(_)) | Err(_)) => return Ok(()),
            Some(Ok(_)) => return failed("a batch after the commit was acknowledged"),
            None => return failed("a batch after the commit was not refused"),
        }
    }
}

async fn an_end_may_come_again(kit: &mut Kit) -> Checked {
    let (holder, end, committed) = just_committed(kit).await?;
    let (mut push, _) = Push::open(&kit.link, &holder.token).await?;
    let again = push.commit(end).await?;
    ensure(again == committed, || "Committed differs from the first one".to_owned())
}

/// The kit's entities as the next run is told of them, with the run.
async fn next_run(kit: &mut Kit) -> Checked<(v1::WriteToken, Push, Opening, Vec<Record>)> {
    let records = kit.commit().await?;
    let (token, push, opening) = kit.fresh().await?;
    let full = kit.holder()?.grant.full;
    if full {
        return not_run("the run was granted as `full`: nothing may be sent as unchanged");
    }
    Ok((token, push, opening, records))
}

async fn what_is_committed_is_the_next_baseline(kit: &mut Kit) -> Checked {
    let (_, _, opening, records) = next_run(kit).await?;
    let committed: Vec<_> = records.iter().map(|record| (record.fqn.clone(), record.content_hash.clone())).collect();
    ensure(mine(&opening) == committed, || {
        format!("committed are {} tables of the kit, the baseline has {}", committed.len(), mine(&opening).len())
    })?;
    let kinds = opening.baseline().filter(|entry| records.iter().any(|record| record.fqn == entry.fqn));
    ensure(kinds.into_iter().all(|entry| entry.kind == "table"), || "a kind of the baseline is another one".to_owned())
}

/// The records with the seqs of a new run.
fn numbered(records: &[Record]) -> Vec<Record> {
    (0..).zip(records).map(|(seq, record)| Record { seq, ..record.clone() }).collect()
}

async fn an_unchanged_record_counts_with_the_committed_hash(kit: &mut Kit) -> Checked {
    let (token, mut push, opening, records) = next_run(kit).await?;
    let sent: Vec<Record> = numbered(&records).iter().map(unchanged).collect();
    push.durable(&token, &sent).await?;
    let committed = push.commit(eof(&token, &opening.opened, &sent)).await?;
    kit.let_go(false);
    let (changed, unchanged) = (committed.changed, committed.unchanged);
    ensure((changed, unchanged) == (0, TABLES), || format!("changed is {changed}, unchanged {unchanged}"))
}

async fn an_unchanged_record_with_another_hash_needs_its_body(kit: &mut Kit) -> Checked {
    let (token, mut push, _, records) = next_run(kit).await?;
    let mut sent: Vec<Record> = numbered(&records).iter().map(unchanged).collect();
    if let Some(second) = sent.get_mut(1) {
        *second = unchanged(&with_body(second, r#"{"name":"another"}"#));
    }
    push.say(batch(&token, &sent)).await;
    match push.hear().await? {
        Answer::BodyNeeded(needed) => ensure(needed.seqs == [1], || format!("BodyNeeded names {:?}", needed.seqs))?,
        _ => return failed("it was not answered by BodyNeeded"),
    }
    let other_kind: Vec<Record> = numbered(&records)
        .iter()
        .take(1)
        .map(|record| Record { kind: "databaseSchema".to_owned(), ..unchanged(record) })
        .collect();
    push.say(batch(&token, &other_kind)).await;
    match push.hear().await? {
        Answer::BodyNeeded(needed) => ensure(needed.seqs == [0], || format!("BodyNeeded names {:?}", needed.seqs)),
        _ => failed("the committed hash under another kind was not answered by BodyNeeded"),
    }
}

/// Memos of the kit's entities, in the order of their FQNs.
fn memos(opening: &Opening) -> Vec<bytes::Bytes> {
    let mine = opening.baseline().filter(|entry| entry.fqn.starts_with("conformance.default.kit."));
    mine.map(|entry| entry.memo.clone()).collect()
}

/// Commits the kit's tables as they are, the first of them with this memo.
async fn commit_with_memo(kit: &mut Kit, memo: &'static [u8]) -> Checked {
    let (token, mut push, opening, records) = next_run(kit).await?;
    let mut sent: Vec<Record> = numbered(&records).iter().map(unchanged).collect();
    if let Some(first) = sent.first_mut() {
        first.memo = memo.into();
    }
    push.durable(&token, &sent).await?;
    push.commit(eof(&token, &opening.opened, &sent)).await?;
    kit.let_go(false);
    Ok(())
}

async fn a_memo_comes_back_in_the_next_run(kit: &mut Kit) -> Checked {
    kit.needs("memos").await?;
    for memo in [b"a memo".as_slice(), b"another one", b""] {
        commit_with_memo(kit, memo).await?;
        let (_, _, opening, _) = next_run(kit).await?;
        let memos = memos(&opening);
        let found = memos.first().map(bytes::Bytes::as_ref);
        ensure(found == Some(memo), || "the memo of the first table is not what the last run left".to_owned())?;
        ensure(memos.iter().skip(1).all(bytes::Bytes::is_empty), || "a table has a memo that nobody left".to_owned())?;
    }
    Ok(())
}

async fn an_agent_without_memos_is_sent_none(kit: &mut Kit) -> Checked {
    kit.needs("memos").await?;
    commit_with_memo(kit, b"not for everybody").await?;
    kit.hold().await?;
    kit.hand_back(Reason::CheckpointUnusable).await?;
    let session = kit.ready(&[]).await?;
    let token = kit.take(session).await?;
    let (_push, opening) = Push::open(&kit.link, &token).await?;
    let memos = memos(&opening);
    kit.hand_back(Reason::Draining).await?;
    ensure(!memos.is_empty() && memos.iter().all(bytes::Bytes::is_empty), || "the baseline has memos".to_owned())
}

async fn an_incomplete_run_deletes_nothing(kit: &mut Kit) -> Checked {
    let records = kit.commit().await?;
    let (token, mut push, opening) = kit.fresh().await?;
    let gone = records.iter().map(|record| record.fqn.clone()).collect();
    let end = v1::Eof { complete: false, gone, ..eof(&token, &opening.opened, &[]) };
    let committed = push.commit(end).await?;
    kit.let_go(false);
    ensure(committed.deleted == 0, || format!("{} entities are deleted", committed.deleted))?;
    let (_, _, opening) = kit.fresh().await?;
    ensure(mine(&opening).len() == records.len(), || "an entity is gone".to_owned())
}

async fn what_is_neither_sent_nor_gone_stays(kit: &mut Kit) -> Checked {
    let (_, _, _) = just_committed(kit).await?;
    let committed = kit.committed.len();
    let (_, _, opening) = kit.fresh().await?;
    ensure(mine(&opening).len() == committed, || {
        "an entity that was neither sent nor gone is not there any more".to_owned()
    })
}

async fn what_is_gone_is_deleted(kit: &mut Kit) -> Checked {
    kit.commit().await?;
    let committed = kit.delete_all().await?;
    let deletions = committed.deletions();
    if deletions == v1::Deletions::None {
        return not_run("the pipeline's definition says that nothing is deleted (markDeletedTables)");
    }
    ensure((committed.deleted, deletions) == (TABLES, v1::Deletions::Applied), || {
        format!("{TABLES} are gone, {} were deleted ({})", committed.deleted, deletions.as_str_name())
    })?;
    let (_, _, opening) = kit.fresh().await?;
    ensure(mine(&opening).is_empty(), || "an entity that is gone is still there".to_owned())
}
