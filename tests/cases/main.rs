//! The one test binary: a file a behaviour. Names are promises; `docs/guarantees.md` says which case keeps which.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a case and what helps it fail loudly"
)]

mod architecture;
mod bad_input;
mod chart;
mod entities;
mod extract;
mod faults;
mod fencing;
mod judge;
mod leaks;
mod options;
mod outages;
mod policy;
mod preflight;
mod processes;
mod proxies;
mod resume;
mod secrets;
mod test_connection;
mod vault;
mod whole_path;
mod wire;
