//! The reference control plane: the executable form of `hybrid/runner/v1`.
//!
//! ```text
//! definitions ─▶ schedule ─▶ run queued ─▶ session: grant (lease, fence) ─▶ push: records, end ─▶ committed
//!   (folder)      (or `run`)                   │ heartbeats renew              │ one transaction a batch
//!                                              └ lease: lost ─▶ queued again   └ one for the commit
//! ```
//!
//! - [`definitions`], [`schedule`]: what runs, and when.
//! - `session`: what an agent is offered and granted; [`lease`]: when a grant counts as lost.
//! - `push`: records into the store, and their commit.
//! - [`store`]: every transaction, and the rules they keep.
//! - [`server`]: [`ControlPlane`] builds and supervises it all; a [`Handle`] is what others hold of it.
//! - `health`, `metrics`, `otel`: what it shows of itself.
//! - `shared`, `status`, `stream`: what sessions and pushes stand on; `wire`: between its types and ours.
//! - [`identity`], [`pki`]: who an agent is.
//! - [`export`], [`progress`], [`commands`]: what people see.

pub mod clock;
pub mod commands;
pub mod config;
pub mod definitions;
pub mod digest;
pub mod export;
mod health;
pub mod identity;
pub mod lease;
mod metrics;
mod otel;
pub mod pki;
pub mod progress;
mod push;
pub mod schedule;
pub mod server;
mod session;
mod shared;
mod status;
pub mod store;
mod stream;
mod wire;

pub use server::{Bound, ControlPlane, Handle};
