//! How a push begins, and who may write.

use hybrid_runner_proto::v1::{self, Reason};

use crate::check::{Checked, checks, ensure, failed};
use crate::kit::Kit;
use crate::records::{EMPTY, digest, forgeries};
use crate::wire::{Answer, Push, Pushed, batch, eof};

/// Entries and encoded bytes of a page of the baseline.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 1024 * 1024;

checks! {
    the_first_message_of_a_push_is_open: "A push whose first message is not `Open` ends with `PROTOCOL_VIOLATION`.";
    open_comes_once_a_stream: "A second `Open` on a stream ends it with `PROTOCOL_VIOLATION`.";
    opened_says_where_to_go_on: "`Opened` states the next seq, a digest of 32 bytes (of zeros before the first record) and a window above zero.";
    the_baseline_comes_in_bounded_pages: "Pages of the baseline have at most 1,000 entries and 1 MiB, are in the order of the FQNs, and the last one says so.";
    an_open_under_a_forged_token_is_fenced: "`Open` under another token than the current grant's is answered by `Fenced`, the last message of its stream.";
    a_batch_under_a_forged_token_is_fenced: "A batch under another token than the current grant's is answered by `Fenced`, and nothing of it is applied.";
    an_end_under_a_forged_token_is_fenced: "`Eof` under another token than the current grant's is answered by `Fenced`, and nothing is committed.";
    a_broken_stream_goes_on_at_next_seq: "After a broken connection another stream under the same token goes on from `Opened.next_seq`: everything acknowledged is there.";
    what_was_sent_and_not_acknowledged_is_there_or_not: "Of what was sent and not acknowledged a prefix of whole batches is durable, and `Opened` names its end and its digest.";
    two_streams_of_a_run_agree: "Two streams of one run never apply two records with one seq.";
    a_lease_writes_into_its_own_stream_only: "A message of another run than the stream's `Open` is refused.";
    compressed_messages_are_read: "Where both sides list `zstd`, messages on `Push` may be compressed.";
}

async fn the_first_message_of_a_push_is_open(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let records = kit.tables(0, 1);
    let opened = v1::Opened { digest: EMPTY.to_vec().into(), ..Default::default() };
    for first in [batch(&token, &records), Pushed::Eof(eof(&token, &opened, &[]))] {
        let mut push = Push::start(&kit.link, Some(first), false).await?;
        push.refused(Reason::ProtocolViolation).await?;
    }
    Ok(())
}

async fn open_comes_once_a_stream(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut push, _) = Push::open(&kit.link, &token).await?;
    push.say(Pushed::Open(v1::Open { token: Some(token.clone()) })).await;
    push.refused(Reason::ProtocolViolation).await.map(drop)
}

async fn opened_says_where_to_go_on(kit: &mut Kit) -> Checked {
    let (_token, _push, opening) = kit.fresh().await?;
    let opened = &opening.opened;
    ensure(opened.digest == EMPTY.as_slice(), || "the digest before the first record is not 32 zero bytes".to_owned())?;
    ensure(opened.source_position.is_empty(), || "a run without records has a source position".to_owned())?;
    ensure(opened.max_unacked_bytes > 0, || "max_unacked_bytes is 0: nothing could be sent".to_owned())
}

async fn the_baseline_comes_in_bounded_pages(kit: &mut Kit) -> Checked {
    let (_token, _push, opening) = kit.fresh().await?;
    for page in &opening.pages {
        let (entries, bytes) = (page.entries.len(), prost::Message::encoded_len(page));
        ensure(entries <= PAGE && bytes <= PAGE_BYTES, || format!("a page has {entries} entries and {bytes} bytes"))?;
    }
    let names: Vec<&str> = opening.baseline().map(|entry| entry.fqn.as_str()).collect();
    ensure(names.is_sorted_by(|a, b| a < b), || "the entries are not in the order of their FQNs".to_owned())?;
    ensure(opening.baseline().all(|entry| entry.content_hash.len() == 32), || {
        "a content hash of the baseline has not 32 bytes".to_owned()
    })
}

/// What a forged write must not move.
async fn unmoved(kit: &mut Kit, before: &(u64, bytes::Bytes), what: &str) -> Checked {
    let after = kit.standing().await?;
    ensure(after == *before, || format!("{what} moved the run from seq {} to {}", before.0, after.0))
}

async fn an_open_under_a_forged_token_is_fenced(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let before = kit.standing().await?;
    for (what, forged) in forgeries(&token) {
        let mut push = Push::knock(&kit.link, &forged).await?;
        fenced(&mut push, &format!("Open with {what}")).await?;
    }
    unmoved(kit, &before, "Open under a forged token").await
}

async fn a_batch_under_a_forged_token_is_fenced(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let before = kit.standing().await?;
    for (what, forged) in forgeries(&token) {
        let (mut push, opening) = Push::open(&kit.link, &token).await?;
        let records = kit.tables(opening.opened.next_seq, 1);
        push.say(batch(&forged, &records)).await;
        fenced(&mut push, &format!("a batch with {what}")).await?;
    }
    unmoved(kit, &before, "a batch under a forged token").await
}

async fn an_end_under_a_forged_token_is_fenced(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    for (what, forged) in forgeries(&token) {
        let (mut push, opening) = Push::open(&kit.link, &token).await?;
        push.say(Pushed::Eof(eof(&forged, &opening.opened, &[]))).await;
        fenced(&mut push, &format!("Eof with {what}")).await?;
    }
    let renewed = kit.holder()?.session.beat(std::slice::from_ref(&token)).await?;
    ensure(renewed == [token.run_id], || "the run ended by an Eof under a forged token".to_owned())
}

async fn fenced(push: &mut Push, what: &str) -> Checked {
    let fenced = push.fenced().await.map_err(|stop| match stop {
        crate::check::Stop::Failed(why) => crate::check::Stop::Failed(format!("{what}: {why}")),
        other @ crate::check::Stop::NotRun(_) => other,
    })?;
    let reason = fenced.reason();
    let known = [Reason::Fenced, Reason::LeaseExpired, Reason::LeaseRevoked, Reason::Cancelled];
    ensure(known.contains(&reason), || format!("{what}: Fenced.reason is {}", reason.as_str_name()))
}

async fn a_broken_stream_goes_on_at_next_seq(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let before = opening.opened;
    let records = kit.tables(before.next_seq, 3);
    push.durable(&token, &records).await?;
    drop(push);
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let after = opening.opened;
    let expected = before.next_seq + 3;
    ensure(after.next_seq == expected, || {
        format!("everything below {expected} was acknowledged, and Opened.next_seq is {}", after.next_seq)
    })?;
    ensure(after.digest == digest(&before.digest, &records), || "Opened.digest is not that of the records".to_owned())?;
    let more = kit.tables(after.next_seq, 1);
    push.durable(&token, &more).await
}

async fn what_was_sent_and_not_acknowledged_is_there_or_not(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (push, opening) = Push::open(&kit.link, &token).await?;
    let before = opening.opened;
    let records = kit.tables(before.next_seq, 8);
    for pair in records.chunks(2) {
        push.say(batch(&token, pair)).await;
    }
    drop(push);
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let after = opening.opened;
    let durable = after.next_seq.checked_sub(before.next_seq).and_then(|durable| usize::try_from(durable).ok());
    let parts = durable.and_then(|durable| records.split_at_checked(durable));
    let Some((there, missing)) = parts else {
        return failed(format!(
            "8 records were sent from seq {}, Opened.next_seq is {}",
            before.next_seq, after.next_seq
        ));
    };
    ensure(there.len().is_multiple_of(2), || format!("a part of a batch is durable ({} records)", there.len()))?;
    ensure(after.digest == digest(&before.digest, there), || "Opened.digest is not that of the records".to_owned())?;
    if missing.is_empty() { Ok(()) } else { push.durable(&token, missing).await }
}

async fn two_streams_of_a_run_agree(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut first, opening) = Push::open(&kit.link, &token).await?;
    let (mut second, _) = Push::open(&kit.link, &token).await?;
    let opened = opening.opened;
    let mine = kit.tables(opened.next_seq, 1);
    second.durable(&token, &mine).await?;
    let others = kit.tables(opened.next_seq, 1);
    first.say(batch(&token, &others)).await;
    // The first stream is refused, or was ended when the second one began: applied it is not.
    if let Some(Ok(Answer::Ack(_))) = first.next().await? {
        return failed("both streams were acknowledged a record with the same seq and other content");
    }
    let (next_seq, after) = kit.standing().await?;
    ensure(next_seq == opened.next_seq + 1 && after == digest(&opened.digest, &mine), || {
        "what the second stream was acknowledged is not what is there".to_owned()
    })
}

async fn a_lease_writes_into_its_own_stream_only(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let before = kit.standing().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let records = kit.tables(opening.opened.next_seq, 1);
    let other = v1::WriteToken { run_id: uuid::Uuid::new_v4().to_string(), ..token };
    push.say(batch(&other, &records)).await;
    if let Some(Ok(Answer::Ack(_))) = push.next().await? {
        return failed("a batch of another run was acknowledged");
    }
    unmoved(kit, &before, "a batch of another run").await
}

async fn compressed_messages_are_read(kit: &mut Kit) -> Checked {
    kit.needs("zstd").await?;
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open_zstd(&kit.link, &token).await?;
    let records = kit.tables(opening.opened.next_seq, 50);
    push.durable(&token, &records).await
}
