//! `control-plane agent`

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Common, Failure, Outcome, failed, load, output, refused};
use crate::config::Config;
use crate::digest::hex;
use crate::identity::{self, Agent, Agents, MAX_AGENT_NAME};
use crate::pki::Authority;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an agent's identity and let it in
    Add(Add),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The agent's name: letters, digits, `.`, `_` and `-`
    name: String,
    /// Make a bearer token instead of a certificate, for a load balancer that ends TLS
    #[arg(long)]
    token: bool,
    /// The folder for the identity's files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: Command) -> Outcome {
    let Command::Add(add) = command;
    let config = load(&add.common)?;
    if !identity::is_name(&add.name) {
        let accepted = format!("1 to {MAX_AGENT_NAME} letters, digits, `.`, `_` and `-`");
        return Err(refused(anyhow::anyhow!("an agent cannot be called {:?}; accepted: {accepted}", add.name)));
    }
    let agents = Agents::read(&config.agents).await.map_err(refused)?;
    let (agent, values) = if add.token { with_token(&add)? } else { with_certificate(&add, &config)? };
    let list = agents.with(agent).map_err(failed)?;
    replace(&config.agents, &list).map_err(failed)?;
    output::print(values.as_bytes())
}

fn with_certificate(add: &Add, config: &Config) -> Result<(Agent, String), Failure> {
    let authority = authority(config).map_err(refused)?;
    let issued = authority.issue_agent(&add.name, Timestamp::now()).map_err(failed)?;
    let certificate = write(add, "pem", &issued.certificate)?;
    let key = write(add, "key", &issued.key)?;
    let values = format!(
        "# hybrid-runner: agent {} (add `endpoint` and, for a private CA, `ca`)\n\
         control_plane:\n  tls:\n    certificate: {certificate}\n    key: {key}\n",
        add.name
    );
    Ok((Agent { name: add.name.clone(), certificate: true, token_blake3: None }, values))
}

fn with_token(add: &Add) -> Result<(Agent, String), Failure> {
    // Two random UUIDs: 244 bits of the operating system's randomness, so that the hash in the list needs no salt.
    let token = hex(&[Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat());
    let file = write(add, "token", &token)?;
    let values = format!(
        "# hybrid-runner: agent {} (add `endpoint` and, for a private CA, `ca`)\n\
         control_plane:\n  token_file: {file}\n",
        add.name
    );
    let hash = identity::hash_token(&token);
    Ok((Agent { name: add.name.clone(), certificate: false, token_blake3: Some(hash) }, values))
}

fn authority(config: &Config) -> anyhow::Result<Authority> {
    let missing = "is missing in the configuration; agents' certificates are signed with it (or use --token)";
    let certificate = config.tls.client_ca.as_ref().with_context(|| format!("tls.client_ca {missing}"))?;
    let key = config.tls.client_ca_key.as_ref().with_context(|| format!("tls.client_ca_key {missing}"))?;
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    Ok(Authority::from_pem(&read(certificate)?, &read(key)?)?)
}

/// Writes a file of the identity, for its owner only and never over another, and returns its absolute path.
fn write(add: &Add, extension: &str, content: &str) -> Result<String, Failure> {
    let path = add.out.join(format!("{}.{extension}", add.name));
    let written = std::fs::create_dir_all(&add.out).and_then(|()| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content.as_bytes())?;
        std::path::absolute(&path)
    });
    let written = written.with_context(|| format!("write {}", path.display())).map_err(refused)?;
    Ok(written.display().to_string())
}

/// The list is read by a running control plane: it is never half written.
fn replace(path: &Path, content: &str) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, content)
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("write {}", path.display()))
}
