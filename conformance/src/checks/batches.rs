//! What a batch may hold, and what an acknowledgement says.

use hybrid_runner_proto::v1::{self, Reason, Record};

use crate::check::{Checked, checks, ensure, failed};
use crate::kit::Kit;
use crate::records::{digest, hash, unchanged, with_body};
use crate::wire::{Answer, Push, batch};

checks! {
    a_gap_is_refused: "A batch that begins above the next seq is refused as `OUT_OF_ORDER`.";
    a_gap_within_a_batch_is_refused: "Records of a batch are consecutive; a gap or a step back is refused as `OUT_OF_ORDER`.";
    the_same_seq_with_other_content_is_refused: "The same seq with other content is refused as `RECORD_CHANGED`.";
    the_same_content_again_is_acknowledged_again: "The same content again is acknowledged again, and counts once.";
    a_batch_that_is_known_in_part_is_applied_in_part: "A batch whose first records are known is applied from the first one that is not.";
    the_hash_is_that_of_the_body: "`content_hash` is the BLAKE3 of the body; a record whose hash is another one is refused, and nothing of its batch is applied.";
    a_hash_has_32_bytes: "A content hash of another length than 32 bytes is refused.";
    an_fqn_is_unique_in_the_run: "An FQN that the run has already, under whatever seq, is refused.";
    a_batch_has_records: "A batch without records, and a record with neither a body nor `unchanged`, are refused.";
    a_body_is_a_json_object: "A body that is no JSON object is refused.";
    a_service_has_no_connection: "A service entity with a `connection` is refused: it never travels.";
    an_ack_names_what_was_sent: "An `Ack` never names a record above what was sent, nor one below an earlier `Ack` of its stream.";
    an_ack_means_durable: "An `Ack` means that batch, source position, next seq and digest are durable together.";
    unchanged_needs_what_is_committed: "A record without a body whose entity is not committed is answered by `BodyNeeded` with its seq, and its batch is not applied.";
    what_follows_a_needed_body_is_dropped: "After `BodyNeeded` what follows is dropped until the agent sends again from the first record of that batch.";
    memos_need_the_capability: "A memo from an agent that did not list `memos` is a `PROTOCOL_VIOLATION` that names the field.";
}

/// Sends these records, made from the next seq, and wants them refused for this reason with nothing applied.
async fn refused(kit: &mut Kit, reason: Reason, make: impl FnOnce(&mut Kit, u64) -> Vec<Record>) -> Checked {
    let token = kit.hold().await?;
    let before = kit.standing().await?;
    let (mut push, _) = Push::open(&kit.link, &token).await?;
    let records = make(kit, before.0);
    push.say(batch(&token, &records)).await;
    push.refused(reason).await?;
    let after = kit.standing().await?;
    ensure(after == before, || format!("it was refused, and the run moved from seq {} to {}", before.0, after.0))
}

async fn a_gap_is_refused(kit: &mut Kit) -> Checked {
    refused(kit, Reason::OutOfOrder, |kit, next| kit.tables(next + 1, 1)).await
}

async fn a_gap_within_a_batch_is_refused(kit: &mut Kit) -> Checked {
    for step in [0, 2] {
        refused(kit, Reason::OutOfOrder, |kit, next| {
            let mut records = kit.tables(next, 1);
            records.extend(kit.tables(next + step, 1));
            records
        })
        .await?;
    }
    Ok(())
}

/// A run that has three records below the next seq: those.
async fn three_records(kit: &mut Kit) -> Checked<(v1::WriteToken, Push, v1::Opened, Vec<Record>)> {
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let records = kit.tables(opening.opened.next_seq, 3);
    push.durable(&token, &records).await?;
    Ok((token, push, opening.opened, records))
}

async fn the_same_seq_with_other_content_is_refused(kit: &mut Kit) -> Checked {
    let (_, _, _, records) = three_records(kit).await?;
    let Some(last) = records.last().cloned() else { return failed("no records") };
    refused(kit, Reason::RecordChanged, |_, _| vec![with_body(&last, r#"{"name":"another"}"#)]).await?;
    refused(kit, Reason::RecordChanged, |kit, _| kit.tables(last.seq, 1)).await
}

async fn the_same_content_again_is_acknowledged_again(kit: &mut Kit) -> Checked {
    let (token, mut push, opened, records) = three_records(kit).await?;
    let next_seq = opened.next_seq + 3;
    for again in [records.as_slice(), records.get(1..).unwrap_or_default(), records.get(..1).unwrap_or_default()] {
        push.say(batch(&token, again)).await;
        match push.hear().await? {
            // What is known already is acknowledged with everything that is durable.
            Answer::Ack(ack) => {
                ensure(ack.next_seq == next_seq, || {
                    format!("Ack.next_seq is {}, durable is everything below {next_seq}", ack.next_seq)
                })?;
            }
            _ => return failed("the same records again were not acknowledged"),
        }
    }
    let (_, after) = kit.standing().await?;
    ensure(after == digest(&opened.digest, &records), || "the digest counts them twice".to_owned())
}

async fn a_batch_that_is_known_in_part_is_applied_in_part(kit: &mut Kit) -> Checked {
    let (token, mut push, opened, mut records) = three_records(kit).await?;
    records.extend(kit.tables(opened.next_seq + 3, 2));
    push.durable(&token, records.get(1..).unwrap_or_default()).await?;
    let (_, after) = kit.standing().await?;
    ensure(after == digest(&opened.digest, &records), || "the digest is not that of the five records".to_owned())
}

async fn the_hash_is_that_of_the_body(kit: &mut Kit) -> Checked {
    refused(kit, Reason::ProtocolViolation, |kit, next| {
        let mut records = kit.tables(next, 3);
        if let Some(record) = records.last_mut() {
            record.content_hash = hash(b"another body").to_vec().into();
        }
        records
    })
    .await
}

async fn a_hash_has_32_bytes(kit: &mut Kit) -> Checked {
    for length in [0, 31, 33] {
        refused(kit, Reason::ProtocolViolation, |kit, next| {
            let hash = bytes::Bytes::from(vec![0; length]);
            kit.tables(next, 1).into_iter().map(|record| Record { content_hash: hash.clone(), ..record }).collect()
        })
        .await?;
    }
    Ok(())
}

async fn an_fqn_is_unique_in_the_run(kit: &mut Kit) -> Checked {
    let (_, _, _, records) = three_records(kit).await?;
    let names: Vec<String> = records.into_iter().map(|record| record.fqn).collect();
    refused(kit, Reason::ProtocolViolation, |kit, next| {
        kit.tables(next, 3).into_iter().zip(names).map(|(record, fqn)| Record { fqn, ..record }).collect()
    })
    .await?;
    refused(kit, Reason::ProtocolViolation, |kit, next| {
        let mut records = kit.tables(next, 2);
        if let [first, second] = records.as_mut_slice() {
            second.fqn.clone_from(&first.fqn);
        }
        records
    })
    .await
}

async fn a_batch_has_records(kit: &mut Kit) -> Checked {
    refused(kit, Reason::ProtocolViolation, |_, _| Vec::new()).await?;
    refused(kit, Reason::ProtocolViolation, |kit, next| {
        kit.tables(next, 1).into_iter().map(|record| Record { content: None, ..record }).collect()
    })
    .await
}

async fn a_body_is_a_json_object(kit: &mut Kit) -> Checked {
    for body in ["", "[]", "null", r#""a word""#, "{", r#"{"name": }"#] {
        refused(kit, Reason::ProtocolViolation, |kit, next| {
            kit.tables(next, 1).iter().map(|record| with_body(record, body)).collect()
        })
        .await?;
    }
    Ok(())
}

async fn a_service_has_no_connection(kit: &mut Kit) -> Checked {
    let body = r#"{"name":"kit","serviceType":"Salesforce","connection":{"config":{"type":"Salesforce"}}}"#;
    refused(kit, Reason::ProtocolViolation, |kit, next| {
        let service = |record: &Record| Record { kind: "databaseService".to_owned(), ..with_body(record, body) };
        kit.tables(next, 1).iter().map(service).collect()
    })
    .await
}

async fn an_ack_names_what_was_sent(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let first = opening.opened.next_seq;
    let records = kit.tables(first, 20);
    let mut acknowledged = first;
    let mut see = |answer: Answer, sent: u64| match answer {
        Answer::Ack(ack) if ack.next_seq > sent => {
            failed(format!("Ack.next_seq is {}, and nothing above {} was sent", ack.next_seq, sent - 1))
        }
        Answer::Ack(ack) if ack.next_seq < acknowledged => {
            failed(format!("Ack.next_seq is {} after {acknowledged}", ack.next_seq))
        }
        Answer::Ack(ack) => {
            acknowledged = ack.next_seq;
            Ok(acknowledged)
        }
        _ => failed("expected Ack"),
    };
    let (slowly, at_once) = records.split_at(records.len() / 2);
    for record in slowly {
        push.say(batch(&token, std::slice::from_ref(record))).await;
        let answer = push.hear().await?;
        see(answer, record.seq + 1)?;
    }
    for record in at_once {
        push.say(batch(&token, std::slice::from_ref(record))).await;
    }
    while see(push.hear().await?, first + 20)? < first + 20 {}
    Ok(())
}

async fn an_ack_means_durable(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    for position in ["the first position", "the second position"] {
        let (mut push, opening) = Push::open(&kit.link, &token).await?;
        let records = kit.tables(opening.opened.next_seq, 2);
        let source_position = bytes::Bytes::from_static(position.as_bytes());
        let message = v1::Batch { token: Some(token.clone()), records: records.clone(), source_position };
        push.say(crate::wire::Pushed::Batch(message)).await;
        push.acknowledged(opening.opened.next_seq + 2).await?;
        drop(push);
        let (_push, again) = Push::open(&kit.link, &token).await?;
        let opened = again.opened;
        ensure(opened.next_seq == opening.opened.next_seq + 2, || {
            format!("acknowledged was {}, Opened.next_seq is {}", opening.opened.next_seq + 2, opened.next_seq)
        })?;
        ensure(opened.digest == digest(&opening.opened.digest, &records), || {
            "Opened.digest is not of these records".to_owned()
        })?;
        ensure(opened.source_position == position.as_bytes(), || {
            "Opened.source_position is not that of the batch".to_owned()
        })?;
    }
    Ok(())
}

async fn body_needed(push: &mut Push, seqs: &[u64]) -> Checked {
    match push.hear().await? {
        Answer::BodyNeeded(needed) => {
            ensure(needed.seqs == seqs, || format!("BodyNeeded names {:?}, expected {seqs:?}", needed.seqs))
        }
        Answer::Ack(_) => failed("a record without a body was acknowledged, and nothing with its FQN is committed"),
        _ => failed("expected BodyNeeded"),
    }
}

async fn unchanged_needs_what_is_committed(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let records = kit.tables(opening.opened.next_seq, 3);
    let sent: Vec<Record> = records
        .iter()
        .enumerate()
        .map(|(at, record)| if at == 1 { unchanged(record) } else { record.clone() })
        .collect();
    push.say(batch(&token, &sent)).await;
    body_needed(&mut push, &[opening.opened.next_seq + 1]).await?;
    let (next_seq, _) = kit.standing().await?;
    ensure(next_seq == opening.opened.next_seq, || "a part of the batch was applied".to_owned())?;
    push.durable(&token, &records).await
}

async fn what_follows_a_needed_body_is_dropped(kit: &mut Kit) -> Checked {
    let token = kit.hold().await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let first = opening.opened.next_seq;
    let (records, following) = (kit.tables(first, 1), kit.tables(first + 1, 2));
    push.say(batch(&token, &records.iter().map(unchanged).collect::<Vec<_>>())).await;
    push.say(batch(&token, &following)).await;
    body_needed(&mut push, &[first]).await?;
    push.durable(&token, &records).await?;
    push.durable(&token, &following).await
}

async fn memos_need_the_capability(kit: &mut Kit) -> Checked {
    kit.hold().await?;
    kit.hand_back(Reason::Draining).await?;
    let session = kit.ready(&[]).await?;
    let token = kit.take(session).await?;
    let (mut push, opening) = Push::open(&kit.link, &token).await?;
    let memo = bytes::Bytes::from_static(b"a memo");
    let records: Vec<Record> = kit
        .tables(opening.opened.next_seq, 1)
        .into_iter()
        .map(|record| Record { memo: memo.clone(), ..record })
        .collect();
    push.say(batch(&token, &records)).await;
    let status = push.refused(Reason::ProtocolViolation).await?;
    ensure(status.message().contains("memo"), || format!("{:?} does not name the field", status.message()))?;
    // What comes next wants an agent that lists it.
    kit.hand_back(Reason::Draining).await.map(drop)
}
