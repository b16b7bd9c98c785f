//! The window against a small model of the control plane.

use proptest::prelude::*;

use super::*;

fn record(name: &str, body: &[u8], is_unchanged: bool) -> Record {
    Record {
        seq: u64::MAX,
        kind: "table",
        fqn: name.to_owned(),
        content_hash: blake3::hash(body).into(),
        body: Some(Bytes::copy_from_slice(body)),
        memo: Bytes::new(),
        is_unchanged,
    }
}

fn seqs(batch: &Batch) -> Vec<u64> {
    batch.records.iter().map(|record| record.seq).collect()
}

fn filled(count: usize, is_unchanged: bool) -> Window {
    let mut window = Window::new(8 << 20);
    for n in 0..count {
        window.push(vec![record(&n.to_string(), &[0; 150 * 1024], is_unchanged)], n.to_string().as_bytes());
    }
    window
}

#[test]
fn the_digest_is_the_one_of_the_contract() {
    let mut digest = Digest::EMPTY;
    let mut first = record("a.b", b"{}", false);
    first.seq = 0;
    digest.roll(&first);
    let mut bytes = vec![0; 32];
    bytes.extend(0_u64.to_be_bytes());
    bytes.extend(5_u32.to_be_bytes());
    bytes.extend(b"table");
    bytes.extend(3_u32.to_be_bytes());
    bytes.extend(b"a.b");
    bytes.extend(blake3::hash(b"{}").as_bytes());
    assert_eq!(digest.0, *blake3::hash(&bytes).as_bytes());
}

#[test]
fn a_batch_holds_half_a_mebibyte_or_one_record_and_the_place_of_its_last_record() {
    let mut window = filled(5, false);
    let batch = window.next_batch().unwrap();
    assert_eq!((seqs(&batch), checkpoint_at(3, &batch.source_position)), (vec![0, 1, 2], Some(Bytes::from("2"))));
    let batch = window.next_batch().unwrap();
    assert_eq!((seqs(&batch), checkpoint_at(5, &batch.source_position)), (vec![3, 4], Some(Bytes::from("4"))));
    assert_eq!(window.next_batch(), None);
    let mut window = Window::new(8 << 20);
    window.push(vec![record("large", &[0; 3 << 20], false)], b"1");
    window.push(vec![record("small", b"{}", false)], b"2");
    assert_eq!(seqs(&window.next_batch().unwrap()), vec![0]);
}

#[test]
fn a_batch_ends_where_an_emission_ends_and_only_one_that_is_larger_is_cut() {
    let large = |name: &str| record(name, &[0; 200 * 1024], false);
    let mut window = Window::new(8 << 20);
    window.push(vec![large("a"), large("b")], b"2");
    window.push(vec![large("c"), large("d"), large("e")], b"5");
    window.push(vec![large("f")], b"6");
    let position = |seq, batch: &Batch| checkpoint_at(seq, &batch.source_position);
    let batch = window.next_batch().unwrap();
    assert_eq!((seqs(&batch), position(2, &batch)), (vec![0, 1], Some(Bytes::from("2"))), "a third would fit");
    let batch = window.next_batch().unwrap();
    assert_eq!((seqs(&batch), batch.source_position), (vec![2, 3], Bytes::new()), "nobody can begin inside");
    let batch = window.next_batch().unwrap();
    assert_eq!((seqs(&batch), position(6, &batch)), (vec![4, 5], Some(Bytes::from("6"))));
}

#[test]
fn a_position_holds_at_its_seq_and_nowhere_else() {
    let position = position_at(7, b"here");
    assert_eq!(checkpoint_at(7, &position), Some(Bytes::from("here")));
    for (seq, position) in [(6, position.clone()), (8, position.clone()), (7, position.slice(..8)), (0, Bytes::new())] {
        assert_eq!(checkpoint_at(seq, &position), None);
    }
    assert_eq!(position_at(7, b""), Bytes::new(), "the source cannot begin there");
}

#[test]
fn a_thousand_records_are_the_most_of_a_batch() {
    let mut window = Window::new(8 << 20);
    (0..1001).for_each(|n| window.push(vec![record(&n.to_string(), b"{}", true)], b"x"));
    assert_eq!(window.next_batch().unwrap().records.len(), 1000);
    assert_eq!(window.next_batch().unwrap().records.len(), 1);
}

#[test]
fn a_small_batch_waits_for_company_only_while_another_is_under_way() {
    let mut window = Window::new(8 << 20);
    window.push(vec![record("a", b"{}", false)], b"x");
    assert!(window.has_batch(false));
    window.next_batch().unwrap();
    window.push(vec![record("b", b"{}", false)], b"x");
    assert!(!window.has_batch(false));
    assert!(window.has_batch(true));
    window.ack(1).unwrap();
    assert!(window.has_batch(false));
}

#[test]
fn the_window_is_full_at_its_limit_and_one_record_always_enters() {
    let mut window = Window::new(1000);
    assert!(window.has_room(5000));
    window.push(vec![record("a", &[0; 700], true)], b"x");
    assert!(!window.has_room(700), "an unchanged record holds its body too");
    window.next_batch().unwrap();
    assert!(!window.has_room(700), "sent is not durable");
    window.ack(1).unwrap();
    assert!(window.has_room(700));
}

#[test]
fn a_needed_body_is_sent_again_from_its_batch_on_and_splits_a_batch_that_grew() {
    let mut window = filled(6, true);
    assert_eq!(seqs(&window.next_batch().unwrap()), vec![0, 1, 2, 3, 4, 5]);
    window.push(vec![record("6", b"{}", true)], b"x");
    window.next_batch().unwrap();
    window.body_needed(&[4, 5, 3, 2]).unwrap();
    let batch = window.next_batch().unwrap();
    assert_eq!(seqs(&batch), vec![0, 1, 2, 3, 4]);
    assert_eq!(
        batch.records.iter().map(|record| record.is_unchanged).collect::<Vec<_>>(),
        [true, true, false, false, false]
    );
    assert_eq!(seqs(&window.next_batch().unwrap()), vec![5, 6]);
}

#[test]
fn a_needed_body_of_a_later_batch_leaves_the_earlier_one_under_way() {
    let mut window = filled(3, false);
    window.next_batch().unwrap();
    window.push(vec![record("3", b"{}", true)], b"x");
    window.next_batch().unwrap();
    window.body_needed(&[3]).unwrap();
    window.ack(3).unwrap();
    assert_eq!(seqs(&window.next_batch().unwrap()), vec![3]);
}

#[test]
fn what_the_control_plane_cannot_say_is_an_error() {
    let mut window = filled(5, false);
    window.next_batch().unwrap();
    assert_eq!(window.ack(4), Err(WindowError::Ack { next_seq: 4, base: 0, cursor: 3 }));
    window.ack(2).unwrap();
    assert!(window.ack(1).is_err());
    assert_eq!(window.body_needed(&[2]), Err(WindowError::BodyNeeded { seq: 2 }), "its body was sent");
    assert_eq!(window.body_needed(&[1]), Err(WindowError::BodyNeeded { seq: 1 }), "it is durable");
    assert_eq!(window.body_needed(&[u64::MAX]), Err(WindowError::BodyNeeded { seq: u64::MAX }));
    assert_eq!(window.body_needed(&[]), Err(WindowError::NoBodyNeeded));
}

#[test]
fn a_new_stream_goes_on_inside_the_window_and_nowhere_else() {
    let mut window = filled(6, false);
    window.next_batch().unwrap();
    window.next_batch().unwrap();
    window.ack(2).unwrap();
    let at_two = window.digest();
    assert_eq!(window.reopen(1, at_two), Err(ReopenError::NotHeld { next_seq: 1, base: 2, end: 6 }));
    assert_eq!(window.reopen(7, at_two), Err(ReopenError::NotHeld { next_seq: 7, base: 2, end: 6 }));
    assert_eq!(window.reopen(3, at_two), Err(ReopenError::Digest { next_seq: 3 }));
    window.reopen(2, at_two).unwrap();
    assert_eq!(seqs(&window.next_batch().unwrap()), vec![2, 3, 4]);
    assert!(window.is_waiting());
}

#[test]
fn a_body_that_was_never_made_is_missing_and_nothing_is_sent_again() {
    let mut window = Window::new(8 << 20);
    let unmade = |name: &str| Record { body: None, ..record(name, b"{}", true) };
    window.push(vec![record("a", b"{}", true), unmade("b"), unmade("c")], b"3");
    window.next_batch().unwrap();
    assert_eq!(window.body_needed(&[0, 2]).unwrap(), ["c"]);
    assert_eq!(window.next_batch(), None);
    window.restart(2, Digest([1; 32]));
    assert_eq!((window.base(), window.end(), window.held(), window.digest()), (2, 2, 0, Digest([1; 32])));
    window.push(vec![record("c", b"{}", false)], b"3");
    assert_eq!(seqs(&window.next_batch().unwrap()), vec![2]);
}

#[test]
fn a_memo_counts_in_the_window_and_on_the_wire() {
    let mut remembered = record("a", b"{}", true);
    let (held, wire) = (remembered.held_bytes(), remembered.wire_bytes());
    remembered.memo = Bytes::from(vec![0; 512]);
    assert_eq!((remembered.held_bytes(), remembered.wire_bytes()), (held + 512, wire + 512));
}

/// What a source says of an entity.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Claim {
    Changed,
    Unchanged,
    /// Unchanged, and no body was made.
    Unmade,
}

#[derive(Debug, Clone)]
struct Listed {
    bytes: usize,
    claim: Claim,
    /// The last of what is emitted at once.
    ends: bool,
    /// The control plane does not take it as unchanged.
    refused: bool,
}

fn listed() -> impl Strategy<Value = Listed> {
    let claim = prop_oneof![Just(Claim::Changed), Just(Claim::Unchanged), Just(Claim::Unmade)];
    (0..700_000_usize, claim, any::<bool>(), any::<bool>()).prop_map(|(bytes, claim, ends, refused)| Listed {
        bytes,
        claim,
        ends,
        refused,
    })
}

/// What a schedule does.
#[derive(Debug, Clone)]
enum Action {
    Push,
    Send {
        flush: bool,
    },
    /// The control plane takes this many of the batches under way, then says how far it is.
    Take(usize),
    /// The stream breaks; the control plane has what it took.
    Break,
    /// The agent is gone, and another one is granted the run.
    Lose,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Push),
        3 => any::<bool>().prop_map(|flush| Action::Send { flush }),
        3 => (0..4_usize).prop_map(Action::Take),
        1 => Just(Action::Break),
        1 => Just(Action::Lose),
    ]
}

fn made(index: usize, listed: &Listed) -> Record {
    let mut record = record(&index.to_string(), &vec![7; listed.bytes], listed.claim != Claim::Changed);
    if listed.claim == Claim::Unmade {
        record.body = None;
    }
    record
}

/// The source, the window, and the control plane as far as a window sees it.
struct Model {
    source: Vec<Listed>,
    /// The next one that the source emits.
    cursor: usize,
    window: Window,
    applied: Vec<(String, [u8; 32])>,
    digest: Digest,
    /// Of the last batch that was applied.
    position: Bytes,
    wire: VecDeque<Batch>,
    was_restarted: bool,
}

impl Model {
    fn next_seq(&self) -> u64 {
        self.applied.len() as u64
    }

    /// The source emits what it emits at once.
    fn push(&mut self) {
        let emission = &self.source[self.cursor..];
        let length = emission.iter().position(|listed| listed.ends).map_or(emission.len(), |last| last + 1);
        let records: Vec<_> =
            (self.cursor..).zip(&emission[..length]).map(|(index, listed)| made(index, listed)).collect();
        if records.is_empty() || !self.window.has_room(records.iter().map(Record::held_bytes).sum()) {
            return;
        }
        self.cursor += length;
        self.window.push(records, self.cursor.to_string().as_bytes());
    }

    /// The control plane applies the oldest batch under way, or says which bodies it needs.
    fn take_one(&mut self) {
        let Some(batch) = self.wire.pop_front() else { return };
        assert_eq!(batch.records[0].seq, self.next_seq(), "batches arrive without gap or repetition");
        let refused =
            |record: &&Record| record.is_unchanged && self.source[record.fqn.parse::<usize>().unwrap()].refused;
        let needed: Vec<u64> = batch.records.iter().filter(refused).map(|record| record.seq).collect();
        if !needed.is_empty() {
            self.wire.clear();
            let missing = self.window.body_needed(&needed).unwrap();
            if !missing.is_empty() {
                self.read_again(&missing);
            }
            return;
        }
        for record in batch.records {
            assert_eq!(record.seq, self.next_seq());
            self.digest.roll(&record);
            self.applied.push((record.fqn, record.content_hash));
        }
        self.position = batch.source_position;
        self.window.ack(self.next_seq()).unwrap();
    }

    /// Another agent goes on; where it cannot, what is applied is dropped.
    fn another_agent(&mut self, limit: usize) {
        self.wire.clear();
        self.window = Window::new(limit);
        self.begin();
    }

    /// The source begins at the durable place, and makes what is missing.
    fn read_again(&mut self, missing: &[String]) {
        for name in missing {
            self.source[name.parse::<usize>().unwrap()].claim = Claim::Changed;
        }
        self.window.reopen(self.next_seq(), self.digest).unwrap();
        self.begin();
    }

    fn begin(&mut self) {
        self.was_restarted = true;
        let checkpoint = checkpoint_at(self.next_seq(), &self.position);
        if checkpoint.is_none() {
            self.applied.clear();
            self.digest = Digest::EMPTY;
            self.position = Bytes::new();
        }
        self.cursor = checkpoint.map_or(0, |place| std::str::from_utf8(&place).unwrap().parse().unwrap());
        assert_eq!(self.cursor, self.applied.len(), "a position names the record that it holds at");
        self.window.restart(self.next_seq(), self.digest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_record_is_applied_once_in_order_and_both_digests_agree(
        limit in 100_000..4_000_000_usize,
        source in proptest::collection::vec(listed(), 1..60),
        actions in proptest::collection::vec(action(), 1..120),
    ) {
        let mut model = Model {
            source,
            cursor: 0,
            window: Window::new(limit),
            applied: Vec::new(),
            digest: Digest::EMPTY,
            position: Bytes::new(),
            wire: VecDeque::new(),
            was_restarted: false,
        };
        for action in actions {
            match action {
                Action::Push => model.push(),
                Action::Send { flush } => if model.window.has_batch(flush) {
                    let batch = model.window.next_batch().unwrap();
                    let bytes: usize = batch.records.iter().map(Record::wire_bytes).sum();
                    prop_assert!(batch.records.len() == 1 || bytes <= BATCH);
                    model.wire.push_back(batch);
                },
                Action::Take(batches) => (0..batches).for_each(|_| model.take_one()),
                Action::Break => {
                    model.wire.clear();
                    model.window.reopen(model.next_seq(), model.digest).unwrap();
                }
                Action::Lose => model.another_agent(limit),
            }
            let emissions = model.window.records.iter().filter(|held| held.end.is_some()).count();
            prop_assert!(model.window.held <= limit || emissions == 1);
            prop_assert_eq!(model.window.in_flight.iter().sum::<usize>(), model.window.sent);
        }
        while model.cursor < model.source.len() || !model.window.is_empty() {
            model.push();
            while let Some(batch) = model.window.next_batch() {
                model.wire.push_back(batch);
            }
            model.take_one();
        }
        let expected: Vec<_> = (0..).zip(&model.source)
            .map(|(index, listed): (usize, _)| (index.to_string(), blake3::hash(&vec![7; listed.bytes]).into())).collect();
        prop_assert_eq!(&model.applied, &expected);
        prop_assert_eq!(model.window.digest(), model.digest);
        prop_assert_eq!(model.window.held, 0);
        prop_assert_eq!(model.window.unsent_wire_bytes, 0);
        let with_body = model.source.iter().filter(|listed| listed.claim == Claim::Changed || listed.refused).count();
        // An agent counts what it sent itself, and twice what it had to read again.
        if !model.was_restarted {
            prop_assert_eq!(model.window.bodies(), with_body as u64);
        }
    }
}
