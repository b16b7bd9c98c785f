//! `kill -9` of agent and control plane, at random instants and around acknowledgements, commits and drains.

use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use hybrid_runner_tests::deployment::{
    Deployment, assert_ends_well, assert_same_export, committed, last_number, undisturbed,
};
use hybrid_runner_tests::is_long;
use hybrid_runner_tests::processes::Running;
use serde_json::Value;

use super::{lines, short_leases, since};

/// Deployments that are disturbed side by side; most of their time goes into leases that have to run out.
const SIDE_BY_SIDE: usize = 5;

/// Kills of each deployment that have to hit a living process in the middle of a run.
const KILLS: usize = 6;

/// What is disturbed, and for how long.
struct Extent {
    objects: &'static str,
    kills: usize,
    /// Records that have to be durable in all.
    records: u64,
}

const SHORT: Extent = Extent { objects: "240", kills: KILLS, records: 0 };
const LONG: Extent = Extent { objects: "2000", kills: 1_000 / SIDE_BY_SIDE, records: 1_000_000 / SIDE_BY_SIDE as u64 };

/// Kills after which a deployment says how far it is.
const SAYS_SO: usize = 25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Plane,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Some time after the run went on again.
    AtRandom,
    /// When a batch has just become durable: its acknowledgement is on the way.
    AtAnAck,
    /// When the last record has just become durable: the end of the run is on its way.
    AtTheCommit,
    /// While the agent leaves.
    Draining,
}

/// One after the other, so that each kind takes place; who is killed and when exactly is drawn.
const MOMENTS: [Moment; 5] =
    [Moment::AtRandom, Moment::AtAnAck, Moment::AtTheCommit, Moment::AtAnAck, Moment::Draining];

/// How often what was killed when.
#[derive(Debug, Default)]
struct Count {
    /// A living process, in the middle of a run.
    middle: usize,
    /// A living process, when the run had just been committed.
    committed: usize,
    agents: usize,
    planes: usize,
    at_acks: usize,
    at_commits: usize,
    drains: usize,
}

struct Disturbed {
    deployment: Deployment,
    random: Rng,
    org: Running,
    plane: Running,
    agent: Running,
    /// Entities of a whole run.
    total: u64,
    /// How often the plane was started. Each has a log of its own: one log of a thousand kills would be read over and over.
    planes: usize,
    /// Records that were durable before the plane was started.
    before: u64,
    /// Where the plane's log stood at the last kill.
    seen: usize,
    rounds: usize,
    count: Count,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_whenever_the_entities_are_those_of_an_undisturbed_run() {
    let extent = if is_long() { LONG } else { SHORT };
    let seed =
        std::env::var_os("KILL_SEED").map_or_else(|| fastrand::u64(..), |seed| seed.to_str().unwrap().parse().unwrap());
    eprintln!("KILL_SEED={seed}");
    let wanted = undisturbed(extent.objects).await;
    let total = u64::try_from(wanted.lines().count()).unwrap();
    let seeds = (0..SIDE_BY_SIDE as u64).map(|nth| seed.wrapping_add(nth));
    let counts = join_all(seeds.map(|seed| disturb(&extent, seed, total, &wanted))).await;
    eprintln!("{counts:?}");
    let sum = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>();
    // Every kind took place.
    assert!(sum(|count| count.middle) >= extent.kills * SIDE_BY_SIDE, "{counts:?}");
    let kinds: [fn(&Count) -> usize; 5] = [
        |count| count.agents,
        |count| count.planes,
        |count| count.at_acks,
        |count| count.at_commits,
        |count| count.drains,
    ];
    assert!(kinds.into_iter().all(|kind| sum(kind) > 0), "{counts:?}");
}

async fn disturb(extent: &Extent, seed: u64, total: u64, wanted: &str) -> Count {
    let deployment = short_leases(extent.objects).await;
    let org = deployment.start_org().await;
    let plane = deployment.start_plane(&plane_log(0)).await;
    let agent = deployment.start_agent("agent.log");
    let mut random = Rng::with_seed(seed);
    let rounds = random.usize(..MOMENTS.len());
    let count = Count::default();
    let (planes, before, seen) = (0, 0, 0);
    let mut disturbed = Disturbed { deployment, random, org, plane, agent, total, planes, before, seen, rounds, count };
    while disturbed.count.middle < extent.kills || disturbed.durable() < extent.records {
        if disturbed.open_run().await.is_none() {
            disturbed.check(wanted).await;
            disturbed.deployment.trigger(&["--full"]).await;
            disturbed.seen = disturbed.plane.log().len();
        }
        disturbed.round().await;
        if disturbed.rounds.is_multiple_of(SAYS_SO) {
            eprintln!("seed {seed}: {} records, {:?}", disturbed.durable(), disturbed.count);
        }
    }
    disturbed.finish(wanted).await
}

/// The name of the log of a plane that was started after so many others.
fn plane_log(nth: usize) -> String {
    format!("plane-{nth}.log")
}

impl Disturbed {
    /// The id of the run that is not over, by the store and not by what somebody said before he was killed.
    async fn open_run(&self) -> Option<String> {
        let runs = self.deployment.shown_runs().await;
        let open = |run: &&Value| ["queued", "granted", "running"].iter().any(|state| run["state"] == *state);
        runs.iter().find(open).map(|run| run["run_id"].as_str().unwrap().to_owned())
    }

    /// One kill, after the run that is open has gone on since the last one.
    async fn round(&mut self) {
        self.rounds += 1;
        let moment = MOMENTS[self.rounds % MOMENTS.len()];
        let victims = [Victim::Agent, Victim::Plane, Victim::Both];
        let victim =
            if moment == Moment::Draining { Victim::Agent } else { victims[self.random.usize(..victims.len())] };
        let (from, total) = (self.seen, self.total);
        let wanted = |log: &str| {
            let log = since(log, from);
            let next_seq = last_number(log, "batch durable", "next_seq");
            let is_there = next_seq.is_some_and(|next_seq| moment != Moment::AtTheCommit || next_seq >= total);
            // What was left may have been the commit alone.
            (is_there || lines(log, "run committed") > 0).then_some(())
        };
        self.plane.until("the run to go on", wanted).await;
        if moment == Moment::Draining {
            self.agent.signal("TERM");
        }
        if matches!(moment, Moment::AtRandom | Moment::Draining) {
            // The instant is what is tried here: no event marks it.
            tokio::time::sleep(Duration::from_millis(self.random.u64(..200))).await;
        }
        self.kill(victim, moment).await;
    }

    async fn kill(&mut self, victim: Victim, moment: Moment) {
        let agent = victim != Victim::Plane;
        let plane = victim != Victim::Agent;
        let alive = (!agent || self.agent.is_alive()) && (!plane || self.plane.is_alive());
        if plane {
            self.plane.kill_now().await;
        }
        if agent {
            self.agent.kill_now().await;
        }
        self.seen = self.plane.log().len();
        let is_open = self.open_run().await.is_some();
        if alive {
            let count = &mut self.count;
            *(if is_open { &mut count.middle } else { &mut count.committed }) += 1;
            count.agents += usize::from(agent);
            count.planes += usize::from(plane);
            count.at_acks += usize::from(moment == Moment::AtAnAck);
            count.at_commits += usize::from(moment == Moment::AtTheCommit);
            count.drains += usize::from(moment == Moment::Draining);
        }
        if plane {
            (self.before, self.seen) = (self.durable(), 0);
            self.planes += 1;
            self.plane = self.deployment.start_plane(&plane_log(self.planes)).await;
        }
        if agent {
            self.agent = self.deployment.start_agent("agent.log");
        }
    }

    /// Records that were durable, over all runs.
    fn durable(&self) -> u64 {
        let log = self.plane.log();
        self.before + log.lines().filter_map(|line| last_number(line, "batch durable", "records")).sum::<u64>()
    }

    async fn check(&self, wanted: &str) {
        assert_same_export(&self.deployment.export().await, wanted);
    }

    /// Undisturbed from now on: what is open is committed, and one run more finds everything as it was.
    async fn finish(mut self, wanted: &str) -> Count {
        if let Some(run_id) = self.open_run().await {
            self.plane.until("the commit", |log| committed(log, &run_id)).await;
        }
        self.check(wanted).await;
        let last = self.deployment.run_again(&mut self.plane).await;
        assert_eq!((&last["sent"], &last["changed"], &last["deleted"]), (&0.into(), &0.into(), &0.into()), "{last}");
        assert_eq!(last["unchanged"], self.total, "{last}");
        for run in self.deployment.shown_runs().await {
            assert_eq!((&run["state"], &run["deleted"]), (&"committed".into(), &0.into()), "{run}");
        }
        let Self { deployment, org, plane, agent, planes, count, .. } = self;
        assert_ends_well([agent, plane, org]).await;
        for log in (0..=planes).map(plane_log).chain(["agent.log".to_owned()]) {
            let log = hybrid_runner_tests::deployment::read(deployment.dir.path(), &log);
            assert_eq!(lines(&log, "panicked at"), 0, "{log}");
        }
        count
    }
}
