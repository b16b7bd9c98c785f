use proptest::prelude::*;

use super::*;
use crate::event::RunProgress;
use crate::session::{LeaseId, Outcome, TestOutcome, WriteToken};

const INTERVAL: Duration = Duration::from_secs(15);
const TERMS: Terms = Terms { heartbeat_interval: INTERVAL, lease_ttl: Duration::from_secs(60) };

fn at(seconds: u64) -> Moment {
    Moment::after_start(Duration::from_secs(seconds))
}

fn token(run: &str) -> WriteToken {
    WriteToken { run_id: RunId::new(run), fence: 1, lease_id: LeaseId([7; 16]) }
}

fn held(run: &str) -> Held {
    Held { token: token(run), pipeline: "p".to_owned(), progress: RunProgress::default() }
}

fn welcome(resumed: &[&str]) -> Received {
    Received::Welcome {
        protocol: PROTOCOL,
        control_plane: "cp/1".to_owned(),
        terms: TERMS,
        resumed: resumed.iter().map(|run| RunId::new(run)).collect(),
    }
}

fn definition(version: u64) -> Definition {
    Definition { pipeline: "p".to_owned(), version, workflow_json: "{}".to_owned() }
}

fn grant(version: u64) -> Grant {
    Grant {
        token: token("r"),
        pipeline: "p".to_owned(),
        definition_version: version,
        attempt: 1,
        start_timeout: INTERVAL,
        run_timeout: INTERVAL,
        full: false,
        traceparent: None,
    }
}

fn test(id: u64) -> Received {
    let timeout = Duration::from_secs(60);
    Received::TestConnection(TestRequest { request_id: id.to_string(), workflow_json: "{}".to_owned(), timeout })
}

fn tested(id: u64) -> Command {
    let step = TestStep {
        name: "CheckAccess",
        mandatory: true,
        outcome: TestOutcome::Passed,
        message: String::new(),
        remediation: String::new(),
    };
    Command::Tested { request_id: id.to_string(), steps: vec![step] }
}

fn accepted() -> Verdict {
    Verdict::Accepted { unreadable: Vec::new() }
}

fn receive(machine: &mut Machine, now: Moment, received: Received) -> Result<Vec<Effect>, SessionError> {
    machine.step(now, Input::Received(received))
}

fn command(machine: &mut Machine, now: Moment, command: Command) -> Vec<Effect> {
    machine.step(now, Input::Command(command)).unwrap()
}

fn open() -> Machine {
    let (mut machine, _) = Machine::start(at(0), Vec::new());
    receive(&mut machine, at(0), welcome(&[])).unwrap();
    machine
}

fn violated(result: Result<Vec<Effect>, SessionError>) -> String {
    match result {
        Err(SessionError::Violation(what)) => what,
        other => panic!("{other:?}"),
    }
}

fn slots_asked(effects: &[Effect]) -> Vec<u32> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Say(Say::LeaseRequest { slots }) => Some(*slots),
            Effect::Say(_) | Effect::Tell(_) => None,
        })
        .collect()
}

fn heartbeat(effects: &[Effect]) -> Option<(u64, Vec<RunId>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Say(Say::Heartbeat { id, renewals }) => Some((*id, ids(renewals))),
        Effect::Say(_) | Effect::Tell(_) => None,
    })
}

#[test]
fn hello_comes_first_and_lists_the_leases_and_welcome_says_which_are_lost() {
    let (mut machine, effects) = Machine::start(at(0), vec![held("a"), held("b")]);
    assert!(matches!(&effects[..], [Effect::Say(Say::Hello { held })] if held.len() == 2));
    let effects = receive(&mut machine, at(1), welcome(&["b"])).unwrap();
    assert!(matches!(&effects[..], [Effect::Tell(Event::Welcomed { lost, .. })] if *lost == [RunId::new("a")]));
    let effects = machine.step(at(1), Input::Tick(vec![held("b")])).unwrap();
    assert_eq!(heartbeat(&effects), Some((1, vec![RunId::new("b")])), "what was resumed is renewed at once");
}

#[test]
fn a_control_plane_that_does_not_welcome_in_ten_seconds_is_left() {
    let (mut machine, _) = Machine::start(at(0), Vec::new());
    assert!(machine.step(at(9), Input::Tick(Vec::new())).unwrap().is_empty());
    assert!(matches!(machine.step(at(10), Input::Tick(Vec::new())), Err(SessionError::NoWelcome)));
}

#[test]
fn another_protocol_version_and_terms_that_cannot_be_kept_are_refused() {
    let welcome_with =
        |protocol, terms| Received::Welcome { protocol, control_plane: String::new(), terms, resumed: Vec::new() };
    let (mut machine, _) = Machine::start(at(0), Vec::new());
    let result = receive(&mut machine, at(0), welcome_with(2, TERMS));
    assert!(matches!(result, Err(SessionError::Version(2))));
    let terms = Terms { heartbeat_interval: INTERVAL, lease_ttl: INTERVAL };
    let (mut machine, _) = Machine::start(at(0), Vec::new());
    assert!(violated(receive(&mut machine, at(0), welcome_with(1, terms))).contains("lease_ttl"));
}

#[test]
fn a_message_of_an_unlisted_capability_ends_the_session_and_is_named_in_every_state() {
    let unasked = || Received::Unasked { message: "Cancel", capability: "cancel" };
    let (mut greeting, _) = Machine::start(at(0), Vec::new());
    for machine in [&mut greeting, &mut open()] {
        let what = violated(receive(machine, at(0), unasked()));
        assert!(what.contains("Cancel") && what.contains("`cancel`"), "{what}");
    }
}

#[test]
fn what_the_state_does_not_allow_ends_the_session() {
    let (mut machine, _) = Machine::start(at(0), Vec::new());
    violated(receive(&mut machine, at(0), Received::Grant(grant(1))));
    violated(receive(&mut machine, at(0), test(1)));
    violated(receive(&mut open(), at(0), welcome(&[])));
    violated(receive(&mut open(), at(0), Received::Grant(grant(1))));
    violated(receive(&mut open(), at(0), Received::HeartbeatAck { id: 1, renewed: Vec::new() }));
    violated(receive(&mut open(), at(0), Received::Malformed("nothing".to_owned())));
}

#[test]
fn a_definition_is_answered_once_and_only_in_the_session_that_sent_it() {
    let answer = |version| Command::Answer { pipeline: "p".to_owned(), version, verdict: accepted() };
    let mut machine = open();
    assert!(command(&mut machine, at(0), answer(1)).is_empty(), "it was sent in an earlier session");
    receive(&mut machine, at(0), Received::Definition(definition(1))).unwrap();
    receive(&mut machine, at(0), Received::Definition(definition(2))).unwrap();
    assert!(command(&mut machine, at(0), answer(1)).is_empty(), "it was replaced");
    assert_eq!(command(&mut machine, at(0), answer(2)).len(), 1);
    assert!(command(&mut machine, at(0), answer(2)).is_empty());
}

#[test]
fn a_connection_test_is_answered_once_and_only_in_the_session_that_asked() {
    let mut machine = open();
    assert!(command(&mut machine, at(0), tested(1)).is_empty(), "it was asked for in an earlier session");
    let effects = receive(&mut machine, at(0), test(1)).unwrap();
    assert!(matches!(&effects[..], [Effect::Tell(Event::TestAsked(request))] if request.request_id == "1"));
    assert!(violated(receive(&mut machine, at(0), test(1))).contains("not answered"));
    let effects = command(&mut machine, at(0), tested(1));
    assert!(matches!(&effects[..], [Effect::Say(Say::Tested { request_id, .. })] if request_id == "1"));
    assert!(command(&mut machine, at(0), tested(1)).is_empty());
}

#[test]
fn slots_are_asked_for_when_they_change_and_a_grant_uses_one_up() {
    let mut machine = open();
    assert_eq!(slots_asked(&command(&mut machine, at(0), Command::Offer { slots: 2 })), [2]);
    assert!(command(&mut machine, at(0), Command::Offer { slots: 2 }).is_empty());
    receive(&mut machine, at(0), Received::Definition(definition(1))).unwrap();
    receive(&mut machine, at(0), Received::Grant(grant(1))).unwrap();
    assert!(command(&mut machine, at(0), Command::Offer { slots: 1 }).is_empty(), "one is still open");
    assert_eq!(slots_asked(&command(&mut machine, at(0), Command::Offer { slots: 2 })), [2], "the run ended");
    assert_eq!(slots_asked(&command(&mut machine, at(0), Command::Offer { slots: 0 })), [0], "taken back");
}

#[test]
fn a_pushback_holds_lease_requests_back_for_five_minutes_at_most() {
    let mut machine = open();
    receive(&mut machine, at(0), Received::Pushback(Duration::from_secs(3600))).unwrap();
    assert!(command(&mut machine, at(1), Command::Offer { slots: 2 }).is_empty());
    assert_eq!(machine.pause(at(100)), Duration::from_secs(200), "the next connection waits as long");
    let effects = machine.step(at(100), Input::Tick(Vec::new())).unwrap();
    assert!(slots_asked(&effects).is_empty());
    receive(&mut machine, at(100), Received::HeartbeatAck { id: 1, renewed: Vec::new() }).unwrap();
    let effects = machine.step(at(300), Input::Tick(Vec::new())).unwrap();
    assert_eq!(slots_asked(&effects), [2]);
}

#[test]
fn a_heartbeat_goes_out_every_interval_and_its_answer_renews_as_of_when_it_was_sent() {
    let mut machine = open();
    let leases = || vec![held("a"), held("b")];
    assert!(heartbeat(&machine.step(at(3), Input::Tick(leases())).unwrap()).is_some());
    assert!(machine.step(at(4), Input::Tick(leases())).unwrap().is_empty());
    let ack = Received::HeartbeatAck { id: 1, renewed: vec![RunId::new("b")] };
    let effects = receive(&mut machine, at(5), ack).unwrap();
    let expected = Event::Renewed { sent_at: at(3), renewed: vec![RunId::new("b")], lost: vec![RunId::new("a")] };
    assert!(matches!(&effects[..], [Effect::Tell(event)] if *event == expected));
    assert_eq!(heartbeat(&machine.step(at(18), Input::Tick(Vec::new())).unwrap()), Some((2, Vec::new())));
}

#[test]
fn a_control_plane_that_does_not_answer_a_heartbeat_in_ten_seconds_is_left() {
    let mut machine = open();
    machine.step(at(0), Input::Tick(Vec::new())).unwrap();
    machine.step(at(9), Input::Tick(Vec::new())).unwrap();
    assert!(matches!(machine.step(at(10), Input::Tick(Vec::new())), Err(SessionError::Unresponsive)));
}

#[test]
fn with_short_leases_a_silent_control_plane_is_left_while_there_is_time_for_another_session() {
    let (mut machine, _) = Machine::start(at(0), Vec::new());
    let terms = Terms { heartbeat_interval: Duration::from_secs(1), lease_ttl: Duration::from_secs(6) };
    let welcome = Received::Welcome { protocol: PROTOCOL, control_plane: String::new(), terms, resumed: Vec::new() };
    receive(&mut machine, at(0), welcome).unwrap();
    machine.step(at(0), Input::Tick(Vec::new())).unwrap();
    machine.step(at(1), Input::Tick(Vec::new())).unwrap();
    assert!(matches!(machine.step(at(2), Input::Tick(Vec::new())), Err(SessionError::Unresponsive)));
}

#[test]
fn an_agent_that_leaves_says_so_and_takes_its_request_back() {
    let mut machine = open();
    command(&mut machine, at(0), Command::Offer { slots: 2 });
    let effects = command(&mut machine, at(0), Command::Drain { within: INTERVAL });
    assert!(matches!(&effects[..], [Effect::Say(Say::Draining { within: INTERVAL })]));
    assert_eq!(slots_asked(&command(&mut machine, at(0), Command::Offer { slots: 0 })), [0]);
}

#[test]
fn a_lease_or_a_renewal_of_a_run_that_was_not_listed_ends_the_session() {
    let (mut machine, _) = Machine::start(at(0), vec![held("a")]);
    assert!(violated(receive(&mut machine, at(0), welcome(&["a", "foreign"]))).contains("resumed_run_ids"));
    let mut machine = open();
    machine.step(at(0), Input::Tick(vec![held("a")])).unwrap();
    let renewed = vec![RunId::new("a"), RunId::new("foreign")];
    let result = receive(&mut machine, at(0), Received::HeartbeatAck { id: 1, renewed });
    assert!(violated(result).contains("renewed_run_ids"));
}

#[test]
fn a_heartbeat_is_answered_once_and_one_that_was_never_sent_is_not() {
    for answers in [vec![1, 1], vec![2], vec![0], vec![u64::MAX]] {
        let mut machine = open();
        machine.step(at(0), Input::Tick(Vec::new())).unwrap();
        let ack =
            |machine: &mut Machine, id| receive(machine, at(0), Received::HeartbeatAck { id, renewed: Vec::new() });
        let (last, before) = answers.split_last().unwrap();
        for id in before {
            ack(&mut machine, *id).unwrap();
        }
        assert!(violated(ack(&mut machine, *last)).contains("HeartbeatAck"), "{answers:?}");
    }
}

#[test]
fn terms_that_no_agent_can_keep_end_the_session() {
    for (interval, ttl) in [(0, 60), (60, 60), (1, 90_000), (3601, 7200), (u64::MAX, u64::MAX), (15, u64::MAX)] {
        let terms = Terms { heartbeat_interval: Duration::from_secs(interval), lease_ttl: Duration::from_secs(ttl) };
        let welcome =
            Received::Welcome { protocol: PROTOCOL, control_plane: String::new(), terms, resumed: Vec::new() };
        let (mut machine, _) = Machine::start(at(0), Vec::new());
        assert!(violated(receive(&mut machine, at(0), welcome)).contains("accepted"), "{interval} {ttl}");
    }
}

/// How many messages pass at once before the session ends, and with what it does.
fn passing(mut machine: Machine, mut message: impl FnMut(u64) -> Received) -> (u64, String) {
    for n in 0..20_000 {
        if let Err(error) = receive(&mut machine, at(1), message(n)) {
            let SessionError::Violation(what) = error else { panic!("{error}") };
            return (n, what);
        }
    }
    panic!("no flood ends the session")
}

#[test]
fn floods_end_the_session() {
    let name = |n: u64| n.to_string();
    let of = |pipeline: String, version| Definition { pipeline, version, workflow_json: "{}".to_owned() };
    let revoke = |n| Received::Revoke { run_id: RunId::new(&name(n)), reason: Reason::LEASE_REVOKED };
    let thousand = passing(open(), |n| Received::Definition(of(name(n), 1)));
    assert_eq!(thousand.0, 1000, "ten thousand definitions");
    assert!(thousand.1.contains("more than 1000 definitions"), "{}", thousand.1);
    let large = |n| Received::Definition(Definition { workflow_json: " ".repeat(190 * 1024), ..of(name(n), 1) });
    let (passed, what) = passing(open(), large);
    assert!(passed < 100 && what.contains("bytes"), "{passed}: large definitions");
    let (passed, what) = passing(open(), |_| {
        Received::Definition(Definition { workflow_json: " ".repeat(193 * 1024), ..of(name(1), 1) })
    });
    assert!(passed == 0 && what.contains("workflow_json"), "{what}");
    for (kind, (passed, what)) in [
        ("versions of one definition", passing(open(), |n| Received::Definition(of(name(1), n)))),
        ("removals", passing(open(), |n| Received::DefinitionRemoved { pipeline: name(n) })),
        ("revocations", passing(open(), revoke)),
        ("answers to releases", passing(open(), |n| Received::Released(RunId::new(&name(n))))),
        ("pauses", passing(open(), |_| Received::Pushback(Duration::ZERO))),
    ] {
        assert!((500..=501).contains(&passed) && what.contains("50 messages a second"), "{passed} {kind}: {what}");
    }
    let (passed, what) = passing(open(), test);
    assert!(passed == 64 && what.contains("TestConnection"), "{passed}: {what}");
}

#[test]
fn grants_that_no_slot_was_asked_for_end_the_session_and_those_that_cross_do_not() {
    let mut machine = open();
    receive(&mut machine, at(0), Received::Definition(definition(1))).unwrap();
    command(&mut machine, at(0), Command::Offer { slots: 2 });
    command(&mut machine, at(0), Command::Offer { slots: 0 });
    for _ in 0..CROSSING {
        receive(&mut machine, at(0), Received::Grant(grant(1))).unwrap();
    }
    assert!(violated(receive(&mut machine, at(0), Received::Grant(grant(1)))).contains("no slot"));
}

#[test]
fn granting_and_revoking_in_turn_ends_the_session_although_each_grant_was_asked_for() {
    let mut machine = open();
    receive(&mut machine, at(0), Received::Definition(definition(1))).unwrap();
    command(&mut machine, at(0), Command::Offer { slots: 1 });
    let (passed, what) = passing(machine, |n| match n % 2 {
        0 => Received::Grant(grant(1)),
        _ => Received::Revoke { run_id: RunId::new("r"), reason: Reason::LEASE_REVOKED },
    });
    assert!(passed < 500, "{what}");
}

#[test]
fn what_is_under_50_messages_a_second_goes_on_for_ever() {
    let mut machine = open();
    for n in 0..20_000_u64 {
        let now = Moment::after_start(Duration::from_millis(n * 20));
        receive(&mut machine, now, Received::Released(RunId::new("r"))).unwrap();
    }
}

fn received() -> impl Strategy<Value = Received> {
    prop_oneof![
        Just(welcome(&["r"])),
        (0..3_u64).prop_map(|version| Received::Definition(definition(version))),
        Just(Received::DefinitionRemoved { pipeline: "p".to_owned() }),
        (0..3_u64).prop_map(|version| Received::Grant(grant(version))),
        (1..5_u64).prop_map(|id| Received::HeartbeatAck { id, renewed: vec![RunId::new("r")] }),
        Just(Received::Released(RunId::new("r"))),
        Just(Received::Revoke { run_id: RunId::new("r"), reason: Reason::LEASE_REVOKED }),
        (0..60_u64).prop_map(|seconds| Received::Pushback(Duration::from_secs(seconds))),
        (0..3_u64).prop_map(test),
        Just(Received::Unasked { message: "DefinitionsSent", capability: "diagnostic" }),
        Just(Received::Malformed(String::new())),
    ]
}

fn input() -> impl Strategy<Value = (u64, Input)> {
    let release =
        || Release { token: token("r"), outcome: Outcome::Failed, reason: Reason::INTERNAL, detail: String::new() };
    let commands = prop_oneof![
        (0..3_u64).prop_map(|version| Command::Answer { pipeline: "p".to_owned(), version, verdict: accepted() }),
        (0..3_u32).prop_map(|slots| Command::Offer { slots }),
        Just(()).prop_map(move |()| Command::Release(release())),
        (0..3_u64).prop_map(tested),
        Just(Command::Drain { within: INTERVAL }),
        Just(Command::Flush),
    ];
    let inputs = prop_oneof![
        3 => received().prop_map(Input::Received),
        2 => commands.prop_map(Input::Command),
        3 => Just(()).prop_map(|()| Input::Tick(vec![held("r")])),
    ];
    (0..4_u64, inputs)
}

/// Anything that the wire can carry, in any order.
fn anything() -> impl Strategy<Value = (u64, Input)> {
    let name = || "[a-c]{1,2}";
    let seconds = || prop_oneof![4 => 0..100_u64, 1 => any::<u64>()].prop_map(Duration::from_secs);
    let terms =
        (seconds(), seconds()).prop_map(|(heartbeat_interval, lease_ttl)| Terms { heartbeat_interval, lease_ttl });
    let terms = prop_oneof![3 => Just(TERMS), 1 => terms];
    let runs = || proptest::collection::vec(name().prop_map(|id| RunId::new(&id)), 0..4);
    let welcome = (terms, runs(), 0..3_u32).prop_map(|(terms, resumed, protocol)| Received::Welcome {
        protocol,
        control_plane: "x".repeat(300),
        terms,
        resumed,
    });
    let granted = (name(), name(), any::<u64>(), 0..4_u64).prop_map(|(run, pipeline, fence, definition_version)| {
        let token = WriteToken { fence, ..token(&run) };
        Received::Grant(Grant { token, pipeline, definition_version, ..grant(1) })
    });
    let received = prop_oneof![
        2 => welcome,
        8 => (name(), 0..4_u64, 0..200_000_usize).prop_map(|(pipeline, version, bytes)| {
            Received::Definition(Definition { pipeline, version, workflow_json: " ".repeat(bytes) })
        }),
        2 => name().prop_map(|pipeline| Received::DefinitionRemoved { pipeline }),
        8 => granted,
        4 => (0..9_u64, runs()).prop_map(|(id, renewed)| Received::HeartbeatAck { id, renewed }),
        2 => name().prop_map(|id| Received::Released(RunId::new(&id))),
        2 => name().prop_map(|id| Received::Revoke { run_id: RunId::new(&id), reason: Reason::CANCELLED }),
        2 => seconds().prop_map(Received::Pushback),
        4 => any::<u8>().prop_map(|id| test(id.into())),
    ];
    let commands = prop_oneof![
        (0..5_u32).prop_map(|slots| Command::Offer { slots }),
        (name(), 0..4_u64).prop_map(|(pipeline, version)| Command::Answer { pipeline, version, verdict: accepted() }),
        any::<u8>().prop_map(|id| tested(id.into())),
        Just(Command::Drain { within: INTERVAL }),
        Just(Command::Flush),
    ];
    let inputs = prop_oneof![
        6 => received.prop_map(Input::Received),
        2 => commands.prop_map(Input::Command),
        1 => proptest::collection::vec(name().prop_map(|id| held(&id)), 0..4).prop_map(Input::Tick),
    ];
    (0..3_u64, inputs)
}

proptest! {
    /// A control plane that says anything in any order gets an error or effects, and what is kept of it has bounds.
    #[test]
    fn no_control_plane_makes_a_session_panic_or_grow(inputs in proptest::collection::vec(anything(), 1..200)) {
        let (mut machine, _) = Machine::start(at(0), vec![held("a")]);
        let (mut now, mut flushes) = (0, 0);
        for (passed, input) in inputs {
            now += passed;
            flushes += usize::from(matches!(input, Input::Command(Command::Flush)));
            match machine.step(at(now), input) {
                Ok(effects) => prop_assert!(effects.len() <= 2),
                // A session that ended is followed by one that is as new.
                Err(_) => machine = Machine::start(at(now), vec![held("a")]).0,
            }
            if let State::Open(open) = &machine.state {
                let (definitions, bytes) = open.definitions.size();
                prop_assert!(definitions <= 1000 && bytes <= 16 << 20);
                prop_assert!(open.tests.len() <= TESTS);
                prop_assert!(open.unanswered.len() <= 12 + flushes);
                prop_assert!(open.unasked <= CROSSING);
                prop_assert!(machine.pause(at(now)) <= LONGEST_PAUSE);
            }
        }
    }

    /// Whatever arrives in whatever order: an error or effects, nothing is said before `Welcome`, every answer is to a
    /// definition or a test of this session, heartbeats count up and come as the terms say and once for each flush, and
    /// the slots that are open are never more than were offered.
    #[test]
    fn no_schedule_makes_the_agent_break_the_protocol(inputs in proptest::collection::vec(input(), 1..60)) {
        let (mut machine, _) = Machine::start(at(0), vec![held("r")]);
        let (mut now, mut is_open, mut last_id, mut flushes) = (0, false, 0, 0);
        let (mut unanswered, mut offered, mut open_slots) = (None, 0, 0);
        let mut tests = BTreeSet::new();
        for (passed, input) in inputs {
            now += passed;
            flushes += u64::from(matches!(input, Input::Command(Command::Flush)));
            if let Input::Received(Received::Definition(definition)) = &input {
                unanswered = Some(definition.version);
            }
            if let Input::Received(Received::DefinitionRemoved { .. }) = &input {
                unanswered = None;
            }
            if let (Input::Command(Command::Offer { slots }), true) = (&input, is_open) {
                offered = *slots;
            }
            if let (Input::Received(Received::TestConnection(request)), true) = (&input, is_open) {
                tests.insert(request.request_id.clone());
            }
            let Ok(effects) = machine.step(at(now), input) else { return Ok(()) };
            for effect in effects {
                match effect {
                    Effect::Tell(Event::Welcomed { .. }) => is_open = true,
                    Effect::Tell(Event::Granted(_)) => {
                        open_slots = u32::saturating_sub(open_slots, 1);
                        offered = u32::saturating_sub(offered, 1);
                    }
                    Effect::Tell(_) => prop_assert!(is_open),
                    Effect::Say(say) => {
                        prop_assert!(is_open);
                        match say {
                            Say::Heartbeat { id, .. } => {
                                prop_assert_eq!(id, last_id + 1);
                                last_id = id;
                            }
                            Say::Answer { version, .. } => prop_assert_eq!(unanswered.take(), Some(version)),
                            Say::LeaseRequest { slots } => open_slots = slots,
                            Say::Hello { .. } => prop_assert!(false, "a second Hello"),
                            Say::Tested { request_id, .. } => prop_assert!(tests.remove(&request_id)),
                            Say::Release(_) | Say::Report(_) | Say::Draining { .. } => {}
                        }
                    }
                }
            }
            prop_assert!(open_slots <= offered.max(2));
            prop_assert!(last_id <= 1 + flushes + now / INTERVAL.as_secs());
        }
    }
}
