//! Who may write, what a write may change, and what a run may delete.

mod deletions;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control_plane::store::{Run, RunId, RunState};
use hybrid_runner::{AgentEvent, RunEnd};
use hybrid_runner_proto::v1::{self, Reason, WriteToken};
use hybrid_runner_tests::by_hand::{self, Answer, Push, Pushed, Session, batch, eof, table, tables, unchanged};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, Setup, World, pipeline_yaml, write};
use sandbox::FaultPlan;
use tonic::Code;
use tonic::transport::Channel;

/// A second pipeline of the same control plane.
const OTHER: &str = "other";

/// What a forged write must not move: the run as stored, where its push stands, and what is visible.
#[derive(Debug, PartialEq)]
struct Standing {
    run: Option<Run>,
    next_seq: u64,
    digest: bytes::Bytes,
    visible: usize,
}

/// A world whose two pipelines are both granted to the agent `one`, which is a hand-written one.
struct Holder {
    world: World,
    channel: Channel,
    session: Session,
    token: WriteToken,
    other: WriteToken,
}

impl Holder {
    async fn new() -> Self {
        let world = World::new().await;
        let text = pipeline_yaml("").replace("name: crm", "name: other");
        write(world.dir.path(), "pipelines/other.yaml", &text);
        let mut changes = world.plane.changes();
        within("the second pipeline", async {
            while world.plane.store().definitions().await.unwrap().len() < 2 {
                changes.changed().await.unwrap();
            }
        })
        .await;
        let channel = connect(&world, "one").await;
        let mut session = Session::ready(&channel, 2).await;
        let mut tokens = BTreeMap::new();
        for pipeline in [PIPELINE, OTHER] {
            world.plane.trigger(pipeline, false).await.unwrap();
            let grant = session.grant().await;
            tokens.insert(grant.pipeline, grant.token.unwrap());
        }
        let (token, other) = (tokens.remove(PIPELINE).unwrap(), tokens.remove(OTHER).unwrap());
        Self { world, channel, session, token, other }
    }

    /// Tokens that differ from the grant's in one field each.
    fn forgeries(&self) -> Vec<(&'static str, WriteToken)> {
        let token = &self.token;
        vec![
            ("a stale fence", WriteToken { fence: token.fence - 1, ..token.clone() }),
            ("a future fence", WriteToken { fence: token.fence + 1, ..token.clone() }),
            ("another grant's lease id", WriteToken { lease_id: self.other.lease_id.clone(), ..token.clone() }),
            ("a random lease id", WriteToken { lease_id: vec![0xa5; 16].into(), ..token.clone() }),
            ("a short lease id", WriteToken { lease_id: token.lease_id.slice(..15), ..token.clone() }),
            ("no lease id", WriteToken { lease_id: bytes::Bytes::new(), ..token.clone() }),
            ("another run's id", WriteToken { run_id: self.other.run_id.clone(), ..token.clone() }),
            ("an unknown run's id", WriteToken { run_id: RunId::new().to_string(), ..token.clone() }),
            ("no run's id", WriteToken { run_id: "nobody".to_owned(), ..token.clone() }),
        ]
    }

    async fn standing(&self) -> Standing {
        let (_push, opened, _) = Push::open(&self.channel, &self.token).await;
        let run = self.world.plane.store().run(self.token.run_id.parse().unwrap()).await.unwrap();
        let visible = self.world.plane.store().entities(None, None, 1_000).await.unwrap().len();
        Standing { run, next_seq: opened.next_seq, digest: opened.digest, visible }
    }
}

async fn connect(world: &World, name: &str) -> Channel {
    by_hand::connect(world.port, &world.authority, &world.authority.agent(name)).await
}

/// A run of the world's pipeline, granted to a hand-written agent.
async fn granted(world: &World, channel: &Channel) -> (Session, WriteToken) {
    let mut session = Session::ready(channel, 1).await;
    let token = next_grant(world, &mut session).await;
    (session, token)
}

async fn next_grant(world: &World, session: &mut Session) -> WriteToken {
    session.ask(1).await;
    world.plane.trigger(PIPELINE, false).await.unwrap();
    session.grant().await.token.unwrap()
}

async fn visible(world: &World) -> BTreeSet<String> {
    world.entities().await.into_iter().map(|(_, fqn, _)| fqn).collect()
}

#[tokio::test]
async fn a_push_under_a_forged_token_is_fenced_and_changes_nothing() {
    let _logs = Logs::capture();
    let holder = Holder::new().await;
    let records = tables(4);
    let (mut push, _, _) = Push::open(&holder.channel, &holder.token).await;
    push.durable(&holder.token, &records[..2]).await;
    drop(push);
    let before = holder.standing().await;
    assert_eq!((before.next_seq, before.visible), (2, 0));

    for (what, forged) in holder.forgeries() {
        let open = Pushed::Open(v1::Open { token: Some(forged.clone()) });
        let mut push = Push::connect(&holder.channel).await;
        push.say(open).await;
        assert_eq!(push.fenced().await.reason(), Reason::Fenced, "Open with {what}");
        assert_eq!(holder.standing().await, before, "Open with {what}");

        for message in [batch(&forged, &records[2..]), Pushed::Eof(eof(&forged, &records[..2]))] {
            let (mut push, _, _) = Push::open(&holder.channel, &holder.token).await;
            push.say(message).await;
            assert_eq!(push.fenced().await.reason(), Reason::Fenced, "a write with {what}");
            assert_eq!(holder.standing().await, before, "a write with {what}");
        }
    }

    // The holder itself was not disturbed.
    let (mut push, _, _) = Push::open(&holder.channel, &holder.token).await;
    push.durable(&holder.token, &records[2..]).await;
    assert_eq!(push.commit(&holder.token, &records).await.entities, 4);
    holder.world.stop().await;
}

#[tokio::test]
async fn a_heartbeat_or_release_under_a_forged_token_renews_and_ends_nothing() {
    let _logs = Logs::capture();
    let mut holder = Holder::new().await;
    let before = holder.standing().await;
    for (what, forged) in holder.forgeries() {
        assert_eq!(holder.session.beat(std::slice::from_ref(&forged)).await, Vec::<String>::new(), "{what}");
        assert_eq!(holder.standing().await, before, "a heartbeat with {what}");
        holder.session.release(&forged).await;
        assert_eq!(holder.standing().await, before, "a release with {what}");
    }
    let (token, other) = (holder.token.clone(), holder.other.clone());
    assert_eq!(holder.session.beat(&[token.clone(), other.clone()]).await, [&*token.run_id, &*other.run_id]);
    holder.session.release(&token).await;
    let run = holder.world.plane.store().run(token.run_id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Failed);
    holder.world.stop().await;
}

#[tokio::test]
async fn a_lease_that_holds_does_not_write_into_the_stream_of_another_run() {
    let _logs = Logs::capture().expecting("a push ends");
    let holder = Holder::new().await;
    let before = holder.standing().await;
    let (mut push, _, _) = Push::open(&holder.channel, &holder.token).await;
    push.batch(&holder.other, &tables(1)).await;
    assert_eq!(by_hand::reason(&push.end().await), Reason::ProtocolViolation);
    assert_eq!(holder.standing().await, before);
    holder.world.stop().await;
}

#[tokio::test]
async fn another_agent_can_do_nothing_with_a_grant_it_has_seen() {
    let _logs = Logs::capture().expecting("a push ends");
    let holder = Holder::new().await;
    let before = holder.standing().await;
    let thief = connect(&holder.world, "two").await;
    let mut push = Push::connect(&thief).await;
    push.say(Pushed::Open(v1::Open { token: Some(holder.token.clone()) })).await;
    let status = push.end().await;
    assert_eq!((status.code(), by_hand::reason(&status)), (Code::PermissionDenied, Reason::IdentityDenied));
    let (mut session, _) = Session::hello(&thief).await;
    assert_eq!(session.beat(std::slice::from_ref(&holder.token)).await, Vec::<String>::new());
    session.release(&holder.token).await;
    assert_eq!(holder.standing().await, before);
    holder.world.stop().await;
}

#[tokio::test]
async fn a_writer_from_before_a_new_grant_is_fenced_wherever_it_is() {
    let _logs = Logs::capture();
    let world = World::new().await;
    let channel = connect(&world, "one").await;
    let (mut session, old) = granted(&world, &channel).await;
    let (mut asleep, _, _) = Push::open(&channel, &old).await;
    asleep.durable(&old, &tables(2)).await;
    session.ask(1).await;
    let release =
        v1::Release { token: Some(old.clone()), outcome: v1::Outcome::HandedBack.into(), ..Default::default() };
    session.say(by_hand::Said::Release(release)).await;
    let new = session.grant().await.token.unwrap();
    assert_eq!(new.run_id, old.run_id);
    assert!(new.fence > old.fence && new.lease_id != old.lease_id, "{new:?} after {old:?}");
    // The stream that was open is told, a new one is refused, and what was staged before is gone.
    assert_eq!(asleep.fenced().await.reason(), Reason::Fenced);
    let mut push = Push::connect(&channel).await;
    push.say(Pushed::Open(v1::Open { token: Some(old) })).await;
    assert_eq!(push.fenced().await.reason(), Reason::Fenced);
    let (mut push, opened, _) = Push::open(&channel, &new).await;
    assert_eq!(opened.next_seq, 0);
    push.durable(&new, &tables(1)).await;
    assert_eq!(push.commit(&new, &tables(1)).await.entities, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_record_cannot_change_and_none_can_be_left_out() {
    let _logs = Logs::capture().expecting("a push ends");
    let world = World::new().await;
    let channel = connect(&world, "one").await;
    let (_session, token) = granted(&world, &channel).await;
    let records = tables(3);
    let (mut push, _, _) = Push::open(&channel, &token).await;
    push.durable(&token, &records[..2]).await;
    // The same content again is acknowledged again.
    push.durable(&token, &records[..2]).await;
    let renamed = v1::Record { fqn: records[0].fqn.clone() + "x", ..records[1].clone() };
    let tag = v1::Record { kind: "tag".to_owned(), ..records[1].clone() };
    for (what, batch, reason) in [
        ("another body", vec![table(1, "T1", "{}")], Reason::RecordChanged),
        ("another name", vec![renamed], Reason::RecordChanged),
        ("another kind", vec![tag], Reason::RecordChanged),
        ("a change before what is new", vec![table(1, "T1", "{}"), records[2].clone()], Reason::RecordChanged),
        ("a gap before the batch", vec![table(3, "T3", "{}")], Reason::OutOfOrder),
        ("a gap in the batch", vec![records[2].clone(), table(4, "T4", "{}")], Reason::OutOfOrder),
        ("a step back in the batch", vec![records[2].clone(), records[2].clone()], Reason::OutOfOrder),
    ] {
        let (mut push, opened, _) = Push::open(&channel, &token).await;
        assert_eq!(opened.next_seq, 2, "before {what}");
        assert_eq!(opened.digest, by_hand::digest(&records[..2]).as_slice(), "before {what}");
        push.batch(&token, &batch).await;
        let status = push.end().await;
        assert_eq!(by_hand::reason(&status), reason, "{what}: {}", status.message());
    }
    let (mut push, _, _) = Push::open(&channel, &token).await;
    push.durable(&token, &records[2..]).await;
    push.commit(&token, &records).await;
    assert_eq!(visible(&world).await.len(), 3);
    world.stop().await;
}

#[tokio::test]
async fn a_run_shows_nothing_before_it_commits_and_a_wrong_digest_commits_nothing() {
    let _logs = Logs::capture().expecting("a push ends");
    let world = World::new().await;
    let channel = connect(&world, "one").await;
    let (mut session, first) = granted(&world, &channel).await;
    let records = tables(3);
    let (mut push, _, _) = Push::open(&channel, &first).await;
    push.durable(&first, &records).await;
    let right = eof(&first, &records);
    for wrong in [
        v1::Eof { digest: vec![0; 32].into(), ..right.clone() },
        v1::Eof { count: 2, ..right.clone() },
        eof(&first, &records[..2]),
    ] {
        let (mut push, _, _) = Push::open(&channel, &first).await;
        push.say(Pushed::Eof(wrong)).await;
        assert_eq!(by_hand::reason(&push.end().await), Reason::DigestMismatch);
        assert_eq!(visible(&world).await.len(), 0, "nothing of an uncommitted run is visible");
    }
    let (mut push, _, _) = Push::open(&channel, &first).await;
    let committed = push.commit(&first, &records).await;
    assert_eq!((committed.count, committed.changed, committed.digest), (3, 3, right.digest));
    let before = world.entities().await;

    // A run that ends without a commit leaves what was committed as it was.
    let second = next_grant(&world, &mut session).await;
    let (mut push, _, _) = Push::open(&channel, &second).await;
    push.durable(&second, &[table(0, "T0", r#"{"name":"changed"}"#), table(1, "New", "{}")]).await;
    assert_eq!(world.entities().await, before);
    session.release(&second).await;
    assert_eq!(world.entities().await, before);
    world.stop().await;
}

#[tokio::test]
async fn an_unchanged_record_counts_only_with_the_committed_hash() {
    let _logs = Logs::capture();
    let world = World::new().await;
    let channel = connect(&world, "one").await;
    let (mut session, first) = granted(&world, &channel).await;
    let records = tables(3);
    let (mut push, _, _) = Push::open(&channel, &first).await;
    // Nothing is committed yet: nothing can be unchanged.
    push.batch(&first, &[unchanged(&records[0])]).await;
    assert!(matches!(push.hear().await, Answer::BodyNeeded(needed) if needed.seqs == [0]));
    push.durable(&first, &records).await;
    push.commit(&first, &records).await;
    let before = world.entities().await;

    let second = next_grant(&world, &mut session).await;
    let (mut push, _, baseline) = Push::open(&channel, &second).await;
    assert_eq!(baseline.len(), 3);
    for (entry, record) in baseline.iter().zip(&records) {
        assert_eq!((&entry.fqn, &entry.content_hash), (&record.fqn, &record.content_hash));
    }
    let lie = unchanged(&table(1, "T1", r#"{"name":"another"}"#));
    push.batch(&second, &[unchanged(&records[0]), lie, unchanged(&records[2])]).await;
    assert!(matches!(push.hear().await, Answer::BodyNeeded(needed) if needed.seqs == [1]));
    let sent = [unchanged(&records[0]), records[1].clone(), unchanged(&records[2])];
    push.durable(&second, &sent).await;
    let committed = push.commit(&second, &sent).await;
    assert_eq!((committed.changed, committed.unchanged), (0, 3));
    assert_eq!(world.entities().await, before);
    world.stop().await;
}

#[tokio::test]
async fn two_agents_never_run_the_same_pipeline_at_once_and_both_get_work() {
    let _logs = Logs::capture();
    let faults = FaultPlan { latency: Duration::from_millis(5), ..FaultPlan::default() };
    let world = World::with(Setup { faults, ..Setup::default() }).await;
    let mut agents = [
        ("one", RunningAgent::start(world.agent_config("one"))),
        ("two", RunningAgent::start(world.agent_config("two"))),
    ];
    let mut changes = world.plane.changes();
    let store = world.plane.store();
    let mut ended: Vec<Run> = Vec::new();
    within("runs of both agents", async {
        // There is always one queued while one runs: whoever could take it too soon has the chance to.
        while ended.len() < 6 || ended.iter().map(|run| &run.agent).collect::<BTreeSet<_>>().len() < 2 {
            world.plane.trigger(PIPELINE, false).await.unwrap();
            let open = store.open_runs().await.unwrap();
            assert!(open.iter().filter(|run| run.state.is_active()).count() <= 1, "{open:?}");
            changes.changed().await.unwrap();
            ended = store.runs(Some(PIPELINE), 1_000).await.unwrap();
            ended.retain(|run| run.state.is_final());
        }
    })
    .await;

    ended.sort_by_key(|run| run.token().unwrap().fence);
    for run in &ended {
        assert_eq!((run.state, run.attempt), (RunState::Committed, 1), "{run:?}");
    }
    for pair in ended.windows(2) {
        assert!(pair[0].token().unwrap().fence < pair[1].token().unwrap().fence, "{pair:?}");
        assert!(pair[0].ended_at.unwrap() <= pair[1].started_at.unwrap(), "they overlap: {pair:?}");
    }
    // And as the agents saw it: each run was granted to one of them, ended there, and before the agent's next one began.
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (name, agent) in &mut agents {
        let mine = ended.iter().filter(|run| run.agent.as_deref() == Some(name)).map(|run| run.run_id.to_string());
        let mut mine: BTreeSet<String> = mine.collect();
        let mut running: Option<String> = None;
        while !mine.is_empty() {
            let event = agent.until("the end of a run", |event| match event {
                AgentEvent::Granted { run_id, .. } => Some((run_id, None)),
                AgentEvent::RunEnded { run_id, end, .. } => Some((run_id, Some(end))),
                _ => None,
            });
            let (run_id, end) = event.await;
            match end {
                None => {
                    assert!(seen.insert(run_id.clone()), "{run_id} was granted twice");
                    assert_eq!(running.replace(run_id), None);
                }
                Some(end) => {
                    assert!(matches!(end, RunEnd::Committed(_)), "{end:?}");
                    assert_eq!(running.take().as_ref(), Some(&run_id));
                    mine.remove(&run_id);
                }
            }
        }
    }
    for (_, agent) in agents {
        agent.stop().await;
    }
    world.stop().await;
}
