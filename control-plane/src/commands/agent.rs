//! `control-plane agent`
//!
//! `add` writes into its folder what an agent is installed with: the identity's files, `NAME.yaml` (the agent's
//! configuration on a machine) and `NAME.secret.yaml` (the Secret for Kubernetes). It prints the values of the Helm chart.

mod install;

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
    /// Where the agent finds this control plane: `https://host:port`
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    endpoint: Option<String>,
    /// The certificates that vouch for this control plane, PEM; for a private authority
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
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
    let ca = add.ca.as_deref().map(read).transpose().map_err(refused)?;
    let agents = Agents::read(&config.agents).await.map_err(refused)?;
    let (agent, identity) = if add.token { with_token(&add.name) } else { with_certificate(&add.name, &config)? };
    let mut files = Vec::new();
    for file in &identity {
        files.push((file, write(&add, file.extension, &file.content)?));
    }
    write(&add, "yaml", &install::configuration(&add, &files)?)?;
    let secret = write(&add, "secret.yaml", &install::secret(&add.name, &identity, ca.as_deref()))?;
    let list = agents.with(agent).map_err(failed)?;
    replace(&config.agents, &list).map_err(failed)?;
    output::print(install::values(&add, &secret).as_bytes())
}

/// A file of an identity.
struct IdentityFile {
    /// What follows the agent's name in the file's.
    extension: &'static str,
    /// The key in the Secret.
    key: &'static str,
    /// The setting of the agent that names the file.
    setting: &'static str,
    content: String,
}

fn with_certificate(name: &str, config: &Config) -> Result<(Agent, Vec<IdentityFile>), Failure> {
    let authority = authority(config).map_err(refused)?;
    let issued = authority.issue_agent(name, Timestamp::now()).map_err(failed)?;
    let certificate =
        IdentityFile { extension: "pem", key: "tls.crt", setting: "certificate", content: issued.certificate };
    let key = IdentityFile { extension: "key", key: "tls.key", setting: "key", content: issued.key };
    Ok((Agent { name: name.to_owned(), certificate: true, token_blake3: None }, vec![certificate, key]))
}

fn with_token(name: &str) -> (Agent, Vec<IdentityFile>) {
    // Two random UUIDs: 244 bits of the operating system's randomness, so that the hash in the list needs no salt.
    let token = hex(&[Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat());
    let hash = identity::hash_token(&token);
    let token = IdentityFile { extension: "token", key: "token", setting: "token_file", content: token };
    (Agent { name: name.to_owned(), certificate: false, token_blake3: Some(hash) }, vec![token])
}

/// The address as agent and chart take it.
fn endpoint(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    let plain = |authority: &str| !authority.is_empty() && !authority.contains(['/', '@', '?', '#', ' ', '"', '\\']);
    if authority.is_some_and(plain) { Ok(text.to_owned()) } else { Err("accepted: https://host:port".to_owned()) }
}

fn authority(config: &Config) -> anyhow::Result<Authority> {
    let missing = "is missing in the configuration; agents' certificates are signed with it (or use --token)";
    let certificate = config.tls.client_ca.as_ref().with_context(|| format!("tls.client_ca {missing}"))?;
    let key = config.tls.client_ca_key.as_ref().with_context(|| format!("tls.client_ca_key {missing}"))?;
    Ok(Authority::from_pem(&read(certificate)?, &read(key)?)?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
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
