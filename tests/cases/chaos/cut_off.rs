//! A partition: the agent is in a network of its own, and the one cable is cut, or a packet filter drops what goes over it,
//! both ways or one. Nothing is refused then and nothing is reset; what is sent is gone.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hybrid_runner_tests::deployment::{
    Deployment, PLANE, assert_ends_well, assert_same_export, committed, last_number, undisturbed,
};
use hybrid_runner_tests::outside;
use hybrid_runner_tests::processes::{Running, command};
use hybrid_runner_tests::root;
use hybrid_runner_tests::world::write;

use super::{lines, short_leases, since};

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The cable is.
    Cable,
    /// All packets.
    BothWays,
    /// What the agent sends.
    FromTheAgent,
    /// What it is sent.
    ToTheAgent,
}

/// A network namespace, and a cable from it to here.
struct Network {
    name: String,
    /// Addresses of this end and the other one.
    here: String,
    hosts: PathBuf,
}

impl Network {
    /// `None` where namespaces cannot be made: that takes root and iproute2.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Names of interfaces have 15 bytes.
        let number = std::process::id() % 1_000_000 + NEXT.fetch_add(1, Relaxed);
        let name = format!("hr{number}");
        let subnet = format!("10.231.{}", number % 250);
        let (here, there) = (format!("{subnet}.1"), format!("{subnet}.2"));
        let hosts = Path::new("/etc/netns").join(&name).join("hosts");
        let network = Self { name, here, hosts };
        let made = network.ip(&["netns", "add", &network.name]);
        if let Err(refused) = made {
            eprintln!("not run: a network namespace cannot be made here, which takes root and iproute2: {refused}");
            return None;
        }
        let (near, far) = (network.near(), format!("{}b", network.name));
        for arguments in [
            vec!["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &network.name],
            vec!["addr", "add", &format!("{}/30", network.here), "dev", &near],
            vec!["link", "set", &near, "up"],
            vec!["-n", &network.name, "addr", "add", &format!("{there}/30"), "dev", &far],
            vec!["-n", &network.name, "link", "set", &far, "up"],
            vec!["-n", &network.name, "link", "set", "lo", "up"],
        ] {
            if let Err(refused) = network.ip(&arguments) {
                eprintln!("not run: two namespaces cannot be joined here: {refused}");
                return None;
            }
        }
        // `ip netns exec` lays this over /etc/hosts: certificates are for `localhost`.
        write(Path::new("/etc/netns"), &format!("{}/hosts", network.name), &format!("{} localhost\n", network.here));
        Some(network)
    }

    fn near(&self) -> String {
        format!("{}a", self.name)
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn cut(&self, cut: Cut) {
        if cut == Cut::Cable {
            self.ip(&["link", "set", &self.near(), "down"]).unwrap();
            return;
        }
        let chain = |hook: &str, side: &str, is_cut: bool| {
            let rule = if is_cut { format!("{side} != \"lo\" counter drop\n") } else { String::new() };
            format!("chain {hook} {{\ntype filter hook {hook} priority 0;\n{rule}}}\n")
        };
        let (ingoing, outgoing) = (cut != Cut::FromTheAgent, cut != Cut::ToTheAgent);
        let chains = chain("input", "iifname", ingoing) + &chain("output", "oifname", outgoing);
        self.nft(&["-f", "-"], &format!("table inet cut {{\n{chains}}}\n")).unwrap();
    }

    fn mend(&self, cut: Cut) {
        if cut == Cut::Cable {
            self.ip(&["link", "set", &self.near(), "up"]).unwrap();
        } else {
            self.nft(&["delete", "table", "inet", "cut"], "").unwrap();
        }
    }

    /// Packets that each rule of the filter dropped so far.
    fn dropped(&self) -> Vec<u64> {
        let shown = self.nft(&["list", "table", "inet", "cut"], "").unwrap();
        let counts = shown.split("counter packets ").skip(1);
        counts.map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap()).collect()
    }

    /// The packet filter of this network alone.
    fn nft(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let program = nft();
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.name]).arg(&program).args(arguments);
        nft.env("LD_LIBRARY_PATH", program.parent().unwrap());
        nft.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut nft = nft.spawn().map_err(|error| error.to_string())?;
        nft.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = nft.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Starts the agent in it.
    fn start_agent(&self, deployment: &Deployment, log: &str) -> Running {
        let (_, argv) = deployment.commands.iter().find(|(name, _)| name == "hybrid-runner").unwrap();
        let mut agent = command(Path::new("ip"));
        agent.args(["netns", "exec", &self.name]).args(argv).current_dir(deployment.dir.path());
        Running::start(agent, &deployment.dir.path().join(log))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The cable goes with its end.
        drop(self.ip(&["netns", "del", &self.name]));
        drop(self.hosts.parent().map(std::fs::remove_dir_all));
    }
}

/// The packet filter's program.
fn nft() -> PathBuf {
    root().join("target/peers/nftables/nft")
}

#[tokio::test]
async fn an_agent_that_is_cut_off_beyond_its_lease_leaves_its_run_to_another_and_comes_back() {
    let Some(network) = Network::new() else { return };
    cut_off(&network, Cut::Cable).await;
}

#[tokio::test]
async fn an_agent_whose_packets_are_dropped_both_ways_or_one_leaves_its_run_to_another_and_comes_back() {
    if outside::nft("a partition by a packet filter").is_none() {
        return;
    }
    for cut in [Cut::BothWays, Cut::FromTheAgent, Cut::ToTheAgent] {
        let Some(network) = Network::new() else { return };
        if let Err(refused) = network.nft(&["list", "ruleset"], "") {
            eprintln!("not run: nft does not work here, which takes root and a kernel with nf_tables: {refused}");
            return;
        }
        cut_off(&network, cut).await;
    }
}

async fn cut_off(network: &Network, cut: Cut) {
    let mut deployment = short_leases("240").await;
    let endpoint = deployment.agent_setting("endpoint");
    let port = endpoint.rsplit_once(':').unwrap().1.to_owned();
    deployment.change(PLANE, &format!("listen: 127.0.0.1:{port}"), &format!("listen: 0.0.0.0:{port}"));
    for (name, argv) in &mut deployment.commands {
        if name == "sandbox" {
            argv.iter_mut().for_each(|word| *word = word.replace("127.0.0.1:", "0.0.0.0:"));
        }
    }
    let org = deployment.start_org().await;
    let mut plane = deployment.start_plane("plane.log").await;
    let mut away = network.start_agent(&deployment, "away.log");
    let some = |log: &str| last_number(log, "batch durable", "next_seq").filter(|&next| next > 3);
    let before = plane.until("the first batches", some).await;
    network.cut(cut);
    let cut_at = plane.log().len();
    assert_eq!(committed(&plane.log(), ""), None, "it was cut off in the middle of a run");

    let near = deployment.start_agent("near.log");
    let goes_on = |log: &str| {
        let log = since(log, cut_at);
        last_number(log, "push opened", "next_seq").filter(|_| lines(log, "the lease of a run was ended") > 0)
    };
    let went_on = plane.until("another agent to go on", goes_on).await;
    assert!(went_on >= before, "{before} records were durable, and the other agent went on at {went_on}");
    plane.until("the commit", |log| committed(log, "")).await;
    assert_same_export(&deployment.export().await, &undisturbed("240").await);

    // The cable is mended: the agent is there again for the next run, alone.
    assert_ends_well([near]).await;
    let mended = away.log().len();
    if cut != Cut::Cable {
        let dropped = network.dropped();
        eprintln!("{cut:?}: {dropped:?} packets dropped");
        assert_eq!(dropped.len(), if cut == Cut::BothWays { 2 } else { 1 }, "{cut:?}");
        assert!(dropped.iter().all(|packets| *packets > 0), "{cut:?}: {dropped:?}");
    }
    network.mend(cut);
    let run = deployment.run_again(&mut plane).await;
    assert_eq!((&run["state"], &run["sent"], &run["deleted"]), (&"committed".into(), &0.into(), &0.into()), "{run}");
    assert!(since(&away.log(), mended).contains("run"), "it was the agent that had been cut off");
    assert!(away.is_alive());
    assert_ends_well([away, plane, org]).await;
}
