//! How a store is asked: how many reads at once, for how long, how often. Time is paused: waits are exact and take none.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hybrid_runner_secrets::{Read, ReadError, SecretError, SecretPath, SecretRef, SecretStore, SecretValue, Stores};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// What a store does when it is asked.
enum Act {
    Answer,
    Fail(ReadError),
    Hang,
    AnswerAfter(Duration),
}

/// Does what its list says, one entry a try, and then answers; an `AnswerAfter` is for ever.
#[derive(Default)]
struct Scripted {
    acts: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<Instant>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Scripted {
    fn new(acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Self { acts: Mutex::new(acts.into_iter().collect()), ..Self::default() })
    }

    fn tries(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The times between tries.
    fn waits(&self) -> Vec<Duration> {
        self.asked.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn next(&self) -> Act {
        let mut acts = self.acts.lock().unwrap();
        match acts.front() {
            Some(Act::AnswerAfter(time)) => Act::AnswerAfter(*time),
            Some(_) => acts.pop_front().unwrap(),
            None => Act::Answer,
        }
    }
}

/// A store that the test looks into meanwhile.
struct Watched(Arc<Scripted>);

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

#[async_trait]
impl SecretStore for Watched {
    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        self.0.asked.lock().unwrap().push(Instant::now());
        let in_flight = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        let result = match self.0.next() {
            Act::Answer => Ok(()),
            Act::Fail(error) => Err(error),
            Act::Hang => pending().await,
            Act::AnswerAfter(time) => {
                sleep(time).await;
                Ok(())
            }
        };
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        result.map(|()| SecretValue::new(format!("value of {path}")).into())
    }
}

fn stores(script: &Arc<Scripted>) -> Stores {
    Stores::default().with("scripted", Watched(Arc::clone(script)))
}

async fn read(stores: &Stores) -> Result<String, SecretError> {
    let reference: SecretRef = "secret:/a".parse().unwrap();
    stores.read(&reference).await.map(|value| value.expose().to_owned())
}

fn unreachable() -> ReadError {
    ReadError::Unreachable("connection refused".into())
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_three_times_with_growing_random_waits() {
    let mut seen = BTreeSet::new();
    for round in 0..20 {
        let failure = || if round % 2 == 0 { unreachable() } else { ReadError::Throttled };
        let script = Scripted::new([Act::Fail(failure()), Act::Fail(failure()), Act::Fail(failure()), Act::Answer]);
        let error = read(&stores(&script)).await.unwrap_err();
        match round % 2 {
            0 => assert!(matches!(error, SecretError::Unreachable { .. }), "{error:?}"),
            _ => assert!(matches!(error, SecretError::Throttled { .. }), "{error:?}"),
        }
        let waits = script.waits();
        assert_eq!(waits.len(), 2);
        assert!((199..=402).contains(&waits[0].as_millis()), "{waits:?}");
        assert!((799..=1602).contains(&waits[1].as_millis()), "{waits:?}");
        seen.insert(waits);
    }
    assert!(seen.len() > 1, "the waits are not random");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_recovers_gives_the_value() {
    let script = Scripted::new([Act::Fail(unreachable()), Act::Fail(ReadError::Throttled), Act::Answer]);
    assert_eq!(read(&stores(&script)).await.unwrap(), "value of /a");
    assert_eq!(script.tries(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_other_failure_is_final_and_keeps_its_kind() {
    type IsKind = fn(&SecretError) -> bool;
    let cases: [(ReadError, IsKind); 7] = [
        (ReadError::NotFound, |error| matches!(error, SecretError::NotFound { .. })),
        (ReadError::KeyMissing, |error| matches!(error, SecretError::KeyMissing { .. })),
        (ReadError::Denied("read".to_owned()), |error| matches!(error, SecretError::Denied { .. })),
        (ReadError::NotText, |error| matches!(error, SecretError::NotText { .. })),
        (ReadError::TooLarge, |error| matches!(error, SecretError::TooLarge { .. })),
        (ReadError::Unusable("is odd"), |error| matches!(error, SecretError::Unusable { .. })),
        (ReadError::Sealed, |error| matches!(error, SecretError::Sealed { .. })),
    ];
    for (failure, is_kind) in cases {
        let script = Scripted::new([Act::Fail(failure), Act::Answer]);
        let error = read(&stores(&script)).await.unwrap_err();
        assert!(is_kind(&error), "{error:?}");
        assert_eq!(script.tries(), 1, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_with_all_its_tries_takes_ten_seconds_at_most() {
    let script = Scripted::new([Act::Hang]);
    let start = Instant::now();
    let error = read(&stores(&script)).await.unwrap_err();
    assert!(matches!(error, SecretError::Unreachable { .. }), "{error:?}");
    assert_eq!((start.elapsed().as_secs(), script.tries()), (10, 1));

    // What the store said before says more than that time is up.
    let script = Scripted::new([Act::Fail(ReadError::Throttled), Act::Hang]);
    let start = Instant::now();
    let error = read(&stores(&script)).await.unwrap_err();
    assert!(matches!(error, SecretError::Throttled { .. }), "{error:?}");
    assert_eq!((start.elapsed().as_secs(), script.tries()), (10, 2));
}

#[tokio::test(start_paused = true)]
async fn at_most_four_reads_of_a_store_are_in_flight_and_other_stores_are_not_held_up() {
    let busy = Scripted::new([Act::AnswerAfter(Duration::from_secs(1))]);
    let free = Scripted::new([Act::AnswerAfter(Duration::from_secs(1))]);
    let stores = stores(&busy).with("free", Watched(Arc::clone(&free)));
    let start = Instant::now();
    let mut reads = JoinSet::new();
    for _ in 0..10 {
        let stores = stores.clone();
        reads.spawn(async move { read(&stores).await.map(|_| start.elapsed().as_secs()) });
    }
    let other: SecretRef = "secret://free/a".parse().unwrap();
    assert!(stores.read(&other).await.is_ok());
    assert_eq!(start.elapsed().as_secs(), 1);
    let mut ends: Vec<_> = reads.join_all().await.into_iter().map(Result::unwrap).collect();
    ends.sort_unstable();
    assert_eq!(ends, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]);
    assert_eq!(busy.most_in_flight.load(Ordering::Relaxed), Stores::READS_AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_other_reads_does_not_count_as_the_store_being_slow() {
    let script = Scripted::new([Act::AnswerAfter(Duration::from_secs(6))]);
    let stores = stores(&script);
    let start = Instant::now();
    let mut reads = JoinSet::new();
    for _ in 0..8 {
        let stores = stores.clone();
        reads.spawn(async move { read(&stores).await });
    }
    assert!(reads.join_all().await.iter().all(Result::is_ok));
    assert_eq!(start.elapsed().as_secs(), 12, "the second four ended after more than one read may take");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_its_caller_gives_up_leaves_its_place_to_others() {
    let script = Scripted::new((0..4).map(|_| Act::Hang));
    let stores = stores(&script);
    let mut reads = JoinSet::new();
    for _ in 0..4 {
        let stores = stores.clone();
        reads.spawn(async move { timeout(Duration::from_secs(1), read(&stores)).await.is_err() });
    }
    assert!(reads.join_all().await.into_iter().all(|gave_up| gave_up));
    assert!(timeout(Duration::from_secs(1), read(&stores)).await.unwrap().is_ok());
}
