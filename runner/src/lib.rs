//! The agent of Hybrid Runner, as a library.
//!
//! ```text
//! session   one stream to the control plane, and the next one after it    definitions, grants, heartbeats
//!    ▼
//! lease     which runs are this agent's, and until when                   pure; stops a run before its lease is over
//!    ▼
//! plan      definition ─▶ Source, without I/O                             refuses what cannot be run
//! preflight whether the secrets of a plan can be read now                 told with the answer to the definition
//!    ▼
//! run       open, extract, commit                                         source and upload, one task
//!    ▼
//! upload    a bounded window of unacked records                           acks are the credit; go back, resend
//!    ▼
//! status    what the control plane is told about it
//! ```
//!
//! `clock`, `dial`, `retry`, `event`, `telemetry`, `runlog`, `tripwire` and `config` are the base: they know none of the above. [`Agent`] builds and
//! supervises; `doctor` looks at each of them by itself; `commands` is the program. Which module may use which is checked by a test.
//!
//! A program that embeds the agent builds an [`AgentConfig`], subscribes to [`Agent::events`] and awaits [`Agent::run`]; with
//! [`run_log_layer`] in its subscriber the control plane is sent the logs of runs.

mod agent;
mod clock;
pub mod commands;
mod config;
mod dial;
mod doctor;
mod event;
mod hardening;
mod health;
mod lease;
mod metrics;
mod otel;
mod plan;
mod preflight;
mod retry;
mod run;
mod runlog;
mod session;
mod status;
mod telemetry;
mod tripwire;
mod upload;

pub use agent::{Agent, AgentError};
pub use clock::{Clock, Moment};
#[cfg(fuzzing)]
pub use config::fuzz_policy;
pub use config::{AgentConfig, ConfigError, ControlPlane, Environment, Identity, Pem, Proxy, ProxyLogin};
pub use dial::{Connection, Dial};
pub use event::{AgentEvent, ResultLine, RunEnd, RunFigures, RunProgress, RunSnapshot};
pub use metrics::Metrics;
pub use plan::Connectors;
pub use runlog::layer as run_log_layer;

// What a program that embeds the agent needs of the crates below, so that it depends on this one only.
pub use hybrid_runner_connector::{Severity, Stage};
pub use hybrid_runner_salesforce::{HostPolicy, LocalConfig, LocalHost};
pub use hybrid_runner_secrets::{MemoryStore, Policy, SecretValue, Stores};
