//! A partition: the agent is in a network of its own, and the one cable is cut. Nothing is refused then and nothing is
//! reset; what is sent is gone.

use std::path::{Path, PathBuf};
use std::process::Command;

use hybrid_runner_tests::deployment::{
    Deployment, PLANE, assert_ends_well, assert_same_export, committed, last_number, undisturbed,
};
use hybrid_runner_tests::processes::{Running, command};
use hybrid_runner_tests::world::write;

use super::{lines, short_leases, since};

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
        // Names of interfaces have 15 bytes.
        let number = std::process::id() % 1_000_000;
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

    /// Cuts the cable, or mends it.
    fn set(&self, state: &str) {
        self.ip(&["link", "set", &self.near(), state]).unwrap();
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

#[tokio::test]
async fn an_agent_that_is_cut_off_beyond_its_lease_leaves_its_run_to_another_and_comes_back() {
    let Some(network) = Network::new() else { return };
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
    network.set("down");
    let cut = plane.log().len();
    assert_eq!(committed(&plane.log(), ""), None, "it was cut off in the middle of a run");

    let near = deployment.start_agent("near.log");
    let goes_on = |log: &str| {
        let log = since(log, cut);
        last_number(log, "push opened", "next_seq").filter(|_| lines(log, "the lease of a run was ended") > 0)
    };
    let went_on = plane.until("another agent to go on", goes_on).await;
    assert!(went_on >= before, "{before} records were durable, and the other agent went on at {went_on}");
    plane.until("the commit", |log| committed(log, "")).await;
    assert_same_export(&deployment.export().await, &undisturbed("240").await);

    // The cable is mended: the agent is there again for the next run, alone.
    assert_ends_well([near]).await;
    let mended = away.log().len();
    network.set("up");
    let run = deployment.run_again(&mut plane).await;
    assert_eq!((&run["state"], &run["sent"], &run["deleted"]), (&"committed".into(), &0.into(), &0.into()), "{run}");
    assert!(since(&away.log(), mended).contains("run"), "it was the agent that had been cut off");
    assert!(away.is_alive());
    assert_ends_well([away, plane, org]).await;
}
