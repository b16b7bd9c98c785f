//! What is true: the entities that the source of a definition yields, and when it misbehaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use control_plane::digest::Hash;
use hybrid_runner_connector::Entity;

/// The kind of every entity: only tables are deleted, and counted by the guard.
pub(crate) const KIND: &str = "table";

/// The most entities that a variant lacks of the pipeline's all: what one commit deletes passes the guard.
const MAX_ABSENT: usize = 4;

/// One entity as the ledger compares it.
pub(crate) type Truth = BTreeMap<String, Hash>;

/// The org behind all pipelines of a seed.
#[derive(Debug)]
pub(crate) struct Org {
    seed: u64,
    /// Entities of a pipeline at most.
    entities: usize,
    /// The largest body, in bytes.
    largest: usize,
    variants: Mutex<BTreeMap<(String, u32), Variant>>,
    /// What sources do wrong; none once the org has healed.
    pub(crate) moods: Mutex<Moods>,
    /// Entities that some reading could not read.
    pub(crate) unreadable: Mutex<BTreeSet<String>>,
    /// How often a reading did what a mood says.
    pub(crate) seen: Mutex<BTreeMap<&'static str, u64>>,
}

/// A variant, made once: hashes are not for nothing.
#[derive(Debug, Clone)]
struct Variant {
    entities: Arc<Vec<Entity>>,
    truth: Arc<Truth>,
}

/// How the org is: each is a chance in a thousand at each emission, but for the pace.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moods {
    /// The reading fails with a reason that passes.
    pub(crate) fails: u32,
    /// The reading fails with a reason that stays.
    pub(crate) denies: u32,
    /// It hangs for half a minute.
    pub(crate) hangs: u32,
    /// The entity cannot be read.
    pub(crate) loses: u32,
    /// A checkpoint cannot be used.
    pub(crate) forgets: u32,
    /// Milliseconds between emissions, at most.
    pub(crate) pace: u64,
}

impl Org {
    /// The org of a seed.
    #[must_use]
    pub(crate) fn new(seed: u64, random: &mut fastrand::Rng) -> Arc<Self> {
        let is_bulky = random.u32(..40) == 0;
        let moods = Moods {
            fails: if random.bool() { 0 } else { random.u32(1..30) },
            denies: if random.u32(..8) == 0 { 5 } else { 0 },
            hangs: if random.u32(..4) == 0 { 20 } else { 0 },
            loses: if random.u32(..4) == 0 { 30 } else { 0 },
            forgets: if random.u32(..4) == 0 { 300 } else { 0 },
            pace: random.u64(1..1_200),
        };
        Arc::new(Self {
            seed,
            entities: random.usize(6..28),
            largest: if is_bulky { 700 * 1024 } else { 600 },
            variants: Mutex::default(),
            moods: Mutex::new(moods),
            unreadable: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// Nothing goes wrong any more, and it is quick.
    pub(crate) fn heal(&self) {
        *self.moods.lock().unwrap() = Moods { pace: 50, ..Moods::default() };
    }

    /// Counts that a reading did so.
    pub(crate) fn note(&self, what: &'static str) {
        *self.seen.lock().unwrap().entry(what).or_default() += 1;
    }

    /// What the source of this variant of a pipeline yields, in order.
    #[must_use]
    pub(crate) fn entities(&self, pipeline: &str, variant: u32) -> Arc<Vec<Entity>> {
        self.variant(pipeline, variant).entities
    }

    /// As [`Org::entities`], to compare with.
    #[must_use]
    pub(crate) fn truth(&self, pipeline: &str, variant: u32) -> Arc<Truth> {
        self.variant(pipeline, variant).truth
    }

    fn variant(&self, pipeline: &str, variant: u32) -> Variant {
        let mut variants = self.variants.lock().unwrap();
        let made = variants.entry((pipeline.to_owned(), variant)).or_insert_with(|| {
            let entities = self.make(pipeline, variant);
            let truth = entities.iter().map(|entity| (entity.fqn.clone(), entity.content_hash())).collect();
            Variant { entities: Arc::new(entities), truth: Arc::new(truth) }
        });
        made.clone()
    }

    fn make(&self, pipeline: &str, variant: u32) -> Vec<Entity> {
        let mut random = self.random(pipeline, variant);
        let absent: BTreeSet<usize> = (0..random.usize(..=MAX_ABSENT)).map(|_| random.usize(..self.entities)).collect();
        let present = (0..self.entities).filter(|index| !absent.contains(index));
        present
            .map(|index| {
                // Most of what is there is the same in every variant.
                let content = if random.u32(..10) < 3 { variant } else { 0 };
                let mut own = self.random(pipeline, content.wrapping_mul(1000) + index as u32);
                let size = own.usize(..self.largest);
                let mut text = String::with_capacity(size + 16);
                while text.len() < size {
                    write!(text, "{:016x}", own.u64(..)).unwrap();
                }
                let body = format!(r#"{{"name":"t{index:03}","columns":[],"description":"{content} {text}"}}"#);
                Entity::new(KIND, format!("{pipeline}.db.schema.t{index:03}"), Bytes::from(body))
            })
            .collect()
    }

    fn random(&self, pipeline: &str, number: u32) -> fastrand::Rng {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_be_bytes()).update(pipeline.as_bytes()).update(&number.to_be_bytes());
        let (first, _) = hasher.finalize().as_bytes().split_first_chunk::<8>().map(|(a, b)| (*a, b.len())).unwrap();
        fastrand::Rng::with_seed(u64::from_be_bytes(first))
    }
}
