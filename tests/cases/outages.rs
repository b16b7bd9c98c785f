//! What a network between agent and control plane does to a run: nothing, but time.

use std::time::Duration;

use control_plane::store::{Run, RunId, RunState};
use hybrid_runner::{AgentConfig, AgentEvent, ControlPlane, RunEnd, RunProgress};
use hybrid_runner_tests::relay::{Network, Relay};
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, World};
use hybrid_runner_tests::{entities_with, within};

use crate::resume::{OBJECTS, SHORT, granted, in_the_middle, setup};

/// Terms under which a session that hears nothing is left after two seconds, and a lease ends after five and a half.
const PATIENT: (Duration, Duration) = (Duration::from_secs(6), Duration::from_millis(500));

/// A run in the middle, of an agent behind a relay.
struct Case {
    world: World,
    relay: Relay,
    agent: RunningAgent,
    run_id: RunId,
    progress: RunProgress,
}

impl Case {
    async fn new(terms: (Duration, Duration)) -> Self {
        let world = World::with(setup(Some(terms))).await;
        let relay = Relay::before(world.port).await;
        let mut agent = RunningAgent::start(behind(&relay, &world));
        world.plane.trigger(PIPELINE, false).await.unwrap();
        let (run_id, progress) = in_the_middle(&mut agent).await;
        Self { world, relay, agent, run_id, progress }
    }

    /// The network is so from now on, which the agent notices.
    async fn cut(&mut self, network: Network) {
        // What happened before does not count.
        self.agent.events = self.agent.events.resubscribe();
        self.relay.set(network);
        self.disconnected().await;
        assert!(self.relay.disturbed() > 0);
    }

    async fn disconnected(&mut self) {
        let no_session = |event| matches!(event, AgentEvent::Disconnected { .. }).then_some(());
        self.agent.until("the end of the session", no_session).await;
    }

    async fn ended(&self) -> Run {
        within("the run's end", self.world.plane.run_ended(self.run_id)).await.unwrap()
    }

    /// The run ends as if nothing had been, under so many grants.
    async fn ends_well(self, grants: u64) {
        let ended = self.ended().await;
        assert_eq!((ended.state, ended.complete, ended.attempt), (RunState::Committed, true, 1), "{ended:?}");
        assert_eq!(ended.token().unwrap().fence, grants, "{ended:?}");
        assert_eq!(ended.figures.unwrap().count, entities_with(OBJECTS) as u64);
        self.agent.stop().await;
        self.world.stop().await;
    }
}

fn behind(relay: &Relay, world: &World) -> AgentConfig {
    let config = world.agent_config("one");
    AgentConfig { control_plane: ControlPlane { port: relay.port, ..config.control_plane }, ..config }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_for_a_while_costs_a_run_neither_its_lease_nor_a_record() {
    let mut case = Case::new(PATIENT).await;
    case.cut(Network::Hole).await;
    case.relay.set(Network::Up);
    case.ends_well(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_resets_every_connection_costs_a_run_neither_its_lease_nor_a_record() {
    let mut case = Case::new(PATIENT).await;
    for _ in 0..2 {
        case.cut(Network::Down).await;
        case.relay.set(Network::Up);
        let connected = |event| matches!(event, AgentEvent::Connected { .. }).then_some(());
        case.agent.until("another session", connected).await;
    }
    case.ends_well(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_costs_time_and_no_session() {
    let case = Case::new(PATIENT).await;
    let before = case.relay.pieces();
    case.relay.set(Network::Slow(Duration::from_millis(20)));
    let ended = case.ended().await;
    assert!(case.relay.pieces() - before > 10, "it went through the slow network");
    assert_eq!((ended.state, ended.attempt, ended.token().unwrap().fence), (RunState::Committed, 1, 1));
    assert_eq!(case.relay.disturbed(), 0);
    assert_eq!(case.world.plane.sessions().len(), 1);
    case.ends_well(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_restarts_goes_on_with_the_run_under_the_same_lease() {
    let mut case = Case::new(PATIENT).await;
    case.agent.events = case.agent.events.resubscribe();
    case.world.restart_plane().await;
    case.relay.lead_to(case.world.port);
    case.disconnected().await;
    case.ends_well(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_outlasts_the_lease_stops_the_run_and_work_is_taken_again_within_seconds_of_the_return() {
    let mut case = Case::new(SHORT).await;
    case.relay.set(Network::Hole);
    let lost = case.agent.until("the end of the lease", |event| match event {
        AgentEvent::RunEnded { end: RunEnd::LeaseLost { reason }, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(lost.await, "LEASE_EXPIRED");
    assert_eq!(case.progress.snapshot().window_bytes, 0, "the window's memory is given back");
    let asked = case.world.org.requests().total;
    let queued = within("the queue", case.world.plane.run_when(case.run_id, |run| run.state == RunState::Queued)).await;
    assert_eq!(queued.unwrap().attempt, 1);
    assert!(case.world.org.requests().total <= asked + 16, "nothing new is asked of the org");
    case.relay.set(Network::Up);
    let back = tokio::time::timeout(Duration::from_secs(20), granted(&mut case.agent)).await;
    let (run_id, progress) = back.expect("work is taken again within seconds");
    assert_eq!(run_id, case.run_id);
    case.progress = progress;
    let ended = case.ended().await;
    assert_eq!((ended.state, ended.complete, ended.attempt), (RunState::Committed, true, 1), "{ended:?}");
    assert_eq!(ended.figures.unwrap().count, entities_with(OBJECTS) as u64);
    case.agent.stop().await;
    case.world.stop().await;
}
