//! Agents and a control plane in simulated time, under random faults.
//!
//! ```text
//! seed ─▶ Plan (faults over a minute) ─▶ World: turmoil ─┬─ host `plane`   the real control plane
//!                                                         │     └ Watched store ── tells ──▶ Ledger (the oracle)
//!                                                         └─ hosts `agent-n` the real agent, real gRPC and TLS
//!                                                               └ Scripted source ◀── Org (what is true)
//! ```
//!
//! Everything but the network, the clocks, the disk and the source is the product's own code. The `ledger` keeps its
//! obligations outside of it: it knows from the `org` what each run must yield, hears of each transaction at the
//! store's border, and says what cannot be. After the faults everything heals; then all open runs must end and one fresh
//! run of each pipeline must commit. A [`mutation`] breaks the store on purpose, to prove that the ledger can fail.
//!
//! [`simulate`] is one seed. What is random comes from the seed alone; what is not in its hands (`select!` draws its own
//! numbers) may make two runs of a seed differ, which the cases count.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::missing_panics_doc,
    reason = "a harness fails loudly, and its numbers are small"
)]

mod clocks;
mod faults;
mod ledger;
pub mod mutation;
mod network;
mod org;
mod run;
mod source;
mod store;
mod world;

pub use run::{Outcome, simulate};
