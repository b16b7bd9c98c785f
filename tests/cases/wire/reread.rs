//! What is committed changes between the baseline and a batch that relies on it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use control_plane::store::{Deletions, RunState};
use hybrid_runner::{Agent, Connectors};
use hybrid_runner_connector::{
    Baseline, Checkpoint, Content, Entity, EntitySink, Extraction, Reason, Report, SecretUse, Source, SourceError,
    Step, Summary,
};
use hybrid_runner_proto::v1;
use hybrid_runner_secrets::Resolver;
use hybrid_runner_tests::by_hand::{self, Push, Session, tables, unchanged};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::within;
use hybrid_runner_tests::world::{PIPELINE, World};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Knows by its baseline what did not change, and makes only the rest.
struct Conditional {
    entities: Vec<Entity>,
    /// What each reading was told is committed.
    baselines: Mutex<Vec<Arc<Baseline>>>,
    /// A permit for each reading that has begun.
    begun: Semaphore,
    /// A permit for each reading that may go on.
    gate: Semaphore,
}

#[tonic::async_trait]
impl Source for Conditional {
    async fn extract(&self, extraction: Extraction, sink: &mut dyn EntitySink) -> Result<Report, SourceError> {
        self.baselines.lock().unwrap().push(Arc::clone(&extraction.baseline));
        self.begun.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        let known = |entity: &Entity| {
            let old = extraction.baseline.0.get(&entity.fqn)?;
            (old.content_hash == entity.content_hash()).then_some(Content::Unchanged(old.content_hash))
        };
        let seen = self.entities.iter().map(|entity| {
            let content = known(entity).unwrap_or_else(|| entity.content.clone());
            Entity { content, memo: Bytes::from_static(b"seen"), ..entity.clone() }
        });
        let closed = |closed| SourceError::caused(Reason::SinkClosed, "closed", closed);
        sink.emit(seen.collect(), Checkpoint(Bytes::from_static(b"all"))).await.map_err(closed)?;
        let (failures, gone, advice) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Report { complete: true, failures, gone, advice, summary: Summary::default() })
    }

    async fn test_connection(&self, _secrets: Arc<Resolver>) -> Vec<Step> {
        Vec::new()
    }

    fn secrets(&self) -> Vec<SecretUse> {
        Vec::new()
    }
}

/// Two runs by hand: twelve tables, of which six are gone then and wait for an operator. Returns the second run.
async fn with_pending_deletions(world: &World) -> control_plane::store::RunId {
    let channel = by_hand::connect(world.port, &world.authority, &world.authority.agent("one")).await;
    let mut session = Session::ready(&channel, 1).await;
    world.plane.trigger(PIPELINE, false).await.unwrap();
    let token = session.grant().await.token.unwrap();
    let (mut push, _, _) = Push::open(&channel, &token).await;
    push.durable(&token, &tables(12)).await;
    push.commit(&token, &tables(12)).await;

    session.ask(1).await;
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    let token = session.grant().await.token.unwrap();
    let (mut push, _, _) = Push::open(&channel, &token).await;
    let kept: Vec<v1::Record> = tables(6).iter().map(unchanged).collect();
    push.durable(&token, &kept).await;
    let gone = tables(12).into_iter().skip(6).map(|record| record.fqn).collect();
    push.say(by_hand::Pushed::Eof(v1::Eof { gone, ..by_hand::eof(&token, &kept) })).await;
    let run = within("the second run's end", world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!(run.figures.unwrap().deletions, Deletions::NeedsConfirmation);
    run_id
}

#[tokio::test]
async fn a_deletion_that_is_confirmed_after_the_baseline_was_read_loses_nothing() {
    let _logs = Logs::capture().expecting("the source reads again");
    let world = World::new().await;
    let waiting = with_pending_deletions(&world).await;
    let entities = tables(12).into_iter().map(|record| match record.content {
        Some(v1::record::Content::Body(body)) => Entity::new("table", record.fqn, body),
        other => panic!("{other:?}"),
    });
    let source = Arc::new(Conditional {
        entities: entities.collect(),
        baselines: Mutex::default(),
        begun: Semaphore::new(0),
        gate: Semaphore::new(0),
    });
    let config = world.agent_config("two");
    let planned: Arc<dyn Source> = Arc::clone(&source) as _;
    let connectors = Connectors::new(config.salesforce.clone()).with("salesforce", move |_| Ok(Arc::clone(&planned)));
    let (stop, mut agent) = (CancellationToken::new(), JoinSet::new());
    agent.spawn(Agent::with_connectors(config, connectors).run(stop.clone()));

    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    within("the first reading", source.begun.acquire()).await.unwrap().forget();
    assert_eq!(world.plane.store().decide_deletions(waiting, true).await.unwrap(), Some(6));
    source.gate.add_permits(2);
    let run = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!((run.state, run.complete, run.attempt), (RunState::Committed, true, 1), "{run:?}");
    let figures = run.figures.unwrap();
    assert_eq!((figures.entities, figures.sent, figures.changed, figures.unchanged), (12, 6, 6, 6));
    assert_eq!(world.entities().await.len(), 12);
    let told: Vec<usize> = source.baselines.lock().unwrap().iter().map(|baseline| baseline.0.len()).collect();
    assert_eq!(told, [12, 6], "the second reading knows what is committed now");
    let baseline = world.plane.store().baseline(PIPELINE, None, 100).await.unwrap();
    assert!(baseline.iter().all(|entry| entry.memo == "seen"), "{baseline:?}");
    stop.cancel();
    while agent.join_next().await.is_some() {}
    world.stop().await;
}
