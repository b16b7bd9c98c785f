//! A simulated Salesforce org, served over HTTPS as the real one is.
//!
//! [`Org`] is what the org contains: generated from a seed, or read from a folder of recorded responses. [`Sandbox::start`]
//! serves it; the [`SandboxHandle`] tells the address and the CA, counts requests, and lets a test inject [`FaultPlan`]s
//! while clients are connected. The server speaks TLS only, under its own CA, for `localhost` and for `*.salesforce.com`;
//! the second is reached by using the same port as an HTTP proxy (`CONNECT login.salesforce.com:443`), so that a client's
//! real default hosts can be tested without touching name resolution.
//!
//! Describes are compressed once and afterwards only glued together, so that a benchmark measures its client.

mod describe;
mod faults;
mod generate;
mod log;
mod login;
mod model;
mod org;
mod payload;
mod pretty;
mod recordings;
mod rest;
mod server;
mod stamp;
mod tls;

pub use faults::{Disturbance, FaultPlan, Faults, PartFault, SlowBody, Target, Wrong};
pub use log::{Kind, LoggedRequest, Requests};
pub use model::{Child, Field, FieldType, ListEntry, Object, ObjectKind, PicklistValue};
pub use org::{ApiVersion, Credentials, Org, OrgConfig};
pub use server::{Sandbox, SandboxHandle, ServerConfig};
pub use tls::Identity;
