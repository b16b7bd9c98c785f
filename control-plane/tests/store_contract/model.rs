//! Generated schedules of everything that happens to the runs of a pipeline, against a reference model that tells the same
//! story in its own words: what is queued, granted, waiting, staged and committed after each step.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    ByHand {
        full: bool,
    },
    Tick,
    /// Tries each run in turn.
    Grant {
        resume: bool,
    },
    Append {
        records: usize,
        text: u8,
    },
    Renew,
    Lose,
    Fail(&'static str),
    HandBack(&'static str),
    Cancel,
    Commit,
    Define,
    Wait(i64),
    /// Whoever held a lease before writes, renews and releases.
    Late,
}

/// Some of it comes in rows: agent after agent is lost, or cannot go on.
fn actions(steps: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Action>> {
    let row = (action(), 1..24_usize).prop_map(|(ends, times)| {
        let one = [Action::Grant { resume: true }, ends, Action::Wait(25)];
        one.into_iter().cycle().take(3 * times).collect::<Vec<_>>()
    });
    let step = prop_oneof![12 => action().prop_map(|action| vec![action]), 1 => row];
    proptest::collection::vec(step, steps).prop_map(|steps| steps.into_iter().flatten().collect())
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => any::<bool>().prop_map(|full| Action::ByHand { full }),
        2 => Just(Action::Tick),
        6 => prop::bool::weighted(0.9).prop_map(|resume| Action::Grant { resume }),
        4 => (1..4_usize, 0..3_u8).prop_map(|(records, text)| Action::Append { records, text }),
        1 => Just(Action::Renew),
        2 => Just(Action::Lose),
        2 => prop::sample::select(vec!["INTERNAL", "SOURCE_THROTTLED", "AUTH_FAILED", "SOURCE_UNKNOWN"])
            .prop_map(Action::Fail),
        2 => prop::sample::select(vec!["DRAINING", "CHECKPOINT_UNUSABLE", "BUSY"]).prop_map(Action::HandBack),
        1 => Just(Action::Cancel),
        2 => Just(Action::Commit),
        1 => Just(Action::Define),
        3 => prop::sample::select(vec![1_i64, 25, 36, 130, 870, 3_600]).prop_map(Action::Wait),
        1 => Just(Action::Late),
    ]
}

#[derive(Default)]
struct Model {
    clock: i64,
    version: u64,
    held_until: i64,
    runs: Vec<Known>,
    /// Text by name.
    committed: BTreeMap<String, String>,
    /// Those that lost their lease.
    former: Vec<Writer>,
}

struct Known {
    run_id: RunId,
    state: RunState,
    attempt: u32,
    by_hand: bool,
    full: bool,
    waits_until: i64,
    granted_version: u64,
    staged: Vec<Record>,
    texts: Vec<(String, String)>,
    in_vain: u32,
    returned: u32,
    clean_starts: u32,
    writer: Option<Writer>,
}

impl Known {
    fn drop_staged(&mut self) {
        self.staged.clear();
        self.texts.clear();
    }

    fn ends(&mut self, state: RunState) {
        self.state = state;
        self.waits_until = 0;
        self.drop_staged();
    }
}

impl Model {
    fn now(&self) -> Timestamp {
        now().checked_add(SignedDuration::from_secs(self.clock)).unwrap()
    }

    fn may_run(&self, run: &Known) -> bool {
        let another_was_begun = self
            .runs
            .iter()
            .any(|other| other.run_id != run.run_id && !other.state.is_final() && other.granted_version > 0);
        run.state == RunState::Queued
            && self.clock >= run.waits_until
            && (run.by_hand || self.clock >= self.held_until)
            && !another_was_begun
    }

    fn active(&mut self) -> Option<&mut Known> {
        self.runs.iter_mut().find(|run| run.writer.is_some())
    }

    fn asked(&mut self, run_id: RunId, by_hand: bool, full: bool) {
        let queued = self.runs.iter_mut().filter(|run| run.state == RunState::Queued);
        let joined = queued.max_by_key(|run| run.granted_version > 0);
        match joined {
            Some(run) => {
                assert_eq!(run.run_id, run_id, "the queued run is joined");
                if full && !run.full {
                    run.full = true;
                    run.drop_staged();
                }
                if by_hand {
                    run.by_hand = true;
                    run.waits_until = 0;
                }
            }
            None => self.runs.push(Known {
                run_id,
                state: RunState::Queued,
                attempt: 0,
                by_hand,
                full,
                waits_until: 0,
                granted_version: 0,
                staged: Vec::new(),
                texts: Vec::new(),
                in_vain: 0,
                returned: 0,
                clean_starts: 0,
                writer: None,
            }),
        }
    }

    fn failed(&mut self, reason: &str) {
        let (clock, version) = (self.clock, self.version);
        let Some(run) = self.active() else { return };
        let pauses = match reason {
            "INTERNAL" => [30, 120],
            "SOURCE_THROTTLED" => [900, 3_600],
            _ => {
                let holds = reason == "AUTH_FAILED" && run.granted_version == version;
                run.ends(RunState::Failed);
                if holds {
                    self.held_until = clock + 900;
                }
                return;
            }
        };
        match run.attempt {
            1 | 2 => {
                run.state = RunState::Queued;
                run.waits_until = clock + pauses[usize::try_from(run.attempt).unwrap() - 1];
                run.attempt += 1;
                (run.in_vain, run.returned) = (0, 0);
            }
            _ => run.ends(RunState::Failed),
        }
    }

    fn handed_back(&mut self, reason: &str) {
        let clock = self.clock;
        let Some(run) = self.active() else { return };
        run.state = RunState::Queued;
        if reason == "CHECKPOINT_UNUSABLE" {
            run.drop_staged();
            run.clean_starts += 1;
            if run.clean_starts == 5 {
                run.ends(RunState::Failed);
            }
            return;
        }
        run.in_vain = 0;
        run.returned += 1;
        if reason == "BUSY" {
            run.waits_until = clock + i64::from(run.returned);
        }
        if run.returned == 20 {
            run.ends(RunState::Failed);
        }
    }

    fn lost(&mut self) {
        let Some(run) = self.active() else { return };
        run.in_vain += 1;
        run.state = RunState::Queued;
        if run.in_vain == 5 {
            run.ends(RunState::Failed);
        }
    }

    /// The lease ends, however.
    fn take_writer(&mut self) -> Option<Writer> {
        let writer = self.active()?.writer.take()?;
        self.former.push(writer.clone());
        Some(writer)
    }
}

struct Played {
    store: Arc<dyn Store>,
    model: Model,
}

impl Played {
    async fn begin(store: Arc<dyn Store>) -> Self {
        define(&*store, &[definition(PIPELINE)]).await;
        Self { store, model: Model { version: 1, ..Model::default() } }
    }

    async fn play(&mut self, action: Action) {
        let (store, at) = (Arc::clone(&self.store), self.model.now());
        match action {
            Action::ByHand { full } => {
                let run_id = store.enqueue(PIPELINE, full, at).await.unwrap();
                self.model.held_until = 0;
                self.model.asked(run_id, true, full);
            }
            Action::Tick => {
                let seen = store.definitions().await.unwrap()[0].scheduled_at;
                let run_id = store.enqueue_scheduled(PIPELINE, seen, at).await.unwrap().unwrap();
                self.model.asked(run_id, false, false);
            }
            Action::Grant { resume } => self.grant(resume).await,
            Action::Append { records, text } => self.append(records, text).await,
            Action::Renew => {
                let tokens: Vec<Token> =
                    self.model.active().and_then(|run| run.writer.as_ref()).map(|w| w.token).into_iter().collect();
                let held: Vec<RunId> = tokens.iter().map(|token| token.run_id).collect();
                assert_eq!(store.renew(AGENT, &tokens).await.unwrap(), held);
            }
            Action::Fail(reason) => {
                self.model.failed(reason);
                if let Some(writer) = self.model.take_writer() {
                    assert!(store.release(&writer, FAILED, reason, "", at).await.unwrap());
                }
            }
            Action::HandBack(reason) => {
                self.model.handed_back(reason);
                if let Some(writer) = self.model.take_writer() {
                    assert!(store.release(&writer, HANDED_BACK, reason, "", at).await.unwrap());
                }
            }
            Action::Lose => self.lose().await,
            Action::Cancel => self.cancel().await,
            Action::Late => self.late().await,
            Action::Commit => self.commit().await,
            Action::Define => {
                self.model.version += 1;
                self.model.held_until = 0;
                let workflow_json = format!("{{\"x\":{}}}", self.model.version);
                store
                    .put_definitions(vec![NewDefinition { workflow_json, ..definition(PIPELINE) }], Vec::new(), at)
                    .await
                    .unwrap();
            }
            Action::Wait(seconds) => self.model.clock += seconds,
        }
    }

    async fn lose(&mut self) {
        let Some(run_id) = self.model.active().map(|run| run.run_id) else { return };
        let lease = run(&*self.store, run_id).await.lease.unwrap();
        assert!(self.store.expire(run_id, &lease, Ending::Lost, AGENT_LOST, self.model.now()).await.unwrap());
        self.model.lost();
        self.model.take_writer();
    }

    async fn cancel(&mut self) {
        let at = self.model.now();
        let Some(run) = self.model.runs.iter_mut().find(|run| !run.state.is_final()) else { return };
        self.store.cancel(run.run_id, at).await.unwrap();
        run.ends(RunState::Cancelled);
        self.model.former.extend(run.writer.take());
    }

    async fn late(&mut self) {
        for writer in &self.model.former {
            assert!(self.store.apply(writer, &batch(&tables(0..1))).await.is_err());
            assert!(self.store.open(writer).await.is_err());
            assert_eq!(self.store.renew(AGENT, &[writer.token]).await.unwrap(), []);
            assert!(!self.store.release(writer, FAILED, "INTERNAL", "", self.model.now()).await.unwrap());
        }
    }

    async fn grant(&mut self, resume: bool) {
        let (at, version) = (self.model.now(), self.model.version);
        for index in 0..self.model.runs.len() {
            let expected = self.model.may_run(&self.model.runs[index]);
            let known = &mut self.model.runs[index];
            let listed = Listed { resume, ..LISTED };
            assert_eq!(self.store.grant(known.run_id, version + 1, AGENT, listed, at).await.unwrap(), None);
            let granted = self.store.grant(known.run_id, version, AGENT, listed, at).await.unwrap();
            assert_eq!(granted.is_some(), expected, "{}", known.run_id);
            let Some(granted) = granted else { continue };
            if !resume || known.granted_version != version {
                known.drop_staged();
            }
            known.granted_version = version;
            known.attempt = known.attempt.max(1);
            known.waits_until = 0;
            known.state = RunState::Running;
            let writer = writer(&granted);
            let opened = self.store.open(&writer).await.unwrap();
            known.writer = Some(writer);
            let staged = u64::try_from(known.staged.len()).unwrap();
            let digest = eof(&known.staged, &[]).digest;
            assert_eq!((granted.attempt, granted.full), (known.attempt, known.full));
            assert_eq!((opened.next_seq, opened.digest), (staged, digest));
            let checkpoint = granted.checkpoint.map(|checkpoint| (checkpoint.next_seq, checkpoint.digest));
            assert_eq!(checkpoint, (staged > 0).then_some((staged, digest)));
        }
    }

    async fn append(&mut self, records: usize, text: u8) {
        let committed = self.model.committed.clone();
        let Some(run) = self.model.active() else { return };
        let text = ["first", "second", "third"][usize::from(text)];
        let mut sent = Vec::new();
        for seq in run.staged.len()..run.staged.len() + records {
            let name = format!("t{seq:03}");
            let seq = u64::try_from(seq).unwrap();
            let is_known = !run.full && committed.get(&name).is_some_and(|committed| committed == text);
            sent.push(if is_known { unchanged(seq, &name, text) } else { record(seq, &name, text) });
            run.texts.push((name, text.to_owned()));
        }
        let writer = run.writer.as_ref().unwrap();
        let next_seq = sent.last().map_or(0, |record| record.seq + 1);
        assert_eq!(self.store.apply(writer, &batch(&sent)).await.unwrap(), Applied::Durable { next_seq });
        run.staged.extend(sent);
        (run.in_vain, run.returned) = (0, 0);
    }

    async fn commit(&mut self) {
        let at = self.model.now();
        let Some(run) = self.model.active() else { return };
        let writer = run.writer.take().unwrap();
        let figures = self.store.commit(&writer, &eof(&run.staged, &[]), at).await.unwrap();
        let texts = std::mem::take(&mut run.texts);
        run.ends(RunState::Committed);
        self.model.committed.extend(texts);
        self.model.held_until = 0;
        assert_eq!(figures.entities, u64::try_from(self.model.committed.len()).unwrap());
    }

    /// What anybody sees is what the model says.
    async fn compare(&self) {
        let model = &self.model;
        for known in &model.runs {
            let run = run(&*self.store, known.run_id).await;
            assert_eq!((run.state, run.attempt, run.full), (known.state, known.attempt, known.full));
            let waits_until = run.not_before.map_or(0, |moment| moment.duration_since(now()).as_secs());
            assert_eq!((waits_until, run.scheduled), (known.waits_until, !known.by_hand));
            assert_eq!((run.lost, run.handed_back, run.restarts), (known.in_vain, known.returned, known.clean_starts));
        }
        let (open, holds) = (self.store.open_runs().await.unwrap(), self.store.holds().await.unwrap());
        assert_eq!(holds.iter().any(|hold| hold.is_in_force(model.now())), model.clock < model.held_until);
        let ready = ready_runs(&open, &holds, model.now());
        let expected: BTreeSet<RunId> =
            model.runs.iter().filter(|run| model.may_run(run)).map(|run| run.run_id).collect();
        assert_eq!(ready, expected);
        let bodies = self.store.bodies(None, None, 1_000).await.unwrap();
        let found: Vec<(String, Bytes)> = bodies.into_iter().map(|entity| (entity.row.fqn, entity.body)).collect();
        let expected = model.committed.iter().map(|(name, text)| {
            let record = record(0, name, text);
            (record.fqn, record.content.unwrap().body)
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

fn play(subject: impl AsyncFnOnce() -> Subject, actions: Vec<Action>) {
    Runtime::new().unwrap().block_on(async {
        let subject = subject().await;
        let mut played = Played::begin(subject.store()).await;
        for action in actions {
            played.play(action).await;
            played.compare().await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_runs_of_a_pipeline_go_on_as_the_model_says_in_memory(actions in actions(1..80)) {
        play(async || Subject::memory(), actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_runs_of_a_pipeline_go_on_as_the_model_says_in_sqlite(actions in actions(10..50)) {
        play(Subject::sqlite, actions);
    }
}
