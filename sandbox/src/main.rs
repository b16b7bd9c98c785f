//! `sandbox serve`: the simulated org as a program of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use sandbox::{ApiVersion, Credentials, FaultPlan, Identity, Org, OrgConfig, Sandbox, SandboxHandle, ServerConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A simulated Salesforce org.
#[derive(Parser)]
#[command(name = "sandbox", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves an org over HTTPS until Ctrl-C or SIGTERM; SIGHUP changes each hundredth object
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Objects of the generated org
    #[arg(long, default_value_t = 60, conflicts_with = "recordings")]
    objects: usize,
    /// Equal seeds give equal orgs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mean number of fields an object over the whole org; without it, what is natural
    #[arg(long, conflicts_with = "recordings")]
    fields_per_object: Option<usize>,
    /// Serve a folder of recorded responses instead of a generated org
    #[arg(long, value_name = "DIR")]
    recordings: Option<PathBuf>,
    /// Milliseconds waited before each call is answered
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Milliseconds worked on each describe, also inside a composite
    #[arg(long, default_value_t = 0)]
    describe_ms: u64,
    /// API versions whose describes are built before the first request (repeat, or separate by commas)
    #[arg(long, value_delimiter = ',', default_value = "42.0,64.0", value_name = "VERSION")]
    prepare: Vec<ApiVersion>,
    /// Write the CA that clients have to trust to this file
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Certificate (PEM) to serve with, instead of one under a CA made at start
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Ask clients for a certificate of the authorities in this file (PEM)
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// As a proxy, ask for this user name
    #[arg(long, requires = "proxy_password")]
    proxy_username: Option<String>,
    /// As a proxy, ask for this password
    #[arg(long, requires = "proxy_username")]
    proxy_password: Option<String>,
    /// File with the credentials that the org accepts: JSON with username, password, security_token, consumer_key,
    /// consumer_secret, jwt_certificate, jwt_approved, trusted_address, soap_login, each optional
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// User name that the org accepts
    #[arg(long)]
    username: Option<String>,
    /// Password that the org accepts, without the security token
    #[arg(long)]
    password: Option<String>,
    /// Security token that the org accepts
    #[arg(long)]
    security_token: Option<String>,
    /// Client id that the org accepts
    #[arg(long)]
    consumer_key: Option<String>,
    /// Client secret that the org accepts
    #[arg(long)]
    consumer_secret: Option<String>,
    /// Certificate or public key (PEM) that JWT assertions are checked with
    #[arg(long, value_name = "FILE")]
    jwt_certificate: Option<PathBuf>,
    /// The password alone will do, as from a trusted address
    #[arg(long)]
    trusted_address: bool,
    /// SOAP login is off, as in new orgs
    #[arg(long)]
    no_soap_login: bool,
}

fn main() -> anyhow::Result<()> {
    let Command::Serve(serve) = Cli::parse().command;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?.block_on(run(serve))
}

async fn run(serve: Serve) -> anyhow::Result<()> {
    // Before the port is bound: whoever waits for the line on stdout may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let org = Org::new(&OrgConfig {
        objects: serve.objects,
        seed: serve.seed,
        fields_per_object: serve.fields_per_object,
        recordings: serve.recordings.clone(),
        credentials: credentials(&serve)?,
        ..OrgConfig::default()
    })?;
    let (objects, mean) = (org.objects().len(), org.mean_fields());
    let config = ServerConfig {
        listen: serve.listen,
        identity: identity(&serve)?,
        client_ca: serve.client_ca.as_deref().map(read).transpose()?,
        proxy_credentials: serve.proxy_username.clone().zip(serve.proxy_password.clone()),
        prepare: serve.prepare.clone(),
        faults: FaultPlan {
            latency: Duration::from_millis(serve.latency_ms),
            describe_time: Duration::from_millis(serve.describe_ms),
            ..FaultPlan::default()
        },
        ..ServerConfig::default()
    };
    let sandbox = Sandbox::bind(org, config).await?;
    let handle = sandbox.handle();
    if let Some(file) = &serve.ca_out {
        std::fs::write(file, handle.ca_pem()).with_context(|| format!("write {}", file.display()))?;
    }
    writeln!(std::io::stdout(), "listening on {}", handle.url()).context("write to stdout")?;
    tracing::info!(objects, mean_fields = mean, "org ready");
    let stop = CancellationToken::new();
    tokio::select! {
        () = sandbox.run(stop.clone()) => {}
        () = change_on_hangup(hangup, &handle) => {}
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("listen for Ctrl-C")?,
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

/// At each SIGHUP every hundredth object that can be changed has a new field: an org of which 1 % changed.
async fn change_on_hangup(mut hangup: Signal, handle: &SandboxHandle) {
    for change in 1_u32.. {
        if hangup.recv().await.is_none() {
            return std::future::pending().await;
        }
        handle.change_org(|org| {
            let names: Vec<String> = org.objects().step_by(100).map(|object| object.entry.name.clone()).collect();
            for name in names {
                if let Err(error) = org.add_field(&name, &format!("Added_{change}__c")) {
                    tracing::warn!(%error, "not changed");
                }
            }
        });
    }
}

fn identity(serve: &Serve) -> anyhow::Result<Option<Identity>> {
    let (Some(certificate), Some(key)) = (&serve.certificate, &serve.key) else { return Ok(None) };
    let certificate_pem = read(certificate)?;
    // What a client has to trust is not known here; the certificate itself is the best there is for --ca-out.
    Ok(Some(Identity { ca_pem: certificate_pem.clone(), certificate_pem, key_pem: read(key)? }))
}

fn credentials(serve: &Serve) -> anyhow::Result<Credentials> {
    let mut credentials = match &serve.credentials {
        Some(file) => {
            let text = read(file)?;
            serde_json::from_str(&text).with_context(|| format!("{} does not hold credentials", file.display()))?
        }
        None => Credentials::default(),
    };
    let given = [
        (&mut credentials.username, &serve.username),
        (&mut credentials.password, &serve.password),
        (&mut credentials.security_token, &serve.security_token),
        (&mut credentials.consumer_key, &serve.consumer_key),
        (&mut credentials.consumer_secret, &serve.consumer_secret),
    ];
    for (field, value) in given {
        if let Some(value) = value {
            field.clone_from(value);
        }
    }
    if let Some(file) = &serve.jwt_certificate {
        credentials.jwt_certificate = read(file)?;
    }
    credentials.trusted_address |= serve.trusted_address;
    credentials.soap_login &= !serve.no_soap_login;
    Ok(credentials)
}
