//! How runs go on over grants.

use super::*;
use jiff::SignedDuration;

fn later(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

/// Grants the run to whoever can resume.
async fn grant(store: &dyn Store, run_id: RunId, at: Timestamp) -> Option<Granted> {
    let version = store.definitions().await.unwrap()[0].version;
    store.grant(run_id, version, AGENT, LISTED, at).await.unwrap()
}

/// As [`grant`], for a run that must be granted; its push is open.
async fn regranted(store: &dyn Store, run_id: RunId, at: Timestamp) -> (Granted, Writer) {
    let granted = grant(store, run_id, at).await.unwrap();
    let writer = writer(&granted);
    store.open(&writer).await.unwrap();
    (granted, writer)
}

/// A run with so many records, whose push is open.
async fn begun(store: &dyn Store, records: usize) -> Writer {
    let writer = opened(store).await;
    store.apply(&writer, &batch(&tables(0..records))).await.unwrap();
    writer
}

async fn lose(store: &dyn Store, run_id: RunId) {
    let lease = run(store, run_id).await.lease.unwrap();
    assert!(store.expire(run_id, &lease, Ending::Lost, AGENT_LOST, now()).await.unwrap());
}

async fn fail(store: &dyn Store, writer: &Writer, reason: &str, at: Timestamp) -> Run {
    assert!(store.release(writer, FAILED, reason, "why", at).await.unwrap());
    run(store, writer.token.run_id).await
}

/// A tick of the schedule.
async fn scheduled(store: &dyn Store, at: Timestamp) -> RunId {
    let seen = store.definitions().await.unwrap()[0].scheduled_at;
    store.enqueue_scheduled(PIPELINE, seen, at).await.unwrap().unwrap()
}

/// A pipeline whose last run failed so.
async fn held(store: &dyn Store, reason: &str) {
    let writer = opened(store).await;
    assert_eq!(fail(store, &writer, reason, now()).await.state, RunState::Failed);
    let holds = store.holds().await.unwrap();
    assert_eq!((holds.len(), holds[0].reason.as_str(), holds[0].detail.as_deref()), (1, reason, Some("why")));
    assert_eq!((holds[0].pipeline.as_str(), holds[0].until), (PIPELINE, later(900)));
}

/// Whether a run would be granted; what sessions are told must say the same.
async fn would_be_granted(store: &dyn Store, run_id: RunId, at: Timestamp) -> bool {
    let (open, holds) = (store.open_runs().await.unwrap(), store.holds().await.unwrap());
    let told = ready_runs(&open, &holds, at).contains(&run_id);
    if !told {
        assert_eq!(grant(store, run_id, at).await, None);
    }
    told
}

contract! {
    async fn another_grant_of_a_run_goes_on_after_the_last_durable_batch(subject: Subject) {
        let store = subject.store();
        let first = begun(&*store, 4).await;
        let run_id = first.token.run_id;
        assert!(store.release(&first, HANDED_BACK, "DRAINING", "the agent leaves", now()).await.unwrap());
        let handed_back = run(&*store, run_id).await;
        assert_eq!((handed_back.state, handed_back.detail.as_deref()), (RunState::Queued, Some("the agent leaves")));
        assert_eq!((handed_back.attempt, handed_back.not_before), (1, None), "at once, and it does not count");
        let subject = subject.crash().await;
        let store = subject.store();
        let (granted, second) = regranted(&*store, run_id, now()).await;
        let checkpoint = granted.checkpoint.unwrap();
        let digest = eof(&tables(0..4), &[]).digest;
        assert_eq!((checkpoint.next_seq, checkpoint.digest), (4, digest));
        assert_eq!(checkpoint.source_position, "after 3");
        let opened = store.open(&second).await.unwrap();
        assert_eq!((opened.next_seq, opened.digest, opened.source_position), (4, digest, checkpoint.source_position));
        // Its numbers go on, and a resent record is compared with what the first one staged.
        let records = tables(0..6);
        store.apply(&second, &batch(&records[3..])).await.unwrap();
        assert_eq!(store.commit(&second, &eof(&records, &[]), now()).await.unwrap().entities, 6);
        assert_eq!(names(&*store).await.len(), 6);
    }

    async fn what_was_staged_is_dropped_for_an_agent_that_cannot_resume(subject: Subject) {
        let store = subject.store();
        let first = begun(&*store, 4).await;
        lose(&*store, first.token.run_id).await;
        let unable = Listed { resume: false, ..LISTED };
        let second = store.grant(first.token.run_id, 1, AGENT, unable, now()).await.unwrap().unwrap();
        assert_eq!(second.checkpoint, None);
        let second = writer(&second);
        let opened = store.open(&second).await.unwrap();
        assert_eq!((opened.next_seq, opened.digest, opened.source_position), (0, digest::EMPTY, Bytes::new()));
        // The same seqs with other content: nothing of the first grant is left to compare them with.
        let records = tables(7..9);
        store.apply(&second, &batch(&records)).await.unwrap();
        store.commit(&second, &eof(&records, &[]), now()).await.unwrap();
        assert_eq!(names(&*store).await, ["s.d.t007", "s.d.t008"]);
    }

    async fn what_was_staged_is_dropped_when_the_definition_changed(subject: Subject) {
        let store = subject.store();
        let first = begun(&*store, 4).await;
        lose(&*store, first.token.run_id).await;
        define(&*store, &[NewDefinition { workflow_json: "{\"x\":1}".to_owned(), ..definition(PIPELINE) }]).await;
        let (granted, second) = regranted(&*store, first.token.run_id, now()).await;
        assert_eq!((granted.definition_version, granted.checkpoint), (2, None));
        assert_eq!(store.open(&second).await.unwrap().next_seq, 0);
    }

    async fn what_was_staged_is_dropped_when_the_run_became_full(subject: Subject) {
        let store = subject.store();
        let first = begun(&*store, 4).await;
        let run_id = first.token.run_id;
        lose(&*store, run_id).await;
        assert_eq!(store.enqueue(PIPELINE, false, now()).await.unwrap(), run_id);
        assert_eq!(regranted(&*store, run_id, now()).await.0.checkpoint.unwrap().next_seq, 4);
        lose(&*store, run_id).await;
        assert_eq!(store.enqueue(PIPELINE, true, now()).await.unwrap(), run_id);
        let (granted, writer) = regranted(&*store, run_id, now()).await;
        assert_eq!((granted.full, granted.checkpoint), (true, None));
        assert_eq!(store.open(&writer).await.unwrap().next_seq, 0);
        // From here on it is full, and what is staged stays.
        store.apply(&writer, &batch(&tables(0..2))).await.unwrap();
        lose(&*store, run_id).await;
        assert_eq!(store.enqueue(PIPELINE, true, now()).await.unwrap(), run_id);
        assert_eq!(regranted(&*store, run_id, now()).await.0.checkpoint.unwrap().next_seq, 2);
    }

    async fn a_checkpoint_that_is_not_usable_is_dropped_and_the_run_starts_clean_at_once(subject: Subject) {
        let store = subject.store();
        let mut writer = begun(&*store, 3).await;
        let run_id = writer.token.run_id;
        for clean_start in 1..=5_u32 {
            assert!(store.release(&writer, HANDED_BACK, "CHECKPOINT_UNUSABLE", "listing", now()).await.unwrap());
            let after = run(&*store, run_id).await;
            assert_eq!((after.attempt, after.not_before, after.restarts), (1, None, clean_start));
            if clean_start == 5 {
                assert_eq!((after.state, after.reason.as_deref()), (RunState::Failed, Some("CHECKPOINT_UNUSABLE")));
                break;
            }
            let (granted, next) = regranted(&*store, run_id, now()).await;
            assert_eq!((granted.attempt, granted.checkpoint), (1, None));
            assert_eq!(store.open(&next).await.unwrap().next_seq, 0);
            store.apply(&next, &batch(&tables(0..2))).await.unwrap();
            writer = next;
        }
    }

    async fn a_lost_run_is_granted_again_at_once_until_five_in_a_row_brought_nothing(subject: Subject) {
        let store = subject.store();
        let writer = begun(&*store, 2).await;
        let run_id = writer.token.run_id;
        for lost in 1..=4_u32 {
            lose(&*store, run_id).await;
            let after = run(&*store, run_id).await;
            assert_eq!((after.state, after.attempt, after.lost), (RunState::Queued, 1, lost));
            assert_eq!(regranted(&*store, run_id, now()).await.0.checkpoint.unwrap().next_seq, 2);
        }
        // A record that is known is nothing new; one that is not begins the count again.
        let (token, agent) = (run(&*store, run_id).await.token().unwrap(), AGENT.to_owned());
        let writer = Writer { agent, token };
        store.apply(&writer, &batch(&tables(0..2))).await.unwrap();
        assert_eq!(run(&*store, run_id).await.lost, 4);
        store.apply(&writer, &batch(&tables(0..3))).await.unwrap();
        assert_eq!(run(&*store, run_id).await.lost, 0);
        for _ in 1..=4 {
            lose(&*store, run_id).await;
            regranted(&*store, run_id, now()).await;
        }
        lose(&*store, run_id).await;
        let ended = run(&*store, run_id).await;
        assert_eq!((ended.state, ended.reason.as_deref()), (RunState::Failed, Some(AGENT_LOST)));
        assert!(ended.ended_at.is_some());
        assert_eq!(grant(&*store, run_id, now()).await, None);
        assert_eq!(store.entities(None, None, 10).await.unwrap(), []);
    }

    async fn a_failure_that_may_pass_is_tried_three_times_from_the_checkpoint(subject: Subject) {
        let store = subject.store();
        let first = begun(&*store, 2).await;
        let run_id = first.token.run_id;
        let waits = fail(&*store, &first, "SOURCE_UNREACHABLE", now()).await;
        assert_eq!((waits.state, waits.attempt, waits.not_before), (RunState::Queued, 2, Some(later(30))));
        assert_eq!((waits.reason.as_deref(), waits.detail.as_deref()), (Some("SOURCE_UNREACHABLE"), Some("why")));
        assert!(!would_be_granted(&*store, run_id, later(29)).await);
        let subject = subject.crash().await;
        let store = subject.store();
        assert!(!would_be_granted(&*store, run_id, later(29)).await);
        assert!(would_be_granted(&*store, run_id, later(30)).await);
        let (granted, second) = regranted(&*store, run_id, later(30)).await;
        assert_eq!((granted.attempt, granted.checkpoint.unwrap().next_seq), (2, 2));
        store.apply(&second, &batch(&tables(0..3))).await.unwrap();
        let waits = fail(&*store, &second, "INTERNAL", later(40)).await;
        assert_eq!((waits.state, waits.attempt, waits.not_before), (RunState::Queued, 3, Some(later(160))));
        let (granted, third) = regranted(&*store, run_id, later(160)).await;
        assert_eq!((granted.attempt, granted.checkpoint.unwrap().next_seq), (3, 3));
        let ended = fail(&*store, &third, "SOURCE_PROTOCOL", later(170)).await;
        assert_eq!((ended.state, ended.attempt, ended.not_before), (RunState::Failed, 3, None));
        assert_eq!((ended.reason.as_deref(), ended.ended_at), (Some("SOURCE_PROTOCOL"), Some(later(170))));
        assert_eq!(store.holds().await.unwrap(), [], "the next run may come");
    }

    async fn a_throttled_source_is_left_alone_for_longer(subject: Subject) {
        let store = subject.store();
        let mut writer = opened(&*store).await;
        let run_id = writer.token.run_id;
        for (attempt, pause) in [(2, 900), (3, 3_600)] {
            let waits = fail(&*store, &writer, "SOURCE_THROTTLED", now()).await;
            assert_eq!((waits.attempt, waits.not_before), (attempt, Some(later(pause))));
            writer = regranted(&*store, run_id, later(pause)).await.1;
        }
        assert_eq!(fail(&*store, &writer, "SOURCE_THROTTLED", now()).await.state, RunState::Failed);
    }

    async fn a_wall_clock_that_jumped_back_makes_no_run_wait_for_years(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        fail(&*store, &writer, "SOURCE_UNREACHABLE", later(400 * 86_400)).await;
        assert!(would_be_granted(&*store, writer.token.run_id, now()).await);
        regranted(&*store, writer.token.run_id, now()).await;
    }

    async fn a_run_by_hand_does_not_wait_and_a_tick_of_the_schedule_does(subject: Subject) {
        let store = subject.store();
        let writer = begun(&*store, 2).await;
        let run_id = writer.token.run_id;
        fail(&*store, &writer, "SOURCE_UNREACHABLE", now()).await;
        assert_eq!(scheduled(&*store, later(1)).await, run_id);
        assert!(!would_be_granted(&*store, run_id, later(1)).await);
        assert_eq!(store.enqueue(PIPELINE, false, later(1)).await.unwrap(), run_id);
        let (granted, _) = regranted(&*store, run_id, later(1)).await;
        assert_eq!((granted.attempt, granted.checkpoint.unwrap().next_seq), (2, 2));
    }

    async fn a_reason_that_is_neither_fails_the_run_and_holds_nothing(subject: Subject) {
        let store = subject.store();
        for reason in ["SOURCE_UNKNOWN", "RUN_DEADLINE", "DIGEST_MISMATCH", "UNSPECIFIED", "NO_SUCH_REASON"] {
            let writer = opened(&*store).await;
            assert_eq!(fail(&*store, &writer, reason, now()).await.state, RunState::Failed, "{reason}");
            assert_eq!(store.holds().await.unwrap(), [], "{reason}");
        }
    }

    async fn a_failure_that_stays_holds_the_scheduled_runs_of_its_pipeline_for_a_quarter_of_an_hour(subject: Subject) {
        for reason in [
            "AUTH_FAILED", "SECRET_UNAVAILABLE", "SECRET_MALFORMED", "SECRET_IN_OUTPUT", "POLICY_DENIED",
            "BAD_DEFINITION", "LITERAL_SECRET", "SOURCE_DENIED",
        ] {
            let store = MemoryStore::new();
            held(&store, reason).await;
        }
        let store = subject.store();
        held(&*store, "AUTH_FAILED").await;
        let run_id = scheduled(&*store, later(1)).await;
        assert!(!would_be_granted(&*store, run_id, later(899)).await);
        let subject = subject.crash().await;
        let store = subject.store();
        assert!(!would_be_granted(&*store, run_id, later(899)).await);
        assert!(would_be_granted(&*store, run_id, later(900)).await);
        regranted(&*store, run_id, later(900)).await;
    }

    async fn a_held_pipeline_runs_again_once_its_definition_changed(subject: Subject) {
        let store = subject.store();
        held(&*store, "SECRET_UNAVAILABLE").await;
        let run_id = scheduled(&*store, later(1)).await;
        let schedule = Some(ScheduleText { cron: "@hourly".to_owned(), timezone: "UTC".to_owned() });
        define(&*store, &[NewDefinition { schedule: schedule.clone(), ..definition(PIPELINE) }]).await;
        assert!(!would_be_granted(&*store, run_id, later(1)).await, "the workflow is the same");
        let workflow_json = "{\"x\":1}".to_owned();
        define(&*store, &[NewDefinition { schedule, workflow_json, ..definition(PIPELINE) }]).await;
        assert_eq!(store.holds().await.unwrap(), []);
        regranted(&*store, run_id, later(1)).await;
    }

    async fn a_failure_under_an_older_definition_holds_nothing(subject: Subject) {
        let store = subject.store();
        let writer = opened(&*store).await;
        define(&*store, &[NewDefinition { workflow_json: "{\"x\":1}".to_owned(), ..definition(PIPELINE) }]).await;
        fail(&*store, &writer, "AUTH_FAILED", now()).await;
        assert_eq!(store.holds().await.unwrap(), []);
    }

    async fn a_held_pipeline_runs_when_somebody_asks_by_hand(subject: Subject) {
        let store = subject.store();
        // One that was asked for by hand before the failure is granted too; its commit ends the hold.
        let failing = opened(&*store).await;
        let queued = store.enqueue(PIPELINE, false, now()).await.unwrap();
        fail(&*store, &failing, "AUTH_FAILED", now()).await;
        assert_eq!(store.holds().await.unwrap().len(), 1);
        let (_, by_hand) = regranted(&*store, queued, now()).await;
        let tick = scheduled(&*store, later(1)).await;
        assert_ne!(tick, queued);
        store.commit(&by_hand, &eof(&[], &[]), now()).await.unwrap();
        assert_eq!(store.holds().await.unwrap(), []);
        let (_, ticked) = regranted(&*store, tick, later(1)).await;
        fail(&*store, &ticked, "AUTH_FAILED", later(2)).await;
        let tick = scheduled(&*store, later(3)).await;
        assert!(!would_be_granted(&*store, tick, later(3)).await);
        assert_eq!(store.enqueue(PIPELINE, false, later(3)).await.unwrap(), tick, "the scheduled one is joined");
        assert_eq!(store.holds().await.unwrap(), []);
        regranted(&*store, tick, later(3)).await;
    }

    async fn a_busy_agent_is_asked_again_after_a_pause_that_grows_and_not_for_ever(subject: Subject) {
        let store = subject.store();
        let mut at = now();
        let mut writer = opened(&*store).await;
        let run_id = writer.token.run_id;
        for handed_back in 1..=20_i64 {
            assert!(store.release(&writer, HANDED_BACK, "BUSY", "", at).await.unwrap());
            let after = run(&*store, run_id).await;
            if handed_back == 20 {
                assert_eq!((after.state, after.reason.as_deref()), (RunState::Failed, Some("BUSY")));
                break;
            }
            at = at.checked_add(SignedDuration::from_secs(handed_back)).unwrap();
            assert_eq!((after.state, after.not_before, after.attempt), (RunState::Queued, Some(at), 1));
            writer = regranted(&*store, run_id, at).await.1;
        }
    }

    async fn a_run_that_was_begun_ends_before_another_one_of_its_pipeline_begins(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..2), &eof(&tables(0..2), &[])).await;
        let first = opened(&*store).await;
        // Staged as unchanged: it stands on what is committed now.
        store.apply(&first, &batch(&[unchanged(0, "t000", "first")])).await.unwrap();
        let second = store.enqueue(PIPELINE, false, now()).await.unwrap();
        fail(&*store, &first, "SOURCE_UNREACHABLE", now()).await;
        assert!(!would_be_granted(&*store, second, later(1)).await, "it would commit beneath the first one");
        let (_, first) = regranted(&*store, first.token.run_id, later(30)).await;
        assert!(!would_be_granted(&*store, second, later(31)).await);
        let end = eof(&[unchanged(0, "t000", "first")], &[]);
        assert_eq!(store.commit(&first, &end, later(32)).await.unwrap().unchanged, 1);
        assert!(would_be_granted(&*store, second, later(33)).await);
    }

    async fn what_a_waiting_run_found_again_is_not_deleted(subject: Subject) {
        let store = subject.store();
        commit(&*store, &tables(0..10), &eof(&tables(0..10), &[])).await;
        let gone = ["t000", "t001", "t002", "t003", "t004", "t005"];
        let (asked, _) = commit(&*store, &tables(6..10), &eof(&tables(6..10), &gone)).await;
        let first = opened(&*store).await;
        let again = [unchanged(0, "t000", "first")];
        store.apply(&first, &batch(&again)).await.unwrap();
        lose(&*store, first.token.run_id).await;
        assert_eq!(store.decide_deletions(asked, true).await.unwrap(), Some(5));
        let (_, second) = regranted(&*store, first.token.run_id, now()).await;
        store.commit(&second, &eof(&again, &[]), now()).await.unwrap();
        assert_eq!(names(&*store).await, ["s.d.t000", "s.d.t006", "s.d.t007", "s.d.t008", "s.d.t009"]);
        assert_eq!(store.bodies(None, None, 10).await.unwrap().len(), 5);
    }

    async fn a_cancelled_run_that_waits_leaves_nothing(subject: Subject) {
        let store = subject.store();
        let writer = begun(&*store, 3).await;
        fail(&*store, &writer, "SOURCE_UNREACHABLE", now()).await;
        assert_eq!(store.cancel(writer.token.run_id, now()).await.unwrap(), Some(RunState::Queued));
        let ended = run(&*store, writer.token.run_id).await;
        assert_eq!((ended.state, ended.not_before), (RunState::Cancelled, None));
        // The same seqs come again under another run.
        let next = begun(&*store, 2).await;
        assert_ne!(next.token.run_id, writer.token.run_id);
        assert_eq!(store.commit(&next, &eof(&tables(0..2), &[]), now()).await.unwrap().entities, 2);
    }
}
