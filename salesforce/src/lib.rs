//! The Salesforce connector: one org's metadata as OpenMetadata's Create requests.
//!
//! ```text
//! definition ─▶ config (typed) ─▶ SalesforceSource::plan            no I/O; everything that can be refused is, here
//!                                   │ extract
//!                                   ▼
//!   auth: read secrets, log in once ─▶ list: describeGlobal, filters ─▶ composite: 25 describes a call, some calls
//!   in flight ─▶ describe (typed) ─▶ map (pure) ─▶ sink, in the listing's order, a checkpoint with each batch
//! ```
//!
//! - [`host`]: which hosts a definition and a login's answer can name. Nothing else builds an address.
//! - [`config`]: the connection's options, parsed.
//! - [`local`]: what the agent's own configuration permits.
//! - `http`: one client a session; deadlines, caps, retries. `auth`: the logins. `composite`: describes in batches.
//! - [`listing`], [`describe`]: what Salesforce answers, as far as it is used. [`map`]: from there to entities, pure;
//!   [`naming`]: where they stand in OpenMetadata.
//! - `tooling`: what a describe does not say: descriptions, classification, owners, record counts.
//! - [`source`]: the flow of one run.
//!
//! A credential is read from its store when a login needs it and sent to the login host only; the session that comes
//! back is bound to the host it is for. A rustls crypto provider must be installed before a run (`main` does it).

pub mod annotations;
mod auth;
mod composite;
pub mod config;
pub mod describe;
mod digest;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
mod http;
mod json;
pub mod listing;
pub mod local;
pub mod map;
pub mod naming;
mod quota;
pub mod source;
mod tooling;

pub use auth::LoginGuard;
pub use host::{Host, HostError, HostPolicy, LocalHost};
pub use http::{Lookup, Proxy, SystemLookup};
pub use local::LocalConfig;
pub use source::SalesforceSource;
