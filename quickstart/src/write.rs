//! `--write DIR`: the same three parts as programs of their own, the way they are really deployed.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use control_plane::ControlPlane;
use control_plane::clock::SystemClock;
use control_plane::config::Config;
use control_plane::store::SqliteStore;
use sandbox::{Credentials, Identity};
use serde_json::json;

use crate::args::Args;
use crate::deployment::{Deployment, PIPELINE};

/// The programs, in starting order.
const PROGRAMS: [&str; 3] = ["sandbox", "control-plane", "hybrid-runner"];

/// Where recordings are copied to.
const RECORDINGS: &str = "recordings";

/// Builds the programs, writes their files and `commands.json`, and queues the first run.
pub(crate) async fn write(args: &Args, dir: &Path) -> anyhow::Result<()> {
    let programs = build()?;
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let (org_port, plane_port) = free_ports()?;
    let login = Credentials::default();
    let org = Identity::generate()?;
    let deployment = Deployment::of_control_plane(dir, &format!("127.0.0.1:{plane_port}"), &login.username)?;
    deployment.add_agent(plane_port, org_port, &org.ca_pem, &login)?;
    deployment.write("tls/sandbox.pem", &org.certificate_pem)?;
    deployment.write_private("tls/sandbox.key", &org.key_pem)?;
    if let Some(recordings) = &args.recordings {
        copy(recordings, &dir.join(RECORDINGS))?;
    }

    let argvs = [
        sandbox_arguments(args, org_port),
        words("serve --config control-plane.yaml"),
        words("run --config hybrid-runner.yaml"),
    ];
    let commands: Vec<_> = PROGRAMS
        .iter()
        .zip(programs)
        .zip(argvs)
        .map(|((name, program), arguments)| {
            let argv: Vec<String> = std::iter::once(program.display().to_string()).chain(arguments).collect();
            json!({ "name": name, "argv": argv })
        })
        .collect();
    deployment.write("commands.json", &serde_json::to_string_pretty(&commands)?)?;
    queue_first_run(&deployment).await
}

/// The run is queued in the store, so that it needs no command and does not wait for the schedule.
async fn queue_first_run(deployment: &Deployment) -> anyhow::Result<()> {
    let config = Config::load(&deployment.control_plane_config())?;
    let store = Arc::new(SqliteStore::open(&config.store).await?);
    let plane = ControlPlane::new(config, Arc::clone(&store) as _, Arc::new(SystemClock::new()));
    plane.bind().await?.handle().trigger(PIPELINE, false).await?;
    store.close().await;
    Ok(())
}

/// Builds the three programs in the profile that this one was built in, and returns their paths.
fn build() -> anyhow::Result<[PathBuf; 3]> {
    let me = std::env::current_exe().context("find this program")?;
    let folder = me.parent().context("this program lies in a folder")?;
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--profile", env!("QUICKSTART_PROFILE")])
        .args(PROGRAMS.iter().flat_map(|name| ["--package", name]))
        .arg("--target-dir")
        .arg(folder.parent().context("a profile's folder lies in a target folder")?)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo could not build {}", PROGRAMS.join(", "));
    Ok(PROGRAMS.map(|name| folder.join(name)))
}

fn sandbox_arguments(args: &Args, port: u16) -> Vec<String> {
    let mut arguments = words("serve --certificate tls/sandbox.pem --key tls/sandbox.key");
    let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    option("listen", format!("127.0.0.1:{port}"));
    option("seed", args.seed.to_string());
    option("latency-ms", args.latency_ms.to_string());
    option("describe-ms", args.describe_ms.to_string());
    match args.recordings {
        Some(_) => option("recordings", RECORDINGS.to_owned()),
        None => option("objects", args.objects.to_string()),
    }
    arguments
}

/// Copies a folder of recordings, so that the directory is whole by itself.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read the folder {}", from.display()))? {
        let (source, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if source.is_dir() {
            copy(&source, &to.join(name))?;
        } else {
            // Not `fs::copy`: it would keep a read-only mode, and the next `--write` could not replace the file.
            let bytes = std::fs::read(&source).with_context(|| format!("read {}", source.display()))?;
            std::fs::write(to.join(name), bytes).with_context(|| format!("copy {}", source.display()))?;
        }
    }
    Ok(())
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Two ports that are free now. Both are held until both are known, so that they differ.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    let (first, second) = (bind()?, bind()?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}
