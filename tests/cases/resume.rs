//! A run that an agent leaves, one way or the other, goes on elsewhere from where it is durable.

use std::time::Duration;

use control_plane::store::{Run, RunId, RunState, Writer};
use futures_util::future::join;
use hybrid_runner::{AgentConfig, AgentEvent, RunEnd, RunProgress};
use hybrid_runner_connector::KindProgress;
use hybrid_runner_tests::agent_files::AgentFiles;
use hybrid_runner_tests::deployment::last_number;
use hybrid_runner_tests::processes::{Running, command, program};
use hybrid_runner_tests::world::{PIPELINE, RunningAgent, Setup, TOKEN, World, write};
use hybrid_runner_tests::{entities_with, within};
use sandbox::{FaultPlan, Kind, OrgConfig};
use serde_json::Value;

/// Enough objects for several windows of calls, each of which takes its time.
pub(crate) const OBJECTS: usize = 700;

/// Objects that a call describes, and calls at the same time.
const A_CALL: u64 = 25;
const CALLS: u64 = 16;

/// Terms under which a lease ends soon.
pub(crate) const SHORT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(400));

/// Terms that a busy machine keeps to, so that a lease is lost with its agent and not before.
const LONGER: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(2_500));

pub(crate) fn setup(lease: Option<(Duration, Duration)>) -> Setup {
    let org = OrgConfig { objects: OBJECTS, fields_per_object: Some(8), ..OrgConfig::default() };
    let faults = FaultPlan { describe_time: Duration::from_millis(8), ..FaultPlan::default() };
    Setup { org: Some(org), faults, lease, ..Setup::default() }
}

/// What a run of the same world that nobody disturbs ends in, and the calls for describes that it takes. It reads
/// everything anew.
struct Undisturbed {
    entities: String,
    calls: u64,
}

impl Undisturbed {
    async fn of(world: &World) -> Self {
        let before = world.org.requests().count(Kind::Composite);
        let run_id = world.plane.trigger(PIPELINE, true).await.unwrap();
        let run = within("the undisturbed run's end", world.plane.run_ended(run_id)).await.unwrap();
        assert_eq!((run.state, run.attempt), (RunState::Committed, 1), "{run:?}");
        let calls = world.org.requests().count(Kind::Composite) - before;
        Self { entities: text(&world.entities().await), calls }
    }
}

/// Entities as they are kept, a line each.
fn text(entities: &[(String, String, Value)]) -> String {
    entities.iter().map(|(kind, fqn, entity)| format!("{kind} {fqn} {entity}\n")).collect()
}

fn break_describes(world: &World, broken: &[usize]) {
    let name = |nth: &usize| world.org.org().objects().nth(*nth).unwrap().entry.name.clone();
    let names: Vec<String> = broken.iter().map(name).collect();
    world.org.faults().change(|plan| plan.html_describes.extend(names));
}

/// A run that began, and how far it is.
pub(crate) async fn granted(agent: &mut RunningAgent) -> (RunId, RunProgress) {
    let granted = |event| match event {
        AgentEvent::Granted { run_id, progress, .. } => Some((run_id.parse().unwrap(), progress)),
        _ => None,
    };
    agent.until("a grant", granted).await
}

/// A run of which so many records are durable, and not all.
pub(crate) async fn in_the_middle(agent: &mut RunningAgent) -> (RunId, RunProgress) {
    let mut begun = granted(agent).await;
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    within("some records that are durable", async {
        while begun.1.snapshot().records_acked < 150 {
            tokio::select! {
                _ = looks.tick() => {}
                // On a busy machine a short lease may be lost before.
                again = granted(agent) => begun = again,
            }
        }
    })
    .await;
    begun
}

async fn run(world: &World, run_id: RunId) -> Run {
    world.plane.store().run(run_id).await.unwrap().unwrap()
}

/// How many records of a run are durable.
async fn durable(world: &World, run_id: RunId) -> u64 {
    let run = run(world, run_id).await;
    let writer = Writer { agent: run.agent.clone().unwrap(), token: run.token().unwrap() };
    world.plane.store().open(&writer).await.unwrap().next_seq
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_agent_is_killed_in_the_middle_goes_on_elsewhere_and_describes_nothing_durable_again() {
    let world = World::with(setup(Some(SHORT))).await;
    break_describes(&world, &[3, OBJECTS - 10]);
    let mut first = RunningAgent::start(world.agent_config("one"));
    world.plane.trigger(PIPELINE, false).await.unwrap();
    let (run_id, progress) = in_the_middle(&mut first).await;
    first.kill().await;
    let (durable, acked) = (durable(&world, run_id).await, progress.snapshot().records_acked);
    assert!(durable >= acked && durable < entities_with(OBJECTS) as u64 - 2, "in the middle: {durable} {acked}");
    let mut second = RunningAgent::start(world.agent_config("two"));
    let (again, progress) = granted(&mut second).await;
    assert_eq!(again, run_id);
    let before = world.org.requests();
    let ended = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    let after = world.org.requests();

    assert_eq!((ended.state, ended.attempt, ended.agent.as_deref()), (RunState::Committed, 1, Some("two")));
    assert!(ended.token().unwrap().fence >= 2, "granted twice");
    // Both failures are told, also the one that only the first agent met.
    assert!(!ended.complete);
    assert_eq!(world.plane.store().failures(run_id).await.unwrap().len(), 2);
    // The second agent described what was not durable, and no more. The third object failed and left no record.
    let tables = OBJECTS as u64 - (durable - entities_with(0) as u64);
    assert!(after.describes - before.describes <= tables, "{} of {tables}", after.describes - before.describes);
    let entities = world.entities().await;
    // The second agent knows of what the first one sent, too.
    for KindProgress { kind, done, expected } in progress.kinds() {
        let there = entities.iter().filter(|(other, ..)| other == kind).count() as u64;
        assert_eq!((done, expected), (there, there), "{kind}");
    }
    assert_eq!(progress.kinds().iter().map(|kind| kind.done).sum::<u64>(), entities.len() as u64);
    let entities = text(&entities);
    let undisturbed = Undisturbed::of(&world).await;
    assert!(entities == undisturbed.entities, "the entities differ");
    // What was described and not durable: in flight, or in the window.
    let lost = before.describes.saturating_sub(OBJECTS as u64 - tables);
    let (calls, most) = (after.count(Kind::Composite), undisturbed.calls + CALLS + lost.div_ceil(A_CALL));
    assert!(calls <= most, "{calls} calls, at most {most}");
    second.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_agent_is_stopped_goes_on_elsewhere_at_once() {
    // With the usual terms a lost lease would take longer than a case has patience.
    let world = World::with(setup(None)).await;
    let mut first = RunningAgent::start(world.agent_config("one"));
    world.plane.trigger(PIPELINE, false).await.unwrap();
    let (run_id, _) = in_the_middle(&mut first).await;
    let mut second = RunningAgent::start(world.agent_config("two"));
    first.stop().await;
    assert_eq!(granted(&mut second).await.0, run_id);
    let ended = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!((ended.state, ended.complete, ended.attempt), (RunState::Committed, true, 1), "{ended:?}");
    assert_eq!(ended.figures.unwrap().count, entities_with(OBJECTS) as u64, "numbered through");
    let calls = world.org.requests().count(Kind::Composite);
    let entities = text(&world.entities().await);
    let undisturbed = Undisturbed::of(&world).await;
    assert!(entities == undisturbed.entities, "the entities differ");
    assert!(calls <= undisturbed.calls + 2 * CALLS, "{calls} calls, undisturbed {}", undisturbed.calls);
    second.stop().await;
    world.stop().await;
}

/// How an agent is lost, as a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// SIGTERM; it has no time to end its run.
    Terminate,
    /// `kill -9`
    Kill,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_a_run_over_calls_the_org_for_no_more_than_was_in_flight_and_in_the_window() {
    drop(program("hybrid-runner"));
    join(taken_over(Loss::Kill), taken_over(Loss::Terminate)).await;
}

/// The bound: calls ≤ undisturbed + those in flight + ⌈objects of the window / 25⌉.
async fn taken_over(loss: Loss) {
    let world = World::with(setup(Some(LONGER))).await;
    let [first, second] = ["one", "two"].map(|name| AgentFiles::of(&world, name, world.port));
    let agent = first.start_as(&program("hybrid-runner"), &[]);
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    within("the run's begin", world.plane.run_when(run_id, |run| run.state == RunState::Running)).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    within("some records that are durable", async {
        while durable(&world, run_id).await < 150 {
            looks.tick().await;
        }
    })
    .await;
    match loss {
        Loss::Kill => agent.kill().await,
        Loss::Terminate => assert!(agent.terminate().await.success()),
    }
    // Whoever comes next does so when nothing of this one is under way any more.
    let (state, described) = (run(&world, run_id).await.state, world.org.requests().describes);
    let handed_back = if loss == Loss::Terminate { RunState::Queued } else { RunState::Running };
    assert_eq!(state, handed_back, "{loss:?}: in the middle of the run");
    let next = second.start_as(&program("hybrid-runner"), &[]);
    let ended = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!((ended.state, ended.complete, ended.attempt), (RunState::Committed, true, 1), "{ended:?}");
    assert_eq!((ended.agent.as_deref(), ended.token().unwrap().fence), (Some("two"), 2), "{loss:?}");
    let after = world.org.requests();
    let goes_on = "the run goes on from its checkpoint";
    let durable = last_number(&next.log(), goes_on, "next_seq").expect("it went on") - entities_with(0) as u64;
    // What was described and not durable was in flight or in the window; nothing else is described again.
    let lost = described - durable;
    let again = after.describes - OBJECTS as u64;
    assert!(again <= lost, "{loss:?}: {again} of {lost} lost ones are described again");
    let entities = text(&world.entities().await);
    let undisturbed = Undisturbed::of(&world).await;
    assert!(entities == undisturbed.entities, "{loss:?}: the entities differ");
    let (calls, most) = (after.count(Kind::Composite), undisturbed.calls + CALLS + lost.div_ceil(A_CALL));
    eprintln!("{loss:?}: {calls} calls, undisturbed {}, {lost} were described and not durable", undisturbed.calls);
    assert!(calls > undisturbed.calls, "{loss:?}: nothing was lost, so nothing is shown");
    assert!(calls <= most, "{loss:?}: {calls} calls, at most {most}");
    assert!(next.terminate().await.success());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_org_changed_in_between_starts_clean_in_the_same_run() {
    let world = World::with(setup(None)).await;
    let mut first = RunningAgent::start(world.agent_config("one"));
    world.plane.trigger(PIPELINE, false).await.unwrap();
    let (run_id, _) = in_the_middle(&mut first).await;
    first.stop().await;
    let removed = world.org.org().objects().nth(5).unwrap().entry.name.clone();
    world.org.change_org(|org| org.remove(&removed)).unwrap();
    let mut second = RunningAgent::start(world.agent_config("two"));
    let handed_back = second.until("the hand-back", |event| match event {
        AgentEvent::RunEnded { end: RunEnd::HandedBack { reason, .. }, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(handed_back.await, "CHECKPOINT_UNUSABLE");
    let ended = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!((ended.state, ended.complete, ended.attempt), (RunState::Committed, true, 1), "{ended:?}");
    let entities = world.entities().await;
    assert_eq!(entities.len(), entities_with(OBJECTS - 1));
    assert!(!text(&entities).contains(&removed));
    second.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_leaves_with_time_ends_its_run_and_takes_no_other() {
    let world = World::with(setup(None)).await;
    let config = AgentConfig { drain_timeout: Duration::from_secs(600), ..world.agent_config("one") };
    let mut agent = RunningAgent::start(config);
    world.plane.trigger(PIPELINE, false).await.unwrap();
    let (run_id, _) = in_the_middle(&mut agent).await;
    agent.leave();
    // A trigger on top of a run that is under way asks for another one.
    let next = world.plane.trigger(PIPELINE, false).await.unwrap();
    let ended = within("the run's end", world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!((ended.state, ended.attempt, ended.token().unwrap().fence), (RunState::Committed, 1, 1), "{ended:?}");
    agent.stop().await;
    assert_eq!(run(&world, next).await.state, RunState::Queued);
    let second = RunningAgent::start(world.agent_config("two"));
    let ended = within("the run's end", world.plane.run_ended(next)).await.unwrap();
    assert_eq!((ended.state, ended.agent.as_deref()), (RunState::Committed, Some("two")));
    second.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_agent_ends_at_once_at_a_second_signal_and_its_lease_by_its_own_clock() {
    let hybrid_runner = program("hybrid-runner");
    let world = World::with(setup(None)).await;
    // The run does not get on, and nobody waits for it.
    world.org.faults().change(|plan| plan.latency = Duration::from_secs(10));
    let dir = tempfile::TempDir::new().unwrap();
    let login = world.org.credentials();
    let (plane, org) = (world.port, world.org.addr().port());
    for (name, text) in [
        ("ca.pem", world.authority.pem.as_str()),
        ("org-ca.pem", world.org.ca_pem()),
        ("agent.token", TOKEN),
        ("secrets/salesforce/password", &login.password),
        ("secrets/salesforce/token", &login.security_token),
        (
            "hybrid-runner.yaml",
            &format!(
                "control_plane: {{endpoint: 'https://localhost:{plane}', ca: ca.pem, token_file: agent.token}}
drain_timeout: 1h
secrets: {{stores: {{mounted: {{file: {{dir: secrets}}}}}}}}
salesforce: {{use_system_proxy: false, hosts: [{{host: localhost, port: {org}, ca: org-ca.pem}}]}}
"
            ),
        ),
    ] {
        write(dir.path(), name, text);
    }
    let mut start = command(&hybrid_runner);
    start.args(["run", "--config", "hybrid-runner.yaml"]).current_dir(dir.path());
    let mut agent = Running::start(start, &dir.path().join("log"));
    let run_id = world.plane.trigger(PIPELINE, false).await.unwrap();
    within("the run's begin", world.plane.run_when(run_id, |run| run.state == RunState::Running)).await.unwrap();
    let first = std::process::Command::new("kill").args(["-TERM", &agent.id().to_string()]).status().unwrap();
    assert!(first.success());
    agent.until("it leaves", |log| log.contains("leaving: runs may end").then_some(())).await;
    let log = dir.path().join("log");
    assert!(agent.terminate().await.success());
    assert!(std::fs::read_to_string(log).unwrap().contains("second signal, leaving at once"));
    let run = run(&world, run_id).await;
    assert_eq!((run.state, run.attempt), (RunState::Running, 1), "nobody gave the lease back");
    world.stop().await;
}
