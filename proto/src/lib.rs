//! The wire between an agent and a control plane, generated from `hybrid/runner/v1/*.proto`, and nothing else.
//!
//! The contract is in the comments of those files; `docs/protocol.md` tells it as a story.

/// Package `hybrid.runner.v1`.
pub mod v1 {
    tonic::include_proto!("hybrid.runner.v1");
}

/// The encoded `FileDescriptorSet` of the package, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// `google.rpc.ErrorInfo.domain` of every error on this wire.
pub const ERROR_DOMAIN: &str = "hybrid-runner";

/// The name that a [`v1::Reason`] has in `google.rpc.ErrorInfo.reason`: its own without the prefix `REASON_`.
#[must_use]
pub fn reason_name(reason: v1::Reason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("REASON_").unwrap_or(name)
}

/// The [`v1::Reason`] of a name from `google.rpc.ErrorInfo.reason`; `None` when this version does not know it.
#[must_use]
pub fn reason_of_name(name: &str) -> Option<v1::Reason> {
    v1::Reason::from_str_name(&format!("REASON_{name}"))
}
