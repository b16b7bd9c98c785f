//! What a control plane may say at most: pure. Whoever says more breaks the protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Definition, Terms};
use crate::clock::Moment;

/// Messages a second, in the long run, definitions that are new apart. An ordinary control plane needs one a second.
const RATE: f64 = 50.0;
/// Messages at once: what waits for an agent after a network was away for a while.
const BURST: f64 = 500.0;
/// Definitions that are held, and their bytes: some of usual size for each pipeline of a large customer.
const DEFINITIONS: usize = 1000;
const DEFINITION_BYTES: usize = 16 * 1024 * 1024;
/// The contract's limit for the JSON of one.
const DEFINITION: usize = 192 * 1024;
/// The contract's limit for a pipeline's name, and ours for other names and ids.
pub(super) const NAME: usize = 256;
/// The contract's limit for leases in a heartbeat.
pub(super) const LEASES: usize = 64;
/// Connection tests that are not answered. The agent answers each: at once those that it does not take.
pub(super) const TESTS: usize = 64;
/// Grants in a session that no slot was asked for. One may cross with the message that takes the request back.
pub(super) const CROSSING: u32 = 4;
/// Terms that an agent can keep: more heartbeats than this are a flood, and a lease that outlives its agent for longer keeps
/// others from working.
const HEARTBEAT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(60 * 60));
const LEASE_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Moment,
}

impl Bucket {
    pub(super) fn full(now: Moment) -> Self {
        Self { tokens: BURST, at: now }
    }

    /// Whether one more message may come.
    pub(super) fn take(&mut self, now: Moment) -> Result<(), String> {
        self.tokens = (self.tokens + now.since(self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        if self.tokens < 1.0 {
            return Err(format!("more than {RATE} messages a second, {BURST} at once"));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

/// The definitions of a session.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    held: BTreeMap<String, Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    version: u64,
    is_answered: bool,
    bytes: usize,
}

impl Definitions {
    /// Whether this pipeline has none yet.
    pub(super) fn is_new(&self, pipeline: &str) -> bool {
        !self.held.contains_key(pipeline)
    }

    pub(super) fn insert(&mut self, definition: &Definition) -> Result<(), String> {
        let Definition { pipeline, version, workflow_json } = definition;
        let bytes = workflow_json.len();
        if bytes > DEFINITION {
            return Err(format!("Definition.workflow_json has {bytes} bytes; accepted: at most {DEFINITION}"));
        }
        self.remove(pipeline);
        self.bytes += bytes;
        if self.held.len() == DEFINITIONS || self.bytes > DEFINITION_BYTES {
            return Err(format!("more than {DEFINITIONS} definitions, or {DEFINITION_BYTES} bytes of them"));
        }
        self.held.insert(pipeline.clone(), Held { version: *version, is_answered: false, bytes });
        Ok(())
    }

    pub(super) fn remove(&mut self, pipeline: &str) {
        self.bytes -= self.held.remove(pipeline).map_or(0, |held| held.bytes);
    }

    /// The version that was sent last.
    pub(super) fn version(&self, pipeline: &str) -> Option<u64> {
        self.held.get(pipeline).map(|held| held.version)
    }

    /// Whether this answer is wanted: it is about the version sent last, which has none.
    pub(super) fn answer(&mut self, pipeline: &str, version: u64) -> bool {
        match self.held.get_mut(pipeline) {
            Some(held) if held.version == version && !held.is_answered => {
                held.is_answered = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// How many there are, and their bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.held.len(), self.bytes)
    }
}

/// Whether an agent can keep these terms.
pub(super) fn check_terms(terms: Terms) -> Result<(), String> {
    let Terms { heartbeat_interval, lease_ttl } = terms;
    if !(HEARTBEAT.0..=HEARTBEAT.1).contains(&heartbeat_interval) {
        return Err(format!("Welcome.heartbeat_interval is {heartbeat_interval:?}; accepted: 20 ms to an hour"));
    }
    if lease_ttl <= heartbeat_interval || lease_ttl > LEASE_TTL {
        return Err(format!(
            "Welcome.lease_ttl is {lease_ttl:?}; accepted: longer than Welcome.heartbeat_interval, at most a day"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::after_start(Duration::from_millis(milliseconds))
    }

    fn definition(pipeline: &str, bytes: usize) -> Definition {
        Definition { pipeline: pipeline.to_owned(), version: 1, workflow_json: "x".repeat(bytes) }
    }

    #[test]
    fn a_burst_of_500_and_50_a_second_pass_and_no_more() {
        let mut bucket = Bucket::full(at(0));
        assert_eq!((0..600).filter(|_| bucket.take(at(0)).is_ok()).count(), 500);
        assert_eq!((0..200).filter(|n| bucket.take(at(n * 10)).is_ok()).count(), 99);
        assert_eq!((0..600).filter(|_| bucket.take(at(3_600_000)).is_ok()).count(), 500, "it never holds more");
    }

    #[test]
    fn a_thousand_definitions_are_held_and_one_that_is_replaced_counts_once() {
        let mut definitions = Definitions::default();
        for n in 0..DEFINITIONS {
            definitions.insert(&definition(&n.to_string(), 100)).unwrap();
        }
        definitions.insert(&definition("0", 200)).unwrap();
        assert_eq!(definitions.size(), (DEFINITIONS, DEFINITIONS * 100 + 100));
        assert!(definitions.insert(&definition("one more", 1)).is_err());
    }

    #[test]
    fn the_bytes_of_definitions_are_bounded_one_and_all_together() {
        let mut definitions = Definitions::default();
        assert!(definitions.insert(&definition("large", DEFINITION + 1)).is_err());
        for n in 0..DEFINITION_BYTES / DEFINITION {
            definitions.insert(&definition(&n.to_string(), DEFINITION)).unwrap();
        }
        assert!(definitions.insert(&definition("one more", DEFINITION)).is_err());
        let mut definitions = Definitions::default();
        definitions.insert(&definition("a", 10)).unwrap();
        definitions.remove("a");
        definitions.remove("a");
        assert_eq!(definitions.size(), (0, 0));
    }

    #[test]
    fn terms_that_no_agent_can_keep_are_refused() {
        let check = |heartbeat, ttl| check_terms(Terms { heartbeat_interval: heartbeat, lease_ttl: ttl });
        let (second, day) = (Duration::from_secs(1), LEASE_TTL);
        assert!(check(second, 3 * second).is_ok() && check(HEARTBEAT.0, second).is_ok() && check(second, day).is_ok());
        for (heartbeat, ttl) in [
            (Duration::ZERO, second),
            (Duration::from_nanos(1), second),
            (second, second),
            (second, day + second),
            (second, Duration::MAX),
            (Duration::MAX, Duration::MAX),
        ] {
            assert!(check(heartbeat, ttl).is_err(), "{heartbeat:?} {ttl:?}");
        }
    }
}
