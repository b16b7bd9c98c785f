use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::store::{Lease, LeaseId, NewDefinition};

const PIPELINES: u8 = 4;

fn definition(pipeline: u8, version: u64) -> Definition {
    let new = NewDefinition {
        pipeline: pipeline.to_string(),
        file: String::new(),
        workflow_json: String::new(),
        source: "salesforce".to_owned(),
        mark_deleted: true,
        schedule: None,
        enabled: true,
    };
    Definition { new, version, scheduled_at: Timestamp::UNIX_EPOCH }
}

fn run(pipeline: u8, state: RunState) -> Run {
    let lease = state.is_active().then_some(Lease { fence: 1, lease_id: LeaseId([0; 16]), renewals: 0 });
    Run { state, lease, ..Run::queued(&pipeline.to_string(), false, false, Timestamp::UNIX_EPOCH) }
}

fn hello() -> Input {
    Input::Message(Incoming::Hello(Hello {
        protocol: (1, 1),
        agent_version: String::new(),
        instance_id: [0; 16],
        capabilities: Vec::new(),
        sources: vec!["salesforce".to_owned()],
        tests_connections: true,
        sends_logs: false,
        held: Vec::new(),
        is_diagnostic: false,
    }))
}

#[derive(Debug, Clone)]
enum Action {
    Define(u8, u64),
    Remove(u8),
    Judge(u8, u64, bool),
    Ask(u32),
    /// Of each pipeline, whether it is active, else whether it may be granted.
    Runs(Vec<(u8, bool, bool)>),
    Drain,
}

fn action() -> impl Strategy<Value = Action> {
    let pipeline = 0..PIPELINES;
    prop_oneof![
        (pipeline.clone(), 1..3_u64).prop_map(|(pipeline, version)| Action::Define(pipeline, version)),
        pipeline.clone().prop_map(Action::Remove),
        (pipeline.clone(), 1..3_u64, any::<bool>()).prop_map(|(p, version, yes)| Action::Judge(p, version, yes)),
        (0..3_u32).prop_map(Action::Ask),
        proptest::collection::vec((pipeline, any::<bool>(), any::<bool>()), 0..6).prop_map(Action::Runs),
    ]
}

/// Actions of a session, at most one of which is that the agent leaves.
fn actions() -> impl Strategy<Value = Vec<Action>> {
    let leaves = (proptest::collection::vec(action(), 1..60), proptest::option::weighted(0.3, 0_usize..60));
    leaves.prop_map(|(mut actions, leaves)| {
        if let Some(at) = leaves {
            actions.insert(at.min(actions.len()), Action::Drain);
        }
        actions
    })
}

/// What a session may do, told by another bookkeeping than the machine's.
#[derive(Default)]
struct Model {
    definitions: BTreeMap<u8, u64>,
    accepted: BTreeMap<u8, u64>,
    slots: u32,
    runs: Vec<Run>,
    ready: BTreeSet<RunId>,
    leaves: bool,
}

proptest! {
    #[test]
    fn a_run_is_granted_only_into_a_free_slot_in_the_accepted_version_and_never_beside_another(
        actions in actions(),
    ) {
        let now = Instant::now();
        let mut machine = Machine::new(now, Duration::from_secs(15));
        machine.step(now, hello()).unwrap();
        let mut model = Model::default();
        for action in actions {
            let input = match action {
                Action::Define(pipeline, version) => {
                    if model.definitions.insert(pipeline, version) != Some(version) {
                        model.accepted.remove(&pipeline);
                    }
                    definitions(&model)
                }
                Action::Remove(pipeline) => {
                    model.definitions.remove(&pipeline);
                    model.accepted.remove(&pipeline);
                    definitions(&model)
                }
                Action::Judge(pipeline, version, accepted) => {
                    if model.definitions.get(&pipeline) == Some(&version) {
                        model.accepted.remove(&pipeline);
                        model.accepted.extend(accepted.then_some((pipeline, version)));
                    }
                    Input::Message(Incoming::DefinitionStatus(DefinitionStatus {
                        pipeline: pipeline.to_string(), version, accepted, reason: "", detail: String::new(), unreadable: Vec::new(),
                    }))
                }
                Action::Ask(slots) => {
                    model.slots = slots;
                    Input::Message(Incoming::LeaseRequest(slots))
                }
                Action::Runs(runs) => {
                    model.runs.clear();
                    model.ready.clear();
                    for (pipeline, active, ready) in runs {
                        let run = run(pipeline, if active { RunState::Running } else { RunState::Queued });
                        model.ready.extend((ready && !active).then_some(run.run_id));
                        model.runs.push(run);
                    }
                    // Of the runs before none is left: nothing is granted by this alone.
                    machine.step(now, Input::Runs(Arc::new(model.runs.clone()))).unwrap();
                    Input::Ready(Arc::new(model.ready.clone()))
                }
                Action::Drain => {
                    model.leaves = true;
                    Input::Message(Incoming::Draining(Duration::ZERO))
                }
            };
            for effect in machine.step(now, input).unwrap() {
                let Effect::Grant { run_id, definition_version } = effect else { continue };
                let granted = model.runs.iter_mut().find(|run| run.run_id == run_id).unwrap();
                prop_assert_eq!(granted.state, RunState::Queued);
                prop_assert!(model.ready.contains(&run_id));
                prop_assert!(!model.leaves, "who leaves is granted nothing");
                granted.state = RunState::Granted;
                granted.lease = Some(Lease { fence: 2, lease_id: LeaseId([1; 16]), renewals: 0 });
                let (token, pipeline) = (granted.token().unwrap(), granted.pipeline.clone());
                let beside = model.runs.iter().filter(|run| run.pipeline == pipeline && run.state.is_active());
                prop_assert_eq!(beside.count(), 1);
                prop_assert_eq!(model.accepted.get(&pipeline.parse().unwrap()), Some(&definition_version));
                prop_assert!(model.slots > 0);
                model.slots -= 1;
                machine.step(now, Input::Granted(token)).unwrap();
            }
            model.ready.retain(|ready| model.runs.iter().any(|run| run.run_id == *ready && run.state == RunState::Queued));
            machine.step(now, Input::Ready(Arc::new(model.ready.clone()))).unwrap();
            let told = machine.step(now, Input::Runs(Arc::new(model.runs.clone()))).unwrap();
            let again = told.iter().any(|effect| matches!(effect, Effect::Grant { .. }));
            prop_assert!(!again, "what could be granted was granted at once");
        }
    }
}

fn definitions(model: &Model) -> Input {
    let all = model.definitions.iter().map(|(pipeline, version)| definition(*pipeline, *version));
    Input::Definitions(Arc::new(all.collect()))
}

#[test]
fn silence_of_three_intervals_ends_the_session_and_a_heartbeat_does_not() {
    let start = Instant::now();
    let mut machine = Machine::new(start, Duration::from_secs(10));
    machine.step(start, hello()).unwrap();
    let beat = || Input::Message(Incoming::Heartbeat { id: 1, renewals: Vec::new() });
    machine.step(start + Duration::from_secs(29), beat()).unwrap();
    assert!(machine.step(start + Duration::from_secs(58), Input::Tick).is_ok());
    let problem = machine.step(start + Duration::from_secs(59), Input::Tick).unwrap_err();
    assert_eq!(problem.reason, Reason::AgentLost);
}

fn test(source: &str, agent: Option<&str>) -> ConnectionTest {
    ConnectionTest {
        id: TestId::new(),
        pipeline: "p".to_owned(),
        source: source.to_owned(),
        workflow_json: String::new(),
        expires_at: Timestamp::UNIX_EPOCH,
        agent: agent.map(str::to_owned),
        answer: None,
    }
}

fn tests_taken(machine: &mut Machine, tests: &[ConnectionTest]) -> Vec<TestId> {
    let effects = machine.step(Instant::now(), Input::Tests(Arc::new(tests.to_vec()))).unwrap();
    let taken = effects.into_iter().map(|effect| {
        let Effect::Test(test) = effect else { panic!("{effect:?}") };
        test.id
    });
    taken.collect()
}

#[test]
fn a_connection_test_is_taken_by_a_session_that_can_and_is_nobody_elses() {
    let now = Instant::now();
    let mut machine = Machine::new(now, Duration::from_secs(15));
    machine.step(now, hello()).unwrap();
    let tests = [test("salesforce", None), test("salesforce", Some("east")), test("sap", None)];
    assert_eq!(tests_taken(&mut machine, &tests), [tests[0].id]);
    let mut unable = Machine::new(now, Duration::from_secs(15));
    let Input::Message(Incoming::Hello(listed)) = hello() else { panic!("hello") };
    let less = Hello { tests_connections: false, ..listed };
    unable.step(now, Input::Message(Incoming::Hello(less))).unwrap();
    assert_eq!(tests_taken(&mut unable, &tests), []);
    machine.step(now, Input::Message(Incoming::Draining(Duration::ZERO))).unwrap();
    assert_eq!(tests_taken(&mut machine, &tests), [], "who leaves might not be there to answer");
}

#[test]
fn an_answer_is_kept_once_and_only_of_a_test_that_was_sent_and_still_waits() {
    let now = Instant::now();
    let mut machine = Machine::new(now, Duration::from_secs(15));
    machine.step(now, hello()).unwrap();
    let (sent, over) = (test("salesforce", Some("me")), test("salesforce", Some("me")));
    machine.step(now, Input::Testing(sent.id)).unwrap();
    machine.step(now, Input::Testing(over.id)).unwrap();
    // The second one is off the list: its time is over.
    assert_eq!(tests_taken(&mut machine, std::slice::from_ref(&sent)), []);
    let mut answer = |id: Option<TestId>| {
        let result = TestResult { id, steps: Vec::new() };
        machine.step(now, Input::Message(Incoming::TestResult(result))).unwrap().len()
    };
    assert_eq!([answer(None), answer(Some(TestId::new())), answer(Some(over.id))], [0, 0, 0]);
    assert_eq!([answer(Some(sent.id)), answer(Some(sent.id))], [1, 0]);
}
